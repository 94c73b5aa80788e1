//! ElevenLabs: AI voice agents on the telephone and on the web.
//!
//! <https://elevenlabs.io/docs/eleven-agents/workflows/post-call-webhooks>. The header is `ElevenLabs-Signature:
//! t=<s>,v0=<hex>`: an HMAC-SHA256 over the seconds, a dot and the body; there may be several `v0`.
//!
//! One webhook has the conversation with its analysis, another one its sound, and one tells of a call that did not come
//! about. The sound is the whole recording in base64, which no event has room for: unless the route wants it, that webhook
//! is taken and nothing is made of it. ElevenLabs has to get its 200, or it stops sending after a while.

use callfeed_plugin::{
    Descriptor, Event, Outcome, Provider, Rejection, Request, SecretSpec, Verdict,
    crypto::{self, Failure, Part},
    data::{Agent, Call, CallOutcome, CallState, Data, Direction, Error, Speaker, Text, Turn},
    encoding, environment,
    json::{Document, Object},
    kind, register,
    time::Time,
};
use serde::Deserialize;

const SIGNATURE: &str = "elevenlabs-signature";
/// The vendor's own libraries allow so much, since a webhook may be long and late.
const OLD_SECONDS_MAX: u32 = 30 * 60;
const AHEAD_SECONDS_MAX: u32 = 5 * 60;

const TRANSCRIPTION: &str = "post_call_transcription";
const AUDIO: &str = "post_call_audio";
const FAILURE: &str = "call_initiation_failure";

const OPTIONS_SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "audio": {
      "description": "What becomes of post_call_audio, a whole recording in base64: nothing (ignore), or a provider.other that carries it (event), for which limits.plugin_output, limits.plugin_memory and server.max_body have to be raised.",
      "enum": ["ignore", "event"],
      "default": "ignore"
    }
  }
}"#;

/// The route's options, as `OPTIONS_SCHEMA` has them.
#[derive(Deserialize)]
struct Options {
    audio: Option<String>,
}

/// The plugin.
pub struct ElevenLabs;

register!(ElevenLabs);

impl Provider for ElevenLabs {
    fn describe() -> Descriptor {
        Descriptor::new("elevenlabs", "ElevenLabs", env!("CARGO_PKG_VERSION"))
            .headers(&[SIGNATURE])
            .max_body_bytes(4 << 20)
            .secret(SecretSpec::utf8(
                "signing",
                "Settings → Webhooks → the webhook's shared secret: wsec_…, all of it",
            ))
            .event(TRANSCRIPTION, kind::CALL_COMPLETED)
            .event(TRANSCRIPTION, kind::CALL_FAILED)
            .event(FAILURE, kind::CALL_FAILED)
            .event("*", kind::PROVIDER_OTHER)
            .options_schema(OPTIONS_SCHEMA)
            .extra(
                "documentation",
                "https://elevenlabs.io/docs/eleven-agents/workflows/post-call-webhooks",
            )
    }

