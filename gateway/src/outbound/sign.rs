//! Signs one attempt of a delivery, by [Standard Webhooks] or in the form a subscriber already checks.
//!
//! Pure: the time of the attempt is handed in. Every attempt is signed afresh, because receivers refuse timestamps that
//! are more than a few minutes old and the last attempt may be days after the first.
//!
//! [Standard Webhooks]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac as _};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::{SignedDuration, Timestamp};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use sha1::Sha1;
use sha2::{Sha256, Sha512};

use crate::{
    config::{Algorithm, CustomSignature, Encoding, Over, Signature, SigningKey},
    event::{EventId, Kept},
};

/// Names the event; the same on every attempt, so that a receiver can recognise a delivery it has had before.
pub const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
/// When this attempt was made, in Unix seconds.
pub const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
/// The signatures, one a live key, separated by spaces.
pub const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// How far a timestamp may be from the receiver's clock, either way: five minutes, as the libraries of Standard Webhooks
/// have it.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// Why a subscriber's keys or form of signature cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("no key can make this form of signature")]
    NoKey,
    #[error("an Ed25519 seed is 32 bytes")]
    Seed,
    #[error("the signature's prefix cannot stand in a header")]
    Prefix,
}

/// A subscriber's keys, ready to sign.
pub struct Signer {
    form: Form,
}

enum Form {
    Standard {
        hmac: Vec<Hmac<Sha256>>,
        ed25519: Vec<Ed25519KeyPair>,
    },
    Custom {
        form: CustomSignature,
        key: Box<CustomKey>,
    },
}

/// A keyed state costs two hash blocks to make and nothing to clone, so it is made once and cloned for every signature.
#[derive(Clone)]
enum CustomKey {
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha512(Hmac<Sha512>),
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer(…)")
    }
}

/// An attempt that is ready to be sent. Only [`Signer::sign`] makes one.
#[derive(Debug, Clone)]
pub struct Signed {
    /// `webhook-id`, `webhook-timestamp` and the signature.
    pub(super) headers: HeaderMap,
    /// The event as this subscriber gets it; shared, never copied.
    pub(super) body: Bytes,
}

impl Signed {
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    pub fn body(&self) -> &Bytes {
        &self.body
    }
}

impl Signer {
    /// Prepares the keys.
    ///
    /// Standard Webhooks signs with every live key. A custom form has room for one signature only, so the first HMAC key
    /// makes it.
    ///
    /// # Errors
    ///
    /// When a key is unusable, or none fits the form.
    pub fn new(keys: &[SigningKey], signature: &Signature) -> Result<Self, Error> {
        let form = match signature {
            Signature::StandardWebhooks => {
                let (mut hmac, mut ed25519) = (Vec::new(), Vec::new());
                for key in keys {
                    match key {
                        SigningKey::Hmac(secret) => hmac.push(keyed::<Hmac<Sha256>>(secret.expose())),
                        SigningKey::Ed25519(seed) => ed25519.push(key_pair(seed.expose())?),
                    }
                }
                if hmac.is_empty() && ed25519.is_empty() {
                    return Err(Error::NoKey);
                }
                Form::Standard { hmac, ed25519 }
            }
            Signature::Custom(form) => {
                HeaderValue::from_str(&form.prefix).map_err(|_| Error::Prefix)?;
                let secret = keys
                    .iter()
                    .find_map(|key| match key {
                        SigningKey::Hmac(secret) => Some(secret.expose()),
                        SigningKey::Ed25519(_) => None,
                    })
                    .ok_or(Error::NoKey)?;
                let key = match form.algorithm {
                    Algorithm::HmacSha1 => CustomKey::Sha1(keyed(secret)),
                    Algorithm::HmacSha256 => CustomKey::Sha256(keyed(secret)),
                    Algorithm::HmacSha512 => CustomKey::Sha512(keyed(secret)),
                };
                Form::Custom {
                    form: form.clone(),
                    key: Box::new(key),
                }
            }
        };
        Ok(Self { form })
    }

    /// Signs an event for an attempt made at `at`.
    pub fn sign(&self, event: &Kept, at: Timestamp) -> Signed {
        self.sign_body(&event.id, &event.json, at)
    }

    /// The same for an event that a subscriber gets in parts.
    pub(super) fn sign_body(&self, id: &EventId, body: &Bytes, at: Timestamp) -> Signed {
        let timestamp = at.as_second().to_string();
        let (name, value) = match &self.form {
            Form::Standard { hmac, ed25519 } => (
                WEBHOOK_SIGNATURE,
                standard(hmac, ed25519, id.as_str(), &timestamp, body),
            ),
            Form::Custom { form, key } => (form.header.clone(), custom(form, key, id.as_str(), &timestamp, body)),
        };
        let mut headers = HeaderMap::with_capacity(16);
        headers.insert(WEBHOOK_ID, ascii(id.as_str().to_owned()));
        headers.insert(WEBHOOK_TIMESTAMP, ascii(timestamp));
        headers.insert(name, ascii(value));
        Signed {
            headers,
            body: body.clone(),
        }
    }
}

