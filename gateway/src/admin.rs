//! The operator's address: `/metrics`, `/healthz`, `/readyz`, and what the `callfeed` commands ask of a running gateway.
//!
//! Health tells that the process runs, readiness that it takes webhooks; both say nothing else and need no token. What
//! changes something is a POST, which no page in a browser can send on somebody's behalf: one that names an origin is
//! refused.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, ORIGIN, WWW_AUTHENTICATE},
    http::uri::Authority,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Timestamp;
use prometheus_client::{metrics::gauge::Gauge, registry::Registry};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, oneshot},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    clock, config,
    event::EventId,
    impatient::Impatient,
    inbound::{Change, Impossible, Inbound, Renormalized, Retried, What},
    outbound::{Outbound, Refused, Replayed, Seen, Standing, State},
    store::{DeliveryState, Health, Query, Store, Whose},
};

/// The content type that goes with the text `prometheus-client` writes.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Deliveries that one request puts back.
const REPLAY_STEP: usize = 500;
const HEADER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
const ANSWER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);
/// More than operators and their tools have, and few enough to leave descriptors for providers.
pub(crate) const CONNECTIONS_MAX: usize = 64;

/// What the operator's address shows.
#[derive(Debug)]
pub struct Admin {
    registry: Registry,
    ready: Arc<AtomicBool>,
    store: Store,
    writable: Gauge,
    /// Digest of the token, for a comparison that takes the same time whatever is presented.
    token: Option<[u8; 32]>,
    inbound: Arc<Inbound>,
    outbound: Arc<Outbound>,
    reload: Option<mpsc::Sender<Wish>>,
    /// What operators asked for goes on when they hang up.
    operations: TaskTracker,
}

/// Somebody wants the configuration to be read again, and waits for a sentence about what came of it.
#[derive(Debug)]
pub struct Wish {
    pub done: oneshot::Sender<Result<String, String>>,
}

impl Admin {
    pub fn new(
        config: &config::Admin,
        mut registry: Registry,
        ready: Arc<AtomicBool>,
        store: Store,
        inbound: Arc<Inbound>,
        outbound: Arc<Outbound>,
        reload: Option<mpsc::Sender<Wish>>,
    ) -> Self {
        let token = config.token.as_ref().map(|token| Sha256::digest(token.expose()).into());
        let writable = Gauge::default();
        registry.register(
            "callfeed_store_writable",
            "1 while the store accepts writes, else 0",
            writable.clone(),
        );
        Self {
            registry,
            ready,
            store,
            writable,
            token,
            inbound,
            outbound,
            reload,
            operations: TaskTracker::new(),
        }
    }

