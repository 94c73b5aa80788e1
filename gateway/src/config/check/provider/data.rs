//! What becomes of a webhook: which member names the event, and what goes into the event's data, held against its schema.

use callfeed_description::{
    Becomes, Condition, Conversion, Items, Leaf, List, Mapping, Moment, Node, Pointer, Rule, SUBJECTS, Source, Text,
    family,
};
use serde_json::Value as Json;

use super::super::data_path::{EVENT, resolve_reference};
use crate::{
    config::raw::{Report, Table, Value, join, nearest, quote},
    event,
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

type Members = Vec<(Text<'static>, Node<'static>)>;

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

/// A text, or the beginning of one and `*`.
fn pattern(text: &str, value: &Value<'_>) -> Option<Text<'static>> {
    if text.strip_suffix('*').unwrap_or(text).contains('*') {
        value.problem(
            format!("{} has a * that is not its end", quote(text)),
            "put it at the end",
        );
        return None;
    }
    Some(text.into())
}

/// The first that fits counts: whole texts before beginnings, and long beginnings before short ones.
fn closest_first<T>(patterns: &mut [(Text<'static>, T)]) {
    patterns.sort_by_key(|(pattern, _)| (pattern.ends_with('*'), usize::MAX - pattern.len()));
}

/// A JSON Pointer, RFC 6901.
pub(super) fn pointer(text: &str, value: &Value<'_>) -> Option<Pointer<'static>> {
    let Some(path) = text.strip_prefix('/') else {
        let message = format!("{} is not a JSON pointer", quote(text));
        value.problem(
            message,
            format!("write {}", quote(&format!("/{}", text.replace('.', "/")))),
        );
        return None;
    };
    let segments = path.split('/').map(|segment| {
        let plain = segment.replace("~0", "").replace("~1", "");
        (!plain.contains('~')).then(|| Text::from(&*segment.replace("~1", "/").replace("~0", "~")))
    });
    let segments = segments.collect::<Option<Pointer<'static>>>();
    if segments.is_none() {
        value.problem(
            format!("{} has a ~ that stands for nothing", quote(text)),
            "write ~0 for ~ and ~1 for /",
        );
    }
    segments
}

/// What is read of a webhook, or of an item of one of its lists.
#[derive(Default)]
struct Scope {
    pointers: Vec<Pointer<'static>>,
    is_item: bool,
}

impl Scope {
    fn place(&mut self, value: &Value<'_>) -> Option<usize> {
        self.place_of(value.any_text()?, value)
    }

    fn place_of(&mut self, text: &str, value: &Value<'_>) -> Option<usize> {
        let pointer = match text {
            "" if self.is_item => Pointer::new(),
            _ => pointer(text, value)?,
        };
        let known = self.pointers.iter().position(|known| *known == pointer);
        Some(known.unwrap_or_else(|| {
            self.pointers.push(pointer);
            self.pointers.len() - 1
        }))
    }

    /// Outer places before inner ones.
    fn order(&self) -> Vec<usize> {
        let mut order: Vec<_> = (0..self.pointers.len()).collect();
        order.sort_by_key(|place| self.pointers[*place].len());
        order
    }

    fn conditions(&mut self, value: &Value<'_>) -> Option<Vec<Condition<'static>>> {
        let conditions = value.entries()?.into_iter().map(|(place, value)| {
            let place = self.place_of(place, &value)?;
            let patterns = value.items_or_one();
            let patterns = patterns.iter().map(|value| pattern(value.text()?, value));
            Some((place, all(patterns)?))
        });
        all(conditions)
    }
}

/// What the schema allows of one value.
enum Shape {
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
    fn of(schema: &'static Json) -> Self {
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
    fn written(&self, value: &Value<'_>) -> Option<Text<'static>> {
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

fn leaf(value: Value<'_>, shape: &Shape, scope: &mut Scope) -> Option<Leaf<'static>> {
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

/// A key that is not there stands for nothing; one that could not be read refuses the whole.
fn or_nothing<T: Default>(read: Option<Option<T>>) -> Option<T> {
    read.unwrap_or_else(|| Some(T::default()))
}

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

fn object_members(value: &Value<'_>, schema: &'static Json, scope: &mut Scope) -> Option<Members> {
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

fn get<'m>(members: &'m [(Text<'static>, Node<'static>)], name: &str) -> Option<&'m Node<'static>> {
    members.iter().find(|(known, _)| &**known == name).map(|(_, node)| node)
}

fn inner<'m>(members: &'m Members, block: &str) -> Option<&'m Members> {
    match get(members, block)? {
        Node::Object { members, .. } => Some(members),
        _ => None,
    }
}

/// Times that are relative to the beginning of a call need to know when that was.
fn set_start(members: &mut Members, report: &Report, path: &str) {
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
