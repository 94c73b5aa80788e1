//! From a body to an event, as the description says.
//!
//! Everything is read before anything is taken: two members may come of one place, and their order makes no difference.
//! What went into the event as it was is then taken out of the body; the rest of it is `extra`.

use std::borrow::Cow;

use callfeed_description::{
    Becomes, Condition, Items, Leaf, List, Mapping, Node, Pointer, SUBJECTS, Source, Text, family, fits,
};
use callfeed_plugin::{
    Event, Outcome, Rejection,
    data::{CallOutcome, Speaker},
    json::{Document, Object, RawValue, Value, Word},
    kind,
};
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    convert::{Json, convert, string, text, written},
    place,
};

pub(crate) fn outcome(mapping: &Mapping<'_>, document: &Document<'_>) -> Result<Outcome, Rejection> {
    let mut body = document.object()?;
    let mut found = vec![None; mapping.pointers.len()];
    for place in &mapping.order {
        found[*place] = place::find(&mut body, &mapping.pointers[*place]);
    }
    let here = Scope {
        found: &found,
        started_at_ms: None,
    };
    let name = found[mapping.event]
        .and_then(text)
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Rejection::malformed("event-missing"))?;
    let becomes = mapping.types.iter().find(|(pattern, _)| fits(pattern, &name));
    let becomes = becomes.map_or(&OTHER, |(_, becomes)| becomes);
    if *becomes == Becomes::Ignored {
        return Ok(Outcome::ignored("event-ignored"));
    }

    let mut taken = Taken::default();
    let data = members(&mapping.members, &[], &here, &mut taken).unwrap_or_default();
    let mut stays = Taken::default();
    let occurred_at = mapping
        .occurred_at
        .as_ref()
        .and_then(|leaf| value(leaf, &here, &mut stays));
    let occurred_at_ms = match occurred_at {
        Some(Json::Time(time)) => Some(time.ms()),
        _ => None,
    };
    let kind = match becomes {
        Becomes::Type(kind) => kind,
        Becomes::ByOutcome => kind::of_ended_call(text_of(&data, "call", "outcome").and_then(CallOutcome::from_word)),
        Becomes::Ignored => kind::PROVIDER_OTHER,
    };
    let is_other = kind == kind::PROVIDER_OTHER;
    // What it is of tells it apart: a call has many messages.
    let own = text_of(&data, family(kind), "id");
    let part = |place: &usize| found[*place].and_then(text).filter(|part| !part.is_empty());
    let parts: Option<Vec<_>> = match &mapping.id[..] {
        [] => own.map(|own| vec![name.clone(), own.into()]),
        places => places.iter().map(part).collect(),
    };
    let id = match parts {
        Some(parts) => joined(parts),
        None if is_other => format!("{name}:{}", document.fingerprint()?),
        None if mapping.id.is_empty() => return Err(Rejection::malformed("subject-missing")),
        None => return Err(Rejection::malformed("id-missing")),
    };
    // The messages of one conversation keep their order.
    let conversation = || text_of(&data, family(kind), "conversation_id");
    let first = || SUBJECTS.iter().find_map(|block| text_of(&data, block, "id"));
    let subject = match conversation().or(own).or_else(first) {
        Some(subject) => subject.to_owned(),
        None if is_other => id.clone(),
        None => return Err(Rejection::malformed("subject-missing")),
    };
    let test = mapping.test.as_ref().and_then(|leaf| value(leaf, &here, &mut stays));
    let data = if is_other {
        taken = Taken::default();
        Vec::new()
    } else {
        data
    };

    let event = Event::new(kind, id, subject).test(matches!(test, Some(Json::Boolean(true))));
    let mut event = match occurred_at_ms {
        Some(ms) => event.at_ms(ms),
        None => event,
    };
    // What is the event's identity and time, or makes it a test, stays readable where it was.
    taken
        .places
        .retain(|place| !stays.places.contains(place) && !mapping.id.contains(place));
    if found[mapping.event].and_then(string).is_some() {
        taken.places.push(mapping.event);
    }
    let mut extra = body;
    taken.remove_from(&mut extra, &mapping.pointers);
    let data = Data {
        provider_event: &name,
        members: &data,
        extra: &extra,
    };
    event.data = serde_json::to_string(&data).expect("the data has string keys and cannot fail to serialize");
    Ok(Outcome::event(event))
}

