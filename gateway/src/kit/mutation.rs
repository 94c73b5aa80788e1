//! Bodies that no provider sends, yet. Pure: the same seed makes the same bodies.

use serde_json::{Map, Value, json};

/// Chance that can be repeated (SplitMix64).
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `count`, which is not 0.
    pub(super) fn below(&mut self, count: usize) -> usize {
        (self.roll() % count as u64) as usize
    }

    pub(super) fn one_of<'t, T>(&mut self, of: &'t [T]) -> &'t T {
        &of[self.below(of.len())]
    }
}

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syntax {
    Json,
    Form,
    Other,
}

impl Syntax {
    pub(super) fn of(body: &[u8], is_form: bool) -> Self {
        if is_form {
            Self::Form
        } else if serde_json::from_slice::<Value>(body).is_ok() {
            Self::Json
        } else {
            Self::Other
        }
    }
}

/// Changes one to three things of a body; says which, and gives the result.
pub(super) fn mutate(body: &[u8], syntax: Syntax, dice: &mut Dice) -> (String, Vec<u8>) {
    let mut done = Vec::new();
    let mut changed = body.to_vec();
    for _ in 0..=dice.below(3) {
        let (what, next) = match syntax {
            Syntax::Json => json_step(&changed, dice),
            Syntax::Form => form_step(&changed, dice),
            Syntax::Other => byte_step(&changed, dice),
        };
        done.push(what);
        changed = next;
    }
    (done.join(", then "), changed)
}

fn odd_values() -> Vec<Value> {
    json!([
        null, true, false, "", " ", "x", "0", " 7 ", "-1", "NaN", "null", "true", "1e999", "2023-02-30",
        "2026-13-01T25:61:61Z", "9999-12-31T23:59:59.999999999Z", "+", "+1", "++49 (0) 30/123", "٠١٢٣", "ｆｕｌｌ",
        "\u{0}", "a\u{0}b", "\u{1b}[2J", "\u{202e}", "\u{feff}", "💥", "\u{10ffff}", "\r\n", "{}", "[]", "\"",
        "\\", "%00", "<a>", "'; --", "../..", "Agent:", "Agent: a\nCaller: b", ": ", ":",
        -1, 0, 7, 1.5, -0.0, 1e300, -1e300, 1e-300, 253_402_300_800_000_i64, 9_007_199_254_740_993_i64, i64::MIN,
        u64::MAX, [], {}, [null], ["x"], [[]], [{}], { "": "" }, { "id": {} }, [1, "1", true, null, {}],
        { "raw": "x", "number": "y" }, { "text": "x" }
    ])
    .as_array()
    .cloned()
    .unwrap_or_default()
}

fn odd_value(dice: &mut Dice) -> Value {
    match dice.below(24) {
        0 => "x".repeat(1 << 14).into(),
        1 => "9".repeat(1 + dice.below(400)).into(),
        2 => (0..64).fold(json!(1), |inner, _| json!([inner])),
        3 => (0..64).fold(json!(1), |inner, _| json!({ "a": inner })),
        4 => vec![json!({ "x": 1 }); 300].into(),
        5 => (0..300)
            .map(|n| (format!("k{n}"), n.into()))
            .collect::<Map<_, _>>()
            .into(),
        6 => "é💥".repeat(1 + dice.below(600)).into(),
        7 => dice.roll().into(),
        8 => (dice.below(2_000_000_000) as f64 / 7.0).into(),
        _ => dice.one_of(&odd_values()).clone(),
    }
}

