//! What a route lets its plugin use: the meeting of what the plugin asks for and what the configuration grants.
//!
//! Pure. Everything a webhook needs is decoded, resolved and checked here once, when the configuration is loaded.

use std::{borrow::Cow, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use hyper::header::HeaderName;
use jsonschema::error::ValidationErrorKind;
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject};
use serde_json::Value;

use super::{Descriptor, Plugin};
use crate::{
    config::{Problem, Route, Secret},
    redaction::Redaction,
    telemetry::{Quiet, one_line},
};

/// How a secret's text becomes key bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEncoding {
    Utf8,
    Base64,
    Hex,
    /// A public key.
    Pem,
    /// `whsec_` and base64.
    StandardWebhooks,
}

impl KeyEncoding {
    pub(crate) const ALL: [Self; 5] = [Self::Utf8, Self::Base64, Self::Hex, Self::Pem, Self::StandardWebhooks];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|encoding| encoding.as_str() == name)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Utf8 => "utf8",
            Self::Base64 => "base64",
            Self::Hex => "hex",
            Self::Pem => "pem",
            Self::StandardWebhooks => "standard-webhooks",
        }
    }

    /// The key bytes, or what the text should have been; never the text itself.
    pub(crate) fn decode(self, secret: &Secret) -> Result<Key, &'static str> {
        let text = secret.expose();
        let bytes = match self {
            Self::Utf8 => text.to_vec(),
            Self::Base64 => BASE64_STANDARD.decode(text).map_err(|_| "not standard base64")?,
            Self::Hex => unhex(text).ok_or("not an even number of hexadecimal digits")?,
            Self::StandardWebhooks => {
                let digits = text.strip_prefix(b"whsec_").ok_or("not whsec_ followed by base64")?;
                BASE64_STANDARD
                    .decode(digits)
                    .map_err(|_| "not whsec_ followed by base64")?
            }
            Self::Pem => {
                let der = SubjectPublicKeyInfoDer::from_pem_slice(text).map_err(|_| "not a PEM public key")?;
                let info = spki::SubjectPublicKeyInfoRef::try_from(der.as_ref()).map_err(|_| "not a PEM public key")?;
                info.subject_public_key.raw_bytes().to_vec()
            }
        };
        if bytes.is_empty() { Err("empty") } else { Ok(Key(bytes)) }
    }
}

pub(crate) fn unhex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|value| value as u8);
    text.chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// Key bytes. Prints nothing.
pub(crate) struct Key(Vec<u8>);

impl Key {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Everything one route lets its plugin use.
pub struct Grant {
    pub plugin: Arc<Plugin>,
    /// The route's name, for logs.
    pub(super) route: String,
    /// Every live key of every secret.
    secrets: Vec<(String, Vec<Key>)>,
    /// A JSON object as text.
    pub(super) options: String,
    /// The headers passed to the plugin.
    pub headers: Vec<HeaderName>,
    pub(super) allow_unsigned: bool,
    pub(super) allow_hmac: bool,
    /// Every secret as written, to be struck out wherever the webhook repeats it.
    redaction: Redaction,
    /// For what the plugin says of webhooks that nothing has proven.
    pub(super) unproven: Quiet,
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant")
            .field("route", &self.route)
            .field("plugin", &self.plugin)
            .finish_non_exhaustive()
    }
}

impl Grant {
    /// Checks a route's block against its plugin.
    ///
    /// # Errors
    ///
    /// Every problem found: unknown or missing secrets, keys that do not decode, options outside the plugin's schema,
    /// powers the plugin never asked for.
    pub fn new(plugin: Arc<Plugin>, route: &Route) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let path = format!("route[{}]", route.name);
        let mut problem = |inner: &str, message: String, remedy: String| {
            problems.push(Problem::new(route.line, format!("{path}{inner}"), message, remedy));
        };
        let descriptor = &plugin.descriptor;

