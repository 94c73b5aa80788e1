//! Sends one signed attempt and says how it ended. The only place that dials out, after [`address`] agrees.
//!
//! Never follows a redirect (the target was not configured and would be handed the signature), never takes a proxy from the
//! environment, never reads more of an answer than its bound. What it tells the record holds no secret.

use std::{
    error::Error as StdError,
    io,
    net::IpAddr,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT};
use reqwest::{Certificate, Client, Identity, Request, Response, Url, redirect::Policy};

use super::{
    address::{self, Check, Refused, Resolver},
    schedule,
    sign::Signed,
};
use crate::{
    clock,
    config::{SigningKey, Subscriber},
    redaction::{Redaction, STRUCK_OUT},
};

/// How much of an answer is kept for the record.
const KEEP_BYTES: usize = 1024;
/// How much of an answer is read so that its connection can serve the next attempt. Past that, a new connection is cheaper
/// than the rest of the answer.
const DRAIN_BYTES: usize = 64 * 1024;
/// How long the body of an answer may take. The status has decided by then, and the slot is wanted for the next attempt.
const BODY_TIMEOUT: Duration = Duration::from_secs(1);
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(10);
/// Shorter than what common servers and balancers allow, so that it is mostly us who close an idle connection: one that the
/// other side closes at the moment of use costs an attempt.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// An HTTP/2 connection that died silently would swallow every attempt until someone asks whether it still lives.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// Striking out shorter values would mutilate every answer and protect nothing.
const SECRET_CHARS_MIN: usize = 4;

/// Why a subscriber cannot be delivered to at all.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the value of the header {0} cannot stand in a header")]
    Header(HeaderName),
    #[error("no connections can be made")]
    Client(#[from] reqwest::Error),
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The subscriber answered 2xx. What follows the status line does not matter any more.
    Delivered {
        status: u16,
    },
    Failed(Failure),
    /// The subscriber answered 410: it wants no deliveries any more (Standard Webhooks, "Disabling endpoints").
    Gone,
}

/// An attempt that did not deliver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub reason: Reason,
    /// `None` when no answer arrived.
    pub status: Option<u16>,
    /// How long the subscriber asked us to stay away.
    pub retry_after: Option<Duration>,
}

/// Why an attempt did not deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// An answer other than 2xx, 3xx and 410.
    Status,
    /// An answer 3xx, not followed.
    Redirect,
    /// No answer within the subscriber's time.
    Timeout,
    Connect,
    Tls,
    Dns,
    /// The connection ended before the answer.
    Closed,
    /// [`address`] does not allow it.
    RefusedAddress,
    /// The attempt broke down on our side.
    Internal,
}

impl Reason {
    /// A short stable name, for the record and for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Redirect => "redirect",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::Closed => "closed",
            Self::RefusedAddress => "refused-address",
            Self::Internal => "internal",
        }
    }
}

impl Outcome {
    /// A short stable name, for the record: `delivered`, `gone`, or why not.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered { status: _ } => "delivered",
            Self::Failed(failure) => failure.reason.as_str(),
            Self::Gone => "gone",
        }
    }

    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Delivered { status } => Some(*status),
            Self::Failed(failure) => failure.status,
            Self::Gone => Some(410),
        }
    }

    pub(super) fn failed(reason: Reason) -> Self {
        Self::Failed(Failure {
            reason,
            status: None,
            retry_after: None,
        })
    }
}

/// What an attempt leaves for the record, free of secrets.
#[derive(Debug, Clone)]
pub struct Attempted {
    pub outcome: Outcome,
    pub duration: Duration,
    /// Names and values as sent, secrets struck out; one `name: value` a line.
    pub request_headers: String,
    /// The first part of the answer, or what went wrong.
    pub response: String,
}

