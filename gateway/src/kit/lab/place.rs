//! What stands where in a request, and which of it has the shape of a signature, of a token or of a time.

use std::{fmt, ops::Range};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use jiff::Timestamp;
use serde_json::Value;

use crate::{
    event::RawWebhook,
    plugin::{Hash, unhex},
};

/// Members of a body that are looked at; a signature or a token is no needle in a haystack.
const MEMBERS_MAX: usize = 2_000;
const PRESENTED_MAX: usize = 24;
const MOMENTS_MAX: usize = 8;
/// Signatures under a public key may have any length from this on.
pub(super) const SIGNATURE_BYTES: Range<usize> = 64..520;

/// Where in a request a text stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Header(String),
    Query(String),
    /// A parameter of a form.
    Field(String),
    /// A member of a JSON body, by its pointer.
    Member(String),
    Body,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header {name}"),
            Self::Query(name) => write!(f, "query parameter {name}"),
            Self::Field(name) => write!(f, "form parameter {name}"),
            Self::Member(pointer) => write!(f, "member {pointer} of the body"),
            Self::Body => f.write_str("body"),
        }
    }
}

impl Place {
    /// Its name without where it is.
    pub fn name(&self) -> &str {
        match self {
            Self::Header(name) | Self::Query(name) | Self::Field(name) => name,
            Self::Member(pointer) => pointer.rsplit('/').next().unwrap_or_default(),
            Self::Body => "",
        }
    }
}

/// A text of a request.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub place: Place,
    pub value: String,
}

/// Every text of a request: headers first.
pub(super) fn texts(webhook: &RawWebhook) -> Vec<Text> {
    let text = |place, value: &str| Text {
        place,
        value: value.to_owned(),
    };
    let mut texts: Vec<_> = webhook
        .headers
        .iter()
        .map(|(name, value)| text(Place::Header(name.clone()), value))
        .collect();
    if let Some((_, query)) = webhook.target.split_once('?') {
        texts.extend(pairs(query.as_bytes()).map(|(name, value)| text(Place::Query(name), &value)));
    }
    let Ok(body) = std::str::from_utf8(&webhook.body) else {
        return texts;
    };
    if is_form(webhook) {
        let fields = pairs(body.as_bytes()).take(MEMBERS_MAX);
        texts.extend(fields.map(|(name, value)| text(Place::Field(name), &value)));
    } else if let Ok(document) = serde_json::from_str::<Value>(body) {
        let end = texts.len() + MEMBERS_MAX;
        members(&document, String::new(), &mut texts, end);
    } else {
        texts.push(text(Place::Body, body.trim()));
    }
    texts
}

/// Whether the body is a form, as its type says.
pub(super) fn is_form(webhook: &RawWebhook) -> bool {
    let mut headers = webhook.headers.iter();
    headers.any(|(name, value)| name == "content-type" && value.starts_with("application/x-www-form-urlencoded"))
}

pub(super) fn pairs(text: &[u8]) -> impl Iterator<Item = (String, String)> {
    form_urlencoded::parse(text).into_owned()
}

fn members(value: &Value, pointer: String, texts: &mut Vec<Text>, end: usize) {
    let value = match value {
        Value::Object(members) => {
            for (name, value) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                self::members(value, format!("{pointer}/{name}"), texts, end);
            }
            return;
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                members(value, format!("{pointer}/{at}"), texts, end);
            }
            return;
        }
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(_) | Value::Null => return,
    };
    if texts.len() < end {
        let place = if pointer.is_empty() {
            Place::Body
        } else {
            Place::Member(pointer)
        };
        texts.push(Text { place, value });
    }
}

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Hex,
    Base64,
    Base64Url,
}

impl Encoding {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hex => "hex",
            Self::Base64 => "base64",
            Self::Base64Url => "base64url",
        }
    }
}

/// What could be a signature.
#[derive(Debug, Clone)]
pub struct Presented {
    pub place: Place,
    /// All that stands there.
    pub value: String,
    /// Where in it the signature is.
    pub span: Range<usize>,
    pub bytes: Vec<u8>,
    pub encoding: Encoding,
}

/// Everything that could be a signature.
pub(super) fn presented(texts: &[Text]) -> Vec<Presented> {
    let mut found: Vec<Presented> = Vec::new();
    for text in texts {
        for span in words(&text.value) {
            let Some((encoding, bytes)) = decoded(&text.value[span.clone()]) else {
                continue;
            };
            // The bytes of one word, not of a smaller one within it.
            let is_within = |known: &Presented| known.place == text.place && known.span.end == span.end;
            if !found.iter().any(is_within) && found.len() < PRESENTED_MAX {
                found.push(Presented {
                    place: text.place.clone(),
                    value: text.value.clone(),
                    span,
                    bytes,
                    encoding,
                });
            }
        }
    }
    found
}

/// A value itself, its parts between commas, semicolons, spaces and quotes, and what follows the name of such a part.
pub(super) fn words(value: &str) -> Vec<Range<usize>> {
    let mut words: Vec<_> = std::iter::once(0..value.len()).collect();
    let mut at = 0;
    for part in value.split([',', ';', ' ', '"']) {
        let end = at + part.len();
        words.push(at..end);
        let name = part.find(['=', ':']);
        words.extend(name.filter(|length| *length <= 24).map(|length| at + length + 1..end));
        at = end + 1;
    }
    words.retain(|word| !word.is_empty());
    words.dedup();
    words
}

