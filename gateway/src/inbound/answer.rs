//! What a provider is answered. The only place that turns what happened into status codes.
//!
//! 200 means kept, never less: several providers take anything else, or even another 2xx, for a failure, and nothing of
//! the inside is said in a body.

use std::fmt::Write as _;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};

use crate::{event::EventId, plugin::Reply};

pub(super) type Body = Full<Bytes>;

/// Seconds after which a provider may try again what could not be kept now.
const RETRY_AFTER_SECONDS: &str = "5";

/// How one request is answered.
#[derive(Debug)]
pub enum Answer {
    /// Durable: kept, known from before, ignored or quarantined.
    Accepted(Vec<EventId>),
    /// A handshake's answer, written by the plugin.
    Reply(Reply),
    BadRequest,
    NotAuthentic,
    NoSuchRoute,
    /// With the methods that are allowed.
    MethodNotAllowed(String),
    Timeout,
    TooLarge,
    UnsupportedMediaType,
    /// It cannot be kept now.
    Unavailable,
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::Accepted(_) => StatusCode::OK,
            Self::Reply(reply) => StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK),
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::NotAuthentic => StatusCode::UNAUTHORIZED,
            Self::NoSuchRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let status = self.status();
        let mut headers = HeaderMap::with_capacity(2);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let body = match self {
            Self::Accepted(ids) => accepted(&ids),
            Self::Reply(reply) => {
                match reply.content_type.and_then(|text| HeaderValue::try_from(text).ok()) {
                    Some(value) => headers.insert(CONTENT_TYPE, value),
                    None => headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
                };
                Bytes::from(reply.body)
            }
            Self::MethodNotAllowed(methods) => {
                headers.insert(
                    ALLOW,
                    HeaderValue::try_from(methods).unwrap_or(HeaderValue::from_static("POST")),
                );
                error("method not allowed")
            }
            Self::Unavailable => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
                error("cannot be kept now, please send it again")
            }
            Self::BadRequest => error("not a readable request"),
            Self::NotAuthentic => error("not authentic"),
            Self::NoSuchRoute => error("no such route"),
            Self::Timeout => error("the request took too long to arrive"),
            Self::TooLarge => error("too large"),
            Self::UnsupportedMediaType => error("this kind of content is not taken here"),
        };
        let mut response = Response::new(Body::new(body));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        response
    }
}

fn accepted(ids: &[EventId]) -> Bytes {
    let mut text = String::with_capacity(16 + ids.len() * 34);
    text.push_str("{\"accepted\":[");
    for (index, id) in ids.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(text, "{comma}\"{id}\"").expect("writing to memory does not fail");
    }
    text.push_str("]}");
    Bytes::from(text)
}

fn error(what: &'static str) -> Bytes {
    Bytes::from(format!("{{\"error\":\"{what}\"}}"))
}
