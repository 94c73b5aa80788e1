//! Reading JSON so that nothing of it is lost.
//!
//! A body is opened as a [`Document`] and read through its [`Object`]s. *Taking* a member removes it; *peeking* reads
//! it and leaves it. Whatever is left when the mapping is done, an object serializes in the shape the body had: that
//! is the event's `extra`. A mapping therefore cannot lose a member by forgetting it, and a member of an unexpected
//! type stays where it is.
//!
//! The rule for a mapping: take a value that goes into the event as it is, peek at one that is changed on its way
//! (minutes into seconds, a Unix time into a text), so that the original stays readable.
//!
//! ```
//! use callfeed_plugin::json::Document;
//!
//! let document = Document::parse(r#"{"event":"end","data":{"id":7,"note":"hi","cost":1.50}}"#)?;
//! let mut body = document.object()?;
//! let event = body.take_str("event");
//! let data = body.open("data").expect("it is there");
//! let (id, note) = (data.take_id("id"), data.take_str("note"));
//! assert_eq!((event.as_deref(), id.as_deref(), note.as_deref()), (Some("end"), Some("7"), Some("hi")));
//! // The id was a number and became a text, so it stays; the cost was never asked for.
//! assert_eq!(serde_json::to_string(&body).unwrap(), r#"{"data":{"id":7,"cost":1.50}}"#);
//! # Ok::<(), callfeed_plugin::Rejection>(())
//! ```

use std::{borrow::Cow, cell::Cell, collections::BTreeMap, fmt};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor},
    ser::{SerializeMap, SerializeSeq},
};
pub use serde_json::value::RawValue;

use crate::{
    Field, Rejection,
    crypto::{self, Failure},
    data::{Party, Seconds},
    time::Time,
};

/// How deep a document may be nested. Deeper ones are no provider's, and readers of the event have limits as well.
pub const DEPTH_MAX: u32 = 64;

/// Half of what the gateway takes, so that an event's id can be made of one and of something else.
const ID_BYTES_MAX: usize = 256;

/// A body that was checked from end to end: it is JSON, no object has a key twice, and it is nested at most
/// [`DEPTH_MAX`] deep.
///
/// A key that occurs twice is refused because readers disagree which one counts.
///
/// JSON allows half of a surrogate pair as an escape (`"\ud83d"`), which JavaScript writes when a text was cut in the
/// middle of an emoji. No Rust text and hardly any consumer can hold it, and a call should not be lost for it: such an
/// escape is read as U+FFFD, here and in what is left over. The gateway keeps the webhook's bytes as they were.
#[derive(Debug)]
pub struct Document<'a> {
    text: Cow<'a, str>,
}

impl<'a> Document<'a> {
    /// Checks a text.
    ///
    /// # Errors
    ///
    /// [`Malformed`](crate::RejectionKind::Malformed) with `json-invalid`, `json-duplicate-key` or `json-too-deep`; the
    /// detail gives line and column and nothing of the content.
    pub fn parse(text: &'a str) -> Result<Self, Rejection> {
        let text = replace_lone_surrogates(text);
        let flaw = Cell::new("json-invalid");
        let mut json = serde_json::Deserializer::from_str(&text);
        let check = Check { depth: 0, flaw: &flaw };
        check
            .deserialize(&mut json)
            .and_then(|()| json.end())
            .map_err(|error| {
                Rejection::malformed(flaw.get()).detail(format!("line {} column {}", error.line(), error.column()))
            })?;
        Ok(Self { text })
    }

