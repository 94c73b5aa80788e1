//! The secret is what counts: each of its values during a rotation, and nothing else.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use super::{Check, Exam, Ready, forgery::is_as, grant_of};
use crate::{
    config::{Route, Secret},
    plugin::{Conditions, Descriptor, KeyEncoding},
};

pub(super) async fn rotation(exam: &mut Exam<'_>, all: &[Ready<'_>]) {
    let check = Check::Secrets;
    // Whether a secret counted in any case.
    let mut counts: BTreeMap<String, bool> = BTreeMap::new();
    let mut tried = 0_usize;
    for (at, ready) in all.iter().enumerate() {
        exam.step(check, at, all.len());
        if ready.proven.is_none() {
            continue;
        }
        let name = &ready.case.name;
        let mut route = ready.case.route.clone();
        route.allow_unsigned = false;
        let descriptor = &exam.plugin.descriptor;
        let with = |values: &dyn Fn(&str, &[Secret]) -> Vec<Secret>| Route {
            secrets: route
                .secrets
                .iter()
                .map(|(name, old)| (name.clone(), values(name, old)))
                .collect(),
            ..route.clone()
        };
        let other = |name: &str| other_value(descriptor, name);
        let one = |secret: Secret| vec![secret];
        let rotations = [
            (
                "before another one",
                with(&|name, old| [old.to_vec(), one(other(name))].concat()),
            ),
            (
                "behind another one",
                with(&|name, old| [one(other(name)), old.to_vec()].concat()),
            ),
        ];
        let wrong = [
            ("with other values of the secrets", with(&|name, _| one(other(name)))),
            ("with empty secrets", with(&|_, _| one(Secret::new("")))),
            ("without values of the secrets", with(&|_, _| Vec::new())),
            (
                "without secrets",
                Route {
                    secrets: Vec::new(),
                    ..route.clone()
                },
            ),
        ];
        for (place, route) in rotations {
            let answer = run(exam, ready, &route).await;
            tried += 1;
            if !answer.as_ref().is_some_and(|answer| is_as(answer, &ready.answer)) {
                let answer =
                    answer.map_or_else(|| "that the route does not fit".to_owned(), |answer| answer.to_string());
                exam.fail(
                    check,
                    format!("{name}: with the right value {place} the answer is {answer}"),
                    None,
                );
            }
        }
        for (how, route) in wrong {
            tried += 1;
            // A gateway does not even start with most of these.
            if let Some(answer) = run(exam, ready, &route).await
                && answer.is_authentic()
            {
                exam.fail(
                    check,
                    format!("{name}: {how} the answer is {answer}"),
                    Some(&ready.case.webhook),
                );
            }
        }
        for (changed, _) in &route.secrets {
            if counts.get(changed) == Some(&true) {
                continue;
            }
            let route = with(&|name, old| match name == changed {
                true => one(other(name)),
                false => old.to_vec(),
            });
            let answer = run(exam, ready, &route).await;
            let refused = !answer.is_some_and(|answer| answer.is_authentic());
            *counts.entry(changed.clone()).or_default() |= refused;
            tried += 1;
        }
    }
    for (name, _) in counts.iter().filter(|(_, counts)| !**counts) {
        let what = format!("every case is accepted whatever the value of the secret {name:?} is");
        exam.fail(check, what, None);
    }
    match tried {
        0 => exam.not_applicable(check, "no case is authentic by a secret"),
        _ => exam.tried(check, format!("{tried} routes with changed secrets")),
    }
}

async fn run(exam: &mut Exam<'_>, ready: &Ready<'_>, route: &Route) -> Option<super::Answer> {
    let grant = grant_of(exam.plugin, route).ok()?;
    Some(exam.run(&grant, ready.request.clone(), Conditions::default()).await)
}

/// A value that fits where the secret is entered, and that nobody has.
fn other_value(descriptor: &Descriptor, name: &str) -> Secret {
    const KEY: [u8; 32] = [7; 32];
    let encoding = descriptor.secrets.iter().find(|spec| spec.name == name);
    Secret::new(match encoding.map(|spec| spec.encoding) {
        Some(KeyEncoding::Base64) => BASE64_STANDARD.encode(KEY),
        Some(KeyEncoding::Hex) => KEY.iter().map(|byte| format!("{byte:02x}")).collect(),
        Some(KeyEncoding::StandardWebhooks) => format!("whsec_{}", BASE64_STANDARD.encode(KEY)),
        // An Ed25519 key that is not worn by anybody.
        Some(KeyEncoding::Pem) => {
            "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n\
                                   -----END PUBLIC KEY-----\n"
                .to_owned()
        }
        Some(KeyEncoding::Utf8) | None => "a-value-that-nobody-has".to_owned(),
    })
}
