//! `callfeed quarantine`.

use std::io::{IsTerminal as _, Write as _};

use clap::Subcommand;
use serde_json::json;

use super::{
    ConfigFile, Failure, Running, for_terminal,
    running::{Answer, Reached},
    say, say_foreign,
    table::Table,
};
use crate::{event::RawWebhook, store::History};

/// Webhooks that are read at once.
const PAGE: usize = 500;

/// List, show or retry authentic webhooks that could not become events.
///
/// Nothing of them is lost. `list` and `show` work while the gateway runs
/// and while it does not; `retry` asks the running gateway, at `admin.listen`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Webhooks in quarantine, newest first.
    List {
        /// Only numbers smaller than this: the way to the next page.
        #[arg(long, value_name = "NUMBER")]
        before: Option<u64>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: usize,
        /// One webhook a line, as JSON, without its body.
        #[arg(long)]
        json: bool,
    },
    /// One webhook: why it is here, its head with secrets replaced, and its body as received.
    Show {
        /// Its number, from the list.
        number: u64,
        /// One JSON object; the body as text when it is text, else as base64.
        #[arg(long)]
        json: bool,
    },
    /// Have the plugin look again, after it was corrected. What a webhook becomes takes the next places in the feed, with its
    /// own time.
    Retry(Retry),
}

#[derive(Debug, clap::Args)]
#[group(id = "which", required = true, multiple = false)]
struct Which {
    /// Its number, from the list.
    number: Option<u64>,
    /// Every webhook in quarantine, the oldest first. Can be stopped at any time, and done again.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, clap::Args)]
struct Retry {
    #[command(flatten)]
    which: Which,
    /// Of all, only those of this route.
    #[arg(long, requires = "all")]
    route: Option<String>,
    /// One webhook a line, as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let history = async || Ok::<_, Failure>(History::open(&args.config.store()?).await?);
    match args.command {
        Command::Retry(retry) => {
            let gateway = retry.running.reach(&args.config)?;
            let numbers = match retry.which.number {
                Some(number) => vec![number],
                None => all(&history().await?, retry.route.as_deref()).await?,
            };
            look_again(&gateway, &numbers, retry.json).await
        }
        Command::List { before, limit, json } => {
            let table = Table::new(&[
                ("number", 6),
                ("received at", 20),
                ("route", 12),
                ("reason", 8),
                ("detail", 60),
            ]);
            if !json {
                say(&table.head());
            }
            let entries = history().await?.quarantine(limit, before).await?;
            for entry in &entries {
                let webhook = &entry.webhook;
                if json {
                    say(
                        &json!({ "number": entry.number, "received_at": webhook.received_at.to_string(),
                        "route": webhook.route, "reason": entry.reason, "detail": entry.detail,
                        "body_bytes": webhook.body.len() })
                        .to_string(),
                    );
                    continue;
                }
                say(&table.row(&[
                    entry.number.to_string(),
                    format!("{:.0}", webhook.received_at),
                    webhook.route.clone(),
                    entry.reason.clone(),
                    entry.detail.clone(),
                ]));
            }
            if !json && entries.len() == limit {
                let last = entries.last().map_or(0, |entry| entry.number);
                say(&format!("more: --before {last}"));
            }
            Ok(())
        }
        Command::Show { number, json } => {
            let entry = history()
                .await?
                .quarantined(number)
                .await?
                .ok_or_else(|| anyhow::anyhow!("there is no webhook {number} in quarantine"))?;
            if json {
                say_foreign(
                    &json!({ "number": entry.number, "reason": entry.reason, "detail": entry.detail,
                    "webhook": webhook_json(&entry.webhook) })
                    .to_string(),
                );
                return Ok(());
            }
            say_foreign(&format!("{}: {}", entry.reason, entry.detail));
            say("");
            print_webhook(&entry.webhook);
            Ok(())
        }
    }
}

/// The numbers of all in quarantine, the oldest first.
async fn all(history: &History, route: Option<&str>) -> Result<Vec<u64>, Failure> {
    let (mut numbers, mut before) = (Vec::new(), None);
    loop {
        let page = history.quarantine(PAGE, before).await?;
        let Some(last) = page.last() else {
            numbers.reverse();
            return Ok(numbers);
        };
        before = Some(last.number);
        let wanted = page
            .iter()
            .filter(|entry| route.is_none_or(|route| entry.webhook.route == route));
        numbers.extend(wanted.map(|entry| entry.number));
    }
}

async fn look_again(gateway: &Reached, numbers: &[u64], json: bool) -> Result<(), Failure> {
    let mut released = 0;
    for number in numbers {
        let mut answer = match gateway.post_one(&format!("quarantine/{number}/retry")).await? {
            Answer::Done(answer) => answer,
            Answer::NotThisOne(why) => json!({ "released": false, "failed": why }),
        };
        let is_released = answer["released"] == true;
        released += usize::from(is_released);
        if json {
            answer["number"] = (*number).into();
            say(&answer.to_string());
            continue;
        }
        let text = |name: &str| answer[name].as_str().unwrap_or_default();
        if is_released {
            let ids = answer["events"].as_array().into_iter().flatten();
            let ids: Vec<_> = ids.filter_map(|id| id.as_str()).collect();
            match ids[..] {
                [] => say(&format!("{number}: released; the plugin has nothing to report of it")),
                _ => say(&format!("{number}: released as {}", ids.join(", "))),
            }
        } else if answer["failed"].is_string() {
            say_foreign(&format!("{number}: failed: {}", text("failed")));
        } else {
            say_foreign(&format!("{number}: stays: {}: {}", text("reason"), text("detail")));
        }
    }
    if !json && numbers.len() != 1 {
        say(&format!("{released} of {} released", numbers.len()));
    }
    match released == numbers.len() {
        true => Ok(()),
        false => Err(Failure::Silent),
    }
}

/// A webhook as it came in, head and body.
pub(super) fn print_webhook(webhook: &RawWebhook) {
    say(&format!(
        "# received {} on route {}",
        webhook.received_at, webhook.route
    ));
    say_foreign(&format!("{} {} HTTP/1.1", webhook.method, webhook.target));
    for (name, value) in &webhook.headers {
        say_foreign(&format!("{name}: {value}"));
    }
    say("");
    let mut stdout = std::io::stdout();
    // A reader that went away is no failure.
    drop(if stdout.is_terminal() {
        writeln!(stdout, "{}", for_terminal(&String::from_utf8_lossy(&webhook.body)))
    } else {
        stdout.write_all(&webhook.body).and_then(|()| stdout.write_all(b"\n"))
    });
}

fn webhook_json(webhook: &RawWebhook) -> serde_json::Value {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let (body, body_base64) = match std::str::from_utf8(&webhook.body) {
        Ok(text) => (Some(text), None),
        Err(_) => (None, Some(BASE64_STANDARD.encode(&webhook.body))),
    };
    json!({ "route": webhook.route, "received_at": webhook.received_at.to_string(), "method": webhook.method,
        "target": webhook.target, "headers": webhook.headers, "peer": webhook.peer, "form": webhook.form,
        "payload": webhook.payload, "body": body, "body_base64": body_base64 })
}
