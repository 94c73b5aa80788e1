//! `[[subscriber]]`: a downstream service, which events it gets, and how they are signed and sent.

use std::{collections::BTreeSet, net::IpAddr, time::Duration};

use hyper::header::{self, HeaderName, HeaderValue};
use reqwest::Url;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use super::{
    MINUTE, MS, Names, PEM_BYTES_MAX, SECOND,
    data_path::{self, Wrong},
    has_user, http_url, one_of,
};
use crate::{
    clock,
    config::{
        Algorithm, ClientTls, CustomSignature, Encoding, Filter, From, Order, Over, Pattern, Privacy, Rate, Secret,
        Signature, SigningKey, Subscriber, days,
        raw::{Table, Value, nearest, quote},
        secret::{self, Literal, Surroundings, read_file, warn_if_readable_by_others},
    },
    event,
};

const ATTEMPTS_MAX: usize = 30;
const RATE_MAX: u32 = 100_000;

pub(super) fn read(
    t: &mut Table<'_>,
    names: &mut Names,
    route_names: &Names,
    around: &Surroundings<'_>,
) -> Option<Subscriber> {
    let name = names.take(t);
    let url = t
        .require("url", "write url = \"https://…\"")
        .and_then(|value| subscriber_url(&value));
    let mut types = t
        .take("types")
        .map(|value| patterns(&value, type_pattern))
        .unwrap_or_default();
    if types.contains(&Pattern::Prefix(String::new())) {
        // "*" is no condition.
        types.clear();
    }
    let filter = t.section("where", |t| filter(t, types, route_names));
    // Before the secrets, because it says what they may look like.
    let signature = t.take("signature").map(|value| value.table(custom_signature));
    let secrets = t
        .require("secrets", "write secrets = [{ env = \"NAME\" }]")
        .map(|value| {
            let live = value.items_or_one().into_iter();
            live.filter_map(|value| signing_key(value, signature.is_some(), around))
                .collect::<Vec<_>>()
        });
    let custom_header = signature
        .as_ref()
        .and_then(|signature| Some(&signature.as_ref()?.as_ref()?.header));
    let headers = t.take("headers").map(|value| headers(&value, custom_header, around));
    let timeout = t.duration("timeout", 100 * MS..=10 * MINUTE, Subscriber::TIMEOUT);
    let schedule = t.take("schedule").map(|value| schedule(&value));
    let order = one_of(t, "order", [("call", Order::Call), ("none", Order::None)]);
    let rate = t.take("rate").and_then(|value| rate(&value));
    let in_flight_max = t.integer("in_flight", 1..=10_000, Subscriber::IN_FLIGHT_MAX);
    let waiting_max = t.integer("waiting", 1..=1_000_000, Subscriber::WAITING_MAX);
    let privacy = Privacy {
        drop: data_paths(t, "drop", data_path::droppable),
        mask: data_paths(t, "mask", data_path::maskable),
    };
    let public_only = t.boolean("public_only", false);
    let tls = t.take("tls").and_then(|value| value.table(|t| client_tls(t, around)));
    let from = t.take("from").and_then(|value| from(&value));
    Some(Subscriber {
        name: name?,
        url: url?,
        filter,
        secrets: secrets?,
        signature: match signature {
            None => Signature::StandardWebhooks,
            Some(custom) => Signature::Custom(custom??),
        },
        headers: headers.unwrap_or_else(|| Some(Vec::new()))?,
        timeout,
        schedule: schedule.unwrap_or_else(|| Subscriber::SCHEDULE.to_vec()),
        order,
        rate,
        in_flight_max,
        waiting_max,
        privacy,
        public_only,
        tls: tls.unwrap_or_default(),
        from: from.unwrap_or_default(),
        line: t.report().line_of(t.path()),
    })
}

