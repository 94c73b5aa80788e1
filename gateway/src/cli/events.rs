//! `callfeed events`.

use clap::Subcommand;
use jiff::Timestamp;

use super::{ConfigFile, Failure, say, say_foreign, table::Table};
use crate::{
    event::{EventId, Kept},
    store::{History, Query},
};

/// List or show events of the feed.
///
/// Works while the gateway runs and while it does not.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Events, newest first.
    List(List),
    /// One event, as delivered.
    Show {
        /// The event's id, evt_….
        id: EventId,
        /// The webhook it was made of instead: the secrets in its head replaced, its body as received.
        #[arg(long)]
        raw: bool,
    },
}

#[derive(Debug, clap::Args)]
struct List {
    /// Only events of this route.
    #[arg(long)]
    route: Option<String>,
    /// Only this type, or a family such as `call.*`.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only this subject, <provider>/<call id>.
    #[arg(long)]
    subject: Option<String>,
    /// Only events kept since this moment (RFC 3339).
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only events before this place in the feed: the way to the next page.
    #[arg(long, value_name = "SEQUENCE")]
    before: Option<u64>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// One event a line, as delivered.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let history = History::open(&args.config.store()?).await?;
    match args.command {
        Command::List(list) => {
            let query = Query {
                route: list.route,
                kind: list.kind,
                subject: list.subject,
                since: list.since,
                before: list.before,
                limit: list.limit,
                ..Query::default()
            };
            let events = history.events(query).await?;
            print(&events, list.json);
            if !list.json && events.len() == list.limit {
                let last = events.last().map_or(0, |event| event.seq);
                say(&format!("more: --before {last}"));
            }
            Ok(())
        }
        Command::Show { id, raw: false } => {
            let event = history
                .event(id)
                .await?
                .ok_or_else(|| anyhow::anyhow!("there is no event {id}"))?;
            say_foreign(&String::from_utf8_lossy(&event.json));
            Ok(())
        }
        Command::Show { id, raw: true } => {
            let webhook = history.webhook(id).await?;
            let webhook = webhook.ok_or_else(|| {
                anyhow::anyhow!("no webhook is kept for {id}: there is no such event, or store.keep_webhooks is over")
            })?;
            super::quarantine::print_webhook(&webhook);
            Ok(())
        }
    }
}

fn print(events: &[Kept], json: bool) {
    if json {
        for event in events {
            say_foreign(&String::from_utf8_lossy(&event.json));
        }
        return;
    }
    let table = Table::new(&[
        ("sequence", 8),
        ("kept at", 20),
        ("route", 12),
        ("type", 18),
        ("subject", 48),
        ("id", 30),
    ]);
    say(&table.head());
    for event in events {
        say(&table.row(&[
            event.seq.to_string(),
            format!("{:.0}", event.kept_at),
            event.route.clone(),
            event.kind.clone(),
            event.subject.clone(),
            event.id.to_string(),
        ]));
    }
}
