//! The commands, as a person and as a program use them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use harness::{Callfeed, Reply, Setup, Subscriber, WHSEC, eventually};
use serde_json::Value;

#[tokio::test]
async fn help_for_everything() {
    let mut commands: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = BTreeMap::new();
    while let Some(command) = commands.pop() {
        let help = Callfeed::run(command.iter().map(String::as_str).chain(["--help"]))
            .await
            .success();
        assert!(
            help.contains(&["Usage: callfeed", &command.join(" ")].join(" ").trim_end().to_owned()),
            "{command:?}: {help}"
        );
        // Every option says what it is for.
        let mut lines = help.lines().peekable();
        while let Some(line) = lines.next() {
            let option = line.trim_start();
            if option.starts_with('-') && !option.contains("  ") {
                let next = lines.peek().copied().unwrap_or_default();
                assert!(next.starts_with("          "), "{command:?}: {line:?} is not explained");
            }
        }
        let further = help
            .lines()
            .skip_while(|line| *line != "Commands:")
            .skip(1)
            .take_while(|line| !line.is_empty());
        // Deeper lines go on with the one above.
        for line in further.filter(|line| !line.starts_with("   ")) {
            let (name, what) = line.trim_start().split_once(' ').unwrap_or((line.trim(), ""));
            assert!(!what.trim().is_empty(), "{line:?} is not explained");
            if name != "help" {
                commands.push(command.iter().cloned().chain([name.to_owned()]).collect());
            }
        }
        seen.insert(command.join(" "), help);
    }
    // A word that is not in the line of the list.
    for (known, word) in [
        ("serve", "SIGTERM"),
        ("check", "socket"),
        ("demo", "loopback"),
        ("send", "2xx"),
        ("events", "runs"),
        ("events list", "newest"),
        ("events show", "evt_"),
        ("deliveries", "admin.listen"),
        ("deliveries show", "subscriber"),
        ("deliveries replay", "schedule"),
        ("subscribers", "admin.listen"),
        ("quarantine", "lost"),
        ("quarantine list", "newest"),
        ("renormalize", "data.corrects"),
        ("erase", "tombstone"),
        ("reload", "kill"),
        ("plugin new", "manifest"),
        ("plugin build", "Cargo.toml"),
        ("plugin test", "signed-derived"),
        ("plugin inspect", "measured"),
        ("plugin bench", "normalize"),
        ("plugin lab", "pasted"),
        ("plugin pack", "route.toml"),
        ("plugin install", ".previous"),
        ("plugin rollback", "forward"),
        ("secret new", "Ed25519"),
    ] {
        let help = seen.get(known).unwrap_or_else(|| panic!("{known} is in {seen:?}"));
        assert!(help.contains(word), "{known} says nothing of {word:?}: {help}");
    }
    let nothing = Callfeed::run([""; 0]).await;
    assert_eq!(nothing.status, Some(2));
    assert!(nothing.stderr.contains("Usage: callfeed"), "{}", nothing.stderr);
    assert_eq!(Callfeed::run(["serv"]).await.status, Some(2));
    assert!(Callfeed::run(["--version"]).await.success().starts_with("callfeed "));
}

