//! The real host, and the route and the webhooks of the hostile plugin.

use std::sync::Arc;

use bytes::Bytes;
use callfeed::{
    config::{self, Secret},
    event::Event,
    kit::{Answer, Stand},
    plugin::{self, Grant, Plugin, Request},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

/// When every webhook of these tests was received: 2026-06-01T12:00:00Z.
pub(crate) const RECEIVED_AT_MS: u64 = 1_780_315_200_000;

pub(crate) const SIGNING: &str = "signing-secret-of-the-route";
pub(crate) const TOKEN: &str = "token-secret-of-the-route";

/// The kit's host, with the plugin that every test here but the cases is about.
pub(crate) struct Host {
    pub(crate) stand: Stand,
}

impl Host {
    pub(crate) fn new(limits: &config::Limits) -> Self {
        Self {
            stand: Stand::new(limits).expect("the engine starts"),
        }
    }

    pub(crate) async fn load(&self, wasm: &[u8]) -> Result<Arc<Plugin>, plugin::Error> {
        self.stand.load("rogue", wasm).await
    }

    pub(crate) async fn judge(&self, grant: &Arc<Grant>, request: Request) -> Answer {
        self.stand.judge(grant, request).await
    }
}

/// A route on the hostile plugin.
pub(crate) fn route(name: &str, act: &str) -> config::Route {
    config::Route {
        name: name.to_owned(),
        path: format!("/hooks/{name}"),
        provider: "rogue".to_owned(),
        secrets: vec![
            ("signing".to_owned(), vec![Secret::new(SIGNING)]),
            ("token".to_owned(), vec![Secret::new(TOKEN)]),
            (
                "answering".to_owned(),
                vec![Secret::new("answering-secret-of-the-route")],
            ),
        ],
        options: json!({ "act": act }),
        allow_unsigned: false,
        allow_hmac: act == "hmac-allowed",
        urls: Vec::new(),
        line: 1,
    }
}

pub(crate) fn grant(plugin: &Arc<Plugin>, route: &config::Route) -> Arc<Grant> {
    Arc::new(Grant::new(Arc::clone(plugin), route).expect("the route fits the plugin"))
}

pub(crate) const BODY: &[u8] = br#"{"event":"ended","call_id":"1"}"#;

/// A webhook for the hostile plugin, with a right signature and a right token.
pub(crate) fn webhook() -> Request {
    Request {
        method: "POST".to_owned(),
        urls: vec!["https://hooks.example.com/hooks/rogue".to_owned()],
        path: String::new(),
        query: Vec::new(),
        headers: headers(),
        peer: None,
        body: Bytes::from_static(BODY),
        form: Vec::new(),
        received_at_ms: RECEIVED_AT_MS,
    }
}

pub(crate) fn headers() -> Vec<(String, String)> {
    vec![
        ("x-rogue-signature".to_owned(), signature(BODY)),
        ("x-rogue-token".to_owned(), TOKEN.to_owned()),
    ]
}

fn signature(body: &[u8]) -> String {
    mac(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Under the signing secret.
pub(crate) fn mac(message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(SIGNING.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// The CloudEvent as a subscriber gets it.
pub(crate) fn cloud_event(event: &Event) -> Value {
    serde_json::from_slice(&event.close_json(7)).expect("an event is JSON")
}
