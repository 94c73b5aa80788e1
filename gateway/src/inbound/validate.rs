//! From what a plugin returned to an event: parsed strictly, checked against the schema, given its id and envelope.
//!
//! Pure. The only place that makes an [`Event`]. The data a plugin wrote is kept as it wrote it, so that numbers keep
//! every digit; what the host adds stands before it.

use std::{borrow::Cow, fmt};

use jiff::Timestamp;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, map::Entry};

use crate::{
    event::{Event, EventId, Facts, Kept},
    plugin::{Grant, MappedEvent},
    telemetry::one_line,
};

/// The unified event's `data`, JSON Schema 2020-12.
pub const SCHEMA: &str = include_str!("../../../schemas/event/v1/call-event.schema.json");
/// Its `$id`, the events' `dataschema`.
pub const SCHEMA_ID: &str = "https://callfeed.dev/schemas/event/v1/call-event.schema.json";

/// Bytes of a provider's own identity of an event, and of its subject.
const NAME_BYTES_MAX: usize = 512;
/// Bytes that are told of a type that does not exist.
const KIND_BYTES: usize = 64;
/// How many violations of the schema are told.
const VIOLATIONS_MAX: usize = 5;

/// Why a mapped event is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    #[error("the plugin returned data that is not a JSON object: {0}")]
    Json(String),
    #[error("the plugin returned the type {0:?}, which it does not declare")]
    Undeclared(String),
    #[error("the plugin returned an empty, overlong or unprintable {0}")]
    Name(&'static str),
    #[error("the plugin returned the time {0} ms, which no calendar has")]
    Time(u64),
    #[error("the plugin set data.{0}, which belongs to the host")]
    HostOwned(&'static str),
    #[error("the event does not fit its schema: {0}")]
    Schema(String),
}

/// The compiled schema.
pub struct Validator {
    schema: jsonschema::Validator,
}

impl fmt::Debug for Validator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Validator")
    }
}

impl Default for Validator {
    fn default() -> Self {
        Self::new()
    }
}

impl Validator {
    pub fn new() -> Self {
        let schema = serde_json::from_str(SCHEMA).expect("a test parses the embedded schema");
        let schema = jsonschema::draft202012::options()
            .build(&schema)
            .expect("a test compiles the embedded schema");
        Self { schema }
    }

    /// Validates all events of one webhook; one that is wrong spoils them all, for they are kept together.
    ///
    /// # Errors
    ///
    /// The first event that is not valid.
    pub fn events(
        &self,
        grant: &Grant,
        mapped: Vec<MappedEvent>,
        received_at: Timestamp,
    ) -> Result<Vec<Event>, Invalid> {
        mapped
            .into_iter()
            .map(|event| self.event(grant, event, received_at))
            .collect()
    }

    /// Validates one.
    ///
    /// # Errors
    ///
    /// Why it is not valid.
    pub fn event(&self, grant: &Grant, mapped: MappedEvent, received_at: Timestamp) -> Result<Event, Invalid> {
        self.make(grant, mapped, received_at, None)
    }

    /// Validates an event that says better what another one said, of the same subject. Its id follows from that one and from
    /// what it says.
    ///
    /// # Errors
    ///
    /// Why it is not valid.
    pub fn correction(
        &self,
        grant: &Grant,
        mapped: MappedEvent,
        received_at: Timestamp,
        replaced: &Kept,
    ) -> Result<Event, Invalid> {
        self.make(grant, mapped, received_at, Some(replaced))
    }

