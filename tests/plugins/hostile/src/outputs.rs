//! Answers that break the contract.

use std::sync::atomic::{AtomicU32, Ordering};

use callfeed_plugin::{
    Accepted, Event, Field, Outcome, Rejection, Request, Response, Verdict,
    crypto::{self, Failure, Part},
    kind,
};

use super::honest_check;

const HONEST_DATA: &str = r#"{"provider_event":"ended","call":{"id":"1","direction":"inbound"}}"#;

/// The verdict of an act that answers instead of checking; `None` for any other act.
pub(crate) fn verdict(act: &str, request: &Request) -> Option<Result<Verdict, Rejection>> {
    Some(match act {
        "respond-200" => Ok(Verdict::Respond(response(200, 16))),
        "respond-404" => Ok(Verdict::Respond(response(404, 16))),
        "respond-302" => Ok(Verdict::Respond(response(302, 0))),
        "respond-500" => Ok(Verdict::Respond(response(500, 0))),
        "respond-10-kib" => Ok(Verdict::Respond(response(200, 10 << 10))),
        "respond-302-after-proof" => honest_check(request).map(|()| Verdict::Respond(response(302, 0))),
        "respond-cookie" => Ok(Verdict::Respond(Response {
            headers: vec![
                field("set-cookie", "session=rogue"),
                field("location", "https://rogue.example"),
                field("content-type", "text/plain"),
                field("transfer-encoding", "chunked"),
                field("connection", "upgrade"),
            ],
            ..response(200, 16)
        })),
        "respond-split" => Ok(Verdict::Respond(Response {
            headers: vec![field("content-type", "text/plain\r\nset-cookie: session=rogue")],
            ..response(200, 16)
        })),
        "respond-huge-type" => Ok(Verdict::Respond(Response {
            headers: vec![field("content-type", &format!("text/{}", "x".repeat(1 << 20)))],
            ..response(200, 16)
        })),
        "reject-at-length" => {
            let detail = format!("first\nforged line {}", "x".repeat(3 << 20));
            Err(Rejection::unauthenticated(&"c".repeat(1 << 18)).detail(detail))
        }
        "reject-with-token" => {
            let token = request.header("x-rogue-token").unwrap_or_default();
            Err(Rejection::unauthenticated("token-wrong").detail(format!("{token} is not the token")))
        }
        _ => return None,
    })
}

/// The verdict after an honest check.
pub(crate) fn authentic(act: &str) -> Verdict {
    match act {
        "form-at-length" => Verdict::authentic(&"form\n".repeat(1 << 18)),
        "payload-at-length" => Verdict::authentic_payload("hex", "x".repeat(3 << 20)),
        "payload" => Verdict::authentic_payload("hex", "the claims".into()),
        _ => Verdict::authentic("hex"),
    }
}