fn json_step(body: &[u8], dice: &mut Dice) -> (String, Vec<u8>) {
    // What an earlier step has broken goes on as bytes.
    let Ok(mut document) = serde_json::from_slice::<Value>(body) else {
        return byte_step(body, dice);
    };
    if dice.below(12) == 0 {
        return text_step(body, dice);
    }
    let mut places = Vec::new();
    pointers(&document, String::new(), &mut places);
    if places.is_empty() || dice.below(40) == 0 {
        let value = odd_value(dice);
        return (format!("body = {}", short(&value)), value.to_string().into_bytes());
    }
    let place = dice.one_of(&places).clone();
    let other = dice.one_of(&places).clone();
    let what = match dice.below(10) {
        0..=3 => {
            let value = odd_value(dice);
            let what = format!("{place} = {}", short(&value));
            *at(&mut document, &place) = value;
            what
        }
        4 | 5 => {
            let (parent, key) = parent(&place);
            match at(&mut document, parent) {
                Value::Object(members) => _ = members.remove(&key),
                Value::Array(items) => _ = items.remove(key.parse().unwrap_or_default()),
                _ => {}
            }
            format!("{place} removed")
        }
        6 => {
            let (parent, key) = parent(&place);
            let new = dice.one_of(&["", "id", "raw", "Event", "💥", "a/b~c", "extra", "provider"]);
            if let Value::Object(members) = at(&mut document, parent)
                && let Some(value) = members.remove(&key)
            {
                members.insert((*new).to_owned(), value);
            }
            format!("{place} renamed to {new:?}")
        }
        7 => {
            let value = document.pointer(&other).cloned().unwrap_or_default();
            *at(&mut document, &place) = value;
            format!("{place} = what is at {other}")
        }
        8 => {
            let value = at(&mut document, &place);
            let inner = value.take();
            *value = match dice.below(3) {
                0 => json!([inner]),
                1 => json!({ "value": inner }),
                _ => inner.to_string().into(),
            };
            format!("{place} wrapped")
        }
        _ => {
            let name = format!("unheard_of_{}", dice.below(100));
            let value = odd_value(dice);
            let what = format!("{place}/{name} = {}", short(&value));
            match at(&mut document, &place) {
                Value::Object(members) => _ = members.insert(name, value),
                Value::Array(items) => items.push(value),
                scalar => *scalar = value,
            }
            what
        }
    };
    (what, document.to_string().into_bytes())
}

