//! From a value of the webhook to a value of the event.

use std::borrow::Cow;

use callfeed_description::{Conversion, Leaf, Moment, Rule, fits};
use callfeed_plugin::{
    data::{Party, Seconds},
    json::{RawValue, Value},
    time::Time,
};
use serde::{Serialize, Serializer, ser::SerializeMap};

/// A value of the event.
pub(crate) enum Json<'a> {
    Text(Cow<'a, str>),
    Null,
    Boolean(bool),
    Count(u64),
    Seconds(Seconds),
    Time(Time<'a>),
    Raw(&'a RawValue),
    Object(Vec<(&'a str, Json<'a>)>),
    List(Vec<Json<'a>>),
}

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Null => serializer.serialize_none(),
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::Count(count) => serializer.serialize_u64(*count),
            Self::Seconds(seconds) => seconds.serialize(serializer),
            Self::Time(time) => time.serialize(serializer),
            Self::Raw(raw) => raw.serialize(serializer),
            Self::Object(members) => {
                let mut map = serializer.serialize_map(Some(members.len()))?;
                for (name, value) in members {
                    map.serialize_entry(name, value)?;
                }
                map.end()
            }
            Self::List(items) => items.serialize(serializer),
        }
    }
}

/// A value, and whether it says all that was sent, so that nothing of it has to stay in `extra`.
pub(crate) struct Converted<'a> {
    pub(crate) json: Json<'a>,
    pub(crate) is_whole: bool,
}

fn whole(json: Json<'_>) -> Option<Converted<'_>> {
    Some(Converted { json, is_whole: true })
}

fn changed(json: Json<'_>) -> Option<Converted<'_>> {
    Some(Converted { json, is_whole: false })
}

/// A scalar as a text: that of a string, the digits of a number, `true` and `false`.
pub(crate) fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    match raw.get().as_bytes().first()? {
        b'"' => string(raw),
        b'{' | b'[' | b'n' => None,
        _ => Some(Cow::Borrowed(raw.get())),
    }
}

pub(crate) fn string(raw: &RawValue) -> Option<Cow<'_, str>> {
    Value::Raw(raw).peek_str()
}

/// What the description writes itself.
pub(crate) fn written(conversion: Conversion, text: &str) -> Json<'_> {
    match conversion {
        Conversion::Boolean => Json::Boolean(text == "true"),
        _ => Json::Text(Cow::Borrowed(text)),
    }
}

/// `started_at_ms` is when the call began, where times are said relative to it.
pub(crate) fn convert<'a>(
    leaf: &'a Leaf<'_>,
    rule: &'a Rule<'_>,
    raw: &'a RawValue,
    started_at_ms: Option<i64>,
) -> Option<Converted<'a>> {
    let sent = text(raw);
    if !rule.values.is_empty() {
        let sent = sent?;
        let (_, value) = rule.values.iter().find(|(pattern, _)| fits(pattern, &sent))?;
        return changed(written(rule.conversion, value));
    }
    let is_string = raw.get().starts_with('"');
    let whole_if = |is_whole: bool, json| Some(Converted { json, is_whole });
    match rule.conversion {
        Conversion::Object if raw.get().starts_with('{') => whole(Json::Raw(raw)),
        Conversion::Object => None,
        Conversion::Any => whole(Json::Raw(raw)),
        Conversion::Boolean => match raw.get() {
            "true" => whole(Json::Boolean(true)),
            "false" => whole(Json::Boolean(false)),
            _ => None,
        },
        Conversion::Text => whole_if(is_string, Json::Text(sent.filter(|text| !text.is_empty())?)),
        Conversion::Word => {
            let sent = sent.filter(|_| is_string)?;
            let word = leaf.words.iter().find(|word| ***word == *sent)?;
            whole(Json::Text(Cow::Borrowed(word)))
        }
        Conversion::Number => whole_if(is_string, party(Party::read, sent?)?),
        Conversion::Number00 => whole_if(is_string, party(Party::read_00, sent?)?),
        Conversion::NumberDigits => whole_if(is_string, party(Party::read_digits, sent?)?),
        Conversion::Time(Moment::Rfc3339) => {
            let time = Time::parse(string(raw)?)?;
            whole_if(string(raw)? == time.as_str(), Json::Time(time))
        }
        // A zero stands for no time at all.
        Conversion::Time(Moment::Seconds) => changed(Json::Time(unix(&sent?, 1000)?)),
        Conversion::Time(Moment::Milliseconds) => changed(Json::Time(unix(&sent?, 1)?)),
        Conversion::Duration(unit_ms) => {
            let sent = sent?;
            let number = number(&sent)?;
            let seconds = Seconds::new(match unit_ms {
                1000 => number,
                _ => number * f64::from(unit_ms) / 1000.0,
            })?;
            // More digits an `f64` may round.
            let digits = sent.bytes().filter(u8::is_ascii_digit).count();
            whole_if(unit_ms == 1000 && !is_string && digits <= 15, Json::Seconds(seconds))
        }
        Conversion::Clock => changed(Json::Seconds(clock(&sent?)?)),
        Conversion::IntoCall(unit_ms) => {
            let into_call_ms = (number(&sent?)? * f64::from(unit_ms)) as i64;
            changed(Json::Time(Time::from_ms(started_at_ms?.checked_add(into_call_ms)?)?))
        }
        Conversion::Count => {
            let sent = sent?;
            whole_if(!is_string, Json::Count(sent.parse().ok()?))
        }
    }
}