    /// # Errors
    ///
    /// When the address is taken or not ours.
    pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
        TcpListener::bind(address)
            .await
            .with_context(|| format!("failed to listen on {address} (admin.listen); is another process using it?"))
    }

    /// Serves until told to stop.
    pub async fn run(self, socket: TcpListener, stop: CancellationToken) {
        let this = Arc::new(self);
        let connections = TaskTracker::new();
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                socket.accept().await.map(|(stream, _)| (stream, place))
            };
            let (stream, place) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = accepted => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "failed to accept a connection on the admin address");
                        clock::sleep(std::time::Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let (this, stop) = (Arc::clone(&this), stop.clone());
            connections.spawn(async move {
                let _place = place;
                let service = service_fn(move |request| {
                    let this = Arc::clone(&this);
                    async move { Ok::<_, Infallible>(this.answer(request).await) }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEADER_TIMEOUT)
                    .serve_connection(TokioIo::new(Impatient::new(stream, ANSWER_TIMEOUT)), service);
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = connection => {}
                }
            });
        }
        connections.close();
        connections.wait().await;
        this.operations.close();
        this.operations.wait().await;
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Full<Bytes>> {
        // No request has a body that says anything.
        let request = request.map(drop);
        if request.method() == Method::POST {
            let this = Arc::clone(&self);
            let done = self.operations.spawn(async move { this.operate(&request).await });
            return done
                .await
                .unwrap_or_else(|_| plain(StatusCode::INTERNAL_SERVER_ERROR, "it broke down; the log says why\n"));
        }
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed\n");
        }
        match request.uri().path() {
            "/healthz" => plain(StatusCode::OK, "ok\n"),
            "/readyz" if !self.ready.load(Ordering::Acquire) => plain(StatusCode::SERVICE_UNAVAILABLE, "not ready\n"),
            "/readyz" if !self.is_writable() => plain(
                StatusCode::SERVICE_UNAVAILABLE,
                "not ready: the store does not accept writes\n",
            ),
            "/readyz" => plain(StatusCode::OK, "ready\n"),
            "/metrics" => {
                if let Some(refused) = self.refuse(&request) {
                    return refused;
                }
                self.writable.set(self.is_writable().into());
                let mut text = String::new();
                match prometheus_client::encoding::text::encode(&mut text, &self.registry) {
                    Ok(()) => {
                        let mut answer = Response::new(Full::from(text));
                        answer
                            .headers_mut()
                            .insert(CONTENT_TYPE, HeaderValue::from_static(OPENMETRICS));
                        answer
                    }
                    Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written\n"),
                }
            }
            "/subscribers" => match self.refuse(&request) {
                Some(refused) => refused,
                None => self.subscribers().await,
            },
            _ => plain(
                StatusCode::NOT_FOUND,
                "callfeed admin: /healthz /readyz /metrics /subscribers\n",
            ),
        }
    }

    async fn subscribers(&self) -> Response<Full<Bytes>> {
        match self.outbound.standings().await {
            Ok(standings) => json(&standings.iter().map(standing).collect()),
            Err(error) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        }
    }

    /// What a `POST` asks for, by its path:
    ///
    /// - `/reload`
    /// - `/subscribers/<name>/resume`, `/subscribers/<name>/replay/<event id>`, `/subscribers/<name>/replay?…`
    /// - `/erase?subject=<subject>` or `?number=<number>`, with `&dry_run` or without
    /// - `/quarantine/<number>/retry`, `/webhooks/<number>/renormalize` with `?dry_run` or without
    async fn operate(&self, request: &Request<()>) -> Response<Full<Bytes>> {
        if request.headers().contains_key(ORIGIN) {
            return plain(StatusCode::FORBIDDEN, "not for pages\n");
        }
        if let Some(refused) = self.refuse(request) {
            return refused;
        }
        let steps: Vec<_> = request.uri().path().split('/').skip(1).collect();
        let done = match steps[..] {
            ["reload"] => return self.reload().await,
            ["erase"] => return self.erase(request.uri().query().unwrap_or_default()).await,
            ["quarantine", number, "retry"] => match number.parse() {
                Ok(number) => return retried(self.inbound.retry(number).await),
                Err(_) => return plain(StatusCode::BAD_REQUEST, "that is no number of a webhook\n"),
            },
            ["webhooks", number, "renormalize"] => match number.parse() {
                Ok(number) => {
                    let dry_run = request.uri().query() == Some("dry_run");
                    return renormalized(number, self.inbound.renormalize(number, dry_run).await);
                }
                Err(_) => return plain(StatusCode::BAD_REQUEST, "that is no number of a webhook\n"),
            },
            ["subscribers", name, "resume"] => self.outbound.resume(name).await,
            ["subscribers", name, "replay"] => {
                let query = request.uri().query().unwrap_or_default();
                return self.replay_some(name, query).await;
            }
            ["subscribers", name, "replay", id] => match id.parse() {
                Ok(id) => self.outbound.replay(name, id).await,
                Err(_) => return plain(StatusCode::BAD_REQUEST, "that is no event id\n"),
            },
            _ => return plain(StatusCode::NOT_FOUND, "there is nothing to do under this path\n"),
        };
        match done {
            Ok(()) => plain(StatusCode::OK, "done\n"),
            Err(refused) => refusal(&refused),
        }
    }

    /// The next of many, after a place.
    async fn replay_some(&self, subscriber: &str, query: &str) -> Response<Full<Bytes>> {
        let mut wanted = Query {
            subscriber: Some(subscriber.to_owned()),
            limit: REPLAY_STEP,
            ..Query::default()
        };
        let (mut after, mut until) = (0, None);
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            let value = value.into_owned();
            let good = match &*name {
                "dead" => {
                    wanted.state = Some(DeliveryState::Dead);
                    true
                }
                "type" => wanted.kind.replace(value).is_none(),
                "route" => wanted.route.replace(value).is_none(),
                "subject" => wanted.subject.replace(value).is_none(),
                "since" => value.parse().map(|time| wanted.since = Some(time)).is_ok(),
                "until" => value.parse().map(|time| until = Some(time)).is_ok(),
                "after" => value.parse().map(|place| after = place).is_ok(),
                _ => false,
            };
            if !good {
                return plain(StatusCode::BAD_REQUEST, format!("{name} is not understood\n"));
            }
        }
        match self.outbound.replay_some(wanted, after, until).await {
            Ok(Replayed::Some { count, last }) => json(&json!({ "replayed": count, "last": last })),
            Ok(Replayed::End) => json(&json!({ "end": true })),
            Ok(Replayed::Full) => json(&json!({ "full": true })),
            Err(refused) => refusal(&refused),
        }
    }

    async fn erase(&self, query: &str) -> Response<Full<Bytes>> {
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        let value = |name: &str| {
            pairs
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.to_string())
        };
        let whose = match (value("subject"), value("number")) {
            (Some(subject), None) if !subject.is_empty() => Whose::Subject {
                strangers: self.inbound.strangers_to(&subject),
                subject,
            },
            (None, Some(number)) if !number.is_empty() => Whose::Number(number),
            _ => return plain(StatusCode::BAD_REQUEST, "name a subject or a number\n"),
        };
        let dry_run = value("dry_run").is_some();
        let erased = self.store.erase(whose, dry_run).await;
        if !dry_run {
            // Also after a failure: a part may be gone by then.
            self.outbound.forget_events();
        }
        let erased = match erased {
            Ok(erased) => erased,
            Err(error) => return plain(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        };
        if !dry_run {
            tracing::info!(events = erased.events, webhooks = erased.webhooks, "erased");
        }
        json(&json!({ "events": erased.events, "webhooks": erased.webhooks }))
    }

    async fn reload(&self) -> Response<Full<Bytes>> {
        let (done, outcome) = oneshot::channel();
        let Some(reload) = &self.reload else {
            return plain(StatusCode::NOT_FOUND, "this gateway has no configuration file\n");
        };
        // The gateway is stopping when nobody listens or answers any more.
        let asked = reload.send(Wish { done }).await.is_ok();
        match outcome.await {
            Ok(Ok(text)) if asked => plain(StatusCode::OK, format!("{text}\n")),
            Ok(Err(text)) if asked => plain(StatusCode::UNPROCESSABLE_ENTITY, format!("{text}\n")),
            _ => plain(StatusCode::SERVICE_UNAVAILABLE, "the gateway is stopping\n"),
        }
    }

    fn is_writable(&self) -> bool {
        *self.store.health().borrow() == Health::Writable
    }

    /// The answer to one who may not ask.
    fn refuse(&self, request: &Request<()>) -> Option<Response<Full<Bytes>>> {
        let Some(token) = &self.token else {
            // A page of a name that was made to resolve to this machine may read what it answers under that name.
            let is_ours = names_this_machine(request.headers().get(HOST));
            return (!is_ours).then(|| plain(StatusCode::FORBIDDEN, "not under this name\n"));
        };
        let presented = request
            .headers()
            .get(AUTHORIZATION)
            .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        let is_right = presented.is_some_and(|presented| bool::from(Sha256::digest(presented).as_slice().ct_eq(token)));
        (!is_right).then(unauthorized)
    }
}