/// One text of several, from which they can be told again: a colon is escaped in all but the last of them.
fn joined(mut parts: Vec<Cow<'_, str>>) -> String {
    let last = parts.pop().unwrap_or_default();
    let mut id: String = parts
        .iter()
        .map(|part| part.replace('\\', r"\\").replace(':', r"\:") + ":")
        .collect();
    id += &last;
    id
}

const OTHER: Becomes<'static> = Becomes::Type(Text(Cow::Borrowed(kind::PROVIDER_OTHER)));

/// The event's data.
struct Data<'d, 'a> {
    provider_event: &'d str,
    members: &'d [(&'d str, Json<'d>)],
    extra: &'d Object<'a>,
}

impl Serialize for Data<'_, '_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("provider_event", self.provider_event)?;
        for (name, value) in self.members {
            map.serialize_entry(name, value)?;
        }
        if !self.extra.is_empty() {
            map.serialize_entry("extra", self.extra)?;
        }
        map.end()
    }
}

fn text_of<'d>(data: &'d [(&str, Json<'_>)], block: &str, member: &str) -> Option<&'d str> {
    let Json::Object(members) = get(data, block)? else {
        return None;
    };
    match get(members, member)? {
        Json::Text(text) => Some(text),
        _ => None,
    }
}

fn get<'d, 'a>(members: &'d [(&str, Json<'a>)], name: &str) -> Option<&'d Json<'a>> {
    members.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
}

/// What was read of a body, or of an item of one of its lists.
struct Scope<'s, 'a> {
    /// By the number of the pointer.
    found: &'s [Option<&'a RawValue>],
    /// When the call began, for items whose times are relative to it.
    started_at_ms: Option<i64>,
}

impl<'a> Scope<'_, 'a> {
    fn holds(&self, conditions: &[Condition<'_>]) -> bool {
        conditions.iter().all(|(place, patterns)| {
            let text = self.found[*place].and_then(text);
            text.is_some_and(|text| patterns.iter().any(|pattern| fits(pattern, &text)))
        })
    }
}

/// What went into the event as it was.
#[derive(Default)]
struct Taken<'d> {
    places: Vec<usize>,
    /// The places of lists that were gone through: what is left of one is what is left of its items.
    lists: Vec<usize>,
    /// Of an item of a list: the list's place, the item's number, and the place inside of it.
    inside: Vec<(usize, usize, &'d Pointer<'d>)>,
}

impl<'d> Taken<'d> {
    /// Puts back what was taken since there were so many.
    fn put_back(&mut self, [places, lists, inside]: [usize; 3]) {
        self.places.truncate(places);
        self.lists.truncate(lists);
        self.inside.truncate(inside);
    }

    fn count(&self) -> [usize; 3] {
        [self.places.len(), self.lists.len(), self.inside.len()]
    }

    fn remove_from(&self, body: &mut Object<'_>, pointers: &[Pointer<'_>]) {
        for list in &self.lists {
            place::list(body, &pointers[*list]);
        }
        for (list, item, pointer) in &self.inside {
            let list = place::list(body, &pointers[*list]);
            if let Some(item) = list.and_then(|list| list.items().nth(*item)) {
                place::remove_in(item, pointer);
            }
        }
        for place in &self.places {
            place::remove(body, &pointers[*place]);
        }
    }
}

type Members<'d> = Vec<(&'d str, Json<'d>)>;

/// An object's members; `None` when there is none, or one that is required is missing.
fn members<'d>(
    described: &'d [(Text<'d>, Node<'d>)],
    required: &[Text<'_>],
    here: &Scope<'_, 'd>,
    taken: &mut Taken<'d>,
) -> Option<Members<'d>> {
    let before = taken.count();
    let mut made = Members::with_capacity(described.len());
    for (name, node) in described {
        match node {
            Node::Leaf(leaf) => match value(leaf, here, taken) {
                // The number of a party comes with what was sent.
                Some(Json::Object(parts)) => made.extend(parts),
                Some(json) => made.push((name, json)),
                None => {}
            },
            Node::Object {
                required,
                members: inner,
            } => {
                made.extend(members(inner, required, here, taken).map(|inner| (&**name, Json::Object(inner))));
            }
            Node::List(lists) => {
                let list = lists.iter().find_map(|list| items(list, here, taken));
                made.extend(list.map(|list| (&**name, Json::List(list))));
            }
        }
    }
    let has = |name: &str| made.iter().any(|(made, _)| *made == name);
    if made.is_empty() || !required.iter().all(|name| has(name)) {
        taken.put_back(before);
        return None;
    }
    Some(made)
}

