//! What the host does for a plugin that third parties copy.

use callfeed::{
    config,
    event::EventId,
    gateway::{Gateway, Prepared},
};
use harness::guest;
use serde_json::{Value, json};

/// Aircall's token is a member of the body, so it reaches the plugin; from there on nothing has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_in_a_body_stays_between_the_provider_and_the_gateway() {
    const TOKEN: &str = "0f1e/2d3c4b5a6978";
    let directory = tempfile::tempdir().expect("a directory");
    let text = format!(
        "server.listen = '127.0.0.1:0'\nadmin.listen = '127.0.0.1:0'\n[[plugin]]\nname = 'aircall'\npath = {:?}\n\
         [[route]]\nname = 'aircall'\nprovider = 'aircall'\nsecrets = {{ token = ['{TOKEN}'] }}\n",
        guest::example_file("aircall"),
    );
    let checked = config::parse(&text, "aircall.toml", &|_| None, directory.path())
        .unwrap_or_else(|refused| panic!("{}", refused.problems));
    let prepared = Prepared::new(Ok(checked))
        .await
        .unwrap_or_else(|problems| panic!("{problems}"));
    let gateway = Gateway::start(prepared, None).await.expect("it starts");
    let client = callfeed::simulate::client(std::time::Duration::from_secs(30)).expect("a client");
    let address = format!("http://{}", gateway.address());
    let post = async |body: String| {
        let request = client
            .post(format!("{address}/hooks/aircall?from={TOKEN}"))
            .header("content-type", "application/json")
            .body(body);
        let answer = request.send().await.expect("it is answered").text().await;
        serde_json::from_str::<Value>(&answer.expect("the answer is whole")).expect("the answer is JSON")
    };
    let body = |event: &str, token: &str| {
        let note = format!("it is {token}!");
        format!(
            r#"{{"resource":"call","event":"{event}","timestamp":1732622896,"token":"{token}","data":{{"id":7,"note":"{note}"}}}}"#
        )
    };
    // As some languages write a slash, and as any may write a letter.
    for (event, token) in [
        ("call.created", TOKEN.to_owned()),
        ("call.answered", TOKEN.replace('/', "\\/")),
        ("call.tagged", TOKEN.replace('e', "\\u0065")),
    ] {
        let accepted = post(body(event, &token)).await["accepted"][0].clone();
        let id: EventId = accepted
            .as_str()
            .and_then(|id| id.parse().ok())
            .expect("it became an event");
        let history = gateway.store().history();
        let kept = history
            .webhook(id)
            .await
            .expect("the store answers")
            .expect("it is kept");
        assert_eq!(String::from_utf8_lossy(&kept.body), body(event, "•••"));
        assert_eq!(kept.target, "/hooks/aircall?from=•••");
        let event = history.event(id).await.expect("the store answers").expect("it is kept");
        let event: Value = serde_json::from_slice(&event.json).expect("an event is JSON");
        assert_eq!(event["data"]["extra"]["data"]["note"], "it is •••!", "{event}");
        assert_eq!(event["data"]["extra"]["token"], "•••", "{event}");
    }
    // What has no token any more is mapped as it was.
    let admin = gateway.admin_address().expect("it listens");
    for number in 1..=3 {
        let request = client.post(format!("http://{admin}/webhooks/{number}/renormalize?dry_run"));
        let answer = request
            .send()
            .await
            .expect("it is answered")
            .text()
            .await
            .expect("it is whole");
        let answer: Value = serde_json::from_str(&answer).expect("it is JSON");
        assert_eq!(answer, json!({ "webhook": number, "changes": [] }));
    }
    gateway.stop().await;
}
