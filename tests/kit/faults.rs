//! A plugin that is wrong in one way at a time, and the check of the kit that finds it.

use std::{
    fs,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use callfeed::{
    config::Limits,
    kit::{self, Case, Check, Finding, Options, Outcome, Report, Stand},
    plugin::Plugin,
};
use harness::guest;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use crate::conformance::failures;

const SIGNING: &str = "signing-secret-of-the-case";
const ACCOUNT: &str = "account-token-of-the-case";
const TIMESTAMP: &str = "1780315199";
const NOTE: &str = "spring campaign";

const STARTED: &str = r#"{"event":"started","call_id":"c-1","agent":{"name":"Ada","skills":["de",7]},"seconds":0}"#;
const ENDED: &str = r#"{"event":"ended","call_id":"c-2","agent":{"name":"Bob","skills":["en",9]},"seconds":61.5}"#;

/// Each fault, the checks that fail, and words of the first failure of the first one.
const FAULTS: &[(&str, &[Check], &str)] = &[
    ("none", &[], ""),
    (
        "half-body",
        &[Check::BodyForgery],
        "of the body, and the answer is accepted 1",
    ),
    (
        "no-timestamp",
        &[Check::Headers],
        "x-wrong-timestamp is declared, and no case comes out differently when it is changed or missing",
    ),
    (
        "no-note",
        &[Check::HeaderForgery],
        "the events say what this header says, and the signature does not cover it",
    ),
    (
        "no-account",
        &[Check::Secrets, Check::Headers],
        "every case is accepted whatever the value of the secret \"account\" is",
    ),
    (
        "undeclared-header",
        &[Check::Headers],
        "it reads a header that it does not declare, one of host, x-wrong-trace",
    ),
    (
        "query",
        &[Check::UrlForgery],
        "byte 13 of the target changed (/hooks/wrong?bampaign=1)",
    ),
    (
        "chance",
        &[Check::SameOutput],
        "with other random numbers and clocks it says something else",
    ),
    (
        "memory",
        &[Check::SameOutput],
        "mapped alone, as a webhook from the record is, it says something else",
    ),
    (
        "hash-id",
        &[Check::SameId],
        "written with other spaces or escapes, the same event has another id",
    ),
    (
        "late-id",
        &[Check::SameId],
        "received a week later, the same event has another id",
    ),
    ("one-id", &[Check::SameId], "have the same id \"event\""),
    ("loses", &[Check::NothingLost], "not found in its events: \"Bob\""),
    ("repeats-secret", &[Check::NoSecrets], "repeats the secret \"account\""),
    ("invalid", &[Check::ValidEvents], "/call/duration_seconds breaks"),
    ("panic", &[Check::OddBodies], "it aborted"),
    (
        "loop",
        &[Check::OddBodies, Check::Bounds],
        "it ran longer than limits.plugin_time",
    ),
    (
        "grow",
        &[Check::OddBodies, Check::Bounds],
        "it asked for more memory than limits.plugin_memory",
    ),
];

/// Bounded, since each loop takes its time.
fn options() -> Options {
    Options {
        mutations: 40,
        bytes: 200,
        body_bytes_max: 32 << 10,
        ..Options::default()
    }
}

/// Writes a case as its provider would sign it for a plugin with this fault.
fn write(directory: &Path, fault: &str, name: &str, body: &str) {
    let message = match fault {
        "half-body" => [TIMESTAMP, NOTE, &body[..body.len() / 2]].join("."),
        "no-timestamp" => [NOTE, body].join("."),
        "no-note" => [TIMESTAMP, body].join("."),
        _ => [TIMESTAMP, NOTE, body].join("."),
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(SIGNING.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(message.as_bytes());
    let signature: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let query = if fault == "query" { "?campaign=1" } else { "" };
    let request = format!(
        "POST /hooks/wrong{query} HTTP/1.1\nHost: hooks.example.com\nX-Wrong-Signature: {signature}\n\
         X-Wrong-Timestamp: {TIMESTAMP}\nX-Wrong-Note: {NOTE}\nX-Wrong-Account: {ACCOUNT}\nX-Wrong-Trace: abc\n\n{body}"
    );
    fs::create_dir_all(directory.join(name)).expect("a folder");
    fs::write(directory.join(name).join("request.http"), request).expect("it can be written");
}

fn write_all(directory: &Path, fault: &str) {
    let route = format!(
        "secrets = {{ signing = ['{SIGNING}'], account = ['{ACCOUNT}'] }}\noptions = {{ fault = '{fault}' }}\n"
    );
    fs::write(directory.join("route.toml"), route).expect("it can be written");
    write(directory, fault, "started", STARTED);
    write(directory, fault, "ended", ENDED);
}

async fn examined(stand: &Stand, plugin: &Arc<Plugin>, directory: &Path, options: &Options) -> Report {
    let cases = Case::read_all(directory, "wrong").expect("they are right");
    kit::bless(stand, plugin, &cases).await.expect("each becomes something");
    let cases = Case::read_all(directory, "wrong").expect("they are right");
    kit::examine(stand, plugin, &cases, options, &mut |_| ()).await
}

async fn loaded(stand: &Stand, wasm: &[u8]) -> Arc<Plugin> {
    stand.load("wrong", wasm).await.expect("it loads")
}

async fn refused(stand: &Stand, wasm: &[u8]) -> Report {
    Report::refused(&stand.load("wrong", wasm).await.expect_err("it does not load"))
}

/// Time enough for a host that is not optimised.
fn stand() -> Stand {
    let limits = Limits {
        plugin_time: Duration::from_millis(100),
        ..Limits::default()
    };
    Stand::new(&limits).expect("the engine starts")
}

fn wrong() -> &'static [u8] {
    static BUILT: OnceLock<Vec<u8>> = OnceLock::new();
    BUILT.get_or_init(|| {
        fs::read(guest::build(&["callfeed-plugin-wrong"]).join("wrong.wasm")).expect("it was built just now")
    })
}

fn failed(report: &Report) -> Vec<Check> {
    let failed = report
        .findings
        .iter()
        .filter(|finding| matches!(finding.outcome, Outcome::Failed { .. }));
    failed.map(|finding| finding.check).collect()
}

fn first_failure(finding: Option<&Finding>) -> &str {
    match finding.map(|finding| &finding.outcome) {
        Some(Outcome::Failed { failures, .. }) => &failures[0].what,
        _ => "",
    }
}

#[tokio::test]
async fn each_fault_is_found_by_its_check() {
    let stand = stand();
    let plugin = loaded(&stand, wrong()).await;
    let mut missed = String::new();
    for (fault, checks, words) in FAULTS {
        let directory = tempfile::tempdir().expect("a directory");
        write_all(directory.path(), fault);
        let report = examined(&stand, &plugin, directory.path(), &options()).await;
        let mut expected = checks.to_vec();
        expected.sort();
        let said = checks.first().map_or("", |check| first_failure(report.finding(*check)));
        if failed(&report) != expected || !said.contains(words) {
            missed += &format!("\n{fault}: {}\n", failures(&report));
        }
    }
    assert!(missed.is_empty(), "{missed}");
}

#[tokio::test]
async fn what_cannot_be_seen_in_a_case_is_found_too() {
    let stand = stand();
    let directory = tempfile::tempdir().expect("a directory");
    write_all(directory.path(), "none");
    let quick = Options {
        mutations: 1,
        bytes: 1,
        ..options()
    };

    let changing = guest::replaced(wrong(), "scene: right ", "scene: random");
    let report = examined(&stand, &loaded(&stand, &changing).await, directory.path(), &quick).await;
    assert_eq!(failed(&report), [Check::Describe]);
    let said = first_failure(report.finding(Check::Describe));
    assert!(
        said.contains("with another clock and other random numbers it describes itself differently: version"),
        "{said}"
    );

    let foreign = guest::replaced(wrong(), "wasi:cli/exit@", "evil:cli/exit@");
    let report = refused(&stand, &foreign).await;
    assert_eq!(failed(&report), [Check::Imports]);
    let said = first_failure(report.finding(Check::Imports));
    assert!(said.starts_with("it imports evil:cli/exit@"), "{said}");

    let report = refused(&stand, b"\0asm\x01\0\0\0").await;
    assert_eq!(failed(&report), [Check::Loads]);

    fs::remove_dir_all(directory.path().join("started")).expect("it is there");
    let report = examined(&stand, &loaded(&stand, wrong()).await, directory.path(), &quick).await;
    assert_eq!(failed(&report), [Check::EveryEvent]);
    let said = first_failure(report.finding(Check::EveryEvent));
    assert_eq!(said, "started as call.answered is declared, and no case becomes it");
}

#[tokio::test]
async fn a_case_that_comes_out_otherwise_is_shown() {
    let stand = stand();
    let directory = tempfile::tempdir().expect("a directory");
    write_all(directory.path(), "none");
    let plugin = loaded(&stand, wrong()).await;
    let only = Options {
        only: vec![Check::Cases],
        ..options()
    };
    let report = async || {
        let cases = Case::read_all(directory.path(), "wrong").expect("they are right");
        kit::examine(&stand, &plugin, &cases, &only, &mut |_| ()).await
    };
    let unblessed = report().await;
    let said = first_failure(unblessed.finding(Check::Cases));
    assert_eq!(said, "ended: there is no expected.json; --bless writes it");

    let cases = Case::read_all(directory.path(), "wrong").expect("they are right");
    let written = kit::bless(&stand, &plugin, &cases)
        .await
        .expect("each becomes something");
    assert_eq!(written, ["ended", "started"]);
    let blessed = report().await;
    assert!(
        blessed.passed() && blessed.findings.len() == 1,
        "{}",
        failures(&blessed)
    );

    let path = directory.path().join("ended/expected.json");
    let expected = fs::read_to_string(&path).expect("it was written");
    fs::write(&path, expected.replace("\"Bob\"", "\"Eve\"")).expect("it can be written");
    let changed = report().await;
    let said = first_failure(changed.finding(Check::Cases));
    for line in [
        "ended: - expected, + answered (accepted 1)",
        "  -               \"name\": \"Eve\",",
        "  +               \"name\": \"Bob\",",
    ] {
        assert!(said.contains(line), "{line:?} is not in {said}");
    }
}
