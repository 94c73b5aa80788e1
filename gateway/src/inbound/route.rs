//! From a path to the route it belongs to, and what a route remembers while it runs.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use super::metrics::Meters;
use crate::{
    config,
    event::RawWebhook,
    plugin::{Grant, Proof, Rejection, Runtime},
    telemetry::Quiet,
};

/// A route that webhooks can come in on.
#[derive(Debug)]
pub struct Route {
    pub name: String,
    pub(super) path: String,
    pub grant: Arc<Grant>,
    /// Where its plugin runs.
    pub(super) runtime: Arc<Runtime>,
    pub(super) meters: Meters,
    /// What the provider may have been told, likeliest first; at least one.
    pub(super) urls: Vec<String>,
    /// `GET, POST`, for 405.
    pub(super) methods: String,
    pub(super) body_bytes_max: usize,
    faults: Quiet,
    rejections: Quiet,
    /// The forms of signature seen so far, each reported once.
    forms: Mutex<Vec<String>>,
}

impl Route {
    pub fn new(
        route: &config::Route,
        grant: Grant,
        server: &config::Server,
        runtime: Arc<Runtime>,
        meters: Meters,
    ) -> Self {
        let base = server.public_url.clone().unwrap_or_else(|| {
            let scheme = if server.tls.is_some() { "https" } else { "http" };
            format!("{scheme}://{}", server.listen)
        });
        let urls = match route.urls.is_empty() {
            true => vec![format!("{base}{}", route.path)],
            false => route.urls.clone(),
        };
        let descriptor = &grant.plugin.descriptor;
        Self {
            name: route.name.clone(),
            path: route.path.clone(),
            urls,
            methods: descriptor.methods.join(", "),
            body_bytes_max: descriptor.body_bytes_max.min(server.body_bytes_max),
            grant: Arc::new(grant),
            runtime,
            meters,
            faults: Quiet::default(),
            rejections: Quiet::default(),
            forms: Mutex::default(),
        }
    }

    pub(super) fn report_fault(&self, what: &str, detail: &str) {
        if let Some(more) = self.faults.speak() {
            let plugin = &self.grant.plugin.name;
            tracing::error!(route = self.name, plugin, detail, more, "{what}");
        }
    }

    pub(super) fn report_rejection(&self, rejection: &Rejection, webhook: &RawWebhook) {
        if let Some(more) = self.rejections.speak() {
            let hint = signature_like(webhook);
            tracing::warn!(
                route = self.name,
                code = rejection.code,
                detail = rejection.detail,
                peer = webhook.peer.as_deref().unwrap_or_default(),
                headers_that_look_like_signatures = hint,
                more,
                "refused: not authentic"
            );
        }
    }

    /// Says once for each form which one the provider uses, so that the operator can pin it.
    pub(super) fn note_form(&self, proof: &Proof) {
        let form = proof.form();
        if form.is_empty() {
            return;
        }
        let mut forms = self.forms.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if !forms.iter().any(|known| known == form) && forms.len() < 64 {
            forms.push(form.to_owned());
            let assurance = proof.assurance().map_or("none", |assurance| assurance.as_str());
            tracing::info!(
                route = self.name,
                form,
                assurance,
                "first webhook of this form of signature"
            );
        }
    }
}

/// The URLs a provider may have called to reach `below?query`, where `below` is what follows the route's path, exactly as
/// received: a provider that signs its URL signs a slash at the end, too.
pub(super) fn complete(urls: &[String], below: &str, query: Option<&str>) -> Vec<String> {
    let complete = |url: &String| {
        // An operator who wrote a query string wrote the whole URL.
        if url.contains('?') {
            return url.clone();
        }
        let below = if url.ends_with('/') {
            below.strip_prefix('/').unwrap_or(below)
        } else {
            below
        };
        let (mark, query) = query.map_or(("", ""), |query| ("?", query));
        format!("{url}{below}{mark}{query}")
    };
    urls.iter().map(complete).collect()
}

/// Names of the headers whose value has the shape of a digest, for an operator who does not know which one signs.
fn signature_like(webhook: &RawWebhook) -> String {
    let shaped = |value: &str| {
        let value = value
            .rsplit_once('=')
            .filter(|(_, digest)| digest.len() >= 40)
            .map_or(value, |(_, digest)| digest);
        let hex = matches!(value.len(), 40 | 64 | 96 | 128) && value.bytes().all(|byte| byte.is_ascii_hexdigit());
        let base64 = matches!(value.len(), 28 | 44 | 64 | 88)
            && value
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='));
        hex || base64
    };
    let names: Vec<_> = webhook
        .headers
        .iter()
        .filter(|(_, value)| shaped(value))
        .map(|(name, _)| name.as_str())
        .collect();
    names.join(", ")
}

/// Every route by path.
#[derive(Debug, Default)]
pub struct Routes {
    by_path: HashMap<String, Arc<Route>>,
}

impl Routes {
    /// Paths are unique; the configuration was checked for that.
    pub fn insert(&mut self, route: Route) {
        self.by_path.insert(route.path.clone(), Arc::new(route));
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.by_path.values()
    }

    pub(super) fn named(&self, name: &str) -> Option<&Arc<Route>> {
        self.all().find(|route| route.name == name)
    }

    /// The route that a path belongs to, and what follows the route's own path, with its slash.
    ///
    /// Routes do not lie inside each other; the configuration was checked for that. So one walk over them does, however
    /// many segments a stranger's path has.
    pub(super) fn find<'p>(&self, path: &'p str) -> Option<(&Arc<Route>, &'p str)> {
        if let Some(route) = self.by_path.get(path) {
            return Some((route, ""));
        }
        self.by_path.iter().find_map(|(own, route)| {
            let below = path.strip_prefix(own.as_str())?;
            below.starts_with('/').then_some((route, below))
        })
    }
}
