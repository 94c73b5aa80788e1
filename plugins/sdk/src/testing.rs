//! A stand-in for the gateway in native builds: unit tests, benchmarks and the case runner.
//!
//! It has the gateway's `crypto` and `environment` for one thread at a time, with real keys, MACs and, with the feature
//! `testing`, public-key signatures. What it does not have is JWS; a plugin that needs it is tested in the gateway, with
//! `callfeed plugin test`.

use std::{cell::Cell, cell::RefCell, collections::BTreeMap, rc::Rc};

use crate::{Body, Field, Request, environment::Level};

#[cfg(feature = "testing")]
mod cases;
pub(crate) mod crypto;
pub(crate) mod environment;
#[cfg(feature = "testing")]
pub use cases::{Demands, cases, substitutions};

/// When a [`TestHost::request`] was received: 2026-06-01T12:00:00Z, in milliseconds since the Unix epoch.
pub const RECEIVED_AT_MS: u64 = 1_780_315_200_000;

/// What the gateway would know while a plugin runs.
#[derive(Debug)]
pub struct TestHost {
    /// The key bytes of every live value of every secret.
    pub secrets: BTreeMap<String, Vec<Vec<u8>>>,
    /// The route's options, a JSON object.
    pub options: String,
    /// Whether the route lets the plugin have an HMAC computed.
    pub allow_hmac: bool,
    /// The time of receipt, milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// The body that [`Part::Body`](crate::crypto::Part::Body) stands for.
    pub body: Vec<u8>,
    /// What was verified, and what was logged.
    pub seen: Seen,
}

/// What a plugin did while it ran under a [`TestHost`].
#[derive(Debug, Default)]
pub struct Seen {
    /// The strongest check that succeeded.
    pub evidence: Cell<Evidence>,
    /// The secret of the last check that succeeded, and which of its values fitted.
    pub fitting: RefCell<Option<(String, usize)>>,
    /// The log, in order.
    pub log: RefCell<Vec<(Level, String)>>,
}

/// How much a successful check proves. The order is that of strength.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// There was none.
    #[default]
    Nothing,
    /// A token was right.
    Token,
    /// A signature was right, over a text the plugin made.
    SignedDerived,
    /// A signature was right, and covers the body.
    SignedBody,
}

impl Default for TestHost {
    fn default() -> Self {
        Self {
            secrets: BTreeMap::new(),
            options: "{}".to_owned(),
            allow_hmac: false,
            now_ms: RECEIVED_AT_MS,
            body: Vec::new(),
            seen: Seen::default(),
        }
    }
}

impl TestHost {
    /// Adds a live value of a secret.
    #[must_use]
    pub fn secret(mut self, name: &str, key: impl Into<Vec<u8>>) -> Self {
        self.secrets.entry(name.to_owned()).or_default().push(key.into());
        self
    }

    /// Lets the plugin have an HMAC computed.
    #[must_use]
    pub fn allow_hmac(mut self) -> Self {
        self.allow_hmac = true;
        self
    }

    /// A request with a body of text and nothing else.
    pub fn request(method: &str, body: &str) -> Request {
        Request {
            method: method.to_owned(),
            urls: vec!["https://hooks.example.com/".to_owned()],
            path: String::new(),
            query: Vec::new(),
            headers: Vec::new(),
            peer: None,
            body: Body::Text(body.to_owned()),
            form: Vec::new(),
            received_at_ms: RECEIVED_AT_MS,
        }
    }

    /// A header, a query parameter or a form field.
    pub fn field(name: &str, value: &str) -> Field {
        Field {
            name: name.to_owned(),
            value: value.to_owned(),
        }
    }
}

thread_local! {
    static HOST: RefCell<Option<Rc<TestHost>>> = const { RefCell::new(None) };
}

/// Runs `f` with this host. One that is to be looked at afterwards, or used again, is handed in as an [`Rc`].
pub fn with_host<R>(host: impl Into<Rc<TestHost>>, f: impl FnOnce() -> R) -> R {
    /// Puts back the outer host, also when a test fails in between.
    struct Restore(Option<Rc<TestHost>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            HOST.set(self.0.take());
        }
    }
    let _restore = Restore(HOST.replace(Some(host.into())));
    f()
}

/// The host of this thread; outside [`with_host`] one without secrets and options.
fn host() -> Rc<TestHost> {
    HOST.with_borrow(|host| host.clone()).unwrap_or_default()
}