fn filter(t: &mut Table<'_>, types: Vec<Pattern>, route_names: &Names) -> Filter {
    let route = |value: &Value<'_>| {
        let name = value.text()?;
        if !route_names.contains(name) {
            let remedy = match nearest(name, route_names.iter()) {
                Some(near) => format!("did you mean {}?", quote(near)),
                None => "name a [[route]] of this file".to_owned(),
            };
            value.absent(format!("there is no route {}", quote(name)), remedy);
        }
        Some(name.to_owned())
    };
    Filter {
        types,
        routes: t
            .take("routes")
            .map(|value| patterns(&value, route))
            .unwrap_or_default(),
        numbers: t
            .take("numbers")
            .map(|value| patterns(&value, number_pattern))
            .unwrap_or_default(),
        min_duration: t
            .take("min_duration")
            .and_then(|value| value.duration(Duration::ZERO..=days(1))),
        test: t.take("test").and_then(|value| value.boolean()),
    }
}

fn patterns<P>(value: &Value<'_>, read: impl Fn(&Value<'_>) -> Option<P>) -> Vec<P> {
    value.items().iter().filter_map(read).collect()
}

fn data_paths(t: &mut Table<'_>, key: &'static str, check: fn(&[String]) -> Result<(), Wrong>) -> Vec<Vec<String>> {
    let path = |value: &Value<'_>| {
        let text = value.text()?;
        // People write it as they see it in an event.
        let text = text.strip_prefix("data.").unwrap_or(text);
        let path: Vec<String> = text.split('.').map(str::to_owned).collect();
        if let Err(Wrong { what, remedy }) = check(&path) {
            value.problem(format!("{} {what}", quote(text)), remedy);
            return None;
        }
        Some(path)
    };
    t.take(key).map(|value| patterns(&value, path)).unwrap_or_default()
}

fn client_tls(t: &mut Table<'_>, around: &Surroundings<'_>) -> ClientTls {
    let mut pem = |key| {
        let value = t.take(key)?;
        let path = around.resolve(value.text()?);
        match read_file(&path, PEM_BYTES_MAX) {
            Ok(bytes) => Some((value, path, bytes)),
            Err(error) => {
                let shown = quote(&path.to_string_lossy());
                value.problem(
                    format!("file {shown} cannot be read: {error}"),
                    "check the path and its permissions",
                );
                None
            }
        }
    };
    let holds_certificates = |value: &Value<'_>, bytes: &[u8]| {
        let chain = CertificateDer::pem_slice_iter(bytes).collect::<Result<Vec<_>, _>>();
        let good = chain.is_ok_and(|chain| !chain.is_empty());
        if !good {
            value.problem(
                "holds no PEM certificate",
                "name a file with -----BEGIN CERTIFICATE-----",
            );
        }
        good
    };
    let ca = pem("ca").filter(|(value, _, bytes)| holds_certificates(value, bytes));
    let (certificate, key) = (pem("certificate"), pem("key"));
    let certificate = certificate.filter(|(value, _, bytes)| holds_certificates(value, bytes));
    let key = key.filter(|(value, path, bytes)| {
        warn_if_readable_by_others(path, value.path(), value.report());
        let good = PrivateKeyDer::from_pem_slice(bytes).is_ok();
        if !good {
            value.problem(
                "holds no PEM private key",
                "name a file with -----BEGIN PRIVATE KEY-----",
            );
        }
        good
    });
    let identity = match (certificate, key) {
        (Some((_, _, mut pem)), Some((_, _, key))) => {
            pem.push(b'\n');
            pem.extend_from_slice(&key);
            Some(Secret::new(pem))
        }
        (Some((alone, ..)), None) | (None, Some((alone, ..))) => {
            alone.problem("is there without the other half", "name both certificate and key");
            None
        }
        (None, None) => None,
    };
    ClientTls {
        ca: ca.map(|(_, _, bytes)| bytes),
        identity,
    }
}

fn from(value: &Value<'_>) -> Option<From> {
    let text = value.text()?;
    match text {
        "now" => Some(From::Now),
        "start" => Some(From::Start),
        _ => match text.parse() {
            Ok(time) => {
                // No refusal: a clock that was set back must not keep the gateway from starting.
                if time > clock::now() {
                    value.warn(
                        format!(
                            "{} is yet to come: a new subscriber gets what is kept from now on",
                            quote(text)
                        ),
                        "write \"now\", or a time that has been",
                    );
                }
                Some(From::Time(time))
            }
            Err(_) => {
                value.problem(
                    format!("{} is no time", quote(text)),
                    "write \"now\", \"start\" or a time such as \"2026-11-01T00:00:00Z\"",
                );
                None
            }
        },
    }
}

