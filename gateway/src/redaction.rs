//! Strikes secrets out of what goes on record.
//!
//! Pure. Nothing of a secret is left standing where several overlap, or where one is the beginning of another.

use std::{borrow::Cow, fmt, ops::Range};

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
            places => Cow::Owned(told(text, places, text.len())),
        }
    }

    /// So many bytes of a text, and nothing of a secret that lies across the end of them.
    pub(crate) fn beginning(&self, text: &str, bytes_max: usize) -> String {
        let mut text = told(text, self.places(text), text.floor_char_boundary(bytes_max));
        text.truncate(text.floor_char_boundary(bytes_max));
        text
    }

    /// Path and query of a request, where a secret may be percent-encoded in more ways than one.
    pub(crate) fn strike_out_of_target<'t>(&self, target: &'t str) -> Cow<'t, str> {
        let mut places = self.places(target);
        if target.contains(['%', '+']) {
            for plus in [b'+', b' '] {
                let (bytes, starts) = decoded(target, plus);
                for secret in &self.secrets {
                    let length = secret.len();
                    let found = bytes.windows(length).enumerate();
                    let found = found.filter(|(_, window)| *window == secret.as_bytes());
                    places.extend(found.map(|(at, _)| starts[at]..starts[at + length]));
                }
            }
        }
        match places.is_empty() {
            true => Cow::Borrowed(target),
            false => Cow::Owned(told(target, places, target.len())),
        }
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
fn told(text: &str, mut places: Vec<Range<usize>>, end: usize) -> String {
    places.sort_unstable_by_key(|place| place.start);
    let mut told = String::with_capacity(end);
    let mut from = 0;
    for place in places.into_iter().take_while(|place| place.start < end) {
        if from <= place.start {
            told.push_str(&text[from..place.start]);
            told.push_str(STRUCK_OUT);
        }
        from = from.max(place.end);
    }
    told.push_str(text.get(from..end).unwrap_or_default());
    told
}

/// The bytes that a target stands for, and where each of them, and the end, stands in it.
fn decoded(target: &str, plus: u8) -> (Vec<u8>, Vec<usize>) {
    let text = target.as_bytes();
    let (mut bytes, mut starts) = (Vec::with_capacity(text.len()), Vec::with_capacity(text.len() + 1));
    let mut at = 0;
    while at < text.len() {
        starts.push(at);
        let digit = |at: usize| char::from(*text.get(at)?).to_digit(16);
        let (byte, length) = match (text[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => ((high * 16 + low) as u8, 3),
            (b'+', ..) => (plus, 1),
            (byte, ..) => (byte, 1),
        };
        bytes.push(byte);
        at += length;
    }
    starts.push(at);
    (bytes, starts)
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
}
