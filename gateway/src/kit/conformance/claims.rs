//! What a plugin and its cases say of themselves.

use hyper::header::HeaderName;

use super::{Case, Check, Exam, Ready, grant_of, said};
use crate::{
    kit::answer::{compared, difference},
    plugin::{Conditions, Descriptor},
};

pub(super) fn loads(exam: &mut Exam<'_>) {
    let plugin = exam.plugin;
    exam.tried(
        Check::Loads,
        format!("{}, serving {}", plugin.contract, plugin.descriptor.provider),
    );
    let wasi = plugin.imports.iter().filter(|name| name.starts_with("wasi:")).count();
    let own = plugin.imports.len() - wasi;
    let stubs = match wasi {
        0 => String::new(),
        _ => format!("; {wasi} of wasi, which are answered with constants or end the call"),
    };
    exam.tried(Check::Imports, format!("{own} interfaces of the contract{stubs}"));
}

pub(super) async fn describe(exam: &mut Exam<'_>) {
    const TIMES: u64 = 4;
    if exam.plugin.is_described() {
        exam.not_applicable(Check::Describe, "a [[provider]] is its description");
        return;
    }
    for time in 1..=TIMES {
        let conditions = Conditions {
            noise: time.wrapping_mul(exam.options.seed.wrapping_mul(0x0123_4567_89ab)) | 1,
            ..Conditions::default()
        };
        let what = match exam.stand.runtime.describe_again(exam.plugin, conditions).await {
            Ok(again) if again == exam.plugin.descriptor => continue,
            Ok(again) => format!(
                "with another clock and other random numbers it describes itself differently: {}",
                changed(&exam.plugin.descriptor, &again)
            ),
            Err(error) => format!("asked once more, {error}"),
        };
        exam.fail(Check::Describe, what, None);
        break;
    }
    exam.tried(Check::Describe, format!("asked {TIMES} times more"));
}

/// The lines in which two descriptions differ.
fn changed(one: &Descriptor, other: &Descriptor) -> String {
    let (one, other) = (format!("{one:#?}"), format!("{other:#?}"));
    let differing = one.lines().zip(other.lines()).find(|(one, other)| one != other);
    let (one, other) = differing.unwrap_or(("", "more or fewer members"));
    format!("{} became {}", one.trim(), other.trim())
}

/// Runs every case, and compares.
pub(super) async fn cases<'c>(exam: &mut Exam<'_>, cases: &'c [Case]) -> Vec<Ready<'c>> {
    let (cases, left_out): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case.is_of(exam.plugin));
    let left_out = match left_out.len() {
        0 => String::new(),
        count => format!("; {count} more have options, and a [[provider]] has none"),
    };
    let mut all = Vec::with_capacity(cases.len());
    for (at, case) in cases.iter().copied().enumerate() {
        exam.step(Check::Cases, at, cases.len());
        let grant = match case.grant(exam.plugin) {
            Ok(grant) => grant,
            Err(problems) => {
                exam.fail(
                    Check::Cases,
                    format!("{}: its route does not fit: {problems}", case.name),
                    None,
                );
                continue;
            }
        };
        let request = match case.request(&grant) {
            Ok(request) => request,
            Err(what) => {
                exam.fail(Check::Cases, format!("{}: {what}", case.name), None);
                continue;
            }
        };
        let answer = exam.run(&grant, request.clone(), Conditions::default()).await;
        let answered = compared(&answer.json(), exam.plugin);
        match case.expected.as_ref().map(|expected| compared(expected, exam.plugin)) {
            None => exam.fail(
                Check::Cases,
                format!("{}: there is no expected.json; --bless writes it", case.name),
                None,
            ),
            Some(expected) if expected != answered => {
                let difference = difference(&expected, &answered);
                exam.fail(
                    Check::Cases,
                    format!("{}: - expected, + answered ({answer})\n{difference}", case.name),
                    None,
                );
            }
            Some(_) => {}
        }
        let mut proven = None;
        if answer.is_authentic() {
            let mut route = case.route.clone();
            route.allow_unsigned = false;
            if let Ok(strict) = grant_of(exam.plugin, &route) {
                let strict_answer = exam.run(&strict, request.clone(), Conditions::default()).await;
                proven = strict_answer.is_authentic().then_some(strict);
            }
        }
        all.push(Ready {
            case,
            grant,
            request,
            answer,
            proven,
        });
    }
    if cases.is_empty() {
        exam.fail(Check::Cases, format!("there is no case{left_out}"), None);
    }
    exam.tried(Check::Cases, format!("{} cases{left_out}", cases.len()));
    all
}