/// Carries deliveries to one subscriber.
///
/// Each subscriber has connections of its own: two that share a host must not share an HTTP/2 connection, where one of them
/// could use up the streams of the other.
#[derive(Debug)]
pub struct Courier {
    client: Client,
    /// What all attempts have in common.
    request: Request,
    secrets: Redaction,
    /// A connector does not resolve a literal address, so that is judged here.
    refused: Option<Refused>,
}

impl Courier {
    /// Prepares connections; dials nothing.
    ///
    /// # Errors
    ///
    /// When TLS cannot be set up, e.g. because the system has no root certificates, or a header cannot be sent.
    pub fn new(subscriber: &Subscriber) -> Result<Self, Error> {
        Self::resolving(subscriber, Resolver::new)
    }

    fn resolving(subscriber: &Subscriber, resolver: fn(Check) -> Resolver) -> Result<Self, Error> {
        // An error means that the process has a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let check: Check = match subscriber.public_only {
            true => address::check_public,
            false => address::check,
        };
        let mut client = Client::builder()
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .dns_resolver(resolver(check))
            .timeout(subscriber.timeout)
            .connect_timeout(subscriber.timeout.min(CONNECT_TIMEOUT_MAX))
            .pool_max_idle_per_host(subscriber.in_flight_max)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT);
        if let Some(identity) = &subscriber.tls.identity {
            client = client.identity(Identity::from_pem(identity.expose())?);
        }
        if let Some(ca) = &subscriber.tls.ca {
            client = client.tls_certs_only(Certificate::from_pem_bundle(ca)?);
        } else if subscriber.url.scheme() != "https" {
            // A system without root certificates is no hindrance where none is needed.
            client = client.tls_certs_only([]);
        }
        let host = subscriber.url.host_str().unwrap_or_default();
        let literal: Result<IpAddr, _> = host.trim_start_matches('[').trim_end_matches(']').parse();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/cloudevents+json"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("callfeed/", env!("CARGO_PKG_VERSION"))),
        );
        for (name, secret) in &subscriber.headers {
            let mut value = HeaderValue::from_bytes(secret.expose()).map_err(|_| Error::Header(name.clone()))?;
            // Also keeps HTTP/2 from putting it into a compression table.
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        let client = client.build()?;
        // Takes a name and password out of the URL and into a header.
        let request = client.post(subscriber.url.clone()).headers(headers).build()?;
        let secrets = secrets(request.headers(), &subscriber.url, &subscriber.secrets);
        Ok(Self {
            client,
            request,
            secrets,
            refused: literal.ok().and_then(|address| check(address).err()),
        })
    }

    /// Makes the attempt. Takes no longer than the subscriber's time-out, from the dialling to the end of the answer.
    pub async fn deliver(&self, signed: Signed) -> Attempted {
        let began = Instant::now();
        let request = self.request(signed);
        let request_headers = lines(request.headers());
        let (outcome, response) = match self.refused {
            Some(refused) => (Outcome::failed(Reason::RefusedAddress), refused.to_string()),
            None => match self.client.execute(request).await {
                Ok(response) => self.read(response).await,
                Err(error) => (Outcome::failed(reason(&error)), chain(&error.without_url())),
            },
        };
        Attempted {
            outcome,
            duration: began.elapsed(),
            request_headers,
            response: self.secrets.beginning(&response, KEEP_BYTES),
        }
    }

    fn request(&self, signed: Signed) -> Request {
        let mut request = self
            .request
            .try_clone()
            .expect("a request without a body can be cloned");
        let Signed { headers, body } = signed;
        // `extend` replaces, so no configured header takes the place of a signature.
        request.headers_mut().extend(headers);
        *request.body_mut() = Some(body.into());
        request
    }

    async fn read(&self, mut response: Response) -> (Outcome, String) {
        let status = response.status();
        let mut text = String::new();
        // A secret that lies across the end of what is kept must be seen whole to be struck out.
        let keep = KEEP_BYTES + self.secrets.longest();
        let outcome = if status.is_success() {
            Outcome::Delivered {
                status: status.as_u16(),
            }
        } else if status == reqwest::StatusCode::GONE {
            Outcome::Gone
        } else {
            let retry_after = response
                .headers()
                .get(RETRY_AFTER)
                .and_then(|value| value.to_str().ok());
            let retry_after = retry_after.and_then(|value| schedule::retry_after(value, clock::now()));
            let reason = if status.is_redirection() {
                Reason::Redirect
            } else {
                Reason::Status
            };
            if reason == Reason::Redirect {
                let location = response
                    .headers()
                    .get(LOCATION)
                    .map(HeaderValue::as_bytes)
                    .unwrap_or(b"nowhere");
                let location = String::from_utf8_lossy(&location[..location.len().min(keep)]).into_owned();
                text = format!("the redirect to {location} is not followed\n");
            }
            Outcome::Failed(Failure {
                reason,
                status: Some(status.as_u16()),
                retry_after,
            })
        };
        text.push_str(&String::from_utf8_lossy(&beginning(&mut response, keep).await));
        (outcome, text)
    }
}

