//! Twilio: voice status callbacks.
//!
//! <https://www.twilio.com/docs/usage/webhooks/webhooks-security>, …/docs/voice/api/call-resource. How they are signed is
//! said in `verify`.
//!
//! A callback names no event; the call's status is one. Statuses arrive as a form, by GET as a query, or, through a sink
//! of Twilio's event streams, in JSON: a list of CloudEvents that each hold the parameters of a callback.

mod verify;

use callfeed_plugin::{
    Descriptor, Event, Outcome, Provider, Rejection, Request, SecretSpec, Verdict,
    data::{AnsweredBy, Call, CallOutcome, CallState, Data, Direction, Party, Recording, Seconds, Text},
    json::{Document, Object},
    kind, register,
    time::Time,
};

/// The plugin.
pub struct Twilio;

register!(Twilio);

impl Provider for Twilio {
    fn describe() -> Descriptor {
        Descriptor::new("twilio", "Twilio", env!("CARGO_PKG_VERSION"))
            .methods(&["POST", "GET"])
            .content_types(&["application/x-www-form-urlencoded"])
            .headers(&[verify::HEADER])
            .assurance("signed-derived")
            .secret(SecretSpec::utf8(
                verify::SECRET,
                "Console → Account Info → Auth Token, of the account that owns the number",
            ))
            .event("queued", kind::CALL_INITIATED)
            .event("initiated", kind::CALL_INITIATED)
            .event("ringing", kind::CALL_RINGING)
            .event("in-progress", kind::CALL_ANSWERED)
            .event("completed", kind::CALL_COMPLETED)
            .event("busy", kind::CALL_FAILED)
            .event("no-answer", kind::CALL_FAILED)
            .event("no-answer", kind::CALL_MISSED)
            .event("failed", kind::CALL_FAILED)
            .event("canceled", kind::CALL_FAILED)
            .event("*", kind::PROVIDER_OTHER)
            .extra("documentation", "https://www.twilio.com/docs/voice/api/call-resource")
    }

    fn verify(request: &Request) -> Result<Verdict, Rejection> {
        verify::verify(request)
    }

    fn normalize(request: &Request, _payload: Option<&str>) -> Result<Outcome, Rejection> {
        let document = match request.method.as_str() {
            "GET" => Document::of_fields(&request.query),
            _ if request.form.is_empty() => request.json()?,
            _ => request.form_json(),
        };
        if let Some(items) = document.items() {
            let events = items.into_iter().map(of_stream).collect::<Result<Vec<_>, _>>()?;
            return match events.is_empty() {
                true => Ok(Outcome::ignored("empty-list")),
                false => Ok(Outcome::events(events)),
            };
        }
        let mut parameters = document.object()?;
        let status = parameters
            .take_filled("CallStatus")
            .ok_or_else(|| Rejection::malformed("status-missing"))?;
        let seen = Seen::read(&status, &mut parameters)?;
        let event = Event::new(seen.kind, format!("{status}:{}", seen.id), seen.id).at(seen.at.as_ref());
        Ok(Outcome::event(event.data(&Data {
            provider_event: status,
            call: seen.call,
            extra: parameters,
            ..Data::default()
        })))
    }
}

/// What the parameters of a callback say.
struct Seen<'a> {
    kind: &'static str,
    id: Text<'a>,
    at: Option<Time<'a>>,
    /// `None` where the status is none that is known: then everything stays.
    call: Option<Call<'a>>,
}

