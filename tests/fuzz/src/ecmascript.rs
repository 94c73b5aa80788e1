//! TopCalls' `JSON.stringify(JSON.parse(text))`, beside the SDK's reader. The plugin's own tests hold it against Node.

use callfeed_plugin::json::Document;
use native_topcalls::ecmascript::{Error, reserialise};
use serde_json::Value;

use crate::spelling::spaced;

/// A body as JavaScript prints it again.
///
/// Printed twice it is the same, blank space makes no difference, it says what the body said, and two readers that were
/// written apart agree on what is JSON.
pub fn ecmascript(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let document = Document::parse(text);
    let printed = match reserialise(text) {
        Ok(printed) => printed,
        Err(error) => {
            assert!(document.is_err() || error == Error::ProtoKey, "{error:?}, and yet JSON");
            return;
        }
    };
    assert_eq!(reserialise(&printed).as_ref(), Ok(&printed));
    assert_eq!(reserialise(&spaced(text)).as_ref(), Ok(&printed));

    // Infinity has become null by now, so that what is left to refuse is depth, and keys that only differ in which half of
    // a pair they have.
    let printed = match Document::parse(&printed) {
        Ok(printed) => printed,
        Err(rejection) => {
            assert_ne!(rejection.code, "json-invalid", "{printed}");
            return;
        }
    };
    let keys: Vec<String> = match printed.object() {
        Ok(object) => object.keys().map(str::to_owned).collect(),
        Err(_) => Vec::new(),
    };
    let is_index = |key: &String| {
        key.parse::<u32>()
            .is_ok_and(|index| index < u32::MAX && index.to_string() == *key)
    };
    let indexes: Vec<u32> = keys
        .iter()
        .take_while(|key| is_index(key))
        .flat_map(|key| key.parse())
        .collect();
    assert!(
        indexes.is_sorted() && !keys[indexes.len()..].iter().any(is_index),
        "{keys:?}"
    );

    if let Ok(document) = document {
        let value = |document: &Document<'_>| serde_json::from_str::<Value>(document.as_str()).expect("it was checked");
        assert!(same(&value(&document), &value(&printed)), "it says another thing");
    }
}

/// Whether two values say the same to JavaScript, for which every number is a double.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(key, value)| right.get(key).is_some_and(|other| same(value, other)))
        }
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
        (left, right) => left == right,
    }
}
