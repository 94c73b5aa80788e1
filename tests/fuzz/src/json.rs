//! The SDK's reader of JSON, beside serde's.

use callfeed_plugin::json::{DEPTH_MAX, Document, List, Object};
use serde_json::{Map, Value};

use crate::spelling::{escaped, spaced};

/// A body as a plugin reads it.
///
/// It is taken exactly when serde takes it, unless it is too deep, has a key twice, or has half a surrogate pair; and
/// whatever a mapping takes out of it, the rest is left.
pub fn json(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let theirs = serde_json::from_str::<Value>(text);
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(rejection) => {
            if let Ok(value) = theirs {
                let is_right = match rejection.code.as_str() {
                    "json-too-deep" => depth(&value) > DEPTH_MAX,
                    "json-duplicate-key" => members_written(text) > members(&value),
                    _ => false,
                };
                assert!(is_right, "{rejection:?}");
            }
            let said: Vec<&str> = rejection.detail.split(' ').collect();
            let is_place = matches!(said[..], ["line", line, "column", column]
                if line.parse::<usize>().is_ok() && column.parse::<usize>().is_ok());
            assert!(is_place, "{rejection:?} tells more than a place");
            return;
        }
    };
    let value: Value = serde_json::from_str(document.as_str()).expect("what is taken is JSON");
    if let Ok(theirs) = theirs {
        assert_eq!(value, theirs);
        assert_eq!(document.as_str(), text);
    }
    assert!(depth(&value) <= DEPTH_MAX && members_written(text) == members(&value));

    let fingerprint = document.fingerprint().expect("this host hashes without end");
    for spelling in [spaced(text), escaped(document.as_str())] {
        let other = Document::parse(&spelling).expect("another spelling is JSON too");
        assert_eq!(other.fingerprint().as_ref(), Ok(&fingerprint), "{spelling}");
    }

    let (Value::Object(members), Ok(_)) = (&value, document.object()) else {
        assert!(!value.is_object() && document.object().is_err());
        return;
    };
    // Another taking each time, the same for the same input.
    for turn in 0..4 {
        let mut object = document.object().expect("it was one just now");
        let left = read(&mut object, members, text.len() + turn);
        let kept: Value = serde_json::to_value(&object).expect("what is left is JSON");
        assert_eq!(leaves(&kept), leaves(&Value::Object(left)), "turn {turn}");
    }
}

/// Takes out of an object what it can in many ways, and returns what has to be left.
fn read(object: &mut Object<'_>, members: &Map<String, Value>, turn: usize) -> Map<String, Value> {
    let mut left = Map::new();
    for (number, (key, value)) in members.iter().enumerate() {
        assert!(object.contains(key) && object.has(key) != value.is_null());
        let whole = value.as_i64().filter(|_| !value.is_f64());
        let mut inner = None;
        match (number * 7 + key.len() + turn) % 16 {
            0 => assert_eq!(object.take_str(key).as_deref(), value.as_str()),
            1 => assert_eq!(object.take_bool(key), value.as_bool()),
            // `-0` is a whole number here and none for serde.
            2 => assert_eq!(
                object.take_i64(key).filter(|number| *number != 0),
                whole.filter(|number| *number != 0)
            ),
            3 => assert_eq!(object.take_u64(key), value.as_u64()),
            4 => assert_eq!(object.take_f64(key), value.as_f64()),
            5 => {
                let id = object.take_id(key);
                // What the gateway takes for no id is none.
                let fits = |text: &&str| (1..=256).contains(&text.len()) && !text.contains(char::is_control);
                match value {
                    Value::String(text) => assert_eq!(id.as_deref(), Some(text.as_str()).filter(fits)),
                    Value::Number(_) => assert!(id.is_none_or(|id| id.parse::<f64>().ok() == value.as_f64())),
                    _ => assert_eq!(id, None),
                }
            }
            6 => {
                let sent = object.peek_str(key);
                if let (Some(time), Some(sent)) = (object.take_time(key), sent) {
                    assert_eq!(object.contains(key), time.as_str() != sent);
                }
            }
            7 => assert_eq!(
                object.take_seconds(key).is_some(),
                value.as_f64().is_some_and(|seconds| seconds >= 0.0)
            ),
            8 => assert_eq!(object.take_str_list(key).map(|list| list.len()), texts(value)),
            9 => assert_eq!(
                object.take_one_or_several(key).map(|list| list.len()),
                value.as_str().map(|_| 1).or(texts(value))
            ),
            10 => assert!(object.take_raw(key).is_some()),
            11 => assert_eq!(object.take_raw_object(key).is_some(), value.is_object()),
            12 => assert_eq!(
                object.take_party(key).is_some(),
                value.as_str().is_some_and(|text| !text.is_empty())
            ),
            13 => {
                let raw = object.peek_raw(key).expect("it is there");
                assert_eq!(serde_json::from_str::<Value>(raw.get()).ok().as_ref(), Some(value));
            }
            _ => {
                if let (Some(object), Value::Object(members)) = (object.open(key), value) {
                    inner = Some(Value::Object(read(object, members, turn + 1)));
                }
                if let (Some(list), Value::Array(items)) = (object.open_list(key), value) {
                    inner = Some(Value::Array(read_list(list, items, turn + 1)));
                }
            }
        }
        if object.contains(key) {
            left.insert(key.clone(), inner.unwrap_or_else(|| value.clone()));
        }
    }
    left
}

fn read_list(list: &mut List<'_>, items: &[Value], turn: usize) -> Vec<Value> {
    assert_eq!(list.count(), items.len());
    let inner = |(item, value): (&mut callfeed_plugin::json::Value<'_>, &Value)| match value {
        Value::Object(members) => {
            let object = item.open().expect("it is an object");
            Value::Object(read(object, members, turn))
        }
        Value::Array(items) => {
            let list = item.open_list().expect("it is a list");
            Value::Array(read_list(list, items, turn))
        }
        scalar => {
            assert_eq!(item.peek_str().as_deref(), scalar.as_str());
            scalar.clone()
        }
    };
    list.items().zip(items).map(inner).collect()
}

/// How many items a list of texts has.
fn texts(value: &Value) -> Option<usize> {
    let items = value.as_array()?;
    items.iter().all(Value::is_string).then_some(items.len())
}

/// The scalars, in order. An emptied object is not written, and nobody misses it.
fn leaves(value: &Value) -> Vec<&Value> {
    match value {
        Value::Object(members) => members.values().flat_map(leaves).collect(),
        Value::Array(items) => items.iter().flat_map(leaves).collect(),
        scalar => vec![scalar],
    }
}

fn depth(value: &Value) -> u32 {
    match value {
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or_default(),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or_default(),
        _ => 0,
    }
}

fn members(value: &Value) -> usize {
    match value {
        Value::Object(inner) => inner.len() + inner.values().map(members).sum::<usize>(),
        Value::Array(items) => items.iter().map(members).sum(),
        _ => 0,
    }
}

/// The colons outside of texts.
fn members_written(json: &str) -> usize {
    let (mut in_string, mut escaped, mut count) = (false, false, 0);
    for byte in json.bytes() {
        if in_string {
            in_string = escaped || byte != b'"';
            escaped = !escaped && byte == b'\\';
        } else {
            in_string = byte == b'"';
            count += usize::from(byte == b':');
        }
    }
    count
}
