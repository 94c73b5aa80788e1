//! `signature` and `token`: what proves that the provider sent a webhook.

use std::time::Duration;

use callfeed_description::{
    Algorithm, Encoding, Item, Moment, Pattern, Piece, Place, Placeholder, Scheme, Signature, Text, Timestamp, Token,
};
use hyper::header::HeaderName;

use super::super::{SECOND, one_of};
use crate::config::{
    days,
    raw::{Table, Value, quote},
};

const TOLERANCE: Duration = Duration::from_secs(300);

/// What may stand between the items of a header.
pub(crate) const SEPARATORS: [char; 3] = [',', ';', ' '];

/// <https://www.standardwebhooks.com>, and what it was before it was a standard: what their headers begin with.
pub(crate) const STANDARD_WEBHOOKS: [(&str, &str); 2] = [("standard-webhooks", "webhook-"), ("svix", "svix-")];

/// The scheme, its secret still without a name, and how that is written unless said.
pub(super) fn read(t: &mut Table<'_>) -> Option<(Scheme<'static>, &'static str)> {
    let signature = t.take("signature").map(|value| {
        for (name, prefix) in STANDARD_WEBHOOKS {
            if value.is(name) {
                return Some((standard_webhooks(prefix), "standard-webhooks"));
            }
        }
        if value.is_text() {
            let remedy = "write \"standard-webhooks\", \"svix\", or a table such as { header = \"x-acme-signature\" }";
            value.problem("is the name of no scheme", remedy);
            return None;
        }
        let signature = value.table(signature)??;
        let encoding = if signature.algorithm == Algorithm::Ed25519 {
            "base64"
        } else {
            "utf8"
        };
        Some((signature, encoding))
    });
    let token = t.take("token").map(|value| value.table(token)?);
    match (signature, token) {
        (Some(signature), None) => signature.map(|(signature, encoding)| (Scheme::Signature(signature), encoding)),
        (None, Some(token)) => token.map(|token| (Scheme::Token(token), "utf8")),
        (Some(_), Some(_)) => {
            let remedy = "keep the signature: it says more than a token";
            t.report()
                .problem(&t.path_of("token"), "stands beside a signature", remedy);
            None
        }
        (None, None) => {
            let message = "has neither signature nor token, so nothing would prove a webhook";
            let remedy = "write signature = { header = \"…\" }, signature = \"standard-webhooks\" or token = { in = \"header:…\" }";
            t.report().absent(t.path(), message, remedy);
            None
        }
    }
}

fn standard_webhooks(prefix: &str) -> Signature<'static> {
    let header = |name: &str| Text::from(&*format!("{prefix}{name}"));
    Signature {
        secret: Text::default(),
        algorithm: Algorithm::HmacSha256,
        encoding: Encoding::Base64,
        header: header("signature"),
        pattern: Pattern {
            separator: Some(' '),
            items: vec![Item {
                before: "v1,".into(),
                holds: Placeholder::Signature,
                after: "".into(),
            }],
        },
        message: vec![
            Piece::Header(header("id")),
            Piece::Text(".".into()),
            Piece::Timestamp,
            Piece::Text(".".into()),
            Piece::Body,
        ],
        timestamp: Some(Timestamp {
            header: Some(header("timestamp")),
            unit: Moment::Seconds,
            old_seconds_max: seconds(TOLERANCE),
            ahead_seconds_max: seconds(TOLERANCE),
        }),
    }
}

