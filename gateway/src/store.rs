//! Keeps events durably and remembers how far each subscriber is. The two roads meet here and nowhere else.
//!
//! Callers hold a [`Store`], a cheap handle; no connection and no transaction leaves this room. What [`Store::keep`] has
//! answered survives `kill -9` and power loss.

use std::{sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use crate::{
    config::{self, From},
    event::{Event, EventId, Kept, RawWebhook},
};

mod mark;
mod sqlite;

/// What became of a call to the store that did not succeed, by what the caller must do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Nothing was kept; the caller may try again later, and the sender should.
    #[error("the store cannot write now: {0}")]
    Unavailable(String),
    /// As many writes as the configuration allows are waiting, or as many bytes as memory should hold of them. Nothing
    /// was kept.
    #[error("{0} writes are waiting for the disk, and there is no room for more")]
    Busy(usize),
    /// The file is damaged. The gateway must not start on it.
    #[error("{path} is damaged: {detail}. {remedy}")]
    Corrupt {
        path: String,
        detail: String,
        remedy: String,
    },
    /// The store cannot be opened at all.
    #[error("cannot open {path}: {detail}")]
    Open { path: String, detail: String },
    /// A statement about history failed to run.
    #[error("the store cannot read: {0}")]
    Read(String),
}

/// Whether the store takes writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Writable,
    /// The last write failed. It tries again by itself.
    Refusing,
    /// The disk failed to keep what it was given, and only a start of the gateway can find out what is there. Nothing that
    /// was accepted is lost.
    Broken,
}

/// What one webhook became, to be kept in one transaction.
#[derive(Debug)]
pub struct Submission {
    pub webhook: RawWebhook,
    pub outcome: Mapped,
}

/// An authentic webhook's outcome.
#[derive(Debug)]
pub enum Mapped {
    /// At least one, in order.
    Events(Vec<Event>),
    Quarantined {
        reason: Reason,
        detail: String,
    },
}

/// Why an authentic webhook could not become events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The plugin stopped abnormally, or used up its time or memory.
    Fault,
    /// The plugin did not understand its own provider.
    Rejected,
    /// What the plugin returned is no valid event.
    Invalid,
}

impl Reason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Rejected => "rejected",
            Self::Invalid => "invalid",
        }
    }
}

/// Where one submitted event is in the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is new.
    New(u64),
    /// It was kept before; the place it has had since then.
    Known(u64),
}

/// What a durable keep answers.
#[derive(Debug, Clone)]
pub enum Receipt {
    /// One place an event, in the order submitted.
    Events(Vec<Place>),
    /// The number under which the webhook, or the same one sent before, is in quarantine.
    Quarantined(u64),
}

/// How far a subscriber is.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Everything up to and including this place is settled or in `waiting`.
    pub cursor: u64,
    /// Deliveries behind the cursor that are not settled, by place.
    pub waiting: Vec<Waiting>,
    /// Deliveries ahead of the cursor that were given up, by place.
    pub dead_ahead: Vec<u64>,
    /// Set once the subscriber answered 410 or an operator stopped it.
    pub stopped: Option<Stopped>,
    pub breaker: Breaker,
    /// `None` before the first settlement.
    pub steady: Option<Steady>,
    /// By ticket.
    pub replays: Vec<Replay>,
}

/// The clock by which a loop measures pauses, and by which the times of its record are. It passes as time does, and goes on
/// from one process to the next.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Steady {
    pub at: Timestamp,
    /// How far it is ahead of the wall clock; negative when it is behind.
    pub ahead: SignedDuration,
}

/// What operators changed while a subscriber's loop was running.
#[derive(Debug, Clone, Default)]
pub struct Wishes {
    /// `None` once it was resumed.
    pub stopped: Option<Stopped>,
    /// Those that no settlement says are known, by ticket.
    pub replays: Vec<Replay>,
}

/// A delivery that an operator wants once more. It is in the retry set already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Larger than that of every earlier one.
    pub ticket: u64,
    pub seq: u64,
    pub subject: String,
    pub kept_at: Timestamp,
    /// The number of the last attempt on record; 0 when there is none.
    pub attempts: u32,
}

