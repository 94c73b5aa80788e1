//! Magpipe: AI telephone agents, SMS, web chat and WhatsApp.
//!
//! <https://docs.magpipe.ai/features/webhooks>. A webhook is signed with HMAC-SHA256 over its bytes, except for forwarded
//! WhatsApp messages, which carry no signature at all. The first attempt is serialized by Python, a retry by JavaScript,
//! in another order of members: an event is recognised by its name and the id of its record, never by its bytes.

use callfeed_plugin::{
    Descriptor, Event, Outcome, Provider, Rejection, Request, SecretSpec, Verdict,
    crypto::{self, Part},
    data::{Agent, Call, CallState, Channel, Chat, Data, Direction, Media, Message, Party, Speaker, Text, Turn},
    encoding, environment,
    json::{Document, Object},
    kind, register,
    time::Time,
};

const SIGNATURE: &str = "x-magpipe-signature";
/// Present on calls of an agent's custom functions, which sign another text and are no events.
const FUNCTION_TIMESTAMP: &str = "x-magpipe-timestamp";

/// The one event that the vendor never signs.
const UNSIGNED: &str = "whatsapp.received";

const OPTIONS_SCHEMA: &str = r#"{
  "type": "object",
  "additionalProperties": false,
  "properties": {
    "unsigned": {
      "description": "The events taken without a signature, on a route with allow_unsigned. Unless set, forwarded WhatsApp messages alone, which are never signed; \"*\" takes all. Anybody can post what is named here, and a forged call hides the real one of the same id.",
      "type": "array",
      "items": { "type": "string", "minLength": 1 },
      "maxItems": 16,
      "uniqueItems": true,
      "default": ["whatsapp.received"]
    }
  }
}"#;

/// The plugin.
pub struct Magpipe;

register!(Magpipe);

impl Provider for Magpipe {
    fn describe() -> Descriptor {
        Descriptor::new("magpipe", "Magpipe", env!("CARGO_PKG_VERSION"))
            .headers(&[SIGNATURE, FUNCTION_TIMESTAMP])
            .secret(SecretSpec::utf8(
                "signing",
                "Settings → API → Edit the key with the webhook URL: whsec_…, all of it",
            ))
            .event("call.completed", kind::CALL_COMPLETED)
            .event("sms.received", kind::MESSAGE_RECEIVED)
            .event("whatsapp.received", kind::MESSAGE_RECEIVED)
            .event("sms.sent", kind::MESSAGE_SENT)
            .event("chat.session.completed", kind::CHAT_COMPLETED)
            .event("*", kind::PROVIDER_OTHER)
            .options_schema(OPTIONS_SCHEMA)
            .extra("documentation", "https://docs.magpipe.ai/features/webhooks")
    }

    fn verify(request: &Request) -> Result<Verdict, Rejection> {
        let Some(header) = request.header(SIGNATURE) else {
            if request.header(FUNCTION_TIMESTAMP).is_some() {
                return Err(Rejection::unauthenticated("custom-function"));
            }
            if !may_be_unsigned(request)? {
                return Err(Rejection::unauthenticated("signature-missing")
                    .detail("an event that the option `unsigned` does not name"));
            }
            // For the gateway to judge: it refuses this unless the route allows unsigned webhooks.
            return Ok(Verdict::authentic("unsigned"));
        };
        let Some(digits) = header.strip_prefix("sha256=") else {
            let is_function = request.header(FUNCTION_TIMESTAMP).is_some();
            return Err(Rejection::unauthenticated(if is_function {
                "custom-function"
            } else {
                "signature-malformed"
            }));
        };
        let signature = encoding::hex(digits).ok_or_else(|| Rejection::unauthenticated("signature-malformed"))?;
        crypto::verify_hmac("signing", "sha256", &[Part::Body], &signature)?;
        Ok(Verdict::authentic("sha256-prefix"))
    }

    fn normalize(request: &Request, _payload: Option<&str>) -> Result<Outcome, Rejection> {
        let document = request.json()?;
        let mut body = document.object()?;
        let event = body
            .take_str("event")
            .ok_or_else(|| Rejection::malformed("event-missing"))?;
        let event = match &*event {
            "call.completed" => call_completed(event, body)?,
            "sms.received" => sms(event, body, Direction::Inbound)?,
            "sms.sent" => sms(event, body, Direction::Outbound)?,
            "whatsapp.received" => whatsapp_received(event, body)?,
            "chat.session.completed" => chat_completed(event, body)?,
            _ => other(event, body, &document)?,
        };
        Ok(Outcome::event(event))
    }
}

