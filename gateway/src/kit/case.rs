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
//! # In a component
//!
//! A component carries its cases in a custom section of its own, not of a module in it, with the name `callfeed:cases`: a
//! JSON object whose members are the files above by their paths below `cases`, and the bytes of each in base64.
//!
//! ```json
//! {"call-ended/expected.json":"ewog…","call-ended/request.http":"UE9T…","route.toml":"c2Vj…"}
//! ```
//!
//! It is at most 1 MiB, and 256 cases. `callfeed plugin build` writes it, `callfeed plugin pack` writes it into a component
//! that was built otherwise; both leave out cases without an `expected.json`. A gateway runs them before it serves the
//! plugin, and compares then what `expected.json` mentions: `schemas/plugin/CHANGELOG.md` has the rule.
//!
//! # Names
//!
//! A name that begins with `oddity-` is that of a webhook out of the ordinary; the others are one sample of each event.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
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
    telemetry::one_line,
};

/// When a case was received that does not say so: 2026-06-01T12:00:00Z.
pub const RECEIVED_AT: Timestamp = Timestamp::constant(1_780_315_200, 0);

/// What a component may carry: they are run before it serves, and a reload waits for them.
pub(super) const EMBEDDED_CASES_MAX: usize = 256;
/// Bytes that are told of what a component carries and is no case.
const TOLD_BYTES: usize = 200;

const ROUTE: &str = "route.toml";
const REQUEST: &str = "request.http";
const EXPECTED: &str = "expected.json";

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
    /// Its directory, or what stands for one of a case that a component carries.
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

/// The files of cases, from a directory or out of a component.
#[derive(Debug, Clone)]
pub struct Files {
    /// The directory, or what stands for it.
    origin: PathBuf,
    /// By their paths below it.
    contents: BTreeMap<String, Vec<u8>>,
}

