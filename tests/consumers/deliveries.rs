//! Subscribers with every kind of key get every sample of every provider; what reached them goes to the libraries as it
//! came. Each library has to accept what is authentic, refuse what is not, and read every event alike.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Stdio},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use callfeed::clock;
use cloudevents::{AttributesReader as _, Data};
use harness::{Callfeed, Delivery, PATIENCE, Subscriber};
use hyper::{HeaderMap, header::HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::{
    feed::{every_route, post_every_sample},
    tools,
};

const SCHEMA: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../schemas/event/v1/call-event.schema.json"
);

/// A request for a library to verify, and what it has to say.
#[derive(Debug, Clone, Serialize)]
struct Check {
    headers: BTreeMap<String, String>,
    /// Base64.
    body: String,
    /// `whsec_…`, or `whpk_…` for Ed25519.
    key: String,
    #[serde(skip)]
    expected: Expected,
    #[serde(skip)]
    about: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Accepted,
    /// The signature is of something else.
    Refused,
    /// The signature may be right, but it was made too long ago.
    TooOld,
}

/// What a script said.
#[derive(Debug, Deserialize)]
struct Said {
    /// Why each was refused.
    verify: Vec<Option<String>>,
    #[serde(default)]
    read: Vec<Read>,
}

/// An event as an SDK gave it.
#[derive(Debug, PartialEq, Deserialize)]
struct Read {
    /// `time` in milliseconds since 1970.
    attributes: BTreeMap<String, Value>,
    data: Value,
    /// What is wrong with the data by the schema, where it was asked.
    #[serde(default)]
    problems: Vec<String>,
}

/// A key pair as `callfeed secret new --ed25519` makes it.
#[derive(Debug, Deserialize)]
struct Pair {
    private: String,
    public: String,
}

async fn new_secret() -> String {
    Callfeed::run(["secret", "new"]).await.success().trim().to_owned()
}

async fn new_pair() -> Pair {
    let printed = Callfeed::run(["secret", "new", "--ed25519", "--json"]).await.success();
    serde_json::from_str(&printed).expect("it is a pair of keys")
}

