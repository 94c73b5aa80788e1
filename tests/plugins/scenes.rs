//! What the hostile plugin does while it is described: either it does not load, or no harm was done.

use std::time::{Duration, Instant};

use callfeed::{config::Limits, plugin::Grant};

use crate::{
    acts::LINE_BYTES_MAX,
    guest,
    host::{Host, grant, route, webhook},
};

/// Each scene and how loading it fails; an empty text where it loads and then works.
const SCENES: &[(&str, &str)] = &[
    ("as it should be", ""),
    ("use-keys", ""),
    ("log-flood", ""),
    ("3-mib", "its description breaks the contract: \"xxx"),
    (
        "spin",
        "its describe failed: it ran longer than limits.plugin_time (500ms)",
    ),
    (
        "grow",
        "its describe failed: it asked for more memory than limits.plugin_memory (16777216 bytes)",
    ),
    (
        "recurse",
        "its describe failed: it left its memory, most likely by using up its stack",
    ),
    ("panic", "its describe failed: it aborted"),
    (
        "sleep",
        "its describe failed: it called wasi:clocks/monotonic-clock@0.2.6#subscribe-duration, which no plugin has",
    ),
    (
        "10-mb",
        "its describe failed: too much data is being copied between the host and the guest",
    ),
    ("100000-events", "its describe failed: "),
    (
        "provider",
        "its description breaks the contract: provider \"Rogue/../ \" is not a slug",
    ),
    (
        "no-provider",
        "its description breaks the contract: provider \"\" is not a slug",
    ),
    (
        "dash",
        "its description breaks the contract: provider \"-rogue\" is not a slug",
    ),
    (
        "schema",
        "its description breaks the contract: schema \"call-event/2\" is not served",
    ),
    (
        "assurance",
        "its description breaks the contract: assurance \"none\" is none of",
    ),
    ("no-methods", "its description breaks the contract: methods is empty"),
    (
        "method",
        "its description breaks the contract: \"GET  x-rogue: 1\" is not a method",
    ),
    (
        "type",
        "its description breaks the contract: \"call.exploded\" is not a type",
    ),
    (
        "encoding",
        "its description breaks the contract: secret \"other\" has the unknown encoding \"rot13\"",
    ),
    (
        "same-secret-twice",
        "its description breaks the contract: secret \"signing\" is declared twice",
    ),
    (
        "options-not-json",
        "its description breaks the contract: options-schema is not JSON",
    ),
    (
        "options-not-a-schema",
        "its description breaks the contract: options-schema: ",
    ),
    (
        "options-from-the-net",
        "its description breaks the contract: options-schema: ",
    ),
    (
        "options-from-a-file",
        "its description breaks the contract: options-schema: ",
    ),
    (
        "header",
        "its description breaks the contract: header \"x rogue  \" is not a header name",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_scene_ends_as_it_should() {
    // Time enough on a busy machine for every scene that ends by itself.
    let host = Host::new(&Limits {
        plugin_time: Duration::from_millis(500),
        ..Limits::default()
    });
    let mut failures = String::new();
    for (scene, expected) in SCENES {
        let wasm = guest::rogue_in(scene);
        let started = Instant::now();
        let loaded = host.load(&wasm).await;
        let took = started.elapsed();
        match loaded {
            Ok(plugin) if expected.is_empty() => {
                let line = host
                    .judge(&grant(&plugin, &route("r", "behave")), webhook())
                    .await
                    .to_string();
                if line != "accepted 1" {
                    failures += &format!("\n{scene}: {line}");
                }
            }
            Ok(_) => failures += &format!("\n{scene}: it loads\n  expected {expected}"),
            Err(error) => {
                let error = error.to_string();
                if expected.is_empty() || !error.starts_with(expected) {
                    let shown: String = error.chars().take(300).collect();
                    failures += &format!("\n{scene}\n  expected {expected}\n  came to  {shown}");
                }
                if error.len() > LINE_BYTES_MAX || error.chars().any(char::is_control) {
                    failures += &format!(
                        "\n{scene}: an error of {} bytes, or with control characters",
                        error.len()
                    );
                }
            }
        }
        // Compiling is most of it.
        if took > Duration::from_secs(30) {
            failures += &format!("\n{scene}: took {took:?}");
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[tokio::test]
async fn a_route_that_does_not_fit_is_told_everything_at_once() {
    let host = Host::new(&Limits::default());
    let plugin = host.load(guest::rogue()).await.expect("the plugin loads");
    let mut wrong = route("r", "behave");
    wrong.secrets[0].0 = "singing".to_owned();
    wrong.options = serde_json::json!({ "act": 7 });
    let problems = Grant::new(plugin, &wrong).expect_err("nothing of it fits");
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        paths,
        ["route[r].secrets.singing", "route[r].secrets", "route[r].options.act"]
    );
}