        let mut secrets = Vec::new();
        for (name, values) in &route.secrets {
            let Some(spec) = descriptor.secret(name) else {
                let known: Vec<_> = descriptor.secrets.iter().map(|spec| spec.name.as_str()).collect();
                problem(
                    &format!(".secrets.{name}"),
                    format!("{} has no secret of this name", descriptor.display_name),
                    format!("use one of: {}", known.join(", ")),
                );
                continue;
            };
            let mut keys = Vec::with_capacity(values.len());
            for value in values {
                match spec.encoding.decode(value) {
                    Ok(key) => keys.push(key),
                    Err(what) => problem(
                        &format!(".secrets.{name}"),
                        format!("the value is {what}"),
                        format!("enter it as the provider shows it: {}", spec.summary),
                    ),
                }
            }
            secrets.push((name.clone(), keys));
        }
        if !route.allow_unsigned {
            for spec in descriptor.secrets.iter().filter(|spec| spec.required) {
                // One without a value is there and could not be read, which the configuration reports.
                if !route.secrets.iter().any(|(name, _)| *name == spec.name) {
                    problem(
                        ".secrets",
                        format!("{} needs the secret {:?}", descriptor.display_name, spec.name),
                        format!(
                            "add secrets = {{ {} = [{{ env = \"…\" }}] }}: {}",
                            spec.name, spec.summary
                        ),
                    );
                }
            }
        }
        if route.allow_hmac && !descriptor.secrets.iter().any(|spec| spec.may_hmac) {
            problem(
                ".allow_hmac",
                format!("{} never asks for this power", descriptor.display_name),
                "remove the line".into(),
            );
        }
        for error in plugin.options_schema.iter_errors(&route.options) {
            let at = format!(".options{}", error.instance_path().to_string().replace('/', "."));
            match error.kind() {
                ValidationErrorKind::AdditionalProperties { unexpected } => {
                    for name in unexpected {
                        let message = format!("{} has no option of this name", descriptor.display_name);
                        problem(&format!("{at}.{name}"), message, known_options(descriptor));
                    }
                }
                // Masked: an option's value may be a secret in the wrong place.
                _ => {
                    let name = error.instance_path().iter().next();
                    let name = name.map(|segment| segment.to_string()).unwrap_or_default();
                    let description = descriptor.options().find(|(known, _)| *known == name);
                    let description = description.and_then(|(_, schema)| schema["description"].as_str());
                    let remedy = description.map_or_else(|| known_options(descriptor), str::to_owned);
                    problem(&at, error.masked().to_string(), remedy);
                }
            }
        }
        let mut headers = Vec::new();
        for entry in &descriptor.headers {
            for name in header_names(entry, &route.options) {
                match HeaderName::try_from(name.to_ascii_lowercase()) {
                    Ok(name) => headers.push(name),
                    Err(_) => problem(
                        ".options",
                        format!("{name:?} is not a header name"),
                        "header names are letters, digits and hyphens".into(),
                    ),
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let texts = route.secrets.iter().flat_map(|(_, values)| values);
        let texts = texts.filter_map(|secret| String::from_utf8(secret.expose().to_vec()).ok());
        Ok(Self {
            route: route.name.clone(),
            secrets,
            options: plugin.description.clone().unwrap_or_else(|| route.options.to_string()),
            headers,
            allow_unsigned: route.allow_unsigned,
            allow_hmac: route.allow_hmac,
            redaction: Redaction::new(texts),
            unproven: Quiet::default(),
            plugin,
        })
    }

    /// Strikes out every secret of the route that a text repeats.
    pub(crate) fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.redaction.strike_out(text)
    }

    /// Does the same with path and query of a request.
    pub(crate) fn redact_target<'t>(&self, target: &'t str) -> Cow<'t, str> {
        self.redaction.strike_out_of_target(target)
    }

    /// And with a body in which a token was presented. `None` when it is not in there.
    pub(crate) fn redact_body(&self, body: &[u8]) -> Option<Bytes> {
        self.redaction.strike_out_of_body(body).map(Bytes::from)
    }

    /// The name of the route this was granted to.
    pub fn route(&self) -> &str {
        &self.route
    }

    /// What the plugin says to the operator: one short line, and no secret that the sender presented.
    pub(crate) fn told(&self, text: &str, bytes_max: usize) -> String {
        one_line(&self.redact(text), bytes_max)
    }

    /// Every live key of a secret; `None` when the configuration has none of that name.
    pub(super) fn keys(&self, name: &str) -> Option<&[Key]> {
        let (_, keys) = self
            .secrets
            .iter()
            .find(|(known, keys)| known == name && !keys.is_empty())?;
        Some(keys)
    }
}

fn known_options(descriptor: &Descriptor) -> String {
    let names: Vec<_> = descriptor.options().map(|(name, _)| name).collect();
    if names.is_empty() {
        "remove it: there are no options".to_owned()
    } else {
        format!("there are: {}", names.join(", "))
    }
}

/// The header names that one entry of a descriptor stands for.
fn header_names(entry: &str, options: &Value) -> Vec<String> {
    let Some(pointer) = entry.strip_prefix("option:") else {
        return vec![entry.to_owned()];
    };
    match options.pointer(pointer) {
        Some(Value::String(name)) => vec![name.clone()],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_decode_by_their_encoding() {
        let decode =
            |encoding: KeyEncoding, text: &str| encoding.decode(&Secret::new(text)).map(|key| key.bytes().to_vec());
        assert_eq!(decode(KeyEncoding::Utf8, "whsec_ab"), Ok(b"whsec_ab".to_vec()));
        assert_eq!(decode(KeyEncoding::Hex, "00fF"), Ok(vec![0, 255]));
        assert_eq!(decode(KeyEncoding::StandardWebhooks, "whsec_AAEC"), Ok(vec![0, 1, 2]));
        assert!(decode(KeyEncoding::Hex, "0").is_err());
        assert!(decode(KeyEncoding::Base64, "whsec_AAEC").is_err());
        assert!(decode(KeyEncoding::Utf8, "").is_err());
        let pem = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n";
        assert_eq!(decode(KeyEncoding::Pem, pem).map(|key| key.len()), Ok(32));
        assert!(decode(KeyEncoding::Pem, "AAEC").is_err());
    }

    #[test]
    fn headers_follow_the_options() {
        let options = serde_json::json!({ "header": "X-One", "headers": ["x-two", "x-three"] });
        assert_eq!(header_names("x-fixed", &options), ["x-fixed"]);
        assert_eq!(header_names("option:/header", &options), ["X-One"]);
        assert_eq!(header_names("option:/headers", &options), ["x-two", "x-three"]);
        assert!(header_names("option:/absent", &options).is_empty());
    }
}