impl Files {
    /// # Errors
    ///
    /// The first file that cannot be read, and a folder without a webhook.
    pub fn read(directory: &Path) -> Result<Self, Error> {
        let mut files = Self {
            origin: directory.to_owned(),
            contents: BTreeMap::new(),
        };
        files.take(ROUTE.to_owned(), &directory.join(ROUTE))?;
        let entries = fs::read_dir(directory).map_err(|error| Error::new(directory, error))?;
        for entry in entries {
            let path = entry.map_err(|error| Error::new(directory, error))?.path();
            if !path.is_dir() {
                continue;
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            for file in [ROUTE, REQUEST, EXPECTED] {
                let is_there = files.take(format!("{name}/{file}"), &path.join(file))?;
                if !is_there && file == REQUEST {
                    return Err(Error::new(&path.join(file), "is not there, and a case has one"));
                }
            }
        }
        Ok(files)
    }

    fn take(&mut self, key: String, path: &Path) -> Result<bool, Error> {
        match fs::read(path) {
            Ok(content) => Ok(self.contents.insert(key, content).is_none()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::new(path, error)),
        }
    }

    /// Reads the section of a component in this file.
    ///
    /// # Errors
    ///
    /// What in it is no file of a case, and more cases than a component may carry.
    pub fn embedded(section: &[u8], file: &Path) -> Result<Self, Error> {
        let mut origin = file.as_os_str().to_owned();
        origin.push("#cases");
        let origin = PathBuf::from(origin);
        let texts: BTreeMap<String, String> = serde_json::from_slice(section).map_err(|error| {
            // Not in the parser's words, which show the value.
            let (line, column) = (error.line(), error.column());
            let what = format!("is no JSON object of paths and base64: line {line}, column {column}");
            Error::new(&origin, what)
        })?;
        let mut contents = BTreeMap::new();
        for (path, text) in texts {
            let is_known = match path.split('/').collect::<Vec<_>>()[..] {
                [ROUTE] => true,
                [name, ROUTE | REQUEST | EXPECTED] => !name.is_empty() && !name.contains(char::is_control),
                _ => false,
            };
            let told = one_line(&path, TOLD_BYTES);
            if !is_known {
                return Err(Error::new(&origin, format!("{told:?} is no file of a case")));
            }
            let content = BASE64_STANDARD
                .decode(text)
                .map_err(|_| Error::new(&origin.join(&told), "is not base64"))?;
            contents.insert(path, content);
        }
        let files = Self { origin, contents };
        match files.names().len() {
            count if count > EMBEDDED_CASES_MAX => Err(Error::new(&files.origin, too_many(count))),
            _ => Ok(files),
        }
    }

    /// What a component carries of them: those that say what should become of them. Beside it the names of the others.
    ///
    /// # Errors
    ///
    /// More cases than a component may carry.
    pub fn to_embed(&self) -> Result<(Self, Vec<String>), Error> {
        let has_expected = |name: &&str| self.contents.contains_key(&format!("{name}/{EXPECTED}"));
        let (kept, left_out): (Vec<&str>, Vec<&str>) = self.names().into_iter().partition(has_expected);
        if kept.len() > EMBEDDED_CASES_MAX {
            return Err(Error::new(&self.origin, too_many(kept.len())));
        }
        let mut files = self.clone();
        files.contents.retain(|path, _| match path.split_once('/') {
            Some((name, _)) => !left_out.contains(&name),
            None => true,
        });
        Ok((files, left_out.into_iter().map(str::to_owned).collect()))
    }

    /// As a component carries them: the same files, the same bytes.
    pub fn section(&self) -> Vec<u8> {
        let texts: BTreeMap<_, _> = self
            .contents
            .iter()
            .map(|(path, content)| (path, BASE64_STANDARD.encode(content)))
            .collect();
        serde_json::to_vec(&texts).expect("texts are JSON")
    }

    /// The names of the cases, in order.
    pub fn names(&self) -> BTreeSet<&str> {
        let paths = self.contents.keys();
        paths.filter_map(|path| Some(path.split_once('/')?.0)).collect()
    }

    /// Whether both have the same cases.
    pub fn are(&self, others: &Self) -> bool {
        self.contents == others.contents
    }

    /// Every case, in the order of their names.
    ///
    /// # Errors
    ///
    /// The first file that says what a case cannot have, and when there is no case.
    pub fn cases(&self, provider: &str) -> Result<Vec<Case>, Error> {
        let common = self.route(ROUTE)?;
        let names = self.names();
        if names.is_empty() {
            return Err(Error::new(
                &self.origin,
                "has no cases; one is a folder with request.http and expected.json",
            ));
        }
        names
            .into_iter()
            .map(|name| self.case(name, provider, &common))
            .collect()
    }

    fn route(&self, path: &str) -> Result<RouteFile, Error> {
        let Some(content) = self.contents.get(path) else {
            return Ok(RouteFile::default());
        };
        let error = |what: String| Error::new(&self.origin.join(path), what);
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

    fn case(&self, name: &str, provider: &str, common: &RouteFile) -> Result<Case, Error> {
        let directory = self.origin.join(name);
        let route_path = format!("{name}/{ROUTE}");
        let settings = self.route(&route_path)?.or(common);
        let received_at = match &settings.received_at {
            None => RECEIVED_AT,
            Some(text) => text
                .parse()
                .map_err(|_| Error::new(&self.origin.join(&route_path), "received_at is no time of RFC 3339"))?,
        };
        let request_path = directory.join(REQUEST);
        let text = self.contents.get(&format!("{name}/{REQUEST}"));
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
        let expected = self.contents.get(&format!("{name}/{EXPECTED}"));
        let expected = expected
            .map(|text| serde_json::from_slice(text))
            .transpose()
            .map_err(|error| Error::new(&directory.join(EXPECTED), error))?;
        let public_url = settings.public_url.as_deref().unwrap_or("https://hooks.example.com");
        let secrets = settings.secrets.unwrap_or_default().into_iter();
        Ok(Case {
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
}

fn too_many(count: usize) -> String {
    format!(
        "{count} cases are too many for a component, which may carry {EMBEDDED_CASES_MAX}; embed those of another folder with \
         --cases"
    )
}

impl Case {
    /// Reads every case of a directory, in the order of their names.
    ///
    /// # Errors
    ///
    /// The first file that cannot be read or says what a case cannot have, and a directory without cases.
    pub fn read_all(directory: &Path, provider: &str) -> Result<Vec<Self>, Error> {
        Files::read(directory)?.cases(provider)
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

    fn written_cases() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let write = |path: &str, content: &[u8]| {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        write("route.toml", b"secrets = { signing = ['s'] }\n");
        write("README.md", b"no file of a case");
        write("b/request.http", b"POST /hooks/acme HTTP/1.1\r\n\r\n\0\xff\xfe");
        write("b/expected.json", b"{ \"verdict\": \"rejected\" }\n");
        write("b/notes.txt", b"no file of a case");
        write("a/request.http", b"POST /hooks/acme HTTP/1.1\n\n");
        write("a/route.toml", b"allow_unsigned = true\n");
        directory
    }

    #[test]
    fn cases_come_out_of_a_component_as_they_went_in() {
        let directory = written_cases();
        let files = Files::read(directory.path()).unwrap();
        let section = files.section();
        assert_eq!(section, Files::read(directory.path()).unwrap().section());
        let embedded = Files::embedded(&section, Path::new("acme.wasm")).unwrap();
        assert!(embedded.are(&files));
        let cases = embedded.cases("acme").unwrap();
        let names: Vec<_> = cases
            .iter()
            .map(|case| (case.name.as_str(), case.route.allow_unsigned))
            .collect();
        assert_eq!(names, [("a", true), ("b", false)]);
        assert_eq!(&cases[1].webhook.body[..], b"\0\xff\xfe");
        assert_eq!(cases[1].expected.as_ref().unwrap()["verdict"], "rejected");
        assert_eq!(
            cases[0].route.secrets,
            Case::read_all(directory.path(), "acme").unwrap()[0].route.secrets
        );

        let (kept, left_out) = files.to_embed().unwrap();
        assert_eq!(
            (kept.names().into_iter().collect::<Vec<_>>(), left_out),
            (vec!["b"], vec!["a".to_owned()])
        );
        assert!(!kept.are(&files));
    }

    #[test]
    fn what_is_no_section_of_cases_is_refused() {
        let error = |section: &str| {
            let files = Files::embedded(section.as_bytes(), Path::new("acme.wasm"));
            files.and_then(|files| files.cases("acme")).unwrap_err().to_string()
        };
        for (section, said) in [
            ("", "acme.wasm#cases: is no JSON object of paths and base64: "),
            ("[]", "acme.wasm#cases: is no JSON object"),
            (
                "\"c2VjcmV0\"",
                "is no JSON object of paths and base64: line 1, column 10",
            ),
            (r#"{"route.toml":7}"#, "acme.wasm#cases: is no JSON object"),
            ("{}", "acme.wasm#cases: has no cases"),
            (
                r#"{"a/request.http":"?"}"#,
                "acme.wasm#cases/a/request.http: is not base64",
            ),
            (
                r#"{"../request.http/x":""}"#,
                r#"acme.wasm#cases: "../request.http/x" is no file of a case"#,
            ),
            (r#"{"/request.http":""}"#, r#""/request.http" is no file of a case"#),
            (r#"{"a/notes.txt":""}"#, r#""a/notes.txt" is no file of a case"#),
            (r#"{"\u0000a/request.http":""}"#, "is no file of a case"),
            (
                r#"{"a/expected.json":"e30="}"#,
                "acme.wasm#cases/a/request.http: is not there",
            ),
            (
                r#"{"a/request.http":"","a/route.toml":"/w=="}"#,
                "a/route.toml: is not UTF-8",
            ),
        ] {
            assert!(error(section).contains(said), "{section}: {}", error(section));
        }
        let many: BTreeMap<_, _> = (0..=EMBEDDED_CASES_MAX)
            .map(|n| (format!("{n}/request.http"), String::new()))
            .collect();
        let many = serde_json::to_string(&many).unwrap();
        assert!(error(&many).contains("257 cases are too many"), "{}", error(&many));
    }
}
