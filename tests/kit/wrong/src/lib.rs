//! A plugin that is right, but for the one fault that its route's options name: `{"fault":"half-body"}`.
//!
//! Its provider signs the headers `x-wrong-timestamp` and `x-wrong-note` and the body, joined by full stops, and presents
//! the account's token as well.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher as _,
    hint::black_box,
    sync::atomic::{AtomicU32, Ordering},
};

use callfeed_plugin::{
    Descriptor, Event, Outcome, Provider, Rejection, Request, SecretSpec, Verdict,
    crypto::{self, Part},
    encoding, environment, kind, register,
};
use serde::Deserialize;
use serde_json::{Value, json};

struct Wrong;

#[derive(Deserialize)]
struct Options {
    fault: String,
}

/// Padded with spaces. A test writes another one of the same length over it in the built file.
static SCENE: &str = "scene: right ";

/// How often this instance has checked a signature.
static CHECKED: AtomicU32 = AtomicU32::new(0);

impl Provider for Wrong {
    fn describe() -> Descriptor {
        let version = match black_box(SCENE).trim_end() {
            "scene: right" => "1.0.0".to_owned(),
            _ => format!("1.0.{}", chance()),
        };
        Descriptor::new("wrong", "Wrong", &version)
            .assurance("signed-derived")
            .headers(&[
                "x-wrong-signature",
                "x-wrong-timestamp",
                "x-wrong-note",
                "x-wrong-account",
            ])
            .secret(SecretSpec::utf8("signing", "any text"))
            .secret(SecretSpec::utf8("account", "any text"))
            .options_schema(r#"{"type":"object","required":["fault"],"properties":{"fault":{"type":"string"}}}"#)
            .event("started", kind::CALL_ANSWERED)
            .event("ended", kind::CALL_COMPLETED)
    }

    fn verify(request: &Request) -> Result<Verdict, Rejection> {
        let fault = fault()?;
        let header = |name| {
            let value = request.header(name);
            value.ok_or_else(|| Rejection::unauthenticated("header-missing"))
        };
        let signature = encoding::hex(header("x-wrong-signature")?);
        let signature = signature.ok_or_else(|| Rejection::unauthenticated("signature-malformed"))?;
        let note = request.header("x-wrong-note").unwrap_or_default();
        let body = request.text()?;
        let message = match fault.as_str() {
            "half-body" => vec![
                header("x-wrong-timestamp")?,
                note,
                &body[..body.floor_char_boundary(body.len() / 2)],
            ],
            "no-timestamp" => vec![note, body],
            "no-note" => vec![header("x-wrong-timestamp")?, body],
            _ => vec![header("x-wrong-timestamp")?, note, body],
        };
        crypto::verify_hmac("signing", "sha256", &[Part::Text(&message.join("."))], &signature)?;
        if fault != "no-account" {
            crypto::verify_token("account", header("x-wrong-account")?.as_bytes())?;
        }
        CHECKED.fetch_add(1, Ordering::Relaxed);
        Ok(Verdict::authentic("hex"))
    }

    fn normalize(request: &Request, _: Option<&str>) -> Result<Outcome, Rejection> {
        let fault = fault()?;
        let text = request.text()?;
        let body: Value = serde_json::from_str(text).map_err(|_| Rejection::malformed("json-invalid"))?;
        let Some(call_id) = body["call_id"].as_str() else {
            match fault.as_str() {
                "panic" => panic!("a call has an id"),
                "loop" => spin(),
                "grow" => grow(),
                _ => return Err(Rejection::malformed("call-id-missing")),
            }
        };
        let (name, kind) = match body["event"].as_str() {
            Some(name @ "started") => (name, kind::CALL_ANSWERED),
            Some(name @ "ended") => (name, kind::CALL_COMPLETED),
            _ => return Err(Rejection::unsupported("event-unknown")),
        };

        let mut data = json!({
            "provider_event": name,
            "call": { "id": call_id, "direction": "unknown" },
            "extra": { "body": body, "note": request.header("x-wrong-note") },
        });
        match fault.as_str() {
            "undeclared-header" => data["extra"]["trace"] = request.header("x-wrong-trace").into(),
            "query" => data["extra"]["campaign"] = request.query_value("campaign").into(),
            "chance" => data["extra"]["chance"] = chance().into(),
            "memory" => data["extra"]["checked"] = CHECKED.load(Ordering::Relaxed).into(),
            "repeats-secret" => data["extra"]["account"] = request.header("x-wrong-account").into(),
            "loses" => data["extra"]["body"]["agent"] = json!({}),
            "invalid" if !body["seconds"].is_number() => data["call"]["duration_seconds"] = body["seconds"].clone(),
            _ => {}
        }
        let id = match fault.as_str() {
            "hash-id" => encoding::to_hex(&crypto::hash("sha256", &[Part::Body])?),
            "late-id" => format!("{name}:{call_id}:{}", environment::now_ms()),
            "one-id" => "event".to_owned(),
            _ => format!("{name}:{call_id}"),
        };
        let mut event = Event::new(kind, id, call_id);
        event.data = data.to_string();
        Ok(Outcome::event(event))
    }
}

register!(Wrong);

fn fault() -> Result<String, Rejection> {
    Ok(environment::options::<Options>()?.fault)
}

/// What a `HashMap` would order its keys by.
fn chance() -> u64 {
    RandomState::new().hash_one("a key")
}

fn spin() -> ! {
    loop {
        black_box(0);
    }
}

fn grow() -> ! {
    let mut hoard = Vec::new();
    loop {
        hoard.push(black_box(vec![1_u8; 1 << 20]));
    }
}
