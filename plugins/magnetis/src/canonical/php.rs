//! What PHP's own functions make of a value: the sender is a PHP application.

use super::tree::Tree;

/// `max_input_nesting_level` of php.ini.
const NESTING_MAX: usize = 64;

/// `max_input_vars` of php.ini.
const VARIABLES_MAX: usize = 1000;

/// Which flags `json_encode` got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Json {
    /// None: slashes and everything beyond ASCII are escaped.
    Default,
    /// `JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE`.
    Unescaped,
}

/// `json_encode($value, $flags)`.
pub(crate) fn json_encode(value: &Tree, flags: Json) -> String {
    let mut out = String::new();
    encode(value, flags, &mut out);
    out
}

fn encode(value: &Tree, flags: Json, out: &mut String) {
    match value {
        Tree::Null => out.push_str("null"),
        Tree::Bool(true) => out.push_str("true"),
        Tree::Bool(false) => out.push_str("false"),
        Tree::Integer(integer) => out.push_str(&integer.to_string()),
        Tree::Float(float) => out.push_str(&number(*float, Digits::Shortest, 'e')),
        Tree::Text(text) => quote(text, flags, out),
        Tree::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                encode(item, flags, out);
            }
            out.push(']');
        }
        Tree::Object(entries) => {
            out.push('{');
            for (at, (key, item)) in entries.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                quote(key, flags, out);
                out.push(':');
                encode(item, flags, out);
            }
            out.push('}');
        }
    }
}

fn quote(text: &str, flags: Json, out: &mut String) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' if flags == Json::Default => out.push_str("\\/"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            // The line separators stay escaped unless JSON_UNESCAPED_LINE_TERMINATORS is given as well.
            '\0'..='\u{1f}' | '\u{2028}' | '\u{2029}' => escape(character, out),
            '\u{80}'.. if flags == Json::Default => escape(character, out),
            _ => out.push(character),
        }
    }
    out.push('"');
}

fn escape(character: char, out: &mut String) {
    for unit in character.encode_utf16(&mut [0; 2]) {
        out.push_str(&format!("\\u{unit:04x}"));
    }
}

/// `(string) $value` for what is not nested.
pub(crate) fn string(value: &Tree) -> String {
    match value {
        Tree::Null | Tree::Bool(false) => String::new(),
        Tree::Bool(true) => "1".to_owned(),
        Tree::Integer(integer) => integer.to_string(),
        Tree::Float(float) => number(*float, Digits::Fourteen, 'E'),
        Tree::Text(text) => text.clone(),
        // With a warning in PHP, where it is a mistake to do so.
        Tree::List(_) | Tree::Object(_) => "Array".to_owned(),
    }
}

/// How many digits a float gets.
enum Digits {
    /// `serialize_precision = -1`: the shortest that read back the same. Used by `json_encode`.
    Shortest,
    /// `precision = 14`. Used where a float becomes a string.
    Fourteen,
}

/// `php_gcvt` of main/snprintf.c.
fn number(value: f64, digits: Digits, exponent: char) -> String {
    let (printed, digits_max) = match digits {
        Digits::Shortest => (format!("{value:e}"), 17),
        Digits::Fourteen => (format!("{value:.13e}"), 14),
    };
    let Some((mantissa, power)) = printed.split_once('e') else {
        // Not a number or not finite, and JSON has no way to say either.
        return printed;
    };
    let power: i32 = power.parse().unwrap_or_default();
    let (sign, mantissa) = mantissa.strip_prefix('-').map_or(("", mantissa), |rest| ("-", rest));
    let mut figures = mantissa.replace('.', "");
    figures.truncate(figures.trim_end_matches('0').len().max(1));

    // Where the point goes, counted from the first figure.
    let point = power + 1;
    let body = if point < -3 || point > digits_max {
        let (first, rest) = figures.split_at(1);
        let rest = if rest.is_empty() { "0" } else { rest };
        format!("{first}.{rest}{exponent}{power:+}")
    } else if point <= 0 {
        format!("0.{}{figures}", "0".repeat(point.unsigned_abs() as usize))
    } else {
        let point = point as usize;
        match figures.get(point..) {
            Some(fraction) if !fraction.is_empty() => format!("{}.{fraction}", &figures[..point]),
            _ => format!("{figures}{}", "0".repeat(point - figures.len())),
        }
    };
    format!("{sign}{body}")
}

/// The array PHP makes of form variables: `a[b][]=c` (`php_register_variable_ex` of main/php_variables.c). `None` where PHP
/// would drop some of them, or put one in the place of another.
pub(crate) fn nest<'a>(variables: impl ExactSizeIterator<Item = (&'a str, &'a str)>) -> Option<Vec<(String, Tree)>> {
    if variables.len() > VARIABLES_MAX {
        return None;
    }
    let mut root = Array::default();
    for (name, value) in variables {
        let (first, rest) = split(name)?;
        if !root.put(&first, &rest, value) {
            return None;
        }
    }
    Some(root.into_entries())
}

/// `a[b][]` → `a`, then `b` and an empty step.
fn split(name: &str) -> Option<(String, Vec<&str>)> {
    let name = name.trim_start_matches(' ');
    let (first, mut rest) = match name.find('[') {
        Some(0) | None => (name, ""),
        Some(at) => name.split_at(at),
    };
    // A name cannot hold these two, because register_globals once made a variable of it.
    let mut first = first.replace(['.', ' '], "_");
    if first.is_empty() {
        return None;
    }
    let mut steps = Vec::new();
    while let Some(inside) = rest.strip_prefix('[') {
        let Some((step, after)) = inside.split_once(']') else {
            if steps.is_empty() {
                first = format!("{first}_{inside}").replace(['.', ' '], "_");
            }
            break;
        };
        steps.push(step);
        if steps.len() > NESTING_MAX {
            return None;
        }
        rest = after;
    }
    Some((first, steps))
}

