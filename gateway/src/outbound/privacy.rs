//! Leaves out of an event, or masks, what one subscriber is not to get.
//!
//! Pure, and the same each time: a delivery that is tried again has the same bytes. Everything else of the event stays byte for
//! byte as it was kept.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::config::Privacy;

/// Digits at the end of a number that a mask leaves.
const LEFT: usize = 2;

/// What becomes of one member, or of what is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Fate {
    Drop,
    Mask,
    Inside(BTreeMap<String, Fate>),
}

/// One subscriber's rules, ready to be applied.
#[derive(Debug, Clone)]
pub struct Censor {
    /// `None` when it gets everything.
    event: Option<Fate>,
}

impl Censor {
    pub fn new(privacy: &Privacy) -> Self {
        let mut data = BTreeMap::new();
        let dropped = privacy.drop.iter().map(|path| (path, Fate::Drop));
        let masked = privacy.mask.iter().map(|path| (path, Fate::Mask));
        for path in &privacy.mask {
            // What a party's number was read from has the same digits.
            if let [party @ .., last] = &path[..]
                && last == "number"
            {
                set(&mut data, &[party, &["raw".to_owned()]].concat(), Fate::Mask);
            }
        }
        for (path, fate) in masked.chain(dropped) {
            set(&mut data, path, fate);
        }
        let event = (!data.is_empty()).then(|| Fate::Inside(BTreeMap::from([("data".to_owned(), Fate::Inside(data))])));
        Self { event }
    }

    /// The event as this subscriber gets it.
    pub fn apply(&self, json: &Bytes) -> Bytes {
        let Some(fate) = &self.event else { return json.clone() };
        let raw = serde_json::from_slice(json).expect("an event is JSON");
        let mut written = Vec::with_capacity(json.len());
        write(raw, fate, &mut written);
        written.into()
    }
}

/// What is dropped is dropped with all that is in it, whatever else is said of that.
fn set(members: &mut BTreeMap<String, Fate>, path: &[String], fate: Fate) {
    match path {
        [] => {}
        [last] => drop(members.insert(last.clone(), fate)),
        [first, rest @ ..] => {
            let inside = members
                .entry(first.clone())
                .or_insert_with(|| Fate::Inside(BTreeMap::new()));
            if let Fate::Inside(members) = inside {
                set(members, rest, fate);
            }
        }
    }
}

fn write(raw: &RawValue, fate: &Fate, written: &mut Vec<u8>) {
    match fate {
        Fate::Drop => {}
        Fate::Mask => write_masked(raw, written),
        Fate::Inside(fates) => match raw.get().as_bytes().first() {
            Some(b'{') => {
                let Members(members) = serde_json::from_str(raw.get()).expect("it begins like an object");
                written.push(b'{');
                let mut first = true;
                for (name, value) in members {
                    let fate = fates.get(&name);
                    if fate == Some(&Fate::Drop) {
                        continue;
                    }
                    if !std::mem::take(&mut first) {
                        written.push(b',');
                    }
                    write_string(&name, written);
                    written.push(b':');
                    match fate {
                        None => written.extend_from_slice(value.get().as_bytes()),
                        Some(fate) => write(value, fate, written),
                    }
                }
                written.push(b'}');
            }
            // What is said of a list is said of each of its items.
            Some(b'[') => {
                let items: Vec<&RawValue> = serde_json::from_str(raw.get()).expect("it begins like a list");
                written.push(b'[');
                for (index, item) in items.into_iter().enumerate() {
                    if index > 0 {
                        written.push(b',');
                    }
                    write(item, fate, written);
                }
                written.push(b']');
            }
            _ => written.extend_from_slice(raw.get().as_bytes()),
        },
    }
}

fn write_masked(raw: &RawValue, written: &mut Vec<u8>) {
    match raw.get() {
        "null" => written.extend_from_slice(b"null"),
        text => match serde_json::from_str::<String>(text) {
            Ok(text) => write_string(&masked(&text), written),
            // Whatever it is, it was not to be seen.
            Err(_) => written.extend_from_slice(b"\"***\""),
        },
    }
}

fn write_string(text: &str, written: &mut Vec<u8>) {
    serde_json::to_writer(written, text).expect("a string always serialises, and memory takes it");
}

