//! Whether a webhook is the provider's: by a signature in a header, or by a token.

use callfeed_description::{
    Algorithm, Encoding, Item, Moment, Pattern, Piece, Place, Placeholder, Signature, Timestamp, Token,
};
use callfeed_plugin::{
    Rejection, Request, Verdict,
    crypto::{self, Failure, Part},
    encoding, time,
};

use crate::{convert, place};

/// Signatures of one webhook that are tried. A provider sends two while a key is replaced.
const SIGNATURES_MAX: usize = 8;

/// For the gateway to judge: it refuses this unless the route allows unsigned webhooks.
fn unsigned() -> Verdict {
    Verdict::authentic("unsigned")
}

pub(crate) fn check_signature(scheme: &Signature<'_>, request: &Request) -> Result<Verdict, Rejection> {
    let values = || request.header_values(&scheme.header);
    if values().next().is_none() {
        return Ok(unsigned());
    }
    let found = |what| values().flat_map(move |value| read(&scheme.pattern, what, value));
    let signed_at = match &scheme.timestamp {
        None => None,
        Some(timestamp) => Some(match &timestamp.header {
            Some(header) => request
                .header(header)
                .ok_or_else(|| Rejection::unauthenticated("timestamp-missing"))?,
            None => found(Placeholder::Timestamp)
                .next()
                .ok_or_else(|| Rejection::unauthenticated("signature-malformed"))?,
        }),
    };
    let mut message = Vec::with_capacity(scheme.message.len());
    for piece in &scheme.message {
        message.push(match piece {
            Piece::Text(text) => Part::Text(text),
            Piece::Body => Part::Body,
            // The gateway lets no description through that signs a time it does not name.
            Piece::Timestamp => Part::Text(signed_at.unwrap_or_default()),
            Piece::Header(name) => Part::Text(request.header(name).ok_or_else(|| {
                Rejection::unauthenticated("header-missing").detail(format!("{} is a part of what is signed", &**name))
            })?),
        });
    }
    let mut flaw = Rejection::unauthenticated("signature-malformed");
    for text in found(Placeholder::Signature).take(SIGNATURES_MAX) {
        let bytes = match scheme.encoding {
            Encoding::Hex => encoding::hex(text),
            Encoding::Base64 => encoding::base64(text),
        };
        let Some(bytes) = bytes else { continue };
        match verify(scheme, &message, &bytes) {
            Ok(()) => {
                // Before this the time could have been anybody's.
                if let (Some(timestamp), Some(text)) = (&scheme.timestamp, signed_at) {
                    check_age(timestamp, text, request)?;
                }
                return Ok(Verdict::authentic("signature"));
            }
            Err(Failure::Mismatch) => flaw = Failure::Mismatch.into(),
            // An open route has no key to check with.
            Err(Failure::Misconfigured(_)) => return Ok(unsigned()),
            Err(failure) => return Err(failure.into()),
        }
    }
    Err(flaw)
}

fn verify(scheme: &Signature<'_>, message: &[Part<'_>], signature: &[u8]) -> Result<(), Failure> {
    let hash = match scheme.algorithm {
        Algorithm::HmacSha1 => "sha1",
        Algorithm::HmacSha256 => "sha256",
        Algorithm::HmacSha384 => "sha384",
        Algorithm::HmacSha512 => "sha512",
        Algorithm::Ed25519 => return crypto::verify_signature(&scheme.secret, "ed25519", message, signature),
    };
    crypto::verify_hmac(&scheme.secret, hash, message, signature)
}

/// Everything of one kind in a header's value.
fn read<'v>(pattern: &Pattern<'_>, what: Placeholder, value: &'v str) -> impl Iterator<Item = &'v str> {
    let parts = value.split(|letter| pattern.separator == Some(letter)).map(str::trim);
    parts.filter_map(move |part| {
        let fitting = |item: &Item<'_>| {
            let rest = part.strip_prefix(&*item.before)?.strip_suffix(&*item.after)?;
            (item.holds == what).then_some(rest)
        };
        pattern.items.iter().find_map(fitting)
    })
}

fn check_age(timestamp: &Timestamp<'_>, text: &str, request: &Request) -> Result<(), Rejection> {
    let number = || text.parse::<i64>().ok();
    let signed_at_ms = match timestamp.unit {
        Moment::Seconds => number().and_then(|seconds| seconds.checked_mul(1000)),
        Moment::Milliseconds => number(),
        Moment::Rfc3339 => time::parse_rfc3339_ms(text),
    };
    let signed_at_ms = signed_at_ms.ok_or_else(|| Rejection::unauthenticated("timestamp-malformed"))?;
    request.check_age(signed_at_ms, timestamp.old_seconds_max, timestamp.ahead_seconds_max)
}

pub(crate) fn check_token(scheme: &Token<'_>, request: &Request) -> Result<Verdict, Rejection> {
    let presented = match &scheme.place {
        Place::Header(name) => request.header(name).map(str::to_owned),
        Place::Query(name) => request.query_value(name).map(str::to_owned),
        Place::Body(pointer) => {
            let document = crate::document(request)?;
            let mut body = document.object()?;
            let token = place::find(&mut body, pointer).and_then(convert::text);
            token.map(|token| token.into_owned())
        }
    };
    let Some(presented) = presented else {
        return Ok(unsigned());
    };
    let token = presented
        .strip_prefix(&*scheme.prefix)
        .ok_or_else(|| Rejection::unauthenticated("token-malformed"))?;
    match crypto::verify_token(&scheme.secret, token.as_bytes()) {
        Ok(()) => Ok(Verdict::authentic("token")),
        Err(Failure::Mismatch) => Err(Rejection::unauthenticated("token-mismatch")),
        // In a body it would be passed on: what the gateway does not know it cannot strike out.
        Err(Failure::Misconfigured(_)) if !matches!(scheme.place, Place::Body(_)) => Ok(unsigned()),
        Err(failure) => Err(failure.into()),
    }
}
