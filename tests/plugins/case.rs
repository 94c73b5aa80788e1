//! Cases in files, as the SDK's own runner reads them: `request.http`, `route.toml`, `expected.json`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use callfeed::{
    config::{self, Secret},
    plugin::{Grant, Plugin, Request},
};
use serde_json::{Map, Value, json};

use crate::{guest, host::RECEIVED_AT_MS};

/// A webhook of a provider, its route, and what should become of it.
pub(crate) struct Case {
    /// `<provider>/<case>`.
    pub(crate) name: String,
    pub(crate) provider: String,
    pub(crate) route: config::Route,
    pub(crate) text: Vec<u8>,
    pub(crate) expected: Value,
    method: String,
    target: String,
    /// In lower case, in order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

/// Every case of every built-in provider.
pub(crate) fn all() -> Vec<Case> {
    below("plugins")
}

/// Every case of every example.
pub(crate) fn examples() -> Vec<Case> {
    below("plugins/examples")
}

fn below(parent: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    for provider in folders(&guest::root().join(parent)) {
        let folder = provider.join("cases");
        if folder.is_dir() {
            let provider = name_of(&provider);
            cases.extend(folders(&folder).iter().map(|case| Case::read(&provider, &folder, case)));
        }
    }
    assert!(!cases.is_empty());
    cases
}

fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).expect("it can be read");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    paths.retain(|path| path.is_dir());
    paths.sort();
    paths
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .and_then(|name| name.to_str())
        .expect("names are text")
        .to_owned()
}

impl Case {
    fn read(provider: &str, folder: &Path, case: &Path) -> Self {
        let mut settings = Map::new();
        for file in [folder.join("route.toml"), case.join("route.toml")] {
            if let Ok(text) = fs::read_to_string(&file) {
                settings.extend(toml::from_str::<Map<String, Value>>(&text).expect("the route's file is TOML"));
            }
        }
        let text =
            |key: &str, default: String| settings.get(key).and_then(Value::as_str).map_or(default, str::to_owned);
        let secrets = settings
            .get("secrets")
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .map(|(name, values)| {
                let values = values
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_str)
                    .map(Secret::new);
                (name.clone(), values.collect())
            });
        let path = text("path", format!("/hooks/{provider}"));
        let public_url = text("public_url", "https://hooks.example.com".to_owned());
        let route = config::Route {
            name: format!("{provider}-{}", name_of(case)),
            provider: provider.to_owned(),
            secrets: secrets.collect(),
            options: settings.get("options").cloned().unwrap_or_else(|| json!({})),
            allow_unsigned: settings
                .get("allow_unsigned")
                .and_then(Value::as_bool)
                .unwrap_or_default(),
            allow_hmac: settings.get("allow_hmac").and_then(Value::as_bool).unwrap_or_default(),
            urls: vec![format!("{public_url}{path}")],
            path,
            line: 1,
        };

        let text = fs::read(case.join("request.http")).expect("a case has a request");
        let end = |mark: &[u8]| Some((text.windows(mark.len()).position(|window| window == mark)?, mark.len()));
        let (at, length) = [end(b"\n\n"), end(b"\r\n\r\n")]
            .into_iter()
            .flatten()
            .min()
            .expect("an empty line ends the head");
        let head = std::str::from_utf8(&text[..at]).expect("the head is text");
        let mut lines = head.lines();
        let mut first = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target)) = (first.next(), first.next()) else {
            panic!("no request line in {case:?}")
        };
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').expect("a header has a colon");
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        let expected = fs::read(case.join("expected.json")).unwrap_or_default();
        Self {
            name: format!("{provider}/{}", name_of(case)),
            provider: provider.to_owned(),
            method: method.to_owned(),
            target: target.to_owned(),
            headers: headers.collect(),
            body: Bytes::copy_from_slice(&text[at + length..]),
            expected: serde_json::from_slice(&expected).unwrap_or_default(),
            route,
            text,
        }
    }

    pub(crate) fn grant(&self, plugin: &Arc<Plugin>) -> Result<Arc<Grant>, String> {
        Grant::new(Arc::clone(plugin), &self.route)
            .map(Arc::new)
            .map_err(|problems| format!("{problems:?}"))
    }

    pub(crate) fn accepted(&self) -> bool {
        self.expected["verdict"] == "accepted"
    }

    /// What the plugin is shown.
    pub(crate) fn request(&self, grant: &Grant) -> Request {
        let (path, query) = self
            .target
            .split_once('?')
            .map_or((&*self.target, None), |(path, query)| (path, Some(query)));
        let below = path.strip_prefix(&*self.route.path).expect("the path is the route's");
        let query_text = query.map_or(String::new(), |query| format!("?{query}"));
        let form = self
            .headers
            .iter()
            .any(|(name, value)| name == "content-type" && value.starts_with("application/x-www-form-urlencoded"));
        let declared = |name: &str| grant.headers.iter().any(|known| known.as_str() == name);
        Request {
            method: self.method.clone(),
            urls: vec![format!("{}{below}{query_text}", self.route.urls[0])],
            path: below.trim_start_matches('/').to_owned(),
            query: pairs(query.unwrap_or_default().as_bytes()),
            headers: self
                .headers
                .iter()
                .filter(|(name, _)| declared(name))
                .cloned()
                .collect(),
            peer: None,
            body: self.body.clone(),
            form: if form { pairs(&self.body) } else { Vec::new() },
            received_at_ms: RECEIVED_AT_MS,
        }
    }

    /// The path and query below the route, for a gateway that has the route somewhere else.
    pub(crate) fn below(&self) -> &str {
        self.target
            .strip_prefix(&*self.route.path)
            .expect("the path is the route's")
    }

    pub(crate) fn method(&self) -> &str {
        &self.method
    }
}

fn pairs(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
}

/// The cases of each provider.
pub(crate) fn by_provider() -> BTreeMap<String, Vec<Case>> {
    let mut providers = BTreeMap::<_, Vec<_>>::new();
    for case in all() {
        providers.entry(case.provider.clone()).or_default().push(case);
    }
    providers
}
