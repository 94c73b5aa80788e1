//! Every provider's cases through the real component in the real host, and once more over HTTP through a whole gateway.

use std::{collections::BTreeSet, sync::Arc};

use callfeed::{
    config::{self, Limits},
    event::{Event, EventId},
    gateway::{Gateway, Prepared},
    inbound::SCHEMA_ID,
    plugin::{MappedEvent, Plugins},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    case::{self, Case},
    host::{Ending, Host, RECEIVED_AT_MS, cloud_event},
};

pub(crate) async fn built_in(host: &Host) -> Plugins {
    let (plugins, problems) = host.runtime.load(&[]).await;
    assert!(problems.is_empty(), "{problems:?}");
    plugins
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_comes_out_as_expected() {
    let host = Host::new(&Limits::default());
    let plugins = built_in(&host).await;
    let failures = failures(&host, &plugins, case::all()).await;
    assert!(failures.is_empty(), "{failures}");
}

/// What is wrong with the answers to these cases; empty when nothing is.
pub(crate) async fn failures(host: &Host, plugins: &Plugins, cases: Vec<Case>) -> String {
    let mut failures = String::new();
    for case in cases {
        let mut problem = |what: &str| failures += &format!("\n{}: {what}", case.name);
        let Some(plugin) = plugins.get(&case.provider) else {
            problem("there is no plugin");
            continue;
        };
        let grant = match case.grant(plugin) {
            Ok(grant) => grant,
            Err(problems) => {
                problem(&problems);
                continue;
            }
        };
        let ending = host.judge(&grant, case.request(&grant)).await;
        let answer = answer(&ending, &case.expected);
        if answer != case.expected {
            problem(&format!("not as expected:\n{}", difference(&case.expected, &answer)));
        }
        let again = host.judge(&grant, case.request(&grant)).await;
        if format!("{again:?}") != format!("{ending:?}") {
            problem("the second time it came out differently");
        }
        if let Ending::Events { mapped, events, .. } = &ending {
            for (mapped, event) in mapped.iter().zip(events) {
                wrong_with_envelope(&case, mapped, event)
                    .iter()
                    .for_each(|what| problem(what));
            }
            for leaf in lost(&case, events) {
                problem(&format!("not found again: {leaf}"));
            }
        }
    }
    failures
}

/// The ending in the words of an expected file.
fn answer(ending: &Ending, expected: &Value) -> Value {
    let rejection = |verdict: &str, text: &str| {
        let (kind, rest) = text.split_once(' ').unwrap_or_default();
        let code = rest.split(':').next().unwrap_or_default();
        match (verdict, code) {
            // The native host leaves both to the plugin's own words.
            ("rejected", "not-proven") => json!({ "verdict": "unsigned", "form": expected["form"] }),
            _ => json!({ "verdict": verdict, "kind": kind, "code": code }),
        }
    };
    match ending {
        Ending::Events { form, mapped, .. } => {
            let event = |event: &MappedEvent| {
                json!({
                    "kind": event.kind,
                    "id": event.id,
                    "subject": event.subject,
                    "occurred_at": event.occurred_at_ms.map(|ms| in_the_words_of(&expected["events"], ms)),
                    "test": event.test,
                    "data": serde_json::from_str::<Value>(&event.data).expect("the validator parsed it"),
                })
            };
            let events: Vec<_> = mapped.iter().map(event).collect();
            json!({ "verdict": "accepted", "form": form, "events": events })
        }
        Ending::Other(line) => match line.split_once(' ') {
            Some(("rejected", rest)) => rejection("rejected", rest),
            Some(("quarantined", rest)) => rejection("quarantined", rest),
            Some(("ignored", rest)) => {
                let (form, reason) = rest.split_once(' ').unwrap_or_default();
                json!({ "verdict": "ignored", "form": form, "reason": reason })
            }
            Some(("respond", rest)) => {
                let mut words = rest.splitn(3, ' ');
                let status: u16 = words.next().and_then(|status| status.parse().ok()).unwrap_or_default();
                json!({ "verdict": "respond", "status": status, "body": words.nth(1) })
            }
            _ => json!({ "ended": line }),
        },
    }
}

fn rfc3339(ms: u64) -> String {
    timestamp(ms).to_string()
}

fn timestamp(ms: u64) -> Timestamp {
    i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .expect("the validator took it")
}

/// A time as an expected event writes it, when one has it: `.5` and `.500` are the same.
fn in_the_words_of(expected: &Value, ms: u64) -> String {
    let mut texts = expected
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|event| event["occurred_at"].as_str());
    let same = texts.find(|text| text.parse().is_ok_and(|time: Timestamp| time == timestamp(ms)));
    same.map_or_else(|| rfc3339(ms), str::to_owned)
}