/// An E.164 number keeps its country and its last two digits; anything else its last two characters, when there are more than
/// twice as many.
fn masked(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let shown_first = match text.strip_prefix('+') {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'*') => {
            let told = digits.split('*').next().unwrap_or_default();
            1 + country_code_digits(told)
        }
        _ => 0,
    };
    let hidden = characters.len().saturating_sub(shown_first);
    let shown_last = if hidden > 2 * LEFT { LEFT } else { 0 };
    let end = characters.len() - shown_last;
    let mask = |(index, c): (usize, &char)| if index < shown_first || index >= end { *c } else { '*' };
    characters.iter().enumerate().map(mask).collect()
}

/// How many digits the country code has (ITU-T E.164, list of assigned country codes).
fn country_code_digits(digits: &str) -> usize {
    match digits.as_bytes() {
        [b'1' | b'7', ..] => 1,
        [b'2', b'0' | b'7', ..]
        | [b'3', b'0'..=b'4' | b'6' | b'9', ..]
        | [b'4', b'0' | b'1' | b'3'..=b'9', ..]
        | [b'5', b'1'..=b'8', ..]
        | [b'6', b'0'..=b'6', ..]
        | [b'8', b'1' | b'2' | b'4' | b'6', ..]
        | [b'9', b'0'..=b'5' | b'8', ..] => 2,
        _ => 3.min(digits.len()),
    }
}

/// An object's members in their order, values as written.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(InOrder).map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn censor(drop: &[&str], mask: &[&str]) -> Censor {
        let paths = |paths: &[&str]| {
            paths
                .iter()
                .map(|path| path.split('.').map(str::to_owned).collect())
                .collect()
        };
        Censor::new(&Privacy {
            drop: paths(drop),
            mask: paths(mask),
        })
    }

    fn applied(censor: &Censor, json: &'static str) -> String {
        String::from_utf8(censor.apply(&Bytes::from_static(json.as_bytes())).to_vec()).unwrap()
    }

    const EVENT: &str = r#"{"id":"evt_1","data":{"n":1.50,"call":{"from":{"number":"+33123456789","raw":"01 23"},"transcript":[{"text":"a"},{"text":"b","at":1}],"to":{"number":null}}},"sequence":"7"}"#;

    #[test]
    fn what_nothing_is_said_of_stays_as_it_was() {
        let everything = Bytes::from_static(EVENT.as_bytes());
        // Not even copied.
        assert_eq!(censor(&[], &[]).apply(&everything).as_ptr(), everything.as_ptr());
        assert_eq!(
            applied(&censor(&["call.summary", "email"], &["message.from.number"]), EVENT),
            EVENT
        );
    }

    #[test]
    fn members_go_and_numbers_are_masked() {
        let censor = censor(
            &["call.transcript.text", "call.from.raw"],
            &["call.from.number", "call.to.number"],
        );
        assert_eq!(
            applied(&censor, EVENT),
            r#"{"id":"evt_1","data":{"n":1.50,"call":{"from":{"number":"+33*******89"},"transcript":[{},{"at":1}],"to":{"number":null}}},"sequence":"7"}"#
        );
    }

    #[test]
    fn what_is_dropped_is_dropped_with_all_in_it() {
        for censor in [
            censor(&["call"], &["call.from.number"]),
            censor(&["call.from", "call"], &[]),
            censor(&["call", "call.from"], &[]),
        ] {
            assert_eq!(
                applied(&censor, EVENT),
                r#"{"id":"evt_1","data":{"n":1.50},"sequence":"7"}"#
            );
        }
    }

    #[test]
    fn masks_keep_the_country_and_two_digits() {
        for (number, expected) in [
            ("+16045551234", "+1********34"),
            ("+33123456789", "+33*******89"),
            ("+353861234567", "+353*******67"),
            ("+7495", "+7***"),
            // A provider may have masked it.
            ("+33*******89", "+33*******89"),
            ("+4*1234567", "+4******67"),
            ("0123456789", "********89"),
            ("anonymous", "*******us"),
            ("1234", "****"),
            ("+", "+"),
            ("", ""),
        ] {
            assert_eq!(masked(number), expected, "{number}");
        }
    }
}
