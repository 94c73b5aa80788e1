//! What keeps a gateway from starting is said at once, with its place and a remedy, and leaves nothing behind.

use std::{fs, net::TcpListener};

use harness::{Callfeed, Setup};

#[tokio::test]
async fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let setup = Setup::new().route("magpipe");
    let path = setup.write();
    let text = fs::read_to_string(&path).unwrap();
    for (block, key) in [("[server]", "server.listen"), ("[admin]", "admin.listen")] {
        let changed = text.replace(
            &format!("{block}\nlisten = \"127.0.0.1:0\""),
            &format!("{block}\nlisten = \"{address}\""),
        );
        fs::write(&path, changed).unwrap();
        let output = Callfeed::run_with(&path, ["serve"]).await;
        assert_eq!(output.status, Some(1), "{output:?}");
        for said in [address.to_string().as_str(), key, "another process", "in use"] {
            assert!(output.stderr.contains(said), "{said}: {}", output.stderr);
        }
        assert!(!output.stderr.contains("is listening"));
    }
}

#[tokio::test]
async fn a_second_gateway_on_the_same_store() {
    let gateway = Setup::new().route("magpipe").start().await;
    let id = gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    let config = gateway.directory().join("callfeed.toml");
    let output = Callfeed::run_with(&config, ["serve"]).await;
    assert_eq!(output.status, Some(1), "{output:?}");
    assert!(
        output
            .stderr
            .contains("callfeed.db: another gateway is running on it; stop that one"),
        "{output:?}"
    );
    // The first one does not mind.
    gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    assert_eq!(gateway.feed().await[0]["id"], *id);
}

#[tokio::test]
async fn a_damaged_store() {
    let setup = Setup::new().route("magpipe");
    let store = setup.directory().join("callfeed.db");
    let mut gateway = setup.start().await;
    for _ in 0..200 {
        gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    }
    assert!(gateway.terminate().await.success());
    let good = fs::read(&store).unwrap();
    let config = gateway.directory().join("callfeed.toml");

    let mut torn = good.clone();
    let (middle, end) = (torn.len() / 4, torn.len() / 2);
    torn[middle..end].fill(0xa5);
    for (what, bytes) in [
        ("torn", torn),
        ("cut", good[..good.len() / 2].to_vec()),
        ("no database", b"#!/bin/sh\n".repeat(1000)),
    ] {
        fs::write(&store, &bytes).unwrap();
        let output = Callfeed::run_with(&config, ["serve"]).await;
        assert_eq!(output.status, Some(1), "{what}: {output:?}");
        assert!(output.stderr.contains("callfeed.db is damaged"), "{what}: {output:?}");
        assert!(output.stderr.contains("restore a backup"), "{what}: {output:?}");
        assert_eq!(
            fs::read(&store).unwrap(),
            bytes,
            "{what}: what may still be saved is left as it is"
        );
    }

    let other = rusqlite::Connection::open(gateway.directory().join("other.db")).unwrap();
    other
        .execute_batch("CREATE TABLE invoice (id INTEGER PRIMARY KEY)")
        .unwrap();
    drop(other);
    fs::rename(gateway.directory().join("other.db"), &store).unwrap();
    let output = Callfeed::run_with(&config, ["serve"]).await;
    assert_eq!(output.status, Some(1), "{output:?}");
    assert!(
        output.stderr.contains("it is the database of another program"),
        "{output:?}"
    );

    fs::write(&store, &good).unwrap();
    gateway.restart().await;
    assert_eq!(gateway.feed().await.len(), 200);
}

