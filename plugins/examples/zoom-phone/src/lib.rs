//! Zoom Phone: a company's telephone system.
//!
//! <https://developers.zoom.us/docs/api/webhooks>. `x-zm-signature: v0=<hex>` is an HMAC-SHA256 over `v0:`, the header
//! `x-zm-request-timestamp`, a colon and the body.
//!
//! When a URL is entered and every 72 hours after that, Zoom sends a challenge, signed like anything else, and wants it
//! back with its HMAC under the same secret. The route has to allow that with `allow_hmac = true`.
//!
//! Each leg of a call (the caller's, a callee's, on each device) has webhooks of its own. A webhook about a `caller` is of
//! a call that the customer makes, one about a `callee` of a call that comes in.

use callfeed_plugin::{
    Descriptor, Event, Outcome, Provider, Rejection, Request, Response, SecretSpec, Verdict,
    crypto::{self, Part},
    data::{Agent, Call, CallOutcome, CallState, Data, Direction, Party, Text},
    encoding, environment,
    json::{Document, Object},
    kind, register,
    time::Time,
};
use serde::{Deserialize, Serialize};

const SIGNATURE: &str = "x-zm-signature";
const TIMESTAMP: &str = "x-zm-request-timestamp";
const SECRET: &str = "token";
const TOLERANCE_SECONDS_DEFAULT: u32 = 300;

const CHALLENGE: &str = "endpoint.url_validation";
/// Bytes of a challenge; real ones have some twenty.
const CHALLENGE_BYTES_MAX: usize = 128;

const OPTIONS_SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "tolerance_seconds": {
      "description": "How old, or ahead of this machine's clock, a signature may be. Zoom states no bound.",
      "type": "integer",
      "minimum": 1,
      "maximum": 86400,
      "default": 300
    }
  }
}"#;

/// The route's options, as `OPTIONS_SCHEMA` has them.
#[derive(Deserialize)]
struct Options {
    tolerance_seconds: Option<u32>,
}

/// The answer to a challenge.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    plain_token: &'a str,
    encrypted_token: String,
}

/// The plugin.
pub struct ZoomPhone;

register!(ZoomPhone);

impl Provider for ZoomPhone {
    fn describe() -> Descriptor {
        Descriptor::new("zoom-phone", "Zoom Phone", env!("CARGO_PKG_VERSION"))
            .headers(&[SIGNATURE, TIMESTAMP])
            .secret(SecretSpec::utf8(SECRET, "App Marketplace → the app → Features → Access → Secret Token").may_hmac())
            .event("phone.caller_ringing", kind::CALL_RINGING)
            .event("phone.caller_connected", kind::CALL_ANSWERED)
            .event("phone.caller_ended", kind::CALL_COMPLETED)
            .event("phone.caller_ended", kind::CALL_FAILED)
            .event("phone.callee_ringing", kind::CALL_RINGING)
            .event("phone.callee_answered", kind::CALL_ANSWERED)
            .event("phone.callee_missed", kind::CALL_MISSED)
            .event("phone.callee_rejected", kind::CALL_MISSED)
            .event("phone.callee_ended", kind::CALL_COMPLETED)
            .event("phone.callee_ended", kind::CALL_MISSED)
            .event("*", kind::PROVIDER_OTHER)
            .options_schema(OPTIONS_SCHEMA)
            .extra("documentation", "https://developers.zoom.us/docs/api/webhooks")
    }

    fn verify(request: &Request) -> Result<Verdict, Rejection> {
        let header = |name, missing| request.header(name).ok_or_else(|| Rejection::unauthenticated(missing));
        let timestamp = header(TIMESTAMP, "timestamp-missing")?;
        let signature = header(SIGNATURE, "signature-missing")?
            .strip_prefix("v0=")
            .and_then(encoding::hex)
            .ok_or_else(|| Rejection::unauthenticated("signature-malformed"))?;
        let message = [Part::Text("v0:"), Part::Text(timestamp), Part::Text(":"), Part::Body];
        crypto::verify_hmac(SECRET, "sha256", &message, &signature)?;
        // Before this the number could have been anybody's.
        let signed_at = Time::from_unix(timestamp).ok_or_else(|| Rejection::unauthenticated("timestamp-malformed"))?;
        let options: Options = environment::options()?;
        let tolerance_seconds = options.tolerance_seconds.unwrap_or(TOLERANCE_SECONDS_DEFAULT);
        request.check_age(signed_at.ms(), tolerance_seconds, tolerance_seconds)?;
        Ok(Verdict::authentic("v0"))
    }

    fn normalize(request: &Request, _payload: Option<&str>) -> Result<Outcome, Rejection> {
        let document = request.json()?;
        let mut body = document.object()?;
        let name = body
            .take_str("event")
            .ok_or_else(|| Rejection::malformed("event-missing"))?;
        if name == CHALLENGE {
            return answer(&mut body);
        }
        let at = body.peek_unix("event_ts");
        let event = match leg(&name) {
            Some(leg) => call_event(&leg, name, at, body)?,
            None => other(name, at, body, &document)?,
        };
        Ok(Outcome::event(event))
    }
}

/// Answers a challenge. One that could be a part of a signed message is none of Zoom's, and is not signed.
fn answer(body: &mut Object<'_>) -> Result<Outcome, Rejection> {
    let is_plain = |token: &Text<'_>| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        token.len() <= CHALLENGE_BYTES_MAX && token.bytes().all(plain)
    };
    let plain_token = body
        .open("payload")
        .and_then(|payload| payload.take_filled("plainToken"))
        .filter(is_plain)
        .ok_or_else(|| Rejection::malformed("challenge-malformed"))?;
    let encrypted = crypto::hmac(SECRET, "sha256", &[Part::Text(&plain_token)])?;
    Ok(Outcome::Respond(Response::json(&Answer {
        plain_token: &plain_token,
        encrypted_token: encoding::to_hex(&encrypted),
    })))
}

