//! Telnyx: calls on a programmable telephone network.
//!
//! <https://developers.telnyx.com/docs/voice/programmable-voice/voice-api-webhooks>. A webhook is signed with Ed25519
//! over the timestamp's digits, a vertical bar and the body. The account's public key checks it: a secret in name only.
//!
//! A call has a leg for each of its ends, with a beginning and a hang-up of its own, and a session that holds them
//! together. A leg is what has one caller and one called, so the leg is the call here; the session stays in `extra`.

use callfeed_plugin::{
    Descriptor, Event, Outcome, Provider, Rejection, Request, SecretSpec, Verdict,
    crypto::{self, Part},
    data::{Call, CallOutcome, CallState, Data, Direction, Text},
    encoding,
    json::Object,
    kind, register,
    time::Time,
};

const SIGNATURE: &str = "telnyx-signature-ed25519";
const TIMESTAMP: &str = "telnyx-timestamp";
const TOLERANCE_SECONDS: u32 = 300;

/// The plugin.
pub struct Telnyx;

register!(Telnyx);

impl Provider for Telnyx {
    fn describe() -> Descriptor {
        Descriptor::new("telnyx", "Telnyx", env!("CARGO_PKG_VERSION"))
            .headers(&[SIGNATURE, TIMESTAMP])
            .secret(
                SecretSpec::utf8("public_key", "Account Settings → Keys & Credentials → Public Key").encoding("base64"),
            )
            .event("call.initiated", kind::CALL_INITIATED)
            .event("call.answered", kind::CALL_ANSWERED)
            .event("call.hangup", kind::CALL_COMPLETED)
            .event("call.hangup", kind::CALL_FAILED)
            .event("*", kind::PROVIDER_OTHER)
            .extra(
                "documentation",
                "https://developers.telnyx.com/docs/voice/programmable-voice/voice-api-webhooks",
            )
    }

    fn verify(request: &Request) -> Result<Verdict, Rejection> {
        let header = |name, missing| request.header(name).ok_or_else(|| Rejection::unauthenticated(missing));
        let timestamp = header(TIMESTAMP, "timestamp-missing")?;
        let signature = encoding::base64(header(SIGNATURE, "signature-missing")?)
            .ok_or_else(|| Rejection::unauthenticated("signature-malformed"))?;
        let message = [Part::Text(timestamp), Part::Text("|"), Part::Body];
        crypto::verify_signature("public_key", "ed25519", &message, &signature)?;
        // Before this the number could have been anybody's.
        let signed_at_s: i64 = timestamp
            .parse()
            .map_err(|_| Rejection::unauthenticated("timestamp-malformed"))?;
        request.check_age(signed_at_s.saturating_mul(1000), TOLERANCE_SECONDS, TOLERANCE_SECONDS)?;
        Ok(Verdict::authentic("ed25519"))
    }

    fn normalize(request: &Request, _payload: Option<&str>) -> Result<Outcome, Rejection> {
        let document = request.json()?;
        let mut body = document.object()?;
        let data = body.open("data").ok_or_else(|| Rejection::malformed("data-missing"))?;
        let name = data
            .take_str("event_type")
            .ok_or_else(|| Rejection::malformed("event-missing"))?;
        // Every delivery of one event has this id.
        let id = data.peek_id("id").ok_or_else(|| Rejection::malformed("id-missing"))?;
        let at = data.peek_str("occurred_at").and_then(Time::parse);
        let moment = match &*name {
            "call.initiated" => Some(Moment::Initiated),
            "call.answered" => Some(Moment::Answered),
            "call.hangup" => Some(Moment::HungUp),
            _ => None,
        };
        let event = match moment {
            Some(moment) => call_event(moment, name, &id, at, body)?,
            None => other(name, &id, at, body),
        };
        Ok(Outcome::event(event))
    }
}

/// What a webhook reports of a call.
#[derive(Clone, Copy)]
enum Moment {
    Initiated,
    Answered,
    HungUp,
}

fn call_event<'a>(
    moment: Moment,
    name: Text<'a>,
    id: &str,
    at: Option<Time<'a>>,
    mut body: Object<'a>,
) -> Result<Event, Rejection> {
    let payload = open_payload(&mut body).ok_or_else(|| Rejection::malformed("payload-missing"))?;
    let leg = payload
        .take_id("call_leg_id")
        .or_else(|| payload.take_id("call_control_id"))
        .ok_or_else(|| Rejection::malformed("call-id-missing"))?;
    let mut call = Call {
        id: leg.clone(),
        direction: match payload.peek_str("direction").as_deref() {
            Some("incoming") => Direction::Inbound,
            Some("outgoing") => Direction::Outbound,
            _ => Direction::Unknown,
        },
        from: payload.take_party("from"),
        to: payload.take_party("to"),
        started_at: payload.take_time("start_time"),
        ..Call::default()
    };
    let kind = match moment {
        Moment::Initiated => {
            call.state = Some(CallState::Initiated);
            kind::CALL_INITIATED
        }
        Moment::Answered => {
            call.state = Some(CallState::Answered);
            call.answered_at = at.clone();
            kind::CALL_ANSWERED
        }
        Moment::HungUp => {
            call.state = Some(CallState::Ended);
            call.outcome = payload.peek_str("hangup_cause").and_then(|cause| outcome(&cause));
            call.ended_at = payload.take_time("end_time").or_else(|| at.clone());
            kind::of_ended_call(call.outcome)
        }
    };
    let event = Event::new(kind, id, leg).at(at.as_ref());
    Ok(event.data(&Data {
        provider_event: name,
        call: Some(call),
        extra: body,
        ..Data::default()
    }))
}

fn outcome(cause: &str) -> Option<CallOutcome> {
    match cause {
        "normal_clearing" | "time_limit" => Some(CallOutcome::Completed),
        "call_rejected" => Some(CallOutcome::Rejected),
        "user_busy" => Some(CallOutcome::Busy),
        "timeout" => Some(CallOutcome::NoAnswer),
        "originator_cancel" => Some(CallOutcome::Cancelled),
        "not_found" => Some(CallOutcome::Failed),
        _ => None,
    }
}

/// An event this plugin has no name for, whole under `extra`.
fn other<'a>(name: Text<'a>, id: &str, at: Option<Time<'a>>, mut body: Object<'a>) -> Event {
    let leg = open_payload(&mut body).and_then(|payload| payload.peek_filled("call_leg_id"));
    let subject = leg.map_or_else(|| id.to_owned(), Text::into_owned);
    let event = Event::new(kind::PROVIDER_OTHER, id, subject).at(at.as_ref());
    event.data(&Data {
        provider_event: name,
        extra: body,
        ..Data::default()
    })
}

fn open_payload<'b, 'a>(body: &'b mut Object<'a>) -> Option<&'b mut Object<'a>> {
    body.open("data")?.open("payload")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases() {
        callfeed_plugin::testing::cases::<Telnyx>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }

    #[test]
    fn odd_values_lose_nothing() {
        callfeed_plugin::testing::substitutions::<Telnyx>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }
}