/// What is remembered of how a subscriber fared, so that a start does not fall upon one that is down. The default is that
/// of one that is well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Breaker {
    pub failures_in_a_row: u32,
    /// No attempt before this time of the loop's clock.
    pub not_before: Option<Timestamp>,
    /// Attempts that may be under way while it comes back; `None`: as many as configured.
    pub in_flight_limit: Option<usize>,
}

/// A delivery that waits for another attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    pub seq: u64,
    /// The event's subject: deliveries of one subject go in order.
    pub subject: String,
    /// When the event was kept. Not recorded with the delivery, but known from the event.
    pub kept_at: Timestamp,
    /// Attempts made so far; 0 when it is held back by an earlier delivery of its subject.
    pub attempts: u32,
    /// So many of them before its schedule began; 0 unless it was wanted once more.
    pub begun_after: u32,
    /// By the loop's clock.
    pub due_at: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    pub at: Timestamp,
    pub reason: String,
}

/// One HTTP try of a delivery, for the record.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub seq: u64,
    /// 1 for the first.
    pub number: u32,
    pub at: Timestamp,
    pub duration: Duration,
    /// `None` when no answer arrived.
    pub status: Option<u16>,
    /// `delivered`, or a short stable reason why not: `status`, `timeout`, `connect`, `redirect`, …
    pub outcome: String,
    /// Names and values as sent, secrets replaced; one `name: value` a line.
    pub request_headers: String,
    /// The first part of the answer, or of the error.
    pub response: String,
}

/// What changed for one subscriber since its last settlement; kept in one transaction.
#[derive(Debug, Clone, Default)]
pub struct Settlement {
    pub subscriber: String,
    /// When it was taken.
    pub steady: Steady,
    /// The new cursor; never smaller than before.
    pub cursor: u64,
    /// Added to, or replaced in, the retry set.
    pub waiting: Vec<Waiting>,
    /// Removed from the retry set because they are delivered.
    pub delivered: Vec<u64>,
    /// Given up: removed from the retry set and marked dead.
    pub dead: Vec<u64>,
    pub attempts: Vec<Attempt>,
    pub stopped: Option<Stopped>,
    /// `None`: as it was.
    pub breaker: Option<Breaker>,
    /// The loop knows of the replays up to this ticket: what it says of those deliveries is newer than they are.
    pub replays_known: Option<u64>,
}

/// Which part of history to list. All conditions must hold.
#[derive(Debug, Clone, Default)]
pub struct Query {
    pub route: Option<String>,
    /// Exact type, or a prefix with a trailing `*`.
    pub kind: Option<String>,
    pub subject: Option<String>,
    /// Asks about deliveries; [`History::events`] does not look at it.
    pub subscriber: Option<String>,
    /// Asks about deliveries; [`History::events`] does not look at it.
    pub state: Option<DeliveryState>,
    /// Events kept at this time or later, and their deliveries.
    pub since: Option<Timestamp>,
    /// Places smaller than this only: the way to the next page, newest first.
    pub before: Option<u64>,
    pub limit: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    Delivered,
    Waiting,
    Dead,
}

impl DeliveryState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Waiting => "waiting",
            Self::Dead => "dead",
        }
    }
}

/// What could be delivered to a subscriber once more.
#[derive(Debug, Clone, Default)]
pub struct Replayable {
    /// In feed order.
    pub events: Vec<Kept>,
    /// Deliveries in the subscriber's retry set.
    pub waiting: usize,
}

/// One event for one subscriber, as history tells it.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub subscriber: String,
    pub seq: u64,
    pub id: EventId,
    pub kind: String,
    pub subject: String,
    pub state: DeliveryState,
    pub attempts: u32,
    pub last_at: Option<Timestamp>,
    pub last_status: Option<u16>,
    /// When the next attempt is due, for waiting ones.
    pub due_at: Option<Timestamp>,
}