impl<'a> Seen<'a> {
    fn read(status: &str, parameters: &mut Object<'a>) -> Result<Self, Rejection> {
        let id = parameters
            .peek_filled("CallSid")
            .ok_or_else(|| Rejection::malformed("id-missing"))?;
        let at = parameters
            .peek_str("Timestamp")
            .and_then(|date| Time::parse_rfc2822(&date));
        let Some((state, outcome)) = state(status) else {
            return Ok(Self {
                kind: kind::PROVIDER_OTHER,
                id,
                at,
                call: None,
            });
        };
        parameters.take_str("CallSid");
        let direction = match parameters.peek_str("Direction").as_deref() {
            // `outbound-api` and `outbound-dial` say more, and stay.
            Some(direction) if direction.starts_with("outbound-") => Direction::Outbound,
            _ => parameters.take_word("Direction").unwrap_or_default(),
        };
        let outcome = match (direction, outcome) {
            (Direction::Inbound, Some(CallOutcome::NoAnswer)) => Some(CallOutcome::Missed),
            (_, outcome) => outcome,
        };
        // A callback is sent when the status changes, so its time is when the call got there.
        let reached = |wanted| at.clone().filter(|_| state == wanted);
        let call = Call {
            id: id.clone(),
            direction,
            state: Some(state),
            outcome,
            from: take_party(parameters, "From", "CallerName", "FromCountry"),
            to: take_party(parameters, "To", "", "ToCountry"),
            started_at: reached(CallState::Initiated),
            answered_at: reached(CallState::Answered),
            ended_at: reached(CallState::Ended),
            duration_seconds: seconds(parameters, "CallDuration"),
            answered_by: parameters.peek_str("AnsweredBy").and_then(|who| answered_by(&who)),
            recording: parameters
                .take_filled("RecordingUrl")
                .map(|url| Recording { url, expires_at: None }),
            ..Call::default()
        };
        let kind = match state {
            CallState::Initiated => kind::CALL_INITIATED,
            CallState::Ringing => kind::CALL_RINGING,
            CallState::Answered | CallState::Transferred => kind::CALL_ANSWERED,
            CallState::Ended => kind::of_ended_call(outcome),
        };
        Ok(Self {
            kind,
            id,
            at,
            call: Some(call),
        })
    }
}

fn state(status: &str) -> Option<(CallState, Option<CallOutcome>)> {
    Some(match status {
        "queued" | "initiated" => (CallState::Initiated, None),
        "ringing" => (CallState::Ringing, None),
        "in-progress" => (CallState::Answered, None),
        "completed" => (CallState::Ended, Some(CallOutcome::Completed)),
        "busy" => (CallState::Ended, Some(CallOutcome::Busy)),
        "no-answer" => (CallState::Ended, Some(CallOutcome::NoAnswer)),
        "failed" => (CallState::Ended, Some(CallOutcome::Failed)),
        "canceled" => (CallState::Ended, Some(CallOutcome::Cancelled)),
        _ => return None,
    })
}

/// A number, or an address such as `client:tommy`, with what Twilio knows of it.
fn take_party<'a>(parameters: &mut Object<'a>, number: &str, name: &str, country: &str) -> Option<Party<'a>> {
    let party = parameters.take_party(number)?;
    Some(Party {
        name: parameters.take_filled(name),
        country: parameters.take_filled(country),
        ..party
    })
}

/// Seconds sent as a text, which stays.
fn seconds(parameters: &Object<'_>, key: &str) -> Option<Seconds> {
    let digits = parameters.peek_id(key)?;
    let whole: u32 = digits.parse().ok()?;
    Seconds::new(whole.into())
}

/// `machine_start`, `machine_end_beep` and others are all machines.
fn answered_by(word: &str) -> Option<AnsweredBy> {
    match word {
        "human" => Some(AnsweredBy::Human),
        "unknown" | "fax" => Some(AnsweredBy::Unknown),
        machine if machine.starts_with("machine") => Some(AnsweredBy::Voicemail),
        _ => None,
    }
}

/// A CloudEvent of an event stream. One that holds no callback's parameters is whole under `extra`.
fn of_stream<'a>(mut item: Object<'a>) -> Result<Event, Rejection> {
    let name = item
        .take_filled("type")
        .ok_or_else(|| Rejection::malformed("type-missing"))?;
    let id = item.peek_id("id").ok_or_else(|| Rejection::malformed("id-missing"))?;
    let parameters = item
        .open("data")
        .and_then(|data| data.open("request"))
        .and_then(|request| request.open("parameters"));
    let seen = parameters.and_then(|parameters| {
        let status = parameters.peek_filled("CallStatus")?;
        Seen::read(&status, parameters).ok()
    });
    let Some(seen) = seen else {
        let call = item.open("data").and_then(|data| data.peek_filled("sid"));
        let subject = call.unwrap_or_else(|| id.clone()).into_owned();
        let event = Event::new(kind::PROVIDER_OTHER, id, subject);
        return Ok(event.data(&Data {
            provider_event: name,
            extra: item,
            ..Data::default()
        }));
    };
    let event = Event::new(seen.kind, id, seen.id).at(seen.at.as_ref());
    Ok(event.data(&Data {
        provider_event: name,
        call: seen.call,
        extra: item,
        ..Data::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases() {
        callfeed_plugin::testing::cases::<Twilio>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }

    #[test]
    fn odd_values_lose_nothing() {
        callfeed_plugin::testing::substitutions::<Twilio>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }
}
