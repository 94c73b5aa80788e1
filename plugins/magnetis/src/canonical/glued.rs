//! What may be believed of a message in which keys and values of every depth are glued together.
//!
//! `{"id":"call-1","missed":true}` and `{"id":"call-1missed1"}` have the same recursive message. So such a message is
//! believed only for a document of the vendor's known keys, in which no value spells a key that could follow it: then
//! the message can be taken apart in one way. A document beyond that is refused, forged or not.

use super::{Index, ascending, php, tree::Tree};

/// The shape of a value.
enum Shape {
    /// Anything that is not nested, or an empty list, which PHP prints for nothing.
    Leaf,
    /// A leaf that begins like this. Keys may be short, and this is what tells an id from a word with the letters `id`.
    Id(&'static [&'static str]),
    /// A boolean: `null` would print like `false`.
    Flag,
    /// An object of some of these keys, or nothing.
    Object(&'static [(&'static str, Shape)]),
    /// A list of objects that have all of these keys.
    List(&'static [(&'static str, Shape)]),
}

use Shape::{Flag, Id, Leaf, List, Object};

type Keys = &'static [(&'static str, Shape)];

const ACCOUNT: Keys = &[("id", Id(&["acc-"])), ("name", Leaf)];

const STEPS: Keys = &[("date", Leaf), ("name", Leaf), ("value", Leaf)];

const PARAMETERS: Keys = &[("key", Leaf), ("value", Leaf)];

const VISITOR: Keys = &[
    ("3rdparty", Leaf),
    ("condition_name", Leaf),
    ("condition_type", Leaf),
    ("custom_cookies", Leaf),
    ("custom_local_storage", Leaf),
    ("custom_params", Leaf),
    ("ga", Leaf),
    ("gclid", Leaf),
    ("msclkid", Leaf),
    ("utm", List(PARAMETERS)),
    ("valuetrack", Leaf),
];

const CALL: Keys = &[
    ("account", Object(ACCOUNT)),
    ("calling_country", Leaf),
    ("calling_number", Leaf),
    ("calling_type", Leaf),
    ("channel_name", Leaf),
    ("channel_type", Leaf),
    ("date", Leaf),
    ("duration", Leaf),
    ("end_status", Leaf),
    ("events", List(STEPS)),
    ("firsttime_caller", Flag),
    ("flow_status", Leaf),
    ("google_ads_extension", Leaf),
    ("id", Id(&["call-"])),
    ("missed", Flag),
    ("number_id", Id(&["num-"])),
    ("pool_id", Leaf),
    ("recipient_number", Leaf),
    ("tracked_country", Leaf),
    ("tracked_number", Leaf),
    ("tracked_type", Leaf),
    ("visitor", Object(VISITOR)),
    ("voice_duration", Leaf),
];

const EMAIL: Keys = &[
    ("account", Object(ACCOUNT)),
    ("channel_name", Leaf),
    ("channel_type", Leaf),
    ("date", Leaf),
    ("from", Leaf),
    ("id", Id(&["email-"])),
    ("subject", Leaf),
    ("to", Leaf),
    ("visitor", Object(VISITOR)),
];

const LEAD: Keys = &[
    ("account", Object(ACCOUNT)),
    ("channel_name", Leaf),
    ("channel_type", Leaf),
    ("date", Leaf),
    ("id", Id(&["lead-"])),
    ("source_id", Leaf),
    ("source_type", Leaf),
    ("visitor", Object(VISITOR)),
];

const LEGACY: Keys = &[
    ("accountname", Leaf),
    ("callingnumber", Leaf),
    ("channelname", Leaf),
    ("date", Leaf),
    ("duration", Leaf),
    ("idcall", Leaf),
    ("missed", Flag),
    ("recipientnumber", Leaf),
    ("trackednumber", Leaf),
];

/// How keys and values are glued.
#[derive(Clone, Copy)]
pub(super) enum Glue {
    /// Every key by itself.
    Keys(Index),
    /// The whole path before a value, `data[account][id]`.
    Paths,
}

/// Whether the message that these variables give can be taken apart in one way only.
pub(super) fn check(variables: &[(&str, &Tree)], glue: Glue) -> Result<(), String> {
    let of = |key| variables.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
    let (root, keys, id_key) = match (of("calltracking_event"), of("data"), of("event")) {
        (Some(root), None, None) => (root, LEGACY, "idcall"),
        (None, Some(root), Some(Tree::Text(event))) => (root, resource(event, root)?, "id"),
        _ => return Err("other variables than calltracking_event, or data and event".to_owned()),
    };
    let Tree::Object(entries) = root else {
        return Err("the variables are not nested".to_owned());
    };
    if !entries.iter().any(|(key, _)| key == id_key) {
        return Err(format!("{id_key} is missing"));
    }
    let mut reading = Reading {
        glue,
        text: String::new(),
        leaves: Vec::new(),
    };
    reading.object(entries, keys, &[])?;
    reading.verdict()
}

