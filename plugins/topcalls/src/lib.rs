//! TopCalls: outbound calls and campaigns of an AI caller.
//!
//! Its webhooks name neither the event nor the delivery, and its own receiver sample signs the body only after parsing
//! it. So `verify` has two forms to try, and `map` finds out what happened from the route or from the call's state.
//!
//! Facts from <https://docs.topcalls.ai/guides/webhooks>, …/concepts/webhooks and the API reference.

pub mod ecmascript;
mod event;
mod map;
mod verify;

use callfeed_plugin::{Descriptor, Outcome, Provider, Rejection, Request, SecretSpec, Verdict, kind, register};
use serde::Deserialize;

pub struct TopCalls;

/// The route's options, as `OPTIONS_SCHEMA` has them.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    canonicalization: Canonicalization,
    event: Option<String>,
    duration_unit: DurationUnit,
}

/// Which text the signature is over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Canonicalization {
    #[default]
    Auto,
    Raw,
    Js,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum DurationUnit {
    #[default]
    Minutes,
    Seconds,
}

const OPTIONS_SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "canonicalization": {
      "description": "What the signature is over: the body as sent (raw), the body parsed and printed again by JavaScript (js), or whichever fits (auto).",
      "enum": ["auto", "raw", "js"],
      "default": "auto"
    },
    "event": {
      "description": "The one event this route is subscribed to, such as call.completed or call.completed.booked_callback. Without it the event is what the body names, then what follows the route's path or stands in the query as `event` if it is a documented name that fits the body, then what the call's state says.",
      "type": "string",
      "pattern": "^[a-z]+\\.[a-z0-9_.]+$"
    },
    "duration_unit": {
      "description": "The unit of `duration`. The vendor documents minutes.",
      "enum": ["minutes", "seconds"],
      "default": "minutes"
    }
  }
}"#;

impl Provider for TopCalls {
    fn describe() -> Descriptor {
        Descriptor::new("topcalls", "TopCalls", env!("CARGO_PKG_VERSION"))
            .headers(&[verify::HEADER])
            // The body as sent is tried first and would be stronger, but which form a sender uses shows only then.
            .assurance("signed-derived")
            .secret(SecretSpec::utf8(
                verify::SECRET,
                "The signing secret of the TopCalls webhook subscription",
            ))
            .options_schema(OPTIONS_SCHEMA)
            .event("call.queued", kind::CALL_INITIATED)
            .event("call.started", kind::CALL_ANSWERED)
            .event("call.completed", kind::CALL_COMPLETED)
            .event("call.completed.*", kind::CALL_COMPLETED)
            .event("call.failed", kind::CALL_FAILED)
            .event("call.transferred", kind::CALL_TRANSFERRED)
            .event("campaign.started", kind::CAMPAIGN_STARTED)
            .event("campaign.paused", kind::CAMPAIGN_PAUSED)
            .event("campaign.resumed", kind::CAMPAIGN_RESUMED)
            .event("campaign.completed", kind::CAMPAIGN_COMPLETED)
            .event("campaign.stopped", kind::CAMPAIGN_STOPPED)
            .event("*", kind::PROVIDER_OTHER)
            .extra("documentation", "https://docs.topcalls.ai/guides/webhooks")
    }

    fn verify(request: &Request) -> Result<Verdict, Rejection> {
        verify::verify(request)
    }

    fn normalize(request: &Request, payload: Option<&str>) -> Result<Outcome, Rejection> {
        map::map(request, payload)
    }
}

register!(TopCalls);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases() {
        callfeed_plugin::testing::cases::<TopCalls>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }

    #[test]
    fn a_member_of_another_type_does_no_harm() {
        callfeed_plugin::testing::substitutions::<TopCalls>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }
}