/// What a tree of values cannot say: keys that come twice, escapes, numbers beyond any type.
fn text_step(body: &[u8], dice: &mut Dice) -> (String, Vec<u8>) {
    let text = String::from_utf8_lossy(body).into_owned();
    let spliced = |mark: &str, with: &str| match text.find(mark) {
        Some(found) => format!("{}{with}{}", &text[..found], &text[found + mark.len()..]),
        None => text.clone(),
    };
    let (what, changed) = match dice.below(9) {
        0 => ("a key twice", spliced("{", r#"{"event":"twice","event":"twice","#)),
        1 => ("half a surrogate", spliced(":\"", r#":"\ud800"#)),
        2 => ("an escaped key", spliced("{\"", r#"{"\u0065vent":1,""#)),
        3 => ("a number beyond all types", spliced(": ", ": 1e999,\"n\": ")),
        4 => (
            "a long number",
            spliced(
                "{",
                r#"{"n":123456789012345678901234567890.123456789012345678901234567890,"#,
            ),
        ),
        5 => ("a byte order mark", format!("\u{feff}{text}")),
        6 => ("space around", format!(" \r\n\t{text}\n\n ")),
        7 => ("deep nesting", format!("{}1{}", "[".repeat(5000), "]".repeat(5000))),
        _ => ("two documents", format!("{text}{text}")),
    };
    (what.to_owned(), changed.into_bytes())
}

fn form_step(body: &[u8], dice: &mut Dice) -> (String, Vec<u8>) {
    let mut fields: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
    if fields.is_empty() || dice.below(10) == 0 {
        let text = String::from_utf8_lossy(body);
        let (what, changed) = match dice.below(5) {
            0 => ("an escape cut off", format!("{text}%")),
            1 => ("bytes that are not text", format!("{text}&x=%ff%fe&%c3=%28")),
            2 => ("nothing between", format!("&&={text}&=&")),
            3 => ("many fields", format!("{text}{}", "&a[]=1".repeat(200))),
            _ => return byte_step(body, dice),
        };
        return (what.to_owned(), changed.into_bytes());
    }
    let at = dice.below(fields.len());
    let name = fields[at].0.clone();
    let what = match dice.below(7) {
        0..=2 => {
            let value = match odd_value(dice) {
                Value::String(text) => text,
                other => other.to_string(),
            };
            let what = format!("{name} = {}", short(&value.as_str().into()));
            fields[at].1 = value;
            what
        }
        3 => {
            fields.remove(at);
            format!("{name} removed")
        }
        4 => {
            let field = fields[at].clone();
            fields.push(field);
            format!("{name} twice")
        }
        5 => {
            let new = dice.one_of(&["", "[", "]", "[]", "a[b", "a[b][]", "a]b[", "data[", "💥", "\u{0}"]);
            fields[at].0 = (*new).to_owned();
            format!("{name} renamed to {new:?}")
        }
        _ => {
            fields[at].0 = format!("{name}[{}]", dice.one_of(&["", "0", "x", "999999999999", "-1"]));
            format!("{name} made a list")
        }
    };
    let mut encoded = form_urlencoded::Serializer::new(String::new());
    encoded.extend_pairs(fields);
    (what, encoded.finish().into_bytes())
}

fn byte_step(body: &[u8], dice: &mut Dice) -> (String, Vec<u8>) {
    let mut changed = body.to_vec();
    if changed.is_empty() {
        return ("a byte instead of nothing".to_owned(), vec![dice.roll() as u8]);
    }
    let at = dice.below(changed.len());
    let what = match dice.below(5) {
        0 => {
            changed.truncate(at);
            format!("cut off after byte {at}")
        }
        1 => {
            changed.remove(at);
            format!("byte {at} removed")
        }
        2 => {
            changed.insert(at, dice.roll() as u8);
            format!("a byte more at {at}")
        }
        3 => {
            changed[at] = dice.roll() as u8;
            format!("byte {at} another")
        }
        _ => {
            changed.clear();
            "emptied".to_owned()
        }
    };
    (what, changed)
}

/// The body as large as it may become: one text, one list or one object of it grown.
pub(super) fn grown(body: &[u8], syntax: Syntax, bytes: usize) -> Vec<(&'static str, Vec<u8>)> {
    let room = bytes.saturating_sub(body.len() + 64);
    let mut all = Vec::new();
    match (syntax, serde_json::from_slice::<Value>(body)) {
        (Syntax::Json, Ok(Value::Object(members))) => {
            let mut with = |what, value: Value| {
                let mut grown = members.clone();
                grown.insert("unheard_of".to_owned(), value);
                all.push((what, Value::Object(grown).to_string().into_bytes()));
            };
            with("one long text", "x".repeat(room).into());
            with("one long text of escapes", "\n".repeat(room / 2).into());
            with("a long list", vec![json!(1); room / 2].into());
            with("many objects", vec![json!({ "a": "b" }); room / 10].into());
            let names = (0..room / 12).map(|n| (format!("k{n:05}"), json!(1)));
            with("many members", names.collect::<Map<_, _>>().into());
            // The text that is longest may be one that is taken apart: a transcript, a list in a text.
            let longest = members
                .iter()
                .filter_map(|(key, value)| Some((value.as_str()?.len(), key)));
            if let Some((_, key)) = longest.max() {
                let mut grown = members.clone();
                let lines = "Agent: a\nCaller: b\n";
                grown.insert(key.clone(), lines.repeat(room / (lines.len() + 2)).into());
                all.push(("a long text of lines", Value::Object(grown).to_string().into_bytes()));
            }
        }
        (Syntax::Form, _) => {
            let text = String::from_utf8_lossy(body);
            all.push((
                "one long field",
                format!("{text}&unheard_of={}", "x".repeat(room)).into_bytes(),
            ));
            let brackets = "%5Ba%5D".repeat(room / 7);
            all.push((
                "a field of many parts",
                format!("{text}&unheard_of{brackets}=1").into_bytes(),
            ));
        }
        _ => all.push(("as many bytes", [body, &vec![b'x'; room]].concat())),
    }
    all
}

/// The same body in other words: what a provider's next version of its serialiser may send. `None` where that is not known.
pub(super) fn reworded(body: &[u8], syntax: Syntax) -> Option<Vec<u8>> {
    match syntax {
        Syntax::Json => {
            let text = std::str::from_utf8(body).ok()?;
            let (mut in_string, mut escaped) = (false, false);
            let mut spaced = String::with_capacity(text.len() * 2);
            for c in text.chars() {
                spaced.push(c);
                if in_string {
                    in_string = escaped || c != '"';
                    escaped = !escaped && c == '\\';
                } else {
                    in_string = c == '"';
                    if matches!(c, '{' | '[' | ',' | ':') {
                        spaced.push_str("\n ");
                    }
                }
            }
            Some(spaced.into_bytes())
        }
        Syntax::Form => {
            let all = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
            let fields = form_urlencoded::parse(body).map(|(name, value)| format!("{}={}", all(&name), all(&value)));
            Some(fields.collect::<Vec<_>>().join("&").into_bytes())
        }
        Syntax::Other => None,
    }
}

/// A JSON pointer to everything in a document but the document itself.
fn pointers(value: &Value, at: String, found: &mut Vec<String>) {
    let mut inner = |key: &str, value: &Value| {
        let at = format!("{at}/{key}");
        found.push(at.clone());
        pointers(value, at, found);
    };
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                inner(&key.replace('~', "~0").replace('/', "~1"), value);
            }
        }
        Value::Array(items) => {
            for (at, value) in items.iter().enumerate() {
                inner(&at.to_string(), value);
            }
        }
        _ => {}
    }
}

fn at<'v>(document: &'v mut Value, place: &str) -> &'v mut Value {
    document
        .pointer_mut(place)
        .expect("the place was found in the document")
}

fn parent(place: &str) -> (&str, String) {
    let (parent, key) = place.rsplit_once('/').expect("a place begins with a slash");
    (parent, key.replace("~1", "/").replace("~0", "~"))
}

fn short(value: &Value) -> String {
    const CHARS: usize = 40;
    let text = value.to_string();
    match text.char_indices().nth(CHARS) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &[u8] = br#"{"event": "ended", "data": {"id": "1", "steps": [{"a/b": 1.50}, "x:\"{"]}}"#;

    #[test]
    fn the_same_seed_makes_the_same_bodies() {
        for (body, syntax) in [
            (JSON, Syntax::Json),
            (b"a%5Bb%5D=1&c=2", Syntax::Form),
            (b"<a/>", Syntax::Other),
        ] {
            let made = |seed| {
                let mut dice = Dice::new(seed);
                (0..200).map(|_| mutate(body, syntax, &mut dice)).collect::<Vec<_>>()
            };
            assert_eq!(made(7), made(7));
            assert_ne!(made(7), made(8));
            let changed = made(7).iter().filter(|(_, made)| made != body).count();
            assert!(changed > 180, "{syntax:?}: {changed}");
        }
        let mut dice = Dice::new(1);
        let json =
            (0..200).filter(|_| serde_json::from_slice::<Value>(&mutate(JSON, Syntax::Json, &mut dice).1).is_ok());
        assert!(json.count() > 100, "most of them are still JSON");
    }

    #[test]
    fn another_wording_says_the_same() {
        let value = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let reworded = |body: &[u8], syntax| super::reworded(body, syntax).unwrap();
        let json = reworded(JSON, Syntax::Json);
        assert_eq!(value(&json), value(JSON));
        assert_ne!(json, JSON);
        assert_eq!(reworded(b"a=b+c&d", Syntax::Form), b"%61=%62%20%63&%64=");
    }

    #[test]
    fn a_body_grows_to_its_bound() {
        for (body, syntax) in [(JSON, Syntax::Json), (b"a=1", Syntax::Form), (b"<a/>", Syntax::Other)] {
            for (what, grown) in grown(body, syntax, 1 << 16) {
                assert!((1 << 15..=1 << 16).contains(&grown.len()), "{what}: {}", grown.len());
            }
        }
    }
}
