//! Cases in files: a webhook as the provider sends it, and what should become of it.
//!
//! ```text
//! cases/route.toml                    the route all cases run on
//! cases/<name>/request.http           a webhook
//! cases/<name>/expected.json          what becomes of it
//! cases/<name>/route.toml             settings of this case that differ
//! ```
//!
//! # `request.http`
//!
//! A request line, header lines and an empty line (ending in LF or CRLF), and the body: every byte to the end of the file.
//! What follows the route's path in the target is handed to the plugin as `path`. The signature is a real one, made by the
//! provider or with the route's secret by the provider's recipe: the checks change it and everything under it.
//!
//! # `route.toml`
//!
//! | key | means | unless set |
//! |---|---|---|
//! | `secrets` | a list of values for each secret, as an operator would enter them | none |
//! | `options` | the route's options | `{}` |
//! | `allow_unsigned`, `allow_hmac` | as in the gateway's configuration | `false` |
//! | `public_url` | scheme and host that the provider was told | `https://hooks.example.com` |
//! | `path` | the route's path | `/hooks/<provider>` |
//! | `received_at` | when the webhook came in, RFC 3339 | `2026-06-01T12:00:00Z` |
//! | `not_signed` | what the provider's signature does not cover, of what is declared or sent: `body`, `url`, names of headers | nothing |
//!
//! A case's own file replaces the keys it has.
//!
//! # `expected.json`
//!
//! One of
//!
//! - `{"verdict":"accepted","form":…,"events":[{"kind","id","subject","occurred_at","test","data"}]}`, with
//!   `"ack":{"status","content_type","body"}` where the plugin writes the answer
//! - `{"verdict":"ignored","form":…,"reason":…}`
//! - `{"verdict":"respond","status":…,"content_type":…,"body":…}`: a handshake
//! - `{"verdict":"rejected","kind":…,"code":…}`: not shown to be authentic. The code is the plugin's, or `not-proven` where
//!   the plugin called it authentic and the host saw no check that is strong enough
//! - `{"verdict":"quarantined","kind":…,"code":…}`: authentic, and refused by the plugin
//!
//! `callfeed plugin test --bless` writes it. The cases of a plugin serve a `[[provider]]` as well that describes the same
//! provider: form, reason and code, which a description does not choose, are not compared then, and cases with options, which
//! it has none of, are left out.
//!
//! # Names
//!
//! A name that begins with `oddity-` is that of a webhook out of the ordinary; the others are one sample of each event.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use hyper::header::HeaderName;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Answer, Stand, answer::compared};
use crate::{
    config::{self, Secret},
    event::RawWebhook,
    inbound,
    plugin::{Grant, Plugin, Request},
};

/// When a case was received that does not say so: 2026-06-01T12:00:00Z.
pub const RECEIVED_AT: Timestamp = Timestamp::constant(1_780_315_200, 0);

/// Why cases cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct Error {
    path: PathBuf,
    what: String,
}

impl Error {
    fn new(path: &Path, what: impl ToString) -> Self {
        Self {
            path: path.to_owned(),
            what: what.to_string(),
        }
    }
}

/// A webhook, its route, and what should become of it.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
    pub route: config::Route,
    pub webhook: RawWebhook,
    /// What the signature does not cover.
    pub not_signed: Vec<String>,
    /// `None` when the file is not there.
    pub expected: Option<Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteFile {
    secrets: Option<BTreeMap<String, Vec<String>>>,
    options: Option<Value>,
    allow_unsigned: Option<bool>,
    allow_hmac: Option<bool>,
    public_url: Option<String>,
    path: Option<String>,
    received_at: Option<String>,
    not_signed: Option<Vec<String>>,
}

impl RouteFile {
    fn read(path: &Path) -> Result<Self, Error> {
        match fs::read_to_string(path) {
            Ok(text) => toml::from_str(&text).map_err(|error| Error::new(path, error)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Error::new(path, error)),
        }
    }

    fn or(self, common: &Self) -> Self {
        Self {
            secrets: self.secrets.or_else(|| common.secrets.clone()),
            options: self.options.or_else(|| common.options.clone()),
            allow_unsigned: self.allow_unsigned.or(common.allow_unsigned),
            allow_hmac: self.allow_hmac.or(common.allow_hmac),
            public_url: self.public_url.or_else(|| common.public_url.clone()),
            path: self.path.or_else(|| common.path.clone()),
            received_at: self.received_at.or_else(|| common.received_at.clone()),
            not_signed: self.not_signed.or_else(|| common.not_signed.clone()),
        }
    }
}