/// A webhook in quarantine.
#[derive(Debug, Clone)]
pub struct Quarantined {
    pub number: u64,
    pub reason: String,
    pub detail: String,
    pub webhook: RawWebhook,
}

/// Retention: what is older than these times may go.
#[derive(Debug, Clone)]
pub struct PruneBefore {
    /// By the time an event was kept, or a webhook received that is in quarantine.
    pub events: Timestamp,
    /// By the time an event was kept: it is not recognised any more when it comes again. Not later than `events`.
    pub ids: Timestamp,
    /// By the time a webhook was received.
    pub webhooks: Timestamp,
    /// By the time an attempt was made.
    pub attempts: Timestamp,
    /// Those who may hold events back: the subscribers of the configuration.
    pub subscribers: Arc<[String]>,
}

/// What one step of [`Store::prune`] removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneReport {
    pub events: usize,
    pub webhooks: usize,
    /// Attempts removed for their own age; those that went with their event are not counted.
    pub attempts: usize,
    /// The step reached its bound before it reached the end.
    pub more: bool,
}

/// Whose content is to be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// A call's, or a message's.
    Subject {
        /// The events' subject.
        subject: String,
        /// The routes of other providers: what their webhooks say is about something else, however alike the ids are.
        strangers: Vec<String>,
    },
    /// A person's, by a number as events have it: every call, message and lead that the number has a part in, however it
    /// was written.
    Number(String),
}

/// What was erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Erased {
    /// Events, with the webhooks they came from and what subscribers answered.
    pub events: usize,
    /// Webhooks that no event names: those in quarantine, and those that became nothing or were kept longer than their events.
    pub webhooks: usize,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub events: u64,
    pub dead: u64,
    pub waiting: u64,
    pub quarantined: u64,
}

/// How far a subscriber is, as history tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscriber {
    pub name: String,
    pub cursor: u64,
    pub waiting: u64,
    pub dead: u64,
    pub stopped: Option<Stopped>,
}

/// A cheap handle on the store.
#[derive(Debug, Clone)]
pub struct Store {
    engine: Engine,
}

#[derive(Debug, Clone)]
enum Engine {
    Sqlite(Arc<sqlite::Sqlite>),
}

impl Store {
    /// Opens the store for the one gateway that writes to it, and creates it where there is none.
    ///
    /// Fails with [`Error::Open`] when another gateway has it, when it was written by a newer callfeed or by another
    /// program, and with [`Error::Corrupt`] when it is damaged.
    pub async fn open(config: &config::Store) -> Result<Self, Error> {
        match &config.location {
            config::Location::Sqlite(path) => {
                let sqlite = sqlite::Sqlite::open(path.clone(), config.queue_max, config.disk_floor_bytes).await?;
                Ok(Self {
                    engine: Engine::Sqlite(Arc::new(sqlite)),
                })
            }
        }
    }

