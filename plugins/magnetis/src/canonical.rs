//! The strings Magnétis may have signed.
//!
//! The vendor says: the URL as entered, then every POST variable sorted by key, key and value appended. That settles flat
//! variables. Today's webhooks are nested JSON, where it can be read in several ways, and nothing public tells which one
//! is right. So each reading is a [`Recipe`] with a name, and the one that fits is reported.
//!
//! Variables go in, messages come out. Which variables may be believed when a message fits is [`Variables::check_shape`].

mod glued;
pub(crate) mod php;
pub mod tree;

use glued::Glue;
use php::Json;
use tree::{Member, Tree};

/// One reading of the vendor's recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipe {
    FormFlat,
    FormTopJson,
    FormRecursive,
    JsonTopSlice,
    JsonTopPhp,
    JsonTopPlain,
    JsonRecursive,
    JsonRecursiveUnindexed,
    JsonBracket,
    UrlRaw,
    Raw,
    ArrayLiteral,
    UrlOnly,
}

/// A message without its URL.
#[derive(Debug, PartialEq, Eq)]
pub enum Message {
    /// The URL, then this text.
    UrlThen(String),
    /// The URL, then the body as received.
    UrlThenBody,
    /// The body as received.
    Body,
}

impl Recipe {
    pub const ALL: [Recipe; 13] = [
        Recipe::FormFlat,
        Recipe::FormTopJson,
        Recipe::FormRecursive,
        Recipe::JsonTopSlice,
        Recipe::JsonTopPhp,
        Recipe::JsonTopPlain,
        Recipe::JsonRecursive,
        Recipe::JsonRecursiveUnindexed,
        Recipe::JsonBracket,
        Recipe::UrlRaw,
        Recipe::Raw,
        Recipe::ArrayLiteral,
        Recipe::UrlOnly,
    ];