impl Case {
    /// Reads every case of a directory, in the order of their names.
    ///
    /// # Errors
    ///
    /// The first file that cannot be read or says what a case cannot have, and a directory without cases.
    pub fn read_all(directory: &Path, provider: &str) -> Result<Vec<Self>, Error> {
        let common = RouteFile::read(&directory.join("route.toml"))?;
        let entries = fs::read_dir(directory).map_err(|error| Error::new(directory, error))?;
        let mut folders = Vec::new();
        for entry in entries {
            let path = entry.map_err(|error| Error::new(directory, error))?.path();
            if path.is_dir() {
                folders.push(path);
            }
        }
        folders.sort();
        if folders.is_empty() {
            return Err(Error::new(
                directory,
                "has no cases; one is a folder with request.http and expected.json",
            ));
        }
        folders
            .iter()
            .map(|folder| Self::read(folder, provider, &common))
            .collect()
    }

    fn read(directory: &Path, provider: &str, common: &RouteFile) -> Result<Self, Error> {
        let route_path = directory.join("route.toml");
        let settings = RouteFile::read(&route_path)?.or(common);
        let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let received_at = match &settings.received_at {
            None => RECEIVED_AT,
            Some(text) => text
                .parse()
                .map_err(|error| Error::new(&route_path, format!("received_at: {error}")))?,
        };
        let request_path = directory.join("request.http");
        let text = fs::read(&request_path).map_err(|error| Error::new(&request_path, error))?;
        let mut webhook = parse(&text).map_err(|what| Error::new(&request_path, what))?;
        let path = settings.path.unwrap_or_else(|| format!("/hooks/{provider}"));
        let below = webhook.target.strip_prefix(&path);
        if !below.is_some_and(|below| below.is_empty() || below.starts_with(['/', '?'])) {
            let what = format!("its target {:?} is not below the route's path {path:?}", webhook.target);
            return Err(Error::new(&request_path, what));
        }
        webhook.received_at = received_at;
        let expected_path = directory.join("expected.json");
        let expected = match fs::read(&expected_path) {
            Ok(text) => Some(serde_json::from_slice(&text).map_err(|error| Error::new(&expected_path, error))?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::new(&expected_path, error)),
        };
        let public_url = settings.public_url.as_deref().unwrap_or("https://hooks.example.com");
        let secrets = settings.secrets.unwrap_or_default().into_iter();
        Ok(Self {
            directory: directory.to_owned(),
            route: config::Route {
                name: format!("{provider}-{name}"),
                provider: provider.to_owned(),
                secrets: secrets
                    .map(|(name, values)| (name, values.into_iter().map(Secret::new).collect()))
                    .collect(),
                options: settings.options.unwrap_or_else(|| Value::Object(Map::new())),
                allow_unsigned: settings.allow_unsigned.unwrap_or_default(),
                allow_hmac: settings.allow_hmac.unwrap_or_default(),
                urls: vec![format!("{public_url}{path}")],
                path,
                line: 1,
            },
            webhook,
            not_signed: settings.not_signed.unwrap_or_default(),
            expected,
            name,
        })
    }

    /// # Errors
    ///
    /// What of the route does not fit the plugin, a line each.
    pub fn grant(&self, plugin: &Arc<Plugin>) -> Result<Arc<Grant>, String> {
        grant(plugin, &self.route)
    }

    /// What the plugin is shown.
    ///
    /// # Errors
    ///
    /// When the webhook is over a gateway's bounds.
    pub fn request(&self, grant: &Grant) -> Result<Request, String> {
        self.request_of(&self.webhook, &grant.headers)
    }

    /// What the plugin is shown of another webhook on the same route, with these of its headers.
    pub(super) fn request_of(&self, webhook: &RawWebhook, headers: &[HeaderName]) -> Result<Request, String> {
        inbound::request_of(webhook, &self.route.path, &self.route.urls, headers)
            .map_err(|_| "it has more fields than a query or a form may have".to_owned())
    }

    /// Whether it can be a case of this plugin: one with options is of a plugin that has some, and a described provider beside
    /// it has none.
    pub(super) fn is_of(&self, plugin: &Plugin) -> bool {
        !plugin.is_described() || self.route.options.as_object().is_some_and(Map::is_empty)
    }

    /// Whether it is out of the ordinary.
    pub fn is_oddity(&self) -> bool {
        self.name.starts_with("oddity-")
    }

    pub(super) fn is_form(&self) -> bool {
        let mut headers = self.webhook.headers.iter();
        headers.any(|(name, value)| name == "content-type" && value.starts_with("application/x-www-form-urlencoded"))
    }

    pub(super) fn signs(&self, what: &str) -> bool {
        !self.not_signed.iter().any(|name| name.eq_ignore_ascii_case(what))
    }
}

pub(super) fn grant(plugin: &Arc<Plugin>, route: &config::Route) -> Result<Arc<Grant>, String> {
    Grant::new(Arc::clone(plugin), route).map(Arc::new).map_err(|problems| {
        let lines: Vec<_> = problems
            .iter()
            .map(|problem| format!("{}: {}; {}", problem.path, problem.message, problem.remedy))
            .collect();
        lines.join("\n")
    })
}