    /// Keeps what a webhook became. The answer comes after it is durable; events kept before are recognised and not
    /// kept twice.
    ///
    /// Fails with [`Error::Busy`] or [`Error::Unavailable`]; nothing is kept then. Dropping the future does not take the
    /// submission back.
    pub async fn keep(&self, submission: Submission) -> Result<Receipt, Error> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.keep(submission).await,
        }
    }

    /// Keeps what a webhook of the record, looked at again, became: its events, and it leaves quarantine; or why it is in
    /// quarantine still. `None` when the webhook is no longer there, or was emptied.
    ///
    /// Fails with [`Error::Unavailable`]; nothing is kept then.
    pub async fn keep_again(&self, webhook: u64, outcome: Mapped) -> Result<Option<Receipt>, Error> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.keep_again(webhook, outcome).await,
        }
    }

    /// Records what changed for a subscriber. Waits for its turn when many writes are queued.
    ///
    /// Fails with [`Error::Unavailable`]; nothing of it is recorded then, and it may be given again.
    pub async fn settle(&self, settlement: impl Into<Arc<Settlement>>) -> Result<(), Error> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.settle(settlement.into()).await,
        }
    }

    /// The newest durable place in the feed, told after each commit; 0 while there is none.
    pub fn head(&self) -> watch::Receiver<u64> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.head(),
        }
    }

    /// Whether writes succeed, as of the last one. Closed once the store is.
    pub fn health(&self) -> watch::Receiver<Health> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.health(),
        }
    }

    /// The events after a place, oldest first. Fewer than `limit` when there are no more, or when they are large; none
    /// at the end of the feed.
    pub async fn read(&self, after: u64, limit: usize) -> Result<Vec<Arc<Kept>>, Error> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.read(after, limit).await,
        }
    }

    /// The events at these places, in the order asked for. One that is gone is left out.
    pub async fn fetch(&self, seqs: &[u64]) -> Result<Vec<Arc<Kept>>, Error> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.fetch(seqs).await,
        }
    }

    /// How far a subscriber is. One never seen starts at the present head, and that is durable once answered.
    pub async fn progress(&self, subscriber: &str) -> Result<Progress, Error> {
        self.join(subscriber, From::Now).await
    }

    /// The same; one never seen starts there.
    pub async fn join(&self, subscriber: &str, from: From) -> Result<Progress, Error> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.progress(subscriber, from).await,
        }
    }

    /// What operators want of a subscriber, and no settlement tells yet.
    pub async fn wishes(&self, subscriber: &str) -> Result<Wishes, Error> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.wishes(subscriber).await,
        }
    }

    /// Puts events into a subscriber's retry set, for its loop to deliver once more. Places without an event are left out.
    pub async fn replay(&self, subscriber: &str, seqs: Vec<u64>) -> Result<(), Error> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.replay(subscriber, seqs).await,
        }
    }

    /// Lets a stopped subscriber go on from its cursor.
    pub async fn resume(&self, subscriber: &str) -> Result<(), Error> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.resume(subscriber).await,
        }
    }

    /// One small, bounded step of retention. Call it again while the report says that there is more.
    ///
    /// Keeps an event that a subscriber of the configuration, stopped ones aside, has not settled or that waits for another
    /// attempt, whatever its age. One that is no longer configured holds nothing back, and when it is configured again it
    /// goes on from its cursor, with what is left. The newest event and the newest webhook always stay: they carry the
    /// numbering.
    pub async fn prune(&self, before: PruneBefore) -> Result<PruneReport, Error> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.prune(before).await,
        }
    }

    /// Erases what the store holds of a call or a person: each event becomes a tombstone that keeps its place and its id and
    /// says nothing, and is not delivered any more; its webhook and the answers to its deliveries are emptied, and so are
    /// webhooks that speak of it and that no event names. What comes while it is at work is erased, too. With `dry_run` it
    /// only counts.
    ///
    /// What was erased is overwritten on disk as far as SQLite can tell.
    pub async fn erase(&self, whose: Whose, dry_run: bool) -> Result<Erased, Error> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.erase(whose, dry_run).await,
        }
    }

    /// Refuses new writes, commits those that wait, and gives the store free. Every later call fails.
    ///
    /// Dropping the last handle does the same, some time later and without a word about it.
    pub async fn close(&self) -> Result<(), Error> {
        match &self.engine {
            Engine::Sqlite(sqlite) => sqlite.close().await,
        }
    }

    pub fn history(&self) -> History {
        match &self.engine {
            Engine::Sqlite(sqlite) => History {
                engine: Reading::Sqlite(sqlite.readers()),
            },
        }
    }
}

/// What happened, newest first. Reads only, also while a gateway of another process writes.
///
/// A page ends early when its rows are large; the end of the list is an empty page.
#[derive(Debug, Clone)]
pub struct History {
    engine: Reading,
}

#[derive(Debug, Clone)]
enum Reading {
    Sqlite(Arc<sqlite::Readers>),
}

impl History {
    /// Opens an existing store for reading. Fails with [`Error::Open`] where there is none.
    pub async fn open(config: &config::Store) -> Result<Self, Error> {
        match &config.location {
            config::Location::Sqlite(path) => Ok(Self {
                engine: Reading::Sqlite(Arc::new(sqlite::Readers::open(path.clone()).await?)),
            }),
        }
    }

