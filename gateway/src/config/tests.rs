use std::{fs, path::Path};

use super::{
    raw::{Document, print_duration},
    secret::Surroundings,
    *,
};

const EXAMPLE: &str = include_str!("../../../config.example.toml");
const CERTIFICATE: &str = include_str!("tests/certificate.pem");
const KEY: &str = include_str!("tests/key.pem");
const OTHER_KEY: &str = include_str!("tests/other-key.pem");

/// `whsec_` and the bytes 1 to 24.
const WHSEC: &str = "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcY";
/// The first secret and public key of RFC 8032, section 7.1, as libsodium prints them together.
const WHSK: &str = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";
const WHSK_SEED: &str = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A";

fn env(name: &str) -> Option<String> {
    let value = match name {
        "UNSET" => return None,
        "EMPTY" => "  ",
        "SEED" => WHSK_SEED,
        "PLAIN" => "hunter2",
        _ => WHSEC,
    };
    Some(value.to_owned())
}

fn parse_text(text: &str) -> Result<Checked, Refused> {
    parse(text, "callfeed.toml", &env, Path::new(""))
}

fn write(dir: &Path, name: &str, text: impl AsRef<[u8]>, mode: u32) {
    let path = dir.join(name);
    fs::write(&path, text).unwrap();
    #[cfg(unix)]
    fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
}

/// Compares with a file beside this one. `UPDATE_SNAPSHOTS=1` writes it.
fn assert_snapshot(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/config/tests")
        .join(name);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        fs::write(&path, actual).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), actual, "see {}", path.display());
}

#[test]
fn the_shortest_configuration_is_all_defaults() {
    let text = "[[route]]\nname = \"acme\"\nprovider = \"acme\"\nsecrets.signing = { env = \"SET\" }";
    let checked = parse_text(text).unwrap();
    let Config {
        server,
        admin,
        store,
        limits,
        routes,
        ..
    } = checked.config;
    assert_eq!((server, admin, store), Default::default());
    // The cache lies beside the store, which is where the file is.
    let plugin_cache = Some(PathBuf::from("plugin-cache"));
    assert_eq!(
        limits,
        Limits {
            plugin_cache,
            ..Limits::default()
        }
    );
    assert_eq!(routes[0].path, "/hooks/acme");
    assert_eq!(routes[0].secrets, [("signing".to_owned(), vec![Secret::new(WHSEC)])]);
    assert_eq!(routes[0].line, 1);
    let [warning] = checked.warnings.as_slice() else {
        panic!("{:?}", checked.warnings)
    };
    assert!(
        warning
            .to_string()
            .starts_with("callfeed.toml: warning: subscriber: there is none")
    );
}

#[test]
fn every_mistake_is_reported_at_once() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "not.pem", "hunter2", 0o600);
    write(dir.path(), "blank", "\n", 0o600);
    write(dir.path(), "open", "hunter2\n", 0o644);
    let problems = parse(include_str!("tests/mistakes.toml"), "callfeed.toml", &env, dir.path())
        .unwrap_err()
        .problems;
    let text = problems.to_string().replace(&*dir.path().to_string_lossy(), "<dir>");
    assert!(!text.contains("hunter2"), "a secret is in\n{text}");
    assert!(problems.iter().is_sorted_by_key(|problem| problem.line));
    assert_snapshot("mistakes.txt", &(text + "\n"));
}

#[test]
fn syntax_errors_are_reported_together_and_hide_what_they_make_doubtful() {
    let problems = parse_text(include_str!("tests/syntax.toml")).unwrap_err();
    assert_snapshot("syntax.txt", &(problems.to_string() + "\n"));
}

