//! Strikes secrets out of what goes on record.
//!
//! Pure. Nothing of a secret is left standing where several overlap, or where one is the beginning of another.

use std::{borrow::Cow, fmt, ops::Range};

/// A shorter token protects nothing, and bodies are full of texts so short.
const TOKEN_BYTES_MIN: usize = 8;

/// What stands where a secret stood.
pub(crate) const STRUCK_OUT: &str = "•••";

/// A URL without its user and query, where tokens are.
pub(crate) fn shown_url(url: &reqwest::Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

/// Texts that must not get on record. Prints nothing.
pub(crate) struct Redaction {
    secrets: Vec<String>,
}

impl fmt::Debug for Redaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Redaction(…)")
    }
}

impl Redaction {
    pub(crate) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut secrets: Vec<String> = secrets.into_iter().filter(|secret| !secret.is_empty()).collect();
        secrets.sort();
        secrets.dedup();
        Self { secrets }
    }

    /// Bytes of the longest secret: who cuts a text before it gets here leaves so many more than are to be told.
    pub(crate) fn longest(&self) -> usize {
        self.secrets.iter().map(String::len).max().unwrap_or(0)
    }

    pub(crate) fn strike_out<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.places(text) {
            places if places.is_empty() => Cow::Borrowed(text),
            places => Cow::Owned(told_text(text, places, text.len())),
        }
    }

    /// So many bytes of a text, and nothing of a secret that lies across the end of them.
    pub(crate) fn beginning(&self, text: &str, bytes_max: usize) -> String {
        let mut text = told_text(text, self.places(text), text.floor_char_boundary(bytes_max));
        text.truncate(text.floor_char_boundary(bytes_max));
        text
    }

    /// Path and query of a request, where a secret may be percent-encoded in more ways than one.
    pub(crate) fn strike_out_of_target<'t>(&self, target: &'t str) -> Cow<'t, str> {
        let mut places = self.places(target);
        if target.contains(['%', '+']) {
            for place in &mut places {
                *place = whole_escapes(target.as_bytes(), place);
            }
            for secret in &self.secrets {
                places.extend(spelt(secret, target.as_bytes(), |text| percent_decoded(text, b'+')));
                places.extend(spelt(secret, target.as_bytes(), |text| percent_decoded(text, b' ')));
            }
        }
        match places.is_empty() {
            true => Cow::Borrowed(target),
            false => Cow::Owned(told_text(target, places, target.len())),
        }
    }

    /// A body in which a token was presented, without it: as it is, escaped as JSON allows, or encoded as in a form. `None`
    /// when it is not in there.
    pub(crate) fn strike_out_of_body(&self, body: &[u8]) -> Option<Vec<u8>> {
        let mut places = Vec::new();
        for token in self.secrets.iter().filter(|secret| secret.len() >= TOKEN_BYTES_MIN) {
            places.extend(spelt(token, body, Unit::plain));
            if body.contains(&b'\\') {
                places.extend(spelt(token, body, unescaped));
            }
            if body.contains(&b'%') || body.contains(&b'+') {
                places.extend(spelt(token, body, |text| percent_decoded(text, b'+')));
                places.extend(spelt(token, body, |text| percent_decoded(text, b' ')));
            }
        }
        (!places.is_empty()).then(|| told(body, places, body.len()))
    }

    fn places(&self, text: &str) -> Vec<Range<usize>> {
        let mut places = Vec::new();
        for secret in &self.secrets {
            let mut from = 0;
            while let Some(at) = text[from..].find(secret.as_str()) {
                places.push(from + at..from + at + secret.len());
                // The next one may begin within this one.
                from = text.ceil_char_boundary(from + at + 1);
            }
        }
        places
    }
}

/// A text up to a place in it, with what stands at these places struck out.
fn told_text(text: &str, places: Vec<Range<usize>>, end: usize) -> String {
    String::from_utf8(told(text.as_bytes(), places, end)).expect("a secret begins and ends where characters do")
}

fn told(text: &[u8], mut places: Vec<Range<usize>>, end: usize) -> Vec<u8> {
    places.sort_unstable_by_key(|place| place.start);
    let mut told = Vec::with_capacity(end);
    let mut from = 0;
    for place in places.into_iter().take_while(|place| place.start < end) {
        if from <= place.start {
            told.extend_from_slice(&text[from..place.start]);
            told.extend_from_slice(STRUCK_OUT.as_bytes());
        }
        from = from.max(place.end);
    }
    told.extend_from_slice(text.get(from..end).unwrap_or_default());
    told
}

/// What the beginning of a text stands for.
struct Unit {
    bytes: [u8; 4],
    bytes_count: usize,
    /// How much of the text it takes.
    length: usize,
}

