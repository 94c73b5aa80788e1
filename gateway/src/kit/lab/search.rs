//! Which secret, read in which way, makes which signature of a request; or is shown in it.

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::Value;

use super::{
    Budget, Candidate,
    capture::Capture,
    message::{self, Message, Order},
    place::{self, Moment, Place, Presented, SIGNATURE_BYTES, Text},
    scheme::{Algorithm, Proof, Scheme, Signature},
};
use crate::plugin::{Hash, Key, KeyEncoding, PublicKey};

/// What a hash and the check of a signature cost besides their message, in bytes of the budget.
const HASH_BYTES: usize = 256;
const VERIFY_BYTES: usize = 16 << 10;
/// A shorter secret stands by chance in a body or a query.
const TOKEN_BYTES_MIN: usize = 8;
const PREFIX_BYTES_MAX: usize = 24;

/// What a search came to.
#[derive(Debug, Default)]
pub(super) struct Search {
    pub found: Option<Scheme>,
    pub moments: Vec<Moment>,
    /// What looks like a signature.
    pub presented: Vec<Presented>,
    /// Readings of secrets, and what they were held against.
    pub keys: usize,
    pub messages: usize,
}

/// A message that may be the signed one, and everything that may be its signature.
struct Trial<'t> {
    message: &'t Message,
    bytes: Vec<u8>,
    presented: &'t [Presented],
}

/// A secret read in one way.
struct Reading {
    candidate: usize,
    encoding: KeyEncoding,
    key: Key,
}

/// Looks for the first that fits: signatures before tokens, for a token fits wherever it stands.
pub(super) fn search(capture: &Capture, texts: &[Text], candidates: &[Candidate], budget: &mut Budget) -> Search {
    let mut search = Search {
        moments: place::moments(texts),
        presented: place::presented(texts),
        ..Search::default()
    };
    let readings = readings(candidates);
    search.keys = readings.len();
    let messages = match search.presented.is_empty() {
        true => Vec::new(),
        false => message::messages(capture, texts, &search.moments),
    };
    search.messages = messages.len();
    search.found = messages
        .iter()
        .find_map(|message| signature(message, &readings, &search.presented, budget))
        .or_else(|| jws(texts, &readings, budget))
        .or_else(|| token(texts, candidates));
    search
}

/// A reading that makes of the message something that is presented.
fn signature(message: &Message, readings: &[Reading], presented: &[Presented], budget: &mut Budget) -> Option<Scheme> {
    if !budget.take(message.length()) {
        return None;
    }
    let trial = Trial {
        message,
        bytes: message.bytes(),
        presented,
    };
    readings.iter().find_map(|reading| {
        let signature = reading
            .hashed(&trial, budget)
            .or_else(|| reading.signed(&trial, budget))?;
        Some(reading.scheme(Proof::Signature(signature)))
    })
}

impl Reading {
    /// By an HMAC, or by a plain hash with the key in it.
    fn hashed(&self, trial: &Trial<'_>, budget: &mut Budget) -> Option<Signature> {
        const RECIPES: [Option<Order>; 3] = [None, Some(Order::SecretFirst), Some(Order::SecretLast)];
        if self.encoding == KeyEncoding::Pem {
            return None;
        }
        let key = self.key.bytes();
        let hashes = Hash::ALL
            .into_iter()
            .filter(|hash| trial.presented.iter().any(|one| one.bytes.len() == hash.length()));
        let mut tries = hashes.flat_map(|hash| RECIPES.map(|order| (hash, order)));
        tries.find_map(|(hash, order)| {
            if !budget.take(HASH_BYTES + trial.bytes.len()) {
                return None;
            }
            let made = match order {
                None => hmac(hash, key, &trial.bytes),
                Some(Order::SecretFirst) => digest(hash, [key, &trial.bytes]),
                Some(Order::SecretLast) => digest(hash, [&trial.bytes, key]),
            };
            let presented = trial.presented.iter().find(|one| one.bytes == made)?.clone();
            let (algorithm, message) = match order {
                None => (hash.into(), trial.message.clone()),
                Some(order) => (Algorithm::Digest(hash.as_str()), trial.message.keyed(order)),
            };
            Some(Signature {
                presented,
                algorithm,
                message,
            })
        })
    }