    /// The name an operator pins and a log shows.
    pub fn name(self) -> &'static str {
        match self {
            Recipe::FormFlat => "form-flat",
            Recipe::FormTopJson => "form-top-json",
            Recipe::FormRecursive => "form-recursive",
            Recipe::JsonTopSlice => "json-top-slice",
            Recipe::JsonTopPhp => "json-top-php",
            Recipe::JsonTopPlain => "json-top-plain",
            Recipe::JsonRecursive => "json-recursive",
            Recipe::JsonRecursiveUnindexed => "json-recursive-unindexed",
            Recipe::JsonBracket => "json-bracket",
            Recipe::UrlRaw => "url-raw",
            Recipe::Raw => "raw",
            Recipe::ArrayLiteral => "array-literal",
            Recipe::UrlOnly => "url-only",
        }
    }

    pub fn named(name: &str) -> Option<Recipe> {
        Recipe::ALL.into_iter().find(|recipe| recipe.name() == name)
    }

    /// Whether another body would have another message. Where not, one captured signature fits any content.
    pub fn binds_body(self) -> bool {
        !matches!(self, Recipe::ArrayLiteral | Recipe::UrlOnly)
    }

    /// Whether the message is the body itself, so that it cannot mean anything else either.
    pub fn is_verbatim(self) -> bool {
        matches!(self, Recipe::UrlRaw | Recipe::Raw)
    }

    /// What the variables can begin with in a message of theirs.
    pub fn openings(self) -> &'static [&'static str] {
        match self {
            // `data` and its first key, joined.
            Recipe::FormRecursive | Recipe::JsonRecursive | Recipe::JsonRecursiveUnindexed => {
                &["calltracking_event", "data"]
            }
            Recipe::FormFlat
            | Recipe::FormTopJson
            | Recipe::JsonTopSlice
            | Recipe::JsonTopPhp
            | Recipe::JsonTopPlain
            | Recipe::JsonBracket
            // A form as sent; the rest of a JSON document is none.
            | Recipe::UrlRaw => &["calltracking_event", "data[", "data{"],
            // Without the URL, or without the content.
            Recipe::Raw | Recipe::ArrayLiteral | Recipe::UrlOnly => &[],
        }
    }

    /// How keys and values are glued, where it is done at every depth and without marks.
    fn glue(self) -> Option<Glue> {
        match self {
            Recipe::FormRecursive | Recipe::JsonRecursive => Some(Glue::Keys(Index::Kept)),
            Recipe::JsonRecursiveUnindexed => Some(Glue::Keys(Index::Dropped)),
            Recipe::JsonBracket => Some(Glue::Paths),
            Recipe::FormFlat
            | Recipe::FormTopJson
            | Recipe::JsonTopSlice
            | Recipe::JsonTopPhp
            | Recipe::JsonTopPlain
            | Recipe::UrlRaw
            | Recipe::Raw
            | Recipe::ArrayLiteral
            | Recipe::UrlOnly => None,
        }
    }

    /// The message this reading gives for a request; `None` where it does not apply.
    pub fn message(self, variables: &Variables<'_>) -> Option<Message> {
        let text = match (self, variables) {
            (Recipe::UrlRaw, _) => return Some(Message::UrlThenBody),
            (Recipe::Raw, _) => return Some(Message::Body),
            (Recipe::UrlOnly, _) => String::new(),

            (Recipe::FormFlat, Variables::Form { flat, .. }) => ascending(flat.iter().map(|(name, _)| *name))
                .map(|at| flat[at])
                .flat_map(|(name, value)| [name, value])
                .collect(),
            (
                Recipe::FormTopJson,
                Variables::Form {
                    nested: Some(nested), ..
                },
            ) => top(nested
                .iter()
                .map(|(key, value)| (key.as_str(), top_value(value, Json::Default)))),
            (
                Recipe::FormRecursive,
                Variables::Form {
                    nested: Some(nested), ..
                },
            ) => {
                let mut text = String::new();
                recurse_entries(nested, Index::Kept, &mut text);
                text
            }

            (Recipe::JsonTopSlice, Variables::Json(members)) => top(members.iter().map(|member| {
                let value = if member.value.is_nested() {
                    member.text.to_owned()
                } else {
                    php::string(&member.value)
                };
                (member.key.as_str(), value)
            })),
            (Recipe::JsonTopPhp, Variables::Json(members)) => top(members
                .iter()
                .map(|member| (member.key.as_str(), top_value(&member.value, Json::Default)))),
            (Recipe::JsonTopPlain, Variables::Json(members)) => top(members
                .iter()
                .map(|member| (member.key.as_str(), top_value(&member.value, Json::Unescaped)))),
            (Recipe::JsonRecursive, Variables::Json(members)) => recurse_members(members, Index::Kept),
            (Recipe::JsonRecursiveUnindexed, Variables::Json(members)) => recurse_members(members, Index::Dropped),
            (Recipe::JsonBracket, Variables::Json(members)) => {
                let mut leaves = Vec::new();
                for member in members {
                    flatten(member.key.clone(), &member.value, &mut leaves);
                }
                ascending(leaves.iter().map(|(path, _)| path.as_str()))
                    .map(|at| &leaves[at])
                    .flat_map(|(path, leaf)| [path.as_str(), leaf])
                    .collect()
            }

            (
                Recipe::ArrayLiteral,
                Variables::Form {
                    nested: Some(nested), ..
                },
            ) => top(nested.iter().map(|(key, value)| (key.as_str(), php::string(value)))),
            (Recipe::ArrayLiteral, Variables::Json(members)) => top(members
                .iter()
                .map(|member| (member.key.as_str(), php::string(&member.value)))),

            (
                Recipe::FormFlat | Recipe::FormTopJson | Recipe::FormRecursive,
                Variables::Form { .. } | Variables::Json(_) | Variables::Unreadable,
            )
            | (
                Recipe::JsonTopSlice
                | Recipe::JsonTopPhp
                | Recipe::JsonTopPlain
                | Recipe::JsonRecursive
                | Recipe::JsonRecursiveUnindexed
                | Recipe::JsonBracket,
                Variables::Form { .. } | Variables::Unreadable,
            )
            | (Recipe::ArrayLiteral, Variables::Form { .. } | Variables::Unreadable) => return None,
        };
        Some(Message::UrlThen(text))
    }
}