    /// Names and values as an object, in the order of the names: each value a string, and of a name that occurs more than
    /// once a list of them.
    pub fn of_fields(fields: &[Field]) -> Document<'static> {
        let mut members = BTreeMap::<&str, Vec<&str>>::new();
        for field in fields {
            members.entry(&field.name).or_default().push(&field.value);
        }
        let members = members.into_iter().map(|(name, values)| match values[..] {
            [value] => (name, serde_json::Value::from(value)),
            _ => (name, values.into()),
        });
        let members: BTreeMap<&str, serde_json::Value> = members.collect();
        Document {
            text: Cow::Owned(serde_json::to_string(&members).expect("a map of texts cannot fail to serialize")),
        }
    }

    /// The document's object.
    ///
    /// # Errors
    ///
    /// [`Malformed`](crate::RejectionKind::Malformed) with `json-not-an-object`.
    pub fn object(&self) -> Result<Object<'_>, Rejection> {
        let text = self.text.trim_ascii();
        if text.starts_with('{') {
            Ok(Object::read(text))
        } else {
            Err(Rejection::malformed("json-not-an-object"))
        }
    }

    /// The objects of a document that is a list of objects, for a provider that sends several events at once. `None` for any
    /// other document.
    pub fn items(&self) -> Option<Vec<Object<'_>>> {
        let text = self.text.trim_ascii();
        text.starts_with('[').then(|| serde_json::from_str(text).ok()).flatten()
    }

    /// A short text that stands for everything the document says, for the id of an event whose own identity is not
    /// known: the order of members, blank space, escapes and the spelling of numbers make no difference to it. A number of
    /// more than 15 digits counts as it is spelt: as a float it could be the same as its neighbour.
    ///
    /// # Errors
    ///
    /// [`Failure::Refused`] when the webhook has used up its share of hashing.
    pub fn fingerprint(&self) -> Result<String, Failure> {
        let mut canonical = String::with_capacity(self.text.len());
        write_canonical(self.text.trim_ascii(), &mut canonical);
        crypto::fingerprint(&[&canonical])
    }

    /// The text, with lone surrogates replaced.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// What is left of a JSON object: its members in the order they came.
#[derive(Debug, Default)]
pub struct Object<'a> {
    members: Vec<(Cow<'a, str>, Value<'a>)>,
}