    /// By a signature under a public key.
    fn signed(&self, trial: &Trial<'_>, budget: &mut Budget) -> Option<Signature> {
        let key = self.key.bytes();
        let kinds: &[PublicKey] = match self.encoding {
            KeyEncoding::Pem => &PublicKey::ALL,
            KeyEncoding::Base64 | KeyEncoding::Hex if key.len() == 32 => &[PublicKey::Ed25519],
            _ => &[],
        };
        let presented = trial
            .presented
            .iter()
            .filter(|one| SIGNATURE_BYTES.contains(&one.bytes.len()));
        let mut tries = presented.flat_map(|presented| kinds.iter().map(move |kind| (presented, *kind)));
        let (presented, kind) = tries.find(|(presented, kind)| {
            budget.take(VERIFY_BYTES + trial.bytes.len()) && kind.fits(key, &trial.bytes, &presented.bytes)
        })?;
        Some(Signature {
            presented: presented.clone(),
            algorithm: kind.into(),
            message: trial.message.clone(),
        })
    }

    fn scheme(&self, proof: Proof) -> Scheme {
        Scheme {
            candidate: self.candidate,
            encoding: self.encoding,
            proof,
        }
    }
}

fn readings(candidates: &[Candidate]) -> Vec<Reading> {
    let mut readings = Vec::new();
    for (candidate, Candidate { secret, .. }) in candidates.iter().enumerate() {
        for encoding in KeyEncoding::ALL {
            if let Ok(key) = encoding.decode(secret) {
                readings.push(Reading {
                    candidate,
                    encoding,
                    key,
                });
            }
        }
    }
    readings
}

fn hmac(hash: Hash, key: &[u8], message: &[u8]) -> Vec<u8> {
    let Ok(mac) = hash.hmac::<std::convert::Infallible>(key, |sink| {
        sink(message);
        Ok(())
    });
    mac
}

fn digest(hash: Hash, parts: [&[u8]; 2]) -> Vec<u8> {
    let Ok(digest) = hash.digest::<std::convert::Infallible>(|sink| {
        parts.into_iter().for_each(sink);
        Ok(())
    });
    digest
}

/// A compact JWS that one of the keys fits.
fn jws(texts: &[Text], readings: &[Reading], budget: &mut Budget) -> Option<Scheme> {
    texts.iter().find_map(|text| {
        let tokens = place::words(&text.value).into_iter().map(|word| &text.value[word]);
        let mut tokens = tokens.filter_map(Compact::parse);
        tokens.find_map(|token| {
            let mut readings = readings.iter();
            let fitting =
                readings.find(|reading| budget.take(VERIFY_BYTES + token.signed.len()) && token.fits(reading))?;
            Some(fitting.scheme(Proof::Jws {
                place: text.place.clone(),
                algorithm: token.algorithm,
                claims: token.claims.clone(),
            }))
        })
    })
}

struct Compact<'t> {
    algorithm: &'static str,
    signed: &'t str,
    claims: Value,
    signature: Vec<u8>,
}

impl<'t> Compact<'t> {
    fn parse(token: &'t str) -> Option<Self> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (head, claims) = signed.split_once('.')?;
        let decode = |segment: &str| BASE64_URL_SAFE_NO_PAD.decode(segment).ok();
        let head: Value = serde_json::from_slice(&decode(head)?).ok()?;
        let named = head["alg"].as_str()?;
        Some(Self {
            algorithm: ["HS256", "ES256", "RS256", "EdDSA"]
                .into_iter()
                .find(|known| *known == named)?,
            signed,
            claims: serde_json::from_slice(&decode(claims)?).ok()?,
            signature: decode(signature)?,
        })
    }

    fn fits(&self, reading: &Reading) -> bool {
        let key = reading.key.bytes();
        match PublicKey::of_jws(self.algorithm) {
            Some(kind) => {
                reading.encoding != KeyEncoding::Utf8 && kind.fits(key, self.signed.as_bytes(), &self.signature)
            }
            None => {
                reading.encoding != KeyEncoding::Pem
                    && hmac(Hash::Sha256, key, self.signed.as_bytes()) == self.signature
            }
        }
    }
}

/// Whether a text is a compact JWS by its shape.
pub(super) fn is_jws(text: &Text) -> bool {
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_token = |word: &str| {
        let segments: Vec<_> = word.split('.').collect();
        // What begins so begins with `{"`.
        segments.len() == 3
            && word.starts_with("eyJ")
            && segments.iter().all(|segment| segment.bytes().all(is_base64url))
    };
    place::words(&text.value)
        .into_iter()
        .any(|word| is_token(&text.value[word]))
}