/// The POST variables of a request.
#[derive(Debug)]
pub enum Variables<'a> {
    Form {
        /// As sent, decoded.
        flat: Vec<(&'a str, &'a str)>,
        /// What PHP makes of the brackets in the names, unless some variable would be dropped or replaced.
        nested: Option<Vec<(String, Tree)>>,
    },
    Json(Vec<Member<'a>>),
    /// No form and no JSON object, or one in which a key occurs twice.
    Unreadable,
}

impl<'a> Variables<'a> {
    pub fn of_form(flat: Vec<(&'a str, &'a str)>) -> Self {
        let nested = php::nest(flat.iter().copied());
        Variables::Form { flat, nested }
    }

    pub fn of_json(body: &'a str) -> Self {
        tree::members(body).map_or(Variables::Unreadable, Variables::Json)
    }

    /// Key and value are joined without a separator, so another body can have the same message. This holds a matched
    /// request to the only shapes known, in which the message can be taken apart in one way. Of any other no event is
    /// made.
    pub fn check_shape(&self, recipe: Recipe) -> Result<(), String> {
        match self {
            // The message is the document itself. A form is none: the header that calls the body one is not signed.
            Variables::Json(_) | Variables::Unreadable if recipe.is_verbatim() => Ok(()),
            Variables::Json(members) => {
                check_members(members)?;
                let Some(glue) = recipe.glue() else { return Ok(()) };
                let variables: Vec<_> = members.iter().map(|member| (&*member.key, &member.value)).collect();
                glued::check(&variables, glue)
            }
            Variables::Form {
                flat,
                nested: Some(nested),
            } => {
                check_form(flat, nested)?;
                let Some(glue) = recipe.glue() else { return Ok(()) };
                let variables: Vec<_> = nested.iter().map(|(key, value)| (&**key, value)).collect();
                glued::check(&variables, glue)
            }
            Variables::Form { nested: None, .. } | Variables::Unreadable => {
                Err("the body is neither a form nor a JSON object with every name once".to_owned())
            }
        }
    }
}

fn check_members(members: &[Member<'_>]) -> Result<(), String> {
    if let Some(extra) = members
        .iter()
        .find(|member| !matches!(member.key.as_str(), "data" | "event"))
    {
        return Err(format!(
            "the body has a top-level key of {} bytes beside data and event",
            extra.key.len()
        ));
    }
    let of = |key| {
        members
            .iter()
            .find(|member| member.key == key)
            .map(|member| &member.value)
    };
    if !matches!(of("data"), Some(Tree::Object(_))) {
        return Err("data is not an object".to_owned());
    }
    if !matches!(of("event"), Some(Tree::Text(_))) {
        return Err("event is not a string".to_owned());
    }
    Ok(())
}

/// In a flat message a variable begins with `<root>[`, which no value may spell, and its name ends where the brackets
/// do, so no value may go on with one. `event`, which has no brackets, is what the message ends with.
fn check_form(flat: &[(&str, &str)], nested: &[(String, Tree)]) -> Result<(), String> {
    let mut keys: Vec<&str> = nested.iter().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    let roots: &[&str] = &keys;
    if !matches!(roots, ["calltracking_event"] | ["data", "event"]) {
        return Err("the form has other variables than calltracking_event, or data and event".to_owned());
    }
    if flat.iter().any(|(name, _)| !is_canonical(name)) {
        return Err("a form variable has a name that PHP would change".to_owned());
    }
    for (name, value) in flat {
        if value.starts_with('[') {
            return Err("a form value could go on with its variable's name".to_owned());
        }
        if ROOTS.iter().any(|root| value.contains(&format!("{root}["))) {
            return Err("a form value contains the name of a variable".to_owned());
        }
        if *name == "event" && value.contains("event") {
            return Err("the event's name contains that of its variable".to_owned());
        }
    }
    if roots.contains(&"event") && !flat.iter().any(|(name, _)| *name == "event") {
        return Err("event is not a string".to_owned());
    }
    Ok(())
}

/// The variables a form may have.
const ROOTS: [&str; 3] = ["calltracking_event", "data", "event"];

/// Whether a name is that of a root with steps in brackets and nothing left over.
fn is_canonical(name: &str) -> bool {
    let (root, steps) = name.split_at(name.find('[').unwrap_or(name.len()));
    let is_word = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    };
    let is_steps = |steps: &str| {
        steps
            .strip_prefix('[')
            .and_then(|inside| inside.strip_suffix(']'))
            .is_some_and(|inside| inside.split("][").all(is_word))
    };
    ROOTS.contains(&root) && (steps.is_empty() || is_steps(steps))
}

