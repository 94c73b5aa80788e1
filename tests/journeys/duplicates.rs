//! Providers send again what they think got lost. The same event is answered alike, kept once and delivered once.

use std::fmt::Write as _;

use callfeed::simulate;
use harness::{Gateway, Setup, Subscriber};
use serde_json::Value;

/// JSON as Python's `json.dumps` writes it: spaces after separators, nothing but ASCII.
fn python(value: &Value, text: &mut String) {
    match value {
        Value::Object(members) => {
            for (index, (key, member)) in members.iter().enumerate() {
                text.push_str(if index == 0 { "{" } else { ", " });
                python(&Value::String(key.clone()), text);
                text.push_str(": ");
                python(member, text);
            }
            text.push_str(if members.is_empty() { "{}" } else { "}" });
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "[" } else { ", " });
                python(item, text);
            }
            text.push_str(if items.is_empty() { "[]" } else { "]" });
        }
        Value::String(string) => {
            for character in serde_json::to_string(string).unwrap().chars() {
                if character.is_ascii() {
                    text.push(character);
                } else {
                    for unit in character.encode_utf16(&mut [0; 2]) {
                        write!(text, "\\u{unit:04x}").unwrap();
                    }
                }
            }
        }
        other => write!(text, "{other}").unwrap(),
    }
}

/// After this, whatever was kept before has been delivered too: the feed is read in order.
async fn deliver_one_more(gateway: &Gateway, subscriber: &Subscriber, before: usize) {
    let id = gateway.accept(&gateway.sample("magpipe", "sms-received")).await;
    let what = "the event after the duplicates";
    let deliveries = subscriber
        .wait_until(what, |all| all.iter().any(|delivery| delivery.id() == id))
        .await;
    assert_eq!(deliveries.len(), before + 1, "nothing was delivered twice");
}

#[tokio::test]
async fn a_retry_with_other_bytes_is_the_same_event_also_after_a_restart_and_a_crash() {
    let subscriber = Subscriber::start().await;
    let mut gateway = Setup::new()
        .route("magpipe")
        .subscriber("crm", &subscriber)
        .start()
        .await;

    let mut call: Value = serde_json::from_slice(&simulate::samples("magpipe")[0].body).unwrap();
    call["data"]["summary"] = "Réservé à 18 h 30 🎉".into();
    let mut first = String::new();
    python(&call, &mut first);
    // A retry is serialized by JavaScript.
    let second = serde_json::to_string(&call).unwrap();
    assert!(first.is_ascii() && !second.is_ascii() && first != second);
    let signed = |gateway: &Gateway, body: &str| gateway.signed("magpipe", "application/json", body);

    let id = gateway.accept(&signed(&gateway, &first)).await;
    assert_eq!(gateway.accept(&signed(&gateway, &first)).await, id);
    assert_eq!(gateway.accept(&signed(&gateway, &second)).await, id);
    deliver_one_more(&gateway, &subscriber, 1).await;
    assert_eq!(
        subscriber.deliveries()[0].event()["data"]["call"]["summary"],
        call["data"]["summary"]
    );

    assert!(gateway.terminate().await.success());
    gateway.restart().await;
    assert_eq!(gateway.accept(&signed(&gateway, &second)).await, id);
    assert_eq!(gateway.accept(&signed(&gateway, &first)).await, id);
    deliver_one_more(&gateway, &subscriber, 2).await;

    gateway.kill9().await;
    gateway.restart().await;
    assert_eq!(gateway.accept(&signed(&gateway, &first)).await, id);
    assert_eq!(gateway.accept(&signed(&gateway, &second)).await, id);
    let kept = gateway.feed().await;
    assert_eq!(kept.iter().filter(|event| event["id"] == *id).count(), 1);
    assert_eq!(kept.len(), 3);
    assert_eq!(
        gateway
            .metric(r#"callfeed_webhooks_total{route="magpipe",result="duplicate"}"#)
            .await,
        2.0
    );
}

#[tokio::test]
async fn many_copies_at_once_are_one_event() {
    let subscriber = Subscriber::start().await;
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let webhook = gateway.sample("magpipe", "call-completed");
    let (client, url) = (harness::client(), gateway.url("/hooks/magpipe"));
    let mut posts = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let (webhook, client, url) = (webhook.clone(), client.clone(), url.clone());
        posts.spawn(async move { webhook.post(&client, &url).await.unwrap().accepted() });
    }
    let mut ids = posts.join_all().await;
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    deliver_one_more(&gateway, &subscriber, 1).await;
    assert_eq!(gateway.feed().await.len(), 2);
}

#[tokio::test]
async fn two_routes_are_two_accounts() {
    let gateway = Setup::new()
        .route_with("east", "magpipe", "")
        .route_with("west", "magpipe", "")
        .start()
        .await;
    let east = gateway.accept(&gateway.sample_as_it_is("east", "call-completed")).await;
    let west = gateway.accept(&gateway.sample_as_it_is("west", "call-completed")).await;
    assert_ne!(east, west);
    assert_eq!(gateway.feed().await.len(), 2);
}
