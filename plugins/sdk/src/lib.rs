//! What a callfeed provider plugin is written with.
//!
//! A plugin implements [`Provider`]: it says what it is ([`describe`](Provider::describe)), whether a webhook really
//! comes from the provider ([`verify`](Provider::verify)), and what it means ([`normalize`](Provider::normalize)).
//! [`register!`] makes a WebAssembly component of it:
//!
//! ```text
//! cargo build --target wasm32-wasip2 --release
//! ```
//!
//! A whole plugin:
//!
//! ```
//! use callfeed_plugin::{
//!     Descriptor, Event, Outcome, Provider, Rejection, Request, SecretSpec, Verdict,
//!     crypto::{self, Part},
//!     data::{Agent, Call, CallOutcome, CallState, Data, Seconds},
//!     encoding, kind, register,
//! };
//!
//! struct Acme;
//!
//! impl Provider for Acme {
//!     fn describe() -> Descriptor {
//!         Descriptor::new("acme", "Acme Calls", env!("CARGO_PKG_VERSION"))
//!             .headers(&["x-acme-signature"])
//!             .secret(SecretSpec::utf8("signing", "Acme console → Webhooks → Signing key"))
//!             .event("call.ended", kind::CALL_COMPLETED)
//!             .event("*", kind::PROVIDER_OTHER)
//!     }
//!
//!     fn verify(request: &Request) -> Result<Verdict, Rejection> {
//!         let header = request.header("x-acme-signature").ok_or_else(|| Rejection::unauthenticated("signature-missing"))?;
//!         let signature = encoding::hex(header).ok_or_else(|| Rejection::unauthenticated("signature-malformed"))?;
//!         crypto::verify_hmac("signing", "sha256", &[Part::Body], &signature)?;
//!         Ok(Verdict::authentic("hex"))
//!     }
//!
//!     fn normalize(request: &Request, _payload: Option<&str>) -> Result<Outcome, Rejection> {
//!         let document = request.json()?;
//!         let mut body = document.object()?;
//!         let event = body.take_str("event").ok_or_else(|| Rejection::malformed("event-missing"))?;
//!         let id = body.take_id("call_id").ok_or_else(|| Rejection::malformed("call-id-missing"))?;
//!
//!         let kind = if event == "call.ended" { kind::CALL_COMPLETED } else { kind::PROVIDER_OTHER };
//!         let call = Call {
//!             id: id.clone(),
//!             direction: body.take_word("direction").unwrap_or_default(),
//!             state: Some(CallState::Ended),
//!             outcome: Some(CallOutcome::Completed),
//!             from: body.take_party("from"),
//!             to: body.take_party("to"),
//!             ended_at: body.take_time("ended_at"),
//!             // Minutes become seconds, so the minutes stay in `extra`.
//!             duration_seconds: body.peek_f64("minutes").and_then(|minutes| Seconds::new(minutes * 60.0)),
//!             agent: Agent::known(body.take_str("agent_id"), None),
//!             ..Call::default()
//!         };
//!         let unified = Event::new(kind, format!("{event}:{id}"), id).at(call.ended_at.as_ref());
//!         Ok(Outcome::event(unified.data(&Data { provider_event: event, call: Some(call), extra: body, ..Data::default() })))
//!     }
//! }
//!
//! register!(Acme);
//!
//! // The same code runs natively, for tests:
//! # use callfeed_plugin::{Body, testing::{TestHost, with_host}};
//! let body = r#"{"event":"call.ended","call_id":7,"minutes":1.5}"#;
//! let mut request = TestHost::request("POST", body);
//! request.headers.push(TestHost::field("x-acme-signature", "00ff"));
//! let host = TestHost { body: body.into(), ..TestHost::default() }.secret("signing", "key");
//! let verdict = with_host(host, || callfeed_plugin::verify::<Acme>(&request));
//! assert!(matches!(verdict, Verdict::Reject(rejection) if rejection.code == "signature-mismatch"));
//!
//! let Outcome::Accepted(accepted) = callfeed_plugin::normalize::<Acme>(&request, None) else { panic!() };
//! assert_eq!(accepted.events[0].id, "call.ended:7");
//! assert!(accepted.events[0].data.contains(r#""duration_seconds":90"#));
//! assert!(accepted.events[0].data.ends_with(r#""extra":{"call_id":7,"minutes":1.5}}"#));
//! ```
//!
//! - [`json`] reads a body so that whatever the mapping does not take ends up in `extra`.
//! - [`data`] is the unified event's `data`, [`kind`] its types.
//! - [`crypto`] and [`environment`] are what the gateway does for a plugin.
//! - [`remarks`] is for what a mapping has to say about its own reading.
//! - Memory comes from an allocator made for one webhook an instance. A plugin that brings a `#[global_allocator]` of
//!   its own turns the default feature `allocator` off.
//! - [`encoding`], [`phone`] and [`time`] read hex and base64, telephone numbers and times.
//! - [`testing`] stands in for the gateway in native builds, and runs a directory of cases: requests in files, and the
//!   events they should become.

#![warn(missing_docs)]

mod answer;
#[expect(missing_docs, reason = "generated; what the contract's text explains is explained")]
pub mod bindings;
pub mod crypto;
pub mod data;
pub mod encoding;
pub mod environment;
pub mod json;
pub mod kind;
#[cfg(any(test, all(feature = "allocator", target_arch = "wasm32")))]
mod memory;
pub mod phone;
pub mod remarks;
mod request;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
pub mod time;

