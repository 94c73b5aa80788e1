//! From bytes on a connection to a webhook: route, bounds, headers, body. Nothing here knows what the body says.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Request,
    body::{Body as _, Incoming},
    header::{self, HeaderName},
    http::request::Parts,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Answer, Route, Routes, epoch_ms};
use crate::{
    clock, config,
    event::RawWebhook,
    plugin::{self, Grant, REDACTED},
};

/// Fields of a form or a query.
const PAIRS_MAX: usize = 1_000;
/// What a request costs beside its body.
const OVERHEAD_BYTES: usize = 4 << 10;
/// How long a request may wait for others to be done.
const PATIENCE: Duration = Duration::from_secs(2);

/// Bounds the memory of all webhooks between the first byte of their body and their answer.
#[derive(Debug)]
pub(super) struct InHand {
    /// One permit a KiB.
    room: Arc<Semaphore>,
    all: usize,
}

impl InHand {
    pub(super) fn new(bytes_max: usize) -> Self {
        let all = bytes_max >> 10;
        Self {
            room: Arc::new(Semaphore::new(all)),
            all,
        }
    }

    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        // One that is larger than everything waits for everything, and then has its turn.
        let share = (bytes + OVERHEAD_BYTES).div_ceil(1 << 10).min(self.all);
        let share = u32::try_from(share).ok()?;
        if let Ok(place) = Arc::clone(&self.room).try_acquire_many_owned(share) {
            return Some(place);
        }
        let place = Arc::clone(&self.room).acquire_many_owned(share);
        tokio::time::timeout(PATIENCE, place).await.ok()?.ok()
    }
}

/// Headers that carry credentials whatever their value.
const CREDENTIALS: [HeaderName; 3] = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE];

/// A webhook of a known route, complete and within bounds.
pub(super) struct Received {
    pub(super) route: Arc<Route>,
    /// For the plugin.
    pub(super) request: plugin::Request,
    /// For the record.
    pub(super) webhook: RawWebhook,
    /// Its share of what may be in hand.
    pub(super) place: OwnedSemaphorePermit,
}

pub(super) async fn receive(
    routes: &Routes,
    bounds: &config::Server,
    in_hand: &InHand,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Received, Answer> {
    let (parts, body) = request.into_parts();
    let (route, below) = routes.find(parts.uri.path()).ok_or(Answer::NoSuchRoute)?;
    let descriptor = &route.grant.plugin.descriptor;
    if !descriptor.methods.iter().any(|method| method == parts.method.as_str()) {
        return Err(Answer::MethodNotAllowed(route.methods.clone()));
    }
    let media_type = media_type(&parts.headers);
    check_content(
        &parts.headers,
        &descriptor.content_types,
        &media_type,
        !body.is_end_stream(),
    )?;
    let place = room(in_hand, &body, route.body_bytes_max).await?;
    let body = read(body, route.body_bytes_max, bounds.body_timeout).await?;

    let received_at = clock::now();
    let form = match media_type.as_str() {
        "application/x-www-form-urlencoded" => pairs(&body)?,
        _ => Vec::new(),
    };
    let query = parts.uri.query();
    let request = plugin::Request {
        method: parts.method.as_str().to_owned(),
        urls: route.urls(below, query),
        path: below.trim_start_matches('/').to_owned(),
        query: query
            .map(|query| pairs(query.as_bytes()))
            .transpose()?
            .unwrap_or_default(),
        headers: declared_headers(&parts.headers, &route.grant.headers),
        peer: Some(peer.ip().to_string()),
        body: body.clone(),
        form,
        received_at_ms: epoch_ms(received_at),
    };
    let grant = &route.grant;
    let webhook = RawWebhook {
        route: route.name.clone(),
        received_at,
        method: parts.method.as_str().to_owned(),
        target: grant
            .redact(parts.uri.path_and_query().map_or("/", |target| target.as_str()))
            .into_owned(),
        headers: recorded_headers(&parts, grant),
        peer: Some(peer.ip().to_string()),
        body,
        form: String::new(),
        payload: None,
    };
    Ok(Received {
        route: Arc::clone(route),
        request,
        webhook,
        place,
    })
}

/// The media type without parameters, in lower case; empty when there is none.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn check_content(headers: &HeaderMap, accepted: &[String], media_type: &str, some: bool) -> Result<(), Answer> {
    // A compressed body would have to be kept twice, as signed and as read; no provider sends one.
    let encoded = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|value| value != "identity");
    // Without a content type the plugin decides: some senders never set one.
    let foreign = !accepted.is_empty() && !media_type.is_empty() && !accepted.iter().any(|known| known == media_type);
    if encoded || (foreign && some) {
        Err(Answer::UnsupportedMediaType)
    } else {
        Ok(())
    }
}

async fn read(body: Incoming, max: usize, timeout: Duration) -> Result<Bytes, Answer> {
    match tokio::time::timeout(timeout, Limited::new(body, max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Answer::TooLarge),
        Ok(Err(_)) => Err(Answer::BadRequest),
        Err(_) => Err(Answer::Timeout),
    }
}

/// A megabyte of `a&a&a…` would become half a million pairs before anything is proven.
fn pairs(text: &[u8]) -> Result<Vec<(String, String)>, Answer> {
    let pairs: Vec<_> = form_urlencoded::parse(text).into_owned().take(PAIRS_MAX + 1).collect();
    if pairs.len() > PAIRS_MAX {
        return Err(Answer::TooLarge);
    }
    Ok(pairs)
}

/// Takes as much of the gateway's memory as the body may need, before a byte of it is read.
///
/// The permit goes with the webhook until it is kept, so that a sender who hangs up makes room for nobody.
async fn room(in_hand: &InHand, body: &Incoming, max: usize) -> Result<OwnedSemaphorePermit, Answer> {
    let size = body.size_hint();
    if size.lower() > max as u64 {
        // Said before it is read, so that an honest sender of a huge body need not send it.
        return Err(Answer::TooLarge);
    }
    let bytes = size.exact().map_or(max, |exact| usize::try_from(exact).unwrap_or(max));
    in_hand.take(bytes).await.ok_or(Answer::Unavailable)
}

fn declared_headers(headers: &HeaderMap, declared: &[HeaderName]) -> Vec<(String, String)> {
    let mut passed = Vec::with_capacity(declared.len());
    for name in declared {
        for value in headers.get_all(name) {
            if let Ok(value) = std::str::from_utf8(value.as_bytes()) {
                passed.push((name.as_str().to_owned(), value.to_owned()));
            }
        }
    }
    passed
}

fn recorded_headers(parts: &Parts, grant: &Grant) -> Vec<(String, String)> {
    let recorded = |(name, value): (&HeaderName, &header::HeaderValue)| {
        let value = match CREDENTIALS.contains(name) {
            true => REDACTED.to_owned(),
            false => grant.redact(&String::from_utf8_lossy(value.as_bytes())).into_owned(),
        };
        (name.as_str().to_owned(), value)
    };
    parts.headers.iter().map(recorded).collect()
}