/// Reads the beginning of the body, and the rest of it if that is short. An answer that breaks off or stalls has the status
/// it began with all the same.
async fn beginning(response: &mut Response, keep: usize) -> Vec<u8> {
    let announced = response.content_length().unwrap_or_default();
    let drain = if announced > DRAIN_BYTES as u64 {
        keep
    } else {
        DRAIN_BYTES
    };
    let (mut kept, mut seen) = (Vec::new(), 0);
    let end = tokio::time::Instant::now() + BODY_TIMEOUT;
    while seen < drain
        && let Ok(Ok(Some(chunk))) = tokio::time::timeout_at(end, response.chunk()).await
    {
        seen += chunk.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(keep - kept.len())]);
    }
    kept
}

fn lines(headers: &HeaderMap) -> String {
    let mut text = String::with_capacity(512);
    for (name, value) in headers {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(name.as_str());
        text.push_str(": ");
        if value.is_sensitive() {
            text.push_str(STRUCK_OUT);
        } else {
            text.push_str(&String::from_utf8_lossy(value.as_bytes()));
        }
    }
    text
}

/// The innermost cause decides: a refused address surfaces as a DNS failure, which surfaces as a failure to connect.
fn reason(error: &reqwest::Error) -> Reason {
    if causes(error).any(|cause| cause.is::<Refused>()) {
        Reason::RefusedAddress
    } else if error.is_timeout() {
        Reason::Timeout
    } else if error.is_dns() {
        Reason::Dns
    } else if causes(error).any(|cause| cause.is::<rustls::Error>()) {
        Reason::Tls
    } else if error.is_connect() {
        Reason::Connect
    } else {
        Reason::Closed
    }
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    fn next<'a>(error: &&'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
        let error = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            // `source` of an I/O error skips the error it wraps.
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    }
    std::iter::successors(Some(error), next)
}

fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    for cause in causes(error) {
        let cause = cause.to_string();
        // An I/O error says the same as what it wraps.
        if !text.ends_with(&cause) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
    }
    text
}

/// Parts of a URL's path that are as long as this are taken for tokens.
const PATH_SECRET_BYTES_MIN: usize = 16;

/// What must not get into the record, should a subscriber echo it.
fn secrets(headers: &HeaderMap, url: &Url, keys: &[SigningKey]) -> Redaction {
    let mut texts = Vec::new();
    for value in headers.values().filter(|value| value.is_sensitive()) {
        if let Ok(text) = std::str::from_utf8(value.as_bytes()) {
            texts.push(text.to_owned());
            // `Bearer abc`: the word alone is the secret.
            texts.extend(text.rsplit_once(' ').map(|(_, word)| word.to_owned()));
            texts.extend(password(text));
        }
    }
    // As written and as meant; a token stands there as often as in a header.
    texts.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
    let written = url.query().unwrap_or_default().split('&');
    texts.extend(written.filter_map(|pair| Some(pair.split_once('=')?.1.to_owned())));
    // So does one in a path, where nothing says which part is secret; a word of a person is shorter.
    let parts = url.path_segments().into_iter().flatten();
    texts.extend(
        parts
            .filter(|part| part.len() >= PATH_SECRET_BYTES_MIN)
            .map(str::to_owned),
    );
    for key in keys {
        let (SigningKey::Hmac(secret) | SigningKey::Ed25519(secret)) = key;
        texts.push(BASE64.encode(secret.expose()).trim_end_matches('=').to_owned());
        texts.extend(std::str::from_utf8(secret.expose()).ok().map(str::to_owned));
    }
    texts.retain(|text| text.chars().count() >= SECRET_CHARS_MIN);
    Redaction::new(texts)
}

