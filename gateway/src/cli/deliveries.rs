//! `callfeed deliveries`.

use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use serde_json::json;

use super::{ConfigFile, Failure, Running, say, say_foreign, table::Table};
use crate::{
    event::EventId,
    store::{Attempt, Delivery, DeliveryState, History, Query},
};

/// What was delivered to whom. `list` and `show` work while the gateway runs and while it does not; `replay` and
/// `resume` ask the running gateway, at `admin.listen`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigFile,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Deliveries, newest event first.
    List(List),
    /// Every attempt to deliver one event.
    Show {
        /// The event's id, evt_….
        id: EventId,
        /// Only attempts for this subscriber.
        #[arg(long)]
        subscriber: Option<String>,
        /// One attempt a line, as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Deliver one event once more, whatever became of it: at once, and then by the whole schedule.
    Replay {
        /// The event's id, evt_….
        id: EventId,
        #[arg(long)]
        subscriber: String,
        #[command(flatten)]
        running: Running,
    },
    /// Go on with a subscriber that was stopped, as by its answer 410, from where it was.
    Resume {
        subscriber: String,
        #[command(flatten)]
        running: Running,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    Delivered,
    /// Waiting for another attempt.
    Waiting,
    /// Given up after the last attempt.
    Dead,
}

#[derive(Debug, clap::Args)]
struct List {
    #[arg(long)]
    subscriber: Option<String>,
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only this type, or a family such as `call.*`.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only events kept since this moment (RFC 3339).
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only events before this place in the feed: the way to the next page.
    #[arg(long, value_name = "SEQUENCE")]
    before: Option<u64>,
    /// At most so many.
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// One delivery a line, as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: Args) -> Result<(), Failure> {
    let file = &args.config;
    let history = async || Ok::<_, Failure>(History::open(&file.store()?).await?);
    match args.command {
        Command::List(list) => {
            let query = Query {
                subscriber: list.subscriber,
                state: list.state.map(|state| match state {
                    State::Delivered => DeliveryState::Delivered,
                    State::Waiting => DeliveryState::Waiting,
                    State::Dead => DeliveryState::Dead,
                }),
                kind: list.kind,
                since: list.since,
                before: list.before,
                limit: list.limit,
                ..Query::default()
            };
            let deliveries = history().await?.deliveries(query).await?;
            print(&deliveries, list.json);
            if !list.json && deliveries.len() == list.limit {
                let last = deliveries.last().map_or(0, |delivery| delivery.seq);
                say(&format!("more: --before {last}"));
            }
            Ok(())
        }
        Command::Show { id, subscriber, json } => {
            let history = history().await?;
            if history.event(id).await?.is_none() {
                return Err(anyhow::anyhow!("there is no event {id}").into());
            }
            for (subscriber, attempt) in history.attempts(id, subscriber).await? {
                show(&subscriber, &attempt, json);
            }
            Ok(())
        }
        Command::Replay {
            id,
            subscriber,
            running,
        } => {
            running
                .ask(file, &format!("subscribers/{subscriber}/replay/{id}"))
                .await
        }
        Command::Resume { subscriber, running } => running.ask(file, &format!("subscribers/{subscriber}/resume")).await,
    }
}

fn print(deliveries: &[Delivery], json: bool) {
    let table = Table::new(&[
        ("sequence", 8),
        ("subscriber", 16),
        ("state", 9),
        ("attempts", 8),
        ("status", 6),
        ("next attempt", 20),
        ("type", 18),
        ("id", 30),
    ]);
    if !json {
        say(&table.head());
    }
    for delivery in deliveries {
        let status = delivery
            .last_status
            .map(|status| status.to_string())
            .unwrap_or_default();
        if json {
            say(&json!({
                "sequence": delivery.seq, "subscriber": delivery.subscriber, "state": delivery.state.as_str(),
                "attempts": delivery.attempts, "last_status": delivery.last_status,
                "last_at": delivery.last_at.map(|at| at.to_string()), "due_at": delivery.due_at.map(|at| at.to_string()),
                "type": delivery.kind, "subject": delivery.subject, "id": delivery.id.as_str(),
            })
            .to_string());
            continue;
        }
        say(&table.row(&[
            delivery.seq.to_string(),
            delivery.subscriber.clone(),
            delivery.state.as_str().to_owned(),
            delivery.attempts.to_string(),
            status,
            delivery.due_at.map(|at| format!("{at:.0}")).unwrap_or_default(),
            delivery.kind.clone(),
            delivery.id.to_string(),
        ]));
    }
}

fn show(subscriber: &str, attempt: &Attempt, json: bool) {
    let milliseconds = attempt.duration.as_secs_f64() * 1e3;
    if json {
        say(&json!({
            "subscriber": subscriber, "attempt": attempt.number, "at": attempt.at.to_string(),
            "milliseconds": milliseconds, "status": attempt.status, "outcome": attempt.outcome,
            "request_headers": attempt.request_headers, "response": attempt.response,
        })
        .to_string());
        return;
    }
    let status = attempt
        .status
        .map_or_else(|| "no answer".to_owned(), |status| status.to_string());
    say(&format!(
        "{subscriber}: attempt {} at {:.3}: {} ({status}) in {milliseconds:.1} ms",
        attempt.number, attempt.at, attempt.outcome
    ));
    for line in attempt.request_headers.lines() {
        say(&format!("    > {line}"));
    }
    for line in attempt.response.lines() {
        say_foreign(&format!("    < {line}"));
    }
}