/// Writes what becomes of each case as what should, and gives the names of those where that is another thing now.
///
/// # Errors
///
/// When a file cannot be written, a route does not fit, or the plugin stopped or made what is no event: that should become
/// of nothing.
pub async fn bless(stand: &Stand, plugin: &Arc<Plugin>, cases: &[Case]) -> Result<Vec<String>, Error> {
    let mut written = Vec::new();
    for case in cases {
        if !case.is_of(plugin) {
            continue;
        }
        let path = case.directory.join("expected.json");
        let error = |what: String| Error::new(&path, what);
        let grant = case.grant(plugin).map_err(error)?;
        let request = case.request(&grant).map_err(error)?;
        let answer = stand.judge(&grant, request).await;
        if matches!(
            answer,
            Answer::Invalid { .. } | Answer::Stopped { .. } | Answer::Misconfigured(_) | Answer::Busy
        ) {
            return Err(error(format!("not written: {answer}")));
        }
        let answer = answer.json();
        let is_expected = |expected: &Value| compared(expected, plugin) == compared(&answer, plugin);
        if !case.expected.as_ref().is_some_and(is_expected) {
            let text = serde_json::to_string_pretty(&answer).expect("a value is JSON") + "\n";
            fs::write(&path, text).map_err(|source| error(source.to_string()))?;
            written.push(case.name.clone());
        }
    }
    Ok(written)
}

/// What stands before the first empty line, and what follows it.
pub(super) fn head_and_body(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = |mark: &[u8]| Some((text.windows(mark.len()).position(|window| window == mark)?, mark.len()));
    let (at, length) = [end(b"\n\n"), end(b"\r\n\r\n")].into_iter().flatten().min()?;
    Some((&text[..at], &text[at + length..]))
}

/// A request as text. Its time is set by the caller.
fn parse(text: &[u8]) -> Result<RawWebhook, String> {
    let (head, body) = head_and_body(text).ok_or("no empty line ends the head")?;
    let head = std::str::from_utf8(head).map_err(|_| "its head is not UTF-8")?;
    let mut lines = head.lines();
    let first = lines.next().unwrap_or_default();
    let [method, target, "HTTP/1.1"] = first.split(' ').collect::<Vec<_>>()[..] else {
        return Err(format!(
            "line 1: {first:?} is not a request line, as `POST /hooks/acme HTTP/1.1` is"
        ));
    };
    let mut headers = Vec::new();
    for (at, line) in lines.enumerate() {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| format!("line {}: {line:?} is not a header", at + 2))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(RawWebhook {
        route: String::new(),
        received_at: RECEIVED_AT,
        method: method.to_owned(),
        target: target.to_owned(),
        headers,
        peer: None,
        body: Bytes::copy_from_slice(body),
        form: String::new(),
        payload: None,
    })
}

/// A webhook as a `request.http` has it.
pub(super) fn written(webhook: &RawWebhook) -> Vec<u8> {
    let mut text = format!("{} {} HTTP/1.1\n", webhook.method, webhook.target);
    for (name, value) in &webhook.headers {
        text += &format!("{name}: {value}\n");
    }
    text.push('\n');
    let mut bytes = text.into_bytes();
    bytes.extend_from_slice(&webhook.body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_ends_at_the_first_empty_line() {
        let webhook = parse(b"POST /a?b HTTP/1.1\nX-One:  1 \n\n\n\r\n\r\nc").unwrap();
        assert_eq!((&*webhook.target, &webhook.body[..]), ("/a?b", &b"\n\r\n\r\nc"[..]));
        assert_eq!(webhook.headers, [("x-one".to_owned(), "1".to_owned())]);
        assert_eq!(parse(b"GET /a HTTP/1.1\r\n\r\nb\n\nc").unwrap().body, &b"b\n\nc"[..]);
        let again = parse(&written(&webhook)).unwrap();
        assert_eq!(again, webhook);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let error = |text: &[u8]| parse(text).unwrap_err();
        assert_eq!(error(b"POST / HTTP/1.1\n"), "no empty line ends the head");
        assert!(error(b"POST /\n\n").starts_with("line 1: \"POST /\" is not a request line"));
        assert_eq!(error(b"POST / HTTP/1.1\na: b\nc\n\n"), "line 3: \"c\" is not a header");
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("one")).unwrap();
        let read = || Case::read_all(directory.path(), "acme").unwrap_err().to_string();
        assert!(read().contains("one/request.http: "), "{}", read());
        fs::write(
            directory.path().join("one/request.http"),
            "POST /hooks/acmes HTTP/1.1\n\n",
        )
        .unwrap();
        assert!(
            read().contains("is not below the route's path \"/hooks/acme\""),
            "{}",
            read()
        );
        fs::write(directory.path().join("route.toml"), "allow_all = true\n").unwrap();
        assert!(read().contains("allow_all"), "{}", read());
    }
}