/// Mistakes that only a whole file can have.
#[test]
fn what_does_not_fit_together_is_reported() {
    let route = "[[route]]\nname = \"a\"\nprovider = \"a\"\nsecrets.signing = { env = \"SET\" }\n";
    for (text, expected) in [
        (String::new(), "callfeed.toml: route: there is none"),
        ("route = []".to_owned(), "callfeed.toml:1: route: there is none"),
        (
            "route = [1]".to_owned(),
            "callfeed.toml:1: route[#1]: should be a table, is a whole number",
        ),
        (
            "[route]\nname = \"a\"".to_owned(),
            "callfeed.toml:1: route: should be blocks, is a table; write [[route]]",
        ),
        (
            format!("{route}[[server]]"),
            "callfeed.toml:5: server: should be one table, is a list",
        ),
        (
            format!("{route}[admin]\nlisten = \"0.0.0.0:8081\""),
            "callfeed.toml:5: admin.token: is missing, and 0.0.0.0:8081 is not a loopback address",
        ),
        (
            format!("{route}[admin]\nlisten = \"127.0.0.1:8080\""),
            "callfeed.toml:6: admin.listen: 127.0.0.1:8080 is taken by server.listen",
        ),
        (
            format!("{route}[store]\nurl = \"sqlite:no/such/dir.db\""),
            "store.url: directory \"no/such\" does not exist",
        ),
        (
            format!("{route}[store]\nurl = \"sqlite::memory:\""),
            "store.url: would lose every event with the process",
        ),
        (
            format!("{route}[store]\nurl = \"callfeed.db\""),
            "store.url: does not start with sqlite:",
        ),
        (
            format!("{route}[[route]]\nname = \"b\"\npath = \"/hooks/a/\"\nprovider = \"a\"\nallow_unsigned = true"),
            "callfeed.toml:7: route[b].path: /hooks/a is also that of route[a] in line 1",
        ),
        (
            format!("{route}[[route]]\nname = \"b\"\npath = \"/hooks/a/b\"\nprovider = \"a\"\nallow_unsigned = true"),
            "callfeed.toml:7: route[b].path: /hooks/a/b lies inside that of route[a] in line 1",
        ),
        (
            format!("{route}[[route]]\nname = \"b\"\npath = \"/hooks\"\nprovider = \"a\"\nallow_unsigned = true"),
            "callfeed.toml:7: route[b].path: /hooks contains that of route[a] in line 1",
        ),
    ] {
        let problems = parse_text(&text).unwrap_err().to_string();
        assert!(
            problems.contains(expected),
            "{expected}\nis not in\n{problems}\nof\n{text}"
        );
    }

    let fine = [
        format!("{route}[admin]\nlisten = \"127.0.0.1:0\"\n[server]\nlisten = \"127.0.0.1:0\""),
        format!("{route}[admin]\nlisten = \"off\""),
        format!("{route}[admin]\nlisten = \"[::1]:8080\""),
        format!("{route}[admin]\nlisten = \"0.0.0.0:1\"\ntoken = {{ env = \"SET\" }}"),
        format!("{route}[[route]]\nname = \"b\"\npath = \"/hooks/ab\"\nprovider = \"a\"\nallow_unsigned = true"),
    ];
    for text in fine {
        parse_text(&text).unwrap();
    }
}

#[test]
fn what_works_but_may_not_be_meant_is_a_warning() {
    let text = "[store]\nkeep_events = \"3d\"\n\
        [[route]]\nname = \"a\"\nprovider = \"a\"\nallow_unsigned = true\n\
        [[subscriber]]\nname = \"s\"\nurl = \"http://10.0.0.1\"\nsecrets = { env = \"SET\" }\n\
        [[subscriber]]\nname = \"local\"\nurl = \"http://localhost:9\"\nsecrets = { env = \"SET\" }\n\
        schedule = [\"0s\"]\nheaders = { x-api-key = \"k\", x-tenant = \"t\" }\nfrom = \"9999-01-01T00:00:00Z\"\n";
    let warnings = parse_text(text).unwrap().warnings;
    let warnings: Vec<_> = warnings
        .iter()
        .map(|warning| (warning.line, warning.path.as_str()))
        .collect();
    let expected = [
        (6, "route[a].allow_unsigned"),
        (7, "subscriber[s].schedule"),
        (9, "subscriber[s].url"),
        (16, "subscriber[local].headers.x-api-key"),
        (17, "subscriber[local].from"),
    ];
    assert_eq!(warnings, expected);
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("callfeed.toml");
    let text = load(&path).unwrap_err().to_string();
    assert!(text.contains("callfeed.toml: cannot be read: No such file"), "{text}");
    fs::write(&path, b"[server]\n# \xff").unwrap();
    let text = load(&path).unwrap_err().to_string();
    assert!(text.contains("callfeed.toml:2: is not UTF-8"), "{text}");
    let text = load(dir.path()).unwrap_err().to_string();
    assert!(text.contains("not an ordinary file"), "{text}");
}