fn may_be_unsigned(request: &Request) -> Result<bool, Rejection> {
    let options = environment::options_json();
    let options = Document::parse(&options)?;
    let named = options.object()?.take_str_list("unsigned");
    let allows = |event: &str| match &named {
        Some(named) => named.iter().any(|name| name == event || name == "*"),
        None => event == UNSIGNED,
    };
    let document = request.json();
    let event = match &document {
        Ok(document) => document.object().ok().and_then(|body| body.peek_str("event")),
        Err(_) => None,
    };
    // What names no event is nothing that could be allowed.
    Ok(event.is_some_and(|event| allows(&event)))
}

fn call_completed<'a>(name: Text<'a>, mut body: Object<'a>) -> Result<Event, Rejection> {
    // Sent after transcription and summary, minutes after the hang-up: the time of the event, not the end of the call.
    let at = peek_time(&body, "timestamp");
    let data = open_data(&mut body)?;
    let id = take_id(data, &["call_record_id"])?;
    let direction = data.take_word("direction").unwrap_or_default();
    // `caller_number` is the remote party whichever way the call went.
    let (from, to) = match direction {
        Direction::Inbound => (data.take_party("caller_number"), data.take_party("service_number")),
        Direction::Outbound => (data.take_party("service_number"), data.take_party("caller_number")),
        Direction::Unknown => (None, None),
    };
    let call = Call {
        id: id.clone(),
        direction,
        state: Some(CallState::Ended),
        outcome: data.take_word("status"),
        from,
        to,
        duration_seconds: data.take_seconds("duration_seconds"),
        agent: Agent::known(data.take_str("agent_id"), data.take_str("agent_name")),
        transcript: take_transcript(data),
        summary: data.take_str("summary"),
        extracted: data.take_raw_object("extracted_data"),
        ..Call::default()
    };
    let event = Event::new(kind::CALL_COMPLETED, format!("{name}:{id}"), id).at(at.as_ref());
    Ok(event.data(&Data {
        provider_event: name,
        call: Some(call),
        extra: body,
        ..Data::default()
    }))
}

fn sms<'a>(name: Text<'a>, mut body: Object<'a>, direction: Direction) -> Result<Event, Rejection> {
    let sent_by_magpipe = peek_time(&body, "timestamp");
    let data = open_data(&mut body)?;
    // A notification is no stored message: its `sms_message_id` is null, and it has an id of its own.
    let id = take_id(data, &["sms_message_id", "notification_id"])?;
    let message = Message {
        id: id.clone(),
        channel: Channel::Sms,
        direction,
        from: data.take_party("from_number"),
        to: data.take_party("to_number"),
        text: data.take_str("body"),
        media: data
            .take_str_list("media_urls")
            .into_iter()
            .flatten()
            .map(|url| Media {
                url,
                ..Media::default()
            })
            .collect(),
        sent_at: data.take_time("sent_at"),
        received_at: data.take_time("received_at"),
        agent: Agent::known(data.take_str("agent_id"), None),
        trigger: data.take_str("trigger"),
        ..Message::default()
    };
    let kind = if direction == Direction::Inbound {
        kind::MESSAGE_RECEIVED
    } else {
        kind::MESSAGE_SENT
    };
    let at = message
        .received_at
        .as_ref()
        .or(message.sent_at.as_ref())
        .or(sent_by_magpipe.as_ref());
    let event = Event::new(kind, format!("{name}:{id}"), id).at(at);
    Ok(event.data(&Data {
        provider_event: name,
        message: Some(message),
        extra: body,
        ..Data::default()
    }))
}

