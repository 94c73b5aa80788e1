//! From bytes on a connection to a webhook: route, bounds, headers, body. Nothing here knows what the body says.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::{
    HeaderMap, Request,
    body::{Body as _, Incoming},
    header::{self, HeaderName},
    http::request::Parts,
};

use super::{Answer, Route, Routes, epoch_ms};
use crate::{clock, config, config::Secret, event::RawWebhook, plugin};

/// What stands where a secret stood.
const REDACTED: &str = "•••";

/// Headers that carry credentials whatever their value.
const CREDENTIALS: [HeaderName; 3] = [header::AUTHORIZATION, header::PROXY_AUTHORIZATION, header::COOKIE];

/// A webhook of a known route, complete and within bounds.
pub(super) struct Received {
    pub(super) route: Arc<Route>,
    /// For the plugin.
    pub(super) request: plugin::Request,
    /// For the record.
    pub(super) webhook: RawWebhook,
}

pub(super) async fn receive(
    routes: &Routes,
    bounds: &config::Server,
    request: Request<Incoming>,
    peer: SocketAddr,
) -> Result<Received, Answer> {
    let (parts, body) = request.into_parts();
    let (route, rest) = routes.find(parts.uri.path()).ok_or(Answer::NoSuchRoute)?;
    let descriptor = &route.grant.plugin.descriptor;
    if !descriptor.methods.iter().any(|method| method == parts.method.as_str()) {
        return Err(Answer::MethodNotAllowed(route.methods.clone()));
    }
    let media_type = media_type(&parts.headers);
    check_content(
        &parts.headers,
        &descriptor.content_types,
        &media_type,
        body.size_hint().lower(),
    )?;
    let body = read(body, route.body_bytes_max, bounds.body_timeout).await?;

    let received_at = clock::now();
    let form = match media_type.as_str() {
        "application/x-www-form-urlencoded" => pairs(&body),
        _ => Vec::new(),
    };
    let query = parts.uri.query();
    let request = plugin::Request {
        method: parts.method.as_str().to_owned(),
        urls: route.urls(rest, query),
        path: rest.to_owned(),
        query: query.map(|query| pairs(query.as_bytes())).unwrap_or_default(),
        headers: declared_headers(&parts.headers, &route.grant.headers),
        peer: Some(peer.ip().to_string()),
        body: body.clone(),
        form,
        received_at_ms: epoch_ms(received_at),
    };
    let secrets = &route.grant.texts;
    let webhook = RawWebhook {
        route: route.name.clone(),
        received_at,
        method: parts.method.as_str().to_owned(),
        target: redact(
            parts.uri.path_and_query().map_or("/", |target| target.as_str()),
            secrets,
        ),
        headers: recorded_headers(&parts, secrets),
        peer: Some(peer.ip().to_string()),
        body,
        form: String::new(),
        payload: None,
    };
    Ok(Received {
        route: Arc::clone(route),
        request,
        webhook,
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

fn check_content(headers: &HeaderMap, accepted: &[String], media_type: &str, length: u64) -> Result<(), Answer> {
    // A compressed body would have to be kept twice, as signed and as read; no provider sends one.
    let encoded = headers
        .get(header::CONTENT_ENCODING)
        .is_some_and(|value| value != "identity");
    // Without a content type the plugin decides: some senders never set one.
    let foreign = !accepted.is_empty() && !media_type.is_empty() && !accepted.iter().any(|known| known == media_type);
    if encoded || (foreign && length > 0) {
        Err(Answer::UnsupportedMediaType)
    } else {
        Ok(())
    }
}

async fn read(body: Incoming, max: usize, timeout: std::time::Duration) -> Result<Bytes, Answer> {
    // Said before a byte is read, so that an honest sender of a huge body need not send it.
    if body.size_hint().lower() > max as u64 {
        return Err(Answer::TooLarge);
    }
    match tokio::time::timeout(timeout, Limited::new(body, max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Answer::TooLarge),
        Ok(Err(_)) => Err(Answer::BadRequest),
        Err(_) => Err(Answer::Timeout),
    }
}

fn pairs(text: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(text).into_owned().collect()
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

fn recorded_headers(parts: &Parts, secrets: &[Secret]) -> Vec<(String, String)> {
    let recorded = |(name, value): (&HeaderName, &header::HeaderValue)| {
        let value = match CREDENTIALS.contains(name) {
            true => REDACTED.to_owned(),
            false => redact(&String::from_utf8_lossy(value.as_bytes()), secrets),
        };
        (name.as_str().to_owned(), value)
    };
    parts.headers.iter().map(recorded).collect()
}

/// Replaces every secret of the route that a text repeats.
fn redact(text: &str, secrets: &[Secret]) -> String {
    let mut text = text.to_owned();
    for secret in secrets {
        if let Ok(secret) = std::str::from_utf8(secret.expose())
            && !secret.is_empty()
            && text.contains(secret)
        {
            text = text.replace(secret, REDACTED);
        }
    }
    text
}
