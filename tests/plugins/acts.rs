//! What the hostile plugin does while it has a webhook, and how each act ends.

use std::time::{Duration, Instant};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use callfeed::{
    config::Limits,
    kit::{Accepted, Answer},
};

use crate::{
    guest,
    host::{self, Host, TOKEN, grant, route, webhook},
};

/// Each act and the beginning of the line its webhook ends with.
///
/// `failed` before a proof asks the sender to try again; `quarantined` after one keeps the webhook and answers 200.
pub(crate) const ACTS: &[(&str, &str)] = &[
    ("behave", "accepted 1"),
    // Time, memory, stack.
    ("spin-in-verify", "failed: it ran longer than limits.plugin_time"),
    ("spin-after-proof", "quarantined: it ran longer than limits.plugin_time"),
    (
        "spin-in-normalize",
        "quarantined: it ran longer than limits.plugin_time",
    ),
    (
        "grow-in-verify",
        "failed: it asked for more memory than limits.plugin_memory (16777216 bytes)",
    ),
    (
        "grow-after-proof",
        "quarantined: it asked for more memory than limits.plugin_memory (16777216 bytes)",
    ),
    (
        "grow-in-normalize",
        "quarantined: it asked for more memory than limits.plugin_memory (16777216 bytes)",
    ),
    (
        "recurse-in-verify",
        "failed: it left its memory, most likely by using up its stack",
    ),
    (
        "recurse-in-normalize",
        "quarantined: it left its memory, most likely by using up its stack",
    ),
    ("recurse-flat", "quarantined: it used up its stack"),
    (
        "panic-in-verify",
        "failed: it aborted; its log above says why if it said so",
    ),
    (
        "panic-after-proof",
        "quarantined: it aborted; its log above says why if it said so",
    ),
    (
        "panic-in-normalize",
        "quarantined: it aborted; its log above says why if it said so",
    ),
    ("log-flood", "accepted 1"),
    ("log-lines", "accepted 1"),
    ("log-token", "accepted 1"),
    // Lies about proof.
    (
        "lie-without-a-check",
        "rejected unauthenticated not-proven: nothing of strength signed-body was verified for it",
    ),
    ("lie-after-a-mismatch", "rejected unauthenticated not-proven: "),
    ("lie-with-a-token", "rejected unauthenticated not-proven: "),
    ("lie-over-another-text", "rejected unauthenticated not-proven: "),
    ("reject-after-proof", "quarantined malformed changed-my-mind: "),
    ("ack-201", "accepted 1"),
    (
        "reject-with-token",
        "rejected unauthenticated token-wrong: ••• is not the token",
    ),
    // Misuse of keys.
    (
        "undeclared-secret",
        "rejected unauthenticated refused: secret \"admin\" is not declared in the descriptor",
    ),
    (
        "secret-as-text",
        "rejected unauthenticated refused: a plain hash takes no secret part",
    ),
    ("secret-in-hmac", "rejected unauthenticated refused: "),
    (
        "unknown-hash",
        "rejected unauthenticated refused: hash \"md4\" is not served",
    ),
    (
        "spare-secret",
        "misconfigured: route \"spare-secret\" has no value for the secret \"spare\"",
    ),
    (
        "hmac-before-proof",
        "rejected unauthenticated refused: hmac is served after a successful check",
    ),
    (
        "hmac-of-another-secret",
        "rejected unauthenticated refused: hmac with \"signing\" needs",
    ),
    (
        "hmac-not-allowed",
        "misconfigured: route \"hmac-not-allowed\" needs allow_hmac = true: ",
    ),
    ("hmac-allowed", "accepted 1"),
    (
        "check-in-normalize",
        "quarantined malformed refused: only verify may check signatures",
    ),
    // Reaching out.
    (
        "sleep",
        "quarantined: it called wasi:clocks/monotonic-clock@0.2.6#subscribe-duration, which no plugin has",
    ),
    ("read-a-file", "quarantined: it called wasi:"),
    ("write-a-file", "quarantined: it called wasi:"),
    ("connect", "quarantined: it called wasi:"),
    ("print", "quarantined: it called wasi:"),
    ("exit", "quarantined: it called wasi:cli/exit"),
    ("environment", "accepted 1"),
    ("arguments", "accepted 1"),
    ("hash-map", "accepted 1"),
    ("clock", "accepted 1"),
    ("thread", "accepted 1"),
    // Answers of its own.
    ("respond-200", "respond 200 None xxxxxxxxxxxxxxxx"),
    ("respond-404", "respond 404 None xxxxxxxxxxxxxxxx"),
    (
        "respond-302",
        "failed: a plugin may answer 200, 201, 204 and 4xx, not 302",
    ),
    (
        "respond-302-after-proof",
        "quarantined: a plugin may answer 200, 201, 204 and 4xx, not 302",
    ),
    (
        "respond-500",
        "failed: a plugin may answer 200, 201, 204 and 4xx, not 500",
    ),
    (
        "respond-10-kib",
        "failed: a plugin's answer of 10240 bytes is over 4096",
    ),
    ("respond-cookie", "respond 200 Some(\"text/plain\") xxxxxxxxxxxxxxxx"),
    (
        "respond-split",
        "failed: a plugin's answer has an unusable content-type",
    ),
    (
        "respond-huge-type",
        "failed: a plugin's answer has an unusable content-type",
    ),
    ("respond-in-normalize", "respond 200 None xxxxxxxxxxxxxxxx"),
    (
        "respond-302-in-normalize",
        "quarantined: a plugin may answer 200, 201, 204 and 4xx, not 302",
    ),
    (
        "ack-302",
        "quarantined: a plugin may answer 200, 201, 204 and 4xx, not 302",
    ),
    (
        "ack-202",
        "quarantined: a plugin may answer 200, 201, 204 and 4xx, not 202",
    ),
    ("reject-at-length", "rejected unauthenticated ccc"),
    ("reject-at-length-in-normalize", "quarantined malformed ccc"),
    ("form-at-length", "accepted 1"),
    ("payload", "accepted 1"),
    (
        "payload-at-length",
        "quarantined: its payload of 3145728 bytes is over limits.plugin_output (1048576)",
    ),
    ("ignore", "ignored hex of no interest"),
    ("ignore-at-length", "ignored hex xxx"),
    // Events that are none.
    ("one-event-of-2-mib", "quarantined: its events of 20972"),
    (
        "one-event-of-10-mb",
        "quarantined: too much data is being copied between the host and the guest",
    ),
    ("many-events-of-2-mib", "quarantined: its events of 205"),
    (
        "5000-events",
        "quarantined: it returned 5000 events; 1 to 100 are allowed",
    ),
    ("100-events", "accepted 100"),
    ("no-events", "quarantined: it returned 0 events; 1 to 100 are allowed"),
    ("same-event-twice", "accepted 2"),
    (
        "one-bad-of-two",
        "quarantined: the plugin returned data that is not a JSON object: ",
    ),
    (
        "not-json",
        "quarantined: the plugin returned data that is not a JSON object: ",
    ),
    (
        "two-values",
        "quarantined: the plugin returned data that is not a JSON object: ",
    ),
    (
        "an-array",
        "quarantined: the plugin returned data that is not a JSON object: it is another kind of value",
    ),
    (
        "a-number",
        "quarantined: the plugin returned data that is not a JSON object: it is another kind of value",
    ),
    (
        "empty",
        "quarantined: the plugin returned data that is not a JSON object: ",
    ),
    (
        "same-key-twice",
        "quarantined: the plugin returned data that is not a JSON object: the same key stands twice",
    ),
    (
        "same-key-twice-in-extra",
        "quarantined: the plugin returned data that is not a JSON object: the same key",
    ),
    (
        "nested-1000-deep",
        "quarantined: the plugin returned data that is not a JSON object: recursion limit exceeded",
    ),
    (
        "number-of-no-size",
        "quarantined: the plugin returned data that is not a JSON object: number out of range",
    ),
    (
        "half-an-emoji",
        "quarantined: the plugin returned data that is not a JSON object: ",
    ),
    (
        "breaks-the-schema",
        "quarantined: the event does not fit its schema: /call/id breaks ",
    ),
    (
        "unknown-member",
        "quarantined: the event does not fit its schema: / breaks ",
    ),
    ("without-its-block", "accepted 1"),
    (
        "host-owned-provider",
        "quarantined: the plugin set data.provider, which belongs to the host",
    ),
    (
        "host-owned-test",
        "quarantined: the plugin set data.test, which belongs to the host",
    ),
    (
        "undeclared-type",
        "quarantined: the plugin returned the type \"call.ringing\", which it does not declare",
    ),
    ("huge-type", "quarantined: the plugin returned the type \"xxx"),
    (
        "empty-id",
        "quarantined: the plugin returned an empty, overlong or unprintable id",
    ),
    (
        "huge-id",
        "quarantined: the plugin returned an empty, overlong or unprintable id",
    ),
    (
        "control-in-id",
        "quarantined: the plugin returned an empty, overlong or unprintable id",
    ),
    (
        "empty-subject",
        "quarantined: the plugin returned an empty, overlong or unprintable subject",
    ),
    (
        "line-in-subject",
        "quarantined: the plugin returned an empty, overlong or unprintable subject",
    ),
    ("odd-subject", "accepted 1"),
    (
        "absurd-time",
        "quarantined: the plugin returned the time 18446744073709551615 ms, which no calendar has",
    ),
    (
        "year-10000",
        "quarantined: the plugin returned the time 253402300800000 ms, which no calendar has",
    ),
    ("year-9999", "accepted 1"),
    ("over-lines", "accepted 1"),
    ("count-webhooks", "accepted 1"),
];