    fn verify(request: &Request) -> Result<Verdict, Rejection> {
        let header = request
            .header(SIGNATURE)
            .ok_or_else(|| Rejection::unauthenticated("signature-missing"))?;
        let malformed = || Rejection::unauthenticated("signature-malformed");
        let mut parts = encoding::parameters(header);
        let signed_at = parts.find_map(|(name, value)| (name == "t").then_some(value));
        let signed_at = signed_at.ok_or_else(malformed)?;
        let signatures = encoding::parameters(header).filter(|(name, _)| *name == "v0");
        let mut flaw = malformed();
        for (_, digits) in signatures {
            let Some(signature) = encoding::hex(digits) else {
                continue;
            };
            let message = [Part::Text(signed_at), Part::Text("."), Part::Body];
            match crypto::verify_hmac("signing", "sha256", &message, &signature) {
                Ok(()) => {
                    // Before this the number could have been anybody's.
                    let signed_at_s: i64 = signed_at.parse().map_err(|_| malformed())?;
                    request.check_age(signed_at_s.saturating_mul(1000), OLD_SECONDS_MAX, AHEAD_SECONDS_MAX)?;
                    return Ok(Verdict::authentic("v0"));
                }
                Err(Failure::Mismatch) => flaw = Failure::Mismatch.into(),
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(flaw)
    }

    fn normalize(request: &Request, _payload: Option<&str>) -> Result<Outcome, Rejection> {
        let document = request.json()?;
        let mut body = document.object()?;
        let name = body
            .take_str("type")
            .ok_or_else(|| Rejection::malformed("type-missing"))?;
        let at = body.peek_unix("event_timestamp");
        let event = match &*name {
            TRANSCRIPTION => conversation(name, at, body)?,
            FAILURE => failure(name, at, body)?,
            AUDIO if environment::options::<Options>()?.audio.as_deref() != Some("event") => {
                return Ok(Outcome::ignored("audio"));
            }
            _ => other(name, at, body, &document)?,
        };
        Ok(Outcome::event(event))
    }
}

fn conversation<'a>(name: Text<'a>, at: Option<Time<'a>>, mut body: Object<'a>) -> Result<Event, Rejection> {
    let data = open_data(&mut body)?;
    let id = take_id(data)?;
    // `failed` is the conversation; whether the agent reached its goal is in the analysis, and the customer's business.
    let outcome = match data.peek_str("status").as_deref() {
        Some("done") => Some(CallOutcome::Completed),
        Some("failed") => Some(CallOutcome::Failed),
        _ => None,
    };
    let mut call = Call {
        id: id.clone(),
        state: Some(CallState::Ended),
        outcome,
        agent: Agent::known(data.take_str("agent_id"), data.take_str("agent_name")),
        ..Call::default()
    };
    if let Some(metadata) = data.open("metadata") {
        call.started_at = metadata.peek_unix("start_time_unix_secs");
        call.duration_seconds = metadata.take_seconds("call_duration_secs");
        if let Some(line) = metadata.open("phone_call") {
            call.direction = line.take_word("direction").unwrap_or_default();
            // Which of the two calls follows from the direction alone.
            (call.from, call.to) = match call.direction {
                Direction::Inbound => (line.take_party("external_number"), line.take_party("agent_number")),
                Direction::Outbound => (line.take_party("agent_number"), line.take_party("external_number")),
                Direction::Unknown => (None, None),
            };
        }
    }
    if let Some(analysis) = data.open("analysis") {
        call.summary = analysis.take_filled("transcript_summary");
        call.extracted = analysis.take_raw_object("data_collection_results");
    }
    let started_at_ms = call.started_at.as_ref().map(Time::ms);
    call.transcript = data.open_list("transcript").map(|items| {
        items
            .objects()
            .filter_map(|item| take_turn(item, started_at_ms))
            .collect()
    });
    let event = Event::new(kind::of_ended_call(outcome), format!("{name}:{id}"), id).at(at.as_ref());
    Ok(event.data(&Data {
        provider_event: name,
        call: Some(call),
        extra: body,
        ..Data::default()
    }))
}

/// One turn. One without a text, such as a tool's work, stays where it is.
fn take_turn<'a>(item: &mut Object<'a>, started_at_ms: Option<i64>) -> Option<Turn<'a>> {
    let text = item.take_filled("message")?;
    let speaker = match item.peek_str("role").as_deref() {
        Some("user") => Speaker::Customer,
        _ => item.take_word("role").unwrap_or_default(),
    };
    // Seconds into the call; as a time of day they are something else, so they stay.
    let into_call_ms = item
        .peek_f64("time_in_call_secs")
        .map(|seconds| (seconds * 1000.0) as i64);
    let at = started_at_ms.zip(into_call_ms);
    let at = at.and_then(|(start, into_call)| Time::from_ms(start.checked_add(into_call)?));
    Some(Turn { speaker, text, at })
}

