//! Sends webhooks, as cheaply as can be: what the sender costs is taken from the cores the server runs on.
//!
//! A closed loop. Each connection writes a request made ready beforehand, waits for the whole answer and takes the next
//! request. Whatever is not 200 with the promise that an event was kept ends the bench.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
};

use crate::webhook::Stock;

/// How the answer to a webhook that was kept begins. An empty list would be a webhook kept aside, or of no interest.
const KEPT: &[u8] = b"{\"accepted\":[\"";
const HEADERS_MAX: usize = 32;

/// What came of sending a stock of webhooks.
pub(crate) struct Sent {
    /// From the first request's first byte to the last answer's last.
    pub(crate) took: Duration,
    /// How long each answer took, in no order.
    pub(crate) answers: Vec<Duration>,
}

/// Sends everything as fast as the answers allow.
pub(crate) async fn flood(address: SocketAddr, stock: &Arc<Stock>, connections: usize) -> Result<Sent> {
    let mut lines = Vec::with_capacity(connections);
    for _ in 0..connections {
        lines.push(Line::open(address).await?);
    }

    let next = Arc::new(AtomicUsize::new(0));
    let mut senders = JoinSet::new();
    let begun = Instant::now();
    for mut line in lines {
        let (stock, next) = (Arc::clone(stock), Arc::clone(&next));
        senders.spawn(async move {
            let mut answers = Vec::with_capacity(stock.requests.len() / connections * 2);
            while let Some(request) = stock.requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                answers.push(line.send(request).await?);
            }
            anyhow::Ok(answers)
        });
    }
    let mut answers = Vec::with_capacity(stock.requests.len());
    while let Some(sender) = senders.join_next().await {
        answers.append(&mut sender??);
    }
    Ok(Sent {
        took: begun.elapsed(),
        answers,
    })
}

/// Sends at a steady rate, whatever the answers do, and says when each webhook was sent.
pub(crate) async fn trickle(address: SocketAddr, stock: &Arc<Stock>, rate: u32) -> Result<Vec<Instant>> {
    /// More than are ever in flight at a gentle rate.
    const LINES: usize = 16;
    let mut lines = Vec::new();
    for _ in 0..LINES {
        lines.push(Line::open(address).await?);
    }

    let pause = Duration::from_secs(1) / rate;
    let begun = tokio::time::Instant::now() + pause;
    let mut senders = JoinSet::new();
    for (lane, mut line) in lines.into_iter().enumerate() {
        let stock = Arc::clone(stock);
        senders.spawn(async move {
            let mut sent = Vec::new();
            for index in (lane..stock.requests.len()).step_by(LINES) {
                tokio::time::sleep_until(begun + pause * u32::try_from(index)?).await;
                sent.push((index, Instant::now()));
                line.send(&stock.requests[index]).await?;
            }
            anyhow::Ok(sent)
        });
    }
    let mut sent = Vec::with_capacity(stock.requests.len());
    while let Some(sender) = senders.join_next().await {
        sent.append(&mut sender??);
    }
    sent.sort_unstable();
    Ok(sent.into_iter().map(|(_, at)| at).collect())
}

/// One connection.
struct Line {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Line {
    async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await.context("failed to connect")?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::with_capacity(4096),
        })
    }

    /// Sends one request and waits for its answer; returns how long that took.
    async fn send(&mut self, request: &[u8]) -> Result<Duration> {
        let begun = Instant::now();
        self.stream.write_all(request).await?;
        self.received.clear();
        loop {
            ensure!(
                self.stream.read_buf(&mut self.received).await? > 0,
                "the server hung up on a webhook"
            );
            if let Some(answer) = Answer::whole(&self.received)? {
                if answer.status != 200 || !answer.body.starts_with(KEPT) {
                    bail!(
                        "the server did not keep a webhook: {} {}",
                        answer.status,
                        String::from_utf8_lossy(answer.body)
                    );
                }
                return Ok(begun.elapsed());
            }
        }
    }
}

struct Answer<'a> {
    status: u16,
    body: &'a [u8],
}

impl<'a> Answer<'a> {
    /// `None` while a part is still on its way.
    fn whole(received: &'a [u8]) -> Result<Option<Self>> {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut response = httparse::Response::new(&mut headers);
        let httparse::Status::Complete(head) = response.parse(received).context("the answer is not HTTP")? else {
            return Ok(None);
        };
        let status = response.code.context("the answer has no status")?;
        let length = response
            .headers
            .iter()
            .find(|header| header.name.eq_ignore_ascii_case("content-length"));
        let length: usize = std::str::from_utf8(length.context("the answer has no content-length")?.value)?.parse()?;
        Ok(received.get(head..head + length).map(|body| Self { status, body }))
    }
}
