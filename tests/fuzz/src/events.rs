//! What a plugin returned, on its way into the feed and out to a subscriber that does not get all of it.

use std::{
    path::Path,
    sync::{Arc, LazyLock},
};

use callfeed::{
    config::{self, Limits, Privacy},
    event::EventId,
    inbound::{Invalid, SCHEMA, Validator},
    outbound::privacy::Censor,
    plugin::{Grant, MappedEvent, Runtime},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Everything of `data` that a subscriber can do without, and every text that can be masked, in more than one way.
const CONFIG: &str = r#"
[[route]]
name = "acme"
provider = "magpipe"
secrets = { signing = "a" }

[[subscriber]]
name = "masked"
url = "https://crm.example.com/"
secrets = "whsec_bm90LXRvLWJlLXNlZW4tYnktYW55b25lLWF0LWFsbA=="
mask = [
    "call.from.number", "call.from.raw", "call.from.name", "call.to.number", "call.to.raw", "call.via.raw",
    "call.summary", "call.transcript.text", "call.agent.name", "call.disposition", "message.from.number",
    "message.from.raw", "message.text", "message.media.url", "chat.transcript.text", "email.from", "lead.phone.number",
    "lead.phone.raw",
]

[[subscriber]]
name = "dropped"
url = "https://crm.example.com/"
secrets = "whsec_bm90LXRvLWJlLXNlZW4tYnktYW55b25lLWF0LWFsbA=="
drop = [
    "call.from", "call.to.name", "call.transcript", "call.summary", "call.recording", "message.text", "chat.transcript",
    "email", "lead.name", "campaign", "attribution", "metadata", "extra",
]
mask = ["call.to.raw", "call.to.number", "message.from.raw", "message.from.number"]
"#;

struct Bench {
    /// A runtime is what a plugin lives in.
    _runtime: Runtime,
    grant: Arc<Grant>,
    validator: Validator,
    schema: jsonschema::Validator,
    subscribers: Vec<(Censor, Privacy)>,
}

static BENCH: LazyLock<Bench> = LazyLock::new(|| {
    let checked = config::parse(CONFIG, "callfeed.toml", &|_| None, Path::new("")).expect("it is right");
    let executor = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .build()
        .expect("there is a thread for it");
    let runtime = Runtime::new(&Limits::default()).expect("the engine starts");
    let (plugins, problems) = executor.block_on(runtime.load(&[]));
    assert!(problems.is_empty(), "{problems:?}");
    let grant = Grant::new(Arc::clone(&plugins["magpipe"]), &checked.config.routes[0]).expect("the route fits");
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let privacies = checked
        .config
        .subscribers
        .into_iter()
        .map(|subscriber| subscriber.privacy);
    Bench {
        _runtime: runtime,
        grant: Arc::new(grant),
        validator: Validator::new(),
        schema: jsonschema::validator_for(&schema).expect("the schema is one"),
        subscribers: privacies.map(|privacy| (Censor::new(&privacy), privacy)).collect(),
    }
});

/// An event as a plugin may return it: type, id, subject and time on a line each, then its data.
///
/// It becomes an event exactly when its data is an object in which no key comes twice and which, with what the host adds,
/// fits the schema. Then the event says what the data said, on one line; and what a subscriber gets of it fits the schema as
/// well, without what it is not to get and otherwise unchanged.
pub fn events(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let mut parts = text.splitn(5, '\n');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let (kind, id, subject, time, data) = (part(), part(), part(), part(), part());
    let mapped = MappedEvent {
        kind,
        id,
        subject,
        test: time.starts_with('t'),
        occurred_at_ms: time.trim_start_matches('t').parse().ok(),
        data,
    };
    let bench = &*BENCH;
    let whole = whole(&mapped);
    let event = match bench
        .validator
        .events(&bench.grant, vec![mapped.clone()], Timestamp::UNIX_EPOCH)
    {
        Ok(mut events) => events.remove(0),
        Err(Invalid::Undeclared(_) | Invalid::Name(_) | Invalid::Time(_) | Invalid::HostOwned(_)) => return,
        Err(Invalid::Json(why)) => {
            let is_twice = why.contains("stands twice");
            assert!(
                whole.is_none() || is_twice && members_written(&mapped.data) > 1,
                "{why}"
            );
            return;
        }
        Err(Invalid::Schema(why)) => {
            let whole = whole.expect("the validator read it");
            assert!(!bench.schema.is_valid(&whole), "{why}");
            return;
        }
    };
    let whole = whole.expect("the validator read it");
    assert!(bench.schema.is_valid(&whole));
    assert_eq!(event.id, EventId::derive("acme", &mapped.id));
    let closed = event.close_json(7);
    assert!(!closed.iter().any(|byte| matches!(byte, b'\n' | b'\r')));
    let cloud_event: Value = serde_json::from_slice(&closed).expect("an event is JSON");
    assert_eq!(cloud_event["data"], whole);
    assert_eq!(cloud_event["subject"], format!("magpipe/{}", mapped.subject));
    assert_eq!(cloud_event["sequence"], "7");

    for (censor, privacy) in &bench.subscribers {
        let got = censor.apply(&closed);
        assert_eq!(got, censor.apply(&closed));
        let got: Value = serde_json::from_slice(&got).expect("what is left is JSON");
        let problems: Vec<_> = bench
            .schema
            .iter_errors(&got["data"])
            .map(|error| error.to_string())
            .collect();
        assert!(problems.is_empty(), "{problems:?}");
        let mut expected = cloud_event.clone();
        for path in &privacy.drop {
            change(&mut expected["data"], path, &mut |members, last| {
                _ = members.remove(last)
            });
        }
        let mut shown = got.clone();
        for path in &privacy.mask {
            let hide = &mut |members: &mut serde_json::Map<String, Value>, last: &str| {
                if let Some(text) = members.get_mut(last).filter(|text| text.is_string()) {
                    let length = text.as_str().map_or(0, |text| text.chars().count());
                    *text = length.into();
                }
            };
            // A mask is as long as what it hides.
            change(&mut expected["data"], path, hide);
            change(&mut shown["data"], path, hide);
        }
        assert_eq!(shown, expected);
    }
}

/// The data with what the host adds to it.
fn whole(mapped: &MappedEvent) -> Option<Value> {
    let mut whole: Value = serde_json::from_str(&mapped.data).ok().filter(Value::is_object)?;
    whole["provider"] = json!("magpipe");
    whole["test"] = json!(mapped.test);
    if mapped.occurred_at_ms.is_none() {
        whole["time_is_received"] = json!(true);
    }
    Some(whole)
}

fn members_written(json: &str) -> usize {
    json.matches(':').count()
}

/// Changes the member at the end of a path, in every item where the path leads through a list.
fn change(value: &mut Value, path: &[String], how: &mut dyn FnMut(&mut serde_json::Map<String, Value>, &str)) {
    match (value, path) {
        (Value::Array(items), path) => items.iter_mut().for_each(|item| change(item, path, how)),
        (Value::Object(members), [last]) => how(members, last),
        (Value::Object(members), [first, rest @ ..]) => {
            if let Some(inner) = members.get_mut(first) {
                change(inner, rest, how);
            }
        }
        _ => {}
    }
}
