//! What the configuration means. Everything here has been proved: a [`Config`] that exists can be started.
//!
//! `raw` reads the file's shape and remembers every line; `check` turns one into the other and collects every
//! problem on the way. What the plugins know (that a provider exists, the names of its secrets, its options) is
//! checked where they are loaded, and reported with [`Checked::refuse`] or [`Refused::refuse`] into the same list.

mod check;
mod problem;
mod raw;
mod secret;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use callfeed_description::Description;

pub(crate) use self::check::{SEPARATORS, STANDARD_WEBHOOKS};
pub use self::{
    check::{load, load_admin, load_plugins, load_providers, load_store, parse},
    problem::{Checked, Problem, Problems, Readable, Refused, Severity},
};

/// A whole configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    pub server: Server,
    pub admin: Admin,
    pub store: Store,
    pub limits: Limits,
    pub plugins: Vec<Plugin>,
    pub providers: Vec<Provider>,
    pub routes: Vec<Route>,
    pub subscribers: Vec<Subscriber>,
}

/// Bytes that are never printed: `Debug` shows that there is a secret and nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for the one place that needs them. Never log or store the result.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// `[server]`: where providers post to.
#[derive(Debug, Clone, PartialEq)]
pub struct Server {
    pub listen: SocketAddr,
    /// What providers were told, without a trailing slash, e.g. `https://hooks.example.com`. `None`: `http://<listen>`.
    pub public_url: Option<String>,
    pub tls: Option<Tls>,
    pub body_bytes_max: usize,
    pub header_bytes_max: usize,
    pub headers_max: usize,
    /// From the first byte of a request to the end of its head.
    pub header_timeout: Duration,
    /// From the end of the head to the end of the body.
    pub body_timeout: Duration,
    /// How long the sender may take to take what it is sent.
    pub answer_timeout: Duration,
    /// How long a connection may be silent between requests.
    pub idle_timeout: Duration,
    pub connections_max: usize,
    /// Memory for all webhooks that are being received and kept.
    pub in_hand_bytes_max: usize,
    /// How long a stop waits for what is in hand.
    pub grace: Duration,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 8080)),
            public_url: None,
            tls: None,
            body_bytes_max: 1 << 20,
            header_bytes_max: 32 << 10,
            headers_max: 100,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(15),
            answer_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(60),
            connections_max: 4096,
            in_hand_bytes_max: 128 << 20,
            grace: Duration::from_secs(20),
        }
    }
}

/// `server.tls`: PEM files.
#[derive(Debug, Clone, PartialEq)]
pub struct Tls {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// `[admin]`: metrics and health.
#[derive(Debug, Clone, PartialEq)]
pub struct Admin {
    /// `None`: no admin address.
    pub listen: Option<SocketAddr>,
    pub token: Option<Secret>,
}

impl Default for Admin {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 8081))),
            token: None,
        }
    }
}

/// `[store]`: where events are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Store {
    pub location: Location,
    /// How long an event is kept.
    pub keep_events: Duration,
    /// How long it is recognised when it comes again; never shorter than `keep_events`.
    pub keep_ids: Duration,
    /// How long the raw webhook is kept beside its events.
    pub keep_webhooks: Duration,
    pub keep_attempts: Duration,
    /// With less than so many bytes free where the store is, providers are answered 503.
    pub disk_floor_bytes: u64,
    /// How many writes may wait for the disk before providers are answered 503.
    pub queue_max: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            location: Location::Sqlite(PathBuf::from("callfeed.db")),
            keep_events: days(30),
            keep_ids: days(30),
            keep_webhooks: days(7),
            keep_attempts: days(30),
            disk_floor_bytes: 128 << 20,
            queue_max: 1024,
        }
    }
}

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 24 * 60 * 60)
}

/// Which engine keeps the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    Sqlite(PathBuf),
}

/// `[limits]`: bounds on plugins.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Processor time one webhook may take in a plugin, in ticks of one millisecond.
    pub plugin_time: Duration,
    pub plugin_memory_bytes: usize,
    /// Events' data and answers together.
    pub plugin_output_bytes: usize,
    pub plugin_events_max: usize,
    pub plugin_host_calls_max: u32,
    /// Webhooks inside plugins at the same moment, over all routes.
    pub plugins_in_flight: usize,
    /// How long a webhook may wait for its turn before the provider is answered 503.
    pub plugin_wait: Duration,
    /// Largest file accepted as a plugin.
    pub plugin_file_bytes: u64,
    /// Where compiled plugins are cached; only the gateway may write there. A configuration that was read always names
    /// one; `None` caches nothing.
    pub plugin_cache: Option<PathBuf>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            plugin_time: Duration::from_millis(50),
            plugin_memory_bytes: 16 << 20,
            plugin_output_bytes: 1 << 20,
            plugin_events_max: 100,
            plugin_host_calls_max: 1000,
            plugins_in_flight: 64,
            plugin_wait: Duration::from_secs(2),
            plugin_file_bytes: 32 << 20,
            plugin_cache: None,
        }
    }
}

/// `[[plugin]]`: a third-party plugin.
#[derive(Debug, Clone, PartialEq)]
pub struct Plugin {
    pub name: String,
    pub path: PathBuf,
    /// Line of the block in the file, for messages.
    pub line: usize,
}

impl Plugin {
    /// Where the file lies that was in this one's place before it.
    pub fn previous(&self) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(".previous");
        path.into()
    }
}

/// `[[provider]]`: a provider that the configuration describes, instead of a plugin of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct Provider {
    pub name: String,
    pub display_name: String,
    pub secret: ProviderSecret,
    pub content_types: Vec<String>,
    pub methods: Vec<String>,
    pub body_bytes_max: usize,
    pub description: Description<'static>,
    pub line: usize,
}