#[test]
fn a_described_provider_is_warned_of_what_it_does_not_prove() {
    let text = "[[provider]]\nname = \"p\"\nsignature = { header = \"x-s\", message = \"{header:x-id}{header:x-n}\" }\n\
        event = \"/e\"\ntypes = {}\n\
        [[route]]\nname = \"r\"\nprovider = \"p\"\nsecrets = { signing = { env = \"SET\" } }\n";
    let checked = parse_text(text).unwrap();
    let warnings: Vec<_> = checked.warnings.iter().map(ToString::to_string).collect();
    let warnings = warnings.join("\n");
    for expected in [
        "callfeed.toml:3: warning: provider[p].signature.message: has no {body}",
        "callfeed.toml:3: warning: provider[p].signature.message: has two in braces with nothing between them",
    ] {
        assert!(warnings.contains(expected), "{expected} is not in\n{warnings}");
    }
    for enough in [
        "\"{body}\"",
        "\"{header:x-id}.{body}\"",
        "\"{body}{timestamp}{header:x-id}\", timestamp_header = \"x-t\"",
    ] {
        let text = text.replace("\"{header:x-id}{header:x-n}\"", enough);
        let warnings = parse_text(&text).unwrap().warnings;
        assert!(
            !warnings.iter().any(|warning| warning.path.starts_with("provider")),
            "{warnings:?}"
        );
    }
}

#[test]
fn described_providers_are_read_without_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("callfeed.toml");
    let provider = "[[provider]]\nname = \"p\"\ntoken = { in = \"query:t\" }\nevent = \"/e\"\ntypes = {}\n";
    let read = |text: &str| {
        fs::write(&file, text).unwrap();
        load_providers(&file).map_err(|problems| problems.to_string())
    };
    let names = |text: &str| -> Vec<_> {
        let (providers, _) = read(text).unwrap();
        providers.into_iter().map(|provider| provider.name).collect()
    };
    assert_eq!(names(&format!("nothing = 1\n{provider}[[route]]\nname = 7\n")), ["p"]);
    assert_eq!(names(""), [""; 0]);
    for (wrong, expected) in [
        (
            format!("{provider}{provider}"),
            "callfeed.toml:7: provider[#2].name: p is also the name",
        ),
        ("provider = 1\n".to_owned(), "callfeed.toml:1: provider: "),
        ("[[provider]\n".to_owned(), "callfeed.toml:1: "),
    ] {
        let problems = read(&wrong).unwrap_err();
        assert!(problems.contains(expected), "{expected} is not in {problems}");
    }
}

/// One route whose secret is `value`: its live values, and the warnings.
fn secret_of(value: &str, dir: &Path) -> (Vec<Secret>, String) {
    let text = format!(
        "[[route]]\nname = \"a\"\nprovider = \"a\"\nsecrets = {{ signing = {value} }}\n\
         [[subscriber]]\nname = \"s\"\nurl = \"http://[::1]:9\"\nsecrets = {{ env = \"SET\" }}\n"
    );
    let checked = parse(&text, "callfeed.toml", &env, dir).unwrap();
    let warnings: Vec<_> = checked.warnings.iter().map(ToString::to_string).collect();
    (checked.config.routes[0].secrets[0].1.clone(), warnings.join("\n"))
}

