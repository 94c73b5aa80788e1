//! What becomes of a webhook: which member names the event, and what goes into the event's data, held against its schema.

mod block;
mod leaf;
mod place;

use callfeed_description::{Becomes, Mapping, Node, Rule, SUBJECTS, Source, Text, family};

pub(super) use self::place::pointer;
use self::{
    block::{get, inner, object_members, set_start},
    leaf::{Shape, leaf},
    place::{Scope, closest_first, pattern},
};
use crate::{
    config::{
        check::data_path::EVENT,
        raw::{Table, Value, join, nearest, quote},
    },
    event,
};

pub(super) fn read(t: &mut Table<'_>) -> Option<Mapping<'static>> {
    let mut scope = Scope::default();
    let event = t
        .require(
            "event",
            "name the member that names the event, such as event = \"/event\"",
        )
        .and_then(|value| scope.place(&value));
    let types_path = t.path_of("types");
    let types = t
        .require(
            "types",
            "write what becomes of which event, such as types = { \"call.ended\" = \"call.completed\" }",
        )
        .and_then(|value| types(&value));
    let id = t.take("id").map(|value| {
        let parts = value.items_or_one();
        all(parts.iter().map(|value| scope.place(value)))
    });
    let has_id = id.is_some();
    let occurred_at = t.take("occurred_at").map(|value| leaf(value, &Shape::Time, &mut scope));
    let test = t.take("test").map(|value| leaf(value, &Shape::Boolean, &mut scope));
    let data_path = t.path_of("data");
    let data = t.take("data").map(|value| {
        let mut members = object_members(&value, &EVENT, &mut scope)?;
        set_start(&mut members, value.report(), value.path());
        Some(members)
    });

    let report = t.report();
    let (types, members) = (types?, or_nothing(data)?);
    let has = |block: &str, member: &str| inner(&members, block).is_some_and(|inner| get(inner, member).is_some());
    let becomes = |wanted: fn(&Becomes<'_>) -> bool| types.iter().any(|(_, becomes)| wanted(becomes));
    if becomes(|becomes| *becomes == Becomes::ByOutcome) && !has("call", "outcome") {
        let message = "has by-outcome, and data does not say the outcome";
        report.problem(&types_path, message, "add call.outcome to data, or name a type");
    }
    let events = || {
        types
            .iter()
            .filter_map(|(native, becomes)| Some((&**native, kind_of(becomes)?)))
    };
    for block in SUBJECTS {
        let is_const = |rule: &Rule<'_>| matches!(rule.source, Source::Const(_));
        if let Some(Node::Leaf(leaf)) = inner(&members, block).and_then(|inner| get(inner, "id"))
            && leaf.rules.iter().any(is_const)
        {
            let path = format!("{data_path}.{block}.id");
            report.problem(
                &path,
                "would be the same for all",
                "take it from the webhook, with a pointer",
            );
        }
    }
    if events().next().is_some() && !SUBJECTS.iter().any(|block| has(block, "id")) {
        let message = "does not say what an event is about";
        report.absent(&data_path, message, "add call.id, or the id of another block");
    } else if !has_id {
        // Events of one name and of one thing count as one.
        for (native, kind) in events() {
            let block = family(kind);
            let apart = format!(
                "say with id what tells them apart, such as an id of the event's own, or [\"/event\", \"/{block}/id\", \"/time\"]"
            );
            let path = join(&types_path, native);
            if may_repeat(kind) {
                let message =
                    format!("is {kind}, of which a {block} can have several, and only the first would be kept");
                report.problem(&path, message, apart);
            } else if !has(block, "id") {
                let message = format!("is {kind}, and data has no {block}.id to tell one from the next");
                report.problem(&path, message, format!("add {block}.id to data, or {apart}"));
            }
        }
    }
    let order = scope.order();
    Some(Mapping {
        event: event?,
        id: or_nothing(id)?,
        types,
        occurred_at: occurred_at.map_or(Some(None), |leaf| leaf.map(Some))?,
        test: test.map_or(Some(None), |leaf| leaf.map(Some))?,
        members,
        pointers: scope.pointers,
        order,
    })
}

/// The type of the events that come of it, where they say more than that there was one.
fn kind_of<'b>(becomes: &'b Becomes<'_>) -> Option<&'b str> {
    match becomes {
        Becomes::Type(kind) => Some(&**kind).filter(|kind| *kind != "provider.other"),
        // Any end of a call.
        Becomes::ByOutcome => Some("call.completed"),
        Becomes::Ignored => None,
    }
}

/// Whether the same can happen to the same again.
fn may_repeat(kind: &str) -> bool {
    matches!(kind, "call.transcript" | "call.transferred") || family(kind) == "campaign"
}

fn types(value: &Value<'_>) -> Option<Vec<(Text<'static>, Becomes<'static>)>> {
    let entries = value.entries()?.into_iter();
    let types = entries.map(|(native, value)| Some((pattern(native, &value)?, becomes(&value)?)));
    let mut types = all(types)?;
    closest_first(&mut types);
    Some(types)
}

fn becomes(value: &Value<'_>) -> Option<Becomes<'static>> {
    match value.text()? {
        "ignore" => Some(Becomes::Ignored),
        "by-outcome" => Some(Becomes::ByOutcome),
        kind if event::TYPES.contains(&kind) => Some(Becomes::Type(kind.into())),
        other => {
            let remedy = match nearest(other, event::TYPES.into_iter()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("there are {}, by-outcome and ignore", event::TYPES.join(", ")),
            };
            value.problem(format!("{} is no type of event", quote(other)), remedy);
            None
        }
    }
}

/// All of them, read to the end so that everything wrong is said.
fn all<T>(read: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    read.collect::<Vec<_>>().into_iter().collect()
}

/// A key that is not there stands for nothing; one that could not be read refuses the whole.
fn or_nothing<T: Default>(read: Option<Option<T>>) -> Option<T> {
    read.unwrap_or_else(|| Some(T::default()))
}