/// A forwarded WhatsApp message: everything at the top, no `data`.
fn whatsapp_received<'a>(name: Text<'a>, mut body: Object<'a>) -> Result<Event, Rejection> {
    let id = take_id(&mut body, &["message_id"])?;
    // Digits that begin with the country code; `contact_name` goes with them.
    let from = body.peek_str("from").filter(|digits| !digits.is_empty()).map(|digits| {
        body.take_str("from");
        Party {
            name: body.take_str("contact_name"),
            ..Party::read_digits(digits)
        }
    });
    let mut media = Vec::new();
    for item in body.open_list("media").into_iter().flat_map(|list| list.objects()) {
        if let Some(url) = item.take_str("url") {
            media.push(Media {
                url,
                content_type: item.take_str("mime_type"),
                caption: item.take_str("caption"),
            });
        }
    }
    let message = Message {
        id: id.clone(),
        channel: Channel::Whatsapp,
        direction: Direction::Inbound,
        from,
        text: body.take_str("content"),
        media,
        // A Unix time, and becomes a text: the original stays.
        received_at: body.peek_str("timestamp").and_then(|seconds| Time::from_unix(&seconds)),
        conversation_id: body.take_str("conversation_id"),
        in_reply_to: body
            .open("context")
            .and_then(|context| context.take_str("in_reply_to_message_id")),
        ..Message::default()
    };
    let metadata = body.take_raw_object("metadata");
    // The messages of one conversation keep their order.
    let subject = message
        .conversation_id
        .clone()
        .filter(|id| !id.is_empty())
        .unwrap_or_else(|| id.clone());
    let event = Event::new(kind::MESSAGE_RECEIVED, format!("{name}:{id}"), subject).at(message.received_at.as_ref());
    Ok(event.data(&Data {
        provider_event: name,
        message: Some(message),
        metadata,
        extra: body,
        ..Data::default()
    }))
}

fn chat_completed<'a>(name: Text<'a>, mut body: Object<'a>) -> Result<Event, Rejection> {
    let sent_by_magpipe = peek_time(&body, "timestamp");
    let data = open_data(&mut body)?;
    let id = take_id(data, &["chat_session_id"])?;
    let chat = Chat {
        id: id.clone(),
        visitor_id: data.take_str("visitor_id"),
        started_at: data.take_time("started_at"),
        ended_at: data.take_time("ended_at"),
        ended_reason: data.take_str("ended_reason"),
        message_count: data.take_u64("message_count"),
        agent: Agent::known(data.take_str("agent_id"), None),
        transcript: data
            .open_list("transcript")
            .map(|list| list.objects().filter_map(chat_turn).collect()),
        summary: data.take_str("summary"),
        extracted: data.take_raw_object("extracted_data"),
    };
    let at = chat.ended_at.as_ref().or(sent_by_magpipe.as_ref());
    let event = Event::new(kind::CHAT_COMPLETED, format!("{name}:{id}"), id).at(at);
    Ok(event.data(&Data {
        provider_event: name,
        chat: Some(chat),
        extra: body,
        ..Data::default()
    }))
}

fn chat_turn<'a>(turn: &mut Object<'a>) -> Option<Turn<'a>> {
    let text = turn.take_str("content")?;
    let speaker = match turn.peek_str("role").as_deref() {
        Some("visitor") => Speaker::Customer,
        _ => turn.take_word("role").unwrap_or_default(),
    };
    Some(Turn {
        speaker,
        text,
        at: turn.take_time("timestamp"),
    })
}

/// An event this plugin has no name for, whole under `extra`.
fn other<'a>(name: Text<'a>, mut body: Object<'a>, document: &Document<'a>) -> Result<Event, Rejection> {
    let at = peek_time(&body, "timestamp");
    let call = body
        .open("data")
        .and_then(|data| data.peek_str("call_record_id"))
        .filter(|id| !id.is_empty());
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

/// The first of these members that identifies something.
fn take_id<'a>(data: &mut Object<'a>, keys: &[&str]) -> Result<Text<'a>, Rejection> {
    keys.iter()
        .find_map(|key| data.take_id(key))
        .ok_or_else(|| Rejection::malformed("id-missing"))
}

/// The envelope's time of sending is that of the event only, and stays in `extra`.
fn peek_time<'a>(body: &Object<'a>, key: &str) -> Option<Time<'a>> {
    Time::parse(body.peek_str(key)?)
}

/// The transcript, one text in which every turn begins with who speaks. It says the same as the turns, so it is taken;
/// an empty one has no turns to say it, and stays.
fn take_transcript<'a>(data: &mut Object<'a>) -> Option<Vec<Turn<'a>>> {
    const KEY: &str = "transcript";
    let text = data.peek_str(KEY)?;
    if !text.is_empty() {
        data.take_str(KEY);
    }
    Some(turns(&text))
}