/// A secret that is shown as it is.
fn token(texts: &[Text], candidates: &[Candidate]) -> Option<Scheme> {
    let shown = |text: &Text, secret: &str| {
        let is_header = matches!(text.place, Place::Header(_));
        let prefix = text.value.strip_suffix(secret)?;
        let fits = match prefix {
            "" => is_header || secret.len() >= TOKEN_BYTES_MIN,
            _ => is_header && secret.len() >= TOKEN_BYTES_MIN && is_prefix(prefix),
        };
        fits.then(|| Proof::Token {
            place: text.place.clone(),
            prefix: prefix.to_owned(),
        })
    };
    let secrets = || {
        let secrets = candidates.iter().enumerate();
        secrets.filter_map(|(at, candidate)| Some((at, std::str::from_utf8(candidate.secret.expose()).ok()?)))
    };
    texts.iter().find_map(|text| {
        secrets().find_map(|(candidate, secret)| {
            let basic = || {
                password(text)
                    .filter(|password| password == secret)
                    .map(|_| Proof::Basic)
            };
            Some(Scheme {
                candidate,
                encoding: KeyEncoding::Utf8,
                proof: shown(text, secret).or_else(basic)?,
            })
        })
    })
}

/// What may stand before a token: `Bearer `, `token=`.
fn is_prefix(text: &str) -> bool {
    let name = text.trim_end_matches([' ', '=', ':']);
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    name.len() < text.len() && text.len() <= PREFIX_BYTES_MAX && name.bytes().all(is_name)
}

