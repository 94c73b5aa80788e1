//! A stop finishes what is in hand; the next start goes on exactly where the last one ended.

use std::collections::BTreeMap;

use harness::{Connection, Gate, Gateway, Reply, Setup, Subscriber, eventually};

/// A gateway whose subscriber answers nothing until the gate is opened, however long that takes.
async fn held(in_flight: usize) -> (Gateway, Subscriber, Gate) {
    let subscriber = Subscriber::start().await;
    let gate = Gate::new();
    subscriber.rule({
        let gate = gate.clone();
        move |_| Reply::status(204).after(&gate)
    });
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber_with(
            "crm",
            &subscriber,
            &format!("in_flight = {in_flight}\ntimeout = \"60s\""),
        )
        .start()
        .await;
    (gateway, subscriber, gate)
}

/// A webhook that is half-way in, and the rest of it.
async fn half_way_in(gateway: &Gateway) -> (Connection, Vec<u8>) {
    let (head, body) = gateway.sample("magpipe", "sms-received").bytes();
    let mut connection = gateway.connect().await;
    connection.send(&head).await;
    connection.send(&body[..10]).await;
    (connection, body[10..].to_vec())
}

/// Sends the rest, which is answered as if nobody wanted to stop.
async fn finish(mut connection: Connection, rest: &[u8]) {
    connection.send(rest).await;
    let answer = connection.read_to_end().await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

#[tokio::test]
async fn what_is_in_flight_finishes_and_the_rest_waits_for_the_next_start() {
    let (mut gateway, subscriber, gate) = held(2).await;
    const COUNT: usize = 150;
    for _ in 1..COUNT {
        gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    }
    subscriber.wait_for(2).await;
    let (connection, rest) = half_way_in(&gateway).await;
    // This one is answered after that head was read.
    gateway.accept(&gateway.sample("magpipe", "call-completed")).await;

    gateway.signal_stop();
    gateway.logged("stopping").await;
    // Newcomers are refused, so that a balancer goes elsewhere.
    let refused = async || {
        tokio::net::TcpStream::connect(gateway.address())
            .await
            .is_err()
            .then_some(())
    };
    eventually("closed doors", refused).await;
    finish(connection, &rest).await;
    gate.open();
    assert!(gateway.wait().await.success());
    gateway.logged("stopped").await;
    assert!(
        !gateway.log_text().contains("within the grace period"),
        "nothing was cut short"
    );
    let before = subscriber.deliveries().len();
    assert!((2..COUNT).contains(&before), "{before} deliveries before the end");

    gateway.restart().await;
    let feed = gateway.feed().await;
    assert_eq!(feed.len(), COUNT + 1, "the webhook that was half-way in is kept");
    subscriber.wait_for(COUNT + 1).await;
    let lag = r#"callfeed_lag_events{subscriber="crm"}"#;
    eventually("the end of the feed", async || {
        (gateway.metric(lag).await == 0.0).then_some(())
    })
    .await;
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for delivery in subscriber.deliveries() {
        *times.entry(delivery.id()).or_default() += 1;
    }
    let once: BTreeMap<String, usize> = feed
        .iter()
        .map(|event| (event["id"].as_str().unwrap().to_owned(), 1))
        .collect();
    assert_eq!(
        times, once,
        "after an orderly stop every event is delivered exactly once"
    );
}

#[tokio::test]
async fn while_a_sender_takes_its_time_no_more_is_delivered() {
    let (mut gateway, subscriber, gate) = held(1).await;
    let (connection, rest) = half_way_in(&gateway).await;
    let mut ids = Vec::new();
    for _ in 0..10 {
        ids.push(gateway.accept(&gateway.sample("magpipe", "call-completed")).await);
    }
    subscriber.wait_for(1).await;

    gateway.signal_stop();
    gateway.logged("stopping").await;
    gate.open();
    // The one in flight ends and is on record, while the sender is still at it.
    gateway.attempts(&ids[0], "crm", 1).await;
    finish(connection, &rest).await;
    assert!(gateway.wait().await.success());
    assert_eq!(subscriber.deliveries().len(), 1, "no delivery begins after the stop");
}

#[tokio::test]
async fn who_does_not_finish_within_the_grace_period_is_cut_off_and_nothing_is_lost() {
    let subscriber = Subscriber::start().await;
    subscriber.script([Reply::stall()]);
    let mut gateway = Setup::new()
        .route("magpipe")
        .server("grace = \"200ms\"")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let id = gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    subscriber.wait_for(1).await;
    let (head, _) = gateway.sample("magpipe", "sms-received").bytes();
    let mut connection = gateway.connect().await;
    connection.send(&head).await;
    gateway.accept(&gateway.sample("magpipe", "call-completed")).await;

    assert!(gateway.terminate().await.success());
    assert!(
        gateway
            .log_text()
            .contains("some senders did not finish within the grace period")
    );
    gateway.restart().await;
    let what = "the delivery that was cut off";
    let again = |all: &[harness::Delivery]| all.iter().filter(|delivery| delivery.id() == id).count() == 2;
    subscriber.wait_until(what, again).await;
}

#[tokio::test]
async fn an_idle_gateway_stops_at_once_whoever_is_connected() {
    let mut gateway = Setup::new().route("magpipe").start().await;
    let mut silent = gateway.connect().await;
    let (head, body) = gateway.sample("magpipe", "call-completed").bytes();
    let mut idle = gateway.connect().await;
    idle.send(&[head, body].concat()).await;
    assert_eq!(idle.read_head().await.0, 200);
    let started = std::time::Instant::now();
    assert!(gateway.terminate().await.success());
    // The grace period is 20 seconds.
    assert!(
        started.elapsed() < std::time::Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    silent.read_to_end().await;
}