pub use bindings::callfeed::provider::types::{
    Accepted, Body, Descriptor, Event, EventSpec, Field, Outcome, Proof, Rejection, RejectionKind, Request, Response,
    SecretSpec, Verdict,
};

/// What a plugin implements. Nothing is kept from one call to the next: each webhook gets a fresh instance.
pub trait Provider {
    /// What the plugin is, needs and reports. Called when the plugin is loaded; the answer must be constant.
    fn describe() -> Descriptor;

    /// Is this webhook really from the provider?
    ///
    /// The gateway believes [`Verdict::Authentic`] only when one of its own `crypto::verify_*` functions succeeded
    /// during this call, or on a route that allows unsigned webhooks.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] is the same answer as [`Verdict::Reject`].
    fn verify(request: &Request) -> Result<Verdict, Rejection>;

    /// What does it say? `payload` is that of the [`Proof`]. Must depend on its arguments and the route's options only,
    /// since a stored webhook may be mapped again, days later.
    ///
    /// # Errors
    ///
    /// A [`Rejection`] is the same answer as [`Outcome::Reject`]: the webhook is quarantined.
    fn normalize(request: &Request, payload: Option<&str>) -> Result<Outcome, Rejection>;
}

/// [`Provider::verify`] as the gateway sees it.
pub fn verify<P: Provider>(request: &Request) -> Verdict {
    P::verify(request).unwrap_or_else(Verdict::Reject)
}

/// [`Provider::normalize`] as the gateway sees it. An event with an id, a subject or a time that no event can have, as what
/// a provider may send one day makes it, is refused by name.
pub fn normalize<P: Provider>(request: &Request, payload: Option<&str>) -> Outcome {
    let outcome = P::normalize(request, payload).unwrap_or_else(Outcome::Reject);
    let Outcome::Accepted(accepted) = &outcome else {
        return outcome;
    };
    for event in &accepted.events {
        for (code, name) in [("id-unusable", &event.id), ("subject-unusable", &event.subject)] {
            if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(char::is_control) {
                return Outcome::Reject(Rejection::malformed(code));
            }
        }
        if event.occurred_at_ms.is_some_and(|ms| ms > LATEST_MS) {
            return Outcome::Reject(Rejection::malformed("time-unusable"));
        }
    }
    outcome
}

/// Bytes of an event's id, and of its subject; from the contract.
const NAME_BYTES_MAX: usize = 512;
/// 9999-12-30T22:00:00.999Z, from the contract: later it is the year 10000 somewhere.
const LATEST_MS: u64 = 253_402_207_200_999;

/// Exports a [`Provider`] as the plugin of this component. Once per plugin crate.
///
/// A native build has nothing to export; there the macro only counts the provider as used.
#[macro_export]
macro_rules! register {
    ($provider:ty) => {
        const _: () = {
            #[cfg(target_arch = "wasm32")]
    $crate::bindings::export!(Exports with_types_in $crate::bindings);

            #[cfg(not(target_arch = "wasm32"))]
            const _: fn() -> Exports = || Exports;

            struct Exports;

            impl $crate::bindings::exports::callfeed::provider::plugin::Guest for Exports {
                fn describe() -> $crate::Descriptor {
                    $crate::log_panics();
                    <$provider as $crate::Provider>::describe()
                }

                fn verify(request: $crate::Request) -> $crate::Verdict {
                    $crate::log_panics();
                    $crate::verify::<$provider>(&request)
                }

                fn normalize(
                    request: $crate::Request,
                    payload: ::core::option::Option<::std::string::String>,
                ) -> $crate::Outcome {
                    $crate::log_panics();
                    $crate::normalize::<$provider>(&request, payload.as_deref())
                }
            }
        };
    };
}

/// Sends the message of a panic to the operator's log: without it the gateway sees an `unreachable` trap only.
#[doc(hidden)]
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        environment::log(environment::Level::Error, &panic.to_string())
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestHost, with_host};

    /// Its body is the id, and the time.
    struct Echo;

    impl Provider for Echo {
        fn describe() -> Descriptor {
            Descriptor::new("echo", "Echo", "1.0.0")
        }

        fn verify(_: &Request) -> Result<Verdict, Rejection> {
            Ok(Verdict::authentic(""))
        }

        fn normalize(request: &Request, _: Option<&str>) -> Result<Outcome, Rejection> {
            let (id, ms) = request.text()?.split_once('|').expect("the tests send both");
            Ok(Outcome::event(Event {
                occurred_at_ms: ms.parse().ok(),
                ..Event::new(kind::CALL_COMPLETED, id, "call")
            }))
        }
    }

    #[test]
    fn what_no_event_can_have_is_refused_by_name() {
        let code = |id: &str, ms: u64| {
            let request = TestHost::request("POST", &format!("{id}|{ms}"));
            match with_host(TestHost::default(), || normalize::<Echo>(&request, None)) {
                Outcome::Reject(rejection) => rejection.code,
                _ => String::new(),
            }
        };
        assert_eq!(code("1", LATEST_MS), "");
        assert_eq!(code(&"x".repeat(NAME_BYTES_MAX), 0), "");
        assert_eq!(code(&"x".repeat(NAME_BYTES_MAX + 1), 0), "id-unusable");
        assert_eq!(code("a\nb", 0), "id-unusable");
        assert_eq!(code("", 0), "id-unusable");
        assert_eq!(code("1", LATEST_MS + 1), "time-unusable");
    }
}