/// What a `Basic` header hides behind its base64, also where it was made of a URL: the password, or the name where that
/// stands alone (RFC 7617).
fn password(header: &str) -> Option<String> {
    let (scheme, word) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(BASE64.decode(word.trim()).ok()?).ok()?;
    let (name, password) = text.split_once(':')?;
    Some(if password.is_empty() { name } else { password }.to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU8, Ordering};

    use jiff::Timestamp;

    use super::{
        super::{
            sign::{self, Signer},
            tests::{Reply, Scripted, event, subscriber},
        },
        *,
    };
    use crate::config::Secret;

    async fn attempt(subscriber: &Subscriber) -> Attempted {
        let signer = Signer::new(&subscriber.secrets, &subscriber.signature).unwrap();
        Courier::new(subscriber)
            .unwrap()
            .deliver(signer.sign(&event(1, "a/1"), clock::now()))
            .await
    }

    async fn answered(reply: impl Fn() -> Reply + Send + Sync + 'static) -> Attempted {
        let server = Scripted::start(move |_| reply()).await;
        attempt(&subscriber("crm", &server.url)).await
    }

    fn failed(reason: Reason, status: Option<u16>, retry_after: Option<u64>) -> Outcome {
        Outcome::Failed(Failure {
            reason,
            status,
            retry_after: retry_after.map(Duration::from_secs),
        })
    }

    #[tokio::test]
    async fn what_is_sent_is_signed_and_whole() {
        let server = Scripted::start(|_| Reply::status(204)).await;
        let mut subscriber = subscriber("crm", &server.url);
        subscriber.headers = vec![(
            HeaderName::from_static("authorization"),
            Secret::new("Bearer sesame-open"),
        )];
        let attempted = attempt(&subscriber).await;
        assert_eq!(attempted.outcome, Outcome::Delivered { status: 204 });

        let seen = server.seen();
        assert_eq!(seen.len(), 1);
        sign::verify(&subscriber.secrets, &seen[0].headers, &seen[0].body, clock::now()).unwrap();
        assert_eq!(seen[0].body, event(1, "a/1").json);
        assert_eq!(seen[0].headers["content-type"], "application/cloudevents+json");
        assert_eq!(
            seen[0].headers["user-agent"],
            concat!("callfeed/", env!("CARGO_PKG_VERSION"))
        );
        assert_eq!(seen[0].headers["authorization"], "Bearer sesame-open");

        let record = &attempted.request_headers;
        assert!(
            record.contains("authorization: •••") && !record.contains("sesame"),
            "{record}"
        );
        assert!(record.contains("webhook-signature: v1,"), "{record}");
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_refused_at_once() {
        let mut subscriber = subscriber("crm", "http://127.0.0.1:1/");
        subscriber.headers = vec![(HeaderName::from_static("x-token"), Secret::new("a\nb"))];
        assert!(matches!(Courier::new(&subscriber), Err(Error::Header(name)) if name == "x-token"));
    }

    #[tokio::test]
    async fn only_2xx_is_success() {
        assert_eq!(
            answered(|| Reply::status(200)).await.outcome,
            Outcome::Delivered { status: 200 }
        );
        assert_eq!(
            answered(|| Reply::status(299)).await.outcome,
            Outcome::Delivered { status: 299 }
        );
        assert_eq!(
            answered(|| Reply::status(500)).await.outcome,
            failed(Reason::Status, Some(500), None)
        );
        assert_eq!(
            answered(|| Reply::status(404)).await.outcome,
            failed(Reason::Status, Some(404), None)
        );
        assert_eq!(answered(|| Reply::status(410)).await.outcome, Outcome::Gone);
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed_and_said_so() {
        let server = Scripted::start(|_| Reply::status(307).header("location", "/elsewhere")).await;
        let attempted = attempt(&subscriber("crm", &server.url)).await;
        assert_eq!(attempted.outcome, failed(Reason::Redirect, Some(307), None));
        assert!(
            attempted
                .response
                .starts_with("the redirect to /elsewhere is not followed\n"),
            "{}",
            attempted.response
        );
        assert_eq!(server.seen().len(), 1);
    }

    #[tokio::test]
    async fn retry_after_is_read() {
        let busy = |value: &'static str| answered(move || Reply::status(429).header("retry-after", value));
        assert_eq!(busy("7").await.outcome, failed(Reason::Status, Some(429), Some(7)));
        assert_eq!(busy("later").await.outcome, failed(Reason::Status, Some(429), None));
        assert_eq!(
            busy("Sun, 06 Nov 1994 08:49:37 GMT").await.outcome,
            failed(Reason::Status, Some(429), Some(0))
        );
    }

    #[tokio::test]
    async fn a_subscriber_that_says_nothing_is_left_after_its_time() {
        let server = Scripted::start(|_| Reply::Stall).await;
        let mut subscriber = subscriber("crm", &server.url);
        subscriber.timeout = Duration::from_millis(100);
        let attempted = attempt(&subscriber).await;
        assert_eq!(attempted.outcome, failed(Reason::Timeout, None, None));
        assert!(attempted.duration >= subscriber.timeout && attempted.duration < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn no_answer_at_all() {
        let attempted = answered(|| Reply::Close).await;
        assert_eq!(
            attempted.outcome,
            failed(Reason::Closed, None, None),
            "{}",
            attempted.response
        );

        // A port that was free a moment ago and that nobody listens on.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let attempted = attempt(&subscriber("crm", &format!("http://127.0.0.1:{port}/hook?token=4711"))).await;
        assert_eq!(attempted.outcome, failed(Reason::Connect, None, None));
        assert!(
            attempted.response.contains("refused") && !attempted.response.contains("4711"),
            "{}",
            attempted.response
        );

        let attempted = attempt(&subscriber("crm", "http://callfeed.invalid/")).await;
        assert_eq!(
            attempted.outcome,
            failed(Reason::Dns, None, None),
            "{}",
            attempted.response
        );
    }

    #[tokio::test]
    async fn a_server_without_tls_fails_in_tls() {
        let server = Scripted::start(|_| Reply::status(200)).await;
        let attempted = attempt(&subscriber("crm", &server.url.replace("http:", "https:"))).await;
        assert_eq!(
            attempted.outcome,
            failed(Reason::Tls, None, None),
            "{}",
            attempted.response
        );
    }

    #[tokio::test]
    async fn refused_addresses_are_not_dialled() {
        for url in [
            "http://169.254.169.254/",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://0.0.0.0/",
        ] {
            let attempted = attempt(&subscriber("crm", url)).await;
            assert_eq!(attempted.outcome, failed(Reason::RefusedAddress, None, None), "{url}");
            assert!(attempted.response.contains("refused"), "{}", attempted.response);
        }
    }

    #[tokio::test]
    async fn what_was_checked_is_what_is_dialled() {
        // Whoever rules the name has each question answered differently.
        static ASKED: AtomicU8 = AtomicU8::new(0);
        let rebinding = |check| {
            Resolver::asking(
                |_| {
                    let asked = ASKED.fetch_add(1, Ordering::Relaxed);
                    let addresses: &[[u8; 4]] = match asked {
                        0 => &[[169, 254, 169, 254], [127, 0, 0, 1]],
                        _ => &[[169, 254, 169, 254]],
                    };
                    Ok(addresses.iter().map(|address| (*address, 0).into()).collect())
                },
                check,
            )
        };
        let server = Scripted::start(|_| Reply::status(204)).await;
        let url = server.url.replace("127.0.0.1", "rebinding.example");
        let subscriber = subscriber("crm", &url);
        let signer = Signer::new(&subscriber.secrets, &subscriber.signature).unwrap();
        let attempt = async |courier: &Courier| courier.deliver(signer.sign(&event(1, "a/1"), clock::now())).await;

        // Of the first answer the address that is allowed is dialled, and nobody is asked between check and connection.
        let attempted = attempt(&Courier::resolving(&subscriber, rebinding).unwrap()).await;
        assert_eq!(
            attempted.outcome,
            Outcome::Delivered { status: 204 },
            "{}",
            attempted.response
        );
        assert_eq!((server.seen().len(), ASKED.load(Ordering::Relaxed)), (1, 1));

        let attempted = attempt(&Courier::resolving(&subscriber, rebinding).unwrap()).await;
        assert_eq!(attempted.outcome, failed(Reason::RefusedAddress, None, None));
        assert_eq!((server.seen().len(), ASKED.load(Ordering::Relaxed)), (1, 2));
    }

    #[tokio::test]
    async fn a_huge_answer_is_read_to_its_bound_only() {
        let attempted = answered(|| Reply::status(500).body(vec![b'x'; 64 << 20])).await;
        assert_eq!(attempted.outcome, failed(Reason::Status, Some(500), None));
        assert_eq!(attempted.response, "x".repeat(KEEP_BYTES));
        // Nothing says how long it is, and it never ends.
        let attempted = answered(|| Reply::Endless).await;
        assert_eq!(attempted.outcome, Outcome::Delivered { status: 200 });
        assert_eq!(attempted.response.len(), KEEP_BYTES);
    }

    #[tokio::test]
    async fn an_answer_that_breaks_off_counts_by_its_status() {
        let attempted = answered(|| Reply::BreakOff).await;
        assert_eq!(attempted.outcome, Outcome::Delivered { status: 200 });
        assert_eq!(attempted.response, "begun");
    }

    #[tokio::test]
    async fn an_answer_whose_body_stalls_counts_by_its_status() {
        let server = Scripted::start(|_| Reply::BodyStalls).await;
        let mut subscriber = subscriber("crm", &server.url);
        subscriber.timeout = Duration::from_secs(60);
        let attempted = attempt(&subscriber).await;
        assert_eq!(attempted.outcome, Outcome::Delivered { status: 200 });
        assert_eq!(attempted.response, "begun");
        assert!(attempted.duration < Duration::from_secs(20), "{:?}", attempted.duration);
    }

    #[tokio::test]
    async fn one_connection_serves_many_attempts() {
        let server = Scripted::start(|_| Reply::status(200).body(vec![b'x'; 30_000])).await;
        let subscriber = subscriber("crm", &server.url);
        let signer = Signer::new(&subscriber.secrets, &subscriber.signature).unwrap();
        let courier = Courier::new(&subscriber).unwrap();
        for seq in 1..=5 {
            courier.deliver(signer.sign(&event(seq, "a/1"), clock::now())).await;
        }
        let peers: std::collections::BTreeSet<_> = server.seen().iter().map(|seen| seen.peer).collect();
        assert_eq!(peers.len(), 1);
    }

    #[tokio::test]
    async fn an_echoed_secret_is_struck_out() {
        let server = Scripted::start(|_| {
            // The second one lies across the end of what is kept.
            let echo = format!(
                "no such token: sesame-open {} Bearer sesame-open",
                "x".repeat(KEEP_BYTES - 35)
            );
            Reply::status(401).body(echo.into_bytes())
        })
        .await;
        let mut subscriber = subscriber("crm", &server.url);
        subscriber.headers = vec![(
            HeaderName::from_static("authorization"),
            Secret::new("Bearer sesame-open"),
        )];
        let attempted = attempt(&subscriber).await;
        assert!(
            attempted.response.starts_with("no such token: ••• xxx"),
            "{}",
            attempted.response
        );
        assert!(
            !attempted.response.contains("ses") && !attempted.response.contains("Bear"),
            "{}",
            attempted.response
        );
        assert!(attempted.response.len() <= KEEP_BYTES);
    }

    /// Where a location, or a body, is cut, no part of a secret may be left standing.
    #[tokio::test]
    async fn an_echoed_secret_is_struck_out_where_it_is_cut() {
        let many = "sesame-open".repeat(2 * KEEP_BYTES / 11);
        let across = format!("/{}sesame-open", "x".repeat(KEEP_BYTES - 5));
        let replies: [(u16, &str, &str); 4] = [
            (307, &many, ""),
            (307, &across, ""),
            (401, "", &many),
            (401, "", &across),
        ];
        for (status, location, body) in replies {
            let (location, body): (&'static str, _) = (location.to_owned().leak(), body.to_owned());
            let server = Scripted::start(move |_| {
                let reply = Reply::status(status).header("location", location);
                reply.body(body.clone().into_bytes())
            })
            .await;
            let mut subscriber = subscriber("crm", &server.url);
            subscriber.headers = vec![(HeaderName::from_static("x-token"), Secret::new("sesame-open"))];
            let response = attempt(&subscriber).await.response;
            let told = response.replace("the redirect to", "").replace("is not followed", "");
            assert!(!told.contains('s') && response.len() <= KEEP_BYTES, "{response}");
        }
    }

    #[tokio::test]
    async fn a_password_in_the_url_is_sent_and_not_told() {
        let server = Scripted::start(|_| Reply::status(200)).await;
        let attempted = attempt(&subscriber("crm", &server.url.replace("://", "://user:sesame-open@"))).await;
        assert!(
            server.seen()[0].headers["authorization"]
                .to_str()
                .unwrap()
                .starts_with("Basic ")
        );
        assert!(attempted.request_headers.contains("authorization: •••"));
    }

    #[tokio::test]
    async fn what_the_url_holds_is_struck_out_however_it_is_echoed() {
        for (user_info, echo, told) in [
            ("user:sesame%2Dopen", "user, sesame-open is wrong", "user, ••• is wrong"),
            ("sesame-open", "sesame-open is nobody", "••• is nobody"),
            ("user", "hook?token=key%204711&v=1", "hook?token=•••&v=1"),
            ("user", "no such token: key 4711", "no such token: •••"),
        ] {
            let server = Scripted::start(|_| Reply::status(403).body(echo.as_bytes().to_vec())).await;
            let url = server.url.replace("://", &format!("://{user_info}@")) + "?token=key%204711&v=1";
            let attempted = attempt(&subscriber("crm", &url)).await;
            assert_eq!(attempted.response, told);
        }
    }

    #[tokio::test]
    async fn the_timestamp_is_this_attempt() {
        let server = Scripted::start(|_| Reply::status(200)).await;
        let subscriber = subscriber("crm", &server.url);
        let signer = Signer::new(&subscriber.secrets, &subscriber.signature).unwrap();
        let courier = Courier::new(&subscriber).unwrap();
        for second in [1_700_000_000, 1_700_000_300] {
            let at = Timestamp::from_second(second).unwrap();
            courier.deliver(signer.sign(&event(1, "a/1"), at)).await;
        }
        let seen = server.seen();
        assert_eq!(seen[0].headers[sign::WEBHOOK_ID], seen[1].headers[sign::WEBHOOK_ID]);
        assert_eq!(seen[1].headers[sign::WEBHOOK_TIMESTAMP], "1700000300");
        assert_ne!(
            seen[0].headers[sign::WEBHOOK_SIGNATURE],
            seen[1].headers[sign::WEBHOOK_SIGNATURE]
        );
    }
}