/// The lines that differ, `-` expected and `+` answered.
fn difference(expected: &Value, answered: &Value) -> String {
    let pretty = |value| serde_json::to_string_pretty(value).expect("a value is JSON");
    let (expected, answered) = (pretty(expected), pretty(answered));
    let only = |mark: char, these: &str, those: &str| -> String {
        these
            .lines()
            .filter(|line| !those.lines().any(|other| other == *line))
            .map(|line| format!("  {mark} {line}\n"))
            .collect()
    };
    only('-', &expected, &answered) + &only('+', &answered, &expected)
}

/// What the host itself wrote into the event.
fn wrong_with_envelope(case: &Case, mapped: &MappedEvent, event: &Event) -> Vec<String> {
    let whole = cloud_event(event);
    let id = EventId::derive(&case.route.name, &mapped.id);
    let time = rfc3339(mapped.occurred_at_ms.unwrap_or(RECEIVED_AT_MS));
    let mut data: Value = serde_json::from_str(&mapped.data).expect("the validator parsed it");
    data["provider"] = case.provider.clone().into();
    data["test"] = mapped.test.into();
    if mapped.occurred_at_ms.is_none() {
        data["time_is_received"] = true.into();
    }
    let wanted = json!({
        "specversion": "1.0",
        "id": id.as_str(),
        "source": format!("/routes/{}", case.route.name),
        "type": mapped.kind,
        "subject": format!("{}/{}", case.provider, mapped.subject),
        "time": time,
        "sequence": "7",
        "datacontenttype": "application/json",
        "dataschema": SCHEMA_ID,
        "data": data,
    });
    let mut wrong = Vec::new();
    if whole != wanted {
        wrong.push(format!(
            "the CloudEvent is not what was mapped:\n{}",
            difference(&wanted, &whole)
        ));
    }
    if event.close_json(7).contains(&b'\n') {
        wrong.push("the event is not one line".to_owned());
    }
    wrong
}

/// The scalars of a body that none of its final events has.
///
/// A text may also have become the turns of a transcript.
fn lost(case: &Case, events: &[Event]) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut turns = Vec::new();
    for event in events {
        let mut data = cloud_event(event)["data"].take();
        // What the host wrote is not what was sent, except that a test is one.
        let members = data.as_object_mut().expect("data is an object");
        members.retain(|name, _| match name.as_str() {
            "provider" | "time_is_received" => false,
            "test" => has_test_flag(&case.body),
            _ => true,
        });
        leaves(&data, &mut |leaf| found.extend([leaf]));
        for block in ["call", "chat"] {
            let transcript = data
                .get_mut(block)
                .and_then(|block| block.get_mut("transcript"))
                .map(Value::take);
            let texts = transcript
                .iter()
                .filter_map(Value::as_array)
                .flatten()
                .filter_map(|turn| turn["text"].as_str());
            turns.push(texts.map(str::to_owned).collect::<Vec<_>>());
        }
    }
    let mut sent = BTreeSet::new();
    let form = case
        .headers
        .iter()
        .any(|(_, value)| value.starts_with("application/x-www-form-urlencoded"));
    if form {
        for (_, value) in form_urlencoded::parse(&case.body) {
            match serde_json::from_str(&value) {
                Ok(document @ (Value::Object(_) | Value::Array(_))) => {
                    leaves(&document, &mut |leaf| sent.extend([leaf]))
                }
                _ => sent.extend([Value::from(value.into_owned()).to_string()]),
            }
        }
    } else if let Ok(document) = serde_json::from_slice::<Value>(&case.body) {
        leaves(&document, &mut |leaf| sent.extend([leaf]));
    }
    let told = |leaf: &str| {
        let text: String = serde_json::from_str(leaf).unwrap_or_default();
        turns
            .iter()
            .any(|turns| !turns.is_empty() && turns.iter().all(|turn| text.contains(turn.as_str())))
    };
    // A token is struck out before it is mapped.
    let secrets = || case.route.secrets.iter().flat_map(|(_, values)| values);
    let secret = |leaf: &str| secrets().any(|secret| leaf.contains(&*String::from_utf8_lossy(secret.expose())));
    sent.into_iter()
        .filter(|leaf| !found.contains(leaf) && !told(leaf) && !secret(leaf))
        .collect()
}

