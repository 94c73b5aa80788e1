//! Providers' plugins: WebAssembly components that say whether a webhook is authentic and what it means.
//!
//! A plugin is compiled and pre-instantiated once (`load`); a route grants it what it asked for and the configuration
//! allows ([`Grant`]); each webhook then runs in a fresh instance with bounded time, memory and output (`call`). No
//! secret ever enters a plugin, and no plugin is believed: [`Verdict::Accepted`] exists only where the host itself saw
//! the proof. Only this room knows wasmtime, and only `v1` sees the types generated from the contract.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde_json::Value;

mod builtin;
mod call;
mod cryptography;
mod declared;
mod grant;
mod host;
mod limits;
mod load;
mod section;
mod trial;
mod v1;

pub use builtin::SAMPLES;
pub use call::Runtime;
pub(crate) use cryptography::{Hash, PublicKey};
pub use declared::declare;
pub use grant::{Grant, KeyEncoding};
pub(crate) use grant::{Key, unhex};
pub(crate) use load::read_file;
pub use load::{Error, cases, compile, with_cases};
pub(crate) use trial::Conditions;
pub use trial::Usage;

/// A loaded plugin, ready to be granted to routes.
pub struct Plugin {
    pub name: String,
    /// The interface of the contract that it exports, with its version.
    pub contract: String,
    /// Every interface it imports.
    pub imports: Vec<String>,
    pub descriptor: Descriptor,
    /// Of its file.
    pub(crate) digest: [u8; 32],
    /// The cases that its file carries, as they stand there: what it is held to before it serves.
    pub(crate) cases: Option<Bytes>,
    pub(crate) options_schema: jsonschema::Validator,
    /// What its routes' options are where a configuration's block stands for the plugin's own knowledge of a provider.
    description: Option<String>,
    pre: v1::ProviderPre<host::CallState>,
    share: Arc<tokio::sync::Semaphore>,
    lane: limits::SlowLane,
}

impl Plugin {
    /// Whether a configuration's block says what it knows of its provider.
    pub(crate) fn is_described(&self) -> bool {
        self.description.is_some()
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("name", &self.name)
            .field("version", &self.descriptor.version)
            .finish()
    }
}

/// The component of a built-in plugin.
pub(crate) fn built_in(name: &str) -> Option<&'static [u8]> {
    let found = builtin::PLUGINS.iter().find(|(known, _)| *known == name)?;
    Some(found.1)
}

/// The names of the built-in plugins.
pub(crate) fn built_in_names() -> impl Iterator<Item = &'static str> {
    builtin::PLUGINS.iter().map(|(name, _)| *name)
}

/// Every plugin of this gateway by name: the built-in ones and those of the configuration.
pub type Plugins = BTreeMap<String, Arc<Plugin>>;

/// What a plugin says of itself, checked when it was loaded.
#[derive(Debug, Clone, PartialEq)]
pub struct Descriptor {
    /// The provider's slug: `data.provider` and the first part of every event's subject.
    pub provider: String,
    pub display_name: String,
    pub version: String,
    pub methods: Vec<String>,
    /// Media types without parameters; empty means any.
    pub content_types: Vec<String>,
    /// Header names, and `option:<JSON pointer>` entries that a route's options resolve.
    pub headers: Vec<String>,
    pub body_bytes_max: usize,
    pub assurance: Assurance,
    pub events: Vec<EventSpec>,
    pub secrets: Vec<SecretSpec>,
    pub options_schema: Value,
}

impl Descriptor {
    pub(crate) fn secret(&self, name: &str) -> Option<&SecretSpec> {
        self.secrets.iter().find(|spec| spec.name == name)
    }

    /// Name and JSON Schema of every option.
    pub fn options(&self) -> impl Iterator<Item = (&str, &Value)> {
        let properties = self.options_schema["properties"].as_object();
        properties
            .into_iter()
            .flatten()
            .map(|(name, schema)| (name.as_str(), schema))
    }
}

/// The provider's own name of an event and the unified type it becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSpec {
    pub native: String,
    pub unified: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretSpec {
    pub name: String,
    pub summary: String,
    pub encoding: grant::KeyEncoding,
    pub required: bool,
    pub may_hmac: bool,
}

/// How strongly something is proven. Ordered: a stronger proof serves where a weaker one is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assurance {
    /// A shared value was presented, or something was signed that does not bind the content.
    Token,
    /// A text that the plugin derived from the request was signed.
    SignedDerived,
    /// The body itself was signed.
    SignedBody,
}

impl Assurance {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::SignedDerived => "signed-derived",
            Self::SignedBody => "signed-body",
        }
    }
}

/// A webhook as a plugin sees it.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    /// At least one.
    pub urls: Vec<String>,
    pub path: String,
    pub query: Vec<(String, String)>,
    /// Only those the plugin declared.
    pub headers: Vec<(String, String)>,
    pub peer: Option<String>,
    pub body: Bytes,
    pub form: Vec<(String, String)>,
    pub received_at_ms: u64,
}

/// A plugin's answer to one webhook, after the host has judged it.
#[derive(Debug)]
pub enum Verdict {
    /// Authentic, and these are its events.
    Accepted {
        proof: Proof,
        events: Vec<MappedEvent>,
        reply: Option<Reply>,
    },
    /// Authentic and of no interest.
    Ignored { proof: Proof, reason: String },
    /// A handshake; nothing is kept.
    Respond(Reply),
    /// Not authentic.
    Rejected(Rejection),
    /// Authentic, but the plugin failed on it or refused it.
    Quarantine { proof: Proof, fault: Fault },
    /// Nothing is proven and the plugin failed: the sender should try again.
    Failed(Fault),
    /// The route's secrets do not fit; the operator has to act, the sender should try again.
    Misconfigured(String),
    /// No instance was free in time.
    Busy,
}

/// How a webhook was found authentic. Only the judge in `call` makes one.
#[derive(Debug, Clone)]
pub struct Proof {
    /// `None`: nothing proves it, and the route allows that.
    pub(super) assurance: Option<Assurance>,
    pub(super) form: String,
    pub(super) payload: Option<String>,
}

impl Proof {
    /// Of a webhook whose plugin did not get to say more about it.
    fn bare(assurance: Assurance) -> Self {
        Self {
            assurance: Some(assurance),
            form: String::new(),
            payload: None,
        }
    }

    pub fn assurance(&self) -> Option<Assurance> {
        self.assurance
    }

    /// Which of several accepted forms matched; may be empty.
    pub fn form(&self) -> &str {
        &self.form
    }

    /// The payload that was really signed, where that is not the body.
    pub fn payload(&self) -> Option<&str> {
        self.payload.as_deref()
    }
}

/// Why a plugin gave no usable answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// It trapped, used up a bound, or broke the contract.
    Stopped(String),
    /// It refused its own provider's authentic webhook.
    Rejected(Rejection),
}

#[derive(Debug, Clone)]
pub struct Rejection {
    pub kind: RejectionKind,
    /// Short and stable.
    pub code: String,
    /// For the operator's log.
    pub detail: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionKind {
    Unauthenticated,
    Malformed,
    Unsupported,
}

/// One event as a plugin mapped it, not yet validated.
#[derive(Debug, Clone)]
pub struct MappedEvent {
    pub kind: String,
    pub id: String,
    pub subject: String,
    pub occurred_at_ms: Option<u64>,
    pub test: bool,
    /// JSON text.
    pub data: String,
}

/// An answer written by the plugin, already within bounds.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub content_type: Option<String>,
    pub body: Vec<u8>,
}