pub(super) fn every_event(exam: &mut Exam<'_>, all: &[Ready<'_>]) {
    let specs = &exam.plugin.descriptor.events;
    let mut missing = Vec::new();
    for spec in specs {
        let native = |name: &str| match spec.native.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => name == spec.native,
        };
        let events = all
            .iter()
            .filter_map(Ready::accepted)
            .flat_map(|accepted| &accepted.mapped);
        let mut of_type = events.filter(|event| event.kind == spec.unified);
        let occurs = of_type.any(|event| {
            let data: serde_json::Value = serde_json::from_str(&event.data).unwrap_or_default();
            native(data["provider_event"].as_str().unwrap_or_default())
        });
        if !occurs {
            missing.push(format!(
                "{} as {} is declared, and no case becomes it",
                spec.native, spec.unified
            ));
        }
    }
    exam.tried(Check::EveryEvent, format!("{} declared events", specs.len()));
    for what in missing {
        exam.fail(Check::EveryEvent, what, None);
    }
}

/// A header that is read without being declared never arrives in a gateway; one that is declared and changes nothing is
/// either not read or, if the provider signs it, not checked.
pub(super) async fn headers(exam: &mut Exam<'_>, all: &[Ready<'_>]) {
    let mut with_all = 0;
    for (at, ready) in all.iter().enumerate() {
        exam.step(Check::Headers, at, all.len());
        let mut names: Vec<HeaderName> = ready.grant.headers.clone();
        let sent = ready.case.webhook.headers.iter();
        names.extend(sent.filter_map(|(name, _)| HeaderName::try_from(name.as_str()).ok()));
        names.dedup();
        let undeclared: Vec<_> = names
            .iter()
            .filter(|name| !ready.grant.headers.contains(name))
            .map(HeaderName::as_str)
            .collect();
        if undeclared.is_empty() {
            continue;
        }
        let Ok(request) = ready.case.request_of(&ready.case.webhook, &names) else {
            continue;
        };
        with_all += 1;
        let answer = exam.run(&ready.grant, request, Conditions::default()).await;
        if said(&answer) != said(&ready.answer) {
            let what = format!(
                "{}: it reads a header that it does not declare, one of {}: with it the answer is {answer}, and a gateway \
                 does not pass it on",
                ready.case.name,
                undeclared.join(", ")
            );
            exam.fail(Check::Headers, what, Some(&ready.case.webhook));
        }
    }

    let declared: Vec<String> = exam.plugin.descriptor.headers.clone();
    let fixed: Vec<&String> = declared.iter().filter(|name| !name.starts_with("option:")).collect();
    for name in &fixed {
        let with: Vec<_> = all
            .iter()
            .filter(|ready| ready.answer.is_authentic() && ready.case.signs(name))
            .filter(|ready| ready.request.headers.iter().any(|(known, _)| known == *name))
            .collect();
        let mut matters = with.is_empty();
        for ready in with {
            matters |= has_effect(exam, ready, name).await;
            if matters {
                break;
            }
        }
        if !matters {
            let what = format!(
                "{name} is declared, and no case comes out differently when it is changed or missing: if the provider signs \
                 it, it must be part of what is checked; if it is one of several and another one counted, name it under not_signed in \
                 route.toml; else do not declare it"
            );
            exam.fail(Check::Headers, what, None);
        }
    }
    exam.tried(
        Check::Headers,
        format!(
            "{with_all} cases with all their headers, {} declared headers",
            fixed.len()
        ),
    );
}

/// Whether a case comes out differently without a header, with another value or with one that reads like it: a time with
/// its digits turned round is still a time.
async fn has_effect(exam: &mut Exam<'_>, ready: &Ready<'_>, name: &str) -> bool {
    for how in 0..3 {
        let mut request = ready.request.clone();
        request.headers.retain(|(known, _)| known != name || how > 0);
        for (_, value) in request.headers.iter_mut().filter(|(known, _)| known == name) {
            *value = match how {
                1 => "x".to_owned(),
                _ => value.chars().rev().collect(),
            };
        }
        let answer = exam.run(&ready.grant, request, Conditions::default()).await;
        if said(&answer) != said(&ready.answer) {
            return true;
        }
    }
    false
}
