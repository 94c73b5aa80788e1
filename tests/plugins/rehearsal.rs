//! What a plugin's file carries of cases, it is held to before it serves.

use std::path::Path;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use callfeed::{config::Limits, kit};
use harness::Callfeed;
use serde_json::{Value, json};

use crate::{
    guest,
    host::{BODY, Host, SIGNING, TOKEN, grant, headers, route, webhook},
};

/// A component with one more section of cases.
pub(crate) fn carrying(wasm: &[u8], cases: &[u8]) -> Vec<u8> {
    const NAME: &[u8] = b"callfeed:cases";
    let mut wasm = wasm.to_vec();
    let content = [&[NAME.len() as u8], NAME, cases].concat();
    wasm.push(0);
    let mut length = content.len();
    while length > 0x7f {
        wasm.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    wasm.push(length as u8);
    wasm.extend(content);
    wasm
}

/// One case: the hostile plugin's usual webhook, on a route that names an act.
fn cases(act: &str, expected: &Value) -> Vec<u8> {
    let mut request = "POST /hooks/rogue HTTP/1.1\n".to_owned();
    for (name, value) in headers() {
        request += &format!("{name}: {value}\n");
    }
    let request = [request.as_bytes(), b"\n", BODY].concat();
    let route =
        format!("secrets = {{ signing = ['{SIGNING}'], token = ['{TOKEN}'] }}\noptions = {{ act = '{act}' }}\n");
    let file = |content: &[u8]| BASE64_STANDARD.encode(content);
    json!({
        "route.toml": file(route.as_bytes()), "one/request.http": file(&request),
        "one/expected.json": file(expected.to_string().as_bytes()),
    })
    .to_string()
    .into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_is_held_to_the_cases_it_carries() {
    let host = Host::new(&Limits::default());
    let plugin = host.load(guest::rogue()).await.expect("it loads");
    let right = host
        .judge(&grant(&plugin, &route("rogue", "behave")), webhook())
        .await
        .json();
    let rejected = json!({ "verdict": "rejected", "kind": "unauthenticated", "code": "x" });
    let mut secret = right.clone();
    secret["form"] = SIGNING.into();
    let mut failures = String::new();
    for (name, section, said) in [
        ("right", cases("behave", &right), Ok(1)),
        (
            "another verdict",
            cases("behave", &rejected),
            Err("fails its own case \"one\": accepted 1 instead of rejected"),
        ),
        (
            "a secret",
            cases("behave", &secret),
            Err("fails its own case \"one\": /form is \"hex\" instead of \"•••\""),
        ),
        (
            "nothing",
            cases("behave", &json!({})),
            Err("fails its own case \"one\": accepted 1 instead of what an expected.json can say"),
        ),
        (
            "time",
            cases("spin-in-verify", &right),
            Err("fails its own case \"one\": failed: it ran longer than limits.plugin_time"),
        ),
        (
            "memory",
            cases("grow-in-verify", &right),
            Err("fails its own case \"one\": failed: it asked for more memory than limits.plugin_memory"),
        ),
        (
            "no cases",
            b"{}".to_vec(),
            Err("has cases of its own that cannot be read: acme.wasm#cases: has no cases"),
        ),
        (
            "no section",
            b"\xff".to_vec(),
            Err("has cases of its own that cannot be read: acme.wasm#cases: is no JSON object"),
        ),
    ] {
        let plugin = host.load(&carrying(guest::rogue(), &section)).await.expect("it loads");
        let came = kit::rehearse(&host.stand, &plugin, Path::new("acme.wasm")).await;
        let came = came.map(|rehearsed| rehearsed.cases).map_err(|unfit| unfit.to_string());
        let fits = match (&came, said) {
            (Ok(count), Ok(expected)) => *count == expected,
            (Err(what), Err(beginning)) => what.starts_with(beginning) && !what.contains('\n') && what.len() < 2048,
            _ => false,
        };
        if !fits {
            failures += &format!("\n{name}: {came:?}");
        }
    }
    assert!(failures.is_empty(), "{failures}");
    let bare = kit::rehearse(&host.stand, &plugin, Path::new("acme.wasm")).await;
    assert_eq!(bare.expect("it carries none").cases, 0);
}

#[tokio::test]
async fn cases_that_cannot_be_read_are_seen_with_all_the_rest() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("acme.wasm");
    std::fs::write(&file, carrying(guest::rogue(), b"{}")).expect("it can be written");
    let inspect = ["plugin", "inspect", file.to_str().expect("a text")];
    let said = Callfeed::run(inspect).await.success();
    assert!(
        said.contains("it carries some that cannot be read, and no gateway serves it: "),
        "{said}"
    );
    let json = Callfeed::run([&inspect[..], &["--json"]].concat()).await.json_lines();
    let why = json[0]["cases_unreadable"].as_str().unwrap_or_default();
    assert!(
        json[0]["cases"].is_null() && why.contains("#cases: has no cases"),
        "{why}"
    );
}
