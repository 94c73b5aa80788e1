//! An author has a plugin looked at: what it is, whether it is right, what it costs.

use std::{fs, path::Path};

use harness::Callfeed;

const PROVIDER: &str = "salpre";

fn cases() -> tempfile::TempDir {
    copy_of(&format!("plugins/{PROVIDER}/cases"))
}

fn copy_of(folder: &str) -> tempfile::TempDir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let to = to.join(path.file_name().unwrap());
            match path.is_dir() {
                true => copy(&path, &to),
                false => drop(fs::copy(&path, &to).unwrap()),
            }
        }
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let directory = tempfile::tempdir().unwrap();
    copy(&workspace.join(folder), directory.path());
    directory
}

#[tokio::test]
async fn what_a_plugin_is() {
    let cases = cases();
    let directory = cases.path().to_str().unwrap();
    let text = Callfeed::run(["plugin", "inspect", PROVIDER, "--cases", directory])
        .await
        .success();
    for said in [
        "contract   callfeed:provider/plugin@1.",
        "provider   salpre: Salpre ",
        "assurance  token",
        "secret token (required): ",
        "events     call_initiated → call.initiated",
        "imports    callfeed:provider/",
        " compiled, ",
        " (p99), at most ",
    ] {
        assert!(text.contains(said), "{said:?} is not in {text}");
    }
    let json = Callfeed::run(["plugin", "inspect", PROVIDER, "--json"])
        .await
        .json_lines()
        .remove(0);
    assert_eq!(
        (json["provider"].as_str(), json["secrets"][0]["encoding"].as_str()),
        (Some(PROVIDER), Some("utf8"))
    );
    assert!(
        json["bytes"].as_u64().unwrap() > 10_000 && json["call"].is_null(),
        "{json}"
    );

    let costs = Callfeed::run([
        "plugin", "bench", PROVIDER, "--calls", "20", "--cases", directory, "--json",
    ]);
    let costs = costs.await.json_lines().remove(0);
    for part in ["call", "instantiate", "verify", "normalize", "host-crypto", "validate"] {
        let figures = &costs["parts"][part];
        assert!(
            figures["us_p50"].as_f64().unwrap() <= figures["us_p99"].as_f64().unwrap(),
            "{part}: {costs}"
        );
    }
    let table = Callfeed::run(["plugin", "bench", PROVIDER, "--calls", "20", "--cases", directory])
        .await
        .success();
    assert!(table.contains("p50 µs") && table.contains("host-crypto"), "{table}");
}