/// The keys of what an event is about. No name holds the word `event`, so that in a message the last one is the key.
fn resource(event: &str, data: &Tree) -> Result<Keys, String> {
    let id = match data {
        Tree::Object(entries) => entries.iter().find(|(key, _)| key == "id"),
        _ => None,
    };
    let of_prefix = |prefix: &str| matches!(id, Some((_, Tree::Text(id))) if id.starts_with(prefix));
    match event {
        "call:ringing" | "call:completed" | "call:missed" => Ok(CALL),
        "email:received" => Ok(EMAIL),
        "lead:created" => Ok(LEAD),
        "test" if of_prefix("email-") => Ok(EMAIL),
        "test" if of_prefix("lead-") => Ok(LEAD),
        "test" => Ok(CALL),
        _ => Err("event is not a documented name".to_owned()),
    }
}

/// The message under `data` as it grows, and where its values are.
struct Reading {
    glue: Glue,
    text: String,
    leaves: Vec<Spelled>,
}

/// A value's place in the message, and what could follow it there.
struct Spelled {
    start: usize,
    end: usize,
    next: Vec<String>,
}

impl Reading {
    fn object(&mut self, entries: &[(String, Tree)], keys: Keys, outer: &[String]) -> Result<(), String> {
        for at in ascending(entries.iter().map(|(key, _)| key.as_str())) {
            let (key, value) = &entries[at];
            let Some((_, shape)) = keys.iter().find(|(known, _)| known == key) else {
                return Err(format!("a key of {} bytes is not documented", key.len()));
            };
            let later = keys.iter().filter(|(known, _)| *known > key.as_str());
            let next: Vec<String> = later
                .flat_map(|(known, shape)| tokens(known, shape))
                .chain(outer.iter().cloned())
                .collect();
            self.text.push_str(key);
            self.value(key, value, shape, next)?;
        }
        Ok(())
    }

    fn value(&mut self, key: &str, value: &Tree, shape: &Shape, next: Vec<String>) -> Result<(), String> {
        match (shape, value) {
            (Object(keys), Tree::Object(entries)) => self.object(entries, keys, &next),
            (List(keys), Tree::List(items)) if !items.is_empty() => {
                for (at, item) in items.iter().enumerate() {
                    let Tree::Object(entries) = item else {
                        return Err(format!("an item of {key} is not an object"));
                    };
                    if entries.len() != keys.len() {
                        return Err(format!("an item of {key} has not all of its keys"));
                    }
                    let (index, following) = match self.glue {
                        Glue::Keys(Index::Kept) => (at.to_string(), (at + 1).to_string()),
                        Glue::Keys(Index::Dropped) | Glue::Paths => (String::new(), String::new()),
                    };
                    self.text.push_str(&index);
                    let another = keys.first().map(|(first, _)| format!("{following}{first}"));
                    let next: Vec<String> = another.into_iter().chain(next.iter().cloned()).collect();
                    self.object(entries, keys, &next)?;
                }
                Ok(())
            }
            (_, Tree::List(items)) if items.is_empty() => Ok(()),
            (_, Tree::List(_) | Tree::Object(_)) => Err(format!("{key} is nested in a way that is not documented")),
            (Object(_) | List(_), Tree::Null) => Ok(()),
            (Object(_) | List(_), _) => Err(format!("{key} is not nested")),
            (Flag, Tree::Bool(_)) => self.leaf(value, next),
            (Flag, Tree::Text(text)) if matches!(text.as_str(), "" | "0" | "1" | "true" | "false") => {
                self.leaf(value, next)
            }
            (Flag, _) => Err(format!("{key} is not a boolean")),
            (Id(prefixes), value) => {
                let id = php::string(value);
                if !prefixes.iter().any(|prefix| id.starts_with(prefix)) {
                    return Err(format!("{key} is no such id"));
                }
                self.leaf(value, next)
            }
            (Leaf, _) => self.leaf(value, next),
        }
    }

    fn leaf(&mut self, value: &Tree, next: Vec<String>) -> Result<(), String> {
        let text = php::string(value);
        if let Glue::Paths = self.glue {
            // Every path begins in one way, and no step of one can begin a value.
            let spells_path = text.starts_with('[') || text.contains("data[");
            return if spells_path { Err(SPELLED.to_owned()) } else { Ok(()) };
        }
        let start = self.text.len();
        self.text.push_str(&text);
        self.leaves.push(Spelled {
            start,
            end: self.text.len(),
            next,
        });
        Ok(())
    }

    /// A key that begins within a value counts, also where it ends beyond it.
    fn verdict(&self) -> Result<(), String> {
        let is_spelled = |leaf: &Spelled| {
            leaf.next.iter().any(|token| {
                let until = self.text.len().min(leaf.end + token.len() - 1);
                let within = &self.text.as_bytes()[leaf.start..until];
                leaf.start < leaf.end && within.windows(token.len()).any(|window| window == token.as_bytes())
            })
        };
        if self.leaves.iter().any(is_spelled) {
            return Err(SPELLED.to_owned());
        }
        Ok(())
    }
}

const SPELLED: &str = "a value contains a key that could follow it";

/// What a key looks like in a message, as far as it is sure how its value begins.
fn tokens(key: &str, shape: &Shape) -> Vec<String> {
    match shape {
        Id(prefixes) => prefixes.iter().map(|prefix| format!("{key}{prefix}")).collect(),
        Leaf | Flag | Object(_) | List(_) => vec![key.to_owned()],
    }
}
