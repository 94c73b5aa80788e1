//! Whether everything a webhook says is found again in its events.

use std::collections::HashMap;

use serde_json::Value;

use crate::plugin::MappedEvent;

/// How a body is read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body<'b> {
    Json(&'b Value),
    Form(&'b [(String, String)]),
}

/// The scalars of a body that no event has, as JSON.
///
/// Each place in the events answers for one scalar only. A party's E.164 number answers for none: what was sent is its
/// `raw`. That an event is a test, or is none, answers for a flag that says so: a boolean with `test` in its name at the
/// top of the body. A text may also have become the turns of a transcript. A text with a secret answers for
/// itself: a token is struck out of what is mapped.
pub(super) fn lost(body: Body<'_>, secrets: &[&str], events: &[MappedEvent]) -> Vec<String> {
    let mut found: HashMap<String, usize> = HashMap::new();
    let mut transcripts = Vec::new();
    for event in events {
        let data: Value = serde_json::from_str(&event.data).unwrap_or_default();
        leaves(&data, &mut |leaf| *found.entry(token(leaf)).or_default() += 1);
        for block in ["call", "chat"] {
            let turns = data[block]["transcript"].as_array().into_iter().flatten();
            let texts = turns.filter_map(|turn| turn["text"].as_str());
            transcripts.push(texts.map(str::to_owned).collect::<Vec<_>>());
        }
    }
    let mut sent = Vec::new();
    match body {
        Body::Json(body) => {
            leaves(body, &mut |leaf| sent.push(leaf.clone()));
            if let Some(flag) = test_flag(body).filter(|flag| events.iter().all(|event| event.test == *flag)) {
                *found.entry(token(&flag.into())).or_default() += 1;
            }
        }
        Body::Form(fields) => {
            for (_, value) in fields {
                // A text that happens to be JSON may be kept as a text.
                let whole = Value::from(value.as_str());
                match serde_json::from_str(value) {
                    _ if found.get(&token(&whole)).is_some_and(|count| *count > 0) => sent.push(whole),
                    Ok(value @ (Value::Object(_) | Value::Array(_))) => {
                        leaves(&value, &mut |leaf| sent.push(leaf.clone()));
                    }
                    _ => sent.push(whole),
                }
            }
        }
    }
    sent.retain(|leaf| match found.get_mut(&token(leaf)).filter(|count| **count > 0) {
        Some(count) => {
            *count -= 1;
            false
        }
        None => !leaf.as_str().is_some_and(|text| {
            secrets.iter().any(|secret| text.contains(secret))
                || transcripts.iter().any(|turns| consists_of(text, turns))
        }),
    });
    sent.iter().map(Value::to_string).collect()
}

fn leaves(value: &Value, visit: &mut impl FnMut(&Value)) {
    match value {
        Value::Object(members) => {
            let is_party = members.contains_key("raw");
            let said = members.iter().filter(|(key, _)| !(is_party && *key == "number"));
            said.for_each(|(_, value)| leaves(value, visit));
        }
        Value::Array(items) => items.iter().for_each(|item| leaves(item, visit)),
        scalar => visit(scalar),
    }
}

/// What tells one scalar from another. Numbers are compared as what most parsers make of them, doubles: `2.50` and `2.5`
/// are the same, as are `90.0` and `90`, and `-0.0` and `0`.
fn token(leaf: &Value) -> String {
    leaf.as_f64()
        .map_or_else(|| leaf.to_string(), |number| (number + 0.0).to_string())
}

/// What a body says of being a test, at its top level.
fn test_flag(body: &Value) -> Option<bool> {
    let mut members = body.as_object()?.iter();
    members.find_map(|(key, value)| value.as_bool().filter(|_| key.to_ascii_lowercase().contains("test")))
}

/// Whether a text is these turns in this order, with nothing but blank space and labels (`Agent: `) between.
fn consists_of(text: &str, turns: &[String]) -> bool {
    let mut rest = text;
    for turn in turns {
        let Some((before, after)) = rest.split_once(turn.as_str()) else {
            return false;
        };
        let label = before.trim();
        if !(label.is_empty() || label.ends_with(':') && label.len() <= 20) {
            return false;
        }
        rest = after;
    }
    !turns.is_empty() && rest.trim().is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(test: bool, data: &Value) -> MappedEvent {
        MappedEvent {
            kind: "call.completed".into(),
            id: "1".into(),
            subject: "1".into(),
            occurred_at_ms: None,
            test,
            data: data.to_string(),
        }
    }

    #[test]
    fn a_lost_leaf_is_found() {
        let body =
            json!({ "a": "x", "b": [1.50, true], "c": "Agent: hi\n\nCaller: ho", "d": null, "e": "x", "f": 90.0 });
        let turns = json!([{ "speaker": "agent", "text": "hi" }, { "speaker": "customer", "text": "ho" }]);
        let party = json!({ "number": "x", "raw": "x" });
        let whole = json!({ "call": { "transcript": turns, "from": party },
            "extra": { "b": [1.5, true], "d": null, "e": "x", "f": 90 } });
        assert_eq!(lost(Body::Json(&body), &[], &[event(false, &whole)]), [""; 0]);
        let short = json!({ "call": { "transcript": [turns[0]], "from": party }, "extra": { "b": [1], "f": 90 } });
        assert_eq!(
            lost(Body::Json(&body), &[], &[event(false, &short)]),
            ["1.5", "true", r#""Agent: hi\n\nCaller: ho""#, "null", r#""x""#]
        );
    }

    #[test]
    fn only_a_flag_of_the_body_is_told_by_the_event() {
        let lost = |body: Value, test| lost(Body::Json(&body), &[], &[event(test, &json!({}))]);
        assert_eq!(lost(json!({ "is_test": true }), true), [""; 0]);
        assert_eq!(lost(json!({ "is_test": false }), false), [""; 0]);
        assert_eq!(lost(json!({ "is_test": true }), false), ["true"]);
        assert_eq!(lost(json!({ "missed": false }), false), ["false"]);
        assert_eq!(lost(json!({ "is_test": true, "missed": true }), true), ["true"]);
    }

    #[test]
    fn a_form_is_read_like_json_and_a_secret_is_not_missed() {
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let form = [field("a", r#"{"b":[1]}"#), field("c", "2"), field("token", "hunter2")];
        let events = [event(false, &json!({ "extra": { "b": 1, "c": "2" } }))];
        assert_eq!(lost(Body::Form(&form), &["hunter2"], &events), [""; 0]);
        assert_eq!(lost(Body::Form(&form), &[], &events), [r#""hunter2""#]);
    }
}