#[tokio::test]
async fn every_mistake_of_a_configuration_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("callfeed.toml");
    fs::write(
        &path,
        r#"[server]
listen = "8080"
max_body = "1 apple"
tiemout = "1s"

[[route]]
name = "magpipe"
provider = "magpipe"
secrets = { signing = { env = "CALLFEED_TEST_NOT_SET" } }

[[route]]
name = "magpipe"
provider = "salpre"
allow_unsigned = true

[[subscriber]]
name = "crm"
url = "ftp://crm.example.com"
types = ["call.complete"]
secrets = ["hunter2-the-secret"]
"#,
    )
    .unwrap();
    for command in ["serve", "check"] {
        let output = Callfeed::run_with(&path, [command]).await;
        assert_eq!(output.status, Some(2), "{output:?}");
        for said in [
            "callfeed.toml:2: server.listen: ",
            "callfeed.toml:3: server.max_body: ",
            "callfeed.toml:4: server.tiemout: unknown key",
            "callfeed.toml:9: route[magpipe].secrets.signing: environment variable CALLFEED_TEST_NOT_SET is not set",
            "callfeed.toml:12: route[#2].name: magpipe is also the name of the one in line 6",
            "callfeed.toml:18: subscriber[crm].url: ",
            "callfeed.toml:19: subscriber[crm].types[#1]: there are no events of type \"call.complete\"; did you mean \"call.completed\"?",
            "callfeed.toml:20: subscriber[crm].secrets[#1]: starts with neither whsec_ nor whsk_",
        ] {
            assert!(output.stderr.contains(said), "{command}: {said}\n{}", output.stderr);
        }
        assert!(!output.stderr.contains("hunter2"), "{}", output.stderr);
    }
    assert!(!directory.path().join("callfeed.db").exists());

    let missing = directory.path().join("elsewhere.toml");
    let output = Callfeed::run_with(&missing, ["serve"]).await;
    assert_eq!(output.status, Some(2), "{output:?}");
    assert!(output.stderr.contains("elsewhere.toml: cannot be read"), "{output:?}");
}

#[tokio::test]
async fn routes_that_do_not_fit_their_plugin() {
    let setup = Setup::new().toml(
        r#"
[[route]]
name = "one"
provider = "magpip"
secrets = { signing = ["x"] }

[[route]]
name = "two"
provider = "magpipe"
secrets = { sining = ["x"] }

[[route]]
name = "three"
provider = "salpre"
secrets = { token = ["x"] }
options = { heder = "x-token" }
"#,
    );
    let output = Callfeed::run_with(&setup.write(), ["serve"]).await;
    assert_eq!(output.status, Some(2), "{output:?}");
    for said in [
        "route[one].provider: there is no plugin \"magpip\"; use one of ",
        "route[two].secrets.sining: Magpipe has no secret of this name; use one of: signing",
        "route[two].secrets: Magpipe needs the secret \"signing\"",
        "route[three].options",
    ] {
        assert!(output.stderr.contains(said), "{said}\n{}", output.stderr);
    }
}

#[tokio::test]
async fn plugin_files_that_are_no_plugins() {
    let setup = Setup::new().route("magpipe").toml(
        r#"
[[plugin]]
name = "gone"
path = "gone.wasm"
"#,
    );
    let output = Callfeed::run_with(&setup.write(), ["serve"]).await;
    assert_eq!(output.status, Some(2), "{output:?}");
    assert!(
        output.stderr.contains("plugin[gone].path: there is no file"),
        "{output:?}"
    );

    let text = fs::read_to_string(setup.config_path()).unwrap();
    let line = text.lines().position(|line| line == "path = \"gone.wasm\"").unwrap() + 1;
    // The magic of a module and of a component; both without anything in them.
    let module = b"\0asm\x01\0\0\0".as_slice();
    let component = b"\0asm\x0d\0\x01\0".as_slice();
    for (what, bytes) in [
        ("text", b"print('hello')".as_slice()),
        ("empty", b""),
        ("module", module),
        ("component", component),
    ] {
        fs::write(setup.directory().join("gone.wasm"), bytes).unwrap();
        for command in ["serve", "check"] {
            let output = Callfeed::run_with(&setup.config_path(), [command]).await;
            assert_eq!(output.status, Some(2), "{what}: {output:?}");
            let place = format!("callfeed.toml:{line}: plugin[gone].path: ");
            assert!(output.stderr.contains(&place), "{what}: {output:?}");
            assert!(output.stderr.contains("gone.wasm"), "{what}: {output:?}");
        }
    }
}

#[tokio::test]
async fn as_many_descriptors_as_the_process_may_have_are_used() {
    let gateway = Setup::new().route("magpipe").wrapped("ulimit -S -n 64").start().await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(gateway.connect().await);
    }
    gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    assert!(!gateway.log_text().contains("failed to accept a connection"));
}

#[tokio::test]
async fn too_few_descriptors_are_said() {
    let gateway = Setup::new()
        .route("magpipe")
        .server("max_connections = 1000")
        .wrapped("ulimit -n 900")
        .start()
        .await;
    let said = "server.max_connections: with all connections, deliveries and files open at once the gateway needs 1256 \
                descriptors, and the system allows it 900";
    assert!(gateway.log_text().contains(said), "{}", gateway.log_text());
}