pub(crate) fn outcome(act: &str, payload: Option<&str>) -> Result<Outcome, Rejection> {
    static WEBHOOKS: AtomicU32 = AtomicU32::new(0);
    let webhooks = WEBHOOKS.fetch_add(1, Ordering::Relaxed) + 1;
    let honest = || event(HONEST_DATA);
    let accepted = |event: Event| Ok(Outcome::event(event));
    match act {
        "one-event-of-2-mib" => accepted(Event {
            data: extra("x", 2 << 20),
            ..honest()
        }),
        "one-event-of-10-mb" => accepted(Event {
            data: extra("x", 10_000_000),
            ..honest()
        }),
        "many-events-of-2-mib" => Ok(Outcome::events(
            (0..100).map(|n| numbered(n, &extra("x", 20 << 10))).collect(),
        )),
        "5000-events" => Ok(Outcome::events((0..5000).map(|n| numbered(n, "{}")).collect())),
        "100-events" => Ok(Outcome::events((0..100).map(|n| numbered(n, HONEST_DATA)).collect())),
        "no-events" => Ok(Outcome::events(Vec::new())),
        "same-event-twice" => Ok(Outcome::events(vec![honest(), honest()])),
        "one-bad-of-two" => Ok(Outcome::events(vec![honest(), event("[]")])),
        "not-json" => accepted(event("{\"call\":")),
        "two-values" => accepted(event("{} {}")),
        "an-array" => accepted(event("[]")),
        "a-number" => accepted(event("7")),
        "empty" => accepted(event("")),
        "same-key-twice" => accepted(event(
            r#"{"provider_event":"a","provider_\u0065vent":"b","call":{"id":"1"}}"#,
        )),
        "same-key-twice-in-extra" => accepted(event(r#"{"call":{"id":"1"},"extra":{"a":[{"b":1,"b":2}]}}"#)),
        "nested-1000-deep" => accepted(event(&format!(
            r#"{{"call":{{"id":"1"}},"extra":{{"a":{}{}}}}}"#,
            "[".repeat(1000),
            "]".repeat(1000)
        ))),
        "number-of-no-size" => accepted(event(r#"{"call":{"id":"1"},"extra":{"n":1e400}}"#)),
        "half-an-emoji" => accepted(event(r#"{"call":{"id":"1"},"extra":{"s":"\ud83d"}}"#)),
        "breaks-the-schema" => accepted(event(
            r#"{"provider_event":"ended","call":{"id":7,"direction":"inbound"}}"#,
        )),
        "unknown-member" => accepted(event(
            r#"{"provider_event":"ended","call":{"id":"1","direction":"inbound"},"rogue":true}"#,
        )),
        "without-its-block" => accepted(event(r#"{"provider_event":"ended"}"#)),
        "host-owned-provider" => accepted(event(r#"{"provider":"bank","call":{"id":"1"}}"#)),
        "host-owned-test" => accepted(event(r#"{"test":false,"call":{"id":"1"}}"#)),
        "undeclared-type" => accepted(Event {
            kind: kind::CALL_RINGING.into(),
            ..honest()
        }),
        "huge-type" => accepted(Event {
            kind: "x".repeat(500_000),
            ..honest()
        }),
        "empty-id" => accepted(Event {
            id: String::new(),
            ..honest()
        }),
        "huge-id" => accepted(Event {
            id: "x".repeat(513),
            ..honest()
        }),
        "control-in-id" => accepted(Event {
            id: "a\u{7}b".into(),
            ..honest()
        }),
        "empty-subject" => accepted(Event {
            subject: String::new(),
            ..honest()
        }),
        "line-in-subject" => accepted(Event {
            subject: "a\nb".into(),
            ..honest()
        }),
        "odd-subject" => accepted(Event {
            subject: "\"}, \"é\\ ☎".into(),
            ..honest()
        }),
        "absurd-time" => accepted(Event {
            occurred_at_ms: Some(u64::MAX),
            ..honest()
        }),
        "year-10000" => accepted(Event {
            occurred_at_ms: Some(253_402_300_800_000),
            ..honest()
        }),
        "year-9999" => accepted(Event {
            occurred_at_ms: Some(253_402_207_200_000),
            ..honest()
        }),
        "over-lines" => accepted(event(
            "\n{\r\n  \"provider_event\": \"a b\\n\",\n  \"call\": {\t\"id\": \"1\\\" \",\"direction\":\n\"inbound\"},\n \"extra\": {\"n\": 1.50}\n}\n",
        )),
        "count-webhooks" => accepted(event(&format!(
            r#"{{"provider_event":"ended","call":{{"id":"1","direction":"inbound"}},"extra":{{"webhooks":{webhooks}}}}}"#
        ))),
        "payload" => accepted(event(&format!(
            r#"{{"provider_event":"ended","call":{{"id":"1","direction":"inbound"}},"extra":{{"payload":"{}"}}}}"#,
            payload.unwrap_or_default()
        ))),
        "check-in-normalize" => match crypto::verify_hmac("signing", "sha256", &[Part::Body], &[0; 32]) {
            Err(Failure::Refused(why)) => Err(Rejection::malformed("refused").detail(why)),
            other => panic!("{other:?}"),
        },
        "ack-302" => acknowledged(302),
        "ack-201" => acknowledged(201),
        "ack-202" => acknowledged(202),
        "respond-in-normalize" => Ok(Outcome::Respond(response(200, 16))),
        "respond-302-in-normalize" => Ok(Outcome::Respond(response(302, 0))),
        "ignore" => Ok(Outcome::ignored("of no interest")),
        "ignore-at-length" => Ok(Outcome::ignored(&"x".repeat(3 << 20))),
        "reject-at-length-in-normalize" => {
            Err(Rejection::malformed(&"c".repeat(1 << 18)).detail(format!("first\n{}", "x".repeat(3 << 20))))
        }
        _ => accepted(honest()),
    }
}

fn acknowledged(status: u16) -> Result<Outcome, Rejection> {
    Ok(Outcome::Accepted(Accepted {
        events: vec![event(HONEST_DATA)],
        ack: Some(response(status, 2)),
    }))
}

fn event(data: &str) -> Event {
    Event {
        data: data.to_owned(),
        ..Event::new(kind::CALL_COMPLETED, "ended:1", "1")
    }
}

fn numbered(n: u32, data: &str) -> Event {
    Event {
        id: format!("ended:{n}"),
        ..event(data)
    }
}

fn extra(text: &str, times: usize) -> String {
    const HEAD: &str = r#"{"provider_event":"ended","call":{"id":"1","direction":"inbound"},"extra":{"text":""#;
    // All at once: the host's bound is the one to be met, not that of the plugin's memory.
    let mut data = String::with_capacity(times + 200);
    data.push_str(HEAD);
    data.extend(std::iter::repeat_n(text, times));
    data.push_str(r#""}}"#);
    data
}

fn response(status: u16, bytes: usize) -> Response {
    Response {
        status,
        headers: Vec::new(),
        body: vec![b'x'; bytes],
    }
}

fn field(name: &str, value: &str) -> Field {
    Field {
        name: name.to_owned(),
        value: value.to_owned(),
    }
}
