//! Magnétis: French call tracking. A visitor of a web site calls one of the customer's tracking numbers, and the webhook
//! tells of the call, of its stations, and of the visit.
//!
//! Facts from the vendor's page on webhooks at <https://support.magnetis.fr> (August 2022 and later) and its older text,
//! whose form-encoded webhooks may still be in use.

pub mod canonical;
mod map;
mod time;
mod verify;

use callfeed_plugin::{Descriptor, Outcome, Provider, Rejection, Request, SecretSpec, Verdict, kind, register};
use canonical::Recipe;
use serde::Deserialize;
use serde_json::json;
use time::{ZONE_DEFAULT, Zone};

pub struct Magnetis;

/// The route's options, as [`options_schema`] has them.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    canonicalization: String,
    allow_unbound: bool,
    time_zone: String,
    international_prefix: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            canonicalization: AUTO.to_owned(),
            allow_unbound: false,
            time_zone: ZONE_DEFAULT.to_owned(),
            international_prefix: PREFIX_DEFAULT.to_owned(),
        }
    }
}

/// What stands before the country code of every number in the vendor's samples.
const PREFIX_DEFAULT: &str = "00";

/// Tries every reading that binds the body.
const AUTO: &str = "auto";

fn options_schema() -> String {
    let (bound, unbound): (Vec<_>, Vec<_>) = Recipe::ALL.into_iter().partition(|recipe| recipe.binds_body());
    let names = |recipes: Vec<Recipe>| recipes.into_iter().map(Recipe::name).collect::<Vec<_>>();
    let (bound, unbound) = (names(bound), names(unbound));
    let canonicalizations: Vec<&str> = [AUTO].into_iter().chain(bound).chain(unbound.iter().copied()).collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "canonicalization": {
                "description": "How the signed string is made of the URL and the variables: auto tries every way that binds the body. Pin the one that the first real webhook was accepted with. form-recursive, json-recursive, json-recursive-unindexed and json-bracket join keys and values of every depth, so one text can stand for several bodies: with them a webhook is refused (401) when its event or a key is not documented, or when a value contains a key that could follow it.",
                "enum": canonicalizations,
                "default": AUTO,
            },
            "allow_unbound": {
                "description": "Accept array-literal or url-only when pinned. Their signature does not depend on the content: whoever has seen one webhook can forge any other.",
                "type": "boolean",
                "default": false,
            },
            "time_zone": {
                "description": "The IANA name of the zone that the times are in. The vendor does not say; Europe/Paris is an assumption.",
                "enum": Zone::names().collect::<Vec<_>>(),
                "default": ZONE_DEFAULT,
            },
            "international_prefix": {
                "description": "What stands before the country code of a number. Numbers without it are passed on as they are.",
                "type": "string",
                "pattern": "^[0-9]{1,5}$",
                "default": PREFIX_DEFAULT,
            },
        },
        "if": { "required": ["canonicalization"], "properties": { "canonicalization": { "enum": unbound } } },
        "then": { "required": ["allow_unbound"], "properties": { "allow_unbound": { "const": true } } },
    })
    .to_string()
}

impl Provider for Magnetis {
    fn describe() -> Descriptor {
        Descriptor::new("magnetis", "Magnétis", env!("CARGO_PKG_VERSION"))
            .content_types(&["application/x-www-form-urlencoded"])
            .headers(&[verify::HEADER])
            .assurance("signed-derived")
            .secret(SecretSpec::utf8(verify::SECRET, "Magnétis → API & Connectors → Webhooks → the webhook → signature key"))
            .options_schema(&options_schema())
            .event("call:ringing", kind::CALL_RINGING)
            .event("call:completed", kind::CALL_COMPLETED)
            .event("call:completed", kind::CALL_MISSED)
            .event("call:missed", kind::CALL_MISSED)
            .event("email:received", kind::EMAIL_RECEIVED)
            .event("lead:created", kind::LEAD_CREATED)
            .event(map::LEGACY, kind::CALL_COMPLETED)
            .event(map::LEGACY, kind::CALL_MISSED)
            .event("*", kind::PROVIDER_OTHER)
            .extra("documentation", "https://support.magnetis.fr/portal/en/kb/articles/comment-utiliser-param%C3%A9trer-tester-un-webhook-17-8-2022")
    }

    fn verify(request: &Request) -> Result<Verdict, Rejection> {
        verify::verify(request)
    }

    fn normalize(request: &Request, _payload: Option<&str>) -> Result<Outcome, Rejection> {
        map::map(request)
    }
}

register!(Magnetis);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases() {
        callfeed_plugin::testing::cases::<Magnetis>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }

    #[test]
    fn a_member_of_another_type_does_no_harm() {
        callfeed_plugin::testing::substitutions::<Magnetis>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }
}