#[test]
fn a_secret_comes_from_the_environment_a_file_or_the_text() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "unix", " in a file \n", 0o600);
    write(dir.path(), "windows", "in a file\r\n", 0o640);
    write(dir.path(), "two-lines", "a\n\n", 0o600);
    write(dir.path(), "bytes", b"\xff\x00", 0o600);
    write(dir.path(), "open", "in a file", 0o644);
    let absolute = format!("{{ file = {:?} }}", dir.path().join("unix"));
    for (value, expected, warning) in [
        ("{ env = \"SET\" }", &[WHSEC.as_bytes()] as &[&[u8]], ""),
        (
            "[{ env = \"SET\" }, { file = \"unix\" }]",
            &[WHSEC.as_bytes(), b" in a file "],
            "",
        ),
        ("{ file = \"windows\" }", &[b"in a file"], ""),
        ("{ file = \"two-lines\" }", &[b"a\n"], ""),
        ("{ file = \"bytes\" }", &[b"\xff\x00"], ""),
        (&absolute, &[b" in a file "], ""),
        ("{ file = \"open\" }", &[b"in a file"], "can be read by every user"),
        (
            "\"as text\"",
            &[b"as text"],
            "callfeed.toml:4: warning: route[a].secrets.signing: is a secret written into",
        ),
        (
            "[\"one\", \"two\"]",
            &[b"one", b"two"],
            "route[a].secrets.signing[#2]: is a secret written into",
        ),
    ] {
        let (secrets, warnings) = secret_of(value, dir.path());
        assert_eq!(
            secrets.iter().map(Secret::expose).collect::<Vec<_>>(),
            expected,
            "{value}"
        );
        assert!(
            warnings.contains(warning) && warnings.is_empty() == warning.is_empty(),
            "{value}: {warnings}"
        );
    }
}

#[test]
fn a_subscriber_signs_with_keys_of_the_standard_or_plain_ones() {
    let keys = |secret: &str, custom: bool| {
        let signature = if custom {
            "signature = { header = \"x-signature\" }"
        } else {
            ""
        };
        let text = format!(
            "[[route]]\nname = \"a\"\nprovider = \"a\"\nallow_unsigned = true\n\
             [[subscriber]]\nname = \"s\"\nurl = \"https://s\"\nsecrets = \"{secret}\"\n{signature}"
        );
        parse_text(&text)
            .map(|checked| checked.config.subscribers[0].secrets.clone())
            .map_err(|problems| problems.to_string())
    };
    let hmac = |key: &[u8]| Ok(vec![SigningKey::Hmac(Secret::new(key))]);
    let bytes: Vec<u8> = (1..=24).collect();
    assert_eq!(keys(WHSEC, false), hmac(&bytes));
    assert_eq!(keys(WHSEC, true), hmac(&bytes));
    assert_eq!(keys("plain", true), hmac(b"plain"));
    let both = [keys(WHSK, false).unwrap(), keys(WHSK_SEED, false).unwrap()];
    assert_eq!(both[0], both[1]);
    assert!(
        matches!(both[0].as_slice(), [SigningKey::Ed25519(seed)] if seed.expose().starts_with(&[0x9d, 0x61, 0xb1]))
    );

    let other = WHSK.replace("11qYAYKxCrfV", "").replace("RGg==", "RGA==");
    for (secret, custom, expected) in [
        ("plain", false, "starts with neither whsec_ nor whsk_"),
        (WHSK, true, "is an Ed25519 key, but signature is a table"),
        (&other, false, "the public half of whsk_ does not belong to its seed"),
        (
            "whsec_c2hvcnQ=",
            false,
            "24 to 64 bytes; make one with `callfeed secret new`",
        ),
        ("whsk_c2hvcnQ=", false, "32 or 64 bytes"),
    ] {
        let problems = keys(secret, custom).unwrap_err();
        assert!(problems.contains(expected), "{expected} is not in {problems}");
    }
}

