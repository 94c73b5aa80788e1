//! Nothing that a provider signed can be changed unnoticed.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;

use super::{Answer, Check, Exam, Ready, places, said};
use crate::{
    event::RawWebhook,
    plugin::{Assurance, Conditions, Grant},
};

/// Of how many bytes in each body or header every bit is changed, and not one only.
const ALL_BITS: usize = 8;
const NONE_PROVEN: &str = "no case is authentic by a signature or a token";

/// The cases that something proves, with their strict routes.
fn proven<'r, 'c>(all: &'r [Ready<'c>]) -> Vec<(&'r Ready<'c>, Arc<Grant>)> {
    let proven = all.iter().filter_map(|ready| Some((ready, ready.proven.clone()?)));
    proven.collect()
}

pub(super) async fn body(exam: &mut Exam<'_>, all: &[Ready<'_>]) {
    let check = Check::BodyForgery;
    let proven = proven(all);
    if proven.is_empty() {
        return exam.not_applicable(check, NONE_PROVEN);
    }
    if exam.assurance() == Assurance::Token {
        return body_tokens(exam, &proven).await;
    }
    let (mut tried, mut signed, mut skipped) = (0_usize, 0_usize, 0_usize);
    let (mut bytes, mut bytes_changed) = (0_usize, 0_usize);
    for (at, (ready, grant)) in proven.iter().enumerate() {
        exam.step(check, at, proven.len());
        if !ready.case.signs("body") {
            skipped += 1;
            continue;
        }
        signed += 1;
        let body = &ready.case.webhook.body;
        bytes += body.len();
        bytes_changed += body.len().min(exam.options.bytes);
        let right = said(&ready.answer);
        for (what, changed) in changes(body, exam.options.bytes, exam.options.seed) {
            let webhook = RawWebhook {
                body: changed.into(),
                ..ready.case.webhook.clone()
            };
            let Some(answer) = exam.run_changed(ready, grant, &webhook, Conditions::default()).await else {
                continue;
            };
            tried += 1;
            // A provider may sign what it means instead of the bytes: then what is meant must be the same.
            // Or the plugin sees that what is signed can be read in two ways, and refuses.
            let derived = exam.assurance() == Assurance::SignedDerived;
            let stands = derived && (said(&answer) == right || matches!(answer, Answer::Quarantined(_)));
            if answer.is_authentic() && !stands {
                let name = &ready.case.name;
                exam.fail(
                    check,
                    format!("{name}: {what} of the body, and the answer is {answer}"),
                    Some(&webhook),
                );
            }
        }
    }
    let skipped = match skipped {
        0 => String::new(),
        count => format!("; {count} cases say that their signature does not cover the body"),
    };
    let strength = match exam.assurance() {
        Assurance::SignedDerived => {
            "; signed-derived: a change that leaves the events as they are may pass, since what the body means is signed"
        }
        _ => "",
    };
    exam.tried(
        check,
        format!("{bytes_changed} of the {bytes} bytes of {signed} bodies, {tried} changes{strength}{skipped}"),
    );
}

/// A token says who sends and nothing of what is sent; where it stands in the body, it must be the right one.
async fn body_tokens(exam: &mut Exam<'_>, proven: &[(&Ready<'_>, Arc<Grant>)]) {
    let check = Check::BodyForgery;
    const REASON: &str = "assurance token: a token shows who sends, and nothing protects what is sent";
    let mut tried = 0;
    for (ready, grant) in proven {
        let body = &ready.case.webhook.body;
        for place in secrets_within(ready, body) {
            let with = |change: &dyn Fn(&mut [u8])| {
                let mut changed = body.to_vec();
                change(&mut changed);
                RawWebhook {
                    body: changed.into(),
                    ..ready.case.webhook.clone()
                }
            };
            // The token may stand in a text as well, where it proves nothing.
            let without = with(&|body| body[place.clone()].fill(b'x'));
            let without = exam.run_changed(ready, grant, &without, Conditions::default()).await;
            if without.is_none_or(|answer| answer.is_authentic()) {
                continue;
            }
            for (at, bit) in place.clone().flat_map(|at| [0, 1, 4].map(|bit| (at, bit))) {
                let webhook = with(&|body| body[at] ^= 1 << bit);
                let answer = exam.run_changed(ready, grant, &webhook, Conditions::default()).await;
                tried += 1;
                if let Some(answer) = answer.filter(Answer::is_authentic) {
                    let name = &ready.case.name;
                    let what =
                        format!("{name}: bit {bit} of byte {at}, in the token, changed, and the answer is {answer}");
                    exam.fail(check, what, Some(&webhook));
                }
            }
        }
    }
    match tried {
        0 => exam.not_applicable(check, REASON),
        _ => exam.tried(check, format!("{tried} changes of the token in the body; {REASON}")),
    }
}