/// A line in the log or in the quarantine longer than this is no use to an operator.
pub(crate) const LINE_BYTES_MAX: usize = 2 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_act_ends_as_it_should() {
    let host = Host::new(&Limits::default());
    let plugin = host.load(guest::rogue()).await.expect("the plugin loads");
    // On a busy machine a bound other than the one on time has to be the first that is met.
    let patient = Host::new(&Limits {
        plugin_time: Duration::from_secs(2),
        ..Limits::default()
    });
    let unhurried = patient.load(guest::rogue()).await.expect("the plugin loads");
    let mut failures = String::new();
    for (act, expected) in ACTS {
        let (host, plugin) = match expected.contains("limits.plugin_time") {
            true => (&host, &plugin),
            false => (&patient, &unhurried),
        };
        let grant = grant(plugin, &route(act, act));
        let started = Instant::now();
        let line = host.judge(&grant, webhook()).await.to_string();
        let took = started.elapsed();
        if !line.starts_with(expected) {
            let shown: String = line.chars().take(300).collect();
            failures += &format!("\n{act}\n  expected {expected}\n  came to  {shown}");
        }
        let clean = line.len() <= LINE_BYTES_MAX && !line.chars().any(char::is_control) && !line.contains(TOKEN);
        if !clean || line.contains("wasm backtrace") || line.contains("stack backtrace") {
            failures += &format!(
                "\n{act}: a line of {} bytes, or one that an operator must not see",
                line.len()
            );
        }
        // Some dozens of ticks, even on a machine that is busy with something else.
        if took > Duration::from_secs(5) {
            failures += &format!("\n{act}: took {took:?}");
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_host_counts_what_it_does_for_a_webhook() {
    // Time enough, so that the counts are what ends it.
    let host = Host::new(&Limits {
        plugin_time: Duration::from_secs(10),
        ..Limits::default()
    });
    let plugin = host.load(guest::rogue()).await.expect("the plugin loads");
    let line = async |act| {
        host.judge(&grant(&plugin, &route("r", act)), webhook())
            .await
            .to_string()
    };
    assert_eq!(
        line("many-calls").await,
        "rejected unauthenticated host-refused: more calls of the host than limits.plugin_host_calls allows"
    );
    assert_eq!(
        line("hash-gigabytes").await,
        "quarantined malformed refused: more than 67108864 bytes to hash for one webhook, in round 63"
    );
}

/// The sender makes both the token and the body it is to be found in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn looking_for_a_token_takes_linear_time() {
    let host = Host::new(&Limits {
        plugin_time: Duration::from_secs(10),
        ..Limits::default()
    });
    let plugin = host.load(guest::rogue()).await.expect("the plugin loads");
    let grant = grant(&plugin, &route("r", "token-in-the-body"));
    // JSON may begin with blanks, which are `ICAg` in base64: the body looks like the token nearly everywhere.
    let header = format!("{}{{\"alg\":\"HS256\"}}", " ".repeat(240_000));
    let signed = format!(
        "{}.{}",
        BASE64_URL_SAFE_NO_PAD.encode(header),
        BASE64_URL_SAFE_NO_PAD.encode("{}")
    );
    let mac = BASE64_URL_SAFE_NO_PAD.encode(host::mac(signed.as_bytes()));
    let token = format!("{signed}.{mac}");
    for (body, expected) in [
        (format!("{} {token}", "ICAg".repeat(300_000)), "accepted 1"),
        (
            format!("{} {signed}.AAAA", "ICAg".repeat(300_000)),
            "rejected unauthenticated signature-mismatch: ",
        ),
    ] {
        let mut request = webhook();
        request.body = body.into();
        let started = Instant::now();
        assert_eq!(host.judge(&grant, request).await.to_string(), expected);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_survives_a_webhook() {
    let host = Host::new(&Limits {
        plugins_in_flight: 1,
        ..Limits::default()
    });
    let plugin = host.load(guest::rogue()).await.expect("the plugin loads");
    let grant = grant(&plugin, &route("r", "count-webhooks"));
    for _ in 0..20 {
        let Answer::Accepted(Accepted { events, .. }) = host.judge(&grant, webhook()).await else {
            panic!("not accepted")
        };
        assert_eq!(host::cloud_event(&events[0])["data"]["extra"]["webhooks"], 1);
    }
}