#[test]
fn certificate_and_key_have_to_belong_together() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "certificate.pem", CERTIFICATE, 0o644);
    write(dir.path(), "key.pem", KEY, 0o600);
    write(dir.path(), "other-key.pem", OTHER_KEY, 0o600);
    let with_key = |key: &str| {
        let text = format!("{EXAMPLE}\n[server.tls]\ncertificate = \"certificate.pem\"\nkey = \"{key}\"");
        parse(&text, "callfeed.toml", &env, dir.path()).map_err(|problems| problems.to_string())
    };
    assert_eq!(
        with_key("key.pem").unwrap().config.server.tls.unwrap().key,
        dir.path().join("key.pem")
    );
    for (key, expected) in [
        ("other-key.pem", "server.tls: certificate and key do not work together"),
        ("certificate.pem", "server.tls.key: file "),
        ("missing.pem", "cannot be read"),
    ] {
        let problems = with_key(key).unwrap_err();
        assert!(problems.contains(expected), "{expected} is not in {problems}");
    }
}

/// The lines that start with `marker` and then a key or a header, without the marker.
fn uncomment(text: &str, marker: &str) -> String {
    let lines = text.lines().map(|line| {
        let shown = line.strip_prefix(marker).filter(|rest| {
            let key = rest.split_once(" = ").map_or("", |(key, _)| key);
            let is_key = !key.is_empty()
                && key
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || b"_.".contains(&byte));
            is_key || rest.starts_with('[')
        });
        shown.unwrap_or(line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_loads_and_its_defaults_are_the_real_ones() {
    let checked = parse_text(EXAMPLE).unwrap();
    assert_eq!(checked.warnings, []);
    assert_eq!((checked.config.routes.len(), checked.config.subscribers.len()), (5, 2));

    let uncommented = uncomment(EXAMPLE, "# ");
    let shown = uncommented
        .lines()
        .zip(EXAMPLE.lines())
        .filter(|(one, other)| one != other)
        .count();
    assert!(shown > 30, "{shown} defaults");
    assert_eq!(parse_text(&uncommented).unwrap().config, checked.config);
}

#[test]
fn the_example_shows_every_key() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "certificate.pem", CERTIFICATE, 0o644);
    write(dir.path(), "key.pem", KEY, 0o600);
    write(dir.path(), "admin-token", "token\n", 0o600);
    write(dir.path(), "acme.wasm", "", 0o600);
    let text = uncomment(&uncomment(EXAMPLE, "# "), "#   ");
    let document = Document::parse(&text);
    document.read(|root| {
        check::config(
            root,
            &Surroundings {
                env: &env,
                base_dir: dir.path(),
            },
        )
    });
    let keys = document.report().keys.take();
    let hidden: Vec<_> = keys.known.difference(&keys.found).collect();
    assert!(hidden.is_empty(), "config.example.toml does not show {hidden:?}");
    let (problems, _) = document.finish();
    assert_eq!(problems, []);
    assert!(keys.known.len() > 50, "{:?}", keys.known);
}

#[test]
fn order_and_rate_are_read() {
    let with = |keys: &str| {
        format!(
            "[[route]]\nname = \"a\"\nprovider = \"a\"\nsecrets.signing = {{ env = \"SET\" }}\n\
             [[subscriber]]\nname = \"crm\"\nurl = \"https://crm.example.com\"\nsecrets = {{ env = \"SET\" }}\n{keys}"
        )
    };
    let rate = |count, seconds| {
        Some(Rate {
            count,
            per: Duration::from_secs(seconds),
        })
    };
    for (keys, order, expected) in [
        ("", Order::Call, None),
        ("order = \"call\"\nrate = \"50/s\"", Order::Call, rate(50, 1)),
        ("order = \"none\"\nrate = \"1/m\"", Order::None, rate(1, 60)),
        ("rate = \"100000/m\"", Order::Call, rate(100_000, 60)),
    ] {
        let config = parse_text(&with(keys)).unwrap().config;
        assert_eq!(
            (config.subscribers[0].order, config.subscribers[0].rate),
            (order, expected),
            "{keys}"
        );
    }
    for (nonsense, complaint) in [
        ("\"50\"", "\"50\" is not a rate"),
        ("\"/s\"", "\"/s\" is not a rate"),
        ("\"50/h\"", "\"50/h\" is not a rate"),
        ("\"50/s/s\"", "\"50/s/s\" is not a rate"),
        ("\"+5/s\"", "\"+5/s\" is not a rate"),
        ("\"-5/s\"", "\"-5/s\" is not a rate"),
        ("\"1.5/s\"", "\"1.5/s\" is not a rate"),
        ("\" 5/s\"", "\" 5/s\" is not a rate"),
        ("\"0/s\"", "\"0/s\" is out of range; choose a number from 1 to 100000"),
        ("\"100001/m\"", "\"100001/m\" is out of range"),
        (
            "\"99999999999999999999/s\"",
            "\"99999999999999999999/s\" is out of range",
        ),
        ("50", "should be text, is a whole number"),
    ] {
        let problems = parse_text(&with(&format!("rate = {nonsense}")))
            .unwrap_err()
            .problems
            .to_string();
        let expected = format!("callfeed.toml:9: subscriber[crm].rate: {complaint}");
        assert!(problems.starts_with(&expected), "{problems}");
    }
}

#[test]
fn later_checks_find_their_lines_and_join_the_list() {
    let text = "[[route]]\nname = \"acme\"\nprovider = \"acme\"\nsecrets = { signing = { env = \"SET\" },\n  other = { env = \"SET\" } }\n\
        [route.options]\n\"odd.key\" = [1,\n 2]\nheader = \"x\"\n[[route]]\nname = \"acme-2\"\nprovider = \"a\"\nallow_unsigned = true";
    let checked = parse_text(text).unwrap();
    for (path, line) in [
        ("route[acme]", 1),
        ("route[acme].provider", 3),
        ("route[acme].secrets.signing", 4),
        ("route[acme].secrets.other", 5),
        ("route[acme].secrets.missing", 4),
        ("route[acme].options", 6),
        ("route[acme].options.header", 9),
        ("route[acme].options.missing.deep", 6),
        ("route[acme].options.\"odd.key\"", 7),
        ("route[acme].options.\"odd.key\"[#2]", 8),
        ("route[acme-2]", 10),
        ("server", 0),
    ] {
        assert_eq!(checked.line_of(path), line, "{path}");
    }
    assert_eq!(
        checked.config.routes[0].options,
        serde_json::json!({ "odd.key": [1, 2], "header": "x" })
    );
    assert_eq!(checked.config.routes[1].line, 10);

    let path = "route[acme].options.header";
    let problems = checked.refuse(vec![Problem::new(
        checked.line_of(path),
        path,
        "is not known",
        "remove it",
    )]);
    assert_eq!(
        serde_json::to_value(&problems).unwrap()[1],
        serde_json::json!({
            "file": "callfeed.toml", "line": 9, "path": path, "severity": "error", "message": "is not known",
            "remedy": "remove it",
        })
    );
    assert_eq!(problems.iter().count(), 3);
    let text = problems.to_string();
    assert!(
        text.contains("\ncallfeed.toml:9: route[acme].options.header: is not known; remove it\n"),
        "{text}"
    );
}

/// What was kept can be seen where the secrets that bring and send it are not.
#[test]
fn the_store_is_read_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("callfeed.toml");
    let rest = "[servr]\n[[route]]\nprovider = \"acme\"\nsecrets.signing = { env = \"NO_SUCH_VARIABLE\" }\n";
    fs::write(&file, format!("{rest}[store]\nurl = \"sqlite:other.db\"\n")).unwrap();
    let store = load_store(&file).unwrap();
    assert_eq!(store.location, Location::Sqlite(dir.path().join("other.db")));

    fs::write(&file, format!("{rest}[store]\nurl = \"other.db\"\nkeep = 1\n")).unwrap();
    let problems = load_store(&file).unwrap_err();
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["store.url", "store.keep"]);
    fs::write(&file, "[store").unwrap();
    assert!(load_store(&file).is_err());
    assert!(load_store(dir.path()).is_err());
}

