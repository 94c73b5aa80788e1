//! The outbound road against a real server on loopback.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Body, Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use jiff::Timestamp;
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{Notify, watch},
    task::JoinSet,
};

use super::{Metrics, Outbound, sign};
use crate::{
    clock,
    config::{self, ClientTls, Filter, From, Order, Pattern, Privacy, Secret, Signature, SigningKey, Subscriber},
    event::{Event, EventId, Facts, Kept, RawWebhook},
    store::{Attempt, DeliveryState, Mapped, Query, Receipt, Store, Submission},
};

/// A request as a scripted subscriber saw it.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) peer: SocketAddr,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What a scripted subscriber does with a request.
#[derive(Debug)]
pub(super) enum Reply {
    Answer(Response<Bytes>),
    /// 200, once notified.
    Hold(Arc<Notify>),
    /// Says nothing and keeps the connection.
    Stall,
    /// Closes the connection without a word.
    Close,
    /// 200 with a body that does not end.
    Endless,
    /// 200 and the beginning of a body, then the connection closes.
    BreakOff,
    /// 200 and the beginning of a body, then nothing.
    BodyStalls,
}

/// What takes longer will not happen any more.
const PATIENCE: Duration = Duration::from_secs(20);

impl Seen {
    pub(super) fn id(&self) -> &str {
        self.headers[sign::WEBHOOK_ID].to_str().unwrap()
    }
}

impl Reply {
    pub(super) fn status(status: u16) -> Self {
        Self::Answer(Response::builder().status(status).body(Bytes::new()).unwrap())
    }

    pub(super) fn header(mut self, name: &'static str, value: &'static str) -> Self {
        if let Self::Answer(response) = &mut self {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        self
    }

    pub(super) fn body(mut self, body: Vec<u8>) -> Self {
        if let Self::Answer(response) = &mut self {
            *response.body_mut() = body.into();
        }
        self
    }
}

/// A subscriber that follows a script and remembers what it saw. Ends when dropped.
pub(super) struct Scripted {
    pub(super) url: String,
    seen: watch::Sender<Vec<Seen>>,
    _connections: JoinSet<()>,
}

impl Scripted {
    pub(super) async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (seen, script) = (watch::Sender::new(Vec::new()), Arc::new(script));
        let mut connections = JoinSet::new();
        let witness = seen.clone();
        connections.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                let (socket, peer) = listener.accept().await.unwrap();
                let (seen, script) = (witness.clone(), Arc::clone(&script));
                serving.spawn(async move {
                    let service = service_fn(move |request| answer(request, peer, seen.clone(), Arc::clone(&script)));
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Self {
            url,
            seen,
            _connections: connections,
        }
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.borrow().clone()
    }

    /// Waits until this many requests were seen.
    pub(super) async fn saw(&self, count: usize) -> Vec<Seen> {
        let mut seen = self.seen.subscribe();
        let seen = tokio::time::timeout(PATIENCE, seen.wait_for(|seen| seen.len() >= count)).await;
        seen.unwrap_or_else(|_| panic!("{} of {count} requests came", self.seen().len()))
            .unwrap()
            .clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    seen: watch::Sender<Vec<Seen>>,
    script: Arc<impl Fn(&Seen) -> Reply>,
) -> io::Result<Response<BoxBody<Bytes, io::Error>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let request = Seen {
        peer,
        headers: head.headers,
        body,
    };
    let reply = script(&request);
    seen.send_modify(|seen| seen.push(request));
    match reply {
        Reply::Answer(response) => Ok(response.map(|body| {
            http_body_util::Full::new(body)
                .map_err(|never: Infallible| match never {})
                .boxed()
        })),
        Reply::Hold(notify) => {
            notify.notified().await;
            Ok(Response::new(Frames::boxed(std::iter::empty())))
        }
        Reply::Stall => std::future::pending().await,
        Reply::Close => Err(io::Error::other("scripted")),
        Reply::Endless => {
            let chunks = std::iter::repeat_with(|| Ok(Bytes::from_static(&[b'x'; 8192])));
            Ok(Response::new(Frames::boxed(chunks)))
        }
        Reply::BreakOff => {
            let chunks = [Ok(Bytes::from_static(b"begun")), Err(io::Error::other("scripted"))];
            Ok(Response::new(Frames::boxed(chunks.into_iter())))
        }
        Reply::BodyStalls => Ok(Response::new(BodyExt::boxed(Stalled { begun: false }))),
    }
}

/// An iterator as a body. Gives way before each frame, so that what came before an error is sent before it.
struct Frames<I> {
    chunks: I,
    gave_way: bool,
}

impl<I: Iterator<Item = io::Result<Bytes>> + Send + Sync + Unpin + 'static> Frames<I> {
    fn boxed(chunks: I) -> BoxBody<Bytes, io::Error> {
        BodyExt::boxed(Self {
            chunks,
            gave_way: false,
        })
    }
}

impl<I: Iterator<Item = io::Result<Bytes>> + Unpin> Body for Frames<I> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.gave_way = !self.gave_way;
        if self.gave_way {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(self.chunks.next().map(|chunk| chunk.map(Frame::data)))
    }
}

