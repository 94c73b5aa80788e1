use std::process::Stdio;

use harness::{PATIENCE, callfeed_bin};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::{feed::PROVIDERS, tools};

#[tokio::test]
async fn the_curl_lines_of_the_demo_are_accepted_and_ctrl_c_ends_it() {
    let mut command = tokio::process::Command::new(callfeed_bin());
    command
        .args(["demo", "--keep"])
        .env_remove("CALLFEED_LOG")
        .kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut demo = command.spawn().expect("the demo starts");
    let mut printed = BufReader::new(demo.stdout.take().expect("it was asked for")).lines();
    let mut curls = Vec::new();
    let reading = async {
        while let Some(line) = printed.next_line().await.expect("the demo prints text") {
            if line.starts_with("curl ") {
                curls.push(line);
            } else if line.starts_with("Ctrl-C ") {
                return;
            }
        }
        panic!("the demo ended by itself");
    };
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("the demo is done in time");

    for provider in PROVIDERS {
        let line = curls.iter().find(|line| line.ends_with(&format!("/hooks/{provider}")));
        let line = line.unwrap_or_else(|| panic!("no line for {provider} in {curls:?}"));
        let body = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix('@'))
            .expect("the line names a file");
        let body = std::fs::read_to_string(body).expect("the file is there");
        // A completed call tells most.
        assert!(
            ["completed", "Complete", "call_ended"]
                .iter()
                .any(|word| body.contains(word)),
            "{provider}: {body}"
        );
        // Twice: the second time it is a duplicate, and just as welcome.
        let answers = [curl(line).await, curl(line).await];
        assert!(
            answers[0].starts_with(r#"{"accepted":["evt_"#) && answers[0].ends_with(" 200"),
            "{line}: {answers:?}"
        );
        assert_eq!(answers[0], answers[1], "{line}");
    }
    let metrics = curls
        .iter()
        .find(|line| line.ends_with("/metrics"))
        .expect("the demo says where the metrics are");
    assert!(curl(metrics).await.ends_with(" 200"));

    let id = demo
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(id.expect("it still runs"), rustix::process::Signal::INT)
        .expect("it can be signalled");
    let status = tokio::time::timeout(PATIENCE, demo.wait())
        .await
        .expect("the demo ends in time")
        .expect("a child can be waited for");
    assert!(status.success(), "{status}");
}

/// Runs a printed line in a shell, as somebody who pastes it does; returns the answer and its status.
async fn curl(line: &str) -> String {
    let arguments = line.strip_prefix("curl ").expect("it is a curl line");
    let mut shell = tokio::process::Command::new("sh");
    shell.args([
        "-c",
        &format!(r#""$0" --silent --show-error --noproxy '*' --write-out ' %{{http_code}}' {arguments}"#),
    ]);
    let output = shell
        .arg(tools::curl())
        .stdin(Stdio::null())
        .output()
        .await
        .expect("a shell runs");
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .expect("the answer is text")
        .replace('\n', "")
}
