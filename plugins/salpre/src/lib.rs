//! Salpre: AI telephone agents on calls of a mobile line, through a device called Salpre Box.
//!
//! <https://documentation.salpre.com/docs/webhooks>. A webhook has no signature; it carries whatever static headers the
//! operator entered at Salpre, and one of them has to be a token.
//!
//! The call's id comes as a number here and as a text in Salpre's REST interface, at one of two depths. Nothing says how
//! long a call was or why it ended, and a call nobody took ends like any other: without a `call_answered` before.

use callfeed_plugin::{
    Descriptor, Event, Outcome, Provider, Rejection, Request, SecretSpec, Verdict,
    crypto::{self, Failure},
    data::{Call, CallOutcome, CallState, Data, Direction, Error, Speaker, Text, Turn},
    environment,
    json::{Document, Object},
    kind, register,
    time::Time,
};

/// Tried in this order when the route names no header.
const HEADERS: &[&str] = &["authorization", "x-api-key"];

/// The plugin.
pub struct Salpre;

register!(Salpre);

impl Provider for Salpre {
    fn describe() -> Descriptor {
        Descriptor::new("salpre", "Salpre", env!("CARGO_PKG_VERSION"))
            .headers(HEADERS)
            .headers(&["option:/header"])
            .assurance("token")
            .secret(SecretSpec::utf8(
                "token",
                "The value entered at Salpre under Settings → Integrations → Custom Webhook → Additional Headers",
            ))
            .event("call_initiated", kind::CALL_INITIATED)
            .event("call_ringing", kind::CALL_RINGING)
            .event("call_answered", kind::CALL_ANSWERED)
            .event("transcript", kind::CALL_TRANSCRIPT)
            .event("call_ended", kind::CALL_COMPLETED)
            .event("error", kind::CALL_FAILED)
            .event("*", kind::PROVIDER_OTHER)
            .options_schema(include_str!("options.schema.json"))
            .extra("documentation", "https://documentation.salpre.com/docs/webhooks")
    }

    fn verify(request: &Request) -> Result<Verdict, Rejection> {
        let options = environment::options_json();
        let options = Document::parse(&options)?;
        let named = options.object()?.take_one_or_several("header");
        let names: Vec<String> = match named {
            Some(names) => names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            None => HEADERS.iter().map(|&name| name.to_owned()).collect(),
        };
        if names.iter().all(|name| request.header(name).is_none()) {
            // For the gateway to judge: it refuses this unless the route allows unsigned webhooks.
            return Ok(Verdict::authentic("unsigned"));
        }
        for name in &names {
            let Some(value) = request.header(name) else { continue };
            // An operator may enter the whole header as the secret, or the token alone.
            let token = if name == "authorization" { bearer(value) } else { None };
            for presented in [Some(value), token].into_iter().flatten() {
                match crypto::verify_token("token", presented.as_bytes()) {
                    Ok(()) => return Ok(Verdict::authentic(name)),
                    Err(Failure::Mismatch) => {}
                    // An open route has no token to compare with. For the gateway to judge, as below.
                    Err(Failure::Misconfigured(_)) => return Ok(Verdict::authentic("unsigned")),
                    Err(failure) => return Err(failure.into()),
                }
            }
        }
        Err(Rejection::unauthenticated("token-mismatch").detail(format!("looked in {}", names.join(", "))))
    }

    fn normalize(request: &Request, _payload: Option<&str>) -> Result<Outcome, Rejection> {
        let document = request.json()?;
        let mut body = document.object()?;
        let name = body
            .take_str("event_type")
            .ok_or_else(|| Rejection::malformed("event-missing"))?;
        let test = take_test(&mut body);
        let event = match &*name {
            "call_initiated" => call_event(Moment::Initiated, name, body)?,
            "call_ringing" => call_event(Moment::Ringing, name, body)?,
            "call_answered" => call_event(Moment::Answered, name, body)?,
            "transcript" => call_event(Moment::Transcript, name, body)?,
            "call_ended" => call_event(Moment::Ended, name, body)?,
            "error" => call_event(Moment::Error, name, body)?,
            _ => other(name, body, &document)?,
        };
        Ok(Outcome::event(if test { apart(event) } else { event }))
    }
}

/// The token of an `Authorization: Bearer` header.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start())
}

/// Whether this is a test. A test taken for a real call does more harm than the reverse, so it is one unless it clearly
/// says that it is not. What is no boolean stays.
fn take_test(body: &mut Object<'_>) -> bool {
    let no = ["null", "0", r#""false""#, r#""0""#];
    match body.take_bool("is_test") {
        Some(test) => test,
        None => body.peek_raw("is_test").is_some_and(|said| !no.contains(&said.get())),
    }
}

/// The console's test button always speaks of the same call, and real calls count from the same number: a test must
/// not pass for the event of a real call, nor two tests for one.
fn apart(event: Event) -> Event {
    let at = event.occurred_at_ms.map(|ms| format!(":{ms}")).unwrap_or_default();
    Event {
        id: format!("test:{}{at}", event.id),
        ..event
    }
    .test(true)
}

/// What a webhook reports of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    Initiated,
    Ringing,
    Answered,
    Transcript,
    Ended,
    Error,
}

