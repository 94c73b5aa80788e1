//! The hostile plugin in a whole gateway: how each act is answered and recorded, and what its neighbours notice.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use harness::{Gateway, Setup, Webhook};
use serde_json::Value;
use tokio::task::JoinSet;

use crate::{
    acts::{ACTS, LINE_BYTES_MAX},
    guest,
    host::{self, BODY, SIGNING, TOKEN},
};

/// One gateway at a time: what is bounded here is the time and memory of a machine's only one.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

const ANSWERING: &str = "answering-secret-of-the-route";

/// A gateway with the hostile plugin, and a route for each act.
fn setup<'a>(acts: impl Iterator<Item = &'a str>) -> Setup {
    let path = guest::rogue_file().display();
    let plugin = Setup::new().toml(&format!("[[plugin]]\nname = \"rogue\"\npath = \"{path}\"\n"));
    acts.fold(plugin, |setup, act| {
        let allow = if act == "hmac-allowed" {
            "allow_hmac = true\n"
        } else {
            ""
        };
        setup.route_with(
            act,
            "rogue",
            &format!(
                "secrets = {{ signing = [{SIGNING:?}], token = [{TOKEN:?}], answering = [{ANSWERING:?}] }}\n\
                 options = {{ act = {act:?} }}\n{allow}"
            ),
        )
    })
}

fn webhook(act: &str) -> Webhook {
    let mut headers = host::headers();
    headers.push(("content-type".to_owned(), "application/json".to_owned()));
    Webhook {
        path: format!("/hooks/{act}"),
        headers,
        body: BODY.to_vec(),
    }
}

