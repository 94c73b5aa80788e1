//! What is made of a body: everything, validly, whatever it is, and within bounds.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Accepted, Answer, Check, Exam, Ready};
use crate::{
    event::RawWebhook,
    kit::{
        case::Case,
        leaves::{self, Body},
        mutation::{self, Dice, Syntax},
    },
    plugin::{Conditions, Request},
};

/// Shorter secrets may be in a body by chance.
const SECRET_BYTES_MIN: usize = 8;

const BELIEVING: Conditions = Conditions {
    believing: true,
    noise: 0,
};

/// What the cases lost, repeated or made that is no event.
pub(super) fn of_cases(exam: &mut Exam<'_>, all: &[Ready<'_>]) {
    let (mut read, mut accepted_cases) = (0_usize, 0_usize);
    for ready in all {
        if let Answer::Invalid { what, .. } = &ready.answer {
            let what = format!("{}: {what}", ready.case.name);
            exam.fail(Check::ValidEvents, what, Some(&ready.case.webhook));
        }
        let Some(accepted) = ready.accepted() else { continue };
        accepted_cases += 1;
        if let Some(lost) = lost(ready.case, &ready.request, accepted) {
            read += 1;
            for leaf in lost {
                let what = format!("{}: not found in its events: {leaf}", ready.case.name);
                exam.fail(Check::NothingLost, what, Some(&ready.case.webhook));
            }
        }
        for (name, value) in secrets(ready.case) {
            let events = accepted.mapped.iter().any(|event| {
                [&event.data, &event.id, &event.subject]
                    .iter()
                    .any(|text| text.contains(value))
            });
            let reply = accepted.reply.as_ref().is_some_and(|reply| {
                let mut windows = reply.body.windows(value.len());
                windows.any(|window| window == value.as_bytes())
            });
            if events || reply {
                let what = format!("{}: what is made of it repeats the secret {name:?}", ready.case.name);
                exam.fail(Check::NoSecrets, what, None);
            }
        }
    }
    if accepted_cases == 0 {
        for check in [
            Check::NothingLost,
            Check::NoSecrets,
            Check::ValidEvents,
            Check::OddBodies,
        ] {
            exam.not_applicable(check, "no case becomes an event");
        }
        return;
    }
    exam.tried(Check::NoSecrets, format!("{accepted_cases} cases"));
    match read {
        0 => exam.not_applicable(Check::NothingLost, "no case has a body of JSON or of form fields"),
        _ => exam.tried(Check::NothingLost, format!("{read} cases")),
    }
}

/// The scalars that the events do not have; `None` for a body that is neither JSON nor a form.
fn lost(case: &Case, request: &Request, accepted: &Accepted) -> Option<Vec<String>> {
    let secrets: Vec<&str> = secrets(case).map(|(_, value)| value).collect();
    if !request.form.is_empty() {
        return Some(leaves::lost(Body::Form(&request.form), &secrets, &accepted.mapped));
    }
    // Of a body that is a signed token, what it says is its payload.
    let parse = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
    let body = parse(&request.body).or_else(|| parse(accepted.payload.as_ref()?.as_bytes()))?;
    Some(leaves::lost(Body::Json(&body), &secrets, &accepted.mapped))
}

/// Whether what presents itself in the body of a case is in the changed one, too: what stands in its place is taken for it.
fn keeps_tokens(case: &Case, changed: &[u8]) -> bool {
    let within = |body: &[u8], token: &str| body.windows(token.len()).any(|window| window == token.as_bytes());
    secrets(case).all(|(_, token)| within(changed, token) || !within(&case.webhook.body, token))
}

fn secrets(case: &Case) -> impl Iterator<Item = (&str, &str)> {
    let all = case.route.secrets.iter();
    all.flat_map(|(name, values)| {
        let texts = values
            .iter()
            .filter_map(|value| std::str::from_utf8(value.expose()).ok());
        texts.map(move |text| (name.as_str(), text))
    })
    .filter(|(_, text)| text.len() >= SECRET_BYTES_MIN)
}

