//! Retell AI: AI voice agents on the telephone and on the web.
//!
//! <https://docs.retellai.com/features/webhook-overview>. The header is `x-retell-signature: v=<ms>,d=<hex>`: an
//! HMAC-SHA256 over the body directly followed by the milliseconds, under the API key that is marked for webhooks.
//!
//! Retell tells of a call when it begins, when it is over, and once more when it was analysed. Only one of the latter two
//! can be its end; the route chooses which, and the other is passed on whole as `provider.other`.

use callfeed_plugin::{
    Descriptor, Event, Outcome, Provider, Rejection, Request, SecretSpec, Verdict,
    crypto::{self, Part},
    data::{Agent, AnsweredBy, Call, CallOutcome, CallState, Data, Recording, Seconds, Speaker, Text, Turn},
    encoding, environment,
    json::{Document, Object},
    kind, register,
};
use serde::Deserialize;

const SIGNATURE: &str = "x-retell-signature";
const TOLERANCE_SECONDS: u32 = 300;

const STARTED: &str = "call_started";
const ENDED: &str = "call_ended";
const ANALYZED: &str = "call_analyzed";

const OPTIONS_SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "end": {
      "description": "Which event is the end of a call: call_ended comes at once, call_analyzed later with the summary and what was extracted. The other one is passed on as provider.other.",
      "enum": ["call_ended", "call_analyzed"],
      "default": "call_ended"
    }
  }
}"#;

/// The route's options, as `OPTIONS_SCHEMA` has them.
#[derive(Deserialize)]
struct Options {
    end: Option<String>,
}

/// The plugin.
pub struct Retell;

register!(Retell);

impl Provider for Retell {
    fn describe() -> Descriptor {
        Descriptor::new("retell", "Retell AI", env!("CARGO_PKG_VERSION"))
            .headers(&[SIGNATURE])
            .secret(SecretSpec::utf8(
                "api_key",
                "Settings → API Keys → the key with the webhook badge",
            ))
            .event(STARTED, kind::CALL_ANSWERED)
            .event(ENDED, kind::CALL_COMPLETED)
            .event(ENDED, kind::CALL_FAILED)
            .event(ANALYZED, kind::CALL_COMPLETED)
            .event(ANALYZED, kind::CALL_FAILED)
            .event("*", kind::PROVIDER_OTHER)
            .options_schema(OPTIONS_SCHEMA)
            .extra("documentation", "https://docs.retellai.com/features/webhook-overview")
    }

    fn verify(request: &Request) -> Result<Verdict, Rejection> {
        let header = request
            .header(SIGNATURE)
            .ok_or_else(|| Rejection::unauthenticated("signature-missing"))?;
        let malformed = || Rejection::unauthenticated("signature-malformed");
        let part = |name| encoding::parameters(header).find_map(|(known, value)| (known == name).then_some(value));
        let signed_at = part("v").ok_or_else(malformed)?;
        let signature = part("d").and_then(encoding::hex).ok_or_else(malformed)?;
        crypto::verify_hmac("api_key", "sha256", &[Part::Body, Part::Text(signed_at)], &signature)?;
        // Before this the number could have been anybody's.
        let signed_at_ms = signed_at.parse().map_err(|_| malformed())?;
        request.check_age(signed_at_ms, TOLERANCE_SECONDS, TOLERANCE_SECONDS)?;
        Ok(Verdict::authentic("v-d"))
    }

    fn normalize(request: &Request, _payload: Option<&str>) -> Result<Outcome, Rejection> {
        let options: Options = environment::options()?;
        let end = options.end.as_deref().unwrap_or(ENDED);
        let document = request.json()?;
        let mut body = document.object()?;
        let name = body
            .take_str("event")
            .ok_or_else(|| Rejection::malformed("event-missing"))?;
        let event = if name == STARTED || name == end {
            call_event(name, body)?
        } else {
            other(name, body, &document)?
        };
        Ok(Outcome::event(event))
    }
}