/// A member of an object or an item of a list.
#[derive(Debug)]
pub enum Value<'a> {
    /// Nobody has looked inside; the text is as it was.
    Raw(&'a RawValue),
    /// An object that was opened.
    Object(Object<'a>),
    /// A list that was opened.
    List(List<'a>),
}

/// What is left of a JSON array.
///
/// Its items keep their places: as long as anything is left in one of them, an emptied one is written as `{}`.
#[derive(Debug, Default)]
pub struct List<'a> {
    items: Vec<Value<'a>>,
}

/// A word that the unified event and a provider may spell alike.
pub trait Word: Sized {
    /// The value whose unified spelling this is.
    fn from_word(word: &str) -> Option<Self>;
}

impl<'a> Object<'a> {
    /// `text` is an object of a checked document.
    fn read(text: &'a str) -> Self {
        serde_json::from_str(text).expect("the document was checked")
    }

    /// Opens a member that is an object, in place: what is not taken out of it stays part of `self`.
    pub fn open(&mut self, key: &str) -> Option<&mut Object<'a>> {
        self.value_mut(key)?.open()
    }

    /// Opens a member that is a list, in place.
    pub fn open_list(&mut self, key: &str) -> Option<&mut List<'a>> {
        self.value_mut(key)?.open_list()
    }

    /// Takes a string. Without escapes it is borrowed from the body.
    pub fn take_str(&mut self, key: &str) -> Option<Cow<'a, str>> {
        let text = self.peek_str(key)?;
        self.remove(key);
        Some(text)
    }

    /// Takes a string that is not empty.
    pub fn take_filled(&mut self, key: &str) -> Option<Cow<'a, str>> {
        let text = self.peek_filled(key)?;
        self.remove(key);
        Some(text)
    }

    /// Reads a string that is not empty, and leaves it.
    pub fn peek_filled(&self, key: &str) -> Option<Cow<'a, str>> {
        self.peek_str(key).filter(|text| !text.is_empty())
    }

    /// Reads a string and leaves it.
    pub fn peek_str(&self, key: &str) -> Option<Cow<'a, str>> {
        string(self.raw(key)?)
    }

    /// Takes a boolean.
    pub fn take_bool(&mut self, key: &str) -> Option<bool> {
        let value = self.peek_bool(key)?;
        self.remove(key);
        Some(value)
    }

    /// Reads a boolean and leaves it.
    pub fn peek_bool(&self, key: &str) -> Option<bool> {
        match self.raw(key)? {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }

    /// Takes a number that is a whole one within the range of `i64`, written without point and exponent.
    pub fn take_i64(&mut self, key: &str) -> Option<i64> {
        let value = self.peek_i64(key)?;
        self.remove(key);
        Some(value)
    }

    /// Reads a whole number and leaves it.
    pub fn peek_i64(&self, key: &str) -> Option<i64> {
        self.raw(key)?.parse().ok()
    }

    /// Takes a number. One of more than 15 significant digits is read but also left, since an `f64` may round it.
    pub fn take_f64(&mut self, key: &str) -> Option<f64> {
        let value = self.peek_f64(key)?;
        if significant_digits(self.raw(key)?) <= 15 {
            self.remove(key);
        }
        Some(value)
    }

    /// Reads a number and leaves it.
    pub fn peek_f64(&self, key: &str) -> Option<f64> {
        let text = self.raw(key)?;
        if text.starts_with(|first: char| first == '-' || first.is_ascii_digit()) {
            text.parse().ok()
        } else {
            None
        }
    }

    /// Takes a whole number that is not negative, such as a count.
    pub fn take_u64(&mut self, key: &str) -> Option<u64> {
        let value = self.raw(key)?.parse().ok()?;
        self.remove(key);
        Some(value)
    }

    /// Takes a number of seconds; what no length of time is, such as a negative number, is left.
    pub fn take_seconds(&mut self, key: &str) -> Option<Seconds> {
        let seconds = Seconds::new(self.peek_f64(key)?)?;
        self.take_f64(key);
        Some(seconds)
    }

    /// Takes a list in which every item is a string.
    pub fn take_str_list(&mut self, key: &str) -> Option<Vec<Cow<'a, str>>> {
        let list = self.open_list(key)?;
        let texts = list.items.iter().map(Value::peek_str).collect::<Option<Vec<_>>>()?;
        self.remove(key);
        Some(texts)
    }

    /// Takes a string or a list of strings as a list, for options that allow either.
    pub fn take_one_or_several(&mut self, key: &str) -> Option<Vec<Cow<'a, str>>> {
        self.take_str(key)
            .map(|one| vec![one])
            .or_else(|| self.take_str_list(key))
    }

    /// Takes an identifier as a text. A string is taken; a whole number is read, and left because its type changes.
    /// An empty string identifies nothing and is left.
    pub fn take_id(&mut self, key: &str) -> Option<Cow<'a, str>> {
        let id = self.peek_id(key)?;
        // Only a string can be taken.
        self.take_filled(key);
        Some(id)
    }

    /// Reads an identifier, a string or a whole number, and leaves it. What the gateway takes for no identifier, because it
    /// is too long or has control characters, is none.
    pub fn peek_id(&self, key: &str) -> Option<Cow<'a, str>> {
        let raw = self.raw(key)?;
        let digits = raw.strip_prefix('-').unwrap_or(raw);
        let whole = digits
            .bytes()
            .all(|byte| byte.is_ascii_digit())
            .then_some(Cow::Borrowed(raw));
        let id = whole.or_else(|| self.peek_filled(key))?;
        (id.len() <= ID_BYTES_MAX && !id.contains(char::is_control)).then_some(id)
    }

    /// Takes an RFC 3339 time. One that is not in UTC already is read and left.
    pub fn take_time(&mut self, key: &str) -> Option<Time<'a>> {
        let text = self.peek_str(key)?;
        let time = Time::parse(text.clone())?;
        if time.as_str() == text {
            self.remove(key);
        }
        Some(time)
    }

    /// Reads a Unix time, a number or a string of ten digits (seconds) or thirteen (milliseconds), and leaves it because its
    /// form changes.
    pub fn peek_unix(&self, key: &str) -> Option<Time<'static>> {
        Time::from_unix(&self.peek_id(key)?)
    }

    /// Takes a string that is a word of the unified event, such as a direction; another word is left.
    pub fn take_word<W: Word>(&mut self, key: &str) -> Option<W> {
        let word = W::from_word(&self.peek_str(key)?)?;
        self.remove(key);
        Some(word)
    }

    /// Takes a string as a party; [`Party::read`] says what becomes of it. An empty string is nobody, and left.
    pub fn take_party(&mut self, key: &str) -> Option<Party<'a>> {
        Some(Party::read(self.take_filled(key)?))
    }

    /// Takes a whole object as it is, for the parts of an event that are free.
    pub fn take_raw_object(&mut self, key: &str) -> Option<&'a RawValue> {
        let at = self.position(key)?;
        match self.members[at].1 {
            Value::Raw(raw) if raw.get().starts_with('{') => {
                self.members.remove(at);
                Some(raw)
            }
            _ => None,
        }
    }

    /// Takes a member as it is, whatever its type. `None` when it is absent, or was opened.
    pub fn take_raw(&mut self, key: &str) -> Option<&'a RawValue> {
        let at = self.position(key)?;
        let Value::Raw(raw) = self.members[at].1 else {
            return None;
        };
        self.members.remove(at);
        Some(raw)
    }

    /// The text of a member as it was sent. `None` when it is absent, or was opened.
    pub fn peek_raw(&self, key: &str) -> Option<&'a RawValue> {
        match self.members[self.position(key)?].1 {
            Value::Raw(raw) => Some(raw),
            _ => None,
        }
    }

    /// Adds a member the webhook did not have: [remarks](crate::remarks).
    pub fn add(&mut self, key: &'a str, value: &'a RawValue) {
        self.members.push((Cow::Borrowed(key), Value::Raw(value)));
    }

    /// Whether there still is such a member, be it `null`.
    pub fn contains(&self, key: &str) -> bool {
        self.position(key).is_some()
    }

    /// Whether there is such a member with a value other than `null`.
    pub fn has(&self, key: &str) -> bool {
        self.position(key).is_some() && self.raw(key) != Some("null")
    }

    /// The keys that are left.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|(key, _)| &**key)
    }

    /// Whether nothing is left, neither here nor in what was opened.
    pub fn is_empty(&self) -> bool {
        self.members.iter().all(|(_, value)| value.is_empty())
    }

    fn position(&self, key: &str) -> Option<usize> {
        self.members.iter().position(|(name, _)| name == key)
    }

    fn value_mut(&mut self, key: &str) -> Option<&mut Value<'a>> {
        let at = self.position(key)?;
        Some(&mut self.members[at].1)
    }

    fn raw(&self, key: &str) -> Option<&'a str> {
        self.peek_raw(key).map(RawValue::get)
    }

    fn remove(&mut self, key: &str) {
        self.members.retain(|(name, _)| name != key);
    }
}