/// A known type, `<start of one>.*`, or `*`.
fn type_pattern(value: &Value<'_>) -> Option<Pattern> {
    let text = value.text()?;
    let (known, pattern) = match text.strip_suffix('*') {
        None => (event::TYPES.contains(&text), Pattern::Exact(text.to_owned())),
        Some(prefix) => {
            let some = event::TYPES.iter().any(|kind| kind.starts_with(prefix));
            (
                some && (prefix.is_empty() || prefix.ends_with('.')),
                Pattern::Prefix(prefix.to_owned()),
            )
        }
    };
    if known {
        return Some(pattern);
    }
    let families: BTreeSet<String> = event::TYPES
        .iter()
        .filter_map(|kind| Some(format!("{}.*", kind.split_once('.')?.0)))
        .collect();
    let candidates = event::TYPES.into_iter().chain(families.iter().map(String::as_str));
    let remedy = match nearest(text, candidates) {
        Some(near) => format!("did you mean {}?", quote(near)),
        None => format!("known types: {}", event::TYPES.join(", ")),
    };
    value.problem(format!("there are no events of type {}", quote(text)), remedy);
    None
}

/// An E.164 number, the start of one with a trailing `*`, or a short code.
fn number_pattern(value: &Value<'_>) -> Option<Pattern> {
    let text = value.text()?;
    let (digits, is_prefix) = match text.strip_suffix('*') {
        Some(start) => (start, true),
        None => (text, false),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let good = match digits.strip_prefix('+') {
        Some(digits) => {
            all_digits(digits) && !digits.starts_with('0') && digits.len() <= 15 && (is_prefix || digits.len() >= 5)
        }
        None => all_digits(digits) && (3..=6).contains(&digits.len()) && !is_prefix,
    };
    if !good {
        let remedy = "write \"+16045551234\", \"+1604*\" or a short code such as \"12345\"";
        value.problem(format!("{} is not a number or the start of one", quote(text)), remedy);
        return None;
    }
    Some(if is_prefix {
        Pattern::Prefix(digits.to_owned())
    } else {
        Pattern::Exact(digits.to_owned())
    })
}

fn subscriber_url(value: &Value<'_>) -> Option<Url> {
    let url = http_url(value, "https://crm.example.com/calls")?;
    if has_user(&url) {
        let remedy = "remove them and write headers = { authorization = { env = \"NAME\" } }";
        value.problem("has a user name or password in it", remedy);
        return None;
    }
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    };
    if url.scheme() == "http" && !is_loopback {
        value.warn("sends events unencrypted over the network", "use https");
    }
    Some(url)
}

fn signing_key(value: Value<'_>, raw: bool, around: &Surroundings<'_>) -> Option<SigningKey> {
    let (path, report) = (value.path().to_owned(), value.report());
    let secret = secret::read(value, around, Literal::Warned)?;
    secret::signing_key(&secret, raw, &path, report)
}

fn custom_signature(t: &mut Table<'_>) -> Option<CustomSignature> {
    let header = t
        .require("header", "name it, such as header = \"x-signature\"")
        .and_then(|value| {
            let name = header_name(value.text()?, &value)?;
            if name == "webhook-id" || name == "webhook-timestamp" {
                value.problem(
                    format!("{name} is sent as well, with its own meaning"),
                    "choose another",
                );
                return None;
            }
            Some(name)
        });
    const ALGORITHMS: [(&str, Algorithm); 3] = [
        ("hmac-sha256", Algorithm::HmacSha256),
        ("hmac-sha512", Algorithm::HmacSha512),
        ("hmac-sha1", Algorithm::HmacSha1),
    ];
    const ENCODINGS: [(&str, Encoding); 2] = [("hex", Encoding::Hex), ("base64", Encoding::Base64)];
    const OVERS: [(&str, Over); 3] = [
        ("body", Over::Body),
        ("timestamp.body", Over::TimestampBody),
        ("id.timestamp.body", Over::IdTimestampBody),
    ];
    let algorithm = one_of(t, "algorithm", ALGORITHMS);
    let encoding = one_of(t, "encoding", ENCODINGS);
    let over = one_of(t, "over", OVERS);
    let prefix = t.take("prefix").and_then(|value| {
        let prefix = value.any_text()?;
        if !prefix.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            value.problem("has characters that an HTTP header cannot carry", "use plain ASCII");
        }
        Some(prefix.to_owned())
    });
    Some(CustomSignature {
        header: header?,
        algorithm,
        encoding,
        prefix: prefix.unwrap_or_default(),
        over,
    })
}

