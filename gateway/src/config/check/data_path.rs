//! Paths of members of an event's data, checked against its schema.

use std::sync::LazyLock;

use serde_json::Value;

use crate::{config::raw::nearest, inbound::SCHEMA};

pub(super) static EVENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(SCHEMA).expect("a test parses the embedded schema"));

/// What is wrong with a path, and what to do about it.
pub(super) struct Wrong {
    pub(super) what: String,
    pub(super) remedy: String,
}

/// A member that an event can do without.
pub(super) fn droppable(path: &[String]) -> Result<(), Wrong> {
    let (parent, _) = find(path)?;
    let last = path.last().map(String::as_str).unwrap_or_default();
    let required = parent["required"].as_array().into_iter().flatten();
    if required.into_iter().any(|name| name == last) {
        return Err(Wrong {
            what: "is in every event of its kind".to_owned(),
            remedy: "mask it, or drop all that it is in".to_owned(),
        });
    }
    Ok(())
}

/// A text of which nothing follows: not a time, not one of a few words.
pub(super) fn maskable(path: &[String]) -> Result<(), Wrong> {
    let (_, Some(member)) = find(path)? else {
        return Ok(());
    };
    let is_text = match &member["type"] {
        Value::String(kind) => kind == "string",
        Value::Array(kinds) => kinds.iter().any(|kind| kind == "string"),
        _ => false,
    };
    let is_number = member["pattern"].as_str().is_some_and(|pattern| pattern.contains('*'));
    if is_text && (member["pattern"].is_null() || is_number) && path != ["provider"] {
        return Ok(());
    }
    Err(Wrong {
        what: "is no text that can be masked".to_owned(),
        remedy: "drop it, or name a text such as call.from.number".to_owned(),
    })
}

/// The schemas of the object that a path ends in and of the member it names, where that one is described.
fn find(path: &[String]) -> Result<(&'static Value, Option<&'static Value>), Wrong> {
    let mut object = &*EVENT;
    let mut member = None;
    for name in path {
        object = resolve(member.unwrap_or(object));
        let properties = object["properties"].as_object();
        match properties.and_then(|properties| properties.get(name)) {
            Some(found) => member = Some(resolve_reference(found)),
            // Whatever a provider sends.
            None if object["additionalProperties"] == true => return Ok((object, None)),
            None => {
                let known = properties.into_iter().flat_map(|properties| properties.keys());
                let known: Vec<_> = known.map(String::as_str).collect();
                return Err(Wrong {
                    what: "is not in any event".to_owned(),
                    remedy: match nearest(name, known.iter().copied()) {
                        Some(near) => format!("instead of {name:?}, did you mean {near:?}?"),
                        None => format!("instead of {name:?}, name one of {}", known.join(", ")),
                    },
                });
            }
        }
    }
    Ok((object, member))
}

/// The object, where a path goes on: a list stands for each of its items.
fn resolve(schema: &'static Value) -> &'static Value {
    let schema = resolve_reference(schema);
    match schema.get("items") {
        Some(items) => resolve_reference(items),
        None => schema,
    }
}

pub(super) fn resolve_reference(schema: &'static Value) -> &'static Value {
    match schema["$ref"]
        .as_str()
        .and_then(|reference| reference.strip_prefix('#'))
    {
        Some(pointer) => EVENT.pointer(pointer).expect("a test compiles the embedded schema"),
        None => schema,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Vec<String> {
        text.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn what_an_event_can_do_without_is_dropped() {
        for text in [
            "call",
            "call.transcript",
            "call.transcript.at",
            "call.summary",
            "call.from",
            "call.from.name",
            "extra",
            "extra.visitor.utm",
            "call.extracted.anything",
            "lead.phone",
        ] {
            assert!(droppable(&path(text)).is_ok(), "{text}");
        }
        for text in [
            "provider",
            "call.id",
            "call.from.number",
            "call.transcript.text",
            "call.form",
            "cal",
            "",
            "call.",
        ] {
            assert!(droppable(&path(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn texts_and_numbers_are_masked() {
        for text in [
            "call.from.number",
            "call.to.raw",
            "call.transcript.text",
            "lead.phone.number",
            "email.from",
            "extra.phone",
        ] {
            assert!(maskable(&path(text)).is_ok(), "{text}");
        }
        for text in [
            "call",
            "call.from",
            "call.direction",
            "call.started_at",
            "call.duration_seconds",
            "provider",
            "call.transcript",
        ] {
            assert!(maskable(&path(text)).is_err(), "{text}");
        }
        assert_eq!(
            maskable(&path("call.form.number")).err().unwrap().remedy,
            "instead of \"form\", did you mean \"from\"?"
        );
    }
}