impl<'a> Value<'a> {
    /// Opens an object, in place.
    pub fn open(&mut self) -> Option<&mut Object<'a>> {
        if let Value::Raw(raw) = self
            && raw.get().starts_with('{')
        {
            *self = Value::Object(Object::read(raw.get()));
        }
        match self {
            Value::Object(object) => Some(object),
            _ => None,
        }
    }

    /// Opens a list, in place.
    pub fn open_list(&mut self) -> Option<&mut List<'a>> {
        if let Value::Raw(raw) = self
            && raw.get().starts_with('[')
        {
            let items: Vec<&'a RawValue> = serde_json::from_str(raw.get()).expect("the document was checked");
            *self = Value::List(List {
                items: items.into_iter().map(Value::Raw).collect(),
            });
        }
        match self {
            Value::List(list) => Some(list),
            _ => None,
        }
    }

    /// Reads a string and leaves it.
    pub fn peek_str(&self) -> Option<Cow<'a, str>> {
        match self {
            Value::Raw(raw) => string(raw.get()),
            _ => None,
        }
    }

    /// Whether nothing is left of it. A value nobody opened is left as it was, even an empty one.
    pub fn is_empty(&self) -> bool {
        match self {
            Value::Raw(_) => false,
            Value::Object(object) => object.is_empty(),
            Value::List(list) => list.is_empty(),
        }
    }
}

