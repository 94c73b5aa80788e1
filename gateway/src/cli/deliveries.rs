//! `callfeed deliveries`.

use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{ConfigFile, Failure, Running, running::Reached, say, say_foreign, subscribers, table::Table};
use crate::{
    clock,
    event::EventId,
    store::{Attempt, Delivery, DeliveryState, History, Query},
};

/// List deliveries, show every attempt of one event, deliver it once more, or go on with a stopped subscriber.
///
/// `list` and `show` work while the gateway runs and while it does not; `replay` and
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
    /// Deliver one event, or many, once more, whatever became of them: at once, and then by the whole schedule.
    ///
    /// Many are those that the subscriber wants and that all of the options say, in the order of the feed. It waits while the
    /// subscriber owes all it may, and ends when it is stopped. One that ended goes on after the place it said last (--after).
    Replay(Replay),
    /// Go on with a subscriber that was stopped, as by its answer 410, from where it was.
    Resume {
        subscriber: String,
        #[command(flatten)]
        running: Running,
    },
}

#[derive(Debug, clap::Args)]
struct Replay {
    /// The event's id, evt_….
    #[arg(required_unless_present_any = ["dead", "since"], conflicts_with_all = ["dead", "since", "until", "kind", "route", "subject", "after"])]
    id: Option<EventId>,
    #[arg(long)]
    subscriber: String,
    /// Those that were given up.
    #[arg(long)]
    dead: bool,
    /// Events kept at this moment or later (RFC 3339).
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Events kept before this moment.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Only this type, or a family such as `call.*`.
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    #[arg(long)]
    route: Option<String>,
    /// Only events of this call, `<provider>/<id>`.
    #[arg(long)]
    subject: Option<String>,
    /// Only events after this place in the feed.
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<u64>,
    /// One step a line, as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    running: Running,
}

/// How long to leave a subscriber that owes all it may.
const FULL_PAUSE: Duration = Duration::from_millis(500);

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
        Command::Replay(replay) => match replay.id {
            Some(id) => {
                let path = format!("subscribers/{}/replay/{id}", replay.subscriber);
                replay.running.ask(file, &path).await
            }
            None => replay_many(file, &replay).await,
        },
        Command::Resume { subscriber, running } => running.ask(file, &format!("subscribers/{subscriber}/resume")).await,
    }
}

async fn replay_many(file: &ConfigFile, replay: &Replay) -> Result<(), Failure> {
    let gateway = replay.running.reach(file)?;
    let (mut total, mut after) = (0, replay.after.unwrap_or(0));
    let standing = standing(&gateway, &replay.subscriber).await?;
    let place = |name: &str| standing[name].as_u64().unwrap_or(0);
    let head = place("cursor") + place("lag");
    let mut is_waiting = false;
    loop {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("after", &after.to_string());
        if replay.dead {
            query.append_key_only("dead");
        }
        let times = [("since", replay.since), ("until", replay.until)];
        for (name, time) in times {
            time.map(|time| query.append_pair(name, &time.to_string()));
        }
        let texts = [
            ("type", &replay.kind),
            ("route", &replay.route),
            ("subject", &replay.subject),
        ];
        for (name, text) in texts {
            text.as_ref().map(|text| query.append_pair(name, text));
        }
        let path = format!("subscribers/{}/replay?{}", replay.subscriber, query.finish());
        let answer = gateway.post_json(&path).await?;
        if answer["full"] == true {
            let standing = self::standing(&gateway, &replay.subscriber).await?;
            if let Some(how) = subscribers::how_to_resume(&standing) {
                return Err(anyhow::anyhow!("{how}; then --after {after} goes on from here").into());
            }
            if !is_waiting {
                let (name, state) = (&replay.subscriber, standing["state"].as_str().unwrap_or_default());
                let waiting = &standing["waiting"];
                match replay.json {
                    true => say(&json!({ "waiting_for": name, "state": state, "owes": waiting }).to_string()),
                    false => say(&format!(
                        "waiting: {name} is {state} and owes {waiting} deliveries, as many as it may"
                    )),
                }
            }
            is_waiting = true;
            clock::sleep(FULL_PAUSE).await;
            continue;
        }
        is_waiting = false;
        let (Some(count), Some(last)) = (answer["replayed"].as_u64(), answer["last"].as_u64()) else {
            break;
        };
        (total, after) = (total + count, last);
        match replay.json {
            true => say(&json!({ "replayed": total, "after": after, "head": head.max(after) }).to_string()),
            false => say(&format!(
                "{total} replayed, at {after} of {}; --after {after} goes on from here",
                head.max(after)
            )),
        }
    }
    if !replay.json {
        say(&format!("done: {total} replayed"));
    }
    Ok(())
}

/// How the subscriber stands, as the gateway tells; nothing when it knows none of this name.
async fn standing(gateway: &Reached, subscriber: &str) -> anyhow::Result<Value> {
    let mut standings = gateway.get_json("subscribers").await?;
    let standings = standings.as_array_mut().into_iter().flatten();
    let mut of_this_one = standings.filter(|it| it["name"] == subscriber);
    Ok(of_this_one.next().map(Value::take).unwrap_or_default())
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
