//! The same again: the same webhook says the same, and the same event is known by the same id.

use std::collections::BTreeMap;

use jiff::ToSpan as _;

use super::{Accepted, Answer, Check, Exam, Ready, said};
use crate::{
    event::RawWebhook,
    kit::{answer::difference, mutation},
    plugin::Conditions,
};

/// Random numbers and clocks of the second and the third time.
const NOISES: [u64; 2] = [0x5851_f42d_4c95_7f2d, 3_600_000_000_001];

pub(super) async fn output(exam: &mut Exam<'_>, all: &[Ready<'_>]) {
    let check = Check::SameOutput;
    let mut mapped = 0_usize;
    for (at, ready) in all.iter().enumerate() {
        exam.step(check, at, all.len());
        let name = &ready.case.name;
        for noise in NOISES {
            let conditions = Conditions {
                noise,
                ..Conditions::default()
            };
            let again = exam.run(&ready.grant, ready.request.clone(), conditions).await;
            if again.json() != ready.answer.json() || again.to_string() != ready.answer.to_string() {
                let difference = difference(&ready.answer.json(), &again.json());
                let what = format!(
                    "{name}: with other random numbers and clocks it says something else (- first, + second)\n{difference}"
                );
                exam.fail(check, what, Some(&ready.case.webhook));
                break;
            }
            // What is on record is mapped alone, in an instance that has checked nothing.
            let Some(accepted) = ready.accepted() else { continue };
            mapped += 1;
            let alone = exam.stand.try_mapping(
                &ready.grant,
                ready.request.clone(),
                &accepted.form,
                accepted.payload.clone(),
                conditions,
            );
            let (alone, usage) = alone.await;
            exam.note(usage);
            let (first, second) = (events(&ready.answer), events(&alone));
            if first != second {
                let what = format!(
                    "{name}: mapped alone, as a webhook from the record is, it says something else ({alone}; - first, + alone)\n{}",
                    difference(&first, &second)
                );
                exam.fail(check, what, Some(&ready.case.webhook));
                break;
            }
        }
    }
    if !all.is_empty() {
        exam.tried(
            check,
            format!(
                "{} cases {} times more, {mapped} of them mapped alone",
                all.len(),
                NOISES.len()
            ),
        );
    }
}

/// The events of an answer, without what the check of a signature says beside them.
fn events(answer: &Answer) -> serde_json::Value {
    said(answer)["events"].take()
}

pub(super) async fn ids(exam: &mut Exam<'_>, all: &[Ready<'_>]) {
    let check = Check::SameId;
    let mut tried = 0_usize;
    let mut known: BTreeMap<String, (&str, String, String)> = BTreeMap::new();
    for (at, ready) in all.iter().enumerate() {
        exam.step(check, at, all.len());
        let Some(accepted) = ready.accepted() else { continue };
        if !ready.case.is_oddity() {
            for event in &accepted.mapped {
                let (kind, subject) = (&event.kind, &event.subject);
                let first = known.entry(event.id.clone());
                let (case, first_kind, first_subject) =
                    first.or_insert_with(|| (&ready.case.name, kind.clone(), subject.clone()));
                if kind != first_kind || subject != first_subject {
                    let what = format!(
                        "{} and {case} are different events ({kind} about {subject}, {first_kind} about {first_subject}) and \
                         have the same id {:?}: the second would be dropped as a duplicate",
                        ready.case.name, event.id
                    );
                    exam.fail(check, what, None);
                }
            }
        }
        let later = RawWebhook {
            received_at: ready.case.webhook.received_at + (7 * 24).hours(),
            peer: Some("203.0.113.7".to_owned()),
            ..ready.case.webhook.clone()
        };
        // Checks of age would refuse it, and it was authentic: the mapping alone decides.
        if let Ok(request) = ready.case.request_of(&later, &ready.grant.headers) {
            let mapping = exam.stand.try_mapping(
                &ready.grant,
                request,
                &accepted.form,
                accepted.payload.clone(),
                Conditions::default(),
            );
            let (answer, usage) = mapping.await;
            exam.note(usage);
            tried += 1;
            compare(exam, ready, accepted, &answer, "received a week later", &later);
        }
        let syntax = mutation::Syntax::of(&ready.case.webhook.body, ready.case.is_form());
        if let Some(reworded) = mutation::reworded(&ready.case.webhook.body, syntax) {
            let webhook = RawWebhook {
                body: reworded.into(),
                ..ready.case.webhook.clone()
            };
            let believing = Conditions {
                believing: true,
                ..Conditions::default()
            };
            let answer = exam.run_changed(ready, &ready.grant, &webhook, believing).await;
            // What verify itself does not take in this form has no id to compare.
            if let Some(answer @ Answer::Accepted(_)) = answer {
                tried += 1;
                compare(
                    exam,
                    ready,
                    accepted,
                    &answer,
                    "written with other spaces or escapes",
                    &webhook,
                );
            }
        }
    }
    match tried {
        0 => exam.not_applicable(check, "no case becomes an event"),
        _ => exam.tried(check, format!("{tried} webhooks sent again")),
    }
}

/// A test from a console may count each time it is sent.
fn compare(exam: &mut Exam<'_>, ready: &Ready<'_>, first: &Accepted, again: &Answer, how: &str, webhook: &RawWebhook) {
    let identity = |accepted: &Accepted| {
        let real = accepted.mapped.iter().filter(|event| !event.test);
        real.map(|event| format!("{} {:?}", event.kind, event.id))
            .collect::<Vec<_>>()
    };
    let name = &ready.case.name;
    let what = match again {
        Answer::Accepted(again) if identity(again) == identity(first) => return,
        Answer::Accepted(again) => format!(
            "{name}: {how}, the same event has another id: {} became {}",
            identity(first).join(", "),
            identity(again).join(", ")
        ),
        other => format!("{name}: {how}, the answer is {other}"),
    };
    exam.fail(Check::SameId, what, Some(webhook));
}