#[tokio::test]
async fn whether_a_plugin_is_right() {
    let cases = cases();
    let directory = cases.path().to_str().unwrap();
    // The host is not optimised here.
    let quick = [
        "--bytes",
        "2",
        "--mutations",
        "20",
        "--time",
        "5000",
        "--cases",
        directory,
    ];
    let test = |more: &[&'static str]| {
        let line = [&["plugin", "test", PROVIDER][..], &quick, more].concat();
        Callfeed::run(line.into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let text = test(&[]).await.success();
    for said in [
        "✓ cases ",
        "– body-forgery    not applicable: assurance token: ",
        "✓ odd-bodies      20 odd bodies, seed 1: ",
        "right: 16 checks passed, 0 failed, 1 not applicable; ",
    ] {
        assert!(text.contains(said), "{said:?} is not in {text}");
    }

    // The author of the case was wrong.
    let expected = cases.path().join("call-ringing/expected.json");
    let right = fs::read_to_string(&expected).unwrap();
    fs::write(&expected, right.replace("call.ringing", "call.answered")).unwrap();
    let wrong = test(&["--only", "cases"]).await;
    assert_eq!(wrong.status, Some(1), "{wrong:?}");
    for said in [
        "✗ cases ",
        "call-ringing: - expected, + answered",
        "call.answered",
        "wrong: 0 checks passed, 1 failed",
    ] {
        assert!(wrong.stdout.contains(said), "{said:?} is not in {}", wrong.stdout);
    }
    let wrong = test(&["--only", "cases", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&wrong.stdout).unwrap();
    assert_eq!(
        (wrong.status, &json["checks"][0]["outcome"]),
        (Some(1), &"failed".into())
    );

    let blessed = test(&["--only", "cases", "--bless"]).await.success();
    assert!(blessed.contains("call-ringing: expected.json written"), "{blessed}");
    assert_eq!(fs::read_to_string(&expected).unwrap(), right);
}

#[tokio::test]
async fn what_cannot_be_tested_is_said() {
    let missing = Callfeed::run(["plugin", "test", "acme"]).await;
    assert_eq!(missing.status, Some(1));
    assert!(
        missing
            .stderr
            .contains("neither a file nor a built-in plugin (magnetis, magpipe"),
        "{missing:?}"
    );

    let directory = tempfile::tempdir().unwrap();
    let project = directory.path().to_str().unwrap();
    let unbuilt = Callfeed::run(["plugin", "test", project]).await;
    assert!(unbuilt.stderr.contains("there is no built plugin in "), "{unbuilt:?}");
    assert!(
        unbuilt.stderr.contains("`callfeed plugin build` makes it"),
        "{unbuilt:?}"
    );

    fs::write(directory.path().join("acme.wasm"), b"\0asm\x01\0\0\0").unwrap();
    let core = Callfeed::run(["plugin", "test", project]).await;
    assert_eq!(core.status, Some(1));
    assert!(
        core.stdout.contains("✗ loads ") && core.stdout.contains("a core WebAssembly module"),
        "{core:?}"
    );
    let core = Callfeed::run(["plugin", "inspect", project]).await;
    assert!(
        core.stderr.contains("a core WebAssembly module, not a component"),
        "{core:?}"
    );

    let unknown = Callfeed::run(["plugin", "test", PROVIDER, "--only", "luck"]).await;
    assert_eq!(unknown.status, Some(2));
    assert!(unknown.stderr.contains("body-forgery"), "{unknown:?}");
    let caseless = Callfeed::run(["plugin", "test", PROVIDER]).await;
    assert!(
        caseless
            .stderr
            .contains("has no cases here: name their folder with --cases"),
        "{caseless:?}"
    );
}

#[tokio::test]
async fn a_described_provider_is_tested_like_a_plugin() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("plugins/examples/retell/provider.toml");
    let example = example.to_str().unwrap();
    let quick = ["--bytes", "2", "--mutations", "20", "--time", "5000"];
    let text = Callfeed::run([&["plugin", "test", example][..], &quick].concat())
        .await
        .success();
    for said in [
        "provider.toml: Retell AI ",
        ", signed-body",
        "; 4 more have options, and a [[provider]] has none",
        "– describe        not applicable: a [[provider]] is its description",
        "✓ body-forgery ",
        "✓ every-event ",
        "✓ nothing-lost ",
        ", 0 failed, ",
    ] {
        assert!(text.contains(said), "{said:?} is not in {text}");
    }
    let text = Callfeed::run(["plugin", "inspect", example]).await.success();
    for said in [
        "provider   retell: Retell AI ",
        "secret api_key (required): Settings",
        "call_ended → call.failed",
        " (p99), at most ",
    ] {
        assert!(text.contains(said), "{said:?} is not in {text}");
    }
    assert!(!text.contains("call.missed"), "no word of it says that: {text}");

    // The cases are the plugin's, and their own words stay; what the description says is written.
    let project = copy_of("plugins/examples/retell");
    let file = project.path().join("provider.toml");
    let bless = ["plugin", "test", file.to_str().unwrap(), "--only", "cases", "--bless"];
    let blessed = Callfeed::run(bless).await.success();
    assert!(!blessed.contains("expected.json written"), "{blessed}");
    let right = fs::read_to_string(&file).unwrap();
    fs::write(
        &file,
        right.replace("user_declined = \"rejected\"", "user_declined = \"failed\""),
    )
    .unwrap();
    let wrong = Callfeed::run(&bless[..5]).await;
    assert_eq!(wrong.status, Some(1), "{wrong:?}");
    for said in [
        "✗ cases           1 failed",
        "-           \"outcome\": \"rejected\"",
        "+           \"outcome\": \"failed\"",
    ] {
        assert!(wrong.stdout.contains(said), "{said:?} is not in {}", wrong.stdout);
    }
    let blessed = Callfeed::run(bless).await.success();
    assert_eq!(blessed.matches("expected.json written").count(), 1, "{blessed}");

    // A new one, without cases yet.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("provider.toml");
    let run = async |text: &str, more: &[&str]| {
        fs::write(&file, text).unwrap();
        Callfeed::run([&["plugin", "test", file.to_str().unwrap()], more].concat()).await
    };
    let acme = "[[provider]]\nname = \"acme\"\nsignatur = { header = \"x-acme\" }\nevent = \"/event\"\ntypes = {}\n";
    let wrong = run(acme, &[]).await;
    assert_eq!(wrong.status, Some(2), "{wrong:?}");
    for said in [
        "provider.toml:3: provider[acme].signatur: unknown key; did you mean signature?",
        "provider[acme]: has neither signature nor token",
    ] {
        assert!(wrong.stderr.contains(said), "{said:?} is not in {wrong:?}");
    }
    let acme = acme.replace("signatur ", "signature ");
    let caseless = run(&acme, &[]).await;
    assert_eq!(caseless.status, Some(1));
    assert!(
        caseless
            .stderr
            .contains("provider.toml has no cases here: name their folder with --cases"),
        "{caseless:?}"
    );
    let two = format!("{acme}{}", acme.replace("\"acme\"", "\"other\""));
    // What `callfeed check` says of the block, and of no other.
    let doubtful = two.replace("\"x-acme\"", "\"x-acme\", message = \"{header:x-id}\"");
    let warned = run(&doubtful, &["--provider", "other"]).await.stderr;
    assert!(
        warned.contains("provider.toml:8: warning: provider[other].signature.message: has no {body}"),
        "{warned}"
    );
    assert!(!warned.contains("provider[acme]"), "{warned}");
    for (text, more, said) in [
        ("", &[][..], "provider.toml has no [[provider]]"),
        (
            &two,
            &[],
            "provider.toml has [[provider]] blocks of these names: acme, other; choose with --provider",
        ),
        (
            &two,
            &["--provider", "third"],
            "provider.toml has [[provider]] blocks of these names: acme, other; choose with --provider",
        ),
        (&two, &["--provider", "other"], "provider.toml has no cases here"),
    ] {
        let refused = run(text, more).await;
        assert!(
            refused.status == Some(1) && refused.stderr.contains(said),
            "{said:?} is not in {refused:?}"
        );
    }
    let component = Callfeed::run(["plugin", "test", PROVIDER, "--provider", "acme"]).await;
    assert!(
        component
            .stderr
            .contains("--provider chooses a [[provider]] of a TOML file, and salpre is none"),
        "{component:?}"
    );
}

/// What a component carries is what its folder has, and stands in for it.
#[tokio::test]
async fn a_component_carries_its_cases() {
    let cases = cases();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("acme.wasm");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    fs::copy(workspace.join("tests/plugins/kept/magpipe-1.0.0.wasm"), &file).unwrap();
    let (path, folder) = (file.to_str().unwrap(), cases.path().to_str().unwrap());
    let bare = fs::read(&file).unwrap();

    let homeless = Callfeed::run(["plugin", "pack", path]).await;
    assert!(homeless.stderr.contains("name one with --cases"), "{homeless:?}");
    fs::remove_file(cases.path().join("call-ringing/expected.json")).unwrap();
    let packed = Callfeed::run(["plugin", "pack", path, "--cases", folder]).await;
    assert!(
        packed
            .stderr
            .contains("call-ringing has no expected.json and is left out"),
        "{packed:?}"
    );
    let count = fs::read_dir(cases.path()).unwrap().count() - 2;
    assert_eq!(packed.success(), format!("{path} carries {count} cases\n"));
    let once = fs::read(&file).unwrap();
    let again = ["plugin", "pack", path, "--cases", folder, "--json"];
    let again = Callfeed::run(again).await.json_lines().remove(0);
    assert_eq!(
        (&again["cases"], &again["left_out"][0]),
        (&count.into(), &"call-ringing".into())
    );
    assert!(fs::read(&file).unwrap() == once && once.len() > bare.len());

    let json = Callfeed::run(["plugin", "inspect", path, "--json"])
        .await
        .json_lines()
        .remove(0);
    // The cases are another provider's.
    let why = json["cases_unreadable"].as_str().unwrap();
    assert!(
        why.contains("acme.wasm#cases/") && why.contains("is not below the route's path"),
        "{why}"
    );
    assert!(json["cases"].is_null() && json["call"].is_null(), "{json}");
    let own = copy_of("plugins/magpipe/cases");
    let own = own.path().to_str().unwrap();
    // The host is not optimised here.
    let test = ["plugin", "test", path, "--only", "cases", "--time", "5000"];
    let bless = [&test[..], &["--cases", own, "--bless"]].concat();
    Callfeed::run(bless).await.success();
    Callfeed::run(["plugin", "pack", path, "--cases", own]).await.success();
    let json = Callfeed::run(["plugin", "inspect", path, "--json"])
        .await
        .json_lines()
        .remove(0);
    assert!(
        json["cases"].as_u64().unwrap() > 10 && json["call"].is_object(),
        "{json}"
    );
    let text = Callfeed::run(test).await.success();
    assert!(text.contains(&format!(" {} cases\n", json["cases"])), "{text}");
    let bless = Callfeed::run(["plugin", "test", path, "--bless"]).await;
    assert!(
        bless.stderr.contains("there is no folder of cases to write into"),
        "{bless:?}"
    );

    Callfeed::run(["plugin", "pack", path, "--no-cases"]).await.success();
    assert_eq!(fs::read(&file).unwrap(), bare);
}
