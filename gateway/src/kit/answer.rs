//! What became of a webhook, in the words of an expected file and in one line.

use std::{collections::BTreeSet, fmt};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Accepted;
use crate::plugin::{MappedEvent, Plugin, Rejection, RejectionKind, Reply};

/// What became of a webhook.
#[derive(Debug)]
pub enum Answer {
    Accepted(Accepted),
    /// Authentic and of no interest.
    Ignored {
        form: String,
        reason: String,
    },
    /// A handshake.
    Respond(Reply),
    /// Not authentic.
    Rejected(Rejection),
    /// Authentic, and refused by the plugin.
    Quarantined(Rejection),
    /// Authentic, and mapped to what is no event.
    Invalid {
        mapped: Vec<MappedEvent>,
        what: String,
    },
    /// The plugin trapped, used up a bound or broke the contract.
    Stopped {
        authentic: bool,
        what: String,
    },
    Misconfigured(String),
    Busy,
}

impl Answer {
    /// Whether the gateway would take it for the provider's.
    pub fn is_authentic(&self) -> bool {
        match self {
            Self::Accepted(_) | Self::Ignored { .. } | Self::Quarantined(_) | Self::Invalid { .. } => true,
            Self::Stopped { authentic, .. } => *authentic,
            Self::Respond(_) | Self::Rejected(_) | Self::Misconfigured(_) | Self::Busy => false,
        }
    }

    /// As an `expected.json` has it.
    pub fn json(&self) -> Value {
        match self {
            Self::Accepted(accepted) => {
                let events: Vec<_> = accepted.mapped.iter().map(event_json).collect();
                let mut answer = json!({ "verdict": "accepted", "form": accepted.form, "events": events });
                if let Some(reply) = &accepted.reply {
                    answer["ack"] = reply_json(reply);
                }
                answer
            }
            Self::Ignored { form, reason } => json!({ "verdict": "ignored", "form": form, "reason": reason }),
            Self::Respond(reply) => {
                let mut answer = reply_json(reply);
                answer["verdict"] = "respond".into();
                answer
            }
            Self::Rejected(why) => json!({ "verdict": "rejected", "kind": kind(why), "code": why.code }),
            Self::Quarantined(why) => json!({ "verdict": "quarantined", "kind": kind(why), "code": why.code }),
            Self::Invalid { mapped, what } => {
                let events: Vec<_> = mapped.iter().map(event_json).collect();
                json!({ "verdict": "invalid", "events": events, "what": what })
            }
            Self::Stopped { what, .. } => json!({ "verdict": "stopped", "what": what }),
            Self::Misconfigured(what) => json!({ "verdict": "misconfigured", "what": what }),
            Self::Busy => json!({ "verdict": "busy" }),
        }
    }
}

/// One line: the verdict and its reason.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rejection = |why: &Rejection| format!("{} {}: {}", kind(why), why.code, why.detail);
        match self {
            Self::Accepted(accepted) => write!(f, "accepted {}", accepted.events.len()),
            Self::Ignored { form, reason } => write!(f, "ignored {form} {reason}"),
            Self::Respond(reply) => write!(
                f,
                "respond {} {:?} {}",
                reply.status,
                reply.content_type,
                String::from_utf8_lossy(&reply.body)
            ),
            Self::Rejected(why) => write!(f, "rejected {}", rejection(why)),
            Self::Quarantined(why) => write!(f, "quarantined {}", rejection(why)),
            Self::Invalid { what, .. } => write!(f, "quarantined: {what}"),
            Self::Stopped { authentic: true, what } => write!(f, "quarantined: {what}"),
            Self::Stopped { authentic: false, what } => write!(f, "failed: {what}"),
            Self::Misconfigured(what) => write!(f, "misconfigured: {what}"),
            Self::Busy => f.write_str("busy"),
        }
    }
}

fn event_json(event: &MappedEvent) -> Value {
    json!({
        "kind": event.kind,
        "id": event.id,
        "subject": event.subject,
        "occurred_at": event.occurred_at_ms.map(rfc3339),
        "test": event.test,
        "data": serde_json::from_str::<Value>(&event.data).unwrap_or_else(|_| event.data.clone().into()),
    })
}

fn reply_json(reply: &Reply) -> Value {
    let mut json = json!({ "status": reply.status, "body": String::from_utf8_lossy(&reply.body) });
    if let Some(content_type) = &reply.content_type {
        json["content_type"] = content_type.as_str().into();
    }
    json
}

/// Whole seconds, or all three digits of the milliseconds.
fn rfc3339(ms: u64) -> String {
    let time = i64::try_from(ms)
        .ok()
        .and_then(|ms| Timestamp::from_millisecond(ms).ok());
    match time {
        Some(time) if ms.is_multiple_of(1000) => time.to_string(),
        Some(time) => format!("{time:.3}"),
        None => format!("{ms} ms"),
    }
}

fn kind(rejection: &Rejection) -> &'static str {
    match rejection.kind {
        RejectionKind::Unauthenticated => "unauthenticated",
        RejectionKind::Malformed => "malformed",
        RejectionKind::Unsupported => "unsupported",
    }
}

/// An answer or an expectation as the two are compared. Form, reason and code are what a plugin calls them; of a described
/// provider nobody chose them, so that the cases of a plugin are those of a description, too.
pub(super) fn compared(answer: &Value, plugin: &Plugin) -> Value {
    let mut answer = answer.clone();
    if plugin.is_described()
        && let Some(members) = answer.as_object_mut()
    {
        for own_word in ["form", "reason", "code"] {
            members.remove(own_word);
        }
    }
    answer
}