impl Unit {
    fn byte(byte: u8, length: usize) -> Self {
        Self {
            bytes: [byte, 0, 0, 0],
            bytes_count: 1,
            length,
        }
    }

    fn character(character: char, length: usize) -> Self {
        let mut bytes = [0; 4];
        let bytes_count = character.encode_utf8(&mut bytes).len();
        Self {
            bytes,
            bytes_count,
            length,
        }
    }

    fn plain(text: &[u8]) -> Self {
        Self::byte(text[0], 1)
    }
}

/// Where a text, read in this way, says a secret. `read` is given what is left, never nothing.
fn spelt(secret: &str, text: &[u8], read: impl Fn(&[u8]) -> Unit) -> Vec<Range<usize>> {
    let ends = |mut at: usize| {
        let mut missing = secret.as_bytes();
        while !missing.is_empty() {
            let unit = text.get(at..).filter(|rest| !rest.is_empty()).map(&read)?;
            missing = missing.strip_prefix(&unit.bytes[..unit.bytes_count])?;
            at += unit.length;
        }
        Some(at)
    };
    let (mut places, mut at) = (Vec::new(), 0);
    while at < text.len() {
        places.extend(ends(at).map(|end| at..end));
        at += read(&text[at..]).length;
    }
    places
}

/// As in a query string or a form.
fn percent_decoded(text: &[u8], plus: u8) -> Unit {
    let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
    match (text[0], digit(1), digit(2)) {
        (b'%', Some(high), Some(low)) => Unit::byte((high * 16 + low) as u8, 3),
        (b'+', ..) => Unit::byte(plus, 1),
        (byte, ..) => Unit::byte(byte, 1),
    }
}

/// A place with the encoded bytes whole that it cuts: what is left of one would be a letter beside letters, perhaps a secret.
fn whole_escapes(text: &[u8], place: &Range<usize>) -> Range<usize> {
    let escape_before =
        |end: usize| (end.saturating_sub(2)..end).find(|at| percent_decoded(&text[*at..], b'+').length == 3);
    let start = escape_before(place.start).unwrap_or(place.start);
    let end = escape_before(place.end).map_or(place.end, |at| at + 3);
    start..end
}

