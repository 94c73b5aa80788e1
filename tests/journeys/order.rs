//! One call's events reach a subscriber in their order; a call that fails holds back itself and no other.

use std::collections::BTreeMap;

use harness::{Gateway, Reply, Setup, Subscriber};

const STAGES: [&str; 4] = ["call_initiated", "call_ringing", "call_answered", "call_ended"];

async fn post(gateway: &Gateway, call: usize, stage: &str) -> String {
    let body = format!(
        r#"{{"event_type":"{stage}","timestamp_utc":1760084576,"payload":{{"call_id":{call},"direction":"inbound"}}}}"#
    );
    gateway
        .accept(&gateway.signed("salpre", "application/json", body))
        .await
}

fn provider_event(delivery: &harness::Delivery) -> String {
    delivery.event()["data"]["provider_event"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_call_that_fails_waits_alone_and_goes_on_in_order() {
    let subscriber = Subscriber::start().await;
    subscriber.rule(|delivery| match delivery.text("subject").as_str() {
        "salpre/3" => Reply::status(500),
        _ => Reply::status(204),
    });
    // Not given up before everything else has arrived.
    let schedule = format!("schedule = [\"50ms\", \"50ms\", {}]", ["\"1s\""; 28].join(", "));
    let mut gateway = Setup::new()
        .route("salpre")
        .subscriber_with("crm", &subscriber, &schedule)
        .start()
        .await;
    for stage in STAGES {
        for call in 1..=10 {
            post(&gateway, call, stage).await;
        }
    }
    let others = "all events of the other calls";
    let by_call = |deliveries: &[harness::Delivery]| {
        let mut calls: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for delivery in deliveries {
            calls
                .entry(delivery.text("subject"))
                .or_default()
                .push(provider_event(delivery));
        }
        calls
    };
    let deliveries = subscriber
        .wait_until(others, |all| {
            all.iter()
                .filter(|delivery| delivery.text("subject") != "salpre/3")
                .count()
                >= 36
        })
        .await;
    let mut calls = by_call(&deliveries);
    let failing = calls.remove("salpre/3").unwrap();
    assert_eq!(calls.len(), 9);
    for (call, stages) in &calls {
        assert_eq!(*stages, STAGES, "{call}");
    }
    assert!(
        failing.iter().all(|stage| stage == STAGES[0]),
        "nothing overtakes what fails: {failing:?}"
    );

    // Also a crash does not mix up what waits.
    gateway.kill9().await;
    subscriber.rule(|_| Reply::status(204));
    gateway.restart().await;
    let what = "the end of the call that failed";
    let deliveries = subscriber
        .wait_until(what, |all| {
            all.iter()
                .any(|delivery| delivery.text("subject") == "salpre/3" && provider_event(delivery) == STAGES[3])
        })
        .await;
    let mut failing = by_call(&deliveries).remove("salpre/3").unwrap();
    failing.dedup();
    assert_eq!(failing, STAGES);
}

#[tokio::test]
async fn calls_are_in_flight_together_and_events_of_one_call_are_not() {
    let subscriber = Subscriber::start().await;
    let gate = harness::Gate::new();
    subscriber.rule({
        let gate = gate.clone();
        move |_| Reply::status(204).after(&gate)
    });
    let gateway = Setup::new()
        .route("salpre")
        .subscriber_with("crm", &subscriber, "in_flight = 8")
        .start()
        .await;
    for stage in STAGES {
        for call in 1..=5 {
            post(&gateway, call, stage).await;
        }
    }
    // All five calls, and only the first event of each, while none is answered.
    let held = subscriber.wait_for(5).await;
    let mut subjects: Vec<_> = held.iter().map(|delivery| delivery.text("subject")).collect();
    subjects.sort();
    assert_eq!(subjects, ["salpre/1", "salpre/2", "salpre/3", "salpre/4", "salpre/5"]);
    let in_flight = r#"callfeed_in_flight{subscriber="crm"}"#;
    assert_eq!(gateway.metric(in_flight).await, 5.0);
    gate.open();
    let deliveries = subscriber.wait_for(20).await;
    for call in 1..=5 {
        let subject = format!("salpre/{call}");
        let stages: Vec<_> = deliveries
            .iter()
            .filter(|delivery| delivery.text("subject") == subject)
            .map(provider_event)
            .collect();
        assert_eq!(stages, STAGES, "{subject}");
    }
}

#[tokio::test]
async fn who_asks_for_no_order_waits_for_no_one_of_a_call() {
    let (any, ordered) = (Subscriber::start().await, Subscriber::start().await);
    for subscriber in [&any, &ordered] {
        subscriber.rule(|delivery| match provider_event(delivery).as_str() {
            "call_initiated" => Reply::status(500),
            _ => Reply::status(204),
        });
    }
    let schedule = r#"schedule = ["0s", "1h"]"#;
    let gateway = Setup::new()
        .route("salpre")
        .subscriber_with("any", &any, &format!("order = \"none\"\n{schedule}"))
        .subscriber_with("ordered", &ordered, &format!("order = \"call\"\n{schedule}"))
        .start()
        .await;
    let mut ids = Vec::new();
    for stage in STAGES {
        ids.push(post(&gateway, 1, stage).await);
    }
    let mut stages: Vec<_> = any.wait_for(4).await.iter().map(provider_event).collect();
    stages.sort();
    let mut all = STAGES;
    all.sort_unstable();
    assert_eq!(stages, all);
    // Only the one that failed waits; to the other subscriber the whole call.
    let waiting = async |name: &str, count: usize| {
        let args = [
            "deliveries",
            "list",
            "--state",
            "waiting",
            "--subscriber",
            name,
            "--json",
        ];
        harness::eventually(&format!("what waits for {name}"), async || {
            let listed = gateway.run(&args).await.json_lines();
            (listed.len() == count).then_some(listed)
        })
        .await
    };
    assert_eq!(waiting("any", 1).await[0]["id"], ids[0].as_str());
    waiting("ordered", 4).await;
    assert_eq!(ordered.deliveries().len(), 1);
}
