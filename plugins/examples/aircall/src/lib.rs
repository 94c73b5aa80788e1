//! Aircall: a company's telephone system.
//!
//! <https://developer.aircall.io/docs/webhooks-overview>. Nothing is signed: the body has the webhook's own `token` as a
//! member. Whoever has seen one webhook can send any other, so the token must be seen by nobody. The gateway strikes a
//! token that was presented out of the body it keeps, and `normalize` sees that body: a mark is left, in `extra`, too. What
//! the gateway does not know it cannot strike out, so a webhook with a token is refused where the route has none, even if
//! the route is open to webhooks without.
//!
//! `call.hungup` comes at once and `call.ended` half a minute later, with everything; only the latter is the end here.

use callfeed_plugin::{
    Descriptor, Event, Outcome, Provider, Rejection, Request, SecretSpec, Verdict,
    crypto::{self, Failure},
    data::{Agent, Call, CallOutcome, CallState, Data, Direction, Party, Recording, Text},
    json::{Document, Object},
    kind, register,
    time::Time,
};

/// The secret, and the member that has it.
const TOKEN: &str = "token";

/// The plugin.
pub struct Aircall;

register!(Aircall);

impl Provider for Aircall {
    fn describe() -> Descriptor {
        Descriptor::new("aircall", "Aircall", env!("CARGO_PKG_VERSION"))
            .assurance("token")
            .secret(SecretSpec::utf8(
                TOKEN,
                "Dashboard → Integrations → Webhooks → the webhook's token, or `token` of the API's answer that created it",
            ))
            .event("call.created", kind::CALL_INITIATED)
            .event("call.ringing_on_agent", kind::CALL_RINGING)
            .event("call.answered", kind::CALL_ANSWERED)
            .event("call.transferred", kind::CALL_TRANSFERRED)
            .event("call.ended", kind::CALL_COMPLETED)
            .event("call.ended", kind::CALL_MISSED)
            .event("call.ended", kind::CALL_FAILED)
            .event("*", kind::PROVIDER_OTHER)
            .extra("documentation", "https://developer.aircall.io/docs/webhooks-overview")
    }

    fn verify(request: &Request) -> Result<Verdict, Rejection> {
        let document = request.json()?;
        let Some(token) = document.object()?.take_str(TOKEN) else {
            // For the gateway to judge: it refuses this unless the route allows unsigned webhooks.
            return Ok(Verdict::authentic("unsigned"));
        };
        match crypto::verify_token(TOKEN, token.as_bytes()) {
            Ok(()) => Ok(Verdict::authentic("token")),
            Err(Failure::Mismatch) => Err(Rejection::unauthenticated("token-mismatch")),
            Err(failure) => Err(failure.into()),
        }
    }

    fn normalize(request: &Request, _payload: Option<&str>) -> Result<Outcome, Rejection> {
        let document = request.json()?;
        let mut body = document.object()?;
        let name = body
            .take_str("event")
            .ok_or_else(|| Rejection::malformed("event-missing"))?;
        let at = body.peek_unix("timestamp");
        let state = match &*name {
            "call.created" => Some(CallState::Initiated),
            "call.ringing_on_agent" => Some(CallState::Ringing),
            "call.answered" => Some(CallState::Answered),
            "call.transferred" => Some(CallState::Transferred),
            "call.ended" => Some(CallState::Ended),
            _ => None,
        };
        let event = match state {
            Some(state) => call_event(state, name, at, body)?,
            None => other(name, at, body, &document)?,
        };
        Ok(Outcome::event(event))
    }
}

fn call_event<'a>(
    state: CallState,
    name: Text<'a>,
    at: Option<Time<'a>>,
    mut body: Object<'a>,
) -> Result<Event, Rejection> {
    let sent_at = body.peek_id("timestamp").unwrap_or_default();
    let data = body.open("data").ok_or_else(|| Rejection::malformed("data-missing"))?;
    let id = data.take_id("id").ok_or_else(|| Rejection::malformed("id-missing"))?;
    let key = match state {
        // A call may ring at several agents, and go from one to the next.
        CallState::Ringing | CallState::Transferred => format!("{name}:{id}:{sent_at}"),
        _ => format!("{name}:{id}"),
    };
    let direction: Direction = data.take_word("direction").unwrap_or_default();
    let (from, to) = match direction {
        Direction::Inbound => (data.take_party("raw_digits"), take_line(data)),
        Direction::Outbound => (take_line(data), data.take_party("raw_digits")),
        Direction::Unknown => (None, None),
    };
    let answered_at = data.peek_unix("answered_at");
    let outcome = match (state, direction, &answered_at) {
        (CallState::Ended, _, Some(_)) => Some(CallOutcome::Completed),
        (CallState::Ended, Direction::Inbound, None) => Some(CallOutcome::Missed),
        (CallState::Ended, Direction::Outbound, None) => Some(CallOutcome::NoAnswer),
        _ => None,
    };
    let call = Call {
        id: id.clone(),
        direction,
        state: Some(state),
        outcome,
        from,
        to,
        started_at: data.peek_unix("started_at"),
        answered_at,
        ended_at: data.peek_unix("ended_at"),
        // Until then it is 0, which no call lasts.
        duration_seconds: match state {
            CallState::Ended => data.take_seconds("duration"),
            _ => None,
        },
        agent: data
            .open("user")
            .and_then(|user| Agent::known(user.take_id("id"), user.take_filled("name"))),
        recording: data
            .take_filled("recording")
            .map(|url| Recording { url, expires_at: None }),
        ..Call::default()
    };
    let kind = match state {
        CallState::Initiated => kind::CALL_INITIATED,
        CallState::Ringing => kind::CALL_RINGING,
        CallState::Answered => kind::CALL_ANSWERED,
        CallState::Transferred => kind::CALL_TRANSFERRED,
        CallState::Ended => kind::of_ended_call(outcome),
    };
    let event = Event::new(kind, key, id).at(at.as_ref());
    Ok(event.data(&Data {
        provider_event: name,
        call: Some(call),
        extra: body,
        ..Data::default()
    }))
}

/// The customer's own number; written for people, with spaces.
fn take_line<'a>(data: &mut Object<'a>) -> Option<Party<'a>> {
    let line = data.open("number")?;
    let party = line.take_party("digits")?;
    Some(Party {
        name: line.take_filled("name"),
        ..party
    })
}

/// An event this plugin has no name for, whole under `extra`.
fn other<'a>(
    name: Text<'a>,
    at: Option<Time<'a>>,
    mut body: Object<'a>,
    document: &Document<'a>,
) -> Result<Event, Rejection> {
    let of_a_call = body.peek_str("resource").as_deref() == Some("call");
    let call = body.open("data").and_then(|data| data.peek_id("id"));
    let event = Event::other(&name, call.filter(|_| of_a_call), document)?.at(at.as_ref());
    Ok(event.data(&Data {
        provider_event: name,
        extra: body,
        ..Data::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases() {
        callfeed_plugin::testing::cases::<Aircall>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }

    #[test]
    fn odd_values_lose_nothing() {
        callfeed_plugin::testing::substitutions::<Aircall>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }
}