fn signature(t: &mut Table<'_>) -> Option<Signature<'static>> {
    let header = t
        .require("header", "name the header, such as header = \"x-acme-signature\"")
        .and_then(|value| header_name(value.text()?, &value));
    let algorithm = one_of(
        t,
        "algorithm",
        [
            ("hmac-sha256", Algorithm::HmacSha256),
            ("hmac-sha1", Algorithm::HmacSha1),
            ("hmac-sha384", Algorithm::HmacSha384),
            ("hmac-sha512", Algorithm::HmacSha512),
            ("ed25519", Algorithm::Ed25519),
        ],
    );
    let encodings = [("hex", Encoding::Hex), ("base64", Encoding::Base64)];
    let encoding = match algorithm {
        Algorithm::Ed25519 => one_of(t, "encoding", [encodings[1], encodings[0]]),
        _ => one_of(t, "encoding", encodings),
    };
    let separator = t.take("separator").map(|value| separator(&value));
    let pattern = match t.take("pattern") {
        Some(value) => pattern(&value, separator.flatten()),
        None => Some(Pattern {
            separator: separator.flatten(),
            items: vec![Item {
                before: "".into(),
                holds: Placeholder::Signature,
                after: "".into(),
            }],
        }),
    };
    let message_value = t.take("message");
    let message = match &message_value {
        Some(value) => message(value),
        None => Some(vec![Piece::Body]),
    };
    let timestamp_header = t
        .take("timestamp_header")
        .map(|value| header_name(value.text()?, &value));
    let unit = one_of(
        t,
        "timestamp",
        [
            ("seconds", Moment::Seconds),
            ("milliseconds", Moment::Milliseconds),
            ("rfc3339", Moment::Rfc3339),
        ],
    );
    let range = SECOND..=days(7);
    let tolerance = t.take("tolerance").map(|value| value.duration(range.clone()));
    let ahead = t.take("tolerance_ahead").map(|value| value.duration(range));
    let (header, pattern, message) = (header?, pattern?, message?);

    let in_header = pattern.items.iter().any(|item| item.holds == Placeholder::Timestamp);
    let is_signed = message.contains(&Piece::Timestamp);
    let report = t.report();
    let is_dated = in_header || timestamp_header.is_some();
    let wrong = if in_header && timestamp_header.is_some() {
        Some((
            "timestamp_header",
            "is said a second time: the pattern has {timestamp}, too",
            "keep one of the two",
        ))
    } else if is_signed && !is_dated {
        Some((
            "message",
            "has {timestamp}, and nothing says where that comes from",
            "put {timestamp} into the pattern, or name its header: timestamp_header = \"…\"",
        ))
    } else if is_dated && !is_signed {
        Some((
            "message",
            "has no {timestamp}: nobody signed it, so it would prove no age",
            "put it where the provider has it, or leave it out of pattern and timestamp_header",
        ))
    } else if !is_dated && (tolerance.is_some() || ahead.is_some()) {
        Some((
            "tolerance",
            "has no timestamp to be held against",
            "remove it, or say where the timestamp is",
        ))
    } else {
        None
    };
    if let Some((key, message, remedy)) = wrong {
        report.problem(&t.path_of(key), message, remedy);
        return None;
    }
    if !message.contains(&Piece::Body) {
        report.warn(
            &t.path_of("message"),
            "has no {body}: whoever sees one webhook can send another with its signature",
            "put {body} where the provider has it; if it signs none, treat what comes as hearsay",
        );
    }
    // A time is checked, and its end is seen.
    let has_end = |piece: &Piece<'_>| matches!(piece, Piece::Text(_) | Piece::Timestamp);
    if message.windows(2).any(|two| !two.iter().any(has_end)) {
        report.warn(
            &t.path_of("message"),
            "has two in braces with nothing between them: what ends one could begin the other, under the same signature",
            "put between them what the provider has there",
        );
    }
    let timestamp = match timestamp_header {
        Some(header) => Some(Some(header?)),
        None => in_header.then_some(None),
    };
    Some(Signature {
        secret: Text::default(),
        algorithm,
        encoding,
        header,
        pattern,
        message,
        timestamp: timestamp.map(|header| Timestamp {
            header,
            unit,
            old_seconds_max: seconds(tolerance.flatten().unwrap_or(TOLERANCE)),
            ahead_seconds_max: seconds(ahead.flatten().unwrap_or(TOLERANCE)),
        }),
    })
}

fn seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX)
}

fn token(t: &mut Table<'_>) -> Option<Token<'static>> {
    const EXAMPLE: &str = "write \"header:authorization\", \"query:token\" or \"body:/token\", for instance";
    let place = t
        .require("in", &format!("say where it is: {EXAMPLE}"))
        .and_then(|value| {
            let (kind, name) = value.text()?.split_once(':').unwrap_or_default();
            match kind {
                "header" => header_name(name, &value).map(Place::Header),
                "query" if !name.is_empty() => Some(Place::Query(name.into())),
                "body" => super::data::pointer(name, &value).map(Place::Body),
                _ => {
                    value.problem("is no place of a request", EXAMPLE);
                    None
                }
            }
        });
    let prefix = t.take("prefix").map(|value| Some(value.any_text()?.into()));
    Some(Token {
        secret: Text::default(),
        place: place?,
        prefix: prefix.unwrap_or_else(|| Some(Text::default()))?,
    })
}

/// In lower case, as plugins are given them.
fn header_name(text: &str, value: &Value<'_>) -> Option<Text<'static>> {
    match HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) => Some(name.as_str().into()),
        Err(_) => {
            let message = format!("{} is not the name of a header", quote(text));
            value.problem(message, "use letters, digits and -");
            None
        }
    }
}