#[tokio::test]
async fn the_official_libraries_accept_what_is_authentic_and_nothing_else() {
    let (secret, old_secret, strange_secret) = (new_secret().await, new_secret().await, new_secret().await);
    let (pair, strange_pair) = (new_pair().await, new_pair().await);
    // What each subscriber signs with, and the keys it hands out: those have to do, whichever is used.
    let subscribers = [
        ("one-secret", vec![&secret], vec![&secret]),
        ("rotation", vec![&secret, &old_secret], vec![&secret, &old_secret]),
        ("ed25519", vec![&pair.private], vec![&pair.public]),
        ("both", vec![&pair.private, &secret], vec![&pair.public, &secret]),
    ];
    let mut setup = every_route();
    let mut servers = Vec::new();
    for (name, private, _) in &subscribers {
        let server = Subscriber::start().await;
        setup = setup.subscriber_with(name, &server, &format!("secrets = {private:?}"));
        servers.push(server);
    }
    let gateway = setup.start().await;
    let ids = post_every_sample(&gateway).await;

    let mut checks = Vec::new();
    for ((name, _, keys), server) in subscribers.iter().zip(&servers) {
        let deliveries = server.wait_for(ids.len()).await;
        assert_eq!(
            deliveries.iter().map(Delivery::id).collect::<BTreeSet<_>>(),
            ids,
            "{name}"
        );
        for delivery in &deliveries {
            let of = |expected, about: &str, key: &str, headers: &HeaderMap, body: &[u8]| Check {
                headers: text(headers),
                body: BASE64_STANDARD.encode(body),
                key: key.to_owned(),
                expected,
                about: format!("{about}, {name}, {}", delivery.text("type")),
            };
            for key in keys {
                checks.push(of(
                    Expected::Accepted,
                    "as it came",
                    key,
                    &delivery.headers,
                    &delivery.body,
                ));
                let flipped = flip_a_bit(&delivery.body);
                checks.push(of(Expected::Refused, "another body", key, &delivery.headers, &flipped));
                for (name, value) in [("webhook-id", "evt_another"), ("webhook-timestamp", &now(1))] {
                    let headers = with(&delivery.headers, name, value);
                    checks.push(of(
                        Expected::Refused,
                        &format!("another {name}"),
                        key,
                        &headers,
                        &delivery.body,
                    ));
                }
                let headers = signed_long_ago(delivery, key);
                checks.push(of(Expected::TooOld, "signed long ago", key, &headers, &delivery.body));
            }
            for key in [&strange_secret, &strange_pair.public] {
                checks.push(of(
                    Expected::Refused,
                    "another key",
                    key,
                    &delivery.headers,
                    &delivery.body,
                ));
            }
        }
    }

    let input = json!({ "verify": checks, "read": [], "schema": SCHEMA });
    judge("Python", &checks, &ask(tools::python("check.py"), &input).await.verify);
    judge("Node", &checks, &ask(tools::node("check.mjs"), &input).await.verify);
    // The Rust library knows no Ed25519 either, and none is added here: the gateway's own tests have that in Rust.
    let checks: Vec<_> = checks
        .into_iter()
        .filter(|check| check.key.starts_with("whsec_"))
        .collect();
    judge("Rust", &checks, &checks.iter().map(verify).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_cloudevents_sdks_read_every_event_alike() {
    let server = Subscriber::start().await;
    let gateway = every_route().subscriber("crm", &server).start().await;
    let ids = post_every_sample(&gateway).await;
    let deliveries = server.wait_for(ids.len()).await;

    let requests: Vec<_> = deliveries
        .iter()
        .map(|delivery| json!({ "headers": text(&delivery.headers), "body": BASE64_STANDARD.encode(&delivery.body) }))
        .collect();
    let input = json!({ "verify": [], "read": requests, "schema": SCHEMA });
    let python = ask(tools::python("check.py"), &input).await.read;
    let node = ask(tools::node("check.mjs"), &input).await.read;
    assert_eq!((python.len(), node.len()), (ids.len(), ids.len()));

    let mut sequences = BTreeSet::new();
    for ((delivery, python), node) in deliveries.iter().zip(python).zip(node) {
        assert_eq!(delivery.header("content-type"), "application/cloudevents+json");
        let sent = as_sent(&delivery.event());
        assert_eq!(python.problems, Vec::<String>::new(), "{}", python.data);
        assert_eq!(plain(python), sent, "Python");
        assert_eq!(plain(node), sent, "Node");
        assert_eq!(plain(read(&delivery.body)), sent, "Rust");

        // What the SDKs agree on is what the documentation promises.
        let attribute = |name: &str| {
            sent.attributes[name]
                .as_str()
                .unwrap_or_else(|| panic!("{name}: {sent:?}"))
        };
        assert_eq!(
            (attribute("specversion"), attribute("id")),
            ("1.0", delivery.header("webhook-id"))
        );
        assert!(attribute("source").starts_with("/routes/"), "{sent:?}");
        assert!(attribute("subject").starts_with(sent.data["provider"].as_str().expect("it has a provider")));
        assert_eq!(attribute("datacontenttype"), "application/json");
        assert!(
            attribute("dataschema").ends_with("/schemas/event/v1/call-event.schema.json"),
            "{sent:?}"
        );
        let known = [
            "specversion",
            "id",
            "source",
            "type",
            "subject",
            "time",
            "datacontenttype",
            "dataschema",
            "sequence",
        ];
        assert_eq!(
            sent.attributes.keys().map(String::as_str).collect::<BTreeSet<_>>(),
            BTreeSet::from(known)
        );
        sequences.insert(
            attribute("sequence")
                .parse::<u64>()
                .expect("a place in the feed is a number"),
        );
    }
    assert_eq!(sequences.len(), ids.len(), "every event has a place of its own");
}

/// Runs a script on this input and reads its answer.
async fn ask(command: Command, input: &Value) -> Said {
    let mut command = tokio::process::Command::from(command);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("it was asked for");
    let talk = async {
        // A script that ended early says why itself.
        drop(stdin.write_all(input.to_string().as_bytes()).await);
        drop(stdin);
        child.wait_with_output().await.expect("a child can be waited for")
    };
    let output = tokio::time::timeout(PATIENCE, talk)
        .await
        .unwrap_or_else(|_| panic!("{command:?} does not end"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("the script answers in JSON")
}

/// How the libraries say that a signature is of something else: those for Python and Node, and the one for Rust.
const NO_SUCH_SIGNATURE: [&str; 2] = ["No matching signature found", "signature invalid"];

fn judge(language: &str, checks: &[Check], refusals: &[Option<String>]) {
    assert_eq!(checks.len(), refusals.len(), "{language}");
    for (check, refusal) in checks.iter().zip(refusals) {
        let right = match (check.expected, refusal) {
            (Expected::Accepted, refusal) => refusal.is_none(),
            (Expected::Refused, Some(refusal)) => NO_SUCH_SIGNATURE.contains(&refusal.as_str()),
            (Expected::TooOld, Some(refusal)) => refusal.contains("too old"),
            (Expected::Refused | Expected::TooOld, None) => false,
        };
        assert!(
            right,
            "{language}: {} should be {:?}: {refusal:?}",
            check.about, check.expected
        );
    }
}

/// Verifies with the Rust library.
fn verify(check: &Check) -> Option<String> {
    let webhook = standardwebhooks::Webhook::new(&check.key).expect("it is a secret");
    let mut headers = HeaderMap::new();
    for (name, value) in &check.headers {
        let name: hyper::header::HeaderName = name.parse().expect("it is a header");
        headers.insert(name, value.parse().expect("it is a header's value"));
    }
    let body = BASE64_STANDARD.decode(&check.body).expect("it was encoded above");
    webhook.verify(&body, &headers).err().map(|error| error.to_string())
}

/// Reads with the Rust SDK.
fn read(body: &[u8]) -> Read {
    let event: cloudevents::Event = serde_json::from_slice(body).expect("the Rust SDK reads it");
    let mut attributes: BTreeMap<_, _> = event
        .iter()
        .map(|(name, value)| (name.to_owned(), Value::from(value.to_string())))
        .collect();
    attributes.insert(
        "time".into(),
        event.time().expect("it has a time").timestamp_millis().into(),
    );
    let Some(Data::Json(data)) = event.data() else {
        panic!("its data is JSON")
    };
    Read {
        attributes,
        data: data.clone(),
        problems: Vec::new(),
    }
}

/// The event as it stands in the body.
fn as_sent(event: &Value) -> Read {
    let mut attributes: BTreeMap<_, _> = event
        .as_object()
        .expect("an event is an object")
        .clone()
        .into_iter()
        .collect();
    let data = attributes.remove("data").expect("an event has data");
    let time: jiff::Timestamp = attributes["time"]
        .as_str()
        .expect("an event has a time")
        .parse()
        .expect("it is a time");
    attributes.insert("time".into(), time.as_millisecond().into());
    plain(Read {
        attributes,
        data,
        problems: Vec::new(),
    })
}

/// Numbers as JavaScript has them: 2 and 2.0 are one.
fn plain(read: Read) -> Read {
    fn plain(value: Value) -> Value {
        match value {
            Value::Number(number) => number.as_f64().into(),
            Value::Array(items) => items.into_iter().map(plain).collect(),
            Value::Object(members) => members.into_iter().map(|(name, value)| (name, plain(value))).collect(),
            other => other,
        }
    }
    let attributes = read
        .attributes
        .into_iter()
        .map(|(name, value)| (name, plain(value)))
        .collect();
    Read {
        attributes,
        data: plain(read.data),
        problems: Vec::new(),
    }
}

fn text(headers: &HeaderMap) -> BTreeMap<String, String> {
    let text = |value: &HeaderValue| value.to_str().expect("our headers are text").to_owned();
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}

fn with(headers: &HeaderMap, name: &str, value: &str) -> HeaderMap {
    let mut headers = headers.clone();
    let name: hyper::header::HeaderName = name.parse().expect("it is a header");
    headers.insert(name, value.parse().expect("it is a header's value"));
    headers
}

/// The body with one bit of one letter or digit in its middle turned; still text.
fn flip_a_bit(body: &[u8]) -> Vec<u8> {
    let mut body = body.to_vec();
    let middle = body.len() / 2;
    let at = (middle..body.len())
        .find(|at| body[*at].is_ascii_alphanumeric())
        .expect("there is text in the middle");
    body[at] ^= 1;
    body
}

/// Unix seconds, so many after now.
fn now(seconds: i64) -> String {
    (clock::now().as_second() + seconds).to_string()
}

/// The headers of a delivery that was captured ten minutes ago: with the right signature where the library can make it.
fn signed_long_ago(delivery: &Delivery, key: &str) -> HeaderMap {
    let then = now(-600);
    let headers = with(&delivery.headers, "webhook-timestamp", &then);
    if key.starts_with("whpk_") {
        return headers;
    }
    let webhook = standardwebhooks::Webhook::new(key).expect("it is a secret");
    let signature = webhook.sign(&delivery.id(), then.parse().expect("it is a number"), &delivery.body);
    with(&headers, "webhook-signature", &signature.expect("the body is text"))
}
