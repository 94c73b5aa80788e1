//! Keyed cryptography, done by the gateway: a plugin names a secret and never sees one.
//!
//! In a native build the secrets are those of the [`TestHost`](crate::testing::TestHost).

pub use crate::bindings::callfeed::provider::crypto::{Failure, JwsRules, Part};

#[cfg(target_arch = "wasm32")]
pub use crate::bindings::callfeed::provider::crypto::{
    hash, hmac, verify_digest, verify_hmac, verify_jws, verify_signature, verify_token,
};
#[cfg(not(target_arch = "wasm32"))]
pub use crate::testing::crypto::{hash, hmac, verify_digest, verify_hmac, verify_jws, verify_signature, verify_token};

use crate::encoding;

/// A short text that stands for other texts in an event's id: the first 128 bits of their SHA-256 in hex. Each text is
/// preceded by its length, so that the same letters divided otherwise give another result.
///
/// # Errors
///
/// [`Failure::Refused`] when the webhook has used up its share of hashing.
pub fn fingerprint(texts: &[&str]) -> Result<String, Failure> {
    let lengths: Vec<String> = texts.iter().map(|text| format!("{}:", text.len())).collect();
    let parts: Vec<Part<'_>> = lengths
        .iter()
        .zip(texts)
        .flat_map(|(length, text)| [Part::Text(length), Part::Text(text)])
        .collect();
    let digest = hash("sha256", &parts)?;
    Ok(encoding::to_hex(&digest[..16]))
}
