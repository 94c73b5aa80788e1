//! Which events a subscriber gets.

use std::collections::BTreeSet;

use harness::{Gateway, Setup, Subscriber};
use serde_json::json;

async fn post(gateway: &Gateway, route: &str, body: serde_json::Value) -> String {
    gateway
        .accept(&gateway.signed(route, "application/json", body.to_string()))
        .await
}

fn call(id: &str, number: &str, seconds: u64) -> serde_json::Value {
    json!({ "event": "call.completed", "timestamp": "2026-02-18T15:30:45Z", "data": { "call_record_id": id,
        "direction": "inbound", "caller_number": number, "service_number": "+16042101966",
        "duration_seconds": seconds, "status": "completed" } })
}

fn sms(id: &str, number: &str) -> serde_json::Value {
    json!({ "event": "sms.received", "timestamp": "2026-02-18T15:30:45Z", "data": { "sms_message_id": id,
        "from_number": number, "to_number": "+16042101966", "body": "hello" } })
}

fn ringing(id: u64, test: bool) -> serde_json::Value {
    json!({ "event_type": "call_ringing", "timestamp_utc": 1_760_084_576, "is_test": test,
        "payload": { "call_id": id, "from": "+905555555555", "to": "+905555555554", "direction": "inbound" } })
}

#[tokio::test]
async fn each_subscriber_gets_what_it_asked_for_and_nothing_else() {
    let filters = [
        ("all", ""),
        ("type", r#"types = ["message.received"]"#),
        ("family", r#"types = ["call.*"]"#),
        ("route", r#"where = { routes = ["salpre", "branch"] }"#),
        ("number", r#"where = { numbers = ["+33123456789"] }"#),
        ("prefix", r#"where = { numbers = ["+1778*", "+90*"] }"#),
        ("long", r#"where = { min_duration = "60s" }"#),
        ("tests", r#"where = { test = true }"#),
        ("real", r#"where = { test = false }"#),
        (
            "several",
            r#"where = { routes = ["magpipe"], numbers = ["+1778*"], min_duration = "10s", test = false }
types = ["call.completed", "call.missed"]"#,
        ),
        ("nothing", r#"types = ["campaign.*"]"#),
    ];
    let mut subscribers = Vec::new();
    let mut setup = Setup::new()
        .route("magpipe")
        .route_with("branch", "magpipe", "")
        .route("salpre");
    for (name, lines) in filters {
        let subscriber = Subscriber::start().await;
        setup = setup.subscriber_with(name, &subscriber, lines);
        subscribers.push((name, subscriber));
    }
    let gateway = setup.start().await;

    let ids = [
        ("short", post(&gateway, "magpipe", call("1", "+17785550100", 9)).await),
        ("call", post(&gateway, "magpipe", call("2", "+17785550100", 59)).await),
        ("long", post(&gateway, "magpipe", call("3", "+33123456789", 60)).await),
        ("branch", post(&gateway, "branch", call("4", "+17785550100", 61)).await),
        ("sms", post(&gateway, "magpipe", sms("5", "+17785550101")).await),
        ("ring", post(&gateway, "salpre", ringing(6, false)).await),
        ("test", post(&gateway, "salpre", ringing(7, true)).await),
    ];
    let expected: &[(&str, &[&str])] = &[
        ("all", &["short", "call", "long", "branch", "sms", "ring", "test"]),
        ("type", &["sms"]),
        ("family", &["short", "call", "long", "branch", "ring", "test"]),
        ("route", &["branch", "ring", "test"]),
        ("number", &["long"]),
        ("prefix", &["short", "call", "branch", "sms", "ring", "test"]),
        ("long", &["long", "branch"]),
        ("tests", &["test"]),
        ("real", &["short", "call", "long", "branch", "sms", "ring"]),
        ("several", &["call"]),
        ("nothing", &[]),
    ];
    for ((name, subscriber), (same, wanted)) in subscribers.iter().zip(expected) {
        assert_eq!(name, same);
        subscriber.wait_for(wanted.len()).await;
        // Once all was looked at, nothing more can come.
        let lag = format!(r#"callfeed_lag_events{{subscriber="{name}"}}"#);
        harness::eventually("the end of the feed", async || {
            (gateway.metric(&lag).await == 0.0).then_some(())
        })
        .await;
        let got: BTreeSet<&str> = subscriber
            .deliveries()
            .iter()
            .map(|delivery| ids.iter().find(|(_, id)| *id == delivery.id()).unwrap().0)
            .collect();
        assert_eq!(got, wanted.iter().copied().collect(), "{name}");
        assert_eq!(subscriber.deliveries().len(), wanted.len(), "{name}: each once");
    }
}