/// The bytes of memory that are really there.
fn resident(gateway: &Gateway) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.process_id())).expect("the process runs");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .expect("it has memory");
    line.trim()
        .trim_end_matches(" kB")
        .parse::<usize>()
        .expect("it is a number")
        << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_act_is_answered_and_recorded() {
    let _one = ONE.lock().await;
    let gateway = setup(ACTS.iter().map(|(act, _)| *act))
        .log("callfeed=debug,info")
        // On a busy machine a bound other than the one on time has to be the first that is met.
        .limits("plugin_time = \"1s\"")
        .start()
        .await;
    let mut failures = String::new();
    let mut quarantined = BTreeMap::new();
    for (act, ending) in ACTS {
        let answer = gateway.post(&webhook(act)).await;
        let (word, rest) = ending.split_once([' ', ':']).expect("an ending has a word");
        let expected: &[u16] = match word {
            "accepted" if *act == "ack-201" => &[201],
            "accepted" | "ignored" => &[200],
            "quarantined" => &[200],
            "rejected" => &[401],
            "failed" | "misconfigured" => &[503],
            "respond" if rest.starts_with("404") => &[404],
            "respond" => &[200],
            other => panic!("{other} is no ending"),
        };
        if !expected.contains(&answer.status) {
            failures += &format!("\n{act}: answered {}, not {expected:?}", answer.status);
        }
        if word == "quarantined" {
            quarantined.insert(*act, rest.trim_start());
            if answer.body != r#"{"accepted":[]}"# {
                failures += &format!("\n{act}: answered {}", answer.body);
            }
        }
        // Nothing of a plugin's but its content type.
        let of_the_plugin = ["set-cookie", "location", "connection", "upgrade"];
        for name in of_the_plugin
            .into_iter()
            .filter(|name| answer.headers.contains_key(*name))
        {
            failures += &format!("\n{act}: the answer has {name}");
        }
        if answer.status >= 400 && word != "respond" && (answer.body.len() > 80 || answer.body.contains(act)) {
            failures += &format!("\n{act}: the answer says {}", answer.body);
        }
        if answer.status == 503 && answer.header("retry-after").is_empty() {
            failures += &format!("\n{act}: the sender is not told when to try again");
        }
    }

    // The quarantine: each of them, and nothing else.
    let listed = gateway
        .run(&["quarantine", "list", "--limit", "1000", "--json"])
        .await
        .json_lines();
    for entry in &listed {
        let (Some(route), Some(detail)) = (entry["route"].as_str(), entry["detail"].as_str()) else {
            panic!("{entry} is incomplete");
        };
        // A refusal is told by its code alone, the kind being that of every refusal here.
        let expected = quarantined
            .remove(route)
            .map(|detail| detail.trim_start_matches("malformed "));
        if !expected.is_some_and(|expected| detail.starts_with(expected)) {
            failures += &format!("\n{route}: quarantined as {detail}, not {expected:?}");
        }
        if detail.len() > LINE_BYTES_MAX || detail.chars().any(char::is_control) {
            failures += &format!("\n{route}: quarantined with {} bytes of detail", detail.len());
        }
    }
    for act in quarantined.keys() {
        failures += &format!("\n{act}: not in quarantine");
    }

    // The feed: one event a line, whatever the plugin wrote.
    let events = gateway
        .run(&["events", "list", "--limit", "1000", "--json"])
        .await
        .json_lines();
    let count = |route: &str| {
        events
            .iter()
            .filter(|event| event["source"] == format!("/routes/{route}"))
            .count()
    };
    assert_eq!(
        (count("same-event-twice"), count("100-events"), count("over-lines")),
        (1, 100, 1)
    );
    assert_eq!(count("one-bad-of-two"), 0, "one bad event spoils its webhook");

    // The log: every failure, in lines of bounded length, and no secret.
    let log = gateway.log();
    let said = |route: &str| {
        log.iter()
            .filter(|line| line["route"] == route && line["level"] != "DEBUG")
            .count()
    };
    for (act, ending) in ACTS.iter().filter(|(_, ending)| !ending.starts_with("accepted")) {
        let silent = ["respond", "ignored"].iter().any(|word| ending.starts_with(word));
        if !silent && said(act) == 0 {
            failures += &format!("\n{act}: the log says nothing");
        }
    }
    let from_the_plugin = |route: &str| {
        log.iter()
            .filter(|line| line["target"] == "callfeed::plugin" && line["route"] == route)
            .collect::<Vec<_>>()
    };
    assert_eq!(from_the_plugin("log-flood").len(), 16, "a webhook has sixteen lines");
    assert_eq!(
        from_the_plugin("log-lines")[0]["message"],
        "first ERROR callfeed: forged   [2J{\"level\":\"ERROR\"}"
    );
    assert_eq!(from_the_plugin("log-token")[0]["message"], "the token is •••");
    assert!(
        from_the_plugin("panic-in-verify")[0]["message"]
            .as_str()
            .is_some_and(|text| text.contains("out of spite"))
    );
    for line in &log {
        if line.to_string().len() > 2 * LINE_BYTES_MAX || !line.is_object() {
            let shown: String = line.to_string().chars().take(200).collect();
            failures += &format!("\na log line of {} bytes: {shown}", line.to_string().len());
        }
    }
    for secret in [SIGNING, TOKEN, ANSWERING] {
        assert!(!gateway.log_text().contains(secret), "{secret} is in the log");
    }
    assert!(!gateway.log_text().contains("stack backtrace"));
    assert!(failures.is_empty(), "{failures}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hostile_plugin_costs_its_neighbours_nothing() {
    let _one = ONE.lock().await;
    let acts = [
        "spin-after-proof",
        "spin-in-verify",
        "grow-in-normalize",
        "panic-in-verify",
        "hash-gigabytes",
    ];
    // What is spun away costs this many times thirty, and the test its patience.
    let setup = setup(acts.into_iter()).limits("plugin_time = \"20ms\"");
    let gateway = Arc::new(setup.route("magpipe").start().await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut hammers = JoinSet::new();
    for act in acts.into_iter().flat_map(|act| [act; 6]) {
        let (gateway, stop) = (Arc::clone(&gateway), Arc::clone(&stop));
        hammers.spawn(async move {
            let webhook = webhook(act);
            let mut answers = BTreeMap::<u16, usize>::new();
            while !stop.load(Ordering::Relaxed) {
                *answers.entry(gateway.post(&webhook).await.status).or_default() += 1;
            }
            (act, answers)
        });
    }

    let mut took = Vec::new();
    for _ in 0..150 {
        let webhook = gateway.sample("magpipe", "call-completed");
        let started = Instant::now();
        gateway.accept(&webhook).await;
        took.push(started.elapsed());
    }
    let memory = resident(&gateway);
    stop.store(true, Ordering::Relaxed);
    for (act, answers) in hammers.join_all().await {
        assert!(answers.values().sum::<usize>() > 0, "{act} was answered");
        // Busy is an answer, too, to one that takes all its places.
        let expected = if act.ends_with("-in-verify") { 503 } else { 200 };
        assert!(
            answers.keys().all(|status| *status == expected || *status == 503),
            "{act}: {answers:?}"
        );
        assert!(answers.contains_key(&expected), "{act}: {answers:?}");
    }
    // All but the slowest few: a disk may stall whoever waits for it.
    took.sort_unstable();
    assert!(
        took[140] < Duration::from_secs(2),
        "webhooks of a neighbour took {took:?}"
    );
    assert!(memory < 400 << 20, "{} MiB are resident", memory >> 20);

    let listed = gateway
        .run(&["quarantine", "list", "--limit", "100", "--json"])
        .await
        .json_lines();
    let reasons: Vec<_> = listed.iter().filter_map(|entry| entry["reason"].as_str()).collect();
    assert!(
        !reasons.is_empty() && reasons.iter().all(|reason| ["fault", "rejected"].contains(reason)),
        "{reasons:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plugin_that_does_not_load_is_told_before_anything_starts() {
    let _one = ONE.lock().await;
    let directory = tempfile::tempdir().expect("a directory");
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, bytes).expect("it can be written");
        format!("[[plugin]]\nname = {name:?}\npath = {:?}\n", path.display().to_string())
    };
    let output = Setup::new()
        .limits("plugin_time = \"500ms\"")
        .toml(&file("empty", b""))
        .toml(&file("module", b"\0asm\x01\0\0\0"))
        .toml(&file("spinning", &guest::rogue_in("spin")))
        .toml(&file("growing", &guest::rogue_in("grow")))
        .route("magpipe")
        .try_start()
        .await
        .refused();
    assert_ne!(output.status, Some(0));
    for (name, reason) in [
        ("empty", "the file is not WebAssembly"),
        ("module", "not a component"),
        ("spinning", "it ran longer than limits.plugin_time"),
        ("growing", "it asked for more memory than limits.plugin_memory"),
    ] {
        let told = output.stderr.contains(&format!("plugin[{name}].path")) && output.stderr.contains(reason);
        assert!(told, "{name}: {}", output.stderr);
    }
    assert!(!output.stderr.contains("backtrace"), "{}", output.stderr);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_start_compiles_nothing() {
    let _one = ONE.lock().await;
    let mut gateway = setup(["behave"].into_iter())
        .limits("plugin_cache = \"compiled\"")
        .start()
        .await;
    let cache = gateway.directory().join("compiled");
    let files = || {
        let entries = fs::read_dir(&cache).expect("the gateway made it");
        let files = entries.map(|entry| entry.expect("it can be read"));
        files
            .map(|file| {
                (
                    file.file_name(),
                    file.metadata().and_then(|data| data.modified()).expect("it is there"),
                )
            })
            .collect()
    };
    let before: BTreeMap<_, _> = files();
    assert!(before.len() >= 6, "five of its own and one more: {before:?}");
    gateway.restart().await;
    assert_eq!(gateway.post(&webhook("behave")).await.accepted().len(), 1);
    let after: BTreeMap<_, _> = files();
    assert_eq!(after, before);
    let warned = |line: &Value| line["message"].as_str().is_some_and(|text| text.contains("cache"));
    assert!(!gateway.log().iter().any(warned));
}
