//! Another configuration for a gateway that goes on running.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use harness::{Reply, Setup, Subscriber, tls_client};
use tokio::task::JoinSet;

#[tokio::test]
async fn routes_and_subscribers_come_and_go() {
    let (stays, goes, comes) = (
        Subscriber::start().await,
        Subscriber::start().await,
        Subscriber::start().await,
    );
    let mut gateway = Setup::new()
        .route("magpipe")
        .subscriber("stays", &stays)
        .subscriber("goes", &goes)
        .start()
        .await;
    let early = gateway.sample("magpipe", "call-completed");
    let first = gateway.accept(&early).await;
    stays.wait_for(1).await;
    goes.wait_for(1).await;

    let output = gateway
        .reload_with(|setup| {
            setup
                .cleared()
                .route("salpre")
                .subscriber("comes", &comes)
                .subscriber("stays", &stays)
        })
        .await;
    assert_eq!(output.status, Some(0), "{output:?}");
    assert_eq!(output.stdout.trim(), "done: 1 routes, 2 subscribers");
    assert_eq!(gateway.post(&early).await.status, 404);
    let second = gateway.accept(&gateway.sample("salpre", "call-ended")).await;

    let ids = |deliveries: Vec<harness::Delivery>| deliveries.iter().map(harness::Delivery::id).collect::<Vec<_>>();
    assert_eq!(ids(stays.wait_for(2).await), [first.clone(), second.clone()]);
    assert_eq!(ids(comes.wait_for(1).await), [second]);
    assert_eq!(ids(goes.deliveries()), [first]);
    let removed = gateway
        .log()
        .into_iter()
        .find(|line| line["subscriber"] == "goes" && line["level"] == "WARN");
    assert!(removed.is_some(), "{}", gateway.log_text());
}

#[tokio::test]
async fn a_configuration_that_is_wrong_changes_nothing() {
    let subscriber = Subscriber::start().await;
    let mut gateway = Setup::new()
        .route("magpipe")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let webhook = gateway.sample("magpipe", "call-completed");
    let output = gateway
        .reload_with(|setup| {
            setup
                .cleared()
                .route("salpre")
                .toml("[[subscriber]]\nname = \"crm\"\nulr = \"x\"")
        })
        .await;
    assert_eq!(output.status, Some(1), "{output:?}");
    assert!(output.stderr.contains("subscriber[crm].ulr"), "{output:?}");
    gateway.signal_reload();
    gateway.logged("the configuration is wrong; nothing has changed").await;
    gateway.accept(&webhook).await;
    subscriber.wait_for(1).await;
}

#[tokio::test]
async fn what_takes_a_start_is_said() {
    let mut gateway = Setup::new().route("magpipe").start().await;
    let output = gateway.reload_with(|setup| setup.server("idle_timeout = \"7s\"")).await;
    assert_eq!(output.status, Some(0), "{output:?}");
    assert!(
        output.stdout.contains("[server]") && !output.stdout.contains("[store]"),
        "{output:?}"
    );
    gateway.signal_reload();
    gateway
        .logged("configuration read again; some of it takes a start")
        .await;
}

/// A subscriber whose settings change is another loop from then on, which goes on where the last one ended.
#[tokio::test]
async fn nothing_is_lost_while_it_reloads_under_load() {
    const SENDERS: usize = 8;
    const EACH: usize = 60;
    let subscriber = Subscriber::start().await;
    // Every seventh attempt fails, and never two in a row: a subscriber that is down for as long as the senders take
    // would be tried with pauses that grow longer than anyone's patience.
    let attempts = AtomicUsize::new(0);
    subscriber.rule(move |_| {
        let fails = attempts.fetch_add(1, Ordering::Relaxed) % 7 == 6;
        Reply::status(if fails { 503 } else { 204 })
    });
    let mut gateway = Setup::new()
        .route("magpipe")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        let webhooks: Vec<_> = (0..EACH).map(|_| gateway.sample("magpipe", "call-completed")).collect();
        let (client, url) = (harness::client(), gateway.url("/hooks/magpipe"));
        senders.spawn(async move {
            let mut ids = Vec::new();
            for webhook in webhooks {
                ids.extend(webhook.post(&client, &url).await.expect("it answers").accepted());
            }
            ids
        });
    }
    let mut round = 0;
    while !senders.is_empty() && round < 6 {
        round += 1;
        let lines = format!("timeout = \"{round}s\"\nin_flight = {round}");
        let output = gateway
            .reload_with(|setup| {
                setup
                    .cleared()
                    .route("magpipe")
                    .subscriber_with("crm", &subscriber, &lines)
            })
            .await;
        assert_eq!(output.status, Some(0), "{output:?}");
    }
    let accepted: HashSet<String> = senders.join_all().await.into_iter().flatten().collect();
    assert_eq!(accepted.len(), SENDERS * EACH);
    subscriber.rule(|_| Reply::status(204));
    subscriber
        .wait_until("every event is delivered", |deliveries| {
            let delivered: HashSet<String> = deliveries.iter().map(harness::Delivery::id).collect();
            accepted.is_subset(&delivered)
        })
        .await;
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_the_next_connection() {
    let make = || rcgen::generate_simple_self_signed(["hooks.example.com".to_owned()]).unwrap();
    let write = |directory: &std::path::Path, made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        std::fs::write(directory.join("certificate.pem"), made.cert.pem()).unwrap();
        std::fs::write(directory.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    };
    let (old, new) = (make(), make());
    let setup = Setup::new()
        .route("magpipe")
        .server(r#"tls = { certificate = "certificate.pem", key = "key.pem" }"#);
    write(setup.directory(), &old);
    let mut gateway = setup.start().await;
    let url = format!("https://hooks.example.com:{}/hooks/magpipe", gateway.address().port());
    let webhook = gateway.sample("magpipe", "call-completed");
    let trusting =
        |made: &rcgen::CertifiedKey<rcgen::KeyPair>| tls_client(&made.cert.pem(), gateway.address()).build().unwrap();
    assert_eq!(webhook.post(&trusting(&old), &url).await.unwrap().status, 200);

    let (before, after) = (trusting(&old), trusting(&new));
    write(gateway.directory(), &new);
    let output = gateway.reload_with(|setup| setup).await;
    assert_eq!(output.status, Some(0), "{output:?}");
    assert_eq!(webhook.post(&after, &url).await.unwrap().status, 200);
    assert!(webhook.post(&before, &url).await.is_err());
}
