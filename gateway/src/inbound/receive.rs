//! From bytes on a connection to a webhook: route, bounds, headers, body. Nothing here knows what the body says.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::{
    HeaderMap, Request,
    body::{Body as _, Incoming},
    header::{self, HeaderName},
    http::request::Parts,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Answer, Route, Routes, epoch_ms, route::complete};
use crate::{
    clock, config,
    event::RawWebhook,
    plugin::{self, Grant},
    redaction::STRUCK_OUT,
};

/// Fields of a form or a query.
const PAIRS_MAX: usize = 1_000;
/// What a request costs beside its head and its body, and a header beside its name and value.
const OVERHEAD_BYTES: usize = 4 << 10;
const HEADER_OVERHEAD_BYTES: usize = 128;
/// How long a request may wait for others to be done …
const PATIENCE: Duration = Duration::from_secs(2);
/// … and how many may: nothing counts their heads meanwhile.
const PATIENT_MAX: usize = 256;
/// How long after a head the body comes that was sent with it. Nothing counts the head meanwhile …
const MOMENT: Duration = Duration::from_millis(250);
/// … so that larger ones have none.
const USUAL_HEAD_BYTES: usize = 8 << 10;

/// Bounds the memory of all webhooks between their head and their answer.
///
/// What is announced takes nothing: a webhook holds memory for what has come of it, its head included. Those that come in
/// pieces may hold half of it all together until they are complete, so that senders who stop half-way leave room for those
/// who do not.
#[derive(Debug)]
pub(super) struct InHand {
    all: Room,
    arriving: Room,
}

impl InHand {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            all: Room::new(bytes_max),
            arriving: Room::new(bytes_max / 2),
        }
    }
}

#[derive(Debug)]
struct Room {
    /// One permit a KiB.
    places: Arc<Semaphore>,
    count: usize,
    patient: Semaphore,
}

impl Room {
    fn new(bytes: usize) -> Self {
        let count = bytes >> 10;
        Self {
            places: Arc::new(Semaphore::new(count)),
            count,
            patient: Semaphore::new(PATIENT_MAX),
        }
    }

    /// Adds to what is held until it is enough for so many bytes.
    ///
    /// Of several that wait for each other the first gives up when its patience ends, and another has its turn.
    async fn hold(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), Answer> {
        if self.try_hold(held, bytes) {
            return Ok(());
        }
        let _patient = self.patient.try_acquire().map_err(|_| Answer::Unavailable)?;
        let more = Arc::clone(&self.places).acquire_many_owned(self.missing(held, bytes));
        let more = tokio::time::timeout(PATIENCE, more).await;
        add(held, more.ok().and_then(Result::ok).ok_or(Answer::Unavailable)?);
        Ok(())
    }

    /// The same, where it need not wait; says whether it did.
    fn try_hold(&self, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> bool {
        let more = Arc::clone(&self.places).try_acquire_many_owned(self.missing(held, bytes));
        more.is_ok_and(|more| {
            add(held, more);
            true
        })
    }

    fn missing(&self, held: &Option<OwnedSemaphorePermit>, bytes: usize) -> u32 {
        // One that is larger than everything waits for everything, and then has its turn.
        let wanted = bytes.div_ceil(1 << 10).min(self.count);
        let missing = wanted.saturating_sub(held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits));
        u32::try_from(missing).unwrap_or(u32::MAX)
    }
}

fn add(held: &mut Option<OwnedSemaphorePermit>, more: OwnedSemaphorePermit) {
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
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
    let read = read(body, head_bytes(&parts), route.body_bytes_max, in_hand);
    let (body, place) = tokio::time::timeout(bounds.body_timeout, read)
        .await
        .map_err(|_| Answer::Timeout)??;

    let received_at = clock::now();
    let form = form_pairs(&media_type, &body)?;
    let query = parts.uri.query();
    let request = plugin::Request {
        method: parts.method.as_str().to_owned(),
        urls: complete(&route.urls, below, query),
        path: below.trim_start_matches('/').to_owned(),
        query: pairs(query.unwrap_or_default().as_bytes())?,
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
            .redact_target(parts.uri.path_and_query().map_or("/", |target| target.as_str()))
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

/// A webhook from the record, for the plugin: as it was, but for the secrets.
///
/// # Errors
///
/// When it is over the bounds it came in under.
pub(super) fn from_record(route: &Route, webhook: &RawWebhook) -> Result<plugin::Request, Answer> {
    request_of(webhook, &route.path, &route.urls, &route.grant.headers)
}

/// What a plugin is shown of a webhook that came to a route of this path and these URLs, with these of its headers.
///
/// # Errors
///
/// When it is over the bounds.
pub(crate) fn request_of(
    webhook: &RawWebhook,
    route_path: &str,
    route_urls: &[String],
    declared: &[HeaderName],
) -> Result<plugin::Request, Answer> {
    let (path, query) = match webhook.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (webhook.target.as_str(), None),
    };
    // The route may have another path by now.
    let below = path.strip_prefix(route_path).unwrap_or_default();
    let content_type = webhook.headers.iter().find(|(name, _)| name == "content-type");
    let media_type = media_type_of(content_type.map_or("", |(_, value)| value));
    let form = form_pairs(&media_type, &webhook.body)?;
    let mut headers = Vec::new();
    for declared in declared {
        let passed = webhook.headers.iter().filter(|(name, _)| name == declared.as_str());
        headers.extend(passed.cloned());
    }
    Ok(plugin::Request {
        method: webhook.method.clone(),
        urls: complete(route_urls, below, query),
        path: below.trim_start_matches('/').to_owned(),
        query: pairs(query.unwrap_or_default().as_bytes())?,
        headers,
        peer: webhook.peer.clone(),
        body: webhook.body.clone(),
        form,
        received_at_ms: epoch_ms(webhook.received_at),
    })
}

/// The media type without parameters, in lower case; empty when there is none.
fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type_of(value.unwrap_or_default())
}