/// Who puts a plugin's file there needs no secret, and no file that is there already.
#[test]
fn the_plugins_are_read_alone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("callfeed.toml");
    let rest = "[[route]]\nprovider = \"acme\"\nsecrets.signing = { env = \"NO_SUCH_VARIABLE\" }\n";
    let plugin = "[[plugin]]\nname = \"acme\"\npath = \"acme.wasm\"\n";
    fs::write(&file, format!("{rest}{plugin}[limits]\nplugin_file = \"1 MiB\"\n")).unwrap();
    let (plugins, limits) = load_plugins(&file).unwrap();
    assert_eq!((plugins.len(), limits.plugin_file_bytes), (1, 1 << 20));
    assert_eq!(plugins[0].path, dir.path().join("acme.wasm"));
    assert_eq!(plugins[0].previous(), dir.path().join("acme.wasm.previous"));

    fs::write(&file, format!("{rest}{plugin}{plugin}[limits]\nplugin_fil = 1\n")).unwrap();
    let problems = load_plugins(&file).unwrap_err();
    let paths: Vec<_> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(paths, ["plugin[#2].name", "limits.plugin_fil"]);
}

#[cfg(unix)]
#[test]
fn a_cache_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("plugin-cache");
    fs::create_dir(&cache).unwrap();
    let text = "[[route]]\nname = \"acme\"\nprovider = \"acme\"\nsecrets.signing = { env = \"SET\" }";
    for (mode, refused) in [(0o700, false), (0o777, true)] {
        fs::set_permissions(&cache, fs::Permissions::from_mode(mode)).unwrap();
        let read = parse(text, "callfeed.toml", &env, dir.path());
        assert_eq!(read.is_err(), refused, "{mode:o}");
    }
}