/// As in a JSON string.
fn unescaped(text: &[u8]) -> Unit {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    match (text[0], text.get(1)) {
        (b'\\', Some(b'u')) => {
            let units = [unit(0), unit(6)].into_iter().map_while(|unit| unit);
            // Half of a pair stands for nothing.
            match char::decode_utf16(units).next() {
                Some(Ok(character)) => Unit::character(character, 6 * character.len_utf16()),
                _ => Unit::character(char::REPLACEMENT_CHARACTER, 2),
            }
        }
        (b'\\', Some(b'b')) => Unit::byte(0x08, 2),
        (b'\\', Some(b'f')) => Unit::byte(0x0c, 2),
        (b'\\', Some(b'n')) => Unit::byte(b'\n', 2),
        (b'\\', Some(b'r')) => Unit::byte(b'\r', 2),
        (b'\\', Some(b't')) => Unit::byte(b'\t', 2),
        (b'\\', Some(escaped)) => Unit::byte(*escaped, 2),
        (byte, _) => Unit::byte(byte, 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redaction(secrets: &[&str]) -> Redaction {
        Redaction::new(secrets.iter().map(|secret| (*secret).to_owned()))
    }

    #[test]
    fn urls_are_shown_without_their_tokens() {
        let shown = |url: &str| shown_url(&url.parse().unwrap());
        assert_eq!(
            shown("https://me:hunter2@crm.example.com:8443/calls?key=hunter2"),
            "https://crm.example.com:8443/calls"
        );
        assert_eq!(shown("http://127.0.0.1"), "http://127.0.0.1/");
    }

    #[test]
    fn nothing_of_any_secret_is_left() {
        for (secrets, text, told) in [
            (&["key", "key-2024"][..], "key-2024, key", "•••, •••"),
            (&["key-2024", "key"], "key-2024, key", "•••, •••"),
            (&["abcd", "cdef"], "abcdef", "•••"),
            (&["abcd", "cdef"], "cdefabcdef", "••••••"),
            (&["axa"], "axaxa", "•••"),
            (&["é"], "éaé", "•••a•••"),
            (&["", "a"], "b", "b"),
            (&[], "b", "b"),
        ] {
            assert_eq!(redaction(secrets).strike_out(text), told, "{secrets:?} in {text}");
        }
    }

    #[test]
    fn a_secret_across_the_end_is_not_begun() {
        let redaction = redaction(&["sesame-open"]);
        let told = |text: &str, bytes| redaction.beginning(&text[..text.len().min(bytes + redaction.longest())], bytes);
        assert_eq!(
            told("1234567890 sesame-open", 14),
            "1234567890 •••".get(..14).unwrap_or("1234567890 •")
        );
        // What is struck out is longer than what stands for it, so more of the text has room.
        for bytes in 0..100 {
            let told = told(&"sesame-open".repeat(20), bytes);
            assert!(!told.contains('s') && told.len() <= bytes, "{bytes}: {told}");
        }
        assert_eq!(told("nothing to hide", 7), "nothing");
    }

    #[test]
    fn a_body_hides_nothing_by_its_escapes() {
        let redaction = redaction(&["tok/é\"🎉-1", "short"]);
        let struck_out = |body: &str| {
            redaction
                .strike_out_of_body(body.as_bytes())
                .map(|told| String::from_utf8(told).expect("text"))
        };
        for body in [
            r#"{"token":"tok/é\"🎉-1","x":"short"}"#,
            r#"{"token":"tok\/\u00e9\"\ud83c\udf89-1","x":"short"}"#,
            r#"{"token":"\u0074\u006f\u006B/é\u0022🎉\u002d1","x":"short"}"#,
        ] {
            assert_eq!(
                struck_out(body).as_deref(),
                Some(r#"{"token":"•••","x":"short"}"#),
                "{body}"
            );
        }
        let form = "a=1&token=tok%2F%C3%A9%22%F0%9F%8E%89-1&b=short";
        assert_eq!(struck_out(form).as_deref(), Some("a=1&token=•••&b=short"));
        assert_eq!(struck_out("xtok/é\"🎉-1tok/é\"🎉-1").as_deref(), Some("x••••••"));
        for body in [r#"{"token":"tok/é"}"#, r"\u", r"\ud83c\u", "\\", "", "%", "\u{1}\\é"] {
            assert_eq!(struck_out(body), None, "{body}");
        }
        let binary = [&[0xff][..], "tok/é\"🎉-1".as_bytes(), &[0xfe]].concat();
        let told = redaction.strike_out_of_body(&binary);
        assert_eq!(told, Some([&[0xff][..], STRUCK_OUT.as_bytes(), &[0xfe]].concat()));
    }

    #[test]
    fn a_target_hides_nothing_by_its_encoding() {
        let redaction = redaction(&["a+b c/é", "a+b"]);
        for target in [
            "/hook?key=a+b%20c/%C3%A9&v=1",
            "/hook?key=a%2Bb+c%2f%c3%a9&v=1",
            "/hook?key=%61%2B%62%20%63%2F%C3%A9&v=1",
        ] {
            assert_eq!(redaction.strike_out_of_target(target), "/hook?key=•••&v=1", "{target}");
        }
        assert_eq!(redaction.strike_out_of_target("/a+b/%zz%2"), "/•••/%zz%2");
        assert_eq!(redaction.strike_out_of_target("/hook?key=a%20b"), "/hook?key=a%20b");
    }

    #[test]
    fn an_encoded_byte_is_struck_out_whole() {
        for (secrets, target, told) in [
            (["a", "bé"], "/%ab%C3%A9", "/•••%C3%A9"),
            (["b1", "é%a"], "/%C3%A9%ab1", "/%C3%A9•••"),
            (["x%", "41"], "/x%41", "/•••"),
        ] {
            assert_eq!(redaction(&secrets).strike_out_of_target(target), told, "{target}");
        }
    }

    #[test]
    fn nothing_is_left_however_texts_and_secrets_overlap() {
        // The same texts on every run, of few letters so that many overlap.
        let mut random = fastrand::Rng::with_seed(0x9e37_79b9_7f4a_7c15);
        let mut word = |letters: &[&str], length_max: usize| -> String {
            (0..=random.usize(..length_max))
                .map(|_| letters[random.usize(..letters.len())])
                .collect()
        };
        for _ in 0..20_000 {
            let secrets: Vec<String> = (0..3).map(|_| word(&["a", "b", "é", " "], 4)).collect();
            let redaction = Redaction::new(secrets.clone());
            let is_told = |text: &str| secrets.iter().any(|secret| text.contains(secret.as_str()));

            let text = word(&["a", "b", "é", " ", "c"], 16);
            assert!(!is_told(&redaction.strike_out(&text)), "{secrets:?} in {text}");
            for bytes_max in 0..text.len() {
                let beginning = redaction.beginning(&text, bytes_max);
                assert!(
                    beginning.len() <= bytes_max && !is_told(&beginning),
                    "{secrets:?} in {text}"
                );
            }

            let target = word(&["a", "b", "%61", "%C3%A9", "é", "+", "%20", "%", "%6", "c"], 16);
            let told = redaction.strike_out_of_target(&target).into_owned();
            let query = format!("q={told}");
            let decoded = form_urlencoded::parse(query.as_bytes()).map(|(_, value)| value.into_owned());
            assert!(
                !decoded.into_iter().any(|text| is_told(&text)),
                "{secrets:?} in {target}"
            );
        }
    }
}
