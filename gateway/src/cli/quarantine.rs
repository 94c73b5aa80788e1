//! `callfeed quarantine`.

use std::io::{IsTerminal as _, Write as _};

use clap::Subcommand;
use serde_json::json;

use super::{ConfigFile, Failure, for_terminal, say, say_foreign, table::Table};
use crate::{event::RawWebhook, store::History};

/// Reads authentic webhooks that could not become events: nothing of them is lost. Works while the gateway runs and
/// while it does not.
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
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let history = History::open(&args.config.store()?).await?;
    match args.command {
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
            let entries = history.quarantine(limit, before).await?;
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
            let entry = history
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
