//! The providers' side, for `demo` and `send`: every built-in provider's sample webhooks, signed as that provider signs.
//!
//! Nothing here is used to check a signature; the plugins and the host do that, from the providers' documentation.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use sha1::Sha1;
use sha2::Sha256;

use crate::{config::Route, plugin};

/// One webhook as a provider would send it, without its signature.
#[derive(Debug, Clone)]
pub struct Sample {
    pub provider: &'static str,
    /// The event it is a sample of, e.g. `call-completed`.
    pub name: &'static str,
    pub content_type: String,
    pub body: Vec<u8>,
}

/// Why a webhook could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("route {route:?} has no secret {secret:?} to sign with")]
    NoSecret { route: String, secret: &'static str },
    #[error(
        "how {0:?} signs is not known here; give the headers yourself with --header 'name: value', or send a whole request with --request"
    )]
    UnknownProvider(String),
    #[error("a Magnétis webhook is a form or a JSON object with data and event")]
    NotMagnetis,
    #[error(
        "canonicalization {0:?} is not one this command signs; it signs form-flat, json-top-slice, url-raw and raw"
    )]
    Canonicalization(String),
}

/// A client that posts as providers do: no redirects, no proxy.
///
/// # Errors
///
/// When TLS cannot be set up.
pub fn client(timeout: Duration) -> reqwest::Result<reqwest::Client> {
    // An error means that the process has a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(timeout)
        .build()
}

/// The sample webhooks of a provider, in the order of a call's life.
pub fn samples(provider: &str) -> Vec<Sample> {
    let mut samples: Vec<_> = plugin::SAMPLES
        .iter()
        .filter(|(owner, ..)| *owner == provider)
        .map(|(provider, name, request)| sample(provider, name, request))
        .collect();
    samples.sort_by_key(|sample| (stage(sample.name), sample.name));
    samples
}

/// Splits an HTTP request as text into what a sample needs.
fn sample(provider: &'static str, name: &'static str, request: &[u8]) -> Sample {
    let end = request
        .windows(2)
        .position(|pair| pair == b"\n\n")
        .unwrap_or(request.len());
    let head = String::from_utf8_lossy(&request[..end]);
    let content_type = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
        .map_or_else(|| "application/json".to_owned(), |(_, value)| value.trim().to_owned());
    let body = request.get(end + 2..).unwrap_or_default().to_vec();
    Sample {
        provider,
        name,
        content_type,
        body,
    }
}

/// Where in a call's life an event stands, by its name.
fn stage(name: &str) -> usize {
    const STAGES: [&str; 9] = [
        "initiated",
        "queued",
        "ringing",
        "started",
        "answered",
        "paused",
        "resumed",
        "transcript",
        "transferred",
    ];
    STAGES
        .iter()
        .position(|stage| name.contains(stage))
        .unwrap_or(STAGES.len())
}

impl Sample {
    /// The body with another identity, so that it is an event of its own and not the same one again.
    pub fn fresh(&self) -> Vec<u8> {
        self.identified(getrandom::u64().expect("the operating system has randomness once the process runs"))
    }

    /// The body with the identity of this number. Samples of one provider with one number are about the same call.
    pub fn identified(&self, random: u64) -> Vec<u8> {
        let uuid = format!(
            "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
            random >> 32,
            (random >> 16) & 0xffff,
            random & 0xfff,
            (random >> 12) & 0xfff,
            random & 0xffff_ffff_ffff
        );
        // What a JavaScript number still holds exactly.
        let number = (random >> 12).to_string();
        let keys: &[&str] = match self.provider {
            "magpipe" => &["call_record_id", "sms_message_id", "chat_session_id", "message_id"],
            "magnetis" => &["id"],
            "voxagent" => &["session_id"],
            "topcalls" => &["call_id", "campaign_id"],
            "salpre" => &["call_id", "id"],
            _ => &[],
        };
        let mut text = String::from_utf8_lossy(&self.body).into_owned();
        if self.content_type.starts_with("application/x-www-form-urlencoded") {
            const KEY: &str = "%5Bidcall%5D=";
            if let Some(start) = text.find(KEY).map(|at| at + KEY.len()) {
                let end = text[start..].find('&').map_or(text.len(), |length| start + length);
                text.replace_range(start..end, &number);
            }
            return text.into_bytes();
        }
        for key in keys {
            let key = format!("\"{key}\":");
            let Some(start) = text.find(&key).map(|at| at + key.len()) else {
                continue;
            };
            let start = start + text[start..].len() - text[start..].trim_start().len();
            let end = text[start..]
                .find([',', '}'])
                .map_or(text.len(), |length| start + length);
            let old = &text[start..end];
            let new = match old.trim_matches('"') {
                _ if !old.starts_with('"') => number.clone(),
                // Magnétis tells the kind of a resource by this prefix.
                known => match known.split_once('-').filter(|_| self.provider == "magnetis") {
                    Some((prefix, _)) => format!("\"{prefix}-{uuid}\""),
                    None => format!("\"{uuid}\""),
                },
            };
            text.replace_range(start..end, &new);
        }
        text.into_bytes()
    }
}