fn value<'d>(leaf: &'d Leaf<'d>, here: &Scope<'_, 'd>, taken: &mut Taken<'d>) -> Option<Json<'d>> {
    leaf.rules.iter().find_map(|rule| {
        if !here.holds(&rule.when) {
            return None;
        }
        match &rule.source {
            Source::Const(text) => Some(written(rule.conversion, text)),
            Source::Pointer(place) => {
                let converted = convert(leaf, rule, here.found[*place]?, here.started_at_ms)?;
                if converted.is_whole {
                    taken.places.push(*place);
                }
                Some(converted.json)
            }
        }
    })
}

fn items<'d>(list: &'d List<'d>, here: &Scope<'_, 'd>, taken: &mut Taken<'d>) -> Option<Vec<Json<'d>>> {
    if !here.holds(&list.when) {
        return None;
    }
    let raw = here.found[list.pointer]?;
    match &list.items {
        Items::Each {
            pointers,
            order,
            required,
            members: described,
            start,
        } => {
            let mut value = Value::Raw(raw);
            let sent = value.open_list()?;
            taken.lists.push(list.pointer);
            let start = start.as_ref().and_then(|leaf| value_of_start(leaf, here));
            let mut made = Vec::with_capacity(sent.count());
            for (number, item) in sent.items().enumerate() {
                let mut found = vec![None; pointers.len()];
                for place in order {
                    found[*place] = place::find_in(item, &pointers[*place]);
                }
                let inner = Scope {
                    found: &found,
                    started_at_ms: start,
                };
                let mut taken_here = Taken::default();
                if let Some(members) = members(described, required, &inner, &mut taken_here) {
                    let places = taken_here.places.into_iter();
                    taken
                        .inside
                        .extend(places.map(|place| (list.pointer, number, &pointers[place])));
                    made.push(Json::Object(members));
                }
            }
            Some(made)
        }
        Items::Labels(labels) => {
            let text = string(raw).filter(|text| !text.is_empty())?;
            if are_told_apart(labels) {
                taken.places.push(list.pointer);
            }
            Some(turns(&text, labels))
        }
    }
}

fn value_of_start(leaf: &Leaf<'_>, here: &Scope<'_, '_>) -> Option<i64> {
    match value(leaf, here, &mut Taken::default())? {
        Json::Time(time) => Some(time.ms()),
        _ => None,
    }
}

/// Whether every speaker stands for one label, so that no name is lost. Of a beginning without one nobody is known.
fn are_told_apart(labels: &[(Text<'_>, Text<'_>)]) -> bool {
    let speakers = || labels.iter().map(|(_, speaker)| &**speaker);
    speakers()
        .enumerate()
        .all(|(at, speaker)| speaker != UNKNOWN && !speakers().skip(at + 1).any(|other| other == speaker))
}

/// Divides a text at the lines that begin with a label. Others go on with what was said before; a beginning without a
/// label is said by nobody known.
fn turns<'d>(text: &str, labels: &'d [(Text<'d>, Text<'d>)]) -> Vec<Json<'d>> {
    let mut turns: Vec<(&str, String)> = Vec::new();
    for line in text.split_inclusive('\n') {
        let labelled = labels
            .iter()
            .find_map(|(label, speaker)| Some((&**speaker, line.strip_prefix(&**label)?)));
        match (labelled, turns.last_mut()) {
            (None, Some((_, said))) => said.push_str(line),
            (found, _) => {
                let (speaker, said) = found.unwrap_or((UNKNOWN, line));
                turns.push((speaker, said.to_owned()));
            }
        }
    }
    let turn = |(speaker, mut said): (&'d str, String)| {
        said.truncate(said.trim_end_matches(['\r', '\n']).len());
        Json::Object(vec![
            ("speaker", Json::Text(Cow::Borrowed(speaker))),
            ("text", Json::Text(Cow::Owned(said))),
        ])
    };
    turns.into_iter().map(turn).collect()
}

/// As [`Speaker::Unknown`] is written.
const UNKNOWN: &str = Speaker::WORDS[3];
