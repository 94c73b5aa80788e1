//! Secrets stay out of every place that people look at: logs, commands, records.

use std::fs;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use harness::{Reply, Setup, Subscriber, WHSEC, provider_secret};

const CRM_TOKEN: &str = "crm-bearer-token-1Zx9Cv3B";

#[tokio::test]
async fn no_secret_is_shown_anywhere() {
    let subscriber = Subscriber::start().await;
    // One that echoes what it was sent.
    subscriber.rule(|delivery| {
        let echo = format!("your token is {}, mine is {WHSEC}", delivery.header("authorization"));
        Reply::status(500).body(&echo)
    });
    let lines = format!("headers = {{ authorization = \"Bearer {CRM_TOKEN}\" }}\nschedule = [\"0s\", \"10ms\"]");
    let mut gateway = Setup::new()
        .route("magpipe")
        .route("salpre")
        .route_with("salpre-key", "salpre", r#"options = { header = "x-shop-key" }"#)
        .subscriber_with("crm", &subscriber, &lines)
        // Every line that speaks of webhooks and deliveries.
        .log("info,callfeed=trace,hyper=trace,hyper_util=trace,h2=trace,reqwest=trace,rustls=trace")
        .start()
        .await;
    let (_, token) = provider_secret("salpre");
    let (_, magpipe) = provider_secret("magpipe");

    let in_the_header = gateway.accept(&gateway.sample("salpre", "call-ended")).await;
    let in_another = gateway.sample("salpre-key", "call-ended");
    let path = format!("/hooks/salpre-key?token={token}&x=1");
    let in_another = gateway
        .accept(&in_another.at(&path).header("cookie", "session=chocolate-7"))
        .await;
    // A sender that confuses its secret with its signature.
    let mistaken = gateway
        .sample("magpipe", "call-completed")
        .header("x-magpipe-signature", magpipe);
    assert_eq!(gateway.post(&mistaken).await.status, 401);
    let signed = gateway.accept(&gateway.sample("magpipe", "call-completed")).await;

    let mut shown = Vec::new();
    for id in [&in_the_header, &in_another, &signed] {
        gateway.attempts(id, "crm", 2).await;
        shown.push(gateway.run(&["events", "show", id, "--raw"]).await.success());
        shown.push(gateway.run(&["events", "show", id]).await.success());
        shown.push(gateway.run(&["deliveries", "show", id]).await.success());
        shown.push(gateway.run(&["deliveries", "show", id, "--json"]).await.success());
    }
    assert!(shown[0].contains("authorization: •••"), "{}", shown[0]);
    assert!(
        shown[4].contains("x-shop-key: •••") && shown[4].contains("token=•••&x=1"),
        "{}",
        shown[4]
    );
    assert!(shown[10].contains("your token is •••"), "{}", shown[10]);
    assert!(gateway.terminate().await.success());
    shown.push(gateway.log_text());
    assert!(
        gateway.log_text().contains("\"level\":\"TRACE\""),
        "everything was logged"
    );
    shown.push(gateway.run(&["check"]).await.success());
    shown.push(gateway.run(&["check", "--json"]).await.success());
    // Nor does the record on disk hold what can be used again.
    for entry in fs::read_dir(gateway.directory()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            shown.push(String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned());
        }
    }

    let whsec = WHSEC.strip_prefix("whsec_").unwrap();
    let key = String::from_utf8(BASE64_STANDARD.decode(whsec).unwrap()).unwrap();
    for (what, secret) in [
        ("Salpre's token", token),
        ("Magpipe's secret", magpipe),
        ("the subscriber's token", CRM_TOKEN),
        ("the signing secret", whsec.trim_end_matches('=')),
        ("the signing key", key.as_str()),
        ("a cookie", "chocolate-7"),
    ] {
        for text in &shown {
            if let Some(at) = text.find(secret) {
                let around = text.floor_char_boundary(at.saturating_sub(300))..text.ceil_char_boundary(at + 100);
                panic!("{what} is shown: …{}…", &text[around]);
            }
        }
    }
}
