//! `x-topcalls-signature`: bare hex of an HMAC-SHA256.
//!
//! The vendor's receiver sample computes it over `JSON.stringify(req.body)`. For a sender in JavaScript that is the body
//! as sent, so that is tried first. For any other sender it is the body as ECMAScript prints it, and then the event is
//! made of that very text: what was signed is what is believed.

use callfeed_plugin::{
    Rejection, Request, Verdict,
    crypto::{self, Failure, Part},
    encoding, environment,
};

use crate::{Canonicalization, Options, ecmascript};

pub(crate) const HEADER: &str = "x-topcalls-signature";
pub(crate) const SECRET: &str = "signing";

/// Bytes of a SHA-256.
const MAC_LENGTH: usize = 32;

pub(crate) fn verify(request: &Request) -> Result<Verdict, Rejection> {
    let Some(header) = request.header(HEADER) else {
        // For the gateway to judge: it refuses this unless the route allows unsigned webhooks.
        return Ok(Verdict::authentic("unsigned"));
    };
    let signature = encoding::hex(header.trim())
        .filter(|signature| signature.len() == MAC_LENGTH)
        .ok_or_else(|| Rejection::unauthenticated("signature-malformed").detail("not 64 hexadecimal digits"))?;
    let Options { canonicalization, .. } = environment::options()?;

    if canonicalization != Canonicalization::Js && fits(Part::Body, &signature)? {
        return Ok(Verdict::authentic("raw"));
    }
    let mismatch = |tried| Rejection::unauthenticated("signature-mismatch").detail(tried);
    if canonicalization == Canonicalization::Raw {
        return Err(mismatch("tried raw".to_owned()));
    }
    let text = ecmascript::reserialise(request.text()?)
        .map_err(|error| mismatch(format!("the body has no js form: {error}")))?;
    if fits(Part::Text(&text), &signature)? {
        return Ok(Verdict::authentic_payload("js", text));
    }
    Err(mismatch(match canonicalization {
        Canonicalization::Js => "tried js".to_owned(),
        Canonicalization::Auto | Canonicalization::Raw => "tried raw and js".to_owned(),
    }))
}

fn fits(message: Part<'_>, signature: &[u8]) -> Result<bool, Failure> {
    match crypto::verify_hmac(SECRET, "sha256", &[message], signature) {
        Ok(()) => Ok(true),
        Err(Failure::Mismatch) => Ok(false),
        Err(failure) => Err(failure),
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use callfeed_plugin::testing::{Evidence, TestHost, with_host};

    use super::*;

    /// The vendor's printed call, compact.
    const CALL: &[u8] = include_bytes!("../cases/call-completed/request.http");
    /// Computed apart from this code, with OpenSSL.
    const VECTOR: &str = "f0704c62595c33b8ddbaabbdc8be98b5965f0c91f2470b512370eadd929cdf47";

    fn judge(body: &str, options: &str) -> (Verdict, Evidence) {
        let mut request = TestHost::request("POST", body);
        request.headers.push(TestHost::field(HEADER, VECTOR));
        let host = TestHost {
            options: options.to_owned(),
            body: body.into(),
            ..TestHost::default()
        };
        let host = Rc::new(host.secret(SECRET, "tc_test_secret_0001"));
        let verdict = with_host(host.clone(), || verify(&request)).unwrap_or_else(Verdict::Reject);
        (verdict, host.seen.evidence.get())
    }

    #[test]
    fn the_known_vector_is_right_in_both_forms() {
        let file = std::str::from_utf8(CALL).unwrap();
        let (_, body) = file.split_once("\n\n").unwrap();
        assert_eq!(judge(body, "{}"), (Verdict::authentic("raw"), Evidence::SignedBody));

        let spaced = body.replace("\"duration\":2.5", "\"duration\": 2.50");
        let js = Verdict::authentic_payload("js", body.to_owned());
        assert_eq!(judge(&spaced, "{}"), (js.clone(), Evidence::SignedDerived));
        assert_eq!(
            judge(body, r#"{"canonicalization":"js"}"#),
            (js, Evidence::SignedDerived)
        );
        assert!(matches!(
            judge(&spaced, r#"{"canonicalization":"raw"}"#),
            (Verdict::Reject(rejection), Evidence::Nothing) if rejection.code == "signature-mismatch"
        ));
    }

    #[test]
    fn a_mismatch_says_what_was_tried() {
        for (body, detail) in [
            ("{}", "tried raw and js"),
            (r#"{"a":1,"a":2}"#, "the body has no js form: a key occurs twice"),
            (r#"{"__proto__":1}"#, "the body has no js form: a key is `__proto__`"),
            ("{", "the body has no js form: not JSON at byte 1"),
        ] {
            let (Verdict::Reject(rejection), _) = judge(body, "{}") else {
                panic!("{body} was accepted");
            };
            assert_eq!(
                (rejection.code.as_str(), rejection.detail.as_str()),
                ("signature-mismatch", detail)
            );
        }
    }
}