#[test]
fn durations_print_as_they_are_written() {
    for (millis, text) in [
        (0, "0s"),
        (250, "250ms"),
        (90_000, "1m 30s"),
        (86_400_000, "1d"),
        (90_061_001, "1d 1h 1m 1s 1ms"),
    ] {
        assert_eq!(print_duration(Duration::from_millis(millis)), text);
    }
}

/// Whatever is in the file, it is refused with a reason or it loads; it never panics, and no secret is shown.
#[test]
fn any_text_is_read_or_refused() {
    let check = |text: &str| match parse_text(text) {
        Ok(_) => {}
        Err(Refused { problems, .. }) => {
            assert!(
                problems.iter().any(|problem| problem.severity == Severity::Error),
                "{text}"
            );
            assert!(!problems.to_string().contains(WHSEC), "{text}");
        }
    };
    let text = uncomment(&uncomment(EXAMPLE, "# "), "#   ");
    let text: Vec<&str> = text
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let text = text.join("\n");
    for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)).step_by(5) {
        check(&text[..end]);
    }

    let pieces: Vec<char> = "[]{}=\"',.#\n\\ -_*09aé\u{0}".chars().collect();
    let mut random = fastrand::Rng::with_seed(0x9e37_79b9_7f4a_7c15);
    let mut below = |bound: usize| random.usize(..bound);
    for _ in 0..3000 {
        let mut mutated: Vec<char> = text.chars().collect();
        for _ in 0..=below(4) {
            let at = below(mutated.len());
            match below(4) {
                0 => mutated[at] = pieces[below(pieces.len())],
                1 => mutated.insert(at, pieces[below(pieces.len())]),
                2 => drop(mutated.drain(at..(at + 1 + below(40)).min(mutated.len()))),
                _ => {
                    let copied: Vec<char> = mutated[at..(at + 60).min(mutated.len())].to_vec();
                    let to = below(mutated.len());
                    mutated.splice(to..to, copied);
                }
            }
        }
        check(&mutated.into_iter().collect::<String>());
    }
}