/// `secret = { name, encoding, summary }`: what the routes of a described provider have to name.
#[derive(Debug, Clone, PartialEq)]
pub struct ProviderSecret {
    pub name: String,
    /// As the contract with plugins spells it.
    pub encoding: &'static str,
    pub summary: String,
}

/// `[[route]]`: a path bound to a plugin, its secrets and options.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    pub name: String,
    /// Starts with a slash, has no trailing one.
    pub path: String,
    /// The plugin's name.
    pub provider: String,
    /// Every live value of every secret, as written; the plugin's declaration says how text becomes key bytes.
    pub secrets: Vec<(String, Vec<Secret>)>,
    /// A JSON object, checked against the plugin's own schema when the plugin is loaded.
    pub options: serde_json::Value,
    /// Webhooks that nothing proves are accepted too.
    pub allow_unsigned: bool,
    /// The plugin may have the host compute an HMAC for a handshake's answer.
    pub allow_hmac: bool,
    /// The URLs the provider may have been told, likeliest first; empty: `public_url` + `path`.
    pub urls: Vec<String>,
    pub line: usize,
}

/// `[[subscriber]]`: a downstream service.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscriber {
    pub name: String,
    pub url: reqwest::Url,
    pub filter: Filter,
    /// At least one; every live one signs.
    pub secrets: Vec<SigningKey>,
    pub signature: Signature,
    /// Sent with every attempt; the values are secrets until proved otherwise.
    pub headers: Vec<(hyper::header::HeaderName, Secret)>,
    pub timeout: Duration,
    /// Pause before each attempt, the first included; its length is the number of attempts.
    pub schedule: Vec<Duration>,
    pub order: Order,
    /// Attempts in a time, of whatever delivery. `None`: as many as there are.
    pub rate: Option<Rate>,
    pub in_flight_max: usize,
    /// Deliveries that may wait for another attempt before reading on stops. One that waits holds no event in memory.
    pub waiting_max: usize,
    pub privacy: Privacy,
    /// Private networks and this machine are not dialled either.
    pub public_only: bool,
    pub tls: ClientTls,
    /// Where it begins when the store has never seen it.
    pub from: From,
    pub line: usize,
}

/// What a subscriber does not get. Paths of members below `data`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Privacy {
    pub drop: Vec<Vec<String>>,
    pub mask: Vec<Vec<String>>,
}

/// `subscriber.tls`: PEM, as read from the files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientTls {
    /// Trusted instead of the system's roots.
    pub ca: Option<Vec<u8>>,
    /// Certificate chain and key, shown to the subscriber.
    pub identity: Option<Secret>,
}

/// A place in the feed to begin at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum From {
    /// With what is kept from now on.
    #[default]
    Now,
    /// With everything that is still kept.
    Start,
    /// With what was kept at this time or later.
    Time(jiff::Timestamp),
}

impl Subscriber {
    pub const TIMEOUT: Duration = Duration::from_secs(15);
    /// Ten attempts over three days, denser at the start: that of Standard Webhooks.
    pub const SCHEDULE: [Duration; 10] = {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        [
            Duration::ZERO,
            Duration::from_secs(5),
            Duration::from_secs(5 * MINUTE),
            Duration::from_secs(30 * MINUTE),
            Duration::from_secs(2 * HOUR),
            Duration::from_secs(5 * HOUR),
            Duration::from_secs(10 * HOUR),
            Duration::from_secs(14 * HOUR),
            Duration::from_secs(20 * HOUR),
            Duration::from_secs(24 * HOUR),
        ]
    };
    pub const IN_FLIGHT_MAX: usize = 32;
    pub const WAITING_MAX: usize = 100_000;
}

/// Which deliveries wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Those of one call, or whatever else is the subject, go one after the other.
    Call,
    /// Every delivery stands alone.
    None,
}

/// `rate = "50/s"`: so many in so long, wherever that begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    pub count: u32,
    pub per: Duration,
}

/// Which events a subscriber gets: all conditions must hold; an empty list is no condition.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filter {
    pub types: Vec<Pattern>,
    pub routes: Vec<String>,
    pub numbers: Vec<Pattern>,
    /// Events without a duration pass only when this is `None`.
    pub min_duration: Option<Duration>,
    /// `Some(true)`: only test events; `Some(false)`: none of them.
    pub test: Option<bool>,
}

/// Exact text, or a prefix written with a trailing `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pattern {
    Exact(String),
    Prefix(String),
}

impl Pattern {
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == text,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
        }
    }
}

/// A live key that signs deliveries (Standard Webhooks).
#[derive(Debug, Clone, PartialEq)]
pub enum SigningKey {
    /// `whsec_…`: HMAC-SHA256 key bytes, decoded.
    Hmac(Secret),
    /// `whsk_…`: Ed25519 seed, 32 bytes, decoded.
    Ed25519(Secret),
}

/// How deliveries are signed.
#[derive(Debug, Clone, PartialEq)]
pub enum Signature {
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    StandardWebhooks,
    /// The form a subscriber already checks. The three Standard Webhooks headers are not sent, except `webhook-id` and
    /// `webhook-timestamp`.
    Custom(CustomSignature),
}

/// `signature = { header, algorithm, encoding, prefix, over }`.
#[derive(Debug, Clone, PartialEq)]
pub struct CustomSignature {
    pub header: hyper::header::HeaderName,
    pub algorithm: Algorithm,
    pub encoding: Encoding,
    pub prefix: String,
    pub over: Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    HmacSha1,
    HmacSha256,
    HmacSha512,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    Hex,
    Base64,
}

/// What the signature covers; the parts are joined by full stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Body,
    IdTimestampBody,
    TimestampBody,
}