    fn make(
        &self,
        grant: &Grant,
        mapped: MappedEvent,
        received_at: Timestamp,
        replaced: Option<&Kept>,
    ) -> Result<Event, Invalid> {
        let descriptor = &grant.plugin.descriptor;
        if !descriptor.events.iter().any(|spec| spec.unified == mapped.kind) {
            return Err(Invalid::Undeclared(one_line(&mapped.kind, KIND_BYTES)));
        }
        check_name("id", &mapped.id)?;
        check_name("subject", &mapped.subject)?;
        let occurred_at = match mapped.occurred_at_ms {
            None => None,
            Some(ms) => {
                let time = i64::try_from(ms)
                    .ok()
                    .and_then(|ms| Timestamp::from_millisecond(ms).ok());
                Some(time.ok_or(Invalid::Time(ms))?)
            }
        };

        let mut data = parse(&mapped.data)?;
        for name in ["provider", "test", "time_is_received", "corrects"] {
            if data.contains_key(name) {
                return Err(Invalid::HostOwned(name));
            }
        }
        let empty = data.is_empty();
        data.insert("provider".into(), Value::String(descriptor.provider.clone()));
        data.insert("test".into(), Value::Bool(mapped.test));
        if occurred_at.is_none() {
            data.insert("time_is_received".into(), Value::Bool(true));
        }
        let facts = facts(&data, mapped.test);
        let data = Value::Object(data);
        if !self.schema.is_valid(&data) {
            return Err(Invalid::Schema(violations(&self.schema, &data)));
        }

        let (id, subject) = match replaced {
            None => {
                let subject = format!("{}/{}", descriptor.provider, mapped.subject);
                (EventId::derive(grant.route(), &mapped.id), subject)
            }
            Some(Kept { id, subject, .. }) => {
                let MappedEvent {
                    kind,
                    occurred_at_ms,
                    data,
                    ..
                } = &mapped;
                let identity = format!("{id} corrected: {kind} {occurred_at_ms:?} {data}");
                // Whatever is now said of whom it is about: who follows the call has to see that it is corrected.
                (EventId::derive(grant.route(), &identity), subject.clone())
            }
        };
        let time = occurred_at.unwrap_or(received_at);
        let envelope = Envelope {
            id,
            route: grant.route(),
            kind: &mapped.kind,
            subject: &subject,
            time,
            provider: &descriptor.provider,
            test: mapped.test,
            time_is_received: occurred_at.is_none(),
            corrects: replaced.map(|replaced| replaced.id),
            plugin_data: if empty {
                None
            } else {
                Some(&without_line_ends(&mapped.data))
            },
        };
        let open_json = envelope.write();
        Ok(Event {
            id,
            kind: mapped.kind,
            subject,
            time,
            facts,
            open_json,
        })
    }
}

/// JSON on one line, its tokens untouched: events are listed one a line, and a provider may indent what it sends.
fn without_line_ends(json: &str) -> Cow<'_, str> {
    let bytes = json.as_bytes();
    if !bytes.contains(&b'\n') && !bytes.contains(&b'\r') {
        return Cow::Borrowed(json);
    }
    let (mut in_string, mut escaped) = (false, false);
    let kept = json.chars().filter(|c| {
        if !in_string {
            in_string = *c == '"';
            return !c.is_ascii_whitespace();
        }
        in_string = escaped || *c != '"';
        escaped = !escaped && *c == '\\';
        true
    });
    Cow::Owned(kept.collect())
}

/// CloudEvents attributes take no control characters (CloudEvents 1.0, "Type System"), and all must fit a log line.
fn check_name(what: &'static str, text: &str) -> Result<(), Invalid> {
    let good = !text.is_empty() && text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control);
    if good { Ok(()) } else { Err(Invalid::Name(what)) }
}

fn violations(schema: &jsonschema::Validator, data: &Value) -> String {
    let mut text = String::new();
    for error in schema.iter_errors(data).take(VIOLATIONS_MAX) {
        if !text.is_empty() {
            text.push_str("; ");
        }
        // Where and which rule; never the value, which is somebody's call.
        let at = error.instance_path().to_string();
        text.push_str(if at.is_empty() { "/" } else { &at });
        text.push_str(" breaks ");
        text.push_str(&error.schema_path().to_string());
    }
    text
}

fn facts(data: &Map<String, Value>, test: bool) -> Facts {
    let mut numbers: Vec<String> = Vec::new();
    for block in ["call", "message"] {
        let Some(Value::Object(block)) = data.get(block) else {
            continue;
        };
        for party in ["from", "to", "via", "forwarded_to"] {
            let Some(party) = block.get(party) else { continue };
            let number = party
                .get("number")
                .and_then(Value::as_str)
                .or_else(|| party.get("raw")?.as_str());
            if let Some(number) = number
                && !numbers.iter().any(|known| known == number)
            {
                numbers.push(number.to_owned());
            }
        }
    }
    let duration_seconds = data
        .get("call")
        .and_then(|call| call.get("duration_seconds"))
        .and_then(Value::as_f64);
    Facts {
        numbers,
        duration_seconds,
        test,
    }
}

/// Everything that is written into the event.
struct Envelope<'a> {
    id: EventId,
    route: &'a str,
    kind: &'a str,
    subject: &'a str,
    time: Timestamp,
    provider: &'a str,
    test: bool,
    time_is_received: bool,
    corrects: Option<EventId>,
    plugin_data: Option<&'a str>,
}