/// Whether a word is of one request, by its shape: a signature or a time.
pub(super) fn varies(word: &str) -> bool {
    decoded(word).is_some() || moment(word).is_some()
}

fn decoded(word: &str) -> Option<(Encoding, Vec<u8>)> {
    const ANY_PADDING: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);
    let is_signature = |bytes: &Vec<u8>| {
        Hash::ALL.iter().any(|hash| hash.length() == bytes.len()) || SIGNATURE_BYTES.contains(&bytes.len())
    };
    if word.len() > 2 * SIGNATURE_BYTES.end {
        return None;
    }
    let decode = |encoding| match encoding {
        Encoding::Hex => unhex(word.as_bytes()),
        Encoding::Base64 => STANDARD.decode(word).ok(),
        Encoding::Base64Url => URL_SAFE.decode(word).ok(),
    };
    [Encoding::Hex, Encoding::Base64, Encoding::Base64Url]
        .into_iter()
        .find_map(|encoding| decode(encoding).filter(is_signature).map(|bytes| (encoding, bytes)))
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    Seconds,
    Milliseconds,
    Rfc3339,
}

impl Unit {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Milliseconds => "milliseconds",
            Self::Rfc3339 => "rfc3339",
        }
    }
}

/// A time in a request.
#[derive(Debug, Clone)]
pub struct Moment {
    pub place: Place,
    pub text: String,
    pub unit: Unit,
    pub at: Timestamp,
}

/// The times in a request, each text once.
pub(super) fn moments(texts: &[Text]) -> Vec<Moment> {
    let mut moments: Vec<Moment> = Vec::new();
    for text in texts {
        let words = match text.place {
            Place::Header(_) => words(&text.value),
            _ => std::iter::once(0..text.value.len()).collect(),
        };
        for word in words {
            let word = &text.value[word];
            let Some((unit, at)) = moment(word) else { continue };
            if moments.len() < MOMENTS_MAX && !moments.iter().any(|known| known.text == word) {
                moments.push(Moment {
                    place: text.place.clone(),
                    text: word.to_owned(),
                    unit,
                    at,
                });
            }
        }
    }
    moments
}

/// 2010, before which nobody signed webhooks.
const EARLIEST: Timestamp = Timestamp::constant(1_262_304_000, 0);
/// 2100.
const LATEST: Timestamp = Timestamp::constant(4_102_444_800, 0);

fn moment(word: &str) -> Option<(Unit, Timestamp)> {
    let number = || word.parse::<i64>().ok();
    let (unit, at) = match word.len() {
        10 if word.bytes().all(|byte| byte.is_ascii_digit()) => {
            (Unit::Seconds, Timestamp::from_second(number()?).ok()?)
        }
        13 if word.bytes().all(|byte| byte.is_ascii_digit()) => {
            (Unit::Milliseconds, Timestamp::from_millisecond(number()?).ok()?)
        }
        20..40 => (Unit::Rfc3339, word.parse().ok()?),
        _ => return None,
    };
    (EARLIEST..LATEST).contains(&at).then_some((unit, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(value: &str) -> Vec<(String, Encoding, usize)> {
        let text = Text {
            place: Place::Header("x".to_owned()),
            value: value.to_owned(),
        };
        let found = presented(&[text]).into_iter();
        found
            .map(|one| (one.value[one.span].to_owned(), one.encoding, one.bytes.len()))
            .collect()
    }

    #[test]
    fn signatures_are_found_by_their_shape() {
        let hex = "0123456789abcdef".repeat(4);
        let sha1 = "ziDDmlcRhZm7TcvHT0IMejoWqK8=";
        for value in [
            hex.clone(),
            format!("sha256={hex}"),
            format!("t=1780315197,v0={hex}"),
            format!("v1:{hex}; t=1"),
            format!("HMAC {hex}"),
            format!("keyId=\"a\",signature=\"{hex}\""),
        ] {
            assert_eq!(found(&value), [(hex.clone(), Encoding::Hex, 32)], "{value}");
        }
        assert_eq!(found(sha1), [(sha1.to_owned(), Encoding::Base64, 20)]);
        let unpadded = sha1.trim_end_matches('=').replace('+', "-").replace('/', "_");
        assert_eq!(found(&format!("v1,{unpadded}"))[0].2, 20);
        let two = format!("v1,{sha1} v1,{sha1}");
        assert_eq!(found(&two).len(), 2);
        for no in ["application/json", "1780315197", "cebcaac65f1d4b7e9a0c2d4e6f8a0b1c", ""] {
            assert_eq!(found(no), [], "{no}");
        }
    }

    #[test]
    fn times_are_those_of_webhooks() {
        let unit = |word| moment(word).map(|(unit, _)| unit);
        assert_eq!(unit("1780315197"), Some(Unit::Seconds));
        assert_eq!(unit("1780315197588"), Some(Unit::Milliseconds));
        assert_eq!(unit("2026-06-01T11:59:58.427Z"), Some(Unit::Rfc3339));
        for no in ["0000000001", "9999999999", "178031519", "2026-06-01", "+178031519"] {
            assert_eq!(unit(no), None, "{no}");
        }
    }
}