impl<'a> List<'a> {
    /// The items, in order.
    pub fn items(&mut self) -> impl Iterator<Item = &mut Value<'a>> {
        self.items.iter_mut()
    }

    /// The items that are objects, opened; others are passed over and stay.
    pub fn objects(&mut self) -> impl Iterator<Item = &mut Object<'a>> {
        self.items.iter_mut().filter_map(Value::open)
    }

    /// How many items the array has, emptied ones included.
    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is left in any item.
    pub fn is_empty(&self) -> bool {
        self.items.iter().all(Value::is_empty)
    }
}

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (key, value) in self.members.iter().filter(|(_, value)| !value.is_empty()) {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Raw(raw) => raw.serialize(serializer),
            Value::Object(object) => object.serialize(serializer),
            Value::List(list) => list.serialize(serializer),
        }
    }
}

impl Serialize for List<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut items = serializer.serialize_seq(Some(self.items.len()))?;
        for item in &self.items {
            items.serialize_element(item)?;
        }
        items.end()
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members = Vec::with_capacity(16);
                while let Some(Key(key)) = map.next_key()? {
                    members.push((key, Value::Raw(map.next_value()?)));
                }
                Ok(Object { members })
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A key, borrowed unless it has escapes. (Serde's own `Cow` is always owned.)
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// Walks a whole document for [`Document::parse`] and keeps nothing of it.
#[derive(Clone, Copy)]
struct Check<'c> {
    depth: u32,
    flaw: &'c Cell<&'static str>,
}

impl Check<'_> {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        if self.depth == DEPTH_MAX {
            return Err(self.fail("json-too-deep"));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }

    fn fail<E: de::Error>(self, flaw: &'static str) -> E {
        self.flaw.set(flaw);
        E::custom(flaw)
    }
}

impl<'de> DeserializeSeed<'de> for Check<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Check<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut keys = Vec::with_capacity(16);
        while let Some(Key(key)) = map.next_key()? {
            keys.push(key);
            map.next_value_seed(inner)?;
        }
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(self.fail("json-duplicate-key"));
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// The text of a JSON string; `None` for another type.
fn string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        Some(Cow::Owned(serde_json::from_str(raw).expect("the document was checked")))
    } else {
        Some(Cow::Borrowed(inner))
    }
}

/// Writes a value with members in order, without blank space, strings escaped and numbers printed in one way.
fn write_canonical(raw: &str, out: &mut String) {
    let checked = "the document was checked";
    match raw.as_bytes()[0] {
        b'{' => {
            let mut members = Object::read(raw).members;
            members.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
            out.push('{');
            for (key, value) in &members {
                out.push_str(&serde_json::to_string(key).expect(checked));
                out.push(':');
                if let Value::Raw(raw) = value {
                    write_canonical(raw.get(), out);
                }
                out.push(',');
            }
            out.push('}');
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(raw).expect(checked);
            out.push('[');
            for item in items {
                write_canonical(item.get(), out);
                out.push(',');
            }
            out.push(']');
        }
        b'"' => out.push_str(&serde_json::to_string(&string(raw).expect(checked)).expect(checked)),
        b'-' | b'0'..=b'9' if significant_digits(raw) <= 15 => {
            let number: f64 = raw.parse().expect(checked);
            out.push_str(&serde_json::to_string(&number).expect(checked));
        }
        _ => out.push_str(raw),
    }
}