    pub async fn events(&self, query: Query) -> Result<Vec<Kept>, Error> {
        match &self.engine {
            Reading::Sqlite(readers) => readers.events(query).await,
        }
    }

    pub async fn event(&self, id: EventId) -> Result<Option<Kept>, Error> {
        match &self.engine {
            Reading::Sqlite(readers) => readers.event(id).await,
        }
    }

    /// Whether it was kept, and is remembered: its id may be remembered for longer than the event.
    pub async fn knows(&self, id: EventId) -> Result<bool, Error> {
        match &self.engine {
            Reading::Sqlite(readers) => readers.knows(id).await,
        }
    }

    /// Deliveries that were tried, wait or were given up. A page never splits the deliveries of one event, so it may
    /// have a few more than `limit`.
    pub async fn deliveries(&self, query: Query) -> Result<Vec<Delivery>, Error> {
        match &self.engine {
            Reading::Sqlite(readers) => readers.deliveries(query).await,
        }
    }

    /// What `query` asks for of one subscriber's events after a place and before a time, in feed order. Of its states only
    /// dead is looked at.
    pub async fn replayable(&self, query: Query, after: u64, until: Option<Timestamp>) -> Result<Replayable, Error> {
        match &self.engine {
            Reading::Sqlite(readers) => readers.replayable(query, after, until).await,
        }
    }

    /// Every recorded attempt of an event, each with its subscriber, oldest first within a subscriber.
    pub async fn attempts(&self, id: EventId, subscriber: Option<String>) -> Result<Vec<(String, Attempt)>, Error> {
        match &self.engine {
            Reading::Sqlite(readers) => readers.attempts(id, subscriber).await,
        }
    }

    /// Webhooks in quarantine with numbers smaller than `before`.
    pub async fn quarantine(&self, limit: usize, before: Option<u64>) -> Result<Vec<Quarantined>, Error> {
        match &self.engine {
            Reading::Sqlite(readers) => readers.quarantine(limit, before).await,
        }
    }

    pub async fn quarantined(&self, number: u64) -> Result<Option<Quarantined>, Error> {
        match &self.engine {
            Reading::Sqlite(readers) => readers.quarantined(number).await,
        }
    }

    /// The webhook an event came from, while it is kept.
    pub async fn webhook(&self, id: EventId) -> Result<Option<RawWebhook>, Error> {
        match &self.engine {
            Reading::Sqlite(readers) => readers.webhook(id).await,
        }
    }

    /// The webhook of this number, while it is kept.
    pub async fn webhook_numbered(&self, number: u64) -> Result<Option<RawWebhook>, Error> {
        match &self.engine {
            Reading::Sqlite(readers) => readers.webhook_numbered(number).await,
        }
    }

    /// Numbers of the webhooks of a route that became events, oldest first: those received at `since` or later, after a
    /// number.
    pub async fn webhooks(&self, route: &str, since: Timestamp, after: u64, limit: usize) -> Result<Vec<u64>, Error> {
        match &self.engine {
            Reading::Sqlite(readers) => readers.webhooks(route.to_owned(), since, after, limit).await,
        }
    }

    /// What a webhook became, in feed order.
    pub async fn events_of(&self, webhook: u64) -> Result<Vec<Kept>, Error> {
        match &self.engine {
            Reading::Sqlite(readers) => readers.events_of(webhook).await,
        }
    }

    /// Every subscriber the store knows, by name, also one that is no longer configured.
    pub async fn subscribers(&self) -> Result<Vec<Subscriber>, Error> {
        match &self.engine {
            Reading::Sqlite(readers) => readers.subscribers().await,
        }
    }

    pub async fn counts(&self) -> Result<Counts, Error> {
        match &self.engine {
            Reading::Sqlite(readers) => readers.counts().await,
        }
    }
}

#[cfg(test)]
mod contract;