/// A call that did not come about. What the telephone company said of it is passed on by ElevenLabs as it was.
fn failure<'a>(name: Text<'a>, at: Option<Time<'a>>, mut body: Object<'a>) -> Result<Event, Rejection> {
    let data = open_data(&mut body)?;
    let id = take_id(data)?;
    let reason = data.take_filled("failure_reason");
    let mut call = Call {
        id: id.clone(),
        state: Some(CallState::Ended),
        outcome: Some(match reason.as_deref() {
            Some("busy") => CallOutcome::Busy,
            Some("no-answer") => CallOutcome::NoAnswer,
            _ => CallOutcome::Failed,
        }),
        agent: Agent::known(data.take_str("agent_id"), data.take_str("agent_name")),
        error: reason.map(|message| Error { message, code: None }),
        ..Call::default()
    };
    if let Some(told) = data.open("metadata").and_then(|metadata| metadata.open("body")) {
        // The members of Twilio's callback, or those of a SIP trunk.
        call.direction = match told.peek_str("Direction").as_deref() {
            Some(direction) if direction.starts_with("outbound") => Direction::Outbound,
            _ => told.take_word("direction").unwrap_or_default(),
        };
        call.from = told.take_party("From").or_else(|| told.take_party("from_number"));
        call.to = told.take_party("To").or_else(|| told.take_party("to_number"));
    }
    let event = Event::new(kind::CALL_FAILED, format!("{name}:{id}"), id).at(at.as_ref());
    Ok(event.data(&Data {
        provider_event: name,
        call: Some(call),
        extra: body,
        ..Data::default()
    }))
}

/// An event this plugin has no name for, whole under `extra`.
fn other<'a>(
    name: Text<'a>,
    at: Option<Time<'a>>,
    mut body: Object<'a>,
    document: &Document<'a>,
) -> Result<Event, Rejection> {
    let call = body.open("data").and_then(|data| data.peek_filled("conversation_id"));
    let event = Event::other(&name, call, document)?.at(at.as_ref());
    Ok(event.data(&Data {
        provider_event: name,
        extra: body,
        ..Data::default()
    }))
}

fn open_data<'b, 'a>(body: &'b mut Object<'a>) -> Result<&'b mut Object<'a>, Rejection> {
    body.open("data").ok_or_else(|| Rejection::malformed("data-missing"))
}

fn take_id<'a>(data: &mut Object<'a>) -> Result<Text<'a>, Rejection> {
    data.take_id("conversation_id")
        .ok_or_else(|| Rejection::malformed("id-missing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases() {
        callfeed_plugin::testing::cases::<ElevenLabs>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }

    #[test]
    fn odd_values_lose_nothing() {
        callfeed_plugin::testing::substitutions::<ElevenLabs>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }

    #[test]
    fn one_signature_of_several_has_to_be_right() {
        use callfeed_plugin::testing::{TestHost, with_host};
        // Computed apart from this code, over `1780315197.{}`.
        const RIGHT: &str = "89564aa9caa3bebfca40d5cbe77bb4df62b19c3812165e724ceb53e342650f76";
        let judge = |header: String| {
            let mut request = TestHost::request("POST", "{}");
            request.headers.push(TestHost::field(SIGNATURE, &header));
            let host = TestHost {
                body: b"{}".to_vec(),
                ..TestHost::default()
            };
            with_host(host.secret("signing", "wsec_test_0001"), || {
                callfeed_plugin::verify::<ElevenLabs>(&request)
            })
        };
        let wrong = "0".repeat(64);
        for header in [
            format!("t=1780315197,v0={RIGHT}"),
            format!("t=1780315197,v0={wrong},v0={RIGHT}"),
            format!("v0={RIGHT}, v0=?, t=1780315197, v1={wrong}"),
        ] {
            assert_eq!(judge(header.clone()), Verdict::authentic("v0"), "{header}");
        }
        for (header, code) in [
            (format!("t=1780315197,v0={wrong},v0=?"), "signature-mismatch"),
            (format!("t=1780315197,v1={RIGHT}"), "signature-malformed"),
            (format!("v0={RIGHT}"), "signature-malformed"),
        ] {
            assert!(
                matches!(judge(header.clone()), Verdict::Reject(rejection) if rejection.code == code),
                "{header}"
            );
        }
    }
}
