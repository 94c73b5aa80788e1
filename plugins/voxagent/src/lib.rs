//! Voxagent, formerly SpeakNode: AI voice agents on the telephone and on the web.
//!
//! <https://docs.voxagent.app/en/guide/webhooks>. A webhook is signed with HMAC-SHA256 over its bytes, in hex; in which
//! header, the documentation does not say, so the route may name it, and otherwise the usual ones are tried: a signature
//! has to be right, whichever header it is in.
//!
//! Sessions have a beginning and a length, no direction and no end; neither is made up here. The one direction that can
//! be told is that of a campaign's call.

use callfeed_plugin::{
    Descriptor, Event, Outcome, Provider, Rejection, Request, SecretSpec, Verdict,
    crypto::{self, Part},
    data::{
        Agent, Attribution, Call, CallOutcome, CallState, Campaign, Data, Direction, Recording, Speaker, Text, Turn,
    },
    encoding, environment,
    json::{Document, Object},
    kind, register,
    remarks::{self, Remarks},
    time::Time,
};

/// Tried in this order when the route names no header.
const CANDIDATES: &[&str] = &[
    "x-webhook-signature",
    "x-signature",
    "x-voxagent-signature",
    "x-speaknode-signature",
    "x-hub-signature-256",
    "x-signature-256",
];

const STARTED: &str = "SessionStarted";
const COMPLETE: &str = "ConversationComplete";

/// The plugin.
pub struct Voxagent;

register!(Voxagent);

impl Provider for Voxagent {
    fn describe() -> Descriptor {
        Descriptor::new("voxagent", "Voxagent", env!("CARGO_PKG_VERSION"))
            .headers(CANDIDATES)
            .headers(&["option:/signature_header"])
            .secret(SecretSpec::utf8(
                "signing",
                "Webhooks → the subscription → Webhook Secret",
            ))
            .event(STARTED, kind::CALL_ANSWERED)
            .event(COMPLETE, kind::CALL_COMPLETED)
            .event("*", kind::PROVIDER_OTHER)
            .options_schema(include_str!("options.schema.json"))
            .extra("documentation", "https://docs.voxagent.app/en/guide/webhooks")
    }

    fn verify(request: &Request) -> Result<Verdict, Rejection> {
        let options = environment::options_json();
        let options = Document::parse(&options)?;
        let named = options.object()?.take_one_or_several("signature_header");
        let names: Vec<String> = match named {
            Some(names) => names.iter().map(|name| name.to_ascii_lowercase()).collect(),
            None => CANDIDATES.iter().map(|&name| name.to_owned()).collect(),
        };
        if names.iter().all(|name| request.header(name).is_none()) {
            environment::log(
                environment::Level::Info,
                &format!("no signature: looked in {}", names.join(", ")),
            );
            // For the gateway to judge: it refuses this unless the route allows unsigned webhooks.
            return Ok(Verdict::authentic("unsigned"));
        }
        // The flaw that says most: a signature that does not fit, rather than a header that is something else.
        let mut flaw = "signature-malformed";
        for name in &names {
            let Some(value) = request.header(name) else { continue };
            let Some(signature) = mac(value) else { continue };
            match crypto::verify_hmac("signing", "sha256", &[Part::Body], &signature) {
                Ok(()) => return Ok(Verdict::authentic(name)),
                Err(crypto::Failure::Mismatch) => flaw = "signature-mismatch",
                Err(failure) => return Err(failure.into()),
            }
        }
        Err(Rejection::unauthenticated(flaw).detail(format!("looked in {}", names.join(", "))))
    }

    fn normalize(request: &Request, _payload: Option<&str>) -> Result<Outcome, Rejection> {
        let document = request.json()?;
        let mut body = document.object()?;
        let event = body
            .take_str("event")
            .ok_or_else(|| Rejection::malformed("event-missing"))?;
        let event = match &*event {
            STARTED | COMPLETE => session(event, body)?,
            _ => other(event, body, &document)?,
        };
        Ok(Outcome::event(event))
    }
}

/// The bytes of a hex MAC in either case, with or without `sha256=`.
fn mac(value: &str) -> Option<Vec<u8>> {
    encoding::hex(value.strip_prefix("sha256=").unwrap_or(value)).filter(|bytes| bytes.len() == 32)
}