#[tokio::test]
async fn check_says_what_is_right_and_what_is_wrong() {
    let setup = Setup::new()
        .route("magpipe")
        .route("salpre")
        .subscriber_at("crm", "http://127.0.0.1:9/", "");
    let path = setup.write();
    let good = Callfeed::run_with(&path, ["check"]).await.success();
    assert!(good.contains("is right: 2 routes, 1 subscribers"), "{good}");
    assert!(
        good.contains("/hooks/magpipe → Magpipe ") && good.contains("(signed-body)"),
        "{good}"
    );
    assert!(
        good.contains("warning: route[magpipe].secrets.signing[#1]: is a secret written into the file"),
        "{good}"
    );
    let good = Callfeed::run_with(&path, ["check", "--json"])
        .await
        .json_lines()
        .remove(0);
    assert_eq!(good["ok"], true);
    assert_eq!(good["routes"][1]["assurance"], "token");

    fs::write(
        &path,
        fs::read_to_string(&path).unwrap().replace("types", "typos") + "\n[surprise]\n",
    )
    .unwrap();
    let bad = Callfeed::run_with(&path, ["check", "--json"]).await;
    assert_eq!(bad.status, Some(2));
    let bad: serde_json::Value = serde_json::from_str(&bad.stdout).unwrap();
    assert_eq!(bad["ok"], false);
    let problems = bad["problems"].as_array().unwrap();
    let problem = problems.iter().find(|problem| problem["severity"] == "error").unwrap();
    assert_eq!(
        (problem["path"].as_str(), problem["message"].as_str()),
        (Some("surprise"), Some("unknown key"))
    );
    assert!(problem["line"].as_u64().unwrap() > 10, "{problem}");
    // Nothing was started and nothing was made.
    assert!(!setup.directory().join("callfeed.db").exists());
}

#[tokio::test]
async fn the_configuration_may_be_named_anywhere_on_the_line() {
    let gateway = Setup::new().route("magpipe").start().await;
    let config = gateway.directory().join("callfeed.toml");
    let config = config.to_str().unwrap();
    for line in [
        ["events", "--config", config, "list"],
        ["events", "list", "--config", config],
        ["quarantine", "list", "-c", config],
    ] {
        Callfeed::run(line).await.success();
    }
}

