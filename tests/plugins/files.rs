//! Files that are no plugins, and plugins under unusual limits.

use std::sync::Arc;

use callfeed::{
    config::{self, Limits},
    plugin::Error,
};

use tokio::task::JoinSet;

use crate::{
    guest,
    host::{Host, grant, route, webhook},
    rehearsal::carrying,
};

/// `(component)`: valid, and of no world at all.
const EMPTY_COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";
/// `(module)`.
const EMPTY_MODULE: &[u8] = b"\0asm\x01\0\0\0";

#[tokio::test]
async fn a_file_that_is_no_plugin_is_refused_with_its_reason() {
    let host = Host::new(&Limits::default());
    let rogue = guest::rogue();
    let foreign = |from: &str, to: &str| guest::replaced(rogue, from, to);
    let mut failures = String::new();
    let files: &[(&str, &[u8], &str)] = &[
        ("an empty file", b"", "the file is not WebAssembly"),
        ("four bytes", b"\0asm", "the file is not WebAssembly"),
        ("a text", b"(component)\n", "the file is not WebAssembly"),
        (
            "a core module",
            EMPTY_MODULE,
            "the file is a core WebAssembly module, not a component",
        ),
        (
            "another world",
            EMPTY_COMPONENT,
            "it exports no callfeed:provider/plugin",
        ),
        ("half a component", &rogue[..rogue.len() / 2], "it does not compile: "),
        ("one byte less", &rogue[..rogue.len() - 1], "it does not compile: "),
        (
            "contract 2.0.0",
            &foreign("callfeed:provider/plugin@1.0.0", "callfeed:provider/plugin@2.0.0"),
            "it serves callfeed:provider/plugin@2.0.0; this gateway serves callfeed:provider@1",
        ),
        (
            "another name",
            &foreign("callfeed:provider/plugin@1", "callfeed:provider/plugon@1"),
            "it serves callfeed:provider/plugon",
        ),
        (
            "a foreign import",
            &foreign("wasi:cli/environment@", "evil:cli/environment@"),
            "it imports evil:cli/environment@",
        ),
        // What only a later gateway serves must be refused now, not when the first webhook needs it.
        (
            "an interface of 1.1",
            &foreign("provider/environment@", "provider/environmen2@"),
            "it does not fit the contract: ",
        ),
        (
            "cases twice",
            &carrying(&carrying(rogue, b"{}"), b"{}"),
            "it has 2 sections callfeed:cases; `callfeed plugin pack` makes one of them",
        ),
        (
            "cases over their bound",
            &carrying(rogue, &vec![b' '; (1 << 20) + 1]),
            "its cases take 1048577 bytes of it, and 1048576 are allowed",
        ),
        (
            "a function of 1.1",
            &foreign("verify-token", "verify-tolen"),
            "it does not fit the contract: ",
        ),
    ];
    for (name, wasm, expected) in files {
        match host.load(wasm).await {
            Ok(_) => failures += &format!("\n{name}: it loads"),
            Err(error) => {
                let error = error.to_string();
                if !error.starts_with(expected) || error.contains("backtrace") {
                    failures += &format!("\n{name}\n  expected {expected}\n  came to  {error}");
                }
            }
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[tokio::test]
async fn a_later_revision_of_the_same_contract_is_served() {
    let host = Host::new(&Limits::default());
    for version in ["@1.0.7", "@1.9.0"] {
        let mut wasm = guest::rogue().to_vec();
        for interface in ["plugin", "types", "crypto", "environment"] {
            let name = |version: &str| format!("callfeed:provider/{interface}{version}");
            wasm = guest::replaced(&wasm, &name("@1.0.0"), &name(version));
        }
        let plugin = host
            .load(&wasm)
            .await
            .unwrap_or_else(|error| panic!("{version}: {error}"));
        assert_eq!(
            host.judge(&grant(&plugin, &route("r", "behave")), webhook())
                .await
                .to_string(),
            "accepted 1"
        );
    }
}

#[tokio::test]
async fn a_file_over_the_limit_is_refused_before_it_is_read() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("large.wasm");
    let large = std::fs::File::create(&path).expect("a file");
    // Sparse: reading it would be noticed.
    large.set_len(1 << 40).expect("a file system with sparse files");
    let host = Host::new(&Limits::default());
    let plugin = config::Plugin {
        name: "large".to_owned(),
        path,
        line: 7,
    };
    let missing = config::Plugin {
        name: "missing".to_owned(),
        path: directory.path().join("missing.wasm"),
        line: 9,
    };
    let device = config::Plugin {
        name: "device".to_owned(),
        path: "/dev/zero".into(),
        line: 11,
    };
    let folder = config::Plugin {
        name: "folder".to_owned(),
        path: directory.path().to_owned(),
        line: 13,
    };
    let (loaded, problems) = host.stand.runtime.load(&[plugin, missing, device, folder]).await;
    assert!(
        !loaded.contains_key("large") && loaded.contains_key("magpipe"),
        "the others load"
    );
    let told: Vec<_> = problems
        .iter()
        .map(|problem| (problem.line, problem.path.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (7, "plugin[large].path"),
            (9, "plugin[missing].path"),
            (11, "plugin[device].path"),
            (13, "plugin[folder].path")
        ]
    );
    assert!(
        problems[0]
            .message
            .contains("1099511627776 bytes are more than limits.plugin_file allows (33554432)")
    );

    let small = Host::new(&Limits {
        plugin_file_bytes: 1024,
        ..Limits::default()
    });
    assert!(matches!(
        small.load(guest::rogue()).await,
        Err(Error::TooLarge { max: 1024, .. })
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_range_of_the_limits_works() {
    let default = Limits::default;
    let ranges = [
        Limits {
            plugins_in_flight: 1,
            ..default()
        },
        Limits {
            plugins_in_flight: 2,
            ..default()
        },
        Limits {
            plugins_in_flight: 1000,
            ..default()
        },
        Limits {
            plugin_memory_bytes: 3 << 20,
            ..default()
        },
        Limits {
            plugin_memory_bytes: 3_000_001,
            ..default()
        },
        Limits {
            plugin_memory_bytes: 1 << 30,
            plugins_in_flight: 1000,
            ..default()
        },
        Limits {
            plugin_output_bytes: 64 << 20,
            plugin_memory_bytes: 256 << 20,
            ..default()
        },
    ];
    for limits in ranges {
        let host = Host::new(&limits);
        let plugin = host
            .load(guest::rogue())
            .await
            .unwrap_or_else(|error| panic!("{limits:?}: {error}"));
        let grant = grant(&plugin, &route("r", "behave"));
        // As many at once as there are places, and as many again that wait for theirs.
        let host = Arc::new(host);
        let mut calls = JoinSet::new();
        for _ in 0..limits.plugins_in_flight.min(200) * 2 {
            let (host, grant) = (Arc::clone(&host), Arc::clone(&grant));
            calls.spawn(async move { host.judge(&grant, webhook()).await.to_string() });
        }
        for line in calls.join_all().await {
            assert_eq!(line, "accepted 1", "{limits:?}");
        }
    }
}

#[tokio::test]
async fn too_little_memory_is_said_when_the_plugin_is_loaded() {
    let host = Host::new(&Limits {
        plugin_memory_bytes: 1 << 20,
        ..Limits::default()
    });
    let error = host
        .load(guest::rogue())
        .await
        .expect_err("a Rust plugin's stack alone takes that much")
        .to_string();
    assert!(error.contains("memory"), "{error}");
}
