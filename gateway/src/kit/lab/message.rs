//! What providers sign: everything that can be put together of a request by the usual recipes, likeliest first.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use bytes::Bytes;
use serde_json::Value;

use super::{
    capture::Capture,
    place::{self, Moment, Place, Text},
};

/// Headers and members that may be ids, and so a part of what is signed.
const IDS_MAX: usize = 4;
const ID_BYTES_MAX: usize = 128;

/// A piece of what is signed.
#[derive(Debug, Clone)]
struct Piece {
    /// As a template has it, `{body}`.
    shown: Cow<'static, str>,
    bytes: Bytes,
    /// Whether a template of the configuration can have it.
    is_declarable: bool,
    is_content: bool,
}

/// Where the secret stands in what a plain hash is of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Order {
    SecretFirst,
    SecretLast,
}

/// What may have been signed.
#[derive(Debug, Clone)]
pub struct Message {
    pieces: Vec<Piece>,
    /// The time that is a part of it.
    pub moment: Option<Moment>,
}

impl Message {
    /// As a template, `{timestamp}.{body}`.
    pub fn template(&self) -> String {
        self.pieces.iter().map(|piece| &*piece.shown).collect()
    }

    /// With the secret in it, at its beginning or its end.
    pub(super) fn keyed(&self, order: Order) -> Self {
        let mut keyed = self.clone();
        let at = match order {
            Order::SecretFirst => 0,
            Order::SecretLast => keyed.pieces.len(),
        };
        keyed.pieces.insert(at, piece("{secret}", ""));
        keyed
    }

    pub(super) fn length(&self) -> usize {
        self.pieces.iter().map(|piece| piece.bytes.len()).sum()
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let pieces: Vec<_> = self.pieces.iter().map(|piece| &piece.bytes[..]).collect();
        pieces.concat()
    }

    pub fn is_declarable(&self) -> bool {
        self.pieces.iter().all(|piece| piece.is_declarable)
    }

    /// Whether another body would have another message.
    pub fn binds_content(&self) -> bool {
        self.pieces.iter().any(|piece| piece.is_content)
    }
}

fn piece(shown: impl Into<Cow<'static, str>>, bytes: impl Into<Bytes>) -> Piece {
    Piece {
        shown: shown.into(),
        bytes: bytes.into(),
        is_declarable: false,
        is_content: false,
    }
}

fn text(text: &'static str) -> Piece {
    Piece {
        is_declarable: true,
        ..piece(text, text)
    }
}

fn content(shown: &'static str, bytes: impl Into<Bytes>) -> Piece {
    Piece {
        is_content: true,
        ..piece(shown, bytes)
    }
}

/// Every message that is tried.
pub(super) fn messages(capture: &Capture, texts: &[Text], moments: &[Moment]) -> Vec<Message> {
    let body = Piece {
        is_declarable: true,
        ..content("{body}", capture.webhook.body.clone())
    };
    let rewritten = rewritten(&capture.webhook.body);
    let parameters = match place::is_form(&capture.webhook) {
        true => parameters(&capture.webhook.body),
        false => Vec::new(),
    };
    let ids = ids(texts);
    let urls = urls(capture);
    let method = piece("{method}", capture.webhook.method.clone());

    let mut messages = Vec::new();
    let mut add = |moment: Option<&Moment>, pieces: &[&Piece]| {
        messages.push(Message {
            pieces: pieces.iter().map(|piece| (*piece).clone()).collect(),
            moment: moment.cloned(),
        });
    };
    let [dot, colon, bar, line, v0, v1] = [".", ":", "|", "\n", "v0:", "v1:"].map(text);
    add(None, &[&body]);
    for moment in moments {
        let time = &time(moment);
        let some = Some(moment);
        for between in [&dot, &colon, &bar, &line] {
            add(some, &[time, between, &body]);
        }
        add(some, &[time, &body]);
        add(some, &[&body, time]);
        add(some, &[&body, &dot, time]);
        for version in [&v0, &v1] {
            add(some, &[version, time, &colon, &body]);
        }
        for id in &ids {
            add(some, &[id, &dot, time, &dot, &body]);
            add(some, &[time, &dot, id, &dot, &body]);
            add(some, &[id, time, &body]);
            add(some, &[time, id, &body]);
            add(some, &[time, id]);
        }
        for content in &rewritten {
            for pieces in [&[time, &dot, content][..], &[time, content], &[content, time]] {
                add(some, pieces);
            }
        }
        for url in &urls {
            for content in parameters.iter().chain([&body]) {
                add(some, &[time, url, content]);
                add(some, &[url, time, content]);
                add(some, &[url, content, time]);
                add(some, &[time, &method, url, content]);
            }
        }
        add(some, &[time]);
    }
    for id in &ids {
        add(None, &[id, &dot, &body]);
        add(None, &[id, &body]);
    }
    for content in rewritten.iter().chain(&parameters) {
        add(None, &[content]);
    }
    for url in &urls {
        for content in parameters.iter().chain([&body]).chain(&rewritten) {
            add(None, &[url, content]);
            add(None, &[&method, url, content]);
        }
        add(None, &[url, &dot, &body]);
        add(None, &[url]);
    }
    messages
}

fn time(moment: &Moment) -> Piece {
    let is_declarable = matches!(moment.place, Place::Header(_));
    Piece {
        is_declarable,
        ..piece("{timestamp}", moment.text.clone())
    }
}

