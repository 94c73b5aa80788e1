//! What `plugins/README.md` tells an author to type does what it says there, from the first line to the last. `plugin test`
//! alone gets other bounds, since the gateway under test is not optimised.

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt as _, path::Path, process::Stdio};

use harness::{callfeed_bin, guest};

/// The text of every block of a language, in order.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.strip_prefix("```") == Some(language) {
            let block: Vec<_> = lines.by_ref().take_while(|line| *line != "```").collect();
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

fn guide() -> String {
    fs::read_to_string(guest::workspace().join("plugins/README.md")).expect("the guide can be read")
}

/// Where nobody listens.
fn addresses() -> [String; 2] {
    let free = || TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    [free(), free()].map(|listener| listener.local_addr().expect("it is bound").to_string())
}

/// `callfeed` as the path has it; neither the gateway under test nor its compiler is optimised.
fn put_callfeed(directory: &Path) {
    let path = directory.join("callfeed");
    let bounds = "--time 200 --mutations 600 --bytes 24";
    let text = format!(
        "#!/bin/sh\ncase \"$1 $2\" in 'plugin test') set -- \"$@\" {bounds};; esac\nexec '{}' \"$@\"\n",
        callfeed_bin().display()
    );
    fs::write(&path, text).expect("the directory can be written to");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("the file is ours");
}

#[tokio::test]
async fn every_command_works_as_written() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let here = directory.path();
    put_callfeed(here);
    let guide = guide();
    let write = |name: &str, text: &str| fs::write(here.join(name), text).expect("the directory can be written to");
    let [inbound, admin] = addresses();
    let (host, port) = inbound.split_once(':').expect("an address has a port");

    // The provider, as the project imagines it: it sends what is in one of the project's cases.
    let template = guest::workspace().join("plugins/templates/common/cases/call-ended/request.http");
    let template = fs::read_to_string(template)
        .expect("the case can be read")
        .replace("{{name}}", "acme");
    let (head, body) = template.split_once("\n\n").expect("an empty line ends the head");
    let signature = head
        .lines()
        .find(|line| line.contains("Signature"))
        .expect("it is signed");
    write("sent.json", body);
    let [catch] = &blocks(&guide, "python")[..] else {
        panic!("there is one way to catch a webhook");
    };
    write(
        "catch.py",
        &catch.replace("\"127.0.0.1\", 8080", &format!("\"{host}\", {port}")),
    );
    let provider = format!(
        "python3 catch.py &\ncurl -sf --retry 100 --retry-connrefused --retry-delay 1 http://{inbound}/hooks/acme \
         -H 'content-type: application/json' -H '{signature}' --data-binary @sent.json\nwait\n"
    );
    let [described] = &blocks(&guide, "toml")[..] else {
        panic!("there is one description");
    };
    write("provider.toml", described);

    // It goes on in the background, as from another terminal.
    let serve = format!(
        "callfeed serve 2>serve.log &\ntrap 'kill $!' EXIT\nuntil curl -sf http://{admin}/readyz; do kill -0 $!; sleep 0.1; done"
    );
    let script = blocks(&guide, "sh").join("\n");
    assert!(script.contains("\ncallfeed serve\n"), "{script}");
    let script = script
        .replace("\ncallfeed serve\n", &format!("\n{serve}\n"))
        .replace("127.0.0.1:8080", &inbound)
        .replace("127.0.0.1:8081", &admin);
    let path = std::env::var("PATH").expect("there is a path");
    let output = tokio::process::Command::new("bash")
        .args(["-euxo", "pipefail", "-c", &(provider + &script)])
        .current_dir(here)
        .env("PATH", format!("{}:{path}", here.display()))
        .env_remove("CALLFEED_CONFIG")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("bash starts");
    let [said, complaints] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    let log = fs::read_to_string(here.join("serve.log")).unwrap_or_default();
    assert!(output.status.success(), "{said}\n{complaints}\n{log}");
    for expected in [
        "x-acme-signature",
        "\nright: 17 checks passed, 0 failed",
        "call-missed: expected.json written",
        "answered 200 OK: {\"accepted\":[\"evt_",
        "acme/c_0001",
        "call-ended: expected.json written",
        "\nright: 16 checks passed, 0 failed",
    ] {
        assert!(
            said.contains(expected),
            "{expected:?} is not in:\n{said}\n{complaints}\n{log}"
        );
    }
}
