//! The outbound road against a real server on loopback.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
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
use tokio::{net::TcpListener, task::JoinSet};

use crate::{
    config::{Filter, Secret, Signature, SigningKey, Subscriber},
    event::{EventId, Facts, Kept},
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
    /// Says nothing and keeps the connection.
    Stall,
    /// Closes the connection without a word.
    Close,
    /// 200 with a body that does not end.
    Endless,
    /// 200 and the beginning of a body, then the connection closes.
    BreakOff,
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
    seen: Arc<Mutex<Vec<Seen>>>,
    _connections: JoinSet<()>,
}

impl Scripted {
    pub(super) async fn start(script: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (seen, script) = (Arc::new(Mutex::new(Vec::new())), Arc::new(script));
        let mut connections = JoinSet::new();
        let witness = Arc::clone(&seen);
        connections.spawn(async move {
            let mut serving = JoinSet::new();
            loop {
                let (socket, peer) = listener.accept().await.unwrap();
                let (seen, script) = (Arc::clone(&witness), Arc::clone(&script));
                serving.spawn(async move {
                    let service =
                        service_fn(move |request| answer(request, peer, Arc::clone(&seen), Arc::clone(&script)));
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
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
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
    seen.lock().unwrap().push(request);
    match reply {
        Reply::Answer(response) => Ok(response.map(|body| {
            http_body_util::Full::new(body)
                .map_err(|never: Infallible| match never {})
                .boxed()
        })),
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
        in_flight_max: 8,
        waiting_max: 1000,
        line: 1,
    }
}