impl Envelope<'_> {
    /// The CloudEvent up to where `sequence` follows.
    fn write(&self) -> Vec<u8> {
        let plugin_data = self.plugin_data.unwrap_or_default();
        // The fixed text, and room for the sequence and the closing brace.
        let mut json = Vec::with_capacity(plugin_data.len() + self.subject.len() + 512);
        json.extend_from_slice(b"{\"specversion\":\"1.0\",\"id\":\"");
        json.extend_from_slice(self.id.as_str().as_bytes());
        json.extend_from_slice(b"\",\"source\":\"/routes/");
        json.extend_from_slice(self.route.as_bytes());
        json.extend_from_slice(b"\",\"type\":\"");
        json.extend_from_slice(self.kind.as_bytes());
        json.extend_from_slice(b"\",\"subject\":");
        write_string(&mut json, self.subject);
        json.extend_from_slice(format!(",\"time\":\"{}\"", self.time).as_bytes());
        json.extend_from_slice(b",\"datacontenttype\":\"application/json\",\"dataschema\":\"");
        json.extend_from_slice(SCHEMA_ID.as_bytes());
        json.extend_from_slice(b"\",\"data\":{\"provider\":\"");
        json.extend_from_slice(self.provider.as_bytes());
        json.extend_from_slice(if self.test {
            b"\",\"test\":true"
        } else {
            b"\",\"test\":false"
        });
        if self.time_is_received {
            json.extend_from_slice(b",\"time_is_received\":true");
        }
        if let Some(replaced) = self.corrects {
            json.extend_from_slice(format!(",\"corrects\":\"{replaced}\"").as_bytes());
        }
        match plugin_data.trim_ascii().strip_prefix('{') {
            Some(members) => {
                json.push(b',');
                json.extend_from_slice(members.as_bytes());
            }
            None => json.push(b'}'),
        }
        json
    }
}

fn write_string(json: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(json, text).expect("a string always serialises, and memory takes it");
}

/// Parses a JSON object in which no object has the same key twice: parsers differ in which one they believe, so one
/// subscriber would see another call than the next.
fn parse(text: &str) -> Result<Map<String, Value>, Invalid> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let value = Strict
        .deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value));
    match value {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Invalid::Json("it is another kind of value".into())),
        Err(error) => Err(Invalid::Json(error.to_string())),
    }
}

/// Builds a [`Value`] and refuses a key that comes twice.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            match object.entry(key) {
                Entry::Occupied(_) => return Err(A::Error::custom("the same key stands twice in one object")),
                Entry::Vacant(place) => drop(place.insert(members.next_value_seed(Strict)?)),
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_embedded_schema_has_the_id_that_events_name() {
        let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
        assert_eq!(schema["$id"], SCHEMA_ID);
        let _ = Validator::new();
    }

    #[test]
    fn line_ends_go_and_tokens_stay() {
        let indented = "{\r\n  \"a b\" : [ 1.50,\n\t\"c \\\\\", \"d \\\" e\" ]\n}";
        assert_eq!(without_line_ends(indented), r#"{"a b":[1.50,"c \\","d \" e"]}"#);
        assert!(matches!(without_line_ends(r#"{"a" : "b\n"}"#), Cow::Borrowed(_)));
    }

    #[test]
    fn a_key_that_comes_twice_is_refused_at_every_depth() {
        assert!(parse(r#"{"a":1,"b":[{"c":2}]}"#).is_ok());
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":1,"\u0062":2}}"#,
            r#"{"a":[{"b":1,"b":2}]}"#,
        ] {
            assert!(matches!(parse(text), Err(Invalid::Json(_))), "{text}");
        }
        assert!(parse("[]").is_err() && parse("{} {}").is_err() && parse("").is_err());
    }

    #[test]
    fn the_envelope_is_json_once_it_has_its_place() {
        let id = EventId::derive("r", "1");
        for plugin_data in [None, Some(" {\"extra\":{\"n\":12345678901234567890123}} ")] {
            let envelope = Envelope {
                id,
                route: "r",
                kind: "provider.other",
                subject: "p/\"quoted\"",
                time: Timestamp::UNIX_EPOCH,
                provider: "p",
                test: false,
                time_is_received: true,
                corrects: None,
                plugin_data,
            };
            let event = Event {
                id,
                kind: "provider.other".into(),
                subject: String::new(),
                time: Timestamp::UNIX_EPOCH,
                facts: Facts::default(),
                open_json: envelope.write(),
            };
            let json = event.close_json(7);
            let value: Value = serde_json::from_slice(&json).expect("the envelope is JSON");
            assert_eq!(value["sequence"], "7");
            assert_eq!(value["subject"], "p/\"quoted\"");
            assert_eq!(value["time"], "1970-01-01T00:00:00Z");
            assert_eq!(value["data"]["time_is_received"], true);
            let digits = b"12345678901234567890123";
            assert_eq!(
                plugin_data.is_some(),
                json.windows(digits.len()).any(|window| window == digits)
            );
        }
    }
}
