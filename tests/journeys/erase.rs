//! A person asks to be forgotten.

use harness::{Reply, Setup, Subscriber};
use serde_json::json;

#[tokio::test]
async fn what_is_erased_is_not_delivered_any_more_and_the_feed_has_no_hole() {
    let (slow, quick) = (Subscriber::start().await, Subscriber::start().await);
    slow.rule(|_| Reply::status(503));
    let mut gateway = Setup::new()
        .route("magpipe")
        .subscriber_with("slow", &slow, r#"schedule = ["0s", "1h", "1h"]"#)
        .subscriber("quick", &quick)
        .start()
        .await;
    let call = |id: &str, number: &str| {
        json!({ "event": "call.completed", "timestamp": "2026-02-18T15:30:45Z", "data": { "call_record_id": id,
            "direction": "inbound", "caller_number": number, "service_number": "+16042101966",
            "duration_seconds": 5, "status": "completed", "summary": "a secret of theirs" } })
        .to_string()
    };
    let theirs = gateway
        .accept(&gateway.signed("magpipe", "application/json", call("a", "+33123456789")))
        .await;
    let other = gateway
        .accept(&gateway.signed("magpipe", "application/json", call("b", "+33999999999")))
        .await;
    quick.wait_for(2).await;
    slow.wait_for(2).await;
    gateway.attempts(&theirs, "slow", 1).await;

    let admin = format!("http://{}", gateway.admin());
    let args = ["erase", "--admin", &admin, "--number", "+33123456789"];
    let dry = gateway.run(&[&args[..], &["--dry-run"]].concat()).await;
    assert!(dry.stdout.starts_with("would be erased: 1 events"), "{dry:?}");
    let done = gateway.run(&args).await;
    assert!(done.stdout.starts_with("erased: 1 events"), "{done:?}");

    let feed = gateway.feed().await;
    assert_eq!(feed.len(), 2);
    assert_eq!(
        (feed[0]["id"].as_str(), feed[0]["type"].as_str()),
        (Some(theirs.as_str()), Some("erased"))
    );
    assert!(!feed[0].to_string().contains("secret of theirs"));
    assert!(feed[1].to_string().contains("secret of theirs"));

    // The other one's delivery waits as before; neither of them is delivered by a replay or a restart unless it is theirs to
    // have.
    slow.rule(|_| Reply::status(204));
    for (id, ends) in [(&theirs, 1), (&other, 0)] {
        let path = ["deliveries", "replay", id, "--subscriber", "slow", "--admin", &admin];
        assert_eq!(gateway.run(&path).await.status, Some(ends));
    }
    let delivered = slow.wait_for(3).await;
    assert_eq!(delivered[2].id(), other);
    gateway.restart().await;
    let third = gateway
        .accept(&gateway.signed("magpipe", "application/json", call("c", "+33999999999")))
        .await;
    // A crash may have the last one delivered again.
    let delivered = slow
        .wait_until("the third is delivered", |deliveries| {
            deliveries.iter().any(|it| it.id() == third)
        })
        .await;
    assert!(delivered[2..].iter().all(|it| it.id() != theirs));
    let state = gateway.deliveries().await;
    let state = state
        .iter()
        .find(|it| it["id"] == theirs.as_str() && it["subscriber"] == "slow");
    assert_eq!(state.map(|it| it["state"].clone()), Some(json!("waiting")));
    // Sent again, it is known.
    let again = gateway.signed("magpipe", "application/json", call("a", "+33123456789"));
    assert_eq!(gateway.post(&again).await.accepted(), [theirs]);
    assert_eq!(gateway.feed().await.len(), 3);
}
