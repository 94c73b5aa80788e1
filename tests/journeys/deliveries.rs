//! What becomes of deliveries that a subscriber does not take: tried again as the schedule says, then given up on record.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use harness::{Callfeed, Gate, Reply, Setup, Subscriber, eventually};

/// Jitter takes up to a tenth off a pause.
fn at_least(milliseconds: u64) -> Duration {
    Duration::from_micros(milliseconds * 900)
}

#[tokio::test]
async fn the_schedule_is_kept_and_every_attempt_is_on_record() {
    let subscriber = Subscriber::start().await;
    subscriber.script([
        Reply::status(500).body("out of paper"),
        Reply::hang_up(),
        Reply::status(202),
    ]);
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber_with("crm", &subscriber, r#"schedule = ["0s", "200ms", "400ms", "10m"]"#)
        .start()
        .await;
    let id = gateway.accept(&gateway.sample("magpipe", "call-completed")).await;

    let tries = subscriber.wait_for(3).await;
    assert!(
        tries[1].at - tries[0].at >= at_least(200),
        "{:?}",
        tries[1].at - tries[0].at
    );
    assert!(
        tries[2].at - tries[1].at >= at_least(400),
        "{:?}",
        tries[2].at - tries[1].at
    );
    assert!(
        tries
            .iter()
            .all(|delivery| delivery.id() == id && delivery.body == tries[0].body)
    );
    // Each attempt is signed anew, for its own time.
    assert!(tries.iter().all(|delivery| delivery.verifies(harness::WHSEC)));

    let attempts = gateway.attempts(&id, "crm", 3).await;
    let ended: Vec<_> = attempts
        .iter()
        .map(|attempt| (&attempt["outcome"], &attempt["status"]))
        .collect();
    let expected = serde_json::json!([["status", 500], ["closed", null], ["delivered", 202]]);
    assert_eq!(serde_json::to_value(ended).unwrap(), expected);
    assert_eq!(attempts[0]["response"], "out of paper");
    let shown = gateway.run(&["deliveries", "show", &id]).await.success();
    assert!(
        shown.contains("crm: attempt 3 at ") && shown.contains(&format!("> webhook-id: {id}")),
        "{shown}"
    );
    let listed = gateway.deliveries().await;
    assert_eq!(
        (listed[0]["state"].as_str(), listed[0]["attempts"].as_u64()),
        (Some("delivered"), Some(3))
    );
}

#[tokio::test]
async fn after_the_last_attempt_it_is_dead_on_record_and_holds_nothing_up() {
    let subscriber = Subscriber::start().await;
    subscriber.script([Reply::status(500), Reply::status(503), Reply::status(404)]);
    let mut gateway = Setup::new()
        .route("salpre")
        .subscriber_with("crm", &subscriber, r#"schedule = ["0s", "50ms", "100ms"]"#)
        .start()
        .await;
    let call = |name: &str| {
        format!(
            r#"{{"event_type":"{name}","timestamp_utc":1760084576,"payload":{{"call_id":7,"direction":"inbound"}}}}"#
        )
    };
    let dead = gateway
        .accept(&gateway.signed("salpre", "application/json", call("call_ringing")))
        .await;
    // The same call goes on behind it.
    let next = gateway
        .accept(&gateway.signed("salpre", "application/json", call("call_answered")))
        .await;

    let ids: Vec<String> = subscriber.wait_for(4).await.iter().map(harness::Delivery::id).collect();
    assert_eq!(ids, [&dead, &dead, &dead, &next].map(String::clone));
    let attempts = gateway.attempts(&dead, "crm", 3).await;
    let ended: Vec<_> = attempts
        .iter()
        .map(|attempt| attempt["status"].as_u64().unwrap())
        .collect();
    assert_eq!(ended, [500, 503, 404]);
    let listed = eventually("the dead delivery on record", async || {
        let args = ["deliveries", "list", "--state", "dead", "--json"];
        Some(gateway.run(&args).await.json_lines()).filter(|listed| !listed.is_empty())
    })
    .await;
    assert_eq!(
        (listed.len(), &listed[0]["id"], &listed[0]["attempts"]),
        (1, &dead.as_str().into(), &3.into())
    );
    assert_eq!(
        gateway
            .metric(r#"callfeed_deliveries_total{subscriber="crm",outcome="dead"}"#)
            .await,
        1.0
    );

    // Dead is dead, also after a restart.
    gateway.kill9().await;
    gateway.restart().await;
    let last = gateway
        .accept(&gateway.signed("salpre", "application/json", call("call_ended")))
        .await;
    let what = "the event after the restart";
    let deliveries = subscriber
        .wait_until(what, |all| all.iter().any(|delivery| delivery.id() == last))
        .await;
    assert_eq!(deliveries.iter().filter(|delivery| delivery.id() == dead).count(), 3);

    // Until the operator asks for it.
    let admin = format!("http://{}", gateway.admin());
    let replay = ["deliveries", "replay", &dead, "--subscriber", "crm", "--admin", &admin];
    gateway.run(&replay).await.success();
    let again = subscriber.wait_for(deliveries.len() + 1).await.pop().unwrap();
    assert_eq!(again.id(), dead);
    let attempts = gateway.attempts(&dead, "crm", 4).await;
    assert_eq!(
        (&attempts[3]["attempt"], &attempts[3]["outcome"]),
        (&4.into(), &"delivered".into())
    );
}

#[tokio::test]
async fn retry_after_is_honoured() {
    let subscriber = Subscriber::start().await;
    subscriber.script([
        Reply::status(429).header("retry-after", "1"),
        Reply::status(503).header("retry-after", "soon"),
    ]);
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber_with("crm", &subscriber, r#"schedule = ["0s", "10ms", "10ms"]"#)
        .start()
        .await;
    gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    let tries = subscriber.wait_for(3).await;
    assert!(
        tries[1].at - tries[0].at >= Duration::from_secs(1),
        "{:?}",
        tries[1].at - tries[0].at
    );
    assert!(
        tries[2].at - tries[1].at < Duration::from_secs(1),
        "what cannot be read is no wait"
    );
}

#[tokio::test]
async fn gone_stops_the_subscriber_and_nobody_else() {
    let (gone, other) = (Subscriber::start().await, Subscriber::start().await);
    gone.script([Reply::status(204), Reply::status(410)]);
    let mut gateway = Setup::new()
        .route("magpipe")
        .subscriber("gone", &gone)
        .subscriber("other", &other)
        .start()
        .await;
    for place in 1..=2 {
        gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
        gone.wait_for(place).await;
    }
    // On record before anything else happens to it.
    let stopped = r#"callfeed_deliveries_total{subscriber="gone",outcome="stopped"}"#;
    eventually("the stop", async || {
        (gateway.metric(stopped).await == 1.0).then_some(())
    })
    .await;
    let waiting = async || {
        let listed = gateway
            .run(&[
                "deliveries",
                "list",
                "--subscriber",
                "gone",
                "--state",
                "waiting",
                "--json",
            ])
            .await;
        Some(listed.json_lines()).filter(|listed| listed.len() == 1)
    };
    eventually("the delivery that waits", waiting).await;

    for _ in 0..5 {
        gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    }
    other.wait_for(7).await;
    assert_eq!(gone.deliveries().len(), 2);
    gateway.kill9().await;
    gateway.restart().await;
    gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    other.wait_for(8).await;
    assert_eq!(gone.deliveries().len(), 2, "a restart does not forget it");
    gateway.logged("subscriber is stopped").await;

    // Until the operator says that it is back: from where it was, nothing left out.
    let admin = format!("http://{}", gateway.admin());
    gateway
        .run(&["deliveries", "resume", "gone", "--admin", &admin])
        .await
        .success();
    gone.wait_for(9).await;
    let attempts: Vec<String> = gone.deliveries().iter().map(harness::Delivery::id).collect();
    let feed: Vec<String> = other.deliveries().iter().map(harness::Delivery::id).collect();
    assert_eq!(
        attempts.iter().filter(|id| **id == attempts[1]).count(),
        2,
        "also what was answered with 410"
    );
    assert!(feed.iter().all(|id| attempts.contains(id)));
    let unknown = gateway
        .run(&["deliveries", "resume", "nobody", "--admin", &admin])
        .await;
    assert_eq!(unknown.status, Some(1), "{unknown:?}");
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_not_followed() {
    let (subscriber, elsewhere) = (Subscriber::start().await, Subscriber::start().await);
    let location = elsewhere.url();
    subscriber.script([301, 302, 303, 307, 308].map(|status| Reply::status(status).header("location", &location)));
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let id = gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    subscriber.wait_for(6).await;
    assert!(elsewhere.deliveries().is_empty());
    let attempts = gateway.attempts(&id, "crm", 6).await;
    assert!(
        attempts[..5].iter().all(|attempt| attempt["outcome"] == "redirect"),
        "{attempts:?}"
    );
    assert_eq!(attempts[5]["outcome"], "delivered");
}

#[tokio::test]
async fn slow_and_dead_subscribers_delay_nobody() {
    let gate = Gate::new();
    let (healthy, slow, stalled) = (
        Subscriber::start().await,
        Subscriber::start().await,
        Subscriber::start().await,
    );
    slow.rule({
        let gate = gate.clone();
        move |_| Reply::status(204).after(&gate)
    });
    stalled.rule(|_| Reply::stall());
    // Nobody listens there.
    let dead = Subscriber::start().await.url();
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber_with("slow", &slow, "in_flight = 4")
        .subscriber_with(
            "stalled",
            &stalled,
            "timeout = \"100ms\"\nschedule = [\"0s\", \"10ms\"]",
        )
        .subscriber_at("dead", &dead, r#"schedule = ["0s", "10ms"]"#)
        .subscriber("healthy", &healthy)
        .start()
        .await;
    const COUNT: usize = 100;
    let mut ids = Vec::new();
    for _ in 0..COUNT {
        ids.push(gateway.accept(&gateway.sample("magpipe", "call-completed")).await);
    }
    let mut delivered: Vec<String> = healthy
        .wait_for(COUNT)
        .await
        .iter()
        .map(harness::Delivery::id)
        .collect();
    let oldest = ids[0].clone();
    delivered.sort();
    ids.sort();
    assert_eq!(delivered, ids);
    // While the slow one holds as many as it may, and not one more.
    assert_eq!(slow.wait_for(4).await.len(), 4);
    let attempts = gateway.attempts(&oldest, "dead", 1).await;
    assert_eq!(
        (&attempts[0]["outcome"], &attempts[0]["status"]),
        (&"connect".into(), &serde_json::Value::Null)
    );
    let first = stalled.wait_for(1).await[0].id();
    let attempts = gateway.attempts(&first, "stalled", 1).await;
    assert_eq!(attempts[0]["outcome"], "timeout");
    gate.open();
    slow.wait_for(COUNT).await;
}

#[tokio::test]
async fn a_subscriber_that_comes_back_gets_everything_it_missed() {
    let subscriber = Subscriber::start().await;
    let (address, url) = (subscriber.address(), subscriber.url());
    drop(subscriber);
    let schedule = format!("schedule = [{}]", ["\"100ms\""; 30].join(", "));
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber_at("crm", &url, &schedule)
        .start()
        .await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push(gateway.accept(&gateway.sample("magpipe", "call-completed")).await);
    }
    gateway.attempts(&ids[0], "crm", 1).await;
    let started = Instant::now();
    let subscriber = Subscriber::start_at(address).await;
    let mut delivered: Vec<String> = subscriber
        .wait_for(20)
        .await
        .iter()
        .map(harness::Delivery::id)
        .collect();
    delivered.sort();
    ids.sort();
    assert_eq!(delivered, ids, "within {:?}", started.elapsed());
}

#[tokio::test]
async fn many_are_replayed_in_order_and_only_those_that_were_asked_for() {
    let subscriber = Subscriber::start().await;
    subscriber.rule(|_| Reply::status(400));
    let gateway = Setup::new()
        .route("magpipe")
        .route("salpre")
        .subscriber_with(
            "crm",
            &subscriber,
            "schedule = [\"0s\"]\ntypes = [\"call.*\"]\nin_flight = 1",
        )
        .start()
        .await;
    let mut calls = Vec::new();
    for _ in 0..5 {
        calls.push(gateway.accept(&gateway.sample("magpipe", "call-completed")).await);
        calls.push(gateway.accept(&gateway.sample("salpre", "call-ended")).await);
        // Not wanted, and not replayed either.
        gateway.accept(&gateway.sample("magpipe", "sms-received")).await;
    }
    subscriber.wait_for(10).await;
    eventually("all are dead on record", async || {
        let args = ["deliveries", "list", "--state", "dead", "--json"];
        (gateway.run(&args).await.json_lines().len() == 10).then_some(())
    })
    .await;

    subscriber.rule(|_| Reply::status(204));
    let admin = format!("http://{}", gateway.admin());
    let replay = ["deliveries", "replay", "--subscriber", "crm", "--admin", &admin];
    let of_route = gateway
        .run(&[&replay[..], &["--dead", "--route", "salpre"]].concat())
        .await
        .success();
    assert!(
        of_route.contains("5 replayed, at 14 of 15; --after 14 goes on") && of_route.ends_with("done: 5 replayed\n"),
        "{of_route}"
    );
    let ids = |deliveries: &[harness::Delivery]| deliveries.iter().map(harness::Delivery::id).collect::<Vec<_>>();
    let of_salpre: Vec<_> = calls.iter().skip(1).step_by(2).cloned().collect();
    assert_eq!(ids(&subscriber.wait_for(15).await[10..]), of_salpre);

    // What was delivered since is dead no more; by time, everything comes again.
    eventually("those are delivered on record", async || {
        let args = ["deliveries", "list", "--state", "dead", "--json"];
        (gateway.run(&args).await.json_lines().len() == 5).then_some(())
    })
    .await;
    let rest = gateway
        .run(&[&replay[..], &["--dead", "--json"]].concat())
        .await
        .json_lines();
    assert_eq!(rest.last().map(|line| line["replayed"].clone()), Some(5.into()));
    subscriber.wait_for(20).await;
    let since = [&replay[..], &["--since", "2026-01-01T00:00:00Z", "--after", "3"]].concat();
    assert!(gateway.run(&since).await.success().ends_with("done: 8 replayed\n"));
    let all = subscriber.wait_for(28).await;
    assert_eq!(ids(&all[20..]), calls[2..]);
    let none = [
        &replay[..],
        &["--since", "2026-01-01T00:00:00Z", "--until", "2026-01-02T00:00:00Z"],
    ]
    .concat();
    assert_eq!(gateway.run(&none).await.success(), "done: 0 replayed\n");
    assert_eq!(gateway.run(&replay).await.status, Some(2));
}

#[tokio::test]
async fn a_replay_to_a_subscriber_that_is_stopped_ends_and_says_how_to_go_on() {
    let subscriber = Subscriber::start().await;
    subscriber.rule(|_| Reply::status(410));
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber_with("gone", &subscriber, "waiting = 1")
        .start()
        .await;
    gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    let admin = format!("http://{}", gateway.admin());
    eventually("the stop", async || {
        let standing = gateway.run(&["subscribers", "--admin", &admin, "--json"]).await;
        let waiting = gateway
            .run(&["deliveries", "list", "--state", "waiting", "--json"])
            .await;
        (standing.json_lines()[0]["state"] == "stopped" && waiting.json_lines().len() == 1).then_some(())
    })
    .await;
    let output = gateway
        .run(&[
            "deliveries",
            "replay",
            "--subscriber",
            "gone",
            "--dead",
            "--admin",
            &admin,
        ])
        .await;
    assert_eq!(output.status, Some(1), "{output:?}");
    for part in ["gone is stopped", "`callfeed deliveries resume gone`", "--after 0"] {
        assert!(output.stderr.contains(part), "{output:?}");
    }
}

#[tokio::test]
async fn a_replay_says_once_for_whom_it_waits() {
    let gateway = Subscriber::start().await;
    let asked = AtomicUsize::new(0);
    gateway.rule(move |request| {
        let answer = match request.path.as_str() {
            "/subscribers" => r#"[{"name":"crm","state":"down","cursor":7,"lag":2,"waiting":1000}]"#,
            _ => match asked.fetch_add(1, Ordering::SeqCst) {
                0 => r#"{"replayed":3,"last":5}"#,
                1 | 2 => r#"{"full":true}"#,
                3 => r#"{"replayed":1,"last":9}"#,
                _ => r#"{"end":true}"#,
            },
        };
        Reply::status(200).body(answer)
    });
    let setup = Setup::new();
    let config = setup.write();
    let admin = format!("http://{}", gateway.address());
    let args = [
        "deliveries",
        "replay",
        "--subscriber",
        "crm",
        "--dead",
        "--admin",
        &admin,
    ];
    let output = Callfeed::run_with(&config, args).await.success();
    assert_eq!(
        output,
        "3 replayed, at 5 of 9; --after 5 goes on from here\n\
         waiting: crm is down and owes 1000 deliveries, as many as it may\n\
         4 replayed, at 9 of 9; --after 9 goes on from here\n\
         done: 4 replayed\n"
    );
}
