//! The bare servers the gateway is compared with: hyper, and nothing between it and the promise they keep.
//!
//! All of them read the body, verify the HMAC in constant time, parse the JSON and find the call's id. Then one writes
//! the body to SQLite, one appends it to a file, and both answer when it is durable; the third promises nothing, answers,
//! and posts the body to its subscribers.

mod relay;
mod writer;

use std::{convert::Infallible, net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming, header, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot},
    task::JoinSet,
};

use crate::webhook;

const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(clap::Args, Clone)]
pub(crate) struct Arguments {
    #[arg(long)]
    pub(crate) listen: SocketAddr,
    #[command(subcommand)]
    pub(crate) kind: Kind,
}

#[derive(clap::Subcommand, Clone)]
pub(crate) enum Kind {
    /// Durable in SQLite before the answer.
    Sqlite { file: PathBuf },
    /// Durable at the end of a file before the answer.
    Append { file: PathBuf },
    /// Posted to every address after the answer.
    Relay { to: Vec<hyper::Uri> },
}

/// What happens to a webhook between its check and its answer.
enum After {
    Write(mpsc::Sender<writer::Record>),
    Relay(relay::Subscribers),
}

pub(crate) fn run(arguments: Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let after = match arguments.kind {
            Kind::Sqlite { file } => After::Write(writer::start(writer::Sqlite::open(&file)?)),
            Kind::Append { file } => After::Write(writer::start(writer::Append::open(&file)?)),
            Kind::Relay { to } => After::Relay(relay::Subscribers::start(to)),
        };
        serve(arguments.listen, after).await
    })
}

async fn serve(listen: SocketAddr, after: After) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let after = Arc::new(after);
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let after = Arc::clone(&after);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let after = Arc::clone(&after);
                async move { Ok::<_, Infallible>(answer(request, &after).await) }
            });
            // A connection that ends early is the sender's affair; it notices by itself.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn answer(request: Request<Incoming>, after: &After) -> Response<Full<Bytes>> {
    let (status, body) = match accept(request, after).await {
        Ok(call) => (StatusCode::OK, format!("{{\"accepted\":[\"{call}\"]}}")),
        Err(refused) => (StatusCode::BAD_REQUEST, format!("{refused:#}")),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

async fn accept(request: Request<Incoming>, after: &After) -> Result<String> {
    let signature = signature(&request).context("no signature")?;
    let body = Limited::new(request.into_body(), BODY_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!(error))?
        .to_bytes();

    let mac = Hmac::<Sha256>::new_from_slice(webhook::SECRET.as_bytes()).expect("any length is a key");
    mac.chain_update(&body)
        .verify_slice(&signature)
        .context("wrong signature")?;

    let value: serde_json::Value = serde_json::from_slice(&body)?;
    let event = value["event"].as_str().context("no event")?;
    let call = value["data"]["call_record_id"].as_str().context("no call")?;
    let identity = Sha256::new().chain_update(event).chain_update(call).finalize();
    let key = *identity.first_chunk().expect("a SHA-256 has more than 16 bytes");

    match after {
        After::Write(writer) => {
            let (kept, when_kept) = oneshot::channel();
            writer
                .send(writer::Record { key, body, kept })
                .await
                .ok()
                .context("the writer stopped")?;
            when_kept.await.context("the writer stopped")?;
        }
        After::Relay(subscribers) => subscribers.take(call, &body).await?,
    }
    Ok(call.to_owned())
}

fn signature(request: &Request<Incoming>) -> Option<[u8; 32]> {
    let header = request.headers().get(webhook::SIGNATURE_HEADER)?.to_str().ok()?;
    let digits = header.strip_prefix(webhook::SIGNATURE_PREFIX)?.as_bytes();
    let mut signature = [0; 32];
    if digits.len() != 2 * signature.len() {
        return None;
    }
    let value = |digit: u8| {
        char::from(digit)
            .to_digit(16)
            .and_then(|value| u8::try_from(value).ok())
    };
    for (byte, pair) in signature.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(signature)
}
