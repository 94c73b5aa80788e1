//! The README tells subscribers what to run. It is run here, and the README has to show just that.

use std::{path::Path, process::Command};

use callfeed::simulate;
use harness::{Setup, client, eventually};
use serde_json::Value;

use crate::{program::Program, tools};

const SECRET: &str = "whsec_Y2FsbGZlZWQtY29uc3VtZXJzLXNlY3JldC0wMDE=";
const ANOTHER_SECRET: &str = "whsec_Y2FsbGZlZWQtY29uc3VtZXJzLXNlY3JldC0wMDI=";

fn receivers() -> [(&'static str, Command); 3] {
    [
        ("rust", Command::new(env!("CARGO_BIN_EXE_receive"))),
        ("python", tools::python("receivers/receive.py")),
        ("node", tools::node("receivers/receive.mjs")),
    ]
}

#[tokio::test]
async fn the_receivers_of_the_readme_are_delivered_to() {
    let mut setup = Setup::new().route("salpre");
    let mut programs = Vec::new();
    for (name, mut command) in receivers() {
        command.env("CALLFEED_SECRET", SECRET).env("PORT", "0");
        let program = Program::serve(command).await;
        setup = setup.subscriber_at(name, program.url(), &format!("secrets = [{SECRET:?}]"));
        programs.push(program);
    }
    let gateway = setup.start().await;
    let samples = simulate::samples("salpre");
    for sample in &samples {
        let id = gateway.accept(&gateway.sample("salpre", sample.name)).await;
        for program in &programs {
            let line = program.prints(&id).await;
            assert!(line.contains(" salpre/"), "{line}");
        }
    }
    // The gateway counts what they answered as delivered, and at the first attempt.
    let deliveries = eventually("every delivery on record", async || {
        let deliveries = gateway.run(&["deliveries", "list", "--json"]).await.json_lines();
        (deliveries.len() == 3 * samples.len()).then_some(deliveries)
    })
    .await;
    for delivery in deliveries {
        assert_eq!(delivery["state"], "delivered", "{delivery}");
        assert_eq!(
            (&delivery["attempts"], &delivery["last_status"]),
            (&1.into(), &204.into()),
            "{delivery}"
        );
    }
}

#[tokio::test]
async fn the_receivers_of_the_readme_refuse_another_secret() {
    let mut setup = Setup::new().route("salpre");
    let mut programs = Vec::new();
    for (name, mut command) in receivers() {
        command.env("CALLFEED_SECRET", ANOTHER_SECRET).env("PORT", "0");
        let program = Program::serve(command).await;
        let lines = format!("secrets = [{SECRET:?}]\nschedule = [\"0s\"]");
        setup = setup.subscriber_at(name, program.url(), &lines);
        programs.push(program);
    }
    let gateway = setup.start().await;
    let id = gateway.accept(&gateway.sample("salpre", "call-ended")).await;
    let deliveries = eventually("every delivery given up", async || {
        let deliveries = gateway
            .run(&["deliveries", "list", "--state", "dead", "--json"])
            .await
            .json_lines();
        (deliveries.len() == programs.len()).then_some(deliveries)
    })
    .await;
    for delivery in deliveries {
        assert_eq!(
            (&delivery["id"], &delivery["last_status"]),
            (&Value::from(&*id), &401.into()),
            "{delivery}"
        );
    }

    // Nor do they take what carries no signature, or garbage for one.
    for program in &programs {
        for signature in ["", "v1", "v1,", "v1,AAAA", "v1,*", "junk"] {
            let mut request = client().post(program.url()).body("{}");
            if !signature.is_empty() {
                let now = callfeed::clock::now().as_second().to_string();
                request = request.header("webhook-id", "evt_1").header("webhook-timestamp", now);
                request = request.header("webhook-signature", signature);
            }
            let answer = request.send().await.expect("the receiver answers");
            assert_eq!(answer.status(), 401, "{signature:?} at {}", program.url());
        }
    }
}

#[test]
fn the_readme_shows_the_receivers_as_they_run() {
    let file = |path: &str| {
        let path = Path::new(tools::HERE).join(path);
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let readme = file("../../README.md");
    for (language, name) in [("rust", "receive.rs"), ("python", "receive.py"), ("js", "receive.mjs")] {
        let block = format!("\n```{language}\n{}```\n", file(&format!("receivers/{name}")));
        assert!(
            readme.contains(&block),
            "README.md has to show tests/consumers/receivers/{name} word for word in a block that starts with ```{language}"
        );
    }
}