fn standard(hmac: &[Hmac<Sha256>], ed25519: &[Ed25519KeyPair], id: &str, timestamp: &str, body: &[u8]) -> String {
    let head = format!("{id}.{timestamp}.");
    let mut value = String::with_capacity(48 * hmac.len() + 96 * ed25519.len());
    for key in hmac {
        let tag = key
            .clone()
            .chain_update(&head)
            .chain_update(body)
            .finalize()
            .into_bytes();
        push(&mut value, "v1,", &tag);
    }
    if !ed25519.is_empty() {
        // Ed25519 hashes its message twice, so it cannot be fed in parts as the HMAC is.
        let message = [head.as_bytes(), body].concat();
        for key in ed25519 {
            push(&mut value, "v1a,", key.sign(&message).as_ref());
        }
    }
    value
}

fn push(value: &mut String, version: &str, signature: &[u8]) {
    if !value.is_empty() {
        value.push(' ');
    }
    value.push_str(version);
    BASE64.encode_string(signature, value);
}

fn custom(form: &CustomSignature, key: &CustomKey, id: &str, timestamp: &str, body: &[u8]) -> String {
    let head = match form.over {
        Over::Body => String::new(),
        Over::TimestampBody => format!("{timestamp}."),
        Over::IdTimestampBody => format!("{id}.{timestamp}."),
    };
    let tag = match key.clone() {
        CustomKey::Sha1(key) => key
            .chain_update(&head)
            .chain_update(body)
            .finalize()
            .into_bytes()
            .to_vec(),
        CustomKey::Sha256(key) => key
            .chain_update(&head)
            .chain_update(body)
            .finalize()
            .into_bytes()
            .to_vec(),
        CustomKey::Sha512(key) => key
            .chain_update(&head)
            .chain_update(body)
            .finalize()
            .into_bytes()
            .to_vec(),
    };
    let mut value = form.prefix.clone();
    match form.encoding {
        Encoding::Base64 => BASE64.encode_string(tag, &mut value),
        Encoding::Hex => {
            for byte in tag {
                value.push(char::from(b"0123456789abcdef"[usize::from(byte >> 4)]));
                value.push(char::from(b"0123456789abcdef"[usize::from(byte & 15)]));
            }
        }
    }
    value
}

fn keyed<M: KeyInit>(secret: &[u8]) -> M {
    M::new_from_slice(secret).expect("HMAC takes a key of any length")
}

fn key_pair(seed: &[u8]) -> Result<Ed25519KeyPair, Error> {
    Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| Error::Seed)
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("ids, digits, base64, hex and a checked prefix are visible ASCII")
}

/// Why a request is not an authentic, fresh Standard Webhooks delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAuthentic {
    #[error("a webhook header is missing or unreadable")]
    Header,
    #[error("the timestamp is more than five minutes away")]
    Stale,
    #[error("no signature fits the body")]
    Signature,
}