/// A PHP array being filled.
#[derive(Default)]
struct Array {
    entries: Vec<(String, Slot)>,
    next_index: i64,
}

enum Slot {
    Text(String),
    Nested(Array),
}

impl Array {
    /// Whether the value has a place of its own, and not that of an earlier one.
    fn put(&mut self, key: &str, rest: &[&str], value: &str) -> bool {
        let key = if key.is_empty() {
            self.next_index.to_string()
        } else {
            key.to_owned()
        };
        if let Some(index) = integer_key(&key) {
            self.next_index = self.next_index.max(index.saturating_add(1));
        }
        let known = self.entries.iter_mut().find(|(known, _)| *known == key);
        match (known, rest.split_first()) {
            (Some((_, Slot::Nested(array))), Some((next, rest))) => array.put(next, rest, value),
            (Some(_), _) => false,
            (None, None) => {
                self.entries.push((key, Slot::Text(value.to_owned())));
                true
            }
            (None, Some((next, rest))) => {
                let mut array = Array::default();
                array.put(next, rest, value);
                self.entries.push((key, Slot::Nested(array)));
                true
            }
        }
    }

    fn into_entries(self) -> Vec<(String, Tree)> {
        self.entries
            .into_iter()
            .map(|(key, slot)| (key, slot.into_tree()))
            .collect()
    }
}

impl Slot {
    fn into_tree(self) -> Tree {
        match self {
            Slot::Text(text) => Tree::Text(text),
            // `json_encode` prints a list where the keys count from 0.
            Slot::Nested(array)
                if array
                    .entries
                    .iter()
                    .enumerate()
                    .all(|(at, (key, _))| *key == at.to_string()) =>
            {
                Tree::List(array.entries.into_iter().map(|(_, slot)| slot.into_tree()).collect())
            }
            Slot::Nested(array) => Tree::Object(array.into_entries()),
        }
    }
}

/// A string key that PHP turns into an integer one: canonical decimal.
fn integer_key(key: &str) -> Option<i64> {
    key.parse().ok().filter(|index: &i64| index.to_string() == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn nested(variables: &[(&str, &str)], expected: &str) {
        let tree = Tree::Object(nest(variables.iter().copied()).expect("PHP takes these variables"));
        assert_eq!(json_encode(&tree, Json::Unescaped), expected);
    }

    #[test]
    fn brackets_nest() {
        nested(
            &[("a[b][c]", "1"), ("a[b][d]", "2"), ("e", "3")],
            r#"{"a":{"b":{"c":"1","d":"2"}},"e":"3"}"#,
        );
        nested(&[("a[]", "x"), ("a[]", "y")], r#"{"a":["x","y"]}"#);
        nested(&[("a[0][k]", "x"), ("a[1][k]", "y")], r#"{"a":[{"k":"x"},{"k":"y"}]}"#);
        nested(&[("a[1]", "x"), ("a[]", "y")], r#"{"a":{"1":"x","2":"y"}}"#);
        nested(
            &[("a.b c", "x"), ("a[b", "y"), ("d[e]f", "z")],
            r#"{"a_b_c":"x","a_b":"y","d":{"e":"z"}}"#,
        );
        assert!(nest([("", "x")].into_iter()).is_none());
        for both in [
            ["a[b]", "a"],
            ["a", "a[b]"],
            ["a[b]", "a[b]"],
            ["a[b][c]", "a[b]"],
            ["a[]", "a[0]"],
        ] {
            assert!(nest(both.map(|name| (name, "x")).into_iter()).is_none(), "{both:?}");
        }
        let deep = format!("a{}", "[b]".repeat(65));
        assert!(nest([(deep.as_str(), "x")].into_iter()).is_none());
    }

    #[test]
    fn json_encode_escapes_as_php_does() {
        let text = Tree::Text("é/\u{1F600}\"\\\n\u{1}\u{7f}\u{2028}".to_owned());
        assert_eq!(
            json_encode(&text, Json::Default),
            "\"\\u00e9\\/\\ud83d\\ude00\\\"\\\\\\n\\u0001\u{7f}\\u2028\""
        );
        assert_eq!(
            json_encode(&text, Json::Unescaped),
            "\"é/\u{1F600}\\\"\\\\\\n\\u0001\u{7f}\\u2028\""
        );
    }

    #[test]
    fn floats_print_as_php_prints_them() {
        for (float, json, text) in [
            (2.5, "2.5", "2.5"),
            (10.0, "10", "10"),
            (0.1 + 0.2, "0.30000000000000004", "0.3"),
            (1e25, "1.0e+25", "1.0E+25"),
            (0.0001, "0.0001", "0.0001"),
            (0.000_012_5, "1.25e-5", "1.25E-5"),
            (1e15, "1000000000000000", "1.0E+15"),
            (0.0, "0", "0"),
            (-0.0, "-0", "-0"),
            (-1234.5, "-1234.5", "-1234.5"),
        ] {
            assert_eq!(json_encode(&Tree::Float(float), Json::Default), json);
            assert_eq!(string(&Tree::Float(float)), text);
        }
    }
}