/// Without a token the address is a loopback one, so that an honest `Host` is one, too.
fn names_this_machine(host: Option<&HeaderValue>) -> bool {
    let authority: Option<Authority> = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    authority.is_some_and(|authority| {
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
    })
}

fn standing(standing: &Standing) -> Value {
    let reason = match &standing.state {
        State::Stopped(stopped) => Some(&stopped.reason),
        State::Up | State::Down { since: _ } => None,
    };
    let time = |at: Option<Timestamp>| at.map(|at| format!("{at:.0}"));
    let Seen {
        cursor,
        lag,
        waiting,
        in_flight,
        down_since: _,
        last_delivered,
        last_failed,
    } = standing.progress;
    json!({
        "name": standing.name, "url": standing.url, "state": standing.state.as_str(),
        "since": time(standing.state.since()), "reason": reason, "cursor": cursor, "lag": lag, "waiting": waiting,
        "in_flight": in_flight, "dead": standing.dead, "last_delivered_at": time(last_delivered),
        "last_failed_at": time(last_failed.map(|failed| failed.at)),
        "last_failure": last_failed.map(|failed| failed.outcome),
        "last_status": last_failed.and_then(|failed| failed.status),
    })
}

fn refusal(refused: &Refused) -> Response<Full<Bytes>> {
    let status = match refused {
        Refused::NoSubscriber(_) | Refused::NoEvent(_) => StatusCode::NOT_FOUND,
        Refused::Erased(_) | Refused::NotWanted { .. } => StatusCode::CONFLICT,
        Refused::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    plain(status, format!("{refused}\n"))
}

fn retried(result: Result<Retried, Impossible>) -> Response<Full<Bytes>> {
    match result {
        Ok(Retried::Released(events)) => {
            let events: Vec<_> = events.iter().map(EventId::as_str).collect();
            json(&json!({ "released": true, "events": events }))
        }
        Ok(Retried::Refused { reason, detail }) => {
            json(&json!({ "released": false, "reason": reason.as_str(), "detail": detail }))
        }
        Err(impossible) => not_possible(&impossible),
    }
}

fn renormalized(number: u64, result: Result<Renormalized, Impossible>) -> Response<Full<Bytes>> {
    match result {
        Ok(Renormalized::Compared(changes)) => {
            let changes: Vec<_> = changes.iter().map(change).collect();
            json(&json!({ "webhook": number, "changes": changes }))
        }
        Ok(Renormalized::Refused(why)) => json(&json!({ "webhook": number, "changes": [], "refused": why })),
        Ok(Renormalized::Forgotten) => json(&json!({ "webhook": number, "changes": [], "forgotten": true })),
        Err(impossible) => not_possible(&impossible),
    }
}

fn change(change: &Change) -> Value {
    let (what, event, by) = match change.what {
        What::Corrected { event, by } => ("corrected", event, Some(by)),
        What::Added(event) => ("added", event, None),
        What::NotMade(event) => ("not-made", event, None),
    };
    json!({ "what": what, "event": event.as_str(), "by": by.as_ref().map(EventId::as_str), "before": change.before,
        "after": change.after })
}

fn not_possible(impossible: &Impossible) -> Response<Full<Bytes>> {
    let status = match impossible {
        Impossible::NotInQuarantine(_) | Impossible::Gone(_) => StatusCode::NOT_FOUND,
        Impossible::NoRoute { .. } => StatusCode::CONFLICT,
        Impossible::Busy | Impossible::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    plain(status, format!("{impossible}\n"))
}

fn json(value: &Value) -> Response<Full<Bytes>> {
    let mut answer = plain(StatusCode::OK, value.to_string());
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

fn unauthorized() -> Response<Full<Bytes>> {
    let mut answer = plain(StatusCode::UNAUTHORIZED, "the admin token is needed\n");
    answer
        .headers_mut()
        .insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    answer
}

fn plain(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}
