//! Cases: a webhook as the provider sends it, the route it comes on, and what should become of it.
//!
//! A case is the files `<name>/request.http`, `<name>/expected.json` and, over the `route.toml` of all, `<name>/route.toml`.
//! `plugins/README.md` has what stands in each and what of it is compared; `schemas/plugin/CHANGELOG.md`, how that may change.
//! The signature in a `request.http` is a real one: the checks change it and everything under it.

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

use super::{
    Answer, Error, Files, Stand,
    answer::compared,
    files::{EXPECTED, REQUEST, ROUTE},
};
use crate::{
    config::{self, Secret},
    event::RawWebhook,
    inbound,
    plugin::{Grant, Plugin, Request},
};

/// When a case was received that does not say so: 2026-06-01T12:00:00Z.
pub const RECEIVED_AT: Timestamp = Timestamp::constant(1_780_315_200, 0);

/// A webhook, its route, and what should become of it.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    /// Its directory, or what stands for one of a case that a component carries.
    pub directory: PathBuf,
    pub route: config::Route,
    pub webhook: RawWebhook,
    /// What the signature does not cover.
    pub not_signed: Vec<String>,
    /// `None` when the file is not there.
    pub expected: Option<Value>,
}

/// A `route.toml`: that of all cases, or the keys in which one of them differs.
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

/// What can be named of a file that is wrong.
const ROUTE_KEYS: [&str; 8] = [
    "secrets",
    "options",
    "allow_unsigned",
    "allow_hmac",
    "public_url",
    "path",
    "received_at",
    "not_signed",
];

impl RouteFile {
    fn read(files: &Files, path: &str) -> Result<Self, Error> {
        let Some(content) = files.content(path) else {
            return Ok(Self::default());
        };
        let error = |what: String| Error::new(&files.origin().join(path), what);
        let text = std::str::from_utf8(content).map_err(|_| error("is not UTF-8".to_owned()))?;
        // Not as the parser shows it, which is with the line and the value: there is a secret in it.
        toml::from_str(text).map_err(|problem| {
            let before = problem
                .span()
                .and_then(|span| text.get(..span.start))
                .unwrap_or_default();
            let at = before.matches('\n').count();
            let key = text.lines().nth(at).and_then(|line| line.split_once('='));
            let known = key.and_then(|(key, _)| ROUTE_KEYS.into_iter().find(|known| *known == key.trim()));
            let what = match (problem.message(), known) {
                (unknown, _) if unknown.starts_with("unknown field ") => unknown.to_owned(),
                (_, Some(key)) => format!("{key} is not of the kind it has to be"),
                (_, None) => "is not TOML, or not of the kind it has to be".to_owned(),
            };
            error(format!("line {}: {what}", at + 1))
        })
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
        Self::all_in(&Files::read(directory)?, provider)
    }

    /// Every case, in the order of their names.
    ///
    /// # Errors
    ///
    /// The first file that says what a case cannot have, and when there is no case.
    pub fn all_in(files: &Files, provider: &str) -> Result<Vec<Self>, Error> {
        let common = RouteFile::read(files, ROUTE)?;
        let names = files.names();
        if names.is_empty() {
            return Err(Error::new(
                files.origin(),
                "has no cases; one is a folder with request.http and expected.json",
            ));
        }
        names
            .into_iter()
            .map(|name| Self::read(files, name, provider, &common))
            .collect()
    }

    fn read(files: &Files, name: &str, provider: &str, common: &RouteFile) -> Result<Self, Error> {
        let directory = files.origin().join(name);
        let route_path = format!("{name}/{ROUTE}");
        let settings = RouteFile::read(files, &route_path)?.or(common);
        let received_at = match &settings.received_at {
            None => RECEIVED_AT,
            Some(text) => text
                .parse()
                .map_err(|_| Error::new(&files.origin().join(&route_path), "received_at is no time of RFC 3339"))?,
        };
        let request_path = directory.join(REQUEST);
        let text = files.content(&format!("{name}/{REQUEST}"));
        let text = text.ok_or_else(|| Error::new(&request_path, "is not there, and a case has one"))?;
        let mut webhook = parse(text).map_err(|what| Error::new(&request_path, what))?;
        let path = settings.path.unwrap_or_else(|| format!("/hooks/{provider}"));
        let below = webhook.target.strip_prefix(&path);
        if !below.is_some_and(|below| below.is_empty() || below.starts_with(['/', '?'])) {
            // A token may be in the query.
            let target = webhook.target.split('?').next().unwrap_or_default();
            let what = format!("its target {target:?} is not below the route's path {path:?}");
            return Err(Error::new(&request_path, what));
        }
        webhook.received_at = received_at;
        let expected = files.content(&format!("{name}/{EXPECTED}"));
        let expected = expected
            .map(serde_json::from_slice)
            .transpose()
            .map_err(|error| Error::new(&directory.join(EXPECTED), error))?;
        let public_url = settings.public_url.as_deref().unwrap_or("https://hooks.example.com");
        let secrets = settings.secrets.unwrap_or_default().into_iter();
        Ok(Self {
            name: name.to_owned(),
            directory,
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
        let path = case.directory.join(EXPECTED);
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
        return Err("line 1 is not a request line, as `POST /hooks/acme HTTP/1.1` is".to_owned());
    };
    let mut headers = Vec::new();
    for (at, line) in lines.enumerate() {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| format!("line {} is not a header, as `name: value` is", at + 2))?;
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
        assert!(error(b"POST /?s3cret\n\n").starts_with("line 1 is not a request line, as"));
        assert!(error(b"POST / HTTP/1.1\na: b\ns3cret\n\n").starts_with("line 3 is not a header, as"));
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("one")).unwrap();
        let read = || Case::read_all(directory.path(), "acme").unwrap_err().to_string();
        assert!(read().contains("one/request.http: "), "{}", read());
        fs::write(
            directory.path().join("one/request.http"),
            "POST /hooks/acmes?token=s3cret HTTP/1.1\n\n",
        )
        .unwrap();
        assert!(
            read().contains("its target \"/hooks/acmes\" is not below the route's path \"/hooks/acme\""),
            "{}",
            read()
        );
        fs::write(directory.path().join("route.toml"), "\nallow_all = 'a secret'\n").unwrap();
        assert!(
            read().contains("route.toml: line 2: ") && read().contains("allow_all"),
            "{}",
            read()
        );
        assert!(!read().contains("a secret"), "{}", read());
        for (text, said) in [
            (
                "secrets = { signing = 's3cret' }",
                "line 1: secrets is not of the kind it has to be",
            ),
            (
                "\n[secrets]\nsigning = 's3cret'",
                "line 3: is not TOML, or not of the kind",
            ),
            ("secrets = 's3cret'", "line 1: secrets is not"),
            ("secrets = { signing = [s3cret] }", "line 1: secrets is not"),
            ("secrets = { signing = ['s3cret', 7] }", "line 1: secrets is not"),
            (
                "secrets.signing = [\n's3cret=',\n{ s3cret = 1 }]",
                "is not TOML, or not of the kind",
            ),
            ("public_url = ['s3cret']", "line 1: public_url is not"),
            ("path = '''\ns3cret = s3cret", "is not "),
            ("received_at = 's3cret'", "received_at is no time of RFC 3339"),
        ] {
            fs::write(directory.path().join("route.toml"), text).unwrap();
            assert!(
                read().contains(said) && !read().contains("s3cret"),
                "{text}: {}",
                read()
            );
        }
    }
}
