//! What a `[[provider]]` can say is done, to the letter. The examples that are described stand beside the plugins in the kit's
//! tests.

use std::{fs, path::Path, sync::Arc};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use callfeed::{
    config::{self, Limits},
    kit::Answer,
    plugin::{Assurance, Grant, Plugins, Request},
};
use harness::guest;
use ring::{
    hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use serde_json::{Value, json};

use crate::{
    cases::built_in,
    host::{Host, RECEIVED_AT_MS, cloud_event},
};

const KEY: &str = "0123456789abcdef";
/// The same bytes as Standard Webhooks write them.
const WHSEC: &str = "whsec_MDEyMzQ1Njc4OWFiY2RlZg==";
const SECONDS: &str = "1780315200";

/// A route on each provider described so, by the lines of its block and of its route.
async fn granted(host: &Host, blocks: &[(String, String)]) -> Vec<Arc<Grant>> {
    let blocks = blocks.iter().enumerate().map(|(number, (block, route))| {
        let name = format!("name = 'p{number}'");
        format!("[[provider]]\n{name}\n{block}\n[[route]]\n{name}\nprovider = 'p{number}'\n{route}\n")
    });
    let text = blocks.collect::<String>();
    let checked = config::parse(&text, "described.toml", &|_| None, Path::new(""))
        .unwrap_or_else(|refused| panic!("{}", refused.problems));
    let mut plugins = Plugins::new();
    let problems = host
        .stand
        .runtime
        .declare(&checked.config.providers, &mut plugins)
        .await;
    assert!(problems.is_empty(), "{problems:?}");
    let grants = checked.config.routes.iter().map(|route| {
        let plugin = Arc::clone(&plugins[&route.provider]);
        Arc::new(Grant::new(plugin, route).unwrap_or_else(|problems| panic!("{problems:?}")))
    });
    grants.collect()
}

/// A provider that only names its events, and how they are proven.
fn proven_by(scheme: &str, route: &str) -> (String, String) {
    (format!("{scheme}\nevent = '/e'\ntypes = {{ }}"), route.to_owned())
}

fn webhook(headers: &[(&str, &str)], query: &[(&str, &str)], body: &str) -> Request {
    let owned = |pairs: &[(&str, &str)]| {
        let pairs = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pairs.collect::<Vec<_>>()
    };
    Request {
        method: "POST".to_owned(),
        urls: vec!["https://hooks.example.com/hooks/p".to_owned()],
        path: String::new(),
        query: owned(query),
        headers: owned(headers),
        peer: None,
        body: Bytes::copy_from_slice(body.as_bytes()),
        form: Vec::new(),
        received_at_ms: RECEIVED_AT_MS,
    }
}

fn mac(algorithm: hmac::Algorithm, message: &str) -> Vec<u8> {
    let key = hmac::Key::new(algorithm, KEY.as_bytes());
    hmac::sign(&key, message.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex_mac(message: &str) -> String {
    hex(&mac(hmac::HMAC_SHA256, message))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signatures_are_found_wherever_a_provider_puts_them() {
    const BODY: &str = r#"{"e":"x"}"#;
    let host = Host::new(&Limits::default());
    let right = hex_mac(BODY);
    let dated = hex_mac(&format!("{SECONDS}.{BODY}"));
    let listed = "signature = { header = 'x-s', pattern = 't={timestamp}, v1={signature}', message = '{timestamp}.{body}', \
                  tolerance = '1m', tolerance_ahead = '30s' }";
    let at = |seconds: i64| {
        let text = (1_780_315_200 + seconds).to_string();
        format!("v1={},t={text}", hex_mac(&format!("{text}.{BODY}")))
    };
    let zoom = "signature = { header = 'x-zm-signature', pattern = 'v0={signature}', timestamp_header = 'x-zm-time', \
                message = 'v0:{timestamp}:{body}' }";
    let with_id = "signature = { header = 'x-s', message = '{header:x-id}.{body}' }";
    let standard = |message: &str| BASE64_STANDARD.encode(mac(hmac::HMAC_SHA256, message));
    let long = BASE64_STANDARD.encode(mac(hmac::HMAC_SHA512, BODY));
    let rfc3339 = "signature = { header = 'x-s', timestamp_header = 'x-t', message = '{body}{timestamp}', timestamp = 'rfc3339' }";
    let noon = "2026-06-01T14:00:00+02:00";

    // What is not in braces is not looked at, wherever it stands.
    let others = [
        "t={timestamp},alg=hmac,v1={signature}",
        "keyId=k,t={timestamp},v1={signature}",
        "t={timestamp},v1={signature},k=1",
    ];
    let [amid, first, last] = others.map(|pattern| {
        format!("signature = {{ header = 'x-s', pattern = '{pattern}', message = '{{timestamp}}.{{body}}' }}")
    });
    let several = "signature = { header = 'x-s', pattern = 'v1,{signature}', separator = ' ', timestamp_header = 'x-t', \
                   message = '{timestamp}.{body}' }";

    const PLAIN: &str = "signature = { header = 'X-S' }";
    const LONG: &str = "signature = { header = 'x-s', algorithm = 'hmac-sha512', encoding = 'base64', pattern = 'sha512={signature}' }";
    const STANDARD: &str = "signature = 'standard-webhooks'";
    const SVIX: &str = "signature = 'svix'";
    let wrong = "0".repeat(64);
    let signed = BASE64_STANDARD.encode(mac(hmac::HMAC_SHA256, &format!("m1.{SECONDS}.{BODY}")));
    let tries = [
        (PLAIN, vec![("x-s", right.clone())], "accepted 1"),
        (PLAIN, vec![("x-s", right.to_uppercase())], "accepted 1"),
        (
            PLAIN,
            vec![("x-s", wrong.clone()), ("x-s", right.clone())],
            "accepted 1",
        ),
        (PLAIN, vec![("x-s", wrong.clone())], "signature-mismatch"),
        (PLAIN, vec![("x-s", format!("sha256={right}"))], "signature-malformed"),
        (PLAIN, vec![], "not-proven"),
        (LONG, vec![("x-s", format!("sha512={long}"))], "accepted 1"),
        (LONG, vec![("x-s", long.clone())], "signature-malformed"),
        (listed, vec![("x-s", format!("t={SECONDS},v1={dated}"))], "accepted 1"),
        (
            listed,
            vec![("x-s", format!("v1={wrong}, v0=x,v1={dated},t={SECONDS}"))],
            "accepted 1",
        ),
        (listed, vec![("x-s", format!("v1={dated}"))], "signature-malformed"),
        (
            &amid,
            vec![("x-s", format!("t={SECONDS},alg=hmac,v1={dated}"))],
            "accepted 1",
        ),
        (
            &first,
            vec![("x-s", format!("keyId=k,t={SECONDS},v1={dated}"))],
            "accepted 1",
        ),
        (
            &last,
            vec![("x-s", format!("t={SECONDS},v1={dated},k=2"))],
            "accepted 1",
        ),
        (
            several,
            vec![
                ("x-s", format!("v1,{wrong} v2,x v1,{dated}")),
                ("x-t", SECONDS.to_owned()),
            ],
            "accepted 1",
        ),
        (
            listed,
            vec![("x-s", format!("t=1780315201,v1={dated}"))],
            "signature-mismatch",
        ),
        (listed, vec![("x-s", at(-60))], "accepted 1"),
        (listed, vec![("x-s", at(-61))], "timestamp-too-old"),
        (listed, vec![("x-s", at(30))], "accepted 1"),
        (listed, vec![("x-s", at(31))], "timestamp-in-future"),
        (
            listed,
            vec![("x-s", format!("t=now,v1={}", hex_mac(&format!("now.{BODY}"))))],
            "timestamp-malformed",
        ),
        (
            zoom,
            vec![
                (
                    "x-zm-signature",
                    format!("v0={}", hex_mac(&format!("v0:{SECONDS}:{BODY}"))),
                ),
                ("x-zm-time", SECONDS.to_owned()),
            ],
            "accepted 1",
        ),
        (
            zoom,
            vec![("x-zm-signature", format!("v0={right}"))],
            "timestamp-missing",
        ),
        (
            with_id,
            vec![("x-s", hex_mac(&format!("7.{BODY}"))), ("x-id", "7".to_owned())],
            "accepted 1",
        ),
        (with_id, vec![("x-s", hex_mac(&format!(".{BODY}")))], "header-missing"),
        (
            rfc3339,
            vec![("x-s", hex_mac(&format!("{BODY}{noon}"))), ("x-t", noon.to_owned())],
            "accepted 1",
        ),
        (
            STANDARD,
            vec![
                ("webhook-id", "m1".to_owned()),
                ("webhook-timestamp", SECONDS.to_owned()),
                ("webhook-signature", format!("v1,{} v1a,x v1,{signed}", standard("?"))),
            ],
            "accepted 1",
        ),
        (
            SVIX,
            vec![
                ("svix-id", "m1".to_owned()),
                ("svix-timestamp", SECONDS.to_owned()),
                ("svix-signature", format!("v1,{signed}")),
            ],
            "accepted 1",
        ),
    ];
    let blocks = tries.each_ref().map(|(scheme, ..)| {
        let secret = if [STANDARD, SVIX].contains(scheme) { WHSEC } else { KEY };
        proven_by(scheme, &format!("secrets = {{ signing = '{secret}' }}"))
    });
    for (grant, (scheme, headers, expected)) in granted(&host, &blocks).await.iter().zip(tries) {
        assert_eq!(grant.plugin.descriptor.assurance, Assurance::SignedBody);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        for (name, _) in &headers {
            assert!(
                grant.headers.iter().any(|known| known == name),
                "{name} is not asked for"
            );
        }
        let line = host.judge(grant, webhook(&headers, &[], BODY)).await.to_string();
        assert!(line.contains(expected), "{line}, not {expected}: {scheme} {headers:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_is_read_as_it_is_written_and_used_as_the_algorithm_says() {
    const BODY: &str = r#"{"e":"x"}"#;
    let host = Host::new(&Limits::default());
    let hmac = |algorithm: hmac::Algorithm| hex(&mac(algorithm, BODY));
    let pair = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("it is a seed");
    let signed = BASE64_STANDARD.encode(pair.sign(BODY.as_bytes()));
    let public = pair.public_key().as_ref();
    // Its algorithm and the length of what follows, RFC 8410.
    let spki = [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", public].concat();
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        BASE64_STANDARD.encode(spki)
    );
    let (sha256, key) = (hmac(hmac::HMAC_SHA256), KEY.as_bytes());
    let tries = [
        (
            "hmac-sha1",
            "utf8",
            KEY.to_owned(),
            hmac(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        ),
        ("hmac-sha384", "utf8", KEY.to_owned(), hmac(hmac::HMAC_SHA384)),
        ("hmac-sha512", "utf8", KEY.to_owned(), hmac(hmac::HMAC_SHA512)),
        ("hmac-sha256", "base64", BASE64_STANDARD.encode(key), sha256.clone()),
        ("hmac-sha256", "hex", hex(key), sha256.clone()),
        ("hmac-sha256", "standard-webhooks", WHSEC.to_owned(), sha256),
        ("ed25519", "base64", BASE64_STANDARD.encode(public), signed.clone()),
        ("ed25519", "hex", hex(public), signed.clone()),
        ("ed25519", "pem", pem, signed),
    ];
    let blocks = tries.each_ref().map(|(algorithm, encoding, secret, _)| {
        let scheme = format!(
            "secret = {{ name = 's', encoding = '{encoding}' }}\nsignature = {{ header = 'x-s', algorithm = '{algorithm}' }}"
        );
        proven_by(&scheme, &format!("secrets = {{ s = {} }}", json!(secret)))
    });
    for (grant, (algorithm, encoding, _, signature)) in granted(&host, &blocks).await.iter().zip(&tries) {
        for (body, expected) in [(BODY, "accepted 1"), (r#"{"e":"y"}"#, "signature-mismatch")] {
            let line = host
                .judge(grant, webhook(&[("x-s", signature)], &[], body))
                .await
                .to_string();
            assert!(
                line.contains(expected),
                "{line}, not {expected}: {algorithm} {encoding}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_found_wherever_a_provider_puts_it() {
    const BODY: &str = r#"{"e":"x","t":["0123456789abcdef"]}"#;
    let host = Host::new(&Limits::default());
    let tries = [
        (
            "in = 'header:Authorization', prefix = 'Bearer '",
            &[("authorization", "Bearer 0123456789abcdef")] as &[_],
            &[] as &[_],
            BODY,
            "accepted 1",
        ),
        (
            "in = 'header:Authorization', prefix = 'Bearer '",
            &[("authorization", KEY)],
            &[],
            BODY,
            "token-malformed",
        ),
        (
            "in = 'header:x-t'",
            &[("x-t", "0123456789abcde")],
            &[],
            BODY,
            "token-mismatch",
        ),
        ("in = 'header:x-t'", &[], &[], BODY, "not-proven"),
        ("in = 'query:t'", &[], &[("t", KEY)], BODY, "accepted 1"),
        ("in = 'query:t'", &[], &[("t", "")], BODY, "token-mismatch"),
        ("in = 'body:/t/0'", &[], &[], BODY, "accepted 1"),
        ("in = 'body:/e'", &[], &[], BODY, "token-mismatch"),
        ("in = 'body:/t'", &[], &[], BODY, "not-proven"),
        ("in = 'body:/t/0'", &[], &[], "{", "json-invalid"),
    ];
    let mut blocks: Vec<_> = tries
        .iter()
        .map(|(place, ..)| {
            proven_by(
                &format!("token = {{ {place} }}"),
                &format!("secrets = {{ token = '{KEY}' }}"),
            )
        })
        .collect();
    blocks.push(proven_by("token = { in = 'header:x-t' }", "allow_unsigned = true"));
    blocks.push(proven_by("token = { in = 'body:/t/0' }", "allow_unsigned = true"));
    let grants = granted(&host, &blocks).await;
    for (grant, (place, headers, query, body, expected)) in grants.iter().zip(tries) {
        assert_eq!(grant.plugin.descriptor.assurance, Assurance::Token);
        let answer = host.judge(grant, webhook(headers, query, body)).await;
        let line = answer.to_string();
        assert!(line.contains(expected), "{line}, not {expected}: {place}");
        if let Answer::Accepted(accepted) = &answer {
            let event = cloud_event(&accepted.events[0]).to_string();
            assert!(
                !event.contains(KEY) || place.contains("header") || place.contains("query"),
                "{event}"
            );
        }
    }
    // What nothing proves is taken where the operator says so, and only there.
    let [.., open, body] = &*grants else {
        panic!("they were the last")
    };
    for headers in [&[] as &[_], &[("x-t", "anything")]] {
        assert_eq!(
            host.judge(open, webhook(headers, &[], BODY)).await.to_string(),
            "accepted 1"
        );
    }
    // A token in a body would be in the event, where the gateway does not know it.
    let line = host.judge(body, webhook(&[], &[], BODY)).await.to_string();
    assert!(line.contains("host-misconfigured"), "{line}");
}

/// Type, id, subject, time and data of what becomes of a body, or the answer's line.
async fn mapped(host: &Host, grant: &Arc<Grant>, body: Value) -> Value {
    mapped_from(host, grant, webhook(&[], &[("t", KEY)], &body.to_string())).await
}

async fn mapped_from(host: &Host, grant: &Arc<Grant>, request: Request) -> Value {
    match host.judge(grant, request).await {
        Answer::Accepted(accepted) => {
            let mut data = cloud_event(&accepted.events[0])["data"].take();
            data.as_object_mut().expect("it is one").remove("provider");
            let mapped = &accepted.mapped[0];
            json!([mapped.kind, mapped.id, mapped.subject, mapped.occurred_at_ms, data])
        }
        other => other.to_string().into(),
    }
}

const MAPPED: &str = r#"
token = { in = "query:t" }
content_types = ["application/json", "application/x-www-form-urlencoded"]
event = "/e"
id = ["/e", "/n"]
test = { pointer = "/test", values = { yes = "true" } }
types = { ended = "by-outcome", "end*" = "call.completed", sms = "message.received", ping = "ignore" }
occurred_at = ["/at", { pointer = "/at", as = "milliseconds" }]
[provider.data]
call.id = { pointer = "/call/id", when = { "/e" = "end*" } }
call.direction = { pointer = "/call/way", values = { "out*" = "outbound", outer = "inbound", "*" = "unknown" } }
call.outcome = { pointer = "/call/result", values = { "" = "missed", none = "no_answer" } }
call.from = { number = { pointer = "/call/from", as = "00" }, name = "/call/name" }
call.to = [{ pointer = "/call/to", as = "digits", when = { "/call/way" = ["in", "out"] } }, "/ends/1/number"]
call.started_at = { pointer = "/call/start", as = "seconds" }
call.answered_at = "/at"
call.duration_seconds = [{ pointer = "/call/clock", as = "clock" }, "/call/length"]
call.talk_seconds = { pointer = "/call/talk", as = "minutes" }
call.agent.id = "/call/agent/id"
call.recording = { url = "/call/recording", expires_at = "/call/until" }
call.extracted = "/call/found"
call.summary = "/call/found/summary"
call.steps = { each = "/call/steps", item = { name = "/name", value = "/value" } }
call.transcript = { pointer = "/call/text", labels = { "A: " = "agent", "A:" = "system" } }
message.id = { pointer = "/sms/id", when = { "/e" = "sms" } }
message.channel = { const = "sms" }
message.media = { each = "/sms/media", item = "" }
lead.id = "/call/lead"
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_description_is_followed_to_the_letter() {
    let host = Host::new(&Limits::default());
    let blocks = [(MAPPED.to_owned(), format!("secrets = {{ token = '{KEY}' }}"))];
    let grant = granted(&host, &blocks).await.remove(0);
    let events = grant.plugin.descriptor.events.iter();
    let events: Vec<_> = events
        .map(|event| format!("{} {}", event.native, event.unified))
        .collect();
    assert_eq!(
        events,
        [
            "ended call.completed",
            "ended call.failed",
            "ended call.missed",
            "sms message.received",
            "end* call.completed",
            "* provider.other"
        ]
    );
    let map = async |body: Value| mapped(&host, &grant, body).await;

    // Every conversion; what was changed on its way stays, what was taken whole does not.
    let call = json!({
        "id": 7, "way": "outgoing", "result": "", "from": "0033 6 12 34 56 78", "name": "N", "to": "16045551234", "start": 1780315200.5,
        "clock": "1:02:03", "length": 5, "talk": 1.5, "agent": { "id": "" }, "recording": "https://r", "until": "2026-07-01T00:00:00Z",
        "found": { "a": 1, "summary": "S" }, "text": "hm\nA: one\ntwo\nA:three\n", "lead": "l",
        "steps": [{ "name": "x", "value": { "y": [1] } }, { "value": 2 }, 3, { "name": "z", "more": 4 }],
    });
    let body = json!({ "e": "ended", "n": 1, "at": "2026-06-01T14:00:00+02:00", "test": "yes", "call": call, "ends": [{}, { "number": "+16045550000" }] });
    let expected = json!(["call.missed", "ended:1", "7", 1_780_315_200_000_u64, {
        "provider_event": "ended", "test": true,
        "call": {
            "id": "7", "direction": "outbound", "outcome": "missed",
            "from": { "number": "+33612345678", "raw": "0033 6 12 34 56 78", "name": "N" },
            "to": { "number": "+16045550000", "raw": "+16045550000" },
            "started_at": "2026-06-01T12:00:00.500Z", "answered_at": "2026-06-01T12:00:00Z",
            "duration_seconds": 3723, "talk_seconds": 90,
            "recording": { "url": "https://r", "expires_at": "2026-07-01T00:00:00Z" },
            "extracted": { "a": 1, "summary": "S" }, "summary": "S",
            "steps": [{ "name": "x", "value": { "y": [1] } }, { "name": "z" }],
            "transcript": [{ "speaker": "unknown", "text": "hm" }, { "speaker": "agent", "text": "one\ntwo" }, { "speaker": "system", "text": "three" }],
        },
        "lead": { "id": "l" },
        "extra": {
            "n": 1, "at": "2026-06-01T14:00:00+02:00", "test": "yes",
            "call": {
                "id": 7, "way": "outgoing", "result": "", "to": "16045551234", "start": 1780315200.5, "clock": "1:02:03", "length": 5,
                "talk": 1.5, "agent": { "id": "" }, "steps": [{}, { "value": 2 }, 3, { "more": 4 }],
                "found": { "a": 1 },
            },
            "ends": [{}, {}],
        },
    }]);
    assert_eq!(map(body).await, expected);

    // Nothing but an id; a closer pattern counts before a wider one; values that cannot be what they should be stay.
    let odd = json!({
        "id": "7", "way": null, "from": { "no": 1 }, "start": 0, "clock": "61", "length": -1, "talk": "x", "found": [], "text": "",
        "steps": {}, "recording": 7,
    });
    let expected = json!(["call.completed", "ending:2", "7", 5, {
        "provider_event": "ending", "test": false,
        "call": { "id": "7", "direction": "unknown", "recording": { "url": "7" } },
        "extra": {
            "n": 2, "at": 5,
            "call": {
                "way": null, "from": { "no": 1 }, "start": 0, "clock": "61", "length": -1, "talk": "x", "text": "",
                "steps": {}, "recording": 7,
            },
        },
    }]);
    assert_eq!(
        map(json!({ "e": "ending", "n": 2, "at": 5, "call": odd })).await,
        expected
    );

    // Another block is what it is about; an item that is a text.
    let sms =
        json!({ "e": "sms", "n": "3", "call": { "id": "7" }, "sms": { "id": "s", "media": ["https://m", 1, {}] } });
    let expected = json!(["message.received", "sms:3", "s", null, {
        "provider_event": "sms", "test": false, "time_is_received": true,
        "message": { "id": "s", "channel": "sms", "direction": "unknown", "media": [{ "url": "https://m" }, { "url": "1" }] },
        "extra": { "n": "3", "call": { "id": "7" }, "sms": { "media": [{}, 1, {}] } },
    }]);
    assert_eq!(map(sms).await, expected);

    // An outcome that is not listed is none, though it would be a word; a name that is a number stays as it was.
    let listed = map(json!({ "e": "ended", "n": 5, "call": { "id": "8", "result": "failed" } })).await;
    assert_eq!(
        (&listed[0], &listed[4]["call"]["outcome"]),
        (&json!("call.completed"), &Value::Null)
    );
    assert_eq!(listed[4]["extra"]["call"]["result"], "failed");
    let number = map(json!({ "e": 7, "n": 6 })).await;
    assert_eq!(
        (&number[0], &number[4]["provider_event"]),
        (&json!("provider.other"), &json!("7"))
    );
    assert_eq!(number[4]["extra"], json!({ "e": 7, "n": 6 }));

    // Without a name here it stays whole.
    let expected = json!(["provider.other", "new:4", "new:4", null, {
        "provider_event": "new", "test": false, "time_is_received": true,
        "extra": { "n": 4, "call": { "id": "7", "name": "N", "lead": null } },
    }]);
    let other = json!({ "e": "new", "n": 4, "call": { "id": "7", "name": "N", "lead": null } });
    assert_eq!(map(other).await, expected);

    // And without a part of its id it is told apart by all it says.
    let unnumbered = [
        map(json!({ "e": "new", "x": 1 })).await,
        map(json!({ "e": "new", "x": 2 })).await,
    ];
    for event in &unnumbered {
        assert_eq!(event[0], "provider.other");
        assert!(event[1].as_str().is_some_and(|id| id.starts_with("new:")), "{event}");
    }
    assert_ne!(unnumbered[0][1], unnumbered[1][1]);

    for (body, expected) in [
        (json!({ "e": "ping" }), "ignored token event-ignored"),
        (json!({ "e": "", "n": 1 }), "quarantined malformed event-missing: "),
        (json!({ "n": 1 }), "quarantined malformed event-missing: "),
        (
            json!({ "e": "ended", "call": { "id": "7" } }),
            "quarantined malformed id-missing: ",
        ),
        (
            json!({ "e": "ended", "n": 1 }),
            "quarantined malformed subject-missing: ",
        ),
        (
            json!({ "e": "sms", "n": 1, "sms": { "id": {} } }),
            "quarantined malformed subject-missing: ",
        ),
        (json!([]), "quarantined malformed json-not-an-object: "),
    ] {
        assert_eq!(map(body.clone()).await, expected, "{body}");
    }

    // The fields of a form are members like any other.
    let mut form = webhook(&[], &[("t", KEY)], "e=ended&n=5&n=6&x=");
    form.form = form_urlencoded::parse(&form.body).into_owned().collect();
    let line = host.judge(&grant, form).await.to_string();
    assert_eq!(line, "quarantined malformed id-missing: ");
}

const IDENTIFIED: &str = r#"
token = { in = "query:t" }
content_types = ["application/json", "application/x-www-form-urlencoded"]
event = "/e"
types = { sms = "message.received", ended = "call.completed", lead = "lead.created" }
test = [{ const = true, when = { "/mode" = "test" } }, { const = "true", when = { "/mode" = "demo" } }]
[provider.data]
call.id = "/call"
message.id = "/id"
message.conversation_id = "/thread"
message.channel = { const = "sms" }
lead.id = "/lead"
attribution.first_time_caller = [{ pointer = "/times", values = { "1" = true, "*" = "false" } }, { const = false }]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_told_from_others_by_what_it_is_of() {
    let host = Host::new(&Limits::default());
    let numbered = IDENTIFIED.replace("event =", "id = ['/e', '/a', '/b']\nevent =");
    let route = format!("secrets = {{ token = '{KEY}' }}");
    let blocks = [(IDENTIFIED.to_owned(), route.clone()), (numbered, route)];
    let [plain, numbered] = &granted(&host, &blocks).await[..] else {
        panic!("they are two")
    };
    for (body, expected) in [
        (json!({ "e": "sms", "call": "c", "id": "m1" }), ["sms:m1", "m1"]),
        (json!({ "e": "sms", "call": "c", "id": "m2" }), ["sms:m2", "m2"]),
        (json!({ "e": "sms", "id": "m3", "thread": "t" }), ["sms:m3", "t"]),
        (json!({ "e": "ended", "call": "c", "id": "m" }), ["ended:c", "c"]),
        (json!({ "e": "lead", "call": "c", "lead": "l" }), ["lead:l", "l"]),
    ] {
        let event = mapped(&host, plain, body.clone()).await;
        assert_eq!([&event[1], &event[2]], expected, "{body}");
        assert_eq!(event[4]["test"], false);
        assert_eq!(event[4]["attribution"]["first_time_caller"], false);
    }
    let line = mapped(&host, plain, json!({ "e": "sms", "call": "c" })).await;
    assert_eq!(line, "quarantined malformed subject-missing: ");
    for mode in ["test", "demo"] {
        let event = mapped(
            &host,
            plain,
            json!({ "e": "ended", "call": "c", "mode": mode, "times": 1 }),
        )
        .await;
        assert_eq!(event[4]["test"], true, "{mode}");
        assert_eq!(event[4]["attribution"]["first_time_caller"], true);
    }

    // The fields of a form are members like any other.
    let mut form = webhook(&[], &[("t", KEY)], "e=ended&call=c%3A1&mode=test&from=%2B1&x=&x=2");
    form.form = form_urlencoded::parse(&form.body).into_owned().collect();
    let expected = json!(["call.completed", "ended:c:1", "c:1", null, {
        "provider_event": "ended", "test": true, "time_is_received": true,
        "call": { "id": "c:1", "direction": "unknown" },
        "attribution": { "first_time_caller": false },
        "extra": { "mode": "test", "from": "+1", "x": ["", "2"] },
    }]);
    assert_eq!(mapped_from(&host, plain, form).await, expected);

    // With an id of its own it is about what it is of, or about the call.
    for (e, a, b, expected) in [
        ("sms", "a:1", "2", "sms:a\\:1:2"),
        ("sms", "a", "1:2", "sms:a:1:2"),
        ("sms", "a\\", "1:2", "sms:a\\\\:1:2"),
    ] {
        let event = mapped(&host, numbered, json!({ "e": e, "a": a, "b": b, "call": "c" })).await;
        assert_eq!([&event[1], &event[2]], [expected, "c"]);
    }
}

const SPOKEN: &str = r#"
token = { in = "query:t" }
event = "/e"
types = { "*" = "call.completed" }
[provider.data]
call.id = "/id"
call.transcript = [
    { pointer = "/names", labels = { "Anna: " = "agent", "Bob: " = "agent", "Carl: " = "customer" } },
    { pointer = "/roles", labels = { "A: " = "agent", "C: " = "customer" } },
    { each = "/calls/1/turns", item = { text = "/text", speaker = "/who" } },
]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transcript_goes_whole_or_stays() {
    let host = Host::new(&Limits::default());
    let route = format!("secrets = {{ token = '{KEY}' }}");
    let grant = granted(&host, &[(SPOKEN.to_owned(), route)]).await.remove(0);
    let turn = |speaker: &str, text: &str| json!({ "speaker": speaker, "text": text });
    let names = "Anna: hello\r\nthere\r\nBob: hi\r\nCarl: yes\n";
    for (body, transcript, extra) in [
        // Who of two agents said what stands nowhere else.
        (
            json!({ "e": "x", "id": 1, "names": names }),
            json!([
                turn("agent", "hello\r\nthere"),
                turn("agent", "hi"),
                turn("customer", "yes")
            ]),
            json!({ "id": 1, "names": names }),
        ),
        (
            json!({ "e": "x", "id": "1", "roles": "A: hello\r\nC: yes\r\n", "more": 1 }),
            json!([turn("agent", "hello"), turn("customer", "yes")]),
            json!({ "more": 1 }),
        ),
        // A number is nothing that was said.
        (
            json!({ "e": "x", "id": "1", "roles": 2.5 }),
            Value::Null,
            json!({ "roles": 2.5 }),
        ),
        // A list below a list is gone through where it stands.
        (
            json!({ "e": "x", "id": "1", "calls": [0, { "turns": [{ "text": "hi", "who": "agent", "at": 1 }] }] }),
            json!([turn("agent", "hi")]),
            json!({ "calls": [0, { "turns": [{ "at": 1 }] }] }),
        ),
    ] {
        let event = mapped(&host, &grant, body).await;
        assert_eq!(event[4]["call"]["transcript"], transcript);
        assert_eq!(event[4]["extra"], extra);
    }
}

/// The blocks that `config.example.toml` and the README show do what they say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_are_served() {
    let read = |name| fs::read_to_string(guest::workspace().join(name)).expect("it can be read");
    let (example, readme) = (read("config.example.toml"), read("README.md"));
    let lines = example.lines().skip_while(|line| *line != "#   [[provider]]").skip(2);
    let lines = lines.take_while(|line| *line != "#   [[provider]]");
    let is_key = |line: &&str| line.starts_with('[') || line.contains(" = ");
    let block: Vec<_> = lines
        .filter_map(|line| line.strip_prefix("#   "))
        .filter(is_key)
        .collect();
    let (_, short) = readme
        .split_once("[[provider]]\nname = \"acme-voice\"\n")
        .expect("it is shown");
    let (short, _) = short.split_once("```").expect("the block ends");
    let host = Host::new(&Limits::default());
    let route = format!("secrets = {{ signing = '{KEY}' }}");
    let blocks = [(block.join("\n"), route.clone()), (short.to_owned(), route)];
    let grants = granted(&host, &blocks).await;
    let body = r#"{"event":"call.ended","sent":1780315199000,"call":{"id":"c1","direction":"outgoing","result":"noanswer",
        "caller":"+16045550100","started":1780315100,"length":"00:42","turns":[{"role":"user","text":"Hi","offset":1.5}]}}"#;
    let signature = format!("t={SECONDS},v1={}", hex_mac(&format!("{SECONDS}.{body}")));
    let call = async |grant: &Arc<Grant>| match host
        .judge(grant, webhook(&[("x-acme-signature", &signature)], &[], body))
        .await
    {
        Answer::Accepted(accepted) => (
            accepted.mapped[0].kind.clone(),
            accepted.mapped[0].id.clone(),
            cloud_event(&accepted.events[0])["data"]["call"].take(),
        ),
        answer => panic!("{answer}"),
    };
    let expected = json!({
        "id": "c1", "direction": "outbound", "state": "ended", "outcome": "no_answer",
        "from": { "number": "+16045550100", "raw": "+16045550100" },
        "started_at": "2026-06-01T11:58:20Z", "duration_seconds": 42,
        "transcript": [{ "speaker": "customer", "text": "Hi", "at": "2026-06-01T11:58:21.500Z" }],
    });
    let id = "call.ended:c1".to_owned();
    assert_eq!(call(&grants[0]).await, ("call.failed".to_owned(), id.clone(), expected));
    let expected = json!({
        "id": "c1", "direction": "unknown",
        "from": { "number": "+16045550100", "raw": "+16045550100" },
        "started_at": "2026-06-01T11:58:20Z",
        "transcript": [{ "speaker": "unknown", "text": "Hi" }],
    });
    assert_eq!(call(&grants[1]).await, ("call.completed".to_owned(), id, expected));
}

#[tokio::test]
async fn a_built_in_plugin_keeps_its_name() {
    let text = "[[provider]]\nname = 'magpipe'\ntoken = { in = 'query:t' }\nevent = '/e'\ntypes = {}\n\
                [[route]]\nname = 'r'\nprovider = 'magpipe'\nsecrets = { signing = 's' }\n";
    let checked = config::parse(text, "described.toml", &|_| None, Path::new(""))
        .unwrap_or_else(|refused| panic!("{}", refused.problems));
    let host = Host::new(&Limits::default());
    let mut plugins = built_in(&host).await;
    let problems = host
        .stand
        .runtime
        .declare(&checked.config.providers, &mut plugins)
        .await;
    let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(
        told[0].contains("provider[magpipe].name: is the name of a built-in plugin"),
        "{told:?}"
    );
    assert_eq!(problems[0].line, 1);
    assert_eq!(plugins["magpipe"].descriptor.display_name, "Magpipe");
}
