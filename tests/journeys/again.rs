//! History looked at again, after what was wrong was corrected.

use std::time::Duration;

use harness::{Callfeed, Gateway, Reply, Setup, Subscriber, eventually};
use serde_json::{Value, json};

const BOUND: &str = r#"options = { event = "call.completed" }"#;

/// A webhook that names nothing it could be about, where the operator says that it is about a call.
async fn quarantined(gateway: &Gateway, route: &str, note: &str) -> u64 {
    let webhook = gateway.signed(
        route,
        "application/json",
        json!({ "id": note, "note": note }).to_string(),
    );
    assert_eq!(gateway.post(&webhook).await.accepted(), Vec::<String>::new());
    let list = gateway.run(&["quarantine", "list", "--json"]).await.json_lines();
    list[0]["number"].as_u64().expect("it has a number")
}

async fn retry(gateway: &Gateway, args: &[&str]) -> harness::Output {
    let admin = format!("http://{}", gateway.admin());
    gateway
        .run(&[&["quarantine", "retry", "--admin", &admin], args].concat())
        .await
}

async fn renormalize(gateway: &Gateway, route: &str, args: &[&str]) -> harness::Output {
    let admin = format!("http://{}", gateway.admin());
    let since = "2026-01-01T00:00:00Z";
    let common = ["renormalize", "--admin", &admin, "--route", route, "--since", since];
    gateway.run(&[&common[..], args].concat()).await
}