/// Divides a transcript where a blank line is followed by a label. Any other blank line belongs to what is said, and a
/// beginning without a label is said by nobody known. Labels and blank lines aside, no letter is lost.
fn turns<'a>(transcript: &str) -> Vec<Turn<'a>> {
    const LABELS: [(&str, Speaker); 2] = [("Agent: ", Speaker::Agent), ("Caller: ", Speaker::Customer)];
    let label = |text: &str| LABELS.into_iter().find(|(label, _)| text.starts_with(label));

    let mut turns = Vec::new();
    let mut rest = transcript;
    while !rest.is_empty() {
        let (speaker, said) = match label(rest) {
            Some((label, speaker)) => (speaker, &rest[label.len()..]),
            None => (Speaker::Unknown, rest),
        };
        let end = said
            .match_indices("\n\n")
            .find(|(at, blank)| label(&said[at + blank.len()..]).is_some());
        let (text, after) = end.map_or((said, ""), |(at, blank)| (&said[..at], &said[at + blank.len()..]));
        turns.push(Turn {
            speaker,
            text: text.to_owned().into(),
            at: None,
        });
        rest = after;
    }
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cases() {
        callfeed_plugin::testing::cases::<Magpipe>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }

    #[test]
    fn odd_values_lose_nothing() {
        callfeed_plugin::testing::substitutions::<Magpipe>(concat!(env!("CARGO_MANIFEST_DIR"), "/cases"));
    }

    #[test]
    fn a_transcript_is_divided_at_labels_only() {
        let read = |text| {
            turns(text)
                .into_iter()
                .map(|turn| (turn.speaker, turn.text.into_owned()))
                .collect::<Vec<_>>()
        };
        let turn = |speaker, text: &str| (speaker, text.to_owned());
        use Speaker::{Agent, Customer, Unknown};
        assert_eq!(read(""), []);
        assert_eq!(read("Agent: a\n\nCaller: b"), [turn(Agent, "a"), turn(Customer, "b")]);
        assert_eq!(
            read("Agent: a\n\nb\n\n\n\nCaller: Agent: c\n"),
            [turn(Agent, "a\n\nb\n\n"), turn(Customer, "Agent: c\n")]
        );
        assert_eq!(
            read("hm\n\nAgent: \n\nCaller: b"),
            [turn(Unknown, "hm"), turn(Agent, ""), turn(Customer, "b")]
        );
        assert_eq!(read("no labels\n\nat all"), [turn(Unknown, "no labels\n\nat all")]);
        assert_eq!(read("Agent: a\nCaller: b"), [turn(Agent, "a\nCaller: b")]);
    }

    #[test]
    fn an_attempt_and_its_retry_are_one_event() {
        let python = include_str!("../cases/call-completed/expected.json");
        assert_eq!(python, include_str!("../cases/call-completed-retry/expected.json"));
        assert_eq!(
            python,
            include_str!("../cases/oddity-retry-in-another-order/expected.json")
        );
    }

    #[test]
    fn the_known_vector_is_right() {
        use callfeed_plugin::testing::{Evidence, TestHost, with_host};
        let request_file = include_bytes!("../cases/call-completed-retry/request.http");
        let body = String::from_utf8_lossy(request_file)
            .split_once("\n\n")
            .unwrap()
            .1
            .to_owned();
        let mut request = TestHost::request("POST", &body);
        let digits = "62b77f75630e5a9d9d450c8d0be911c54c6c7acc014ae369ed149c894516c20e";
        request
            .headers
            .push(TestHost::field(SIGNATURE, &format!("sha256={digits}")));
        let key = format!("whsec_{}", "0123456789abcdef".repeat(4));
        let host = std::rc::Rc::new(
            TestHost {
                body: body.into(),
                ..TestHost::default()
            }
            .secret("signing", key),
        );
        let verdict = with_host(host.clone(), || callfeed_plugin::verify::<Magpipe>(&request));
        assert_eq!(verdict, Verdict::authentic("sha256-prefix"));
        assert_eq!(host.seen.evidence.get(), Evidence::SignedBody);
    }
}