/// How many digits of a number matter; up to 15 survive an `f64`.
fn significant_digits(number: &str) -> usize {
    let mantissa = number.split(['e', 'E']).next().unwrap_or(number);
    mantissa
        .bytes()
        .filter(u8::is_ascii_digit)
        .skip_while(|&digit| digit == b'0')
        .count()
}

/// Writes `\ufffd` for every escape of a surrogate that lacks its other half. Lengths, and with them line and column
/// of a later error, stay the same.
fn replace_lone_surrogates(text: &str) -> Cow<'_, str> {
    fn escape(bytes: &[u8], at: usize) -> Option<u16> {
        let digits = bytes.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |code: u16, &digit| {
            Some(code << 4 | char::from(digit).to_digit(16)? as u16)
        })
    }
    let bytes = text.as_bytes();
    let mut lone = Vec::new();
    let mut at = 0;
    while let Some(offset) = bytes[at..].iter().position(|&byte| byte == b'\\') {
        at += offset;
        at += match escape(bytes, at) {
            Some(0xd800..=0xdbff) if matches!(escape(bytes, at + 6), Some(0xdc00..=0xdfff)) => 12,
            Some(0xd800..=0xdfff) => {
                lone.push(at);
                6
            }
            Some(_) => 6,
            None => 2.min(bytes.len() - at),
        };
    }
    if lone.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut repaired = String::with_capacity(text.len());
    let mut from = 0;
    for at in lone {
        repaired.push_str(&text[from..at]);
        repaired.push_str("\\ufffd");
        from = at + 6;
    }
    repaired.push_str(&text[from..]);
    Cow::Owned(repaired)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(object: &Object<'_>) -> String {
        serde_json::to_string(object).unwrap()
    }

    #[test]
    fn taking_removes_and_peeking_leaves() {
        let text = r#"{"s":"a\u00e9","t":"plain","n":1.50,"i":12,"b":true,"o":{"x":null},"z":null}"#;
        let document = Document::parse(text).unwrap();
        let mut body = document.object().unwrap();
        assert_eq!(body.peek_str("s").as_deref(), Some("aé"));
        assert!(matches!(body.take_str("t"), Some(Cow::Borrowed("plain"))));
        assert_eq!(body.take_str("t"), None);
        assert_eq!((body.take_i64("n"), body.peek_f64("n")), (None, Some(1.5)));
        assert_eq!((body.take_i64("i"), body.take_bool("b")), (Some(12), Some(true)));
        assert_eq!(
            (body.take_str("z"), body.take_bool("s"), body.take_f64("z")),
            (None, None, None)
        );
        assert!(body.contains("z") && !body.has("z") && body.has("o"));
        assert_eq!(left(&body), r#"{"s":"a\u00e9","n":1.50,"o":{"x":null},"z":null}"#);
        assert_eq!(body.take_raw_object("o").map(RawValue::get), Some(r#"{"x":null}"#));
        assert!(body.take_raw_object("z").is_none());
    }

    #[test]
    fn what_was_opened_leaves_only_what_is_left() {
        let text = r#"{"data":{"id":"1","turns":[{"text":"a"},{"text":"b","x":1},7],"more":{"id":2}},"none":[]}"#;
        let document = Document::parse(text).unwrap();
        let mut body = document.object().unwrap();
        let data = body.open("data").unwrap();
        data.take_str("id");
        data.open("more").unwrap().take_i64("id");
        let turns: Vec<_> = data
            .open_list("turns")
            .unwrap()
            .objects()
            .filter_map(|turn| turn.take_str("text"))
            .collect();
        assert_eq!(turns, ["a", "b"]);
        assert_eq!(left(&body), r#"{"data":{"turns":[{},{"x":1},7]},"none":[]}"#);
        let list = body.open("data").unwrap().open_list("turns").unwrap();
        assert_eq!((list.count(), list.is_empty()), (3, false));
        list.objects().for_each(|turn| _ = turn.take_i64("x"));
        assert!(!body.is_empty());
        assert!(body.open_list("none").unwrap().is_empty());
        assert_eq!(left(&body), r#"{"data":{"turns":[{},{},7]}}"#);
    }

    #[test]
    fn a_mapping_can_add_a_remark() {
        let remark = RawValue::from_string(r#"{"date":"twice"}"#.to_owned()).unwrap();
        let document = Document::parse(r#"{"a":1}"#).unwrap();
        let mut body = document.object().unwrap();
        body.take_i64("a");
        body.add("remarks", &remark);
        assert_eq!(left(&body), r#"{"remarks":{"date":"twice"}}"#);
    }

    #[test]
    fn an_emptied_object_is_gone() {
        let document = Document::parse(r#" {"a":{"b":[{"c":1}]}} "#).unwrap();
        let mut body = document.object().unwrap();
        let list = body.open("a").unwrap().open_list("b").unwrap();
        list.objects().for_each(|item| _ = item.take_f64("c"));
        assert!(body.is_empty());
        assert_eq!(left(&body), "{}");
    }

    #[test]
    fn what_the_gateway_takes_for_no_id_is_none() {
        let text = format!(
            r#"{{"long":"{0}","digits":{1},"control":"a\u0000b","fits":"{2}"}}"#,
            "x".repeat(ID_BYTES_MAX + 1),
            "9".repeat(ID_BYTES_MAX + 1),
            "x".repeat(ID_BYTES_MAX)
        );
        let document = Document::parse(&text).unwrap();
        let mut body = document.object().unwrap();
        let ids = ["long", "digits", "control", "fits"].map(|key| body.take_id(key).is_some());
        assert_eq!(ids, [false, false, false, true]);
        assert_eq!(body.keys().collect::<Vec<_>>(), ["long", "digits", "control"]);
    }

    #[test]
    fn identifiers_are_texts() {
        let document =
            Document::parse(r#"{"a":1,"b":"c123","c":1.5,"d":"","e":null,"f":12345678901234567890}"#).unwrap();
        let mut body = document.object().unwrap();
        let ids = ["a", "b", "c", "d", "e", "f"].map(|key| body.take_id(key).map(Cow::into_owned));
        assert_eq!(
            ids.each_ref().map(Option::as_deref),
            [Some("1"), Some("c123"), None, None, None, Some("12345678901234567890")]
        );
        assert_eq!(
            left(&body),
            r#"{"a":1,"c":1.5,"d":"","e":null,"f":12345678901234567890}"#
        );
    }

    #[test]
    fn numbers_an_f64_may_round_stay() {
        let document = Document::parse(r#"{"a":0.1,"b":0.12345678901234567,"c":1e3,"d":-2.50}"#).unwrap();
        let mut body = document.object().unwrap();
        assert_eq!(
            ["a", "b", "c", "d"].map(|key| body.take_f64(key)),
            [Some(0.1), Some(0.123_456_789_012_345_67), Some(1000.0), Some(-2.5)]
        );
        assert_eq!(left(&body), r#"{"b":0.12345678901234567}"#);
    }

    #[test]
    fn times_in_utc_are_taken_and_others_stay() {
        let document =
            Document::parse(r#"{"a":"2026-01-01T00:00:00Z","b":"2026-01-01T01:00:00+01:00","c":"x"}"#).unwrap();
        let mut body = document.object().unwrap();
        assert_eq!(body.take_time("a"), body.take_time("b"));
        assert_eq!(body.take_time("c"), None);
        assert_eq!(left(&body), r#"{"b":"2026-01-01T01:00:00+01:00","c":"x"}"#);
    }

    #[test]
    fn what_does_not_fit_is_left() {
        let text =
            r#"{"count":-1,"seconds":-0.5,"urls":["a",1],"more":{"count":2,"seconds":2.50,"urls":["a","b"],"no":[]}}"#;
        let document = Document::parse(text).unwrap();
        let mut body = document.object().unwrap();
        assert_eq!(
            (
                body.take_u64("count"),
                body.take_seconds("seconds"),
                body.take_str_list("urls")
            ),
            (None, None, None)
        );
        let more = body.open("more").unwrap();
        assert_eq!(
            (more.take_u64("count"), more.take_seconds("seconds")),
            (Some(2), Seconds::new(2.5))
        );
        assert_eq!(more.take_str_list("urls").unwrap(), ["a", "b"]);
        assert!(more.take_str_list("no").unwrap().is_empty());
        assert_eq!(left(&body), r#"{"count":-1,"seconds":-0.5,"urls":["a",1]}"#);
    }

    #[test]
    fn a_fingerprint_is_of_what_is_said() {
        let fingerprint = |text| Document::parse(text).unwrap().fingerprint().unwrap();
        let one = fingerprint(r#" {"a": "é/", "b": [1.0, 2e1, null, {"y": 1, "x": true}]} "#);
        assert_eq!(one, fingerprint(r#"{"b":[1,20,null,{"x":true,"y":1}],"a":"\u00e9\/"}"#));
        assert_eq!(one.len(), 32);
        for other in [
            r#"{"b":[20,1,null,{"x":true,"y":1}],"a":"é/"}"#,
            r#"{"b":[1,20,null,{"x":true,"y":"1"}],"a":"é/"}"#,
            r#"{"b":[1,20,null],"x":true,"y":1,"a":"é/"}"#,
        ] {
            assert_ne!(one, fingerprint(other), "{other}");
        }
        assert_ne!(fingerprint("[12345678901234567]"), fingerprint("[12345678901234568]"));
    }

    #[test]
    fn refuses_bad_documents_by_place_only() {
        for (text, code, detail) in [
            ("", "json-invalid", "line 1 column 0"),
            ("{\"secret\":\n tru}", "json-invalid", "line 2 column 5"),
            (r#"{"a":1} x"#, "json-invalid", "line 1 column 9"),
            (r#"{"a":1e999}"#, "json-invalid", "line 1 column 10"),
            (
                r#"{"b":[{"a":1,"c":2,"\u0061":3}]}"#,
                "json-duplicate-key",
                "line 1 column 30",
            ),
        ] {
            let rejection = Document::parse(text).unwrap_err();
            assert_eq!(
                (rejection.code.as_str(), rejection.detail.as_str()),
                (code, detail),
                "{text}"
            );
        }
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert!(Document::parse(&nested(64)).is_ok());
        assert_eq!(Document::parse(&nested(65)).unwrap_err().code, "json-too-deep");
        assert_eq!(Document::parse(&nested(100_000)).unwrap_err().code, "json-too-deep");
        assert_eq!(
            Document::parse("[]").unwrap().object().unwrap_err().code,
            "json-not-an-object"
        );
    }

    #[test]
    fn half_a_surrogate_pair_is_replaced() {
        let text = r#"{"a":"x\ud83d","b":"\ud83d\ude00","c":"\\ud83d","d":"\ude00\ud83d\ud83d\ude00","e":"\u00e9"}"#;
        let document = Document::parse(text).unwrap();
        assert_eq!(document.as_str().len(), text.len());
        let mut body = document.object().unwrap();
        assert_eq!(body.take_str("a").as_deref(), Some("x\u{fffd}"));
        assert_eq!(body.take_str("b").as_deref(), Some("😀"));
        assert_eq!(body.take_str("c").as_deref(), Some(r"\ud83d"));
        assert_eq!(left(&body), r#"{"d":"\ufffd\ufffd\ud83d\ude00","e":"\u00e9"}"#);
        for wrong in [r#"{"a":"\"#, r#"{"a":"\u"#, r#"{"a":"\ud83"#, r#"{"a":"\ud83é"}"#] {
            assert_eq!(Document::parse(wrong).unwrap_err().code, "json-invalid");
        }
    }
}