/// Where the route's secrets stand in a text.
fn secrets_within(ready: &Ready<'_>, text: &[u8]) -> Vec<Range<usize>> {
    let secrets = ready.case.route.secrets.iter().flat_map(|(_, values)| values);
    let mut found = Vec::new();
    for secret in secrets {
        let secret = secret.expose();
        if secret.is_empty() {
            continue;
        }
        let windows = text.windows(secret.len()).enumerate();
        let at = windows.filter(|(_, window)| *window == secret).map(|(at, _)| at);
        found.extend(at.map(|at| at..at + secret.len()));
    }
    found
}

/// Every byte changed in one bit, some in every bit, a byte more at either end and a byte less.
fn changes(body: &Bytes, bytes: usize, seed: u64) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut flip = |at: usize, bit: usize| {
        let mut changed = body.to_vec();
        changed[at] ^= 1 << bit;
        all.push((format!("bit {bit} of byte {at} changed"), changed));
    };
    for at in places(body.len(), bytes) {
        flip(at, (at + seed as usize) % 8);
    }
    for at in places(body.len(), ALL_BITS) {
        (0..8).for_each(|bit| flip(at, bit));
    }
    for more in [&b" "[..], b"\n", b"x", b"&x=1", b"\0"] {
        let shown = String::from_utf8_lossy(more);
        all.push((format!("{shown:?} added at the end"), [body, more].concat()));
    }
    all.push(("a space added at the beginning".to_owned(), [b" ", &body[..]].concat()));
    if let Some((_, shorter)) = body.split_last() {
        all.push(("the last byte taken off".to_owned(), shorter.to_vec()));
        all.push(("everything taken off".to_owned(), Vec::new()));
    }
    all
}

pub(super) async fn headers(exam: &mut Exam<'_>, all: &[Ready<'_>]) {
    let check = Check::HeaderForgery;
    let proven = proven(all);
    if proven.is_empty() {
        return exam.not_applicable(check, NONE_PROVEN);
    }
    let (mut tried, mut proving) = (0_usize, 0_usize);
    for (at, (ready, grant)) in proven.iter().enumerate() {
        exam.step(check, at, proven.len());
        let right = said(&ready.answer);
        for position in 0..ready.request.headers.len() {
            let (name, value) = &ready.request.headers[position];
            if !ready.case.signs(name) {
                continue;
            }
            let mut without = ready.request.clone();
            without.headers.remove(position);
            let proves = !exam.run(grant, without, Conditions::default()).await.is_authentic();
            proving += usize::from(proves);
            for (at, bit) in header_bits(value, exam.options.bytes) {
                let mut forged = ready.request.clone();
                let mut bytes = value.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let Ok(changed) = String::from_utf8(bytes) else {
                    continue;
                };
                forged.headers[position].1.clone_from(&changed);
                tried += 1;
                let answer = exam.run(grant, forged, Conditions::default()).await;
                if !answer.is_authentic() {
                    continue;
                }
                let case = &ready.case.name;
                let changed_at = format!(
                    "{case}: bit {bit} of byte {at} of {name} changed to {changed:?}, and the answer is {answer}"
                );
                let what = match (proves, said(&answer) == right) {
                    (true, true) if says_the_same(value, &changed, at) => continue,
                    (true, _) => changed_at,
                    (false, true) => continue,
                    // A token does not sign what stands beside it.
                    (false, false) if exam.assurance() == Assurance::Token => continue,
                    (false, false) => format!(
                        "{changed_at}: the events say what this header says, and the signature does not cover it; if the \
                         provider does not sign it, name it under not_signed in route.toml"
                    ),
                };
                let mut webhook = ready.case.webhook.clone();
                if let Some(header) = webhook
                    .headers
                    .iter_mut()
                    .find(|(known, old)| known == name && old == value)
                {
                    header.1 = changed;
                }
                exam.fail(check, what, Some(&webhook));
            }
        }
    }
    match proving {
        0 => exam.not_applicable(check, "no header proves anything: the proof is in the body or the URL"),
        _ => exam.tried(
            check,
            format!(
                "{tried} changes of headers of {} cases, {proving} of which prove them",
                proven.len()
            ),
        ),
    }
}