/// The places of keys in ascending order, where equal ones keep the order sent.
fn ascending<'k>(keys: impl Iterator<Item = &'k str>) -> impl Iterator<Item = usize> {
    let mut places: Vec<(&str, usize)> = keys.zip(0..).collect();
    places.sort_unstable();
    places.into_iter().map(|(_, at)| at)
}

/// The vendor's recipe at the top level: sorted by key, key and value appended.
fn top<'a>(variables: impl Iterator<Item = (&'a str, String)>) -> String {
    let variables: Vec<_> = variables.collect();
    ascending(variables.iter().map(|(key, _)| *key))
        .map(|at| &variables[at])
        .flat_map(|(key, value)| [*key, value])
        .collect()
}

fn top_value(value: &Tree, flags: Json) -> String {
    if value.is_nested() {
        php::json_encode(value, flags)
    } else {
        php::string(value)
    }
}

/// Whether an item of a list is preceded by its index, as by a key.
#[derive(Clone, Copy)]
enum Index {
    Kept,
    Dropped,
}

fn recurse_members(members: &[Member<'_>], index: Index) -> String {
    let mut text = String::new();
    for at in ascending(members.iter().map(|member| member.key.as_str())) {
        let member = &members[at];
        text.push_str(&member.key);
        recurse(&member.value, index, &mut text);
    }
    text
}

fn recurse_entries(entries: &[(String, Tree)], index: Index, text: &mut String) {
    for at in ascending(entries.iter().map(|(key, _)| key.as_str())) {
        let (key, value) = &entries[at];
        text.push_str(key);
        recurse(value, index, text);
    }
}

fn recurse(value: &Tree, index: Index, text: &mut String) {
    match value {
        Tree::Object(entries) => recurse_entries(entries, index, text),
        Tree::List(items) => {
            for (at, item) in items.iter().enumerate() {
                if let Index::Kept = index {
                    text.push_str(&at.to_string());
                }
                recurse(item, index, text);
            }
        }
        Tree::Null | Tree::Bool(_) | Tree::Integer(_) | Tree::Float(_) | Tree::Text(_) => {
            text.push_str(&php::string(value));
        }
    }
}

fn flatten(path: String, value: &Tree, leaves: &mut Vec<(String, String)>) {
    match value {
        Tree::Object(entries) => {
            for (key, item) in entries {
                flatten(format!("{path}[{key}]"), item, leaves);
            }
        }
        Tree::List(items) => {
            for (at, item) in items.iter().enumerate() {
                flatten(format!("{path}[{at}]"), item, leaves);
            }
        }
        Tree::Null | Tree::Bool(_) | Tree::Integer(_) | Tree::Float(_) | Tree::Text(_) => {
            leaves.push((path, php::string(value)));
        }
    }
}

#[cfg(test)]
mod tests;