#[tokio::test]
async fn events_and_deliveries_page_by_page() {
    let subscriber = Subscriber::start().await;
    let gateway = Setup::new()
        .route("magpipe")
        .route("salpre")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(gateway.accept(&gateway.sample("magpipe", "call-completed")).await);
        ids.push(gateway.accept(&gateway.sample("salpre", "call-ended")).await);
    }
    subscriber.wait_for(6).await;
    let list = async |args: &[&str]| {
        let args = [&["events", "list", "--json"], args].concat();
        let events = gateway.run(&args).await.json_lines();
        events
            .iter()
            .map(|event| event["sequence"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(list(&[]).await, ["6", "5", "4", "3", "2", "1"]);
    assert_eq!(list(&["--limit", "2"]).await, ["6", "5"]);
    assert_eq!(list(&["--limit", "2", "--before", "5"]).await, ["4", "3"]);
    assert_eq!(list(&["--route", "salpre"]).await, ["6", "4", "2"]);
    assert_eq!(
        list(&["--type", "call.completed", "--route", "magpipe"]).await,
        ["5", "3", "1"]
    );
    assert_eq!(list(&["--type", "message.*"]).await, [""; 0]);
    assert_eq!(list(&["--since", "2100-01-01T00:00:00Z"]).await, [""; 0]);
    let subject = gateway.feed().await[0]["subject"].as_str().unwrap().to_owned();
    assert_eq!(list(&["--subject", &subject]).await, ["1"]);
    let table = gateway.run(&["events", "list", "--limit", "2"]).await.success();
    assert!(
        table.starts_with("sequence  kept at") && table.ends_with("more: --before 5\n"),
        "{table}"
    );

    let shown = gateway.run(&["events", "show", &ids[0]]).await.json_lines().remove(0);
    assert_eq!(shown["id"], *ids[0]);
    let raw = gateway.run(&["events", "show", &ids[0], "--raw"]).await.success();
    assert!(
        raw.contains("\nPOST /hooks/magpipe HTTP/1.1\ncontent-type: application/json\n"),
        "{raw}"
    );
    assert!(raw.contains("\n\n{\"event\": \"call.completed\""), "{raw}");
    let unknown = "evt_aaaaaaaaaaaaaaaaaaaaaaaaaa";
    for args in [
        ["events", "show", unknown].as_slice(),
        &["events", "show", unknown, "--raw"],
        &["deliveries", "show", unknown],
    ] {
        let output = gateway.run(args).await;
        assert_eq!(output.status, Some(1), "{output:?}");
        assert!(output.stderr.contains(unknown), "{output:?}");
    }
    assert_eq!(gateway.run(&["events", "show", "evt_short"]).await.status, Some(2));

    let attempts = gateway.attempts(&ids[5], "crm", 1).await;
    assert_eq!(
        (&attempts[0]["attempt"], &attempts[0]["status"]),
        (&1.into(), &204.into())
    );
    let deliveries = gateway.deliveries().await;
    assert_eq!(deliveries.len(), 6);
    assert!(deliveries.iter().all(|delivery| delivery["state"] == "delivered"));
    assert!(
        gateway
            .run(&["deliveries", "list", "--state", "dead", "--json"])
            .await
            .success()
            .is_empty()
    );
    // A store nobody made is said so, and not made.
    let nowhere = Setup::new().route("magpipe");
    let output = Callfeed::run_with(&nowhere.write(), ["events", "list"]).await;
    assert_eq!(output.status, Some(1));
    assert!(
        output.stderr.contains("there is no such file; the gateway makes it"),
        "{output:?}"
    );
    assert!(!nowhere.directory().join("callfeed.db").exists());
}

#[tokio::test]
async fn send_to_a_route_as_its_provider_would() {
    let subscriber = Subscriber::start().await;
    let gateway = Setup::new()
        .route("magpipe")
        .route("salpre")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let listed = gateway.run(&["send", "--route", "salpre", "--list"]).await.success();
    assert!(listed.lines().any(|line| line == "call-ended"), "{listed}");
    let to = gateway.url("/hooks/salpre");

    let sent = gateway
        .run(&[
            "send",
            "--route",
            "salpre",
            "--sample",
            "call-ended",
            "--to",
            &to,
            "--json",
        ])
        .await;
    let sent = sent.json_lines().remove(0);
    assert_eq!(sent["status"], 200);
    let delivery = subscriber.wait_for(1).await.remove(0);
    assert!(sent["body"].as_str().unwrap().contains(&delivery.id()), "{sent}");
    assert!(delivery.verifies(WHSEC));

    // Twice the same is one event; twice without a word is two.
    for _ in 0..2 {
        gateway
            .run(&["send", "--route", "salpre", "--same", "--to", &to])
            .await
            .success();
        gateway.run(&["send", "--route", "salpre", "--to", &to]).await.success();
    }
    assert_eq!(gateway.feed().await.len(), 4);

    let unsigned = gateway
        .run(&["send", "--route", "salpre", "--unsigned", "--to", &to])
        .await;
    assert_eq!(unsigned.status, Some(1));
    assert!(unsigned.stdout.contains("401"), "{unsigned:?}");

    let body = gateway.directory().join("body.json");
    fs::write(&body, r#"{"event":"call.strange","data":{"call_record_id":"x"}}"#).unwrap();
    let to = gateway.url("/hooks/magpipe");
    gateway
        .run(&[
            "send",
            "--route",
            "magpipe",
            "--body",
            body.to_str().unwrap(),
            "--to",
            &to,
        ])
        .await
        .success();
    assert_eq!(gateway.feed().await[4]["type"], "provider.other");

    for wrong in [&["send", "--route", "nobody"], &["send", "--subscriber", "nobody"]] {
        let output = gateway.run(wrong).await;
        assert_eq!(output.status, Some(1), "{output:?}");
        assert!(output.stderr.contains("\"nobody\"; there are "), "{output:?}");
    }
    assert_eq!(gateway.run(&["send"]).await.status, Some(2));
}

#[tokio::test]
async fn send_to_a_subscriber_as_the_gateway_would() {
    let subscriber = Subscriber::start().await;
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let sent = gateway.run(&["send", "--subscriber", "crm"]).await.success();
    assert!(sent.contains("delivered (204)"), "{sent}");
    let delivery = subscriber.wait_for(1).await.remove(0);
    assert!(delivery.verifies(WHSEC));
    assert_eq!(delivery.event()["data"]["test"], true);

    subscriber.script([Reply::status(500).body("no")]);
    let sent = gateway.run(&["send", "--subscriber", "crm", "--json"]).await;
    assert_eq!(sent.status, Some(1));
    let sent: serde_json::Value = serde_json::from_str(&sent.stdout).unwrap();
    assert_eq!(
        (&sent["outcome"], &sent["status"], &sent["response"]),
        (&"status".into(), &500.into(), &"no".into())
    );
    assert!(gateway.feed().await.is_empty(), "a test of a subscriber is no event");
}

#[tokio::test]
async fn secrets_are_new_each_time() {
    let one = Callfeed::run(["secret", "new"]).await.success();
    let other = Callfeed::run(["secret", "new"]).await.success();
    assert!(
        one != other && one.starts_with("whsec_") && one.lines().count() == 1,
        "{one}"
    );
    let pair = Callfeed::run(["secret", "new", "--ed25519"]).await.success();
    let lines: Vec<_> = pair.lines().collect();
    assert!(
        lines.len() == 2 && lines[0].starts_with("whsk_") && lines[1].starts_with("whpk_"),
        "{pair}"
    );
}

#[tokio::test]
async fn health_readiness_and_metrics() {
    let subscriber = Subscriber::start().await;
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    assert_eq!(
        (
            gateway.admin_get("/healthz").await.status,
            gateway.admin_get("/readyz").await.status
        ),
        (200, 200)
    );
    assert_eq!(gateway.admin_get("/elsewhere").await.status, 404);
    // Not on the public address.
    for path in ["/metrics", "/healthz", "/readyz"] {
        let answer = harness::client().get(gateway.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{path}");
    }
    gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    gateway
        .post(&gateway.sample("magpipe", "call-completed").unsigned())
        .await;
    subscriber.wait_for(1).await;
    gateway
        .attempts(gateway.feed().await[0]["id"].as_str().unwrap(), "crm", 1)
        .await;
    for (name, value) in [
        (r#"callfeed_webhooks_total{route="magpipe",result="kept"}"#, 1.0),
        (r#"callfeed_webhooks_total{route="magpipe",result="rejected"}"#, 1.0),
        (r#"callfeed_refused_requests_total{status="404"}"#, 3.0),
        (
            r#"callfeed_deliveries_total{subscriber="crm",outcome="delivered"}"#,
            1.0,
        ),
        (r#"callfeed_accept_seconds_count{route="magpipe"}"#, 2.0),
        (r#"callfeed_delivery_seconds_count{subscriber="crm"}"#, 1.0),
        (r#"callfeed_lag_events{subscriber="crm"}"#, 0.0),
        (r#"callfeed_waiting{subscriber="crm"}"#, 0.0),
    ] {
        let text = gateway.admin_get("/metrics").await;
        assert!(text.header("content-type").starts_with("application/openmetrics-text"));
        assert!(
            text.body.contains(&format!("{name} ")),
            "{name} is there: {}",
            text.body
        );
        assert_eq!(gateway.metric(name).await, value, "{name}");
    }
    assert!(gateway.admin_get("/metrics").await.body.ends_with("# EOF\n"));
}

#[tokio::test]
async fn the_demo_shows_every_provider_and_ends_well() {
    let lines = Callfeed::run(["demo", "--json"]).await.json_lines();
    let (summary, arrivals) = lines.split_last().unwrap();
    assert_eq!(summary["ok"], true, "{summary}");
    assert_eq!(summary["events"], arrivals.len(), "{summary}");
    assert!(arrivals.iter().all(|arrival| arrival["verified"] == true));
    let ids: BTreeSet<&str> = arrivals
        .iter()
        .map(|arrival| arrival["event"]["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), arrivals.len(), "each once");
    let providers: BTreeSet<&str> = arrivals
        .iter()
        .map(|arrival| arrival["event"]["data"]["provider"].as_str().unwrap())
        .collect();
    assert_eq!(
        providers,
        ["magnetis", "magpipe", "salpre", "topcalls", "voxagent"].into()
    );
    let failed = |arrival: &serde_json::Value| {
        arrival["event"]["type"] == "call.failed" && arrival["event"]["data"]["provider"] == "topcalls"
    };
    assert!(arrivals.iter().any(failed), "no sample hides behind another");
    assert!(summary["duplicates"].as_u64().unwrap() >= 5, "{summary}");
    assert!(summary["accept_ms"]["p50"].as_f64().unwrap() > 0.0, "{summary}");

    let table = Callfeed::run(["demo"]).await.success();
    assert!(
        table.ends_with("every event arrived, verified, exactly once\n"),
        "{table}"
    );
    assert_eq!(table.matches("verified\n").count(), arrivals.len(), "{table}");
}

#[tokio::test]
async fn subscribers_and_how_they_stand() {
    let (well, gone) = (Subscriber::start().await, Subscriber::start().await);
    gone.script([Reply::status(204), Reply::status(410)]);
    let gateway = Setup::new()
        .route("magpipe")
        .subscriber("well", &well)
        .subscriber("gone", &gone)
        // Nobody listens there.
        .subscriber_at("away", "http://127.0.0.1:1/events?token=hunter2", "schedule = [\"0s\"]")
        .start()
        .await;
    for _ in 0..20 {
        gateway.accept(&gateway.sample("magpipe", "call-completed")).await;
    }
    let admin = format!("http://{}", gateway.admin());
    let look = async || {
        gateway
            .run(&["subscribers", "--json", "--admin", &admin])
            .await
            .json_lines()
    };
    let stand = eventually("all of them as they are", async || {
        let stand = look().await;
        let is_so = stand[0]["state"] == "down" && stand[1]["state"] == "stopped" && stand[2]["cursor"] == 20;
        let is_told = stand[0]["dead"].as_u64() >= Some(10) && stand[1]["last_delivered_at"].is_string();
        (is_so && is_told).then_some(stand)
    })
    .await;
    let [away, gone_one, well_one] = &stand[..] else {
        panic!("{stand:?}")
    };
    assert_eq!(
        (&away["name"], &away["url"]),
        (&"away".into(), &"http://127.0.0.1:1/events".into())
    );
    assert_eq!(
        (&away["last_failure"], &away["last_delivered_at"]),
        (&"connect".into(), &Value::Null)
    );
    assert!(away["since"].is_string());
    assert_eq!(
        (&gone_one["last_failure"], &gone_one["last_status"]),
        (&"gone".into(), &410.into())
    );
    // What it did not get is ahead of its cursor, or waits behind it.
    let left = |member: &str| gone_one[member].as_u64().expect("it is a count");
    assert!(left("lag") + left("waiting") > 0, "{gone_one}");
    assert_eq!((&well_one["state"], &well_one["cursor"]), (&"up".into(), &20.into()));
    assert_eq!(
        (&well_one["waiting"], &well_one["dead"], &well_one["since"]),
        (&0.into(), &0.into(), &Value::Null)
    );

    let table = gateway.run(&["subscribers", "--admin", &admin]).await.success();
    assert!(!table.contains("hunter2"), "{table}");
    let hint = "gone is stopped: the subscriber answered 410 Gone; `callfeed deliveries resume gone` goes on with it";
    assert!(table.contains(hint), "{table}");
    assert_eq!(
        table.lines().filter(|line| line.contains("http://127.0.0.1:")).count(),
        3,
        "{table}"
    );

    gateway
        .run(&["deliveries", "resume", "gone", "--admin", &admin])
        .await
        .success();
    gone.wait_for(21).await;
    eventually("it is up again", async || {
        (look().await[1]["state"] == "up").then_some(())
    })
    .await;
}