fn headers(
    value: &Value<'_>,
    signature: Option<&HeaderName>,
    around: &Surroundings<'_>,
) -> Option<Vec<(HeaderName, Secret)>> {
    let mut headers: Vec<(HeaderName, Secret)> = Vec::new();
    for (name, value) in value.entries()? {
        let Some(name) = header_name(name, &value) else {
            continue;
        };
        if name.as_str().starts_with("webhook-") {
            value.problem("is the gateway's own, as every webhook- header", "remove it");
            continue;
        }
        if Some(&name) == signature {
            value.problem("is the header of the signature", "remove it or change signature.header");
            continue;
        }
        if headers.iter().any(|(other, _)| *other == name) {
            value.problem("is set a second time in other letters", "keep one of the two");
            continue;
        }
        let literal = if carries_credentials(&name) {
            Literal::Warned
        } else {
            Literal::Fine
        };
        let path = value.path().to_owned();
        let report = value.report();
        let Some(secret) = secret::read(value, around, literal) else {
            continue;
        };
        if HeaderValue::from_bytes(secret.expose()).is_err() {
            report.problem(
                &path,
                "has characters that an HTTP header cannot carry",
                "use a single line of text",
            );
            continue;
        }
        headers.push((name, secret));
    }
    Some(headers)
}

/// A header that may be set: neither the connection's own nor one that says what the body is.
fn header_name(text: &str, value: &Value<'_>) -> Option<HeaderName> {
    const OURS: [HeaderName; 13] = [
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::EXPECT,
        header::HOST,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        HeaderName::from_static("keep-alive"),
    ];
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        value.problem(
            format!("{} is not the name of a header", quote(text)),
            "use letters, digits and -",
        );
        return None;
    };
    if OURS.contains(&name) || name == "proxy-connection" {
        value.problem(format!("{name} is set by the gateway"), "remove it");
        return None;
    }
    Some(name)
}

fn carries_credentials(name: &HeaderName) -> bool {
    let name = name.as_str();
    ["auth", "cookie", "key", "token", "secret", "password", "signature"]
        .iter()
        .any(|word| name.contains(word))
}

/// A whole number, a slash, and what it is counted in.
fn rate(value: &Value<'_>) -> Option<Rate> {
    const REMEDY: &str = "write how many a second or a minute, such as \"50/s\" or \"600/m\"";
    let text = value.text()?;
    let parsed = text.split_once('/').and_then(|(count, unit)| {
        let per = match unit {
            "s" => SECOND,
            "m" => MINUTE,
            _ => return None,
        };
        // A number's own parser would take a sign, too.
        let is_number = !count.is_empty() && count.bytes().all(|byte| byte.is_ascii_digit());
        // More digits than fit are more than the most, too.
        is_number.then(|| (count.parse().unwrap_or(u32::MAX), per))
    });
    let Some((count, per)) = parsed else {
        value.problem(format!("{} is not a rate", quote(text)), REMEDY);
        return None;
    };
    if !(1..=RATE_MAX).contains(&count) {
        let remedy = format!("choose a number from 1 to {RATE_MAX}, or leave the key out for no bound");
        value.problem(format!("{} is out of range", quote(text)), remedy);
        return None;
    }
    Some(Rate { count, per })
}

fn schedule(value: &Value<'_>) -> Vec<Duration> {
    let items = value.items();
    if items.len() > ATTEMPTS_MAX {
        value.problem(
            format!("has {} attempts", items.len()),
            format!("keep at most {ATTEMPTS_MAX}"),
        );
    }
    items
        .iter()
        .filter_map(|value| value.duration(Duration::ZERO..=days(7)))
        .collect()
}