/// Thousands of bodies that no provider sends, each with the check of its signature answered with yes.
pub(super) async fn of_odd_bodies(exam: &mut Exam<'_>, all: &[Ready<'_>]) {
    let accepted: Vec<&Ready<'_>> = all.iter().filter(|ready| ready.accepted().is_some()).collect();
    // The samples say most of what a provider says; the oddities the rest.
    let samples: Vec<&Ready<'_>> = accepted
        .iter()
        .filter(|ready| !ready.case.is_oddity())
        .copied()
        .collect();
    if accepted.is_empty() {
        return;
    }
    let mut dice = Dice::new(exam.options.seed);
    let mut endings: BTreeMap<&str, usize> = BTreeMap::new();
    let mut read = 0_usize;
    for count in 0..exam.options.mutations {
        if count % 64 == 0 {
            exam.step(Check::OddBodies, count, exam.options.mutations);
        }
        let from = if samples.is_empty() || dice.below(3) == 0 {
            &accepted
        } else {
            &samples
        };
        let ready = *dice.one_of(from);
        let case = ready.case;
        let syntax = Syntax::of(&case.webhook.body, case.is_form());
        let (how, body) = mutation::mutate(&case.webhook.body, syntax, &mut dice);
        let webhook = RawWebhook {
            body: body.into(),
            ..case.webhook.clone()
        };
        let Ok(request) = case.request_of(&webhook, &ready.grant.headers) else {
            continue;
        };
        let answer = exam.run(&ready.grant, request.clone(), BELIEVING).await;
        let told = || format!("{} with {how}", case.name);
        let ending = match &answer {
            Answer::Accepted(accepted) => {
                if let Some(lost) = lost(case, &request, accepted).filter(|_| keeps_tokens(case, &request.body)) {
                    read += 1;
                    if let Some(leaf) = lost.first() {
                        let what = format!("{}: not found in its events: {leaf}", told());
                        exam.fail(Check::NothingLost, what, Some(&webhook));
                    }
                }
                "events"
            }
            Answer::Invalid { what, .. } => {
                exam.fail(Check::ValidEvents, format!("{}: {what}", told()), Some(&webhook));
                "invalid"
            }
            Answer::Stopped { what, .. } => {
                exam.fail(Check::OddBodies, format!("{}: {what}", told()), Some(&webhook));
                "stopped"
            }
            Answer::Misconfigured(what) => {
                exam.fail(Check::OddBodies, format!("{}: {what}", told()), Some(&webhook));
                "misconfigured"
            }
            Answer::Ignored { .. } => "ignored",
            Answer::Respond(_) => "answered",
            Answer::Quarantined(_) => "refused by the mapping",
            Answer::Rejected(_) => "refused by the check",
            Answer::Busy => "busy",
        };
        *endings.entry(ending).or_default() += 1;
    }
    let counts: Vec<_> = endings
        .iter()
        .map(|(ending, count)| format!("{count} {ending}"))
        .collect();
    let tried = format!(
        "{} odd bodies, seed {}: {}",
        exam.options.mutations,
        exam.options.seed,
        counts.join(", ")
    );
    exam.tried(Check::ValidEvents, format!("{} cases, {tried}", accepted.len()));
    exam.tried(Check::OddBodies, tried);
    if read > 0 {
        let cases = exam.ledger.entry(Check::NothingLost).or_default().tried.take();
        let cases = cases.unwrap_or_else(|| "no case".to_owned());
        exam.tried(Check::NothingLost, format!("{cases}, {read} odd bodies"));
    }
}

/// The largest bodies that the plugin and a gateway let in.
pub(super) async fn of_large_bodies(exam: &mut Exam<'_>, all: &[Ready<'_>]) {
    let bytes = exam.plugin.descriptor.body_bytes_max.min(exam.options.body_bytes_max);
    let samples: Vec<&Ready<'_>> = all
        .iter()
        .filter(|ready| ready.accepted().is_some() && !ready.case.is_oddity())
        .collect();
    for (at, ready) in samples.iter().enumerate() {
        exam.step(Check::Bounds, at, samples.len());
        let case = ready.case;
        let syntax = Syntax::of(&case.webhook.body, case.is_form());
        for (how, body) in mutation::grown(&case.webhook.body, syntax, bytes) {
            let webhook = RawWebhook {
                body: body.into(),
                ..case.webhook.clone()
            };
            let answer = exam.run_changed(ready, &ready.grant, &webhook, BELIEVING).await;
            if let Some(Answer::Stopped { what, .. }) = answer {
                let what = format!("{} with {how}, {} bytes: {what}", case.name, webhook.body.len());
                exam.fail(Check::Bounds, what, None);
            }
        }
    }
    if exam.report.calls > 0 {
        let report = &exam.report;
        let (milliseconds, mebibytes) = (
            report.time_max.as_secs_f64() * 1e3,
            report.memory_bytes_max as f64 / 1048576.0,
        );
        let what = format!(
            "{} calls, bodies up to {bytes} bytes; a call took at most {milliseconds:.1} ms of processor time and {mebibytes:.1} MiB",
            report.calls
        );
        exam.tried(Check::Bounds, what);
    }
}
