//! Subscribers' services: they take whatever is delivered, answer 200 and remember when each webhook first came.

use std::{
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpListener, sync::Notify, task::JoinSet};

use crate::webhook;

/// When a subscriber that waits for more has waited in vain. One that was down is tried again within a minute or so.
const SILENCE_MAX: Duration = Duration::from_secs(150);

/// Any number of services, each with an address of its own.
pub(crate) struct Receivers {
    pub(crate) addresses: Vec<SocketAddr>,
    inboxes: Vec<Arc<Inbox>>,
    _serving: JoinSet<()>,
}

#[derive(Default)]
struct Inbox {
    arrivals: Mutex<Arrivals>,
    complete: Notify,
}

/// The webhooks of one round, by number.
#[derive(Default)]
struct Arrivals {
    first: u64,
    at: Vec<Option<Instant>>,
    missing: usize,
}

impl Receivers {
    pub(crate) async fn start(count: usize) -> Result<Self> {
        Self::start_at(&vec![(Ipv4Addr::LOCALHOST, 0).into(); count]).await
    }

    /// One at each of these addresses.
    pub(crate) async fn start_at(at: &[SocketAddr]) -> Result<Self> {
        let (mut addresses, mut inboxes, mut serving) = (Vec::new(), Vec::new(), JoinSet::new());
        for address in at {
            let listener = TcpListener::bind(address).await?;
            let inbox = Arc::new(Inbox::default());
            addresses.push(listener.local_addr()?);
            inboxes.push(Arc::clone(&inbox));
            serving.spawn(serve(listener, inbox));
        }
        Ok(Self {
            addresses,
            inboxes,
            _serving: serving,
        })
    }

    /// From here on, waits for `count` webhooks from `first` on.
    pub(crate) fn expect(&self, first: u64, count: usize) {
        for inbox in &self.inboxes {
            *inbox.arrivals() = Arrivals {
                first,
                at: vec![None; count],
                missing: count,
            };
        }
    }

    /// Waits until every service has everything it expects; returns when each webhook had reached all of them.
    pub(crate) async fn all(&self) -> Result<Vec<Instant>> {
        let mut last: Vec<Option<Instant>> = Vec::new();
        for inbox in &self.inboxes {
            inbox.wait().await?;
            let arrivals = inbox.arrivals();
            last.resize(arrivals.at.len(), None);
            for (last, at) in last.iter_mut().zip(&arrivals.at) {
                *last = (*last).max(*at);
            }
        }
        last.into_iter()
            .map(|at| at.context("complete means that each arrived"))
            .collect()
    }
}

impl Inbox {
    fn arrivals(&self) -> std::sync::MutexGuard<'_, Arrivals> {
        self.arrivals
            .lock()
            .expect("nothing panics while it holds the arrivals")
    }

    async fn wait(&self) -> Result<()> {
        loop {
            let missing = self.arrivals().missing;
            if missing == 0 {
                return Ok(());
            }
            if tokio::time::timeout(SILENCE_MAX, self.complete.notified())
                .await
                .is_err()
            {
                let still = self.arrivals().missing;
                anyhow::ensure!(still < missing, "{still} deliveries did not arrive");
            }
        }
    }

    fn take(&self, body: &[u8]) -> Option<()> {
        let number = webhook::number(body)?;
        let mut arrivals = self.arrivals();
        let index = usize::try_from(number.checked_sub(arrivals.first)?).ok()?;
        let at = arrivals.at.get_mut(index)?;
        // Delivered at least once: a second time counts for nothing.
        if at.replace(at.unwrap_or_else(Instant::now)).is_none() {
            arrivals.missing -= 1;
            if arrivals.missing == 0 {
                self.complete.notify_one();
            }
        }
        Some(())
    }
}

async fn serve(listener: TcpListener, inbox: Arc<Inbox>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let inbox = Arc::clone(&inbox);
        connections.spawn(async move {
            let _ = stream.set_nodelay(true);
            let service = service_fn(move |request| {
                let inbox = Arc::clone(&inbox);
                async move { Ok::<_, Infallible>(receive(request, &inbox).await) }
            });
            // A connection that breaks is the deliverer's affair.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn receive(request: Request<Incoming>, inbox: &Inbox) -> Response<Empty<Bytes>> {
    let mut response = Response::new(Empty::new());
    match request.into_body().collect().await {
        Ok(body) => {
            inbox.take(&body.to_bytes());
        }
        Err(_) => *response.status_mut() = StatusCode::BAD_REQUEST,
    }
    response
}
