//! [`crypto`](crate::crypto) in a native build.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::{Evidence, TestHost, host};
use crate::crypto::{Failure, JwsRules, Part};

/// See the contract; every live value of the secret is tried.
pub fn verify_hmac(secret: &str, algorithm: &str, message: &[Part<'_>], signature: &[u8]) -> Result<(), Failure> {
    let host = host();
    let message_bytes = joined(&host, message, None)?;
    for (place, key) in keys(&host, secret)?.iter().enumerate() {
        if equal(&mac(algorithm, key, &message_bytes)?, signature) {
            host.note(signed(message));
            host.seen.fitting.replace(Some((secret.to_owned(), place)));
            return Ok(());
        }
    }
    Err(Failure::Mismatch)
}

/// See the contract.
pub fn verify_token(secret: &str, presented: &[u8]) -> Result<(), Failure> {
    let host = host();
    let place = keys(&host, secret)?.iter().position(|key| equal(key, presented));
    let place = place.ok_or(Failure::Mismatch)?;
    host.note(Evidence::Token);
    host.seen.fitting.replace(Some((secret.to_owned(), place)));
    Ok(())
}

/// See the contract; one live value of one secret is tried at a time.
pub fn verify_digest(algorithm: &str, message: &[Part<'_>], expected: &[u8]) -> Result<(), Failure> {
    let host = host();
    let mut secrets = message.iter().filter_map(|part| {
        if let Part::Secret(name) = part {
            Some(*name)
        } else {
            None
        }
    });
    let name = secrets
        .next()
        .ok_or_else(|| Failure::Refused("no secret among the parts".to_owned()))?;
    if secrets.any(|other| other != name) {
        return Err(Failure::Refused("parts of two secrets".to_owned()));
    }
    for key in keys(&host, name)? {
        if equal(&digest(algorithm, &joined(&host, message, Some(key))?)?, expected) {
            host.note(signed(message));
            return Ok(());
        }
    }
    Err(Failure::Mismatch)
}

/// See the contract; every live value of the key is tried.
#[cfg(feature = "testing")]
pub fn verify_signature(key: &str, algorithm: &str, message: &[Part<'_>], signature: &[u8]) -> Result<(), Failure> {
    use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
    let host = host();
    let verifier: &dyn VerificationAlgorithm = match algorithm {
        "ed25519" => &signature::ED25519,
        "ecdsa-p256-sha256-der" => &signature::ECDSA_P256_SHA256_ASN1,
        "ecdsa-p256-sha256-raw" => &signature::ECDSA_P256_SHA256_FIXED,
        "rsa-pkcs1-sha256" => &signature::RSA_PKCS1_2048_8192_SHA256,
        _ => return Err(unknown(algorithm)),
    };
    let message_bytes = joined(&host, message, None)?;
    let mut keys = keys(&host, key)?.iter();
    if !keys.any(|key| {
        UnparsedPublicKey::new(verifier, key)
            .verify(&message_bytes, signature)
            .is_ok()
    }) {
        return Err(Failure::Mismatch);
    }
    host.note(signed(message));
    Ok(())
}

/// Not here: see the [module](crate::testing).
#[cfg(not(feature = "testing"))]
pub fn verify_signature(_: &str, algorithm: &str, _: &[Part<'_>], _: &[u8]) -> Result<(), Failure> {
    Err(Failure::Refused(format!(
        "{algorithm} is not available without the feature `testing`"
    )))
}

/// Not here: see the [module](crate::testing).
pub fn verify_jws(_: &str, _: &str, rules: JwsRules<'_>) -> Result<String, Failure> {
    Err(Failure::Refused(format!(
        "{} is not available outside the gateway",
        rules.algorithm
    )))
}

/// See the contract; computed with the live value that fitted before, otherwise with the first.
pub fn hmac(secret: &str, algorithm: &str, message: &[Part<'_>]) -> Result<Vec<u8>, Failure> {
    let host = host();
    if host.seen.evidence.get() == Evidence::Nothing {
        return Err(Failure::Refused("nothing was verified before".to_owned()));
    }
    if !host.allow_hmac {
        return Err(Failure::Misconfigured("the route needs `allow_hmac`".to_owned()));
    }
    let place = match &*host.seen.fitting.borrow() {
        Some((fitting, place)) if fitting == secret => *place,
        _ => 0,
    };
    mac(algorithm, &keys(&host, secret)?[place], &joined(&host, message, None)?)
}

/// See the contract.
pub fn hash(algorithm: &str, message: &[Part<'_>]) -> Result<Vec<u8>, Failure> {
    digest(algorithm, &joined(&host(), message, None)?)
}

impl TestHost {
    fn note(&self, evidence: Evidence) {
        self.seen.evidence.set(self.seen.evidence.get().max(evidence));
    }
}

fn signed(message: &[Part<'_>]) -> Evidence {
    if message.contains(&Part::Body) {
        Evidence::SignedBody
    } else {
        Evidence::SignedDerived
    }
}

fn keys<'h>(host: &'h TestHost, secret: &str) -> Result<&'h [Vec<u8>], Failure> {
    match host.secrets.get(secret) {
        Some(keys) if !keys.is_empty() => Ok(keys),
        _ => Err(Failure::Misconfigured(format!("the route has no secret `{secret}`"))),
    }
}

fn joined(host: &TestHost, message: &[Part<'_>], secret: Option<&[u8]>) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    for part in message {
        bytes.extend_from_slice(match part {
            Part::Text(text) => text.as_bytes(),
            Part::Bytes(bytes) => bytes,
            Part::Body => &host.body,
            Part::Secret(_) => secret.ok_or_else(|| Failure::Refused("a secret outside `verify-digest`".to_owned()))?,
        });
    }
    Ok(bytes)
}

fn mac(algorithm: &str, key: &[u8], message: &[u8]) -> Result<Vec<u8>, Failure> {
    fn compute<M: Mac + KeyInit>(key: &[u8], message: &[u8]) -> Vec<u8> {
        let mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.chain_update(message).finalize().into_bytes().to_vec()
    }
    Ok(match algorithm {
        "sha1" => compute::<Hmac<Sha1>>(key, message),
        "sha256" => compute::<Hmac<Sha256>>(key, message),
        "sha384" => compute::<Hmac<Sha384>>(key, message),
        "sha512" => compute::<Hmac<Sha512>>(key, message),
        _ => return Err(unknown(algorithm)),
    })
}

fn digest(algorithm: &str, message: &[u8]) -> Result<Vec<u8>, Failure> {
    Ok(match algorithm {
        "sha1" => Sha1::digest(message).to_vec(),
        "sha256" => Sha256::digest(message).to_vec(),
        "sha384" => Sha384::digest(message).to_vec(),
        "sha512" => Sha512::digest(message).to_vec(),
        _ => return Err(unknown(algorithm)),
    })
}

fn unknown(algorithm: &str) -> Failure {
    Failure::Refused(format!("no algorithm `{algorithm}`"))
}

/// Takes as long for a near miss as for a far one. Nothing here faces a stranger, but a benchmark should do the work.
fn equal(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .fold(0, |difference, (a, b)| difference | (a ^ b))
            == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{encoding::hex, testing::with_host};

    #[test]
    fn every_live_secret_counts() {
        let host = std::rc::Rc::new(
            TestHost {
                body: b"body".to_vec(),
                ..TestHost::default()
            }
            .secret("s", "old")
            .secret("s", "new")
            .secret("t", "other")
            .allow_hmac(),
        );
        let signature = mac("sha256", b"new", b"body").unwrap();
        with_host(host.clone(), || {
            assert_eq!(
                verify_hmac("s", "sha256", &[Part::Text("body")], &signature[1..]),
                Err(Failure::Mismatch)
            );
            assert!(matches!(hmac("s", "sha256", &[]), Err(Failure::Refused(_))));
            assert_eq!(verify_token("s", b"old"), Ok(()));
            assert_eq!(host.seen.evidence.get(), Evidence::Token);
            assert_eq!(
                verify_hmac("s", "sha256", &[Part::Text("bo"), Part::Bytes(b"dy")], &signature),
                Ok(())
            );
            assert_eq!(host.seen.evidence.get(), Evidence::SignedDerived);
            assert_eq!(verify_hmac("s", "sha256", &[Part::Body], &signature), Ok(()));
            assert_eq!(host.seen.evidence.get(), Evidence::SignedBody);
            assert!(matches!(verify_token("other", b""), Err(Failure::Misconfigured(_))));
            assert!(matches!(verify_hmac("s", "md5", &[], b""), Err(Failure::Refused(_))));
            assert_eq!(hmac("s", "sha256", &[]), mac("sha256", b"new", b""));
            assert_eq!(hmac("t", "sha256", &[]), mac("sha256", b"other", b""));
        });
    }

    #[test]
    fn digests_take_a_secret() {
        let host = TestHost::default().secret("s", "abc");
        let expected = hex("a9993e364706816aba3e25717850c26c9cd0d89d").unwrap();
        with_host(host, || {
            assert_eq!(verify_digest("sha1", &[Part::Secret("s")], &expected), Ok(()));
            assert_eq!(hash("sha1", &[Part::Text("a"), Part::Text("bc")]), Ok(expected.clone()));
            assert!(matches!(
                verify_digest("sha1", &[Part::Text("abc")], &expected),
                Err(Failure::Refused(_))
            ));
            assert!(matches!(hash("sha1", &[Part::Secret("s")]), Err(Failure::Refused(_))));
        });
    }
}
