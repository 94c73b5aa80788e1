//! Everything is kept for a time of its own, and forgotten after it.

use std::time::Duration;

use harness::{Gateway, Setup, Subscriber, eventually};

const HOUR: u64 = 3600;

/// Lets time pass for everything on record.
async fn pass(gateway: &mut Gateway, hours: u64) {
    assert!(gateway.terminate().await.success());
    gateway.age(Duration::from_secs(hours * HOUR), 2);
    gateway.restart().await;
}

async fn has_raw(gateway: &Gateway, id: &str) -> bool {
    gateway.run(&["events", "show", id, "--raw"]).await.status == Some(0)
}

#[tokio::test]
async fn attempts_webhooks_events_and_ids_are_each_kept_for_their_time() {
    let subscriber = Subscriber::start().await;
    let times = [("attempts", 1), ("webhooks", 3), ("events", 5), ("ids", 7)];
    let lines = times.map(|(what, hours)| format!("keep_{what} = \"{hours}h\""));
    let mut gateway = Setup::new()
        .store(&lines.join("\n"))
        .route("magpipe")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let old = gateway.sample("magpipe", "call-completed");
    let id = gateway.accept(&old).await;
    gateway.accept(&gateway.sample("magpipe", "sms-received")).await;
    // This one stays young, and the newest in the feed.
    gateway.accept(&gateway.sample("magpipe", "sms-sent")).await;
    subscriber.wait_for(3).await;
    gateway.attempts(&id, "crm", 1).await;

    pass(&mut gateway, 2).await;
    eventually("no attempt on record", async || {
        let attempts = gateway.run(&["deliveries", "show", &id, "--json"]).await;
        attempts.json_lines().is_empty().then_some(())
    })
    .await;
    assert!(has_raw(&gateway, &id).await);

    pass(&mut gateway, 2).await;
    eventually("no webhook on record", async || {
        (!has_raw(&gateway, &id).await).then_some(())
    })
    .await;
    assert_eq!(gateway.feed().await.len(), 3);

    pass(&mut gateway, 2).await;
    eventually("no event on record", async || {
        (gateway.feed().await.len() == 1).then_some(())
    })
    .await;
    // Its id is remembered: it is the event that was.
    assert_eq!(gateway.accept(&old).await, id);
    assert_eq!(gateway.feed().await.len(), 1);

    pass(&mut gateway, 2).await;
    eventually("the event once more, as a new one", async || {
        assert_eq!(gateway.accept(&old).await, id);
        (gateway.feed().await.len() == 2).then_some(())
    })
    .await;
    assert_eq!(subscriber.wait_for(4).await[3].id(), id);
}
