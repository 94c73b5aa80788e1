//! Authentic webhooks that are not what their provider documents: nothing breaks, nothing is lost.

use harness::{Setup, Subscriber, Webhook};
use serde_json::{Value, json};

fn nested(depth: usize) -> Vec<u8> {
    format!(
        r#"{{"event":"call.completed","data":{}1{}}}"#,
        "[".repeat(depth),
        "]".repeat(depth)
    )
    .into_bytes()
}

#[tokio::test]
async fn what_cannot_become_an_event_is_in_quarantine_as_it_came() {
    let subscriber = Subscriber::start().await;
    let gateway = Setup::new()
        .route("magpipe")
        .route("salpre")
        .route("voxagent")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let whole = gateway.sample("magpipe", "call-completed").body;
    let bodies: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("truncated", whole[..whole.len() - 7].to_vec()),
        ("a second document", [whole.as_slice(), b"{}"].concat()),
        (
            "not UTF-8",
            b"{\"event\":\"call.completed\",\"data\":{\"call_record_id\":\"\xff\xfe\"}}".to_vec(),
        ),
        ("100000 brackets", nested(100_000)),
        (
            "100000 open brackets",
            [br#"{"event":"#.as_slice(), &b"[".repeat(100_000)].concat(),
        ),
        (
            "a key twice",
            br#"{"event":"call.completed","event":"sms.sent","data":{"call_record_id":"1"}}"#.to_vec(),
        ),
        ("a list", br#"[{"event":"call.completed"}]"#.to_vec()),
        ("a text", br#""call.completed""#.to_vec()),
        ("null", b"null".to_vec()),
        (
            "a number of many digits",
            [b"1".repeat(100_000).as_slice(), b""].concat(),
        ),
        (
            "NaN",
            br#"{"event":"call.completed","data":{"call_record_id":"1","duration_seconds":NaN}}"#.to_vec(),
        ),
        (
            "an event that is a number",
            br#"{"event":7,"data":{"call_record_id":"1"}}"#.to_vec(),
        ),
        ("no identity", br#"{"event":"call.completed","data":{}}"#.to_vec()),
        ("a form", b"event=call.completed&data=1".to_vec()),
    ];
    for (what, body) in &bodies {
        let answer = gateway
            .post(&gateway.signed("magpipe", "application/json", body.clone()))
            .await;
        assert_eq!(answer.accepted(), Vec::<String>::new(), "{what}");
    }
    for route in ["salpre", "voxagent"] {
        let answer = gateway
            .post(&gateway.signed(route, "application/json", nested(100_000)))
            .await;
        assert_eq!(answer.accepted(), Vec::<String>::new(), "{route}");
    }

    let listed = gateway.run(&["quarantine", "list", "--json"]).await.json_lines();
    assert_eq!(listed.len(), bodies.len() + 2);
    for ((what, body), line) in bodies.iter().zip(listed.iter().rev()) {
        assert_eq!(
            (&line["route"], &line["reason"]),
            (&json!("magpipe"), &json!("rejected")),
            "{what}: {line}"
        );
        assert_eq!(line["body_bytes"], body.len(), "{what}");
        let number = line["number"].to_string();
        let shown = gateway
            .run(&["quarantine", "show", &number, "--json"])
            .await
            .json_lines()
            .remove(0);
        assert_eq!(shown["detail"], line["detail"], "{what}");
        match std::str::from_utf8(body) {
            Ok(text) => assert_eq!(shown["webhook"]["body"], text, "{what}"),
            Err(_) => {
                use base64::{Engine as _, prelude::BASE64_STANDARD};
                let kept = shown["webhook"]["body_base64"].as_str().unwrap();
                assert_eq!(BASE64_STANDARD.decode(kept).unwrap(), *body, "{what}");
            }
        }
    }
    let table = gateway.run(&["quarantine", "list"]).await.success();
    assert_eq!(table.lines().count(), 2 + listed.len(), "{table}");
    let number = listed.last().unwrap()["number"].to_string();
    let shown = gateway.run(&["quarantine", "show", &number]).await.success();
    assert!(
        shown.starts_with("rejected: ") && shown.contains("\nPOST /hooks/magpipe HTTP/1.1\n"),
        "{shown}"
    );
    assert!(shown.contains("\nx-magpipe-signature: sha256="), "{shown}");
    assert_eq!(gateway.run(&["quarantine", "show", "999"]).await.status, Some(1));
    assert_eq!(
        gateway
            .metric(r#"callfeed_webhooks_total{route="magpipe",result="quarantined"}"#)
            .await,
        15.0
    );

    // The gateway is none the worse for it.
    let id = gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    assert_eq!(subscriber.wait_for(1).await[0].id(), id);
    assert_eq!(gateway.feed().await.len(), 1);
}

#[tokio::test]
async fn what_is_odd_and_still_says_which_call_becomes_an_event_with_all_that_was_said() {
    let gateway = Setup::new().route("magpipe").start().await;
    let signed = |body: &Value| -> Webhook { gateway.signed("magpipe", "application/json", body.to_string()) };
    let long = "è".repeat(200_000);
    let bodies = [
        json!({ "event": "call.exploded", "data": { "call_record_id": "1", "shrapnel": [1, 2.5, null, true] } }),
        json!({ "event": "call.completed", "data": { "call_record_id": "2", "direction": 7, "duration_seconds": "two minutes" } }),
        json!({ "event": "call.completed", "data": { "call_record_id": "3", "summary": long } }),
        json!({ "event": "call.completed", "data": { "call_record_id": "4", "caller_number": "\u{0}\u{1f}" } }),
        json!({ "event": "call.completed", "data": { "call_record_id": "5 \u{202e}{\"forged\":true}" } }),
    ];
    for body in &bodies {
        gateway.accept(&signed(body)).await;
    }
    let feed = gateway.feed().await;
    let kinds: Vec<_> = feed.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "provider.other",
            "call.completed",
            "call.completed",
            "call.completed",
            "call.completed"
        ]
    );
    let texts: Vec<_> = feed.iter().map(Value::to_string).collect();
    for (text, said) in texts
        .iter()
        .zip(["shrapnel", "two minutes", &long, "\\u0000\\u001f", "forged"])
    {
        assert!(text.contains(said), "{said:.20} is in {text:.500}");
    }
    // Numbers that are no numbers are not invented.
    assert!(feed[1]["data"]["call"]["duration_seconds"].is_null());
    // A name cannot forge a row of a table.
    let table = gateway.run(&["events", "list"]).await.success();
    assert_eq!(table.lines().count(), 2 + bodies.len(), "{table}");
    // An identity that cannot stand in an id is kept apart.
    let unprintable = json!({ "event": "call.completed", "data": { "call_record_id": "6\n" } });
    assert!(gateway.post(&signed(&unprintable)).await.accepted().is_empty());
    let listed = gateway.run(&["quarantine", "list", "--json"]).await.json_lines();
    assert_eq!((listed.len(), listed[0]["reason"].as_str()), (1, Some("rejected")));
}
