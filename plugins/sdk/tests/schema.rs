//! The structs a plugin fills in and the schema subscribers read say the same.

#![expect(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeSet;

use callfeed_plugin::{
    data::{
        Agent, AnsweredBy, Attribution, Call, CallOutcome, CallState, Campaign, Channel, Chat, Data, Direction, Email,
        Error, Lead, LeadCounts, Media, Message, Parameter, Party, Recording, Seconds, Speaker, Step, Turn,
    },
    json::{Document, RawValue},
    time::Time,
};
use serde_json::Value;

fn schema() -> Value {
    serde_json::from_str(include_str!("../../../schemas/event/v1/call-event.schema.json")).unwrap()
}

/// An event with every member there is.
fn whole() -> Value {
    let time = || Time::from_ms(1_771_428_645_123);
    let text = || Some("text".into());
    let seconds = || Seconds::new(94.6);
    let free: Box<RawValue> = serde_json::from_str(r#"{"any":[1,{"thing":null}]}"#).unwrap();
    let free = || Some(&*free);
    let party = || {
        Some(Party {
            name: text(),
            country: text(),
            line_type: text(),
            ..Party::read("+1 (604) 555-1234".into())
        })
    };
    let agent = || Agent::known(text(), text());
    let transcript = || {
        Some(vec![Turn {
            speaker: Speaker::Agent,
            text: "text".into(),
            at: time(),
        }])
    };
    let document = Document::parse(r#"{"left":"over"}"#).unwrap();
    let data = Data {
        provider_event: "text".into(),
        call: Some(Call {
            id: "1".into(),
            direction: Direction::Inbound,
            state: Some(CallState::Ended),
            outcome: Some(CallOutcome::Completed),
            from: party(),
            to: party(),
            via: party(),
            forwarded_to: party(),
            started_at: time(),
            answered_at: time(),
            ended_at: time(),
            duration_seconds: seconds(),
            talk_seconds: seconds(),
            agent: agent(),
            answered_by: Some(AnsweredBy::Human),
            recording: Some(Recording {
                url: "text".into(),
                expires_at: time(),
            }),
            transcript: transcript(),
            summary: text(),
            extracted: free(),
            steps: vec![Step {
                name: "text".into(),
                at: time(),
                value: free(),
            }],
            disposition: text(),
            error: Some(Error {
                message: "text".into(),
                code: text(),
            }),
        }),
        message: Some(Message {
            id: "1".into(),
            channel: Channel::Sms,
            direction: Direction::Inbound,
            from: party(),
            to: party(),
            text: text(),
            media: vec![Media {
                url: "text".into(),
                content_type: text(),
                caption: text(),
            }],
            sent_at: time(),
            received_at: time(),
            conversation_id: text(),
            in_reply_to: text(),
            agent: agent(),
            trigger: text(),
        }),
        chat: Some(Chat {
            id: "1".into(),
            visitor_id: text(),
            started_at: time(),
            ended_at: time(),
            ended_reason: text(),
            message_count: Some(2),
            agent: agent(),
            transcript: transcript(),
            summary: text(),
            extracted: free(),
        }),
        email: Some(Email {
            id: "1".into(),
            from: text(),
            to: text(),
            subject: text(),
            text: text(),
            received_at: time(),
        }),
        lead: Some(Lead {
            id: "1".into(),
            source_type: text(),
            source_id: text(),
            name: text(),
            phone: party(),
            email: text(),
            created_at: time(),
        }),
        campaign: Some(Campaign {
            id: text(),
            name: text(),
            item_id: text(),
            status: text(),
            reason: text(),
            leads: Some(LeadCounts {
                total: Some(4),
                completed: Some(1),
                failed: Some(1),
                pending: Some(2),
            }),
        }),
        attribution: Some(Attribution {
            channel: text(),
            channel_type: text(),
            first_time_caller: Some(true),
            gclid: text(),
            msclkid: text(),
            ga: text(),
            utm: vec![Parameter {
                key: "text".into(),
                value: "text".into(),
            }],
            parameters: free(),
        }),
        metadata: free(),
        extra: document.object().unwrap(),
    };
    let mut whole = serde_json::to_value(&data).unwrap();
    // What the gateway adds.
    whole["provider"] = "acme".into();
    whole["test"] = false.into();
    whole["time_is_received"] = true.into();
    whole["corrects"] = "evt_aaaaaaaaaaaaaaaaaaaaaaaaaa".into();
    whole
}

/// Every object schema beneath `at`, with the values at that place of an event.
fn objects<'v>(root: &Value, schema: &Value, value: &'v Value, visit: &mut impl FnMut(&Value, &'v Value)) {
    let name = schema["$ref"]
        .as_str()
        .map(|reference| reference.trim_start_matches("#/$defs/"));
    let schema = name.map_or(schema, |name| &root["$defs"][name]);
    if let Some(items) = schema.get("items") {
        value
            .as_array()
            .unwrap()
            .iter()
            .for_each(|value| objects(root, items, value, visit));
    }
    if schema["additionalProperties"] == Value::Bool(false) {
        visit(schema, value);
        for (key, schema) in schema["properties"].as_object().unwrap() {
            objects(root, schema, &value[key], visit);
        }
    }
}

#[test]
fn the_schema_is_one_and_takes_a_whole_event() {
    let schema = schema();
    jsonschema::meta::validate(&schema).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let errors: Vec<_> = validator.iter_errors(&whole()).map(|error| error.to_string()).collect();
    assert_eq!(errors, Vec::<String>::new());
}

#[test]
fn both_have_the_same_members() {
    let whole = whole();
    objects(&schema(), &schema(), &whole, &mut |schema, value| {
        let in_schema: BTreeSet<_> = schema["properties"].as_object().unwrap().keys().collect();
        let in_struct: BTreeSet<_> = value.as_object().unwrap().keys().collect();
        assert_eq!(in_schema, in_struct, "{}", schema["description"]);
    });
}

#[test]
fn both_have_the_same_words() {
    let schema = schema();
    let words = |pointer: &str| {
        let words = schema
            .pointer(pointer)
            .unwrap_or_else(|| panic!("{pointer}"))
            .as_array()
            .unwrap()
            .iter();
        words.map(|word| word.as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(words("/$defs/direction/enum"), Direction::WORDS);
    assert_eq!(words("/$defs/turn/properties/speaker/enum"), Speaker::WORDS);
    assert_eq!(words("/$defs/call/properties/state/enum"), CallState::WORDS);
    assert_eq!(words("/$defs/call/properties/outcome/enum"), CallOutcome::WORDS);
    assert_eq!(words("/$defs/call/properties/answered_by/enum"), AnsweredBy::WORDS);
    assert_eq!(words("/$defs/message/properties/channel/enum"), Channel::WORDS);
}

#[test]
fn everything_is_described_and_its_examples_are_valid() {
    let root = schema();
    let mut count = 0;
    let mut stack: Vec<Value> = root["$defs"].as_object().unwrap().values().cloned().collect();
    stack.push(root.clone());
    while let Some(schema) = stack.pop() {
        count += 1;
        assert!(schema["description"].is_string(), "{schema}");
        let mut alone = schema.clone();
        alone["$defs"] = root["$defs"].clone();
        alone.as_object_mut().unwrap().remove("$id");
        let validator = jsonschema::validator_for(&alone).unwrap();
        let examples = schema["examples"]
            .as_array()
            .unwrap_or_else(|| panic!("no examples: {schema}"));
        for example in examples {
            assert!(validator.is_valid(example), "{example} in {}", schema["description"]);
        }
        if let Some(properties) = schema["properties"].as_object() {
            stack.extend(properties.values().cloned());
        }
    }
    assert!(count > 100, "{count}");
}

#[test]
fn what_is_wrong_is_refused() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for (pointer, wrong) in [
        ("/call/from/number", "6045551234"),
        ("/call/from/number", "+0604555123"),
        ("/call/started_at", "2026-02-18 15:30:45"),
        ("/call/started_at", "2026-02-18T15:30:45+01:00"),
        ("/call/duration_seconds", "12"),
        ("/call/direction", "sideways"),
        ("/call/id", ""),
        ("/call/transcript", "Agent: hi"),
        ("/metadata", "text"),
    ] {
        let mut event = whole();
        *event.pointer_mut(pointer).unwrap() = wrong.into();
        assert!(!validator.is_valid(&event), "{pointer}: {wrong}");
    }
    for (pointer, member) in [
        ("", "other"),
        ("/call", "colour"),
        ("/call/from", "e164"),
        ("/attribution", "fbclid"),
    ] {
        let mut event = whole();
        event.pointer_mut(pointer).unwrap()[member] = "x".into();
        assert!(!validator.is_valid(&event), "{pointer}/{member}");
    }
    for (pointer, member) in [
        ("", "provider"),
        ("", "test"),
        ("/call", "direction"),
        ("/call/to", "number"),
    ] {
        let mut event = whole();
        event
            .pointer_mut(pointer)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(member)
            .unwrap();
        assert!(!validator.is_valid(&event), "{pointer}/{member}");
    }
    let mut event = whole();
    event["call"]["duration_seconds"] = (-1).into();
    assert!(!validator.is_valid(&event));
}