fn media_type_of(value: &str) -> String {
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

/// What the head of a request and its handling take.
fn head_bytes(parts: &Parts) -> usize {
    let header =
        |(name, value): (&HeaderName, &header::HeaderValue)| HEADER_OVERHEAD_BYTES + name.as_str().len() + value.len();
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    OVERHEAD_BYTES + target + parts.headers.iter().map(header).sum::<usize>()
}

/// Reads a body, with its share of what may be in hand. The share goes with the webhook until it is kept, so that a sender
/// who hangs up makes room for nobody.
async fn read(
    mut body: Incoming,
    head_bytes: usize,
    max: usize,
    in_hand: &InHand,
) -> Result<(Bytes, OwnedSemaphorePermit), Answer> {
    let size = body.size_hint();
    if size.lower() > max as u64 {
        // Said before it is read, so that an honest sender of a huge body need not send it.
        return Err(Answer::TooLarge);
    }
    let expected = size.exact().map_or(max, |exact| usize::try_from(exact).unwrap_or(max));
    let (mut held, mut held_arriving) = (None, None);
    let mut next = None;
    // A head alone is half a webhook, too; but a body that comes with it waits for none of those who stop half-way.
    if !body.is_end_stream() && !in_hand.arriving.try_hold(&mut held_arriving, head_bytes) {
        let moment = if head_bytes > USUAL_HEAD_BYTES {
            Duration::ZERO
        } else {
            MOMENT
        };
        match tokio::time::timeout(moment, body.frame()).await {
            Ok(frame) => next = Some(frame),
            Err(_) => in_hand.arriving.hold(&mut held_arriving, head_bytes).await?,
        }
    }
    in_hand.all.hold(&mut held, head_bytes).await?;
    // One piece stays as it is. Several become one: kept apart, each byte of a sender of single bytes would cost fifty.
    let (mut first, mut whole) = (Bytes::new(), Vec::new());
    while let Some(frame) = match next.take() {
        Some(frame) => frame,
        None => body.frame().await,
    } {
        let Ok(piece) = frame.map_err(|_| Answer::BadRequest)?.into_data() else {
            continue;
        };
        let length = first.len() + whole.len() + piece.len();
        if length > max {
            return Err(Answer::TooLarge);
        }
        if first.is_empty() && whole.is_empty() {
            if !body.is_end_stream() {
                in_hand.arriving.hold(&mut held_arriving, head_bytes + length).await?;
            }
            in_hand.all.hold(&mut held, head_bytes + length).await?;
            first = piece;
            continue;
        }
        if length > whole.capacity() {
            let capacity = (2 * length).min(expected).max(length);
            in_hand.arriving.hold(&mut held_arriving, head_bytes + capacity).await?;
            in_hand.all.hold(&mut held, head_bytes + capacity).await?;
            whole.reserve_exact(capacity - whole.len());
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&piece);
    }
    let body = if whole.is_empty() { first } else { Bytes::from(whole) };
    Ok((body, held.expect("it was held from the start")))
}

fn form_pairs(media_type: &str, body: &[u8]) -> Result<Vec<(String, String)>, Answer> {
    match media_type {
        "application/x-www-form-urlencoded" => pairs(body),
        _ => Ok(Vec::new()),
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
            true => STRUCK_OUT.to_owned(),
            false => grant.redact(&String::from_utf8_lossy(value.as_bytes())).into_owned(),
        };
        (name.as_str().to_owned(), value)
    };
    parts.headers.iter().map(recorded).collect()
}