/// The headers with which the route's provider would prove that it sent these bytes to `url`.
///
/// # Errors
///
/// [`Error`] when the route has no secret for it or the provider is not one of the five.
pub fn sign(route: &Route, url: &str, content_type: &str, body: &[u8]) -> Result<Vec<(String, String)>, Error> {
    let header = |name: &str, value: String| Ok(vec![(name.to_owned(), value)]);
    match route.provider.as_str() {
        "magpipe" => header(
            "x-magpipe-signature",
            format!("sha256={}", hex(&sha256(secret(route, "signing")?, body))),
        ),
        "topcalls" => header("x-topcalls-signature", hex(&sha256(secret(route, "signing")?, body))),
        "voxagent" => {
            let name = route.options["signature_header"]
                .as_str()
                .unwrap_or("x-webhook-signature");
            header(name, hex(&sha256(secret(route, "signing")?, body)))
        }
        "salpre" => {
            let token = String::from_utf8_lossy(secret(route, "token")?).into_owned();
            let name = match &route.options["header"] {
                Value::String(name) => name.as_str(),
                Value::Array(names) => names.first().and_then(Value::as_str).unwrap_or("authorization"),
                _ => "authorization",
            };
            let bearer = name.eq_ignore_ascii_case("authorization");
            header(name, if bearer { format!("Bearer {token}") } else { token })
        }
        "magnetis" => {
            let mut mac = Hmac::<Sha1>::new_from_slice(secret(route, "signing")?).expect("HMAC takes any key");
            for part in magnetis_message(&route.options, url, content_type, body)? {
                mac.update(&part);
            }
            header(
                "x-calltracking-signature",
                BASE64_STANDARD.encode(mac.finalize().into_bytes()),
            )
        }
        other => Err(Error::UnknownProvider(other.to_owned())),
    }
}

fn secret<'r>(route: &'r Route, name: &'static str) -> Result<&'r [u8], Error> {
    let found = route
        .secrets
        .iter()
        .find(|(known, _)| known == name)
        .and_then(|(_, values)| values.first());
    found.map(|secret| secret.expose()).ok_or_else(|| Error::NoSecret {
        route: route.name.clone(),
        secret: name,
    })
}

fn sha256(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(body);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The vendor's recipe: the URL, then every variable's name and value in the order of the names.
fn magnetis_message(options: &Value, url: &str, content_type: &str, body: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    #[derive(Deserialize)]
    struct Variables<'a> {
        #[serde(borrow)]
        data: &'a RawValue,
        event: String,
    }
    let form = content_type.starts_with("application/x-www-form-urlencoded");
    let name = match options["canonicalization"].as_str() {
        None | Some("auto") => {
            if form {
                "form-flat"
            } else {
                "json-top-slice"
            }
        }
        Some(pinned) => pinned,
    };
    let url = url.as_bytes().to_vec();
    match name {
        "raw" => Ok(vec![body.to_vec()]),
        "url-raw" => Ok(vec![url, body.to_vec()]),
        "form-flat" => {
            let mut variables: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
            variables.sort();
            let text = variables
                .into_iter()
                .flat_map(|(name, value)| [name.into_bytes(), value.into_bytes()]);
            Ok(std::iter::once(url).chain(text).collect())
        }
        "json-top-slice" => {
            let variables: Variables<'_> = serde_json::from_slice(body).map_err(|_| Error::NotMagnetis)?;
            let parts = ["data", variables.data.get(), "event", &variables.event];
            Ok(std::iter::once(url)
                .chain(parts.map(|part| part.as_bytes().to_vec()))
                .collect())
        }
        other => Err(Error::Canonicalization(other.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_provider_has_samples_and_each_can_be_made_fresh() {
        for provider in ["magnetis", "magpipe", "salpre", "topcalls", "voxagent"] {
            let samples = samples(provider);
            assert!(!samples.is_empty(), "{provider}");
            for sample in samples {
                let fresh = sample.fresh();
                assert_ne!(fresh, sample.body, "{provider} {}", sample.name);
                if sample.content_type.starts_with("application/json") {
                    serde_json::from_slice::<Value>(&fresh).expect("a fresh body is still JSON");
                }
            }
        }
    }
}
