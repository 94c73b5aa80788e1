use std::{
    collections::VecDeque,
    convert::Infallible,
    fmt, io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{HeaderMap, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};

use crate::wait::PATIENCE;

/// The secret that deliveries are signed with unless a story says otherwise.
pub const WHSEC: &str = "whsec_Y2FsbGZlZWQtam91cm5leXMtc2VjcmV0LTAwMDE=";

/// Answers deliveries as told and keeps them. Answers 204 to what nobody scripted.
#[derive(Debug)]
pub struct Subscriber {
    address: SocketAddr,
    state: Arc<State>,
    /// Ends with this value.
    _tasks: JoinSet<()>,
}

struct State {
    script: Mutex<VecDeque<Reply>>,
    rule: Mutex<Arc<Rule>>,
    deliveries: Mutex<Vec<Delivery>>,
    count: watch::Sender<usize>,
}

type Rule = dyn Fn(&Delivery) -> Reply + Send + Sync;

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("count", &*self.count.borrow())
            .finish_non_exhaustive()
    }
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub at: Instant,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Delivery {
    /// The value of a header; empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// `webhook-id`.
    pub fn id(&self) -> String {
        self.header("webhook-id").to_owned()
    }

    /// The event.
    ///
    /// # Panics
    ///
    /// When the body is not JSON.
    pub fn event(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a delivery is JSON")
    }

    pub fn text(&self, member: &str) -> String {
        self.event()[member].as_str().unwrap_or_default().to_owned()
    }

    /// Whether a library that has nothing to do with us takes the signature for one of this secret's.
    pub fn verifies(&self, secret: &str) -> bool {
        let webhook = standardwebhooks::Webhook::new(secret).expect("it is a secret");
        webhook.verify(&self.body, &self.headers).is_ok()
    }
}

/// How one delivery is answered.
#[derive(Debug, Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    after: Option<Gate>,
    ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Answer,
    HangUp,
    Stall,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: String::new(),
            after: None,
            ending: Ending::Answer,
        }
    }

    /// Closes the connection instead of answering.
    pub fn hang_up() -> Self {
        Self {
            ending: Ending::HangUp,
            ..Self::status(500)
        }
    }

    /// Never answers.
    pub fn stall() -> Self {
        Self {
            ending: Ending::Stall,
            ..Self::status(500)
        }
    }

    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn body(mut self, body: &str) -> Self {
        body.clone_into(&mut self.body);
        self
    }

    /// Only once the gate is open.
    #[must_use]
    pub fn after(mut self, gate: &Gate) -> Self {
        self.after = Some(gate.clone());
        self
    }
}

/// Holds answers back until it is opened.
#[derive(Debug, Clone)]
pub struct Gate {
    open: Arc<watch::Sender<bool>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    pub fn new() -> Self {
        Self {
            open: Arc::new(watch::Sender::new(false)),
        }
    }

    pub fn open(&self) {
        self.open.send_replace(true);
    }

    async fn wait(&self) {
        let mut open = self.open.subscribe();
        open.wait_for(|open| *open).await.expect("the gate holds its sender");
    }
}

impl Subscriber {
    /// # Panics
    ///
    /// When no port is free.
    pub async fn start() -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.expect("a port is free")).await
    }

    /// Starts on a port that was free, or its own, a moment ago.
    ///
    /// # Panics
    ///
    /// When it is taken.
    pub async fn start_at(address: SocketAddr) -> Self {
        Self::on(TcpListener::bind(address).await.expect("the port is still free")).await
    }

    async fn on(socket: TcpListener) -> Self {
        let address = socket.local_addr().expect("a bound socket has an address");
        let rule: Arc<Rule> = Arc::new(|_| Reply::status(204));
        let state = Arc::new(State {
            script: Mutex::default(),
            rule: Mutex::new(rule),
            deliveries: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(socket, Arc::clone(&state)));
        Self {
            address,
            state,
            _tasks: tasks,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    /// Answers the next deliveries so, one after the other; then as before.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        lock(&self.state.script).extend(replies);
    }

    /// Answers every delivery without a scripted answer so.
    pub fn rule(&self, rule: impl Fn(&Delivery) -> Reply + Send + Sync + 'static) {
        *lock(&self.state.rule) = Arc::new(rule);
    }

    /// Everything so far, in the order it came.
    pub fn deliveries(&self) -> Vec<Delivery> {
        lock(&self.state.deliveries).clone()
    }

    /// Waits until at least so many deliveries came, and returns them all.
    ///
    /// # Panics
    ///
    /// When they do not come.
    pub async fn wait_for(&self, count: usize) -> Vec<Delivery> {
        self.wait_until(&format!("{count} deliveries"), |deliveries| deliveries.len() >= count)
            .await
    }

    /// Waits until what came satisfies, and returns it all.
    ///
    /// # Panics
    ///
    /// When it never does.
    pub async fn wait_until(&self, what: &str, mut enough: impl FnMut(&[Delivery]) -> bool) -> Vec<Delivery> {
        let mut count = self.state.count.subscribe();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            count.borrow_and_update();
            let deliveries = self.deliveries();
            if enough(&deliveries) {
                return deliveries;
            }
            let changed = tokio::time::timeout_at(deadline, count.changed()).await;
            assert!(
                changed.is_ok(),
                "waited {PATIENCE:?} for {what}; {} deliveries came",
                deliveries.len()
            );
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn listen(socket: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = socket.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { state.answer(request).await }
            });
            let server = auto::Builder::new(TokioExecutor::new());
            // A gateway that hangs up was stopped, or gave up waiting.
            drop(server.serve_connection(TokioIo::new(stream), service).await);
        });
        while connections.try_join_next().is_some() {}
    }
}

impl State {
    /// An error makes the server close the connection.
    async fn answer(&self, request: Request<Incoming>) -> io::Result<Response<Full<Bytes>>> {
        let (parts, body) = request.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        let delivery = Delivery {
            at: Instant::now(),
            path: parts.uri.path().to_owned(),
            headers: parts.headers,
            body,
        };
        let scripted = lock(&self.script).pop_front();
        let reply = scripted.unwrap_or_else(|| {
            let rule = Arc::clone(&lock(&self.rule));
            rule(&delivery)
        });
        lock(&self.deliveries).push(delivery);
        self.count.send_modify(|count| *count += 1);
        if let Some(gate) = &reply.after {
            gate.wait().await;
        }
        match reply.ending {
            Ending::Answer => {}
            Ending::HangUp => return Err(io::ErrorKind::ConnectionAborted.into()),
            Ending::Stall => match std::future::pending::<Infallible>().await {},
        }
        let mut response = Response::new(Full::from(reply.body));
        *response.status_mut() = StatusCode::from_u16(reply.status).expect("a story says a real status");
        for (name, value) in reply.headers {
            let name = hyper::header::HeaderName::try_from(name).expect("a story names a real header");
            response
                .headers_mut()
                .append(name, value.try_into().expect("a story gives a real value"));
        }
        Ok(response)
    }
}
