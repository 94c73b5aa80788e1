//! One value of an event: the rules it is made by, held against what the schema allows of it.

use callfeed_description::{Conversion, Leaf, Moment, Rule, Source, Text};
use serde_json::Value as Json;

use super::{
    all, or_nothing,
    place::{Scope, closest_first, pattern},
};
use crate::config::raw::{Value, quote};

/// What the schema allows of one value.
pub(super) enum Shape {
    Text,
    Words(Vec<&'static str>),
    Time,
    Seconds,
    Party,
    Boolean,
    Count,
    Object,
    Any,
}

impl Shape {
    pub(super) fn of(schema: &'static Json) -> Self {
        if let Some(words) = schema["enum"].as_array() {
            return Self::Words(words.iter().filter_map(Json::as_str).collect());
        }
        match &schema["type"] {
            Json::Array(_) => Self::Party,
            kind => match kind.as_str() {
                // The one pattern of a text that a provider may say.
                Some("string") if schema["pattern"].is_string() => Self::Time,
                Some("string") => Self::Text,
                Some("number") => Self::Seconds,
                Some("integer") => Self::Count,
                Some("boolean") => Self::Boolean,
                Some("object") => Self::Object,
                _ => Self::Any,
            },
        }
    }

    /// What can be made of a value, under the names of `as`; the first unless said.
    fn conversions(&self, is_item: bool) -> Vec<(&'static str, Conversion)> {
        match self {
            Self::Time => {
                let mut times = vec![
                    ("rfc3339", Conversion::Time(Moment::Rfc3339)),
                    ("seconds", Conversion::Time(Moment::Seconds)),
                    ("milliseconds", Conversion::Time(Moment::Milliseconds)),
                ];
                if is_item {
                    times.push(("seconds-into-call", Conversion::IntoCall(1000)));
                    times.push(("milliseconds-into-call", Conversion::IntoCall(1)));
                }
                times
            }
            Self::Seconds => vec![
                ("seconds", Conversion::Duration(1000)),
                ("milliseconds", Conversion::Duration(1)),
                ("minutes", Conversion::Duration(60_000)),
                ("clock", Conversion::Clock),
            ],
            Self::Party => vec![
                ("international", Conversion::Number),
                ("00", Conversion::Number00),
                ("digits", Conversion::NumberDigits),
            ],
            Self::Text => vec![("text", Conversion::Text)],
            Self::Words(_) => vec![("word", Conversion::Word)],
            Self::Boolean => vec![("boolean", Conversion::Boolean)],
            Self::Count => vec![("count", Conversion::Count)],
            Self::Object => vec![("object", Conversion::Object)],
            Self::Any => vec![("any", Conversion::Any)],
        }
    }

    /// A value that a file may write instead of the webhook's.
    pub(super) fn written(&self, value: &Value<'_>) -> Option<Text<'static>> {
        if matches!(self, Self::Boolean) && !value.is_text() {
            return Some(if value.boolean()? { "true" } else { "false" }.into());
        }
        let text = value.text()?;
        let allowed: &[&str] = match self {
            Self::Text => return Some(text.into()),
            Self::Words(words) => words,
            Self::Boolean => &["true", "false"],
            _ => {
                value.problem("cannot be written here", "take it from the webhook, with a pointer");
                return None;
            }
        };
        if !allowed.contains(&text) {
            value.problem(
                format!("{} is not in any event", quote(text)),
                format!("choose one of {}", allowed.join(", ")),
            );
            return None;
        }
        Some(text.into())
    }
}

pub(super) fn leaf(value: Value<'_>, shape: &Shape, scope: &mut Scope) -> Option<Leaf<'static>> {
    let rules = value.items_or_one();
    let rules = rules.into_iter().map(|value| rule(value, shape, scope));
    Some(Leaf {
        rules: all(rules)?,
        words: match shape {
            Shape::Words(words) => words.iter().map(|word| Text::from(*word)).collect(),
            _ => Vec::new(),
        },
    })
}

fn rule(value: Value<'_>, shape: &Shape, scope: &mut Scope) -> Option<Rule<'static>> {
    let conversions = shape.conversions(scope.is_item);
    let plain = conversions[0].1;
    if !value.is_table() {
        return Some(Rule {
            source: Source::Pointer(scope.place(&value)?),
            conversion: plain,
            when: Vec::new(),
            values: Vec::new(),
        });
    }
    value.table_like("provider[].data.rule", |t| {
        let pointer = t.take("pointer").map(|value| scope.place(&value));
        let constant = t.take("const").map(|value| shape.written(&value));
        let conversion = t.take("as").map(|value| {
            let text = value.text()?;
            let found = conversions.iter().find(|(name, _)| *name == text);
            if found.is_none() {
                let known: Vec<_> = conversions.iter().map(|(name, _)| format!("\"{name}\"")).collect();
                value.problem(
                    format!("{} is not how this can be written", quote(text)),
                    format!("choose one of {}", known.join(", ")),
                );
            }
            found.map(|(_, conversion)| *conversion)
        });
        let when = t.take("when").map(|value| scope.conditions(&value));
        let values = t.take("values").map(|value| {
            let entries = value.entries()?.into_iter();
            let entries = entries.map(|(sent, value)| Some((pattern(sent, &value)?, shape.written(&value)?)));
            let mut values = all(entries)?;
            closest_first(&mut values);
            Some(values)
        });
        if constant.is_some() && (conversion.is_some() || values.is_some()) {
            let message = "has const, of which as and values make nothing else";
            t.report().problem(
                t.path(),
                message,
                "write as const what it should be, and remove the others",
            );
        }
        let source = match (pointer, constant) {
            (Some(pointer), None) => Source::Pointer(pointer?),
            (None, Some(constant)) => Source::Const(constant?),
            (Some(_), Some(_)) => {
                let remedy = "keep one; in a list, the first that is there counts";
                t.report().problem(t.path(), "has both pointer and const", remedy);
                return None;
            }
            (None, None) => {
                let remedy = "write pointer = \"/call/id\", for instance, or const = \"…\"";
                t.report().absent(t.path(), "does not say where it comes from", remedy);
                return None;
            }
        };
        Some(Rule {
            source,
            conversion: conversion.unwrap_or(Some(plain))?,
            when: or_nothing(when)?,
            values: or_nothing(values)?,
        })
    })?
}
