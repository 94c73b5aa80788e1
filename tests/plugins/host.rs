//! The real host, with what comes after it up to the event: a verdict, then the validator's.

use std::sync::Arc;

use bytes::Bytes;
use callfeed::{
    config::{self, Secret},
    event::Event,
    inbound::Validator,
    plugin::{self, Fault, Grant, Plugin, Rejection, RejectionKind, Request, Runtime, Verdict},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;

/// When every webhook of these tests was received: 2026-06-01T12:00:00Z.
pub(crate) const RECEIVED_AT_MS: u64 = 1_780_315_200_000;

pub(crate) const SIGNING: &str = "signing-secret-of-the-route";
pub(crate) const TOKEN: &str = "token-secret-of-the-route";

/// A plugin runtime and the validator behind it.
pub(crate) struct Host {
    pub(crate) runtime: Runtime,
    validator: Validator,
}

/// What a webhook came to.
#[derive(Debug)]
pub(crate) enum Ending {
    /// Authentic and valid; with what the plugin wrote and the events made of it.
    Events {
        form: String,
        mapped: Vec<plugin::MappedEvent>,
        events: Vec<Event>,
    },
    /// Anything else, as a line: the verdict and its reason.
    Other(String),
}

impl Ending {
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Events { events, .. } => format!("accepted {}", events.len()),
            Self::Other(line) => line.clone(),
        }
    }
}

impl Host {
    pub(crate) fn new(limits: &config::Limits) -> Self {
        Self {
            runtime: Runtime::new(limits).expect("the engine starts"),
            validator: Validator::new(),
        }
    }

    pub(crate) async fn load(&self, wasm: &[u8]) -> Result<Arc<Plugin>, plugin::Error> {
        plugin::compile(&self.runtime, "rogue", wasm).await.map(Arc::new)
    }

    pub(crate) async fn judge(&self, grant: &Arc<Grant>, request: Request) -> Ending {
        let received_at = Timestamp::from_millisecond(RECEIVED_AT_MS as i64).expect("it is a time");
        let rejection = |verdict: &str, rejection: &Rejection| {
            let kind = match rejection.kind {
                RejectionKind::Unauthenticated => "unauthenticated",
                RejectionKind::Malformed => "malformed",
                RejectionKind::Unsupported => "unsupported",
            };
            format!("{verdict} {kind} {}: {}", rejection.code, rejection.detail)
        };
        let line = match self.runtime.call(grant, request).await {
            Verdict::Accepted {
                proof, events: mapped, ..
            } => match self.validator.events(grant, mapped.clone(), received_at) {
                Ok(events) => {
                    return Ending::Events {
                        form: proof.form().to_owned(),
                        mapped,
                        events,
                    };
                }
                Err(invalid) => format!("quarantined: {invalid}"),
            },
            Verdict::Ignored { proof, reason } => format!("ignored {} {reason}", proof.form()),
            Verdict::Respond(reply) => {
                format!(
                    "respond {} {:?} {}",
                    reply.status,
                    reply.content_type,
                    String::from_utf8_lossy(&reply.body)
                )
            }
            Verdict::Rejected(why) => rejection("rejected", &why),
            Verdict::Quarantine {
                fault: Fault::Rejected(why),
                ..
            } => rejection("quarantined", &why),
            Verdict::Quarantine {
                fault: Fault::Stopped(what),
                ..
            } => format!("quarantined: {what}"),
            Verdict::Failed(fault) => match fault {
                Fault::Stopped(what) => format!("failed: {what}"),
                Fault::Rejected(why) => rejection("failed", &why),
            },
            Verdict::Misconfigured(what) => format!("misconfigured: {what}"),
            Verdict::Busy => "busy".to_owned(),
        };
        Ending::Other(line)
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