/// A piece of a template.
enum Fragment<'t> {
    Literal(&'t str),
    /// What stands in braces.
    Hole(&'t str),
}

fn fragments<'t>(value: &Value<'t>) -> Option<Vec<Fragment<'t>>> {
    let mut rest = value.text()?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        match rest.find(['{', '}']) {
            None => {
                found.push(Fragment::Literal(rest));
                rest = "";
            }
            Some(0) => {
                let Some((hole, after)) = rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
                    value.problem("has a brace without its other half", "write {body}, for instance");
                    return None;
                };
                found.push(Fragment::Hole(hole));
                rest = after;
            }
            Some(at) => {
                found.push(Fragment::Literal(&rest[..at]));
                rest = &rest[at..];
            }
        }
    }
    Some(found)
}

/// What a header's value is made of. Parts without anything in braces are not looked at.
fn pattern(value: &Value<'_>, separator: Option<char>) -> Option<Pattern<'static>> {
    const EXAMPLE: &str = "write \"sha256={signature}\" or \"t={timestamp},v1={signature}\", for instance";
    let wrong = |message: &str| value.problem(message, EXAMPLE);
    let fragments = fragments(value)?;
    let mut holes = Vec::new();
    for fragment in &fragments {
        let hole = match fragment {
            Fragment::Literal(_) => continue,
            Fragment::Hole("signature") => Placeholder::Signature,
            Fragment::Hole("timestamp") => Placeholder::Timestamp,
            Fragment::Hole(other) => {
                wrong(&format!("has {{{other}}}, which is not known"));
                return None;
            }
        };
        if holes.contains(&hole) {
            wrong("has the same in braces twice");
            return None;
        }
        holes.push(hole);
    }
    if !holes.contains(&Placeholder::Signature) {
        wrong("has no {signature}");
        return None;
    }
    let separator = separator.or_else(|| between(&fragments));
    let parts = value.text()?.split(|letter| separator == Some(letter)).map(str::trim);
    let items: Vec<_> = parts.flat_map(item).collect();
    if items.len() < holes.len() {
        value.problem(
            "does not tell its parts apart",
            "put a comma, a semicolon or a space between them",
        );
        return None;
    }
    if items.len() > 1 && items.iter().any(|item| item.before.is_empty()) {
        wrong("has a part that nothing stands before, so that any other could be taken for it");
        return None;
    }
    Some(Pattern { separator, items })
}

/// What stands between the two that are in braces.
fn between(fragments: &[Fragment<'_>]) -> Option<char> {
    fragments.windows(3).find_map(|three| match three {
        [Fragment::Hole(_), Fragment::Literal(text), Fragment::Hole(_)] => {
            SEPARATORS.into_iter().find(|letter| text.contains(*letter))
        }
        _ => None,
    })
}

/// A part of a pattern with one thing in braces.
fn item(part: &str) -> Option<Item<'static>> {
    let (before, rest) = part.split_once('{')?;
    let (hole, after) = rest.split_once('}')?;
    (!after.contains('{')).then(|| Item {
        before: before.into(),
        holds: match hole {
            "timestamp" => Placeholder::Timestamp,
            _ => Placeholder::Signature,
        },
        after: after.into(),
    })
}

/// `separator`, unless the pattern shows it.
fn separator(value: &Value<'_>) -> Option<char> {
    let found = SEPARATORS
        .into_iter()
        .find(|letter| value.is(letter.encode_utf8(&mut [0; 4])));
    if found.is_none() {
        value.problem("separates no values of a header", "choose one of \",\", \";\", \" \"");
    }
    found
}

fn message(value: &Value<'_>) -> Option<Vec<Piece<'static>>> {
    let pieces = fragments(value)?.into_iter().map(|fragment| match fragment {
        Fragment::Literal(text) => Some(Piece::Text(text.into())),
        Fragment::Hole("body") => Some(Piece::Body),
        Fragment::Hole("timestamp") => Some(Piece::Timestamp),
        Fragment::Hole(other) => match other.strip_prefix("header:") {
            Some(name) => header_name(name, value).map(Piece::Header),
            None => {
                let remedy = "there are {body}, {timestamp} and {header:x-name}";
                value.problem(format!("has {{{other}}}, which is not known"), remedy);
                None
            }
        },
    });
    pieces.collect()
}
