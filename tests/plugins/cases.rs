//! Every provider's cases: what the host makes of them beside what the plugin says, and once more over HTTP through a whole
//! gateway.

use std::collections::BTreeSet;

use callfeed::{
    config::{self, Limits},
    event::{Event, EventId},
    gateway::{Gateway, Prepared},
    inbound::SCHEMA_ID,
    kit::{Answer, Case, RECEIVED_AT},
    plugin::{MappedEvent, Plugins},
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::host::{Host, cloud_event};

const PROVIDERS: [&str; 5] = ["magnetis", "magpipe", "salpre", "topcalls", "voxagent"];

pub(crate) async fn built_in(host: &Host) -> Plugins {
    let (plugins, problems) = host.stand.runtime.load(&[]).await;
    assert!(problems.is_empty(), "{problems:?}");
    plugins
}

pub(crate) fn cases_of(provider: &str) -> Vec<Case> {
    let directory = harness::guest::workspace().join("plugins").join(provider).join("cases");
    Case::read_all(&directory, provider).unwrap_or_else(|error| panic!("{error}"))
}

/// Every case of every provider.
fn all() -> impl Iterator<Item = Case> {
    PROVIDERS.into_iter().flat_map(cases_of)
}

pub(crate) fn verdict(case: &Case) -> &str {
    case.expected
        .as_ref()
        .and_then(|expected| expected["verdict"].as_str())
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_has_the_envelope_of_its_case() {
    let host = Host::new(&Limits::default());
    let plugins = built_in(&host).await;
    let mut failures = String::new();
    let mut seen = 0;
    for case in all() {
        let grant = case.grant(&plugins[&case.route.provider]).expect("the route fits");
        let request = case.request(&grant).expect("it is within bounds");
        if let Answer::Accepted(accepted) = host.judge(&grant, request).await {
            for (mapped, event) in accepted.mapped.iter().zip(&accepted.events) {
                seen += 1;
                for what in wrong_with_envelope(&case, mapped, event) {
                    failures += &format!("\n{}: {what}", case.name);
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
    assert!(seen > 200, "only {seen} events");
}

/// What the host itself wrote into the event.
fn wrong_with_envelope(case: &Case, mapped: &MappedEvent, event: &Event) -> Vec<String> {
    let whole = cloud_event(event);
    let id = EventId::derive(&case.route.name, &mapped.id);
    let time = match mapped.occurred_at_ms {
        None => RECEIVED_AT,
        Some(ms) => Timestamp::from_millisecond(ms as i64).expect("the validator took it"),
    };
    let mut data: Value = serde_json::from_str(&mapped.data).expect("the validator parsed it");
    data["provider"] = case.route.provider.clone().into();
    data["test"] = mapped.test.into();
    if mapped.occurred_at_ms.is_none() {
        data["time_is_received"] = true.into();
    }
    let wanted = json!({
        "specversion": "1.0",
        "id": id.as_str(),
        "source": format!("/routes/{}", case.route.name),
        "type": mapped.kind,
        "subject": format!("{}/{}", case.route.provider, mapped.subject),
        "time": time.to_string(),
        "sequence": "7",
        "datacontenttype": "application/json",
        "dataschema": SCHEMA_ID,
        "data": data,
    });
    let mut wrong = Vec::new();
    if whole != wanted {
        wrong.push(format!(
            "the CloudEvent is not what was mapped: {whole:#}, not {wanted:#}"
        ));
    }
    if event.close_json(7).contains(&b'\n') {
        wrong.push("the event is not one line".to_owned());
    }
    wrong
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
    let cases: Vec<_> = all().collect();
    let verdicts = |signature: &str| -> Vec<&str> {
        let has = |case: &&Case| case.webhook.headers.iter().any(|(_, value)| value.contains(signature));
        cases.iter().filter(has).map(verdict).collect()
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
    let cases: Vec<_> = all().collect();
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
        let below = case.webhook.target.strip_prefix(&*case.route.path).unwrap_or_default();
        let url = format!("http://{}/{}{below}", gateway.address(), case.route.name);
        let method = reqwest::Method::from_bytes(case.webhook.method.as_bytes()).expect("it is a method");
        let mut request = client.request(method, url).body(case.webhook.body.clone());
        for (name, value) in case
            .webhook
            .headers
            .iter()
            .filter(|(name, _)| !matches!(&**name, "host" | "content-length"))
        {
            request = request.header(name, value);
        }
        let response = request.send().await.expect("it is answered");
        let status = response.status().as_u16();
        let body = response.text().await.expect("the answer is whole");

        let expected = case.expected.as_ref().expect("it has been blessed");
        let answered: Value = serde_json::from_str(&body).unwrap_or_default();
        let events = expected["events"].as_array().into_iter().flatten();
        let ids: Vec<Value> = events
            .enumerate()
            .map(|(at, event)| match event["id"].as_str().unwrap_or_default() {
                // A test from a console counts each time it is sent, and this one is sent now.
                id if id.contains(&RECEIVED_AT.as_millisecond().to_string()) => answered["accepted"][at].clone(),
                id => EventId::derive(&case.route.name, id).as_str().into(),
            })
            .collect();
        let (wanted_status, wanted_body) = match verdict(case) {
            "rejected" if expected["kind"] == "unsupported" => (415, None),
            "rejected" => (401, Some(json!({ "error": "not authentic" }))),
            "respond" => (expected["status"].as_u64().unwrap_or_default() as u16, None),
            _ => (200, Some(json!({ "accepted": ids }))),
        };
        if status != wanted_status || wanted_body.is_some_and(|wanted| wanted != answered) {
            failures += &format!("\n{}: {status} {body}, not {wanted_status}", case.name);
        }
    }
    let quarantined = cases.iter().filter(|case| verdict(case) == "quarantined").count();
    let counts = gateway.store().history().counts().await.expect("the store answers");
    gateway.stop().await;
    assert!(failures.is_empty(), "{failures}");
    assert_eq!(counts.quarantined, quarantined as u64);
}

#[tokio::test]
async fn plugins_have_cases() {
    let host = Host::new(&Limits::default());
    let plugins = built_in(&host).await;
    let with_cases: BTreeSet<_> = PROVIDERS.map(str::to_owned).into();
    let built_in: BTreeSet<_> = plugins.keys().cloned().collect();
    assert_eq!(built_in, with_cases);
    for (name, plugin) in plugins {
        assert_eq!(plugin.descriptor.provider, name);
    }
}
