//! No byte that a provider signed can be changed unnoticed.

use callfeed::{
    config::Limits,
    plugin::{Assurance, Plugins},
};

use serde_json::{Value, json};

use crate::{
    case::{self, Case},
    cases,
    host::{Ending, Host, cloud_event},
};

/// Up to this length every byte is changed, of longer bodies as many, evenly spread.
const BYTES: usize = 96;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_byte_is_refused() {
    let host = Host::new(&Limits::default());
    let plugins = cases::built_in(&host).await;
    let (tried, failures) = forge(&host, &plugins, case::all()).await;
    assert!(failures.is_empty(), "{failures}");
    assert!(tried > 1000, "only {tried} were tried");
}

/// Changes every byte of what proves these cases. Says how many forgeries that were, and which were taken.
pub(crate) async fn forge(host: &Host, plugins: &Plugins, cases: Vec<Case>) -> (u32, String) {
    let mut failures = String::new();
    let mut tried = 0;
    for case in cases {
        let Some(plugin) = plugins.get(&case.provider) else {
            continue;
        };
        // Options by which an operator takes what the signature does not cover.
        let unbound = case.route.options["allow_unbound"] == true;
        if !case.accepted() || case.route.allow_unsigned || unbound {
            continue;
        }
        let grant = case.grant(plugin).expect("the route fits");
        let request = case.request(&grant);
        let right = mapped(&host.judge(&grant, request.clone()).await).expect("it is accepted as it is");

        // A token says nothing of the body.
        if plugin.descriptor.assurance > Assurance::Token {
            for at in places(case.body.len()) {
                let mut forged = request.clone();
                let mut body = case.body.to_vec();
                body[at] ^= 1;
                forged.form = match request.form.is_empty() {
                    true => Vec::new(),
                    false => form_urlencoded::parse(&body).into_owned().collect(),
                };
                forged.body = body.into();
                tried += 1;
                let Some(events) = mapped(&host.judge(&grant, forged).await) else {
                    continue;
                };
                // A provider may sign what it means instead of the bytes: then what is meant must be the same.
                if plugin.descriptor.assurance == Assurance::SignedBody || events != right {
                    failures += &described(&case, "the body", at);
                }
            }
        }
        for (header, _) in &request.headers {
            let mut without = request.clone();
            without.headers.retain(|(name, _)| name != header);
            if mapped(&host.judge(&grant, without).await).is_some() {
                // Not what proves it.
                continue;
            }
            let position = request
                .headers
                .iter()
                .position(|(name, _)| name == header)
                .expect("it is there");
            for at in 0..request.headers[position].1.len() {
                let mut forged = request.clone();
                let mut value = forged.headers[position].1.clone().into_bytes();
                value[at] ^= 1;
                let Ok(value) = String::from_utf8(value) else { continue };
                forged.headers[position].1 = value;
                tried += 1;
                if mapped(&host.judge(&grant, forged).await).is_some() {
                    failures += &described(&case, header, at);
                }
            }
        }
    }
    (tried, failures)
}

/// What the events say. An empty list or object says nothing: a recipe that signs names and values signs neither the
/// name of a list without items nor that there is one.
fn mapped(ending: &Ending) -> Option<Vec<Value>> {
    fn prune(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.values_mut().for_each(prune);
                members.retain(|_, value| *value != json!([]) && *value != json!({}));
            }
            Value::Array(items) => items.iter_mut().for_each(prune),
            _ => {}
        }
    }
    let Ending::Events { events, .. } = ending else {
        return None;
    };
    let mut events: Vec<_> = events.iter().map(cloud_event).collect();
    events.iter_mut().for_each(prune);
    Some(events)
}

fn places(length: usize) -> impl Iterator<Item = usize> {
    let count = length.min(BYTES);
    (0..count).map(move |n| n * length / count)
}

fn described(case: &Case, what: &str, at: usize) -> String {
    format!("\n{}: byte {at} of {what} can be changed", case.name)
}