fn call_event<'a>(name: Text<'a>, mut body: Object<'a>) -> Result<Event, Rejection> {
    let call = body.open("call").ok_or_else(|| Rejection::malformed("call-missing"))?;
    let id = call
        .take_id("call_id")
        .ok_or_else(|| Rejection::malformed("id-missing"))?;
    let metadata = call.take_raw_object("metadata");
    let reason = call.peek_str("disconnection_reason").unwrap_or_default();
    let mut unified = Call {
        id: id.clone(),
        direction: call.take_word("direction").unwrap_or_default(),
        from: call.take_party("from_number"),
        to: call.take_party("to_number"),
        started_at: call.peek_unix("start_timestamp"),
        ended_at: call.peek_unix("end_timestamp"),
        duration_seconds: call.peek_i64("duration_ms").and_then(Seconds::from_ms),
        agent: Agent::known(call.take_str("agent_id"), call.take_str("agent_name")),
        recording: call
            .take_filled("recording_url")
            .map(|url| Recording { url, expires_at: None }),
        transcript: take_transcript(call),
        answered_by: (reason == "voicemail_reached").then_some(AnsweredBy::Voicemail),
        ..Call::default()
    };
    if let Some(analysis) = call.open("call_analysis") {
        unified.summary = analysis.take_filled("call_summary");
        unified.extracted = analysis.take_raw_object("custom_analysis_data");
        if analysis.peek_bool("in_voicemail") == Some(true) {
            unified.answered_by = Some(AnsweredBy::Voicemail);
        }
    }
    let (kind, at) = if name == STARTED {
        unified.state = Some(CallState::Answered);
        (kind::CALL_ANSWERED, unified.started_at.clone())
    } else {
        unified.state = Some(CallState::Ended);
        unified.outcome = outcome(&reason);
        // When a call was analysed is not said; that it was over by then is no event of that time.
        let at = unified.ended_at.clone().filter(|_| name == ENDED);
        (kind::of_ended_call(unified.outcome), at)
    };
    let event = Event::new(kind, format!("{name}:{id}"), id).at(at.as_ref());
    Ok(event.data(&Data {
        provider_event: name,
        call: Some(unified),
        metadata,
        extra: body,
        ..Data::default()
    }))
}

/// What a reason for the end says of the call; most of them, such as a limit of the account, say nothing.
fn outcome(reason: &str) -> Option<CallOutcome> {
    match reason {
        "user_hangup"
        | "agent_hangup"
        | "call_transfer"
        | "voicemail_reached"
        | "inactivity"
        | "max_duration_reached" => Some(CallOutcome::Completed),
        "dial_busy" => Some(CallOutcome::Busy),
        "dial_no_answer" => Some(CallOutcome::NoAnswer),
        "user_declined" => Some(CallOutcome::Rejected),
        "dial_failed" | "invalid_destination" => Some(CallOutcome::Failed),
        error if error.starts_with("error_") => Some(CallOutcome::Failed),
        _ => None,
    }
}

/// The turns as a list, where there is one, and otherwise as the text that says the same: a line for each, with a label.
fn take_transcript<'a>(call: &mut Object<'a>) -> Option<Vec<Turn<'a>>> {
    if let Some(items) = call.open_list("transcript_object") {
        return Some(items.objects().filter_map(take_turn).collect());
    }
    let text = call.take_filled("transcript")?;
    let mut turns: Vec<Turn<'a>> = Vec::new();
    for line in text.split_inclusive('\n') {
        let labelled = [("Agent: ", Speaker::Agent), ("User: ", Speaker::Customer)]
            .into_iter()
            .find_map(|(label, speaker)| Some((speaker, line.strip_prefix(label)?)));
        match (labelled, turns.last_mut()) {
            // A line without a label goes on with what was said before.
            (None, Some(turn)) => turn.text.to_mut().push_str(line),
            (found, _) => {
                let (speaker, said) = found.unwrap_or((Speaker::Unknown, line));
                turns.push(Turn {
                    speaker,
                    text: said.to_owned().into(),
                    at: None,
                });
            }
        }
    }
    for turn in &mut turns {
        let length = turn.text.trim_end_matches('\n').len();
        turn.text.to_mut().truncate(length);
    }
    Some(turns)
}

fn take_turn<'a>(item: &mut Object<'a>) -> Option<Turn<'a>> {
    let text = item.take_str("content")?;
    let speaker = match item.peek_str("role").as_deref() {
        Some("user") => Speaker::Customer,
        _ => item.take_word("role").unwrap_or_default(),
    };
    Some(Turn {
        speaker,
        text,
        at: None,
    })
}

/// An event this plugin has no name for, whole under `extra`.
fn other<'a>(name: Text<'a>, mut body: Object<'a>, document: &Document<'a>) -> Result<Event, Rejection> {
    let call = body.open("call").and_then(|call| call.peek_filled("call_id"));
    let event = Event::other(&name, call, document)?;
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
        callfeed_plugin::testing::cases::<Retell>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }

    #[test]
    fn odd_values_lose_nothing() {
        callfeed_plugin::testing::substitutions::<Retell>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }
}