#[tokio::test]
async fn what_was_in_quarantine_takes_its_place_in_the_feed() {
    let subscriber = Subscriber::start().await;
    let mut gateway = Setup::new()
        .route_with("topcalls", "topcalls", BOUND)
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let first = quarantined(&gateway, "topcalls", "one").await;
    let second = quarantined(&gateway, "topcalls", "two").await;
    let received = gateway
        .run(&["quarantine", "show", &first.to_string(), "--json"])
        .await
        .json_lines();

    // Nothing was corrected yet.
    let output = retry(&gateway, &[&first.to_string(), "--json"]).await;
    assert_eq!(output.status, Some(1), "{output:?}");
    assert!(output.stdout.contains(r#""released":false"#), "{output:?}");
    assert_eq!(
        gateway.run(&["quarantine", "list", "--json"]).await.json_lines().len(),
        2
    );

    assert_eq!(
        gateway
            .reload_with(|setup| setup.cleared().route("topcalls").subscriber("crm", &subscriber))
            .await
            .status,
        Some(0)
    );
    let output = retry(&gateway, &["--all", "--json"]).await;
    assert_eq!(output.status, Some(0), "{output:?}");
    let lines = output.json_lines();
    assert_eq!(
        lines.iter().map(|line| line["number"].as_u64()).collect::<Vec<_>>(),
        [Some(first), Some(second)]
    );
    assert!(
        gateway
            .run(&["quarantine", "list", "--json"])
            .await
            .json_lines()
            .is_empty()
    );

    let deliveries = subscriber.wait_for(2).await;
    let notes: Vec<Value> = deliveries
        .iter()
        .map(|it| it.event()["data"]["extra"]["note"].clone())
        .collect();
    assert_eq!(notes, ["one", "two"]);
    let time: jiff::Timestamp = deliveries[0].text("time").parse().unwrap();
    let received: jiff::Timestamp = received[0]["webhook"]["received_at"].as_str().unwrap().parse().unwrap();
    assert_eq!(time.as_millisecond(), received.as_millisecond());

    // The provider sends it once more: it is the event it became.
    let again = gateway.signed(
        "topcalls",
        "application/json",
        json!({ "id": "one", "note": "one" }).to_string(),
    );
    assert_eq!(gateway.post(&again).await.accepted(), [deliveries[0].id()]);
    assert_eq!(gateway.feed().await.len(), 2);
    let output = retry(&gateway, &[&first.to_string()]).await;
    assert!(
        output.stdout.contains("no webhook") && output.status == Some(1),
        "{output:?}"
    );
}

#[tokio::test]
async fn one_that_cannot_be_retried_holds_up_no_other() {
    let mut gateway = Setup::new()
        .route_with("former", "topcalls", BOUND)
        .route_with("topcalls", "topcalls", BOUND)
        .start()
        .await;
    let stuck = quarantined(&gateway, "former", "one").await;
    let second = quarantined(&gateway, "topcalls", "two").await;
    let reload = gateway.reload_with(|setup| setup.cleared().route("topcalls")).await;
    assert_eq!(reload.status, Some(0), "{reload:?}");

    let output = retry(&gateway, &["--all"]).await;
    assert_eq!(output.status, Some(1), "{output:?}");
    let no_route = format!("{stuck}: failed: webhook {stuck} came in on route \"former\"");
    assert!(output.stdout.contains(&no_route), "{output:?}");
    assert!(
        output.stdout.contains(&format!("{second}: released as evt_")),
        "{output:?}"
    );
    assert!(output.stdout.ends_with("1 of 2 released\n"), "{output:?}");
    assert_eq!(gateway.feed().await.len(), 1);
    // For programs it is one line a webhook, whatever became of it.
    let output = retry(&gateway, &["--all", "--json"]).await;
    let line: Value = serde_json::from_str(output.stdout.trim()).unwrap();
    assert_eq!(
        (output.status, &line["number"], &line["released"]),
        (Some(1), &stuck.into(), &false.into())
    );
}

#[tokio::test]
async fn a_gateway_that_is_busy_is_asked_again() {
    let gateway = Subscriber::start().await;
    let setup = Setup::new();
    let config = setup.write();
    let admin = format!("http://{}", gateway.address());
    let retry = ["quarantine", "retry", "7", "--admin", &admin];
    let released = || Reply::status(200).body(r#"{"released":true,"events":[]}"#);
    let busy = || Reply::status(503).body("the plugin was busy; try again");
    gateway.script([busy(), busy(), released()]);
    let output = Callfeed::run_with(&config, retry).await;
    assert_eq!(output.status, Some(0), "{output:?}");
    assert_eq!(gateway.deliveries().len(), 3);

    // It is not asked for ever, and the last word is told.
    gateway.rule(move |_| busy());
    let output = Callfeed::run_with(&config, retry).await;
    assert_eq!(output.status, Some(1), "{output:?}");
    assert!(
        output.stdout.contains("7: failed: the plugin was busy; try again"),
        "{output:?}"
    );
}

#[tokio::test]
async fn a_corrected_plugin_corrects_history_once() {
    let subscriber = Subscriber::start().await;
    let minutes = r#"options = { duration_unit = "minutes" }"#;
    let seconds = r#"options = { duration_unit = "seconds" }"#;
    let mut gateway = Setup::new()
        .route_with("topcalls", "topcalls", minutes)
        .route("salpre")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let call = |id: &str| json!({ "call_id": id, "status": "completed", "duration": 3 }).to_string();
    let wrong = gateway
        .accept(&gateway.signed("topcalls", "application/json", call("a")))
        .await;
    gateway.accept(&gateway.sample("salpre", "call-ended")).await;
    subscriber.wait_for(2).await;
    let reload = gateway
        .reload_with(|setup| {
            setup
                .cleared()
                .route_with("topcalls", "topcalls", seconds)
                .route("salpre")
                .subscriber("crm", &subscriber)
        })
        .await;
    assert_eq!(reload.status, Some(0), "{reload:?}");

    let dry = renormalize(&gateway, "topcalls", &["--dry-run"]).await;
    assert_eq!(dry.status, Some(0), "{dry:?}");
    assert!(dry.stdout.contains(&wrong), "{}", dry.stdout);
    assert!(
        dry.stdout.contains("- /data/call/duration_seconds: 180"),
        "{}",
        dry.stdout
    );
    assert!(
        dry.stdout.contains("+ /data/call/duration_seconds: 3"),
        "{}",
        dry.stdout
    );
    assert!(
        dry.stdout.contains("1 webhooks: 1 events would be corrected"),
        "{}",
        dry.stdout
    );
    assert_eq!(gateway.feed().await.len(), 2);

    let done = renormalize(&gateway, "topcalls", &[]).await;
    assert!(done.stdout.contains("1 events are corrected"), "{done:?}");
    let again = renormalize(&gateway, "topcalls", &[]).await;
    assert!(
        again.stdout.contains("1 webhooks: 0 events are corrected, 0 are added"),
        "{again:?}"
    );

    let correction = subscriber.wait_for(3).await.pop().unwrap().event();
    assert_eq!(correction["data"]["corrects"], wrong.as_str());
    assert_eq!(correction["subject"], "topcalls/a");
    assert_eq!(correction["data"]["call"]["duration_seconds"], 3.0);
    assert_ne!(correction["id"], wrong.as_str());
    assert_eq!(gateway.feed().await.len(), 3);

    // Back again: what is corrected now is the correction.
    let reload = gateway
        .reload_with(|setup| {
            setup
                .cleared()
                .route_with("topcalls", "topcalls", minutes)
                .subscriber("crm", &subscriber)
        })
        .await;
    assert_eq!(reload.status, Some(0), "{reload:?}");
    let done = renormalize(&gateway, "topcalls", &[]).await;
    assert!(done.stdout.contains("1 events are corrected"), "{done:?}");
    let last = subscriber.wait_for(4).await.pop().unwrap().event();
    assert_eq!(last["data"]["corrects"], correction["id"]);
    assert_eq!(last["data"]["call"]["duration_seconds"], 180.0);
}

#[tokio::test]
async fn one_that_cannot_be_compared_holds_up_no_other() {
    let mut gateway = Setup::new().route("magpipe").route("salpre").start().await;
    for _ in 0..2 {
        gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    }
    let reload = gateway.reload_with(|setup| setup.cleared().route("salpre")).await;
    assert_eq!(reload.status, Some(0), "{reload:?}");
    let output = renormalize(&gateway, "magpipe", &["--dry-run"]).await;
    assert_eq!(output.status, Some(1), "{output:?}");
    assert!(
        output
            .stdout
            .contains("webhook 1\n  failed: webhook 1 came in on route")
            && output.stdout.contains("webhook 2\n"),
        "{output:?}"
    );
    assert!(
        output.stdout.contains("2 webhooks: ") && output.stdout.contains(", 2 failed"),
        "{output:?}"
    );
}

/// Who follows the call has to see that it is corrected, whatever the plugin calls it now.
#[tokio::test]
async fn a_correction_has_the_subject_of_what_it_corrects() {
    let unit = |unit: &str| format!("options = {{ duration_unit = {unit:?} }}");
    let mut gateway = Setup::new()
        .route_with("topcalls", "topcalls", &unit("minutes"))
        .start()
        .await;
    let call = json!({ "call_id": "a", "status": "completed", "duration": 3 }).to_string();
    gateway
        .accept(&gateway.signed("topcalls", "application/json", call))
        .await;
    assert!(gateway.terminate().await.success());
    // As an earlier plugin would have called it.
    let store = rusqlite::Connection::open(gateway.directory().join("callfeed.db")).unwrap();
    let former = "UPDATE event SET subject = 'topcalls/former';
                  UPDATE event_json SET json = replace(json, 'topcalls/a', 'topcalls/former')";
    store.execute_batch(former).unwrap();
    drop(store);
    gateway.restart().await;
    let output = renormalize(&gateway, "topcalls", &[]).await;
    assert!(output.stdout.contains("0 events are corrected"), "{output:?}");

    let reload = gateway
        .reload_with(|setup| setup.cleared().route_with("topcalls", "topcalls", &unit("seconds")))
        .await;
    assert_eq!(reload.status, Some(0), "{reload:?}");
    for corrected in [1, 0] {
        let output = renormalize(&gateway, "topcalls", &[]).await;
        let told = format!("{corrected} events are corrected");
        assert!(output.stdout.contains(&told), "{output:?}");
    }
    let feed = gateway.feed().await;
    let said: Vec<_> = feed
        .iter()
        .map(|event| {
            (
                event["subject"].as_str(),
                event["data"]["call"]["duration_seconds"].as_f64(),
            )
        })
        .collect();
    assert_eq!(
        said,
        [
            (Some("topcalls/former"), Some(180.0)),
            (Some("topcalls/former"), Some(3.0))
        ]
    );
}

#[tokio::test]
async fn what_the_feed_has_forgotten_does_not_come_again_as_new() {
    // Forgotten altogether, and forgotten but for the ids.
    for keep_ids in ["", "keep_ids = \"30d\""] {
        let subscriber = Subscriber::start().await;
        let route = |setup: Setup, unit: &str| {
            setup.route_with(
                "topcalls",
                "topcalls",
                &format!("options = {{ duration_unit = {unit:?} }}"),
            )
        };
        let setup = Setup::new()
            .store("keep_events = \"1h\"\nkeep_webhooks = \"30d\"")
            .store(keep_ids)
            .subscriber("crm", &subscriber);
        let mut gateway = route(setup, "minutes").start().await;
        let call =
            |id: &str, seconds: u32| json!({ "call_id": id, "status": "completed", "duration": seconds }).to_string();
        for id in ["a", "b"] {
            gateway
                .accept(&gateway.signed("topcalls", "application/json", call(id, 3)))
                .await;
        }
        subscriber.wait_for(2).await;
        // The correction of the first stays when the first is forgotten.
        let reload = gateway
            .reload_with(|setup| route(setup.cleared(), "seconds").subscriber("crm", &subscriber))
            .await;
        assert_eq!(reload.status, Some(0), "{reload:?}");
        renormalize(&gateway, "topcalls", &[]).await.success();
        subscriber.wait_for(4).await;
        assert!(gateway.terminate().await.success());
        gateway.age(Duration::from_secs(7200), 2);
        gateway.restart().await;
        eventually("only the corrections in the feed", async || {
            (gateway.feed().await.len() == 2).then_some(())
        })
        .await;

        let output = renormalize(&gateway, "topcalls", &[]).await;
        assert_eq!(output.status, Some(0), "{output:?}");
        assert!(
            output
                .stdout
                .contains("2 webhooks: 0 events are corrected, 0 are added, 0 are not made"),
            "{keep_ids}: {output:?}"
        );
        assert!(output.stdout.contains("2 became events"), "{keep_ids}: {output:?}");

        // And when the corrections are forgotten, too, but for the newest event.
        assert!(gateway.terminate().await.success());
        gateway.age(Duration::from_secs(7200), 4);
        gateway.restart().await;
        eventually("the last event alone in the feed", async || {
            (gateway.feed().await.len() == 1).then_some(())
        })
        .await;
        let output = renormalize(&gateway, "topcalls", &[]).await;
        assert!(
            output
                .stdout
                .contains("2 webhooks: 0 events are corrected, 0 are added, 0 are not made"),
            "{keep_ids}: {output:?}"
        );
        assert_eq!(gateway.feed().await.len(), 1);
    }
}

/// What its signature does not say clearly is kept, and no correction of a plugin makes an event of it by the way.
#[tokio::test]
async fn what_never_passed_verification_has_to_pass_it_to_be_released() {
    let gateway = Setup::new().route("magnetis").start().await;
    let body = json!({ "event": "call:completed", "data": [] });
    let webhook = gateway.signed("magnetis", "application/json", body.to_string());
    assert_eq!(gateway.post(&webhook).await.accepted(), Vec::<String>::new());
    let list = gateway.run(&["quarantine", "list", "--json"]).await.json_lines();
    assert!(
        list[0]["detail"].as_str().unwrap().starts_with("body-ambiguous"),
        "{list:?}"
    );
    let output = retry(&gateway, &["--all"]).await;
    assert!(
        output.status == Some(1) && output.stdout.contains("stays: rejected: body-ambiguous"),
        "{output:?}"
    );
    assert!(gateway.feed().await.is_empty());
}