/// What a JSON body may have been when it was signed: without spaces, and with sorted members too.
fn rewritten(body: &Bytes) -> Vec<Piece> {
    let Ok(document) = serde_json::from_slice::<Value>(body) else {
        return Vec::new();
    };
    let compact = compact(body);
    let sorted = Bytes::from(document.to_string());
    let mut forms = Vec::new();
    if compact != *body {
        forms.push(content("{body, without spaces}", compact.clone()));
    }
    if sorted != *body && sorted != compact {
        forms.push(content("{body, members sorted, without spaces}", sorted));
    }
    forms
}

/// JSON without the white space between its tokens.
fn compact(json: &[u8]) -> Bytes {
    let mut compact = Vec::with_capacity(json.len());
    let (mut in_text, mut is_escaped) = (false, false);
    for byte in json {
        if in_text || !byte.is_ascii_whitespace() {
            compact.push(*byte);
        }
        if *byte == b'"' && !is_escaped {
            in_text = !in_text;
        }
        is_escaped = in_text && *byte == b'\\' && !is_escaped;
    }
    compact.into()
}

/// A form's parameters as they are joined to be signed.
fn parameters(form: &[u8]) -> Vec<Piece> {
    let sent: Vec<_> = place::pairs(form).collect();
    let mut sorted: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, value) in &sent {
        sorted.entry(name).or_default().insert(value);
    }
    let by_name = || {
        sorted
            .iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (*name, *value)))
    };
    let glued: String = by_name().flat_map(|(name, value)| [name, value]).collect();
    let glued_as_sent: String = sent.iter().flat_map(|(name, value)| [name.as_str(), value]).collect();
    let values: String = by_name().map(|(_, value)| value).collect();
    let paired: Vec<_> = by_name().map(|(name, value)| format!("{name}={value}")).collect();
    vec![
        content("{parameters, sorted: names and values}", glued),
        content("{parameters, as sent: names and values}", glued_as_sent),
        content("{parameters, sorted: name=value&…}", paired.join("&")),
        content("{parameters, sorted: values}", values),
    ]
}

/// What may be the id of a delivery.
fn ids(texts: &[Text]) -> Vec<Piece> {
    let is_id = |text: &&Text| {
        let name = text.place.name().to_ascii_lowercase();
        let named = ["id", "nonce", "token"].iter().any(|end| name.ends_with(end));
        named && (1..=ID_BYTES_MAX).contains(&text.value.len())
    };
    let ids = texts.iter().filter(is_id).filter_map(|text| {
        let (shown, is_declarable) = match &text.place {
            Place::Header(name) => (format!("{{header:{name}}}"), true),
            Place::Member(pointer) => (format!("{{member {pointer}}}"), false),
            Place::Query(_) | Place::Field(_) | Place::Body => return None,
        };
        Some(Piece {
            is_declarable,
            ..piece(shown, text.value.clone())
        })
    });
    ids.take(IDS_MAX).collect()
}

/// The URL as the provider may have been told it, with and without its default port, and what stands in the request line.
fn urls(capture: &Capture) -> Vec<Piece> {
    let mut urls: Vec<String> = Vec::new();
    let mut add = |url: String| {
        if !urls.contains(&url) {
            urls.push(url);
        }
    };
    for url in &capture.urls {
        let whole = match capture.query() {
            Some(query) if !url.contains('?') => format!("{url}?{query}"),
            _ => url.clone(),
        };
        let other = with_other_port(&whole);
        add(whole);
        add(other);
        add(url.clone());
    }
    let whole = urls.into_iter().map(|url| piece("{url}", url));
    let target = piece("{path and query}", capture.webhook.target.clone());
    let path = piece("{path}", capture.path().to_owned());
    whole.chain([target, path]).collect()
}

fn with_other_port(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    let port = if scheme == "https" { ":443" } else { ":80" };
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    match authority.strip_suffix(port) {
        Some(host) => format!("{scheme}://{host}{target}"),
        None if authority.contains(':') => url.to_owned(),
        None => format!("{scheme}://{authority}{port}{target}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_loses_its_spaces_and_no_others() {
        let json = br#" { "a b" : [ 1 , "\" c \\" , " " ] } "#;
        assert_eq!(&compact(json)[..], br#"{"a b":[1,"\" c \\"," "]}"#);
        let forms = rewritten(&Bytes::from_static(br#"{"b": 1, "a": 2}"#));
        let forms: Vec<_> = forms.iter().map(|form| &form.bytes[..]).collect();
        assert_eq!(forms, [&br#"{"b":1,"a":2}"#[..], br#"{"a":2,"b":1}"#]);
        assert!(rewritten(&Bytes::from_static(br#"{"a":1}"#)).is_empty());
    }

    #[test]
    fn parameters_are_sorted_and_joined() {
        let joined = parameters(b"b=2&a=%2B1&b=2&b=1");
        let joined: Vec<_> = joined.iter().map(|piece| &piece.bytes[..]).collect();
        assert_eq!(joined, [&b"a+1b1b2"[..], b"b2a+1b2b1", b"a=+1&b=1&b=2", b"+112"]);
    }

    #[test]
    fn a_default_port_comes_and_goes() {
        assert_eq!(with_other_port("https://h.example/a"), "https://h.example:443/a");
        assert_eq!(with_other_port("http://h.example:80?a"), "http://h.example?a");
        assert_eq!(with_other_port("http://h.example:8080/a"), "http://h.example:8080/a");
    }
}