/// A body that begins and does not go on.
struct Stalled {
    begun: bool,
}

impl Body for Stalled {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.begun {
            return Poll::Pending;
        }
        self.begun = true;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"begun")))))
    }
}

pub(super) fn event(seq: u64, subject: &str) -> Kept {
    let id = EventId::derive("magpipe", &seq.to_string());
    Kept {
        seq,
        id,
        kind: "call.completed".into(),
        subject: subject.into(),
        route: "magpipe".into(),
        time: Timestamp::UNIX_EPOCH,
        kept_at: Timestamp::UNIX_EPOCH,
        facts: Facts::default(),
        json: format!(r#"{{"id":"{id}","subject":"{subject}","sequence":"{seq}"}}"#).into(),
    }
}

pub(super) fn subscriber(name: &str, url: &str) -> Subscriber {
    Subscriber {
        name: name.into(),
        url: url.parse().unwrap(),
        filter: Filter::default(),
        secrets: vec![SigningKey::Hmac(Secret::new([7; 24]))],
        signature: Signature::StandardWebhooks,
        headers: Vec::new(),
        timeout: Duration::from_secs(5),
        schedule: vec![Duration::ZERO; 3],
        order: Order::Call,
        rate: None,
        in_flight_max: 8,
        waiting_max: 1000,
        privacy: Privacy::default(),
        public_only: false,
        tls: ClientTls::default(),
        from: From::Now,
        line: 1,
    }
}

/// A real store, and what is needed to follow it.
struct Scene {
    _dir: TempDir,
    store: Store,
    registry: Registry,
    metrics: Metrics,
    kept: u64,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config::Store {
            location: config::Location::Sqlite(dir.path().join("feed.db")),
            keep_events: Duration::from_secs(3600),
            keep_ids: Duration::from_secs(3600),
            disk_floor_bytes: 0,
            keep_webhooks: Duration::from_secs(3600),
            keep_attempts: Duration::from_secs(3600),
            queue_max: 1024,
        };
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        Self {
            _dir: dir,
            store: Store::open(&config).await.unwrap(),
            registry,
            metrics,
            kept: 0,
        }
    }

    async fn start(&self, subscribers: impl IntoIterator<Item = Subscriber>) -> Outbound {
        self.start_keeping(Duration::from_secs(3600), subscribers).await
    }

    async fn start_keeping(&self, keep: Duration, subscribers: impl IntoIterator<Item = Subscriber>) -> Outbound {
        let subscribers = subscribers.into_iter().collect();
        Outbound::start(self.store.clone(), subscribers, keep, &self.metrics)
            .await
            .unwrap()
    }

    async fn keep(&mut self, subject: &str) -> EventId {
        self.kept += 1;
        let id = EventId::derive("magpipe", &self.kept.to_string());
        let event = Event {
            id,
            kind: if subject.starts_with("mail/") {
                "email.received"
            } else {
                "call.completed"
            }
            .into(),
            subject: subject.into(),
            time: clock::now(),
            facts: Facts::default(),
            open_json: format!(r#"{{"id":"{id}","subject":"{subject}""#).into_bytes(),
        };
        let webhook = RawWebhook {
            route: "magpipe".into(),
            received_at: clock::now(),
            method: "POST".into(),
            target: "/hooks/magpipe".into(),
            headers: Vec::new(),
            peer: None,
            body: Bytes::new(),
            form: String::new(),
            payload: None,
        };
        let receipt = self
            .store
            .keep(Submission {
                webhook,
                outcome: Mapped::Events(vec![event]),
            })
            .await
            .unwrap();
        assert!(matches!(receipt, Receipt::Events(_)));
        id
    }

    /// Waits until the subscriber's cursor is at this place, or past it.
    async fn settles(&self, subscriber: &str, cursor: u64) {
        let settled = async {
            while self.store.progress(subscriber).await.unwrap().cursor < cursor {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, settled).await.unwrap();
    }

    async fn attempts(&self, id: EventId, subscriber: &str) -> Vec<Attempt> {
        let attempts = self
            .store
            .history()
            .attempts(id, Some(subscriber.into()))
            .await
            .unwrap();
        attempts.into_iter().map(|(_, attempt)| attempt).collect()
    }

    async fn in_state(&self, state: DeliveryState) -> Vec<u64> {
        let query = Query {
            state: Some(state),
            limit: 1000,
            ..Query::default()
        };
        self.store
            .history()
            .deliveries(query)
            .await
            .unwrap()
            .iter()
            .map(|delivery| delivery.seq)
            .collect()
    }

    /// Waits until this line is among the metrics.
    async fn says(&self, line: &str) {
        let said = async {
            while !self.metrics().lines().any(|it| it == line) {
                tokio::task::yield_now().await;
            }
        };
        let said = tokio::time::timeout(PATIENCE, said).await;
        said.unwrap_or_else(|_| panic!("no {line} in {}", self.metrics()));
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

fn ids(seen: &[Seen]) -> Vec<String> {
    seen.iter().map(|seen| seen.id().to_owned()).collect()
}

/// A subscriber that fails this often and then gets well.
fn fails_first(times: usize) -> impl Fn(&Seen) -> Reply + Send + Sync + 'static {
    let count = AtomicUsize::new(0);
    move |_| {
        Reply::status(if count.fetch_add(1, Ordering::Relaxed) < times {
            500
        } else {
            204
        })
    }
}

#[tokio::test]
async fn every_event_arrives_signed_and_is_recorded() {
    let mut scene = Scene::new().await;
    let server = Scripted::start(|_| Reply::status(204).body(Vec::new())).await;
    let crm = subscriber("crm", &server.url);
    let outbound = scene.start([crm.clone()]).await;
    let mut expected = Vec::new();
    for number in 0..40 {
        expected.push(scene.keep(&format!("call/{}", number % 4)).await);
    }
    let seen = server.saw(40).await;
    outbound.stop(PATIENCE).await;

    for seen in &seen {
        sign::verify(&crm.secrets, &seen.headers, &seen.body, clock::now()).unwrap();
    }
    for call in 0..4 {
        let of_call: Vec<_> = expected.iter().skip(call).step_by(4).map(ToString::to_string).collect();
        let arrived: Vec<_> = ids(&seen).into_iter().filter(|id| of_call.contains(id)).collect();
        assert_eq!(arrived, of_call);
    }
    let progress = scene.store.progress("crm").await.unwrap();
    assert_eq!((progress.cursor, progress.waiting.len()), (40, 0));
    let attempts = scene.attempts(expected[7], "crm").await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(
        (attempts[0].outcome.as_str(), attempts[0].status),
        ("delivered", Some(204))
    );

    let metrics = scene.metrics();
    for line in [
        r#"callfeed_deliveries_total{subscriber="crm",outcome="delivered"} 40"#,
        r#"callfeed_delivery_seconds_count{subscriber="crm"} 40"#,
        r#"callfeed_lag_events{subscriber="crm"} 0"#,
        r#"callfeed_waiting{subscriber="crm"} 0"#,
        r#"callfeed_in_flight{subscriber="crm"} 0"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn a_dead_subscriber_costs_the_others_nothing() {
    let mut scene = Scene::new().await;
    let (dead, well) = (
        Scripted::start(|_| Reply::Stall).await,
        Scripted::start(|_| Reply::status(200)).await,
    );
    let mut stalled = subscriber("dead", &dead.url);
    stalled.waiting_max = 10;
    stalled.timeout = PATIENCE * 10;
    let outbound = scene.start([stalled, subscriber("well", &well.url)]).await;
    for number in 0..50 {
        scene.keep(&format!("call/{number}")).await;
    }
    well.saw(50).await;
    assert_eq!(dead.saw(8).await.len(), 8);
    scene.settles("well", 50).await;
    outbound.stop(Duration::ZERO).await;

    // What nobody answered is still to be delivered.
    let progress = scene.store.progress("dead").await.unwrap();
    assert_eq!(progress.cursor, 0);
}

#[tokio::test]
async fn a_restart_goes_on_where_the_record_ends() {
    let mut scene = Scene::new().await;
    let server = Scripted::start(fails_first(1)).await;
    let mut crm = subscriber("crm", &server.url);
    // Long enough that the second attempt is made by the second run.
    crm.schedule = vec![Duration::ZERO, Duration::from_secs(2)];
    let outbound = scene.start([crm.clone()]).await;
    let first = scene.keep("call/1").await;
    server.saw(1).await;
    outbound.stop(PATIENCE).await;
    let second = scene.keep("call/1").await;
    let third = scene.keep("call/2").await;
    assert_eq!(scene.in_state(DeliveryState::Waiting).await, [1]);

    let outbound = scene.start([crm]).await;
    let seen = server.saw(4).await;
    outbound.stop(PATIENCE).await;
    assert_eq!(ids(&seen), [first, third, first, second].map(|id| id.to_string()));
    let numbers: Vec<_> = scene
        .attempts(first, "crm")
        .await
        .iter()
        .map(|attempt| attempt.number)
        .collect();
    assert!(numbers == [1, 2] || numbers == [2, 1], "{numbers:?}");
    assert_eq!(scene.store.progress("crm").await.unwrap().waiting, []);
}

#[tokio::test]
async fn after_a_crash_the_same_events_come_again() {
    let mut scene = Scene::new().await;
    let silent = Scripted::start(|_| Reply::Stall).await;
    // The loops live in a runtime that goes down without a word.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(1)
        .build()
        .unwrap();
    let (store, metrics, crm) = (
        scene.store.clone(),
        scene.metrics.clone(),
        subscriber("crm", &silent.url),
    );
    let starting = runtime.handle().clone();
    let keep = Duration::from_secs(3600);
    let outbound =
        tokio::task::spawn_blocking(move || starting.block_on(Outbound::start(store, vec![crm], keep, &metrics)));
    let outbound = outbound.await.unwrap().unwrap();
    let expected = [scene.keep("call/1").await, scene.keep("call/2").await].map(|id| id.to_string());
    silent.saw(2).await;
    runtime.shutdown_background();
    drop(outbound);

    let server = Scripted::start(|_| Reply::status(200)).await;
    let outbound = scene.start([subscriber("crm", &server.url)]).await;
    let mut arrived = ids(&server.saw(2).await);
    arrived.sort_by_key(|id| expected.iter().position(|other| other == id));
    assert_eq!(arrived, expected);
    outbound.stop(PATIENCE).await;
}

#[tokio::test]
async fn what_ends_within_the_grace_is_not_repeated() {
    let mut scene = Scene::new().await;
    let release = Arc::new(Notify::new());
    let hold = Arc::clone(&release);
    let server = Scripted::start(move |_| Reply::Hold(Arc::clone(&hold))).await;
    let outbound = scene.start([subscriber("crm", &server.url)]).await;
    scene.keep("call/1").await;
    server.saw(1).await;
    // The second call is kept after the stop and stays where it is.
    tokio::join!(outbound.stop(PATIENCE), async {
        scene.keep("call/2").await;
        release.notify_one();
    });
    assert_eq!(server.seen().len(), 1);
    let progress = scene.store.progress("crm").await.unwrap();
    assert_eq!((progress.cursor, progress.waiting.len()), (1, 0));
}

#[tokio::test]
async fn what_does_not_end_within_the_grace_is_repeated() {
    let mut scene = Scene::new().await;
    let silent = Scripted::start(|_| Reply::Stall).await;
    let outbound = scene.start([subscriber("crm", &silent.url)]).await;
    let id = scene.keep("call/1").await;
    silent.saw(1).await;
    outbound.stop(Duration::ZERO).await;
    assert_eq!(scene.store.progress("crm").await.unwrap().cursor, 0);

    let server = Scripted::start(|_| Reply::status(200)).await;
    let outbound = scene.start([subscriber("crm", &server.url)]).await;
    assert_eq!(ids(&server.saw(1).await), [id.to_string()]);
    outbound.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_spent_delivery_is_dead_on_record_and_can_be_replayed() {
    let mut scene = Scene::new().await;
    let server = Scripted::start(fails_first(3)).await;
    let crm = subscriber("crm", &server.url);
    let outbound = scene.start([crm]).await;
    let (first, second) = (scene.keep("call/1").await, scene.keep("call/1").await);
    let seen = server.saw(4).await;
    assert_eq!(ids(&seen), [first, first, first, second].map(|id| id.to_string()));
    while scene.in_state(DeliveryState::Dead).await != [1] || !scene.in_state(DeliveryState::Waiting).await.is_empty() {
        tokio::task::yield_now().await;
    }

    outbound.replay("crm", first).await.unwrap();
    assert_eq!(server.saw(5).await[4].id(), first.as_str());
    outbound.stop(PATIENCE).await;
    assert!(scene.in_state(DeliveryState::Dead).await.is_empty());
    assert!(scene.in_state(DeliveryState::Waiting).await.is_empty());
    assert_eq!(scene.store.progress("crm").await.unwrap().waiting, []);
}

#[tokio::test]
async fn what_waits_is_replayed_at_once() {
    let mut scene = Scene::new().await;
    let server = Scripted::start(fails_first(1)).await;
    let mut crm = subscriber("crm", &server.url);
    crm.schedule = vec![Duration::ZERO, Duration::from_secs(3600)];
    let outbound = scene.start([crm]).await;
    let id = scene.keep("call/1").await;
    server.saw(1).await;
    while scene.in_state(DeliveryState::Waiting).await != [1] {
        tokio::task::yield_now().await;
    }
    outbound.replay("crm", id).await.unwrap();
    assert_eq!(server.saw(2).await[1].id(), id.as_str());
    outbound.stop(PATIENCE).await;
    assert_eq!(scene.store.progress("crm").await.unwrap().waiting, []);
    let numbers: Vec<_> = scene.attempts(id, "crm").await.iter().map(|it| it.number).collect();
    assert_eq!(numbers, [1, 2]);
}

#[tokio::test]
async fn what_nobody_takes_is_given_up_when_events_are_old_enough() {
    let mut scene = Scene::new().await;
    let server = Scripted::start(|_| Reply::status(503)).await;
    let mut crm = subscriber("crm", &server.url);
    crm.schedule = vec![Duration::ZERO, Duration::from_secs(3600)];
    // One that waits, from before, and one that is read when its time is over.
    let outbound = scene.start([crm.clone()]).await;
    let first = scene.keep("call/1").await;
    server.saw(1).await;
    outbound.stop(PATIENCE).await;
    let second = scene.keep("call/2").await;

    let outbound = scene.start_keeping(Duration::ZERO, [crm]).await;
    while scene.in_state(DeliveryState::Dead).await.len() < 2 {
        tokio::task::yield_now().await;
    }
    outbound.stop(PATIENCE).await;
    let ended = async |id| {
        let attempts = scene.attempts(id, "crm").await;
        let ended = attempts.into_iter().map(|it| (it.number, it.status, it.outcome));
        ended.collect::<Vec<_>>()
    };
    let status = (1, Some(503), "status".to_owned());
    assert_eq!(ended(first).await, [status, (2, None, "expired".to_owned())]);
    assert_eq!(ended(second).await, [(1, None, "expired".to_owned())]);
    let progress = scene.store.progress("crm").await.unwrap();
    assert_eq!((progress.cursor, progress.waiting), (2, vec![]));
    assert_eq!(server.seen().len(), 1);
    let expired = r#"callfeed_deliveries_total{subscriber="crm",outcome="expired"} 2"#;
    assert!(scene.metrics().contains(expired), "{}", scene.metrics());
}

#[tokio::test]
async fn a_subscriber_that_is_gone_stops_until_it_is_resumed() {
    let mut scene = Scene::new().await;
    let count = AtomicUsize::new(0);
    let server = Scripted::start(move |_| {
        Reply::status(if count.fetch_add(1, Ordering::Relaxed) == 0 {
            410
        } else {
            200
        })
    })
    .await;
    let crm = subscriber("crm", &server.url);
    let outbound = scene.start([crm.clone()]).await;
    let first = scene.keep("call/1").await;
    server.saw(1).await;
    outbound.stop(PATIENCE).await;
    assert!(scene.store.progress("crm").await.unwrap().stopped.is_some());

    // Also a restart does not make it go on.
    let outbound = scene.start([crm]).await;
    let second = scene.keep("call/2").await;
    scene.store.resume("crm").await.unwrap();
    assert_eq!(server.seen().len(), 1);
    outbound.look_again("crm");
    let mut arrived = ids(&server.saw(3).await)[1..].to_vec();
    arrived.sort_by_key(|id| *id == second.to_string());
    assert_eq!(arrived, [first, second].map(|id| id.to_string()));
    outbound.stop(PATIENCE).await;
}

#[tokio::test]
async fn only_what_the_filter_passes_is_delivered() {
    let mut scene = Scene::new().await;
    let server = Scripted::start(|_| Reply::status(200)).await;
    let mut crm = subscriber("crm", &server.url);
    crm.filter.types = vec![Pattern::Prefix("email.".into())];
    let outbound = scene.start([crm]).await;
    scene.keep("call/1").await;
    scene.keep("call/2").await;
    let mail = scene.keep("mail/1").await;
    assert_eq!(ids(&server.saw(1).await), [mail.to_string()]);
    outbound.stop(PATIENCE).await;
    assert_eq!(scene.store.progress("crm").await.unwrap().cursor, 3);
}

#[tokio::test]
async fn a_restart_does_not_fall_upon_a_subscriber_that_is_down() {
    let mut scene = Scene::new().await;
    let down = Scripted::start(|_| Reply::status(503)).await;
    let mut crm = subscriber("crm", &down.url);
    crm.schedule = vec![Duration::ZERO, Duration::from_secs(3600)];
    let outbound = scene.start([crm.clone()]).await;
    for number in 0..30 {
        scene.keep(&format!("call/{number}")).await;
    }
    let is_open = r#"callfeed_breaker_open{subscriber="crm"} 1"#;
    scene.says(is_open).await;
    outbound.stop(PATIENCE).await;

    // It answers nobody until told to, so whoever is not held back shows.
    let answer = Arc::new(Notify::new());
    let held = Arc::clone(&answer);
    let back = Scripted::start(move |_| Reply::Hold(Arc::clone(&held))).await;
    crm.url = back.url.parse().unwrap();
    let outbound = scene.start([crm]).await;
    back.saw(1).await;
    // The loop has its turn once more.
    scene.keep("call/last").await;
    let lag = 31 - scene.store.progress("crm").await.unwrap().cursor;
    scene
        .says(&format!(r#"callfeed_lag_events{{subscriber="crm"}} {lag}"#))
        .await;
    scene.says(is_open).await;
    assert_eq!(back.seen().len(), 1, "one at a time");
    answer.notify_one();
    back.saw(3).await;
    scene.says(r#"callfeed_breaker_open{subscriber="crm"} 0"#).await;
    assert_eq!(back.seen().len(), 3, "then two");
    outbound.stop(Duration::ZERO).await;
}
