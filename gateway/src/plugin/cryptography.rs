//! Hashes, MACs and signatures under the names that the contract has for them.
//!
//! Pure. Who may ask for which, and with whose secret, is the host's business.

use hmac::{Hmac, KeyInit, Mac};
use ring::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha384, Sha512};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    pub(crate) const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hash| hash.as_str() == name)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    /// Of the hash, in bytes.
    pub(crate) fn length(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Of a message that is fed in pieces.
    pub(crate) fn digest<E>(self, feed: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), E>) -> Result<Vec<u8>, E> {
        fn run<D: Digest, E>(feed: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), E>) -> Result<Vec<u8>, E> {
            let mut digest = D::new();
            feed(&mut |bytes| digest.update(bytes))?;
            Ok(digest.finalize().to_vec())
        }
        match self {
            Self::Sha1 => run::<Sha1, E>(feed),
            Self::Sha256 => run::<Sha256, E>(feed),
            Self::Sha384 => run::<Sha384, E>(feed),
            Self::Sha512 => run::<Sha512, E>(feed),
        }
    }

    /// The HMAC of a message that is fed in pieces.
    pub(crate) fn hmac<E>(
        self,
        key: &[u8],
        feed: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), E>,
    ) -> Result<Vec<u8>, E> {
        fn run<M: Mac + KeyInit, E>(
            key: &[u8],
            feed: impl FnOnce(&mut dyn FnMut(&[u8])) -> Result<(), E>,
        ) -> Result<Vec<u8>, E> {
            let mut mac = <M as KeyInit>::new_from_slice(key).expect("HMAC takes keys of any length");
            feed(&mut |bytes| mac.update(bytes))?;
            Ok(mac.finalize().into_bytes().to_vec())
        }
        match self {
            Self::Sha1 => run::<Hmac<Sha1>, E>(key, feed),
            Self::Sha256 => run::<Hmac<Sha256>, E>(key, feed),
            Self::Sha384 => run::<Hmac<Sha384>, E>(key, feed),
            Self::Sha512 => run::<Hmac<Sha512>, E>(key, feed),
        }
    }
}

/// A kind of signature under a public key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublicKey {
    Ed25519,
    EcdsaP256Der,
    EcdsaP256Raw,
    RsaPkcs1,
}

impl PublicKey {
    pub(crate) const ALL: [Self; 4] = [Self::Ed25519, Self::EcdsaP256Der, Self::EcdsaP256Raw, Self::RsaPkcs1];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ed25519 => "ed25519",
            Self::EcdsaP256Der => "ecdsa-p256-sha256-der",
            Self::EcdsaP256Raw => "ecdsa-p256-sha256-raw",
            Self::RsaPkcs1 => "rsa-pkcs1-sha256",
        }
    }

    /// The one that a JWS means by its `alg`.
    pub(crate) fn of_jws(algorithm: &str) -> Option<Self> {
        match algorithm {
            "ES256" => Some(Self::EcdsaP256Raw),
            "RS256" => Some(Self::RsaPkcs1),
            "EdDSA" => Some(Self::Ed25519),
            _ => None,
        }
    }

    pub(crate) fn fits(self, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let verifier: &dyn VerificationAlgorithm = match self {
            Self::Ed25519 => &signature::ED25519,
            Self::EcdsaP256Der => &signature::ECDSA_P256_SHA256_ASN1,
            Self::EcdsaP256Raw => &signature::ECDSA_P256_SHA256_FIXED,
            Self::RsaPkcs1 => &signature::RSA_PKCS1_2048_8192_SHA256,
        };
        UnparsedPublicKey::new(verifier, key).verify(message, signature).is_ok()
    }
}
