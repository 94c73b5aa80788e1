//! A plugin that does what no plugin may, one act at a time.
//!
//! The route's options name the act: `{"act":"spin-in-verify"}`. Whatever an act does not touch is done honestly, so
//! that nothing but the act decides how the webhook ends. While it is being described a plugin knows no route; what it
//! does then is its `scene`, written into the file.

use callfeed_plugin::{
    Descriptor, Outcome, Provider, Rejection, Request, SecretSpec, Verdict,
    crypto::{self, Part},
    encoding, environment, kind,
};
use serde::Deserialize;

mod checks;
mod escapes;
mod excess;
mod outputs;
mod scene;

struct Rogue;

#[derive(Deserialize)]
struct Options {
    act: String,
}

impl Provider for Rogue {
    fn describe() -> Descriptor {
        scene::play(
            Descriptor::new("rogue", "Rogue", env!("CARGO_PKG_VERSION"))
                .headers(&["x-rogue-signature", "x-rogue-token"])
                .secret(SecretSpec::utf8("signing", "any text"))
                .secret(SecretSpec::utf8("token", "any text").optional())
                .secret(SecretSpec::utf8("spare", "any text").optional())
                .secret(SecretSpec {
                    may_hmac: true,
                    ..SecretSpec::utf8("answering", "any text").optional()
                })
                .options_schema(r#"{"type":"object","required":["act"],"properties":{"act":{"type":"string"}}}"#)
                .event("ended", kind::CALL_COMPLETED)
                .event("*", kind::PROVIDER_OTHER),
        )
    }

    fn verify(request: &Request) -> Result<Verdict, Rejection> {
        let act = environment::options::<Options>()?.act;
        match act.as_str() {
            "spin-in-verify" => excess::spin(),
            "grow-in-verify" => excess::grow(),
            "recurse-in-verify" => excess::recurse(),
            "panic-in-verify" => panic!("out of spite"),
            "log-flood" => excess::flood_the_log(),
            "log-lines" => excess::log_forged_lines(),
            "log-token" => excess::log_token(request),
            _ => {}
        }
        if let Some(verdict) = checks::verdict(&act, request) {
            return verdict;
        }
        if let Some(verdict) = outputs::verdict(&act, request) {
            return verdict;
        }
        honest_check(request)?;
        match act.as_str() {
            "spin-after-proof" => excess::spin(),
            "grow-after-proof" => excess::grow(),
            "panic-after-proof" => panic!("out of spite"),
            "reject-after-proof" => return Err(Rejection::malformed("changed-my-mind")),
            _ => {}
        }
        Ok(outputs::authentic(&act))
    }

    fn normalize(_request: &Request, payload: Option<&str>) -> Result<Outcome, Rejection> {
        let act = environment::options::<Options>()?.act;
        match act.as_str() {
            "spin-in-normalize" => excess::spin(),
            "grow-in-normalize" => excess::grow(),
            "recurse-in-normalize" => excess::recurse(),
            "recurse-flat" => excess::recurse_flat(),
            "panic-in-normalize" => panic!("out of spite"),
            "hash-gigabytes" => checks::hash_gigabytes()?,
            _ => {}
        }
        escapes::attempt(&act);
        outputs::outcome(&act, payload)
    }
}

/// What `register!` makes, without what the SDK refuses by itself: the host has to refuse it, too.
mod exports {
    use callfeed_plugin::{
        Descriptor, Outcome, Provider as _, Request, Verdict, bindings::exports::callfeed::provider::plugin::Guest,
        log_panics,
    };

    use super::Rogue;

    #[cfg(target_arch = "wasm32")]
    callfeed_plugin::bindings::export!(Exports with_types_in callfeed_plugin::bindings);

    // A native build has nothing to export.
    #[cfg(not(target_arch = "wasm32"))]
    const _: fn() -> Exports = || Exports;

    struct Exports;

    impl Guest for Exports {
        fn describe() -> Descriptor {
            log_panics();
            Rogue::describe()
        }

        fn verify(request: Request) -> Verdict {
            log_panics();
            callfeed_plugin::verify::<Rogue>(&request)
        }

        fn normalize(request: Request, payload: Option<String>) -> Outcome {
            log_panics();
            Rogue::normalize(&request, payload.as_deref()).unwrap_or_else(Outcome::Reject)
        }
    }
}

/// The check that an honest plugin makes.
fn honest_check(request: &Request) -> Result<(), Rejection> {
    crypto::verify_hmac("signing", "sha256", &[Part::Body], &presented(request)?)?;
    Ok(())
}

fn presented(request: &Request) -> Result<Vec<u8>, Rejection> {
    let header = request
        .header("x-rogue-signature")
        .ok_or_else(|| Rejection::unauthenticated("signature-missing"))?;
    encoding::hex(header).ok_or_else(|| Rejection::unauthenticated("signature-malformed"))
}