fn call_event<'a>(moment: Moment, name: Text<'a>, mut body: Object<'a>) -> Result<Event, Rejection> {
    let sent_at = unix(&body, "timestamp_utc");
    let at = sent_at.and_then(Time::from_unix);
    let payload = body
        .open("payload")
        .ok_or_else(|| Rejection::malformed("payload-missing"))?;

    let outer = payload.take_id("call_id");
    let id = outer.or_else(|| payload.open("call").and_then(|call| call.take_id("id")));
    // What tells events of one name about one call apart: there may be many pieces, and more than one error.
    let mark = match moment {
        Moment::Transcript => {
            let said = [payload.peek_str("type"), payload.peek_str("transcript")].map(Option::unwrap_or_default);
            let said_at = unix(payload, "timestamp_utc").or_else(|| unix(payload, "utc_timestamp"));
            crypto::fingerprint(&[
                sent_at.unwrap_or_default(),
                said_at.unwrap_or_default(),
                &said[0],
                &said[1],
            ])?
        }
        Moment::Error => {
            let message = payload.peek_str("error_message").unwrap_or_default();
            crypto::fingerprint(&[sent_at.unwrap_or_default(), &message])?
        }
        _ => String::new(),
    };
    let (key, subject) = match (&id, moment) {
        (Some(id), Moment::Transcript | Moment::Error) => (format!("{name}:{id}:{mark}"), id.to_string()),
        (Some(id), _) => (format!("{name}:{id}"), id.to_string()),
        // An error before there is a call is about nothing but itself.
        (None, Moment::Error) => (format!("{name}:{mark}"), format!("error-{mark}")),
        (None, _) => return Err(Rejection::malformed("id-missing")),
    };
    // A piece of a transcript may arrive after the end, and an error may or may not be one: neither says a state.
    // `timestamp_utc` is when the event occurred, so it says when the call got there.
    let (kind, state) = match moment {
        Moment::Initiated => (kind::CALL_INITIATED, Some(CallState::Initiated)),
        Moment::Ringing => (kind::CALL_RINGING, Some(CallState::Ringing)),
        Moment::Answered => (kind::CALL_ANSWERED, Some(CallState::Answered)),
        Moment::Transcript => (kind::CALL_TRANSCRIPT, None),
        Moment::Ended => (kind::CALL_COMPLETED, Some(CallState::Ended)),
        Moment::Error => (kind::CALL_FAILED, None),
    };
    let call = id.map(|id| {
        let mut call = Call {
            id,
            state,
            ..Call::default()
        };
        read_ends(&mut call, payload);
        if let Some(inner) = payload.open("call") {
            read_ends(&mut call, inner);
        }
        call.transcript = take_transcript(payload);
        call.error = payload
            .take_filled("error_message")
            .map(|message| Error { message, code: None });
        call.outcome = (moment == Moment::Error).then_some(CallOutcome::Failed);
        match moment {
            Moment::Initiated => call.started_at = at.clone(),
            Moment::Answered => call.answered_at = at.clone(),
            Moment::Ended => call.ended_at = at.clone(),
            Moment::Ringing | Moment::Transcript | Moment::Error => {}
        }
        call
    });
    let event = Event::new(kind, key, subject).at(at.as_ref());
    Ok(event.data(&Data {
        provider_event: name,
        call,
        extra: body,
        ..Data::default()
    }))
}

/// Reads who calls whom and through what, as far as it was not found before, from wherever the call's members are.
fn read_ends<'a>(call: &mut Call<'a>, object: &mut Object<'a>) {
    if call.direction == Direction::Unknown {
        call.direction = object.take_word("direction").unwrap_or_default();
    }
    call.from = call.from.take().or_else(|| object.take_party("from"));
    call.to = call.to.take().or_else(|| object.take_party("to"));
    // The device, `salprebox:<serial>`.
    call.via = call.via.take().or_else(|| object.take_party("source"));
}

/// One piece (a text beside its `type`), or the whole conversation (a list).
fn take_transcript<'a>(payload: &mut Object<'a>) -> Option<Vec<Turn<'a>>> {
    if payload.peek_str("transcript").is_some() {
        return take_turn(payload, "transcript").map(|turn| vec![turn]);
    }
    let items = payload.open_list("transcript")?;
    Some(items.objects().filter_map(|item| take_turn(item, "message")).collect())
}

fn take_turn<'a>(object: &mut Object<'a>, text_key: &str) -> Option<Turn<'a>> {
    let text = object.take_str(text_key)?;
    let speaker = match object.peek_str("type").as_deref() {
        Some("ai") => Speaker::Agent,
        _ => object.take_word("type").unwrap_or_default(),
    };
    // Spelled one way in a piece and the other way in a whole conversation; sometimes a placeholder.
    let at = unix(object, "timestamp_utc")
        .or_else(|| unix(object, "utc_timestamp"))
        .and_then(Time::from_unix);
    Some(Turn { speaker, text, at })
}

/// The digits of a Unix time, sent as a number or as a text. It becomes another text, so it stays.
fn unix<'a>(object: &Object<'a>, key: &str) -> Option<&'a str> {
    let raw = object.peek_raw(key)?.get().trim_matches('"');
    (!raw.is_empty() && raw.bytes().all(|byte| byte.is_ascii_digit())).then_some(raw)
}

/// An event this plugin has no name for, whole under `extra`.
fn other<'a>(name: Text<'a>, mut body: Object<'a>, document: &Document<'a>) -> Result<Event, Rejection> {
    let at = unix(&body, "timestamp_utc").and_then(Time::from_unix);
    let call = body.open("payload").and_then(|payload| {
        // Read, not taken.
        let outer = payload.peek_id("call_id");
        outer.or_else(|| payload.open("call").and_then(|call| call.peek_id("id")))
    });
    let event = Event::other(&name, call, document)?.at(at.as_ref());
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
        callfeed_plugin::testing::cases::<Salpre>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }

    #[test]
    fn odd_values_lose_nothing() {
        callfeed_plugin::testing::substitutions::<Salpre>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }

    #[test]
    fn a_bearer_token_is_found() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer  abc"), Some("abc"));
        assert_eq!(
            (bearer("Bearer"), bearer("Basic abc"), bearer("abc")),
            (None, None, None)
        );
    }
}
