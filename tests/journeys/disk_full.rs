//! The disk is full: providers are asked to send again, what was promised stays, and work goes on once there is room.

use std::collections::HashSet;

use harness::{Gateway, PATIENCE, Reply, Setup, Subscriber, eventually};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

/// Posts until something was refused, and returns what was accepted before.
async fn fill(gateway: &Gateway) -> HashSet<String> {
    let mut accepted = HashSet::new();
    let started = std::time::Instant::now();
    loop {
        let mut webhook = gateway.sample("magpipe", "call-completed");
        webhook.body.extend([b' '; 60_000]);
        let webhook = gateway.signed("magpipe", "application/json", webhook.body);
        let answer = gateway.post(&webhook).await;
        if answer.status != 200 {
            assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{answer:?}");
            assert_eq!(answer.body, r#"{"error":"cannot be kept now, please send it again"}"#);
            return accepted;
        }
        accepted.extend(answer.accepted());
        assert!(started.elapsed() < PATIENCE, "the disk is never full");
    }
}

async fn kept(gateway: &Gateway) -> HashSet<String> {
    gateway
        .feed()
        .await
        .iter()
        .map(|event| event["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Makes room for a gateway whose files may not grow.
fn make_room(gateway: &Gateway) {
    let id = i32::try_from(gateway.process_id()).unwrap();
    let maximum = getrlimit(Resource::Fsize).maximum;
    let room = Rlimit {
        current: maximum,
        maximum,
    };
    prlimit(Pid::from_raw(id), Resource::Fsize, room).unwrap();
}

/// The disk of a gateway is full when a file of its own may not grow: the write past the limit fails, and for anyone who
/// runs the test the limit can be raised while the gateway runs.
#[tokio::test]
async fn a_full_disk_is_said_and_survived_and_work_goes_on_once_there_is_room() {
    let subscriber = Subscriber::start().await;
    let mut gateway = Setup::new()
        .route("magpipe")
        .subscriber("crm", &subscriber)
        // In blocks of 512 or 1024 bytes, as the shell counts.
        .wrapped("ulimit -S -f 2000")
        .start()
        .await;

    let mut accepted = fill(&gateway).await;
    assert!(!accepted.is_empty());
    for _ in 0..5 {
        let answer = gateway.post(&gateway.sample("magpipe", "call-completed")).await;
        // What is small may still fit.
        match answer.status {
            503 => {}
            _ => accepted.extend(answer.accepted()),
        }
    }
    gateway
        .logged("the webhook could not be kept; the provider was asked to send it again")
        .await;
    assert_eq!(gateway.admin_get("/healthz").await.status, 200, "the gateway lives");

    make_room(&gateway);
    let webhook = gateway.sample("magpipe", "call-completed");
    let look = async || {
        gateway
            .try_post(&webhook)
            .await
            .ok()
            .filter(|answer| answer.status == 200)
    };
    accepted.extend(eventually("room on the disk", look).await.accepted());

    let kept = kept(&gateway).await;
    assert!(accepted.is_subset(&kept), "what was answered with 200 is kept");
    let what = "every event accepted";
    subscriber
        .wait_until(what, |deliveries| {
            let delivered: HashSet<_> = deliveries.iter().map(harness::Delivery::id).collect();
            accepted.is_subset(&delivered)
        })
        .await;
    gateway.kill9().await;
    // Started as before it would meet the limit again.
    let gateway = gateway
        .restart_with(|setup| setup.wrapped("ulimit -S -f unlimited"))
        .await;
    let again: HashSet<String> = self::kept(&gateway).await;
    assert_eq!(again, kept, "and survives a crash");
    gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
}

#[tokio::test]
async fn below_the_floor_nothing_is_taken_and_what_was_taken_still_arrives() {
    let subscriber = Subscriber::start().await;
    subscriber.script([Reply::status(503)]);
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber_with("crm", &subscriber, r#"schedule = ["0s", "3s"]"#)
        .start()
        .await;
    let id = gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    subscriber.wait_for(1).await;

    // More than any disk has.
    let gateway = gateway
        .restart_with(|setup| setup.store(r#"disk_floor = "1 EiB""#))
        .await;
    let refused = gateway.sample("magpipe", "call-completed");
    let answer = gateway.post(&refused).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "5"), "{answer:?}");
    let log = gateway.log_text();
    assert!(log.contains("less than store.disk_floor (1.0 EiB) is free"), "{log}");
    assert_eq!(gateway.admin_get("/readyz").await.status, 503);
    let deliveries = subscriber.wait_for(2).await;
    assert_eq!(deliveries.last().unwrap().id(), id);
    assert_eq!(kept(&gateway).await, HashSet::from([id]));
}