/// Checks a delivery as its receiver does (Standard Webhooks, "Verifying webhook authenticity"): any signature by any of
/// the keys will do, compared in constant time, and the timestamp must be within five minutes of `now`.
///
/// # Errors
///
/// When the delivery must not be trusted.
pub fn verify(keys: &[SigningKey], headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), NotAuthentic> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .ok_or(NotAuthentic::Header)
    };
    let (id, timestamp, signatures) = (text(WEBHOOK_ID)?, text(WEBHOOK_TIMESTAMP)?, text(WEBHOOK_SIGNATURE)?);
    let seconds = timestamp.parse().map_err(|_| NotAuthentic::Header)?;
    let at = Timestamp::from_second(seconds).map_err(|_| NotAuthentic::Header)?;
    if now.duration_since(at).abs() > TOLERANCE {
        return Err(NotAuthentic::Stale);
    }
    let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].concat();
    let fits = |(version, signature): (&str, &str)| {
        let Ok(signature) = BASE64.decode(signature) else {
            return false;
        };
        keys.iter().any(|key| match (version, key) {
            ("v1", SigningKey::Hmac(secret)) => keyed::<Hmac<Sha256>>(secret.expose())
                .chain_update(&message)
                .verify_slice(&signature)
                .is_ok(),
            ("v1a", SigningKey::Ed25519(seed)) => key_pair(seed.expose()).is_ok_and(|pair| {
                UnparsedPublicKey::new(&ED25519, pair.public_key())
                    .verify(&message, &signature)
                    .is_ok()
            }),
            _ => false,
        })
    };
    let mut candidates = signatures.split(' ').filter_map(|signature| signature.split_once(','));
    if candidates.any(fits) {
        Ok(())
    } else {
        Err(NotAuthentic::Signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock, config::Secret, event::Facts};

    fn event(json: &'static [u8]) -> Kept {
        Kept {
            seq: 7,
            id: EventId::derive("magpipe", "call.completed:1"),
            kind: "call.completed".into(),
            subject: "magpipe/1".into(),
            route: "magpipe".into(),
            time: Timestamp::UNIX_EPOCH,
            kept_at: Timestamp::UNIX_EPOCH,
            facts: Facts::default(),
            json: Bytes::from_static(json),
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn hmac_key(bytes: impl Into<Vec<u8>>) -> SigningKey {
        SigningKey::Hmac(Secret::new(bytes))
    }

    fn signature(signed: &Signed) -> &str {
        signed.headers[WEBHOOK_SIGNATURE].to_str().unwrap()
    }

    #[test]
    fn the_example_of_the_specification() {
        // "Signature scheme" of the specification and the tests of its reference libraries use this key and message.
        let secret = BASE64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let value = standard(
            &[keyed(&secret)],
            &[],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "1614265330",
            br#"{"test": 2432232314}"#,
        );
        assert_eq!(value, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let theirs = standardwebhooks::Webhook::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let theirs = theirs.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, br#"{"test": 2432232314}"#);
        assert_eq!(value, theirs.unwrap());
    }

    #[test]
    fn the_reference_library_accepts_every_live_secret() {
        let (old, new) = (vec![1; 24], vec![2; 32]);
        let signer = Signer::new(
            &[hmac_key(new.clone()), hmac_key(old.clone())],
            &Signature::StandardWebhooks,
        )
        .unwrap();
        let signed = signer.sign(&event(br#"{"type":"call.completed"}"#), clock::now());
        for secret in [old, new] {
            let theirs = standardwebhooks::Webhook::from_bytes(secret).unwrap();
            theirs.verify(&signed.body, &signed.headers).unwrap();
        }
        let other = standardwebhooks::Webhook::from_bytes(vec![3; 24]).unwrap();
        assert!(other.verify(&signed.body, &signed.headers).is_err());
    }

    #[test]
    fn the_reference_library_makes_the_same_signature() {
        let signer = Signer::new(&[hmac_key([9; 24])], &Signature::StandardWebhooks).unwrap();
        let event = event("{\"customer\":\"Zoë\"}".as_bytes());
        let signed = signer.sign(&event, at(1_700_000_000));
        let theirs = standardwebhooks::Webhook::from_bytes(vec![9; 24])
            .unwrap()
            .sign(event.id.as_str(), 1_700_000_000, &event.json)
            .unwrap();
        assert_eq!(signature(&signed), theirs);
        assert_eq!(signed.headers[WEBHOOK_ID], event.id.as_str());
        assert_eq!(signed.headers[WEBHOOK_TIMESTAMP], "1700000000");
    }

    #[test]
    fn ed25519_stands_beside_hmac() {
        let seed = [5; 32];
        let keys = [SigningKey::Ed25519(Secret::new(seed)), hmac_key([1; 24])];
        let signer = Signer::new(&keys, &Signature::StandardWebhooks).unwrap();
        let event = event(b"{}");
        let signed = signer.sign(&event, at(1_700_000_000));
        let (hmac, ed25519) = signature(&signed).split_once(' ').unwrap();
        assert!(hmac.starts_with("v1,"));
        let public = Ed25519KeyPair::from_seed_unchecked(&seed)
            .unwrap()
            .public_key()
            .as_ref()
            .to_vec();
        UnparsedPublicKey::new(&ED25519, public)
            .verify(
                format!("{}.1700000000.{{}}", event.id).as_bytes(),
                &BASE64.decode(ed25519.strip_prefix("v1a,").unwrap()).unwrap(),
            )
            .unwrap();
        for key in keys {
            verify(&[key], &signed.headers, &signed.body, at(1_700_000_000)).unwrap();
        }
    }

    #[test]
    fn ed25519_agrees_with_rfc_8032() {
        // RFC 8032, 7.1, test 1: the seed, its public key and the signature over the empty message.
        let hex = |text: &str| -> Vec<u8> {
            (0..text.len())
                .step_by(2)
                .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
                .collect()
        };
        let pair = key_pair(&hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60")).unwrap();
        assert_eq!(
            pair.public_key().as_ref(),
            hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
        );
        assert_eq!(
            pair.sign(b"").as_ref(),
            hex(concat!(
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155",
                "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b"
            ))
        );
    }

    #[test]
    fn a_custom_form_is_what_was_asked_for() {
        let form = |algorithm, encoding, prefix: &str, over| {
            Signature::Custom(CustomSignature {
                header: HeaderName::from_static("x-signature"),
                algorithm,
                encoding,
                prefix: prefix.into(),
                over,
            })
        };
        let value = |signature: Signature, body: &'static [u8], key: &[u8]| {
            let signed = Signer::new(&[hmac_key(key)], &signature)
                .unwrap()
                .sign(&event(body), at(1_700_000_000));
            assert!(!signed.headers.contains_key(WEBHOOK_SIGNATURE));
            assert!(signed.headers.contains_key(WEBHOOK_ID) && signed.headers.contains_key(WEBHOOK_TIMESTAMP));
            signed.headers["x-signature"].to_str().unwrap().to_owned()
        };
        // RFC 2202 and RFC 4231, test case 2.
        let (body, key) = (b"what do ya want for nothing?", b"Jefe");
        assert_eq!(
            value(form(Algorithm::HmacSha1, Encoding::Hex, "sha1=", Over::Body), body, key),
            "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
        );
        assert_eq!(
            value(form(Algorithm::HmacSha256, Encoding::Base64, "", Over::Body), body, key),
            "W9zBRr9gdU5qBCQmCJV1x1oAPwidJzmDnexYuWTsOEM="
        );
        assert!(
            value(form(Algorithm::HmacSha512, Encoding::Hex, "", Over::Body), body, key)
                .starts_with("164b7a7bfcf819e2")
        );

        let over = |over| value(form(Algorithm::HmacSha256, Encoding::Hex, "", over), b"{}", key);
        let plain = |message: &str| {
            let tag = keyed::<Hmac<Sha256>>(key).chain_update(message).finalize().into_bytes();
            tag.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        };
        assert_eq!(over(Over::TimestampBody), plain("1700000000.{}"));
        assert_eq!(
            over(Over::IdTimestampBody),
            plain(&format!("{}.1700000000.{{}}", event(b"").id))
        );
    }

    #[test]
    fn keys_that_cannot_sign_are_refused_at_once() {
        let ed25519 = |length| SigningKey::Ed25519(Secret::new(vec![1; length]));
        let custom = Signature::Custom(CustomSignature {
            header: HeaderName::from_static("x-signature"),
            algorithm: Algorithm::HmacSha256,
            encoding: Encoding::Hex,
            prefix: "a\nb".into(),
            over: Over::Body,
        });
        assert_eq!(
            Signer::new(&[], &Signature::StandardWebhooks).unwrap_err(),
            Error::NoKey
        );
        assert_eq!(
            Signer::new(&[ed25519(31)], &Signature::StandardWebhooks).unwrap_err(),
            Error::Seed
        );
        assert_eq!(Signer::new(&[hmac_key([1; 24])], &custom).unwrap_err(), Error::Prefix);
    }

    #[test]
    fn verify_refuses_what_is_forged_or_old() {
        let keys = [hmac_key([1; 24])];
        let signed = Signer::new(&keys, &Signature::StandardWebhooks)
            .unwrap()
            .sign(&event(b"{}"), at(1_700_000_000));
        let check = |headers: &HeaderMap, body: &[u8], now| verify(&keys, headers, body, at(now));
        assert_eq!(check(&signed.headers, b"{}", 1_700_000_300), Ok(()));
        assert_eq!(check(&signed.headers, b"{}", 1_700_000_301), Err(NotAuthentic::Stale));
        assert_eq!(check(&signed.headers, b"{}", 1_699_999_699), Err(NotAuthentic::Stale));
        assert_eq!(
            check(&signed.headers, b"{ }", 1_700_000_000),
            Err(NotAuthentic::Signature)
        );
        assert_eq!(
            verify(&[hmac_key([2; 24])], &signed.headers, b"{}", at(1_700_000_000)),
            Err(NotAuthentic::Signature)
        );
        let mut headers = signed.headers.clone();
        headers.insert(
            WEBHOOK_SIGNATURE,
            HeaderValue::from_static("v1,AAAA v1a,AAAA v2,x junk"),
        );
        assert_eq!(check(&headers, b"{}", 1_700_000_000), Err(NotAuthentic::Signature));
        headers.remove(WEBHOOK_TIMESTAMP);
        assert_eq!(check(&headers, b"{}", 1_700_000_000), Err(NotAuthentic::Header));
    }
}
