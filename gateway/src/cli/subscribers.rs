//! `callfeed subscribers`.

use serde_json::Value;

use super::{ConfigFile, Failure, Running, say, table::Table};

/// Show how each subscriber stands.
///
/// Whether it is up, how far it is, what waits for it. Asks the running gateway, at
/// `admin.listen`; last attempts are those since it was started.
///
/// One that is down is asked by one attempt at a time until one gets through. One that is stopped, as by its answer 410,
/// goes on with `callfeed deliveries resume`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(flatten)]
    running: Running,
    /// One subscriber a line, as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let answer = args.running.reach(&args.config)?.get_json("subscribers").await?;
    let subscribers = answer.as_array().map(Vec::as_slice).unwrap_or_default();
    if args.json {
        for subscriber in subscribers {
            say(&subscriber.to_string());
        }
    } else {
        print(subscribers);
    }
    Ok(())
}

fn print(subscribers: &[Value]) {
    let table = Table::new(&[
        ("subscriber", 16),
        ("state", 7),
        ("since", 20),
        ("cursor", 9),
        ("lag", 8),
        ("waiting", 7),
        ("in flight", 9),
        ("dead", 6),
        ("last delivered", 20),
        ("last failed", 31),
        ("url", 30),
    ]);
    say(&table.head());
    for subscriber in subscribers {
        let cell = |name: &str| text(&subscriber[name]);
        let failed = ["last_failed_at", "last_failure", "last_status"].map(cell);
        say(&table.row(&[
            cell("name"),
            cell("state"),
            cell("since"),
            cell("cursor"),
            cell("lag"),
            cell("waiting"),
            cell("in_flight"),
            cell("dead"),
            cell("last_delivered_at"),
            failed.join(" ").trim_end().to_owned(),
            cell("url"),
        ]));
    }
    for how in subscribers.iter().filter_map(how_to_resume) {
        say(&how);
    }
}

/// What to do about one that is stopped.
pub(super) fn how_to_resume(subscriber: &Value) -> Option<String> {
    let (name, reason) = (text(&subscriber["name"]), text(&subscriber["reason"]));
    (subscriber["state"] == "stopped")
        .then(|| format!("{name} is stopped: {reason}; `callfeed deliveries resume {name}` goes on with it"))
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