/// Whose leg a webhook is about, and where it has got to.
struct Leg {
    /// The member that describes whoever it is.
    party: &'static str,
    state: CallState,
    /// What the event's name says of the end.
    outcome: Option<CallOutcome>,
}

fn leg(name: &str) -> Option<Leg> {
    let leg = |party, state, outcome| Some(Leg { party, state, outcome });
    match name {
        "phone.caller_ringing" => leg("caller", CallState::Ringing, None),
        "phone.caller_connected" => leg("caller", CallState::Answered, None),
        "phone.caller_ended" => leg("caller", CallState::Ended, None),
        "phone.callee_ringing" => leg("callee", CallState::Ringing, None),
        "phone.callee_answered" => leg("callee", CallState::Answered, None),
        "phone.callee_missed" => leg("callee", CallState::Ended, Some(CallOutcome::Missed)),
        "phone.callee_rejected" => leg("callee", CallState::Ended, Some(CallOutcome::Rejected)),
        "phone.callee_ended" => leg("callee", CallState::Ended, None),
        _ => None,
    }
}

fn call_event<'a>(leg: &Leg, name: Text<'a>, at: Option<Time<'a>>, mut body: Object<'a>) -> Result<Event, Rejection> {
    let object = open_object(&mut body).ok_or_else(|| Rejection::malformed("object-missing"))?;
    let id = object
        .take_id("call_id")
        .ok_or_else(|| Rejection::malformed("id-missing"))?;
    let direction = if leg.party == "caller" {
        Direction::Outbound
    } else {
        Direction::Inbound
    };
    // Legs of one call have events of one name; they differ in whose they are.
    let party = object.open(leg.party);
    let marks = party.as_deref().map(|party| {
        [
            "user_id",
            "extension_id",
            "extension_number",
            "device_id",
            "phone_number",
        ]
        .map(|key| party.peek_id(key).unwrap_or_default())
    });
    let marks = marks.unwrap_or_default();
    let mark = crypto::fingerprint(&marks.each_ref().map(|mark| &**mark))?;
    let agent = party.and_then(|party| Agent::known(party.take_id("user_id"), party.peek_filled("name")));
    let outcome = leg
        .outcome
        .or_else(|| outcome(&object.peek_str("handup_result")?, direction))
        .filter(|_| leg.state == CallState::Ended);
    let call = Call {
        id: id.clone(),
        direction,
        state: Some(leg.state),
        outcome,
        from: object.open("caller").and_then(take_party),
        to: object.open("callee").and_then(take_party),
        started_at: object.take_time("ringing_start_time"),
        answered_at: object
            .take_time("answer_start_time")
            .or_else(|| object.take_time("connected_start_time")),
        ended_at: object.take_time("call_end_time"),
        agent,
        ..Call::default()
    };
    let kind = match (leg.state, direction) {
        (CallState::Ringing, _) => kind::CALL_RINGING,
        (CallState::Answered, _) => kind::CALL_ANSWERED,
        // Whatever became of it, the customer was called and did not take it.
        (_, Direction::Inbound) if outcome.is_some_and(|outcome| outcome != CallOutcome::Completed) => {
            kind::CALL_MISSED
        }
        _ => kind::of_ended_call(outcome),
    };
    let event = Event::new(kind, format!("{name}:{id}:{mark}"), id).at(at.as_ref());
    Ok(event.data(&Data {
        provider_event: name,
        call: Some(call),
        extra: body,
        ..Data::default()
    }))
}

/// An end of the call: a number, or an extension of the company's own, which is sent as a number and stays.
fn take_party<'a>(party: &mut Object<'a>) -> Option<Party<'a>> {
    let read = match party.take_filled("phone_number") {
        Some(number) => Party::read(number),
        None => Party {
            raw: party.peek_id("extension_number")?,
            ..Party::default()
        },
    };
    Some(Party {
        name: party.take_filled("name"),
        ..read
    })
}

fn outcome(result: &str, direction: Direction) -> Option<CallOutcome> {
    match (result, direction) {
        ("Call connected", _) => Some(CallOutcome::Completed),
        ("Call Cancel", _) => Some(CallOutcome::Cancelled),
        ("No Answer", Direction::Inbound) => Some(CallOutcome::Missed),
        ("No Answer", _) => Some(CallOutcome::NoAnswer),
        ("Busy", _) => Some(CallOutcome::Busy),
        ("Rejected", _) => Some(CallOutcome::Rejected),
        ("Call failed", _) => Some(CallOutcome::Failed),
        _ => None,
    }
}

/// An event this plugin has no name for, whole under `extra`.
fn other<'a>(
    name: Text<'a>,
    at: Option<Time<'a>>,
    mut body: Object<'a>,
    document: &Document<'a>,
) -> Result<Event, Rejection> {
    let call = open_object(&mut body).and_then(|object| object.peek_filled("call_id"));
    let event = Event::other(&name, call, document)?.at(at.as_ref());
    Ok(event.data(&Data {
        provider_event: name,
        extra: body,
        ..Data::default()
    }))
}

fn open_object<'b, 'a>(body: &'b mut Object<'a>) -> Option<&'b mut Object<'a>> {
    body.open("payload")?.open("object")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases() {
        callfeed_plugin::testing::cases::<ZoomPhone>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }

    #[test]
    fn odd_values_lose_nothing() {
        callfeed_plugin::testing::substitutions::<ZoomPhone>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }
}
