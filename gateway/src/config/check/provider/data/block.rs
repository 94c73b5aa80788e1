//! The blocks of an event, their lists, and what either cannot do without, down to single values.

use callfeed_description::{Conversion, Items, Leaf, List, Node, Rule, Source, Text};
use serde_json::Value as Json;

use super::{
    all,
    leaf::{Shape, leaf},
    or_nothing,
    place::Scope,
};
use crate::config::{
    check::data_path::{EVENT, resolve_reference},
    raw::{Report, Value, nearest},
};

/// Members of the data that no provider says.
const OURS: [&str; 6] = [
    "provider",
    "provider_event",
    "test",
    "time_is_received",
    "corrects",
    "extra",
];
/// A party is read whole: its number comes with what was sent.
const RAW: &str = "raw";
const UNKNOWN: &str = "unknown";

pub(super) type Members = Vec<(Text<'static>, Node<'static>)>;

fn node(value: Value<'_>, schema: &'static Json, scope: &mut Scope) -> Option<Node<'static>> {
    let schema = resolve_reference(schema);
    if let Some(items) = schema.get("items") {
        let items = resolve_reference(items);
        let lists = value.items_or_one();
        let lists = lists.into_iter().map(|value| list(value, items, scope));
        return all(lists).map(Node::List);
    }
    if schema["properties"].is_object() {
        return object(value, schema, scope);
    }
    leaf(value, &Shape::of(schema), scope).map(Node::Leaf)
}

/// Either its members, or a rule for the one it cannot do without: `call.from = "/caller"`.
fn object(value: Value<'_>, schema: &'static Json, scope: &mut Scope) -> Option<Node<'static>> {
    let needed: Vec<_> = required(schema).filter(|name| *name != RAW).collect();
    let members = match needed[..] {
        // A block is more than its id.
        [head] if head != "id" && !has_members(&value) => {
            let inner = &schema["properties"][head];
            let node = node(value, inner, scope)?;
            vec![(Text::from(head), node)]
        }
        _ => object_members(&value, schema, scope)?,
    };
    Some(Node::Object {
        required: required(schema).map(Text::from).collect(),
        members,
    })
}

fn has_members(value: &Value<'_>) -> bool {
    let is_rule = |key: &str| matches!(key, "pointer" | "const");
    value.is_table()
        && value
            .entries()
            .is_none_or(|entries| !entries.iter().any(|(key, _)| is_rule(key)))
}

fn required(schema: &'static Json) -> impl Iterator<Item = &'static str> {
    schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Json::as_str)
}

pub(super) fn object_members(value: &Value<'_>, schema: &'static Json, scope: &mut Scope) -> Option<Members> {
    let properties = schema["properties"].as_object()?;
    let is_event = std::ptr::eq(schema, &*EVENT);
    let mut members = Members::new();
    let mut all_read = true;
    for (name, value) in value.entries()? {
        let problem = |what: &str, remedy: String| value.problem(what, remedy);
        if name == RAW && properties.contains_key(RAW) {
            problem(
                "comes with the number",
                "remove it, and write number = \"/…\"".to_owned(),
            );
            all_read = false;
            continue;
        }
        if is_event && OURS.contains(&name) {
            let remedy = if name == "test" {
                "write test = \"/…\" beside event".to_owned()
            } else {
                "remove it".to_owned()
            };
            problem("is the gateway's to say", remedy);
            all_read = false;
            continue;
        }
        let Some(inner) = properties.get(name) else {
            let known = || {
                properties
                    .keys()
                    .map(String::as_str)
                    .filter(|name| !(is_event && OURS.contains(name)))
            };
            let remedy = match nearest(name, known()) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("there are {}", known().collect::<Vec<_>>().join(", ")),
            };
            problem("is not in any event", remedy);
            all_read = false;
            continue;
        };
        match node(value, inner, scope) {
            Some(node) => members.push((name.into(), node)),
            None => all_read = false,
        }
    }
    for name in required(schema).filter(|name| *name != RAW && !is_event) {
        let Shape::Words(words) = Shape::of(resolve_reference(&properties[name])) else {
            if all_read && get(&members, name).is_none() {
                let message = format!("has no {name}, without which it is in no event");
                value.absent(message, format!("add {name}"));
                all_read = false;
            }
            continue;
        };
        if words.contains(&UNKNOWN) {
            may_be_unknown(&mut members, name);
        } else if all_read && get(&members, name).is_none() {
            let message = format!("has no {name}, without which it is in no event");
            let remedy = format!("add {name}, such as {name} = {{ const = {:?} }}", words[0]);
            value.absent(message, remedy);
            all_read = false;
        }
    }
    all_read.then_some(members)
}