fn party<'a>(read: fn(Cow<'a, str>) -> Party<'a>, sent: Cow<'a, str>) -> Option<Json<'a>> {
    if sent.is_empty() {
        return None;
    }
    let Party { number, raw, .. } = read(sent);
    let number = number.map_or(Json::Null, Json::Text);
    Some(Json::Object(vec![("number", number), ("raw", Json::Text(raw))]))
}

/// Digits, with a fraction or without, in this unit.
fn unix(digits: &str, unit_ms: i64) -> Option<Time<'static>> {
    let ms = match digits.parse::<i64>() {
        Ok(whole) => whole.checked_mul(unit_ms)?,
        Err(_) => (number(digits)? * unit_ms as f64).round() as i64,
    };
    Time::from_ms(ms).filter(|_| ms > 0)
}

fn number(text: &str) -> Option<f64> {
    let is_number = text.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

/// `mm:ss` or `hh:mm:ss`; the first part may be of any length.
fn clock(text: &str) -> Option<Seconds> {
    let mut parts = text.split(':').map(|part| {
        let is_number = (1..=9).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| part.parse::<u32>().ok()).flatten().map(f64::from)
    });
    let (first, second) = (parts.next()??, parts.next()??);
    let third = parts.next();
    if parts.next().is_some() || second >= 60.0 {
        return None;
    }
    let seconds = match third {
        None => first * 60.0 + second,
        Some(third) => (first * 60.0 + second) * 60.0 + third.filter(|seconds| *seconds < 60.0)?,
    };
    Seconds::new(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_has_two_parts_or_three() {
        let seconds = |text| clock(text).map(|seconds| serde_json::to_string(&seconds).unwrap());
        assert_eq!(seconds("00:42").as_deref(), Some("42"));
        assert_eq!(seconds("90:00").as_deref(), Some("5400"));
        assert_eq!(seconds("1:02:03").as_deref(), Some("3723"));
        for wrong in [
            "",
            "42",
            "0:60",
            "1:60:00",
            "1:00:60",
            "1:2:3:4",
            "-1:00",
            "1:",
            ":1",
            "1:0 1",
            "9999999999:00",
        ] {
            assert_eq!(clock(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_unix_time_is_a_number_after_the_beginning() {
        let text = |digits, unit_ms| unix(digits, unit_ms).map(|time| time.as_str().to_owned());
        assert_eq!(text("1760084622", 1000).as_deref(), Some("2025-10-10T08:23:42Z"));
        assert_eq!(
            text("1760084622.125", 1000).as_deref(),
            Some("2025-10-10T08:23:42.125Z")
        );
        assert_eq!(text("1760084622125", 1).as_deref(), Some("2025-10-10T08:23:42.125Z"));
        for wrong in ["", "0", "-5", "x", "inf", "9223372036854775807", "1e300"] {
            assert_eq!(text(wrong, 1000), None, "{wrong}");
        }
    }
}