/// Whether a body says itself if it is a test.
fn has_test_flag(body: &[u8]) -> bool {
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    let mut members = body.as_object().into_iter().flatten();
    members.any(|(key, value)| value.is_boolean() && key.contains("test"))
}

fn leaves(value: &Value, visit: &mut impl FnMut(String)) {
    match value {
        Value::Object(members) => members.values().for_each(|value| leaves(value, visit)),
        Value::Array(items) => items.iter().for_each(|item| leaves(item, visit)),
        // `90.0` and `90` are the same number.
        Value::Number(number) => visit(
            number
                .as_f64()
                .map_or_else(|| number.to_string(), |number| number.to_string()),
        ),
        scalar => visit(scalar.to_string()),
    }
}

#[tokio::test]
async fn every_declared_event_has_a_case() {
    let host = Host::new(&Limits::default());
    let plugins = built_in(&host).await;
    let missing = without_a_case(&plugins, &case::all());
    assert!(missing.is_empty(), "declared, but in no case:{missing}");
}

/// What these plugins declare and no case shows.
pub(crate) fn without_a_case(plugins: &Plugins, cases: &[Case]) -> String {
    let mut missing = String::new();
    for (provider, plugin) in plugins {
        let cases = cases.iter().filter(|case| case.provider == *provider);
        let events: Vec<_> = cases
            .flat_map(|case| case.expected["events"].as_array().into_iter().flatten())
            .collect();
        for spec in &plugin.descriptor.events {
            let native = |name: &str| match spec.native.strip_suffix('*') {
                Some(beginning) => name.starts_with(beginning),
                None => name == spec.native,
            };
            let occurs = |event: &&Value| {
                event["kind"] == *spec.unified && native(event["data"]["provider_event"].as_str().unwrap_or_default())
            };
            if !events.iter().any(occurs) {
                missing += &format!("\n{provider}: {} as {}", spec.native, spec.unified);
            }
        }
    }
    missing
}

/// Signatures worked out by hand from the vendors' recipes, over the vendors' samples.
#[test]
fn the_known_signatures_are_among_the_cases() {
    let accepted = [
        "62b77f75630e5a9d9d450c8d0be911c54c6c7acc014ae369ed149c894516c20e",
        "/VH39+vbmE1T80iafMyfXOm9GGc=",
        "HeckPtqhWfSWU/1FgM0yJKMrlLg=",
        "7DUEdEL8Qqp28ObzTkodlpOnaIM=",
        "LHJlrpXSLz9XKY4Cid49810AzqE=",
        "NH8wV08+vyTqWohfyoG68sPgczA=",
        "vm77v9MEj6ZsqW0jX8zXt24ZDUs=",
        "EQAKf9vytilW/5WHUufay3WxEF8=",
        "PDkI7fnqSaqiZPqu3mk8PE5TXj0=",
        "c31767b313318e7778cf7bd318a3e7896e2080e6e58001ec4f21cc77eda7c05f",
        "f0704c62595c33b8ddbaabbdc8be98b5965f0c91f2470b512370eadd929cdf47",
    ];
    // Over nothing of the body.
    let refused = ["SYBmm1iMRaZMF3R/nbD/3goY4oo=", "K2tuz/oyTAMwtqhLDT6Ri+nj024="];
    let cases = case::all();
    let verdicts = |signature: &str| -> Vec<&str> {
        let has = |case: &&Case| {
            case.text
                .windows(signature.len())
                .any(|window| window == signature.as_bytes())
        };
        cases
            .iter()
            .filter(has)
            .filter_map(|case| case.expected["verdict"].as_str())
            .collect()
    };
    for signature in accepted {
        assert!(
            verdicts(signature).contains(&"accepted"),
            "{signature}: {:?}",
            verdicts(signature)
        );
    }
    for signature in refused {
        assert!(
            verdicts(signature).contains(&"rejected"),
            "{signature}: {:?}",
            verdicts(signature)
        );
    }
}