/// The password of basic authentication.
fn password(text: &Text) -> Option<String> {
    let (scheme, credentials) = text.value.split_once(' ')?;
    if text.place != Place::Header("authorization".to_owned()) || !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = String::from_utf8(BASE64_STANDARD.decode(credentials.trim()).ok()?).ok()?;
    credentials.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn candidates(secrets: &[&str]) -> Vec<Candidate> {
        let candidate = |secret: &&str| Candidate {
            label: "a secret".to_owned(),
            env: None,
            secret: Secret::new(*secret),
            is_trimmed: false,
        };
        secrets.iter().map(candidate).collect()
    }

    fn find(head: &str, body: &str, secrets: &[&str]) -> Option<Scheme> {
        find_within(&mut Budget(1 << 30), head, body, secrets)
    }

    fn find_within(budget: &mut Budget, head: &str, body: &str, secrets: &[&str]) -> Option<Scheme> {
        let text = format!("POST /hooks/acme HTTP/1.1\nhost: h.example\n{head}\n\n{body}");
        let capture = Capture::read(text.as_bytes(), None).unwrap();
        search(&capture, &place::texts(&capture.webhook), &candidates(secrets), budget).found
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn signed(hash: Hash, key: &[u8], message: &str) -> Vec<u8> {
        hmac(hash, key, message.as_bytes())
    }

    #[test]
    fn a_signature_is_found_under_every_recipe() {
        const BODY: &str = r#"{"b":1, "a":"x"}"#;
        const KEY: &str = "key-of-the-test";
        const TIME: &str = "1780315197";
        for (template, message) in [
            ("{body}", BODY.to_owned()),
            ("{timestamp}.{body}", format!("{TIME}.{BODY}")),
            ("{timestamp}:{body}", format!("{TIME}:{BODY}")),
            ("{timestamp}|{body}", format!("{TIME}|{BODY}")),
            ("{timestamp}{body}", format!("{TIME}{BODY}")),
            ("{body}{timestamp}", format!("{BODY}{TIME}")),
            ("v0:{timestamp}:{body}", format!("v0:{TIME}:{BODY}")),
            ("{header:x-id}.{timestamp}.{body}", format!("msg_1.{TIME}.{BODY}")),
            ("{url}{body}", format!("https://h.example/hooks/acme{BODY}")),
            ("{url}", "https://h.example:443/hooks/acme".to_owned()),
            ("{method}{path}{body}", format!("POST/hooks/acme{BODY}")),
            (
                "{timestamp}{method}{path}{body}",
                format!("{TIME}POST/hooks/acme{BODY}"),
            ),
            ("{body, without spaces}", r#"{"b":1,"a":"x"}"#.to_owned()),
            (
                "{timestamp}.{body, members sorted, without spaces}",
                format!(r#"{TIME}.{{"a":"x","b":1}}"#),
            ),
        ] {
            for hash in Hash::ALL {
                let signature = hex(&signed(hash, KEY.as_bytes(), &message));
                let head = format!("x-time: {TIME}\nx-id: msg_1\nx-signature: v1={signature}");
                let found = find(&head, BODY, &["another", KEY]).unwrap_or_else(|| panic!("{template}"));
                let Proof::Signature(fitting) = &found.proof else {
                    panic!("{template}: {found:?}");
                };
                let said = fitting.message.template().replace("{path and query}", "{path}");
                assert_eq!((found.candidate, &*said, fitting.algorithm), (1, template, hash.into()));
                assert_eq!(fitting.shown(), "v1={signature}");
            }
            let body = BODY.replace('x', "y");
            let head = format!("x-signature: {}", hex(&signed(Hash::Sha256, KEY.as_bytes(), BODY)));
            assert!(find(&head, &body, &[KEY]).is_none(), "{template}");
        }
    }

    #[test]
    fn a_plain_hash_with_the_secret_in_it_is_found() {
        for (parts, template) in [
            (["key", "1780315197{}"], "{secret}{timestamp}{body}"),
            (["{}", "key"], "{body}{secret}"),
        ] {
            let signature = hex(&digest(Hash::Sha256, parts.map(str::as_bytes)));
            let head = format!("x-time: 1780315197\nx-signature: {signature}");
            let found = find(&head, "{}", &["a_decoy", "key"]).unwrap();
            let Proof::Signature(fitting) = &found.proof else {
                panic!("{found:?}");
            };
            let is_declarable = fitting.message.is_declarable();
            assert_eq!(
                (
                    found.candidate,
                    fitting.algorithm,
                    &*fitting.message.template(),
                    is_declarable
                ),
                (1, Algorithm::Digest("sha256"), template, false)
            );
            assert!(find(&head, "[]", &["key"]).is_none());
        }
    }

    #[test]
    fn a_secret_is_read_in_every_way() {
        for (secret, key, encoding) in [
            ("whsec_AAEC", &b"whsec_AAEC"[..], KeyEncoding::Utf8),
            ("whsec_AAEC", &[0, 1, 2], KeyEncoding::StandardWebhooks),
            ("AAEC/w==", &[0, 1, 2, 255], KeyEncoding::Base64),
            ("000102ff", &[0, 1, 2, 255], KeyEncoding::Hex),
        ] {
            let head = format!("x-signature: {}", BASE64_STANDARD.encode(signed(Hash::Sha1, key, "{}")));
            let found = find(&head, "{}", &[secret]).unwrap();
            assert_eq!(found.encoding, encoding);
        }
    }

    #[test]
    fn no_work_is_done_that_the_budget_is_not_for() {
        let head = format!("x-signature: {}", hex(&signed(Hash::Sha256, b"key", "{}")));
        // The message is put together; then come an HMAC and two plain hashes with one key, and an HMAC with the other.
        let enough = 2 + 4 * (HASH_BYTES + 2) + 1;
        for (bytes, is_found) in [(enough, true), (enough - 1, false)] {
            let mut budget = Budget(bytes);
            assert_eq!(
                find_within(&mut budget, &head, "{}", &["a_decoy", "key"]).is_some(),
                is_found
            );
            assert_eq!(budget.is_spent(), !is_found);
        }
    }

    #[test]
    fn a_token_is_found_where_it_is_shown() {
        const TOKEN: &str = "slp_test_token_0001";
        let basic = BASE64_STANDARD.encode(format!("user:{TOKEN}"));
        let place = |head: &str, body: &str| match find(head, body, &["another-token", TOKEN])?.proof {
            Proof::Token { place, prefix } => Some(format!("{prefix}{place}")),
            Proof::Basic => Some("basic".to_owned()),
            Proof::Signature(_) | Proof::Jws { .. } => None,
        };
        let said = |text: &str| Some(text.to_owned());
        assert_eq!(
            place(&format!("authorization: Bearer {TOKEN}"), ""),
            said("Bearer header authorization")
        );
        assert_eq!(place(&format!("x-api-key: {TOKEN}"), ""), said("header x-api-key"));
        assert_eq!(place(&format!("authorization: Basic {basic}"), ""), said("basic"));
        assert_eq!(
            place("a: b", &format!(r#"{{"a":{{"token":"{TOKEN}"}}}}"#)),
            said("member /a/token of the body")
        );
        let form = "content-type: application/x-www-form-urlencoded";
        assert_eq!(place(form, &format!("a=b&key={TOKEN}")), said("form parameter key"));
        assert_eq!(place(&format!("x: another key-{TOKEN}"), ""), None);
        assert_eq!(place(&format!("x: {TOKEN}-and-more"), ""), None);
    }
}
