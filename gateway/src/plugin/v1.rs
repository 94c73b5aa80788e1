//! The contract `callfeed:provider@1`, as generated from its WIT, and the only place that sees those types.

use hyper::{
    Method,
    header::{HeaderName, HeaderValue},
};

use super::{
    Assurance, Descriptor, EventSpec, MappedEvent, Rejection, RejectionKind, Reply, Request, SecretSpec,
    grant::KeyEncoding,
    host::CallState,
    limits::{DETAIL_BYTES, WORD_BYTES},
    load::Error,
};
use crate::telemetry::one_line;

wasmtime::component::bindgen!({
    path: "../schemas/plugin/v1",
    world: "provider",
    exports: { default: async },
});

pub(super) use self::callfeed::provider::{crypto, environment, types};
pub(super) use exports::callfeed::provider::plugin as guest;

/// The version of the contract this module serves, as it stands in import and export names.
pub(super) const INTERFACE: &str = "callfeed:provider/";
pub(super) const PLUGIN_EXPORT: &str = "callfeed:provider/plugin@1.";

/// Bound on a handshake's answer, from the contract.
const REPLY_BYTES_MAX: usize = 4 << 10;

impl types::Host for CallState {}

impl From<Request> for types::Request {
    fn from(request: Request) -> Self {
        Self {
            method: request.method,
            urls: request.urls,
            path: request.path,
            query: fields(request.query),
            headers: fields(request.headers),
            peer: request.peer,
            body: body(&request.body),
            form: fields(request.form),
            received_at_ms: request.received_at_ms,
        }
    }
}

pub(super) fn fields(pairs: impl IntoIterator<Item = (String, String)>) -> Vec<types::Field> {
    let pairs = pairs.into_iter();
    pairs.map(|(name, value)| types::Field { name, value }).collect()
}

pub(super) fn body(bytes: &[u8]) -> types::Body {
    match std::str::from_utf8(bytes) {
        Ok("") => types::Body::None,
        Ok(text) => types::Body::Text(text.to_owned()),
        Err(_) => types::Body::Binary(bytes.to_vec()),
    }
}

impl From<types::Rejection> for Rejection {
    fn from(rejection: types::Rejection) -> Self {
        Self {
            kind: match rejection.kind {
                types::RejectionKind::Unauthenticated => RejectionKind::Unauthenticated,
                types::RejectionKind::Malformed => RejectionKind::Malformed,
                types::RejectionKind::Unsupported => RejectionKind::Unsupported,
            },
            code: rejection.code,
            detail: rejection.detail,
        }
    }
}

impl From<types::Event> for MappedEvent {
    fn from(event: types::Event) -> Self {
        Self {
            kind: event.kind,
            id: event.id,
            subject: event.subject,
            occurred_at_ms: event.occurred_at_ms,
            test: event.test,
            data: event.data,
        }
    }
}

/// Holds a plugin's answer to the contract's bounds.
pub(super) fn reply(response: types::Response) -> Result<Reply, String> {
    // 202 reads as a failure to some providers, and as success to others.
    if !matches!(response.status, 200 | 201 | 204 | 400..=499) {
        return Err(format!(
            "a plugin may answer 200, 201, 204 and 4xx, not {}",
            response.status
        ));
    }
    if response.body.len() > REPLY_BYTES_MAX {
        return Err(format!(
            "a plugin's answer of {} bytes is over {REPLY_BYTES_MAX}",
            response.body.len()
        ));
    }
    let content_type = response
        .headers
        .into_iter()
        .find(|field| field.name.eq_ignore_ascii_case("content-type"));
    let content_type = content_type.map(|field| field.value);
    if content_type
        .as_ref()
        .is_some_and(|text| text.len() > WORD_BYTES || HeaderValue::from_str(text).is_err())
    {
        return Err("a plugin's answer has an unusable content-type".into());
    }
    Ok(Reply {
        status: response.status,
        content_type,
        body: response.body,
    })
}