/// The listener makes of a connection's bytes what the cases take for granted, and the store keeps it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_is_answered_over_http() {
    let directory = tempfile::tempdir().expect("a directory");
    let cases = case::all();
    let routes = cases.iter().map(|case| config::Route {
        path: format!("/{}", case.route.name),
        ..case.route.clone()
    });
    // One route to be read, and then those of the cases in its place.
    let text = "server.listen = '127.0.0.1:0'\nadmin.listen = 'off'\n[[route]]\nname = 'magpipe'\n\
                provider = 'magpipe'\nallow_unsigned = true\n";
    let mut checked = config::parse(text, "cases.toml", &|_| None, directory.path())
        .unwrap_or_else(|refused| panic!("{}", refused.problems));
    checked.config.routes = routes.collect();
    let prepared = Prepared::new(Ok(checked))
        .await
        .unwrap_or_else(|problems| panic!("{problems}"));
    let gateway = Gateway::start(prepared, None).await.expect("it starts");
    let client = callfeed::simulate::client(std::time::Duration::from_secs(30)).expect("a client");

    let mut failures = String::new();
    for case in &cases {
        let url = format!("http://{}/{}{}", gateway.address(), case.route.name, case.below());
        let method = reqwest::Method::from_bytes(case.method().as_bytes()).expect("it is a method");
        let mut request = client.request(method, url).body(case.body.clone());
        for (name, value) in case
            .headers
            .iter()
            .filter(|(name, _)| !matches!(&**name, "host" | "content-length"))
        {
            request = request.header(name, value);
        }
        let response = request.send().await.expect("it is answered");
        let status = response.status().as_u16();
        let body = response.text().await.expect("the answer is whole");

        let expected = &case.expected;
        let answered: Value = serde_json::from_str(&body).unwrap_or_default();
        let events = expected["events"].as_array().into_iter().flatten();
        let ids: Vec<Value> = events
            .enumerate()
            .map(|(at, event)| match event["id"].as_str().unwrap_or_default() {
                // A test from a console counts each time it is sent, and this one is sent now.
                id if id.contains(&RECEIVED_AT_MS.to_string()) => answered["accepted"][at].clone(),
                id => EventId::derive(&case.route.name, id).as_str().into(),
            })
            .collect();
        let (wanted_status, wanted_body) = match expected["verdict"].as_str().unwrap_or_default() {
            "rejected" if expected["kind"] == "unsupported" => (415, None),
            "rejected" | "unsigned" => (401, Some(json!({ "error": "not authentic" }))),
            "respond" => (expected["status"].as_u64().unwrap_or_default() as u16, None),
            _ => (200, Some(json!({ "accepted": ids }))),
        };
        if status != wanted_status || wanted_body.is_some_and(|wanted| wanted != answered) {
            failures += &format!("\n{}: {status} {body}, not {wanted_status}", case.name);
        }
    }
    let quarantined = cases
        .iter()
        .filter(|case| case.expected["verdict"] == "quarantined")
        .count();
    let counts = gateway.store().history().counts().await.expect("the store answers");
    gateway.stop().await;
    assert!(failures.is_empty(), "{failures}");
    assert_eq!(counts.quarantined, quarantined as u64);
}

#[tokio::test]
async fn plugins_have_cases() {
    let host = Host::new(&Limits::default());
    let plugins = built_in(&host).await;
    let with_cases: BTreeSet<_> = case::by_provider().into_keys().collect();
    let built_in: BTreeSet<_> = plugins.keys().cloned().collect();
    assert_eq!(built_in, with_cases);
    for (name, plugin) in plugins {
        let plugin = Arc::clone(&plugin);
        assert_eq!(plugin.descriptor.provider, name);
    }
}