/// Bits whose change leaves something that a header may have: for every byte one, for some all.
fn header_bits(value: &str, bytes: usize) -> Vec<(usize, u32)> {
    let visible = |at: usize, bit: u32| (value.as_bytes()[at] ^ (1 << bit)).is_ascii_graphic();
    let mut bits: Vec<_> = places(value.len(), bytes)
        .filter_map(|at| Some((at, (0..8).find(|bit| visible(at, *bit))?)))
        .collect();
    for at in places(value.len(), ALL_BITS) {
        bits.extend((0..8).filter(|bit| visible(at, *bit)).map(|bit| (at, bit)));
    }
    bits.sort_unstable();
    bits.dedup();
    bits
}

/// Whether a change of a header leaves what it says: hexadecimal digits have two cases, and the last digit of base64 has
/// bits that say nothing.
fn says_the_same(value: &str, changed: &str, at: usize) -> bool {
    let of_base64 = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_');
    let (before, after) = (&value.as_bytes()[..at], &value.as_bytes()[at + 1..]);
    let is_last = after
        .iter()
        .find(|byte| **byte != b'=')
        .is_none_or(|byte| !of_base64(byte));
    let digits = before.iter().rev().take_while(|byte| of_base64(byte)).count();
    value.eq_ignore_ascii_case(changed) || (is_last && digits >= 26)
}

pub(super) async fn url(exam: &mut Exam<'_>, all: &[Ready<'_>]) {
    let check = Check::UrlForgery;
    let proven = proven(all);
    if proven.is_empty() {
        return exam.not_applicable(check, NONE_PROVEN);
    }
    let mut tried = 0_usize;
    for (at, (ready, grant)) in proven.iter().enumerate() {
        exam.step(check, at, proven.len());
        if !ready.case.signs("url") {
            continue;
        }
        let right = said(&ready.answer);
        let target = &ready.case.webhook.target;
        // The route's own path, and the slash or question mark behind it, which decide that it is this route.
        let fixed = (ready.case.route.path.len() + 1).min(target.len());
        let tokens: Vec<usize> = secrets_within(ready, target.as_bytes()).into_iter().flatten().collect();
        let mut targets = vec![(
            "a parameter added to the query".to_owned(),
            false,
            match target.contains('?') {
                true => format!("{target}&callfeed=1"),
                false => format!("{target}?callfeed=1"),
            },
        )];
        for at in places(target.len() - fixed, exam.options.bytes).map(|at| at + fixed) {
            let mut bytes = target.clone().into_bytes();
            bytes[at] ^= 1;
            // What cannot stand in a URL never arrives.
            let stands = bytes[at].is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(&bytes[at]);
            if let Some(changed) = String::from_utf8(bytes).ok().filter(|_| stands) {
                targets.push((
                    format!("byte {at} of the target changed"),
                    tokens.contains(&at),
                    changed,
                ));
            }
        }
        for (what, is_token, changed) in targets {
            let webhook = RawWebhook {
                target: changed,
                ..ready.case.webhook.clone()
            };
            let Some(answer) = exam.run_changed(ready, grant, &webhook, Conditions::default()).await else {
                continue;
            };
            tried += 1;
            let differs = exam.assurance() > Assurance::Token && said(&answer) != right;
            if answer.is_authentic() && (is_token || differs) {
                let name = &ready.case.name;
                let target = &webhook.target;
                exam.fail(
                    check,
                    format!("{name}: {what} ({target}), and the answer is {answer}"),
                    Some(&webhook),
                );
            }
        }
    }
    exam.tried(
        check,
        format!("{tried} changes of path and query of {} cases", proven.len()),
    );
}

/// For the other checks: whether a changed route still takes the webhook.
pub(super) fn is_as(answer: &Answer, right: &Answer) -> bool {
    answer.is_authentic() && said(answer) == said(right)
}