/// Turns a plugin's description of itself into what the rest of the gateway relies on.
///
/// # Errors
///
/// [`Error::Descriptor`] names the first member that breaks the contract.
pub(super) fn descriptor(raw: types::Descriptor) -> Result<Descriptor, Error> {
    let wrong = |what: String| Err(Error::Descriptor(what));
    let slug = |text: &str| {
        text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
            && text.len() <= 63
            && text
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    if !slug(&raw.provider) {
        return wrong(format!(
            "provider {:?} is not a slug of a-z, 0-9, - and _",
            one_line(&raw.provider, WORD_BYTES)
        ));
    }
    if raw.schema != "call-event/1" {
        return wrong(format!(
            "schema {:?} is not served; this gateway serves call-event/1",
            one_line(&raw.schema, WORD_BYTES)
        ));
    }
    let assurance = match raw.assurance.as_str() {
        "signed-body" => Assurance::SignedBody,
        "signed-derived" => Assurance::SignedDerived,
        "token" => Assurance::Token,
        other => {
            return wrong(format!(
                "assurance {:?} is none of signed-body, signed-derived, token",
                one_line(other, WORD_BYTES)
            ));
        }
    };
    if raw.methods.is_empty() {
        return wrong("methods is empty; name at least POST".into());
    }
    if let Some(method) = raw
        .methods
        .iter()
        .find(|name| Method::from_bytes(name.as_bytes()).is_err())
    {
        return wrong(format!("{:?} is not a method", one_line(method, WORD_BYTES)));
    }
    // An option is looked up, and its names checked, for each route.
    let fixed = raw.headers.iter().filter(|name| !name.starts_with("option:"));
    if let Some(name) = fixed
        .into_iter()
        .find(|name| HeaderName::from_lowercase(name.as_bytes()).is_err())
    {
        return wrong(format!(
            "header {:?} is not a header name in lower case",
            one_line(name, WORD_BYTES)
        ));
    }
    // All of it is shown to an operator, some of it in tables.
    let secrets = raw.secrets.iter().flat_map(|spec| [&spec.name, &spec.summary]);
    let shown = [&raw.display_name, &raw.version]
        .into_iter()
        .chain(&raw.methods)
        .chain(&raw.content_types);
    let shown = shown.chain(secrets).chain(raw.events.iter().map(|event| &event.native));
    if let Some(text) = shown
        .into_iter()
        .find(|text| text.len() > DETAIL_BYTES || text.contains(char::is_control))
    {
        return wrong(format!("{:?} is overlong or unprintable", one_line(text, WORD_BYTES)));
    }
    if let Some(event) = raw
        .events
        .iter()
        .find(|event| !crate::event::TYPES.contains(&event.unified.as_str()))
    {
        return wrong(format!(
            "{:?} is not a type of the unified event",
            one_line(&event.unified, WORD_BYTES)
        ));
    }
    let mut secrets = Vec::with_capacity(raw.secrets.len());
    for spec in raw.secrets {
        let Some(encoding) = KeyEncoding::named(&spec.encoding) else {
            let encoding = one_line(&spec.encoding, WORD_BYTES);
            return wrong(format!("secret {:?} has the unknown encoding {encoding:?}", spec.name));
        };
        if secrets.iter().any(|known: &SecretSpec| known.name == spec.name) {
            return wrong(format!("secret {:?} is declared twice", spec.name));
        }
        secrets.push(SecretSpec {
            name: spec.name,
            summary: spec.summary,
            encoding,
            required: spec.required,
            may_hmac: spec.may_hmac,
        });
    }
    let options_schema = match serde_json::from_str(&raw.options_schema) {
        Ok(schema) => schema,
        Err(error) => return wrong(format!("options-schema is not JSON: {error}")),
    };
    Ok(Descriptor {
        provider: raw.provider,
        display_name: raw.display_name,
        version: raw.version,
        methods: raw.methods,
        content_types: raw
            .content_types
            .into_iter()
            .map(|name| name.to_ascii_lowercase())
            .collect(),
        headers: raw.headers,
        body_bytes_max: raw.max_body_bytes as usize,
        assurance,
        events: raw
            .events
            .into_iter()
            .map(|e| EventSpec {
                native: e.native,
                unified: e.unified,
            })
            .collect(),
        secrets,
        options_schema,
    })
}