/// What every event has to say, and a webhook may not, is unknown then.
fn may_be_unknown(members: &mut Members, name: &str) {
    let unknown = Rule {
        source: Source::Const(UNKNOWN.into()),
        conversion: Conversion::Word,
        when: Vec::new(),
        values: Vec::new(),
    };
    match members.iter_mut().find(|(known, _)| &**known == name) {
        Some((_, Node::Leaf(leaf))) => leaf.rules.push(unknown),
        Some(_) => {}
        None => members.push((
            name.into(),
            Node::Leaf(Leaf {
                words: Vec::new(),
                rules: vec![unknown],
            }),
        )),
    }
}

fn list(value: Value<'_>, items: &'static Json, scope: &mut Scope) -> Option<List<'static>> {
    let speakers = items["properties"].get("speaker").map(resolve_reference);
    value.table_like("provider[].data.list", |t| {
        let each = t.take("each").map(|value| scope.place(&value));
        let item = t.take("item").map(|value| {
            let mut inner = Scope {
                is_item: true,
                ..Scope::default()
            };
            let Node::Object { required, members } = object(value, items, &mut inner)? else {
                return None;
            };
            Some(Items::Each {
                order: inner.order(),
                pointers: inner.pointers,
                required,
                members,
                start: None,
            })
        });
        let pointer = t.take("pointer").map(|value| scope.place(&value));
        let labels = t.take("labels").map(|value| {
            let Some(speakers) = speakers else {
                value.problem("is for transcripts only", "write each and item");
                return None;
            };
            let shape = Shape::of(speakers);
            let labels = value.entries()?.into_iter();
            let labels = labels.map(|(label, value)| Some((Text::from(label), shape.written(&value)?)));
            let mut labels = all(labels)?;
            labels.sort_by_key(|(label, _)| usize::MAX - label.len());
            Some(Items::Labels(labels))
        });
        let when = t.take("when").map(|value| scope.conditions(&value));
        let (pointer, items) = match (each, item, pointer, labels) {
            (Some(each), Some(item), None, None) => (each?, item?),
            (None, None, Some(pointer), Some(labels)) => (pointer?, labels?),
            _ => {
                let remedy = "write { each = \"/list\", item = { … } }, or { pointer = \"/text\", labels = { … } } of a \
                              transcript that is one text";
                t.report().problem(t.path(), "does not say what the list is made of", remedy);
                return None;
            }
        };
        Some(List {
            pointer,
            when: or_nothing(when)?,
            items,
        })
    })?
}

pub(super) fn get<'m>(members: &'m [(Text<'static>, Node<'static>)], name: &str) -> Option<&'m Node<'static>> {
    members.iter().find(|(known, _)| &**known == name).map(|(_, node)| node)
}

pub(super) fn inner<'m>(members: &'m Members, block: &str) -> Option<&'m Members> {
    match get(members, block)? {
        Node::Object { members, .. } => Some(members),
        _ => None,
    }
}

/// Times that are relative to the beginning of a call need to know when that was.
pub(super) fn set_start(members: &mut Members, report: &Report, path: &str) {
    let is_relative = |node: &Node<'_>| match node {
        Node::Leaf(leaf) => leaf
            .rules
            .iter()
            .any(|rule| matches!(rule.conversion, Conversion::IntoCall(_))),
        _ => false,
    };
    for (block, node) in members {
        let Node::Object { members, .. } = node else { continue };
        let began = match get(members, "started_at") {
            Some(Node::Leaf(leaf)) => Some(leaf.clone()),
            _ => None,
        };
        for (name, node) in members {
            let Node::List(lists) = node else { continue };
            for list in lists {
                let Items::Each { members, start, .. } = &mut list.items else {
                    continue;
                };
                if !members.iter().any(|(_, node)| is_relative(node)) {
                    continue;
                }
                if began.is_none() {
                    let path = format!("{path}.{}.{}", &**block, &**name);
                    let message = "has times that are relative to the beginning, which is not said";
                    report.problem(&path, message, format!("add {}.started_at", &**block));
                }
                start.clone_from(&began);
            }
        }
    }
}