fn session<'a>(name: Text<'a>, mut body: Object<'a>) -> Result<Event, Rejection> {
    let data = body.open("data").ok_or_else(|| Rejection::malformed("data-missing"))?;
    let id = data
        .take_id("session_id")
        .ok_or_else(|| Rejection::malformed("id-missing"))?;

    // The vendor's page about SessionStarted prints the other event's name. A conversation of which there is nothing
    // may therefore be one that begins; it is not reported as ended.
    let ambiguous = name == COMPLETE && nothing_was_said(data);
    let ended = name == COMPLETE && !ambiguous;
    let mut remarks = Remarks::default();
    if ambiguous {
        environment::warn("a ConversationComplete without length, history and audio is taken for a SessionStarted");
        remarks.add("event", "taken-for-session-started");
    }

    let campaign = Campaign {
        id: data.take_id("campaign_id"),
        name: data.take_str("campaign_name"),
        item_id: data.take_id("campaign_item_id"),
        ..Campaign::default()
    };
    let in_campaign = campaign.id.is_some() || campaign.item_id.is_some();
    let started_at = data.take_time("start_time");
    let created_at = data.peek_str("created_at").and_then(Time::parse);
    let recording = data.take_filled("audio_url").map(|url| Recording {
        url,
        expires_at: data.take_time("audio_url_expires_at"),
    });
    let call = Call {
        id: id.clone(),
        direction: if in_campaign {
            Direction::Outbound
        } else {
            Direction::Unknown
        },
        state: Some(if ended { CallState::Ended } else { CallState::Answered }),
        outcome: ended.then_some(CallOutcome::Completed),
        from: data.take_party("from_number"),
        to: data.take_party("to_number"),
        duration_seconds: if ended {
            data.take_seconds("duration_seconds")
        } else {
            None
        },
        agent: Agent::known(data.take_str("agent_id"), data.take_str("agent_name")),
        recording,
        transcript: take_transcript(data).filter(|turns| ended || !turns.is_empty()),
        started_at,
        ..Call::default()
    };
    let parameters = data.take_raw_object("url_parameters");
    // An agent's test run goes through the same session machinery and is nobody's call.
    let test = data.has("test_run_id") || data.has("test_id");

    // When a conversation ended is not said; the event then has the time of receipt.
    let at = if ended {
        None
    } else {
        call.started_at.as_ref().or(created_at.as_ref())
    };
    let remarks = remarks.into_raw();
    let mut extra = body;
    if let Some(remarks) = &remarks {
        extra.add(remarks::KEY, remarks);
    }
    let (kind, native) = if ended {
        (kind::CALL_COMPLETED, COMPLETE)
    } else {
        (kind::CALL_ANSWERED, STARTED)
    };
    // One of its own, so that it passes for neither and hides neither.
    let key = if ambiguous {
        format!("{COMPLETE}:ambiguous:{id}")
    } else {
        format!("{native}:{id}")
    };
    let event = Event::new(kind, key, id).at(at).test(test);
    Ok(event.data(&Data {
        provider_event: name,
        call: Some(call),
        campaign: (in_campaign || campaign.name.is_some()).then_some(campaign),
        attribution: parameters.map(|_| Attribution {
            parameters,
            ..Attribution::default()
        }),
        extra,
        ..Data::default()
    }))
}

/// Whether a conversation has no length, no history and no audio.
fn nothing_was_said(data: &mut Object<'_>) -> bool {
    let no_length = data.peek_f64("duration_seconds").is_none_or(|seconds| seconds == 0.0);
    let no_audio = data.peek_filled("audio_url").is_none();
    no_length && no_audio && data.open_list("history").is_none_or(|history| history.count() == 0)
}

fn take_transcript<'a>(data: &mut Object<'a>) -> Option<Vec<Turn<'a>>> {
    Some(data.open_list("history")?.objects().filter_map(take_turn).collect())
}

/// An item of either generation, `{type, text, user_input, timestamp}` or `{role, content, created_at}`. One without a
/// text (a tool's work, a hand-off) is no turn and stays where it is.
fn take_turn<'a>(item: &mut Object<'a>) -> Option<Turn<'a>> {
    let said = |key: &&&str| item.peek_str(key).is_some_and(|text| !text.trim().is_empty());
    let key = ["text", "user_input", "content"].iter().find(said)?;
    let text = item.take_str(key)?;
    let at = item.take_time("timestamp").or_else(|| item.take_time("created_at"));
    // The words are the vendor's (`user_turn`, `System`), so they stay.
    let word = item
        .peek_str("type")
        .or_else(|| item.peek_str("role"))
        .unwrap_or_default()
        .to_ascii_lowercase();
    let speaker = match word.split(['_', '-', ' ']).next() {
        Some("user" | "customer" | "caller") => Speaker::Customer,
        Some("assistant" | "agent") => Speaker::Agent,
        Some("system" | "developer") => Speaker::System,
        _ => Speaker::Unknown,
    };
    Some(Turn { speaker, text, at })
}

/// An event this plugin has no name for, whole under `extra`.
fn other<'a>(name: Text<'a>, mut body: Object<'a>, document: &Document<'a>) -> Result<Event, Rejection> {
    let session = body.open("data").and_then(|data| data.peek_filled("session_id"));
    let event = Event::other(&name, session, document)?;
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
        callfeed_plugin::testing::cases::<Voxagent>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }

    #[test]
    fn odd_values_lose_nothing() {
        callfeed_plugin::testing::substitutions::<Voxagent>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }

    #[test]
    fn the_known_vector_is_right() {
        use callfeed_plugin::testing::{Evidence, TestHost, with_host};
        let request_file = include_bytes!("../cases/conversation-complete/request.http");
        let body = String::from_utf8_lossy(request_file)
            .split_once("\n\n")
            .unwrap()
            .1
            .to_owned();
        let digits = "c31767b313318e7778cf7bd318a3e7896e2080e6e58001ec4f21cc77eda7c05f";
        let mut request = TestHost::request("POST", &body);
        request.headers.push(TestHost::field("x-signature", digits));
        let host = TestHost {
            body: body.into(),
            ..TestHost::default()
        }
        .secret("signing", "vox_test_secret_0001");
        let host = std::rc::Rc::new(host);
        let verdict = with_host(host.clone(), || callfeed_plugin::verify::<Voxagent>(&request));
        assert_eq!(verdict, Verdict::authentic("x-signature"));
        assert_eq!(host.seen.evidence.get(), Evidence::SignedBody);
    }
}