/// The lines in which two answers differ, with the lines around them: `-` expected, `+` answered.
pub(super) fn difference(expected: &Value, answered: &Value) -> String {
    const AROUND: usize = 2;
    let pretty = |value| serde_json::to_string_pretty(value).expect("a value is JSON");
    let (expected, answered) = (pretty(expected), pretty(answered));
    let lines = aligned(
        &expected.lines().collect::<Vec<_>>(),
        &answered.lines().collect::<Vec<_>>(),
    );
    let changed: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].0 != ' ').collect();
    let mut text = String::new();
    let mut last = None;
    for (at, (mark, line)) in lines.iter().enumerate() {
        let near = changed.partition_point(|changed| *changed + AROUND < at);
        if changed.get(near).is_none_or(|changed| *changed > at + AROUND) {
            continue;
        }
        if last.is_some_and(|last| last + 1 < at) {
            text += "    …\n";
        }
        last = Some(at);
        text += &format!("  {mark} {line}\n");
    }
    text
}

/// The first places in which two answers differ and how many more there are, in one line; `told` makes what may be shown of
/// a value's JSON.
pub(super) fn places(expected: &Value, answered: &Value, told: &dyn Fn(&str) -> String) -> String {
    const TOLD: usize = 3;
    let mut found = Vec::new();
    compare(String::new(), Some(expected), Some(answered), &mut found);
    let shown = |value: Option<&Value>| value.map_or_else(|| "absent".to_owned(), |value| told(&value.to_string()));
    let lines: Vec<_> = found
        .iter()
        .take(TOLD)
        .map(|(place, expected, answered)| format!("{place} is {} instead of {}", shown(*answered), shown(*expected)))
        .collect();
    match found.len().saturating_sub(TOLD) {
        0 => lines.join("; "),
        more => format!("{}; and {more} more", lines.join("; ")),
    }
}

type Place<'v> = (String, Option<&'v Value>, Option<&'v Value>);

fn compare<'v>(place: String, expected: Option<&'v Value>, answered: Option<&'v Value>, found: &mut Vec<Place<'v>>) {
    match (expected, answered) {
        (Some(Value::Object(expected)), Some(Value::Object(answered))) => {
            let names: BTreeSet<_> = expected.keys().chain(answered.keys()).collect();
            for name in names {
                compare(format!("{place}/{name}"), expected.get(name), answered.get(name), found);
            }
        }
        (Some(Value::Array(expected)), Some(Value::Array(answered))) => {
            for at in 0..expected.len().max(answered.len()) {
                compare(format!("{place}/{at}"), expected.get(at), answered.get(at), found);
            }
        }
        (expected, answered) if expected == answered => {}
        (expected, answered) => found.push((place, expected, answered)),
    }
}

/// The longest common subsequence of two texts' lines, and what only one of them has.
fn aligned<'t>(old: &[&'t str], new: &[&'t str]) -> Vec<(char, &'t str)> {
    // What both begin with need not be compared with everything.
    let same = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let (head, old, new) = (&old[..same], &old[same..], &new[same..]);
    let mut longest = vec![vec![0_usize; new.len() + 1]; old.len() + 1];
    for (i, left) in old.iter().enumerate().rev() {
        for (j, right) in new.iter().enumerate().rev() {
            longest[i][j] = match left == right {
                true => longest[i + 1][j + 1] + 1,
                false => longest[i + 1][j].max(longest[i][j + 1]),
            };
        }
    }
    let mut lines: Vec<_> = head.iter().map(|line| (' ', *line)).collect();
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && longest[i + 1][j] >= longest[i][j + 1]) {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_shows_what_is_around_it() {
        let expected = json!({ "a": 1, "b": { "c": [1, 2, 3] }, "d": "x", "e": 1, "f": 1, "g": 1, "h": 1, "i": 1 });
        let mut answered = expected.clone();
        answered["b"]["c"][1] = 7.into();
        answered["i"] = 2.into();
        assert_eq!(
            difference(&expected, &answered),
            "        \"c\": [\n          1,\n  -       2,\n  +       7,\n          3\n        ]\n    …\n      \"g\": 1,\n      \
             \"h\": 1,\n  -   \"i\": 1\n  +   \"i\": 2\n    }\n"
        );
        assert_eq!(difference(&expected, &expected), "");
    }

    #[test]
    fn places_are_told_in_one_line() {
        let expected = json!({ "a": [1, { "b": "x" }], "c": null, "d": 1, "e": 1 });
        let answered = json!({ "a": [1, { "b": "y" }, 2], "c": null, "e": 2, "f": {} });
        let told = |text: &str| text.replace('x', "•••");
        assert_eq!(
            places(&expected, &answered, &told),
            r#"/a/1/b is "y" instead of "•••"; /a/2 is 2 instead of absent; /d is absent instead of 1; and 2 more"#
        );
        assert_eq!(places(&expected, &expected, &told), "");
    }

    #[test]
    fn times_have_no_or_three_digits_of_a_second() {
        assert_eq!(rfc3339(1_780_315_200_000), "2026-06-01T12:00:00Z");
        assert_eq!(rfc3339(1_780_315_200_500), "2026-06-01T12:00:00.500Z");
        assert_eq!(rfc3339(u64::MAX), "18446744073709551615 ms");
    }
}
