//! Follows the feed for one subscriber: does what [`Core`] decides, and tells it what came of it.
//!
//! The loop owns its state and waits for one thing at a time: something that happened, the feed's head, the next due
//! time, the stop. Reading, recording and every attempt run beside it, so that it never waits for a disk or a socket.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    sync::{Notify, watch},
    task::{self, AbortHandle, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    deliver::{Attempted, Courier, Outcome, Reason},
    dispatch::{Core, Due},
    filter::passes,
    metrics::Meters,
    privacy::Censor,
    schedule::NextStep,
    sign::Signer,
    standing::{Board, Failed},
};
use crate::{
    clock::{self, Steady},
    config::Subscriber,
    event::Kept,
    store::{self, Progress, Store, Wishes},
};

/// How long to leave the store alone after it failed.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How often a loop that cannot read, and so does not watch the feed's head, measures how far it is behind.
const MEASURE_EVERY: Duration = Duration::from_secs(10);

/// How often it is said again that a subscriber is down, or that deliveries were given up for their age.
const SAY_AGAIN: Duration = Duration::from_secs(10 * 60);

/// What following takes. Shared by the loop and its attempts.
pub(super) struct Follower {
    pub(super) subscriber: Subscriber,
    pub(super) keep_events: Duration,
    pub(super) store: Store,
    pub(super) censor: Censor,
    pub(super) signer: Signer,
    pub(super) courier: Courier,
    pub(super) meters: Meters,
    pub(super) board: Arc<Board>,
    /// Begin nothing new.
    pub(super) stop: CancellationToken,
    /// Wait for nothing any more.
    pub(super) abandon: CancellationToken,
    pub(super) record_changed: Notify,
    /// Counts erasures: what was read before one is not delivered after it.
    pub(super) erasures: Arc<AtomicU64>,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follower")
            .field("subscriber", &self.subscriber.name)
            .finish_non_exhaustive()
    }
}

impl Follower {
    pub(super) fn look_again(&self) {
        self.record_changed.notify_one();
    }

    /// Whether it is for this subscriber as it is now, wherever in the file it stands, and gives up at the same age.
    pub(super) fn serves(&self, subscriber: &Subscriber, keep_events: Duration) -> bool {
        let line = self.subscriber.line;
        let same = Subscriber {
            line,
            ..subscriber.clone()
        };
        same == self.subscriber && keep_events == self.keep_events
    }

    /// Begins nothing new.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits for nothing any more.
    pub(super) fn abandon(&self) {
        self.abandon.cancel();
    }

    fn name(&self) -> &str {
        &self.subscriber.name
    }

    /// Follows the feed until told to stop, from where the record says unless it is handed in. A loop that broke down starts again where its record ends.
    pub(super) async fn follow(self: Arc<Self>, progress: Option<Progress>) {
        let mut known = progress;
        loop {
            let progress = match known.take() {
                Some(progress) => Ok(progress),
                None => self.store.progress(self.name()).await,
            };
            match progress {
                Ok(progress) => {
                    let mut run = JoinSet::new();
                    run.spawn(Loop::new(Arc::clone(&self), progress).run());
                    match run.join_next().await {
                        Some(Err(broken)) => {
                            error!(subscriber = self.name(), error = %broken, "the loop broke down and starts again");
                        }
                        Some(Ok(())) | None => return,
                    }
                }
                Err(error) => warn!(subscriber = self.name(), %error, "failed to read the subscriber's progress"),
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = clock::sleep(STORE_PAUSE) => {}
            }
        }
    }

    /// One attempt, from the event to the outcome.
    async fn attempt(self: Arc<Self>, due: Due) -> Happened {
        let event = match due.event {
            Some(event) => event,
            None => match self.store.fetch(&[due.seq]).await.map(|mut events| events.pop()) {
                // It waited since before the subscriber's block was changed.
                Ok(Some(event)) if !passes(&self.subscriber.filter, &event) => return Happened::Unwanted,
                Ok(Some(event)) => event,
                Ok(None) => return Happened::Lost,
                Err(error) => return Happened::Unread(error),
            },
        };
        let began = clock::now();
        let signed = self.signer.sign_body(&event.id, &self.censor.apply(&event.json), began);
        Happened::Ended {
            began,
            attempted: self.courier.deliver(signed).await,
        }
    }
}

/// What a task beside the loop has to tell.
enum Happened {
    Ended {
        began: Timestamp,
        attempted: Attempted,
    },
    /// The event could not be read, so nothing was attempted.
    Unread(store::Error),
    /// The event is no longer in the store.
    Lost,
    /// The filter does not let the event pass.
    Unwanted,
    Read(Result<Vec<Arc<Kept>>, store::Error>),
    Recorded(Result<(), store::Error>),
    LookedUp(Result<Wishes, store::Error>),
}

struct Loop {
    with: Arc<Follower>,
    core: Core,
    clock: Steady,
    /// As many as the events in memory have been read after.
    erasures: u64,
    head: watch::Receiver<u64>,
    tasks: JoinSet<Happened>,
    /// The attempts among the tasks.
    attempts: HashMap<task::Id, (Due, AbortHandle)>,
    reading: Reading,
    recording: Recording,
    /// The record has to be looked up.
    look_again: bool,
    /// A settlement was with the store since it was looked up last.
    settled_last: bool,
    down_since: Option<Timestamp>,
    /// When to say again that it is down.
    say_down: Timestamp,
    /// Given up for their age, and not said yet.
    expired: u64,
    /// When to say of more.
    say_expired: Timestamp,
    /// It was said that reading has stopped.
    was_full: bool,
}

enum Reading {
    Ready,
    UnderWay {
        /// When it began.
        erasures: u64,
    },
    /// The store failed, or had nothing before this head.
    NotBefore {
        at: Timestamp,
    },
    Closed,
}

enum Recording {
    Ready,
    /// A settlement or a look-up is with the store. They take turns, because one that overtakes the other would tell of
    /// deliveries that are settled as if they were waiting.
    UnderWay,
    /// The store failed while we were stopping. What it does not know is delivered again.
    GivenUp,
}

impl Loop {
    fn new(with: Arc<Follower>, progress: Progress) -> Self {
        let wall = clock::aging();
        let now = Core::begins_at(&progress, wall);
        let ahead = now.duration_since(wall);
        Self {
            core: Core::new(&with.subscriber, with.keep_events, progress, now, ahead),
            clock: Steady::from(now),
            erasures: with.erasures.load(Ordering::Acquire),
            head: with.store.head(),
            tasks: JoinSet::new(),
            attempts: HashMap::new(),
            reading: Reading::Ready,
            recording: Recording::Ready,
            look_again: false,
            settled_last: false,
            down_since: None,
            say_down: Timestamp::MIN,
            expired: 0,
            say_expired: Timestamp::MIN,
            was_full: false,
            with,
        }
    }

    async fn run(mut self) {
        loop {
            let now = self.look_at_clock();
            if !self.is_stopping() {
                self.look_for_erasures();
                self.core.expire(now);
                self.attempt(now);
                self.read(now);
            }
            self.record(now);
            self.measure(now);
            if self.is_over() {
                return;
            }
            self.wait(now).await;
        }
    }

    /// What is in memory may have been erased since it was read.
    fn look_for_erasures(&mut self) {
        let erasures = self.with.erasures.load(Ordering::Acquire);
        if std::mem::replace(&mut self.erasures, erasures) != erasures {
            self.core.forget_events();
        }
    }

    fn look_at_clock(&mut self) -> Timestamp {
        let now = self.clock.now();
        self.core.look_at_clock(now.duration_since(clock::aging()));
        now
    }

    fn attempt(&mut self, now: Timestamp) {
        while let Some(due) = self.core.next(now) {
            // Only the attempt itself holds the event.
            let known = Due { event: None, ..due };
            let handle = self.tasks.spawn(Arc::clone(&self.with).attempt(due));
            self.attempts.insert(handle.id(), (known, handle));
        }
    }

    fn read(&mut self, now: Timestamp) {
        match self.reading {
            Reading::UnderWay { .. } | Reading::Closed => return,
            Reading::NotBefore { at } if now < at => return,
            Reading::NotBefore { at: _ } | Reading::Ready => self.reading = Reading::Ready,
        }
        let head = *self.head.borrow_and_update();
        let (after, room) = (self.core.read_to(), self.core.room());
        if head > after && room > 0 {
            self.reading = Reading::UnderWay {
                erasures: self.erasures,
            };
            let store = self.with.store.clone();
            self.tasks
                .spawn(async move { Happened::Read(store.read(after, room).await) });
        }
    }

    fn record(&mut self, now: Timestamp) {
        match self.recording {
            Recording::Ready => {}
            Recording::UnderWay | Recording::GivenUp => return,
        }
        let store = self.with.store.clone();
        // With a slow disk a settlement is always due; who asked for something has a turn all the same.
        let has_turn = self.look_again && std::mem::take(&mut self.settled_last) && !self.is_stopping();
        let is_due = self.is_stopping() || self.core.settlement_due().is_some_and(|at| at <= now);
        if is_due
            && !has_turn
            && let Some(settlement) = self.core.take_settlement(now)
        {
            self.recording = Recording::UnderWay;
            self.settled_last = true;
            self.tasks
                .spawn(async move { Happened::Recorded(store.settle(settlement).await) });
        } else if self.look_again && !self.is_stopping() {
            self.look_again = false;
            self.recording = Recording::UnderWay;
            let name = self.with.name().to_owned();
            self.tasks
                .spawn(async move { Happened::LookedUp(store.wishes(&name).await) });
        }
    }

    fn measure(&mut self, now: Timestamp) {
        let lag = self.head.borrow().saturating_sub(self.core.cursor());
        self.with.meters.levels(lag, self.core.waiting(), self.core.in_flight());
        let subscriber = self.with.name();
        let is_down = self.core.is_down();
        self.with.meters.breaker(is_down);
        let was_down = self.down_since.is_some();
        if is_down && (!was_down || self.say_down <= now) {
            self.say_down = after(now, SAY_AGAIN);
            let oldest = self.core.oldest().unwrap_or(now).min(now);
            warn!(
                subscriber,
                oldest_undelivered = %format_args!("{:#}", now.duration_since(oldest)),
                "subscriber is down: one attempt at a time, with pauses, until one gets through"
            );
        } else if was_down && !is_down {
            info!(subscriber, "subscriber is back");
        }
        self.down_since = is_down.then(|| self.down_since.unwrap_or_else(clock::now));
        let mut seen = self.with.board.write();
        seen.cursor = self.core.cursor();
        seen.lag = lag;
        seen.waiting = self.core.waiting();
        seen.in_flight = self.core.in_flight();
        seen.down_since = self.down_since;
        drop(seen);
        let expired = self.core.take_expired();
        self.with.meters.expired(expired);
        self.expired += expired;
        if self.expired > 0 && (self.say_expired <= now || self.is_stopping()) {
            self.say_expired = after(now, SAY_AGAIN);
            warn!(
                subscriber,
                deliveries = self.expired,
                "older than store.keep_events and never delivered: given up, dead"
            );
            self.expired = 0;
        }
        // Said once: at the bound, each delivery that is settled makes room for one more.
        if self.core.is_full() && !self.was_full {
            self.was_full = true;
            warn!(
                subscriber = self.with.name(),
                waiting = self.core.waiting(),
                "subscriber owes as many deliveries as it may: nothing more is read for it until some are settled"
            );
        } else if self.was_full && self.core.is_half_empty() {
            self.was_full = false;
        }
    }

    /// Waits until there may be something to do.
    async fn wait(&mut self, now: Timestamp) {
        let sleep = self
            .wake_at(now)
            .map(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default());
        let with = Arc::clone(&self.with);
        let is_stopping = self.is_stopping();
        tokio::select! {
            Some(happened) = self.tasks.join_next_with_id() => {
                self.happened(happened);
                while let Some(happened) = self.tasks.try_join_next_with_id() {
                    self.happened(happened);
                }
            }
            changed = self.head.changed(), if !is_stopping && self.watches_head() => {
                if changed.is_err() {
                    // The store is closed, which ends the reading and leaves the rest to the stop.
                    self.reading = Reading::Closed;
                }
            }
            () = clock::sleep(sleep.unwrap_or_default()), if sleep.is_some() => {}
            () = with.record_changed.notified() => self.look_again = true,
            () = with.stop.cancelled(), if !is_stopping => {}
            () = with.abandon.cancelled(), if is_stopping && !self.attempts.is_empty() => {
                for (_, handle) in self.attempts.values() {
                    handle.abort();
                }
                // Every one of them tells of its end, so this is not reached twice.
                while let Some(happened) = self.tasks.join_next_with_id().await {
                    self.happened(happened);
                }
            }
        }
    }

    fn watches_head(&self) -> bool {
        matches!(self.reading, Reading::Ready) && self.core.room() > 0
    }

    fn wake_at(&self, now: Timestamp) -> Option<Timestamp> {
        if self.is_stopping() {
            return None;
        }
        let recording = match self.recording {
            Recording::Ready => self.core.settlement_due(),
            Recording::UnderWay | Recording::GivenUp => None,
        };
        let reading = match self.reading {
            Reading::NotBefore { at } => Some(at),
            Reading::Ready if !self.watches_head() => Some(after(now, MEASURE_EVERY)),
            Reading::Ready | Reading::UnderWay { .. } | Reading::Closed => None,
        };
        let saying = (self.expired > 0).then_some(self.say_expired);
        [
            self.core.attempt_due(),
            self.core.expiry_due(),
            recording,
            reading,
            saying,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn happened(&mut self, happened: Result<(task::Id, Happened), JoinError>) {
        let now = self.look_at_clock();
        match happened {
            Ok((id, happened)) => match (happened, self.attempts.remove(&id)) {
                (Happened::Ended { began, attempted }, Some((due, _))) => self.ended(due, began, attempted, now),
                (Happened::Unread(error), Some((due, _))) => {
                    warn!(subscriber = self.with.name(), seq = due.seq, %error, "failed to read an event");
                    self.core.postponed(due, after(now, STORE_PAUSE));
                }
                (Happened::Lost, Some((due, _))) => {
                    warn!(
                        subscriber = self.with.name(),
                        seq = due.seq,
                        "the event is gone, the delivery is dead"
                    );
                    self.core.lost(due, now);
                }
                (Happened::Unwanted, Some((due, _))) => {
                    debug!(
                        subscriber = self.with.name(),
                        seq = due.seq,
                        "the filter does not let it pass any more"
                    );
                    self.core.unwanted(due, now);
                }
                (Happened::Read(read), None) => self.was_read(read, now),
                (Happened::Recorded(recorded), None) => self.was_recorded(recorded, now),
                (Happened::LookedUp(wishes), None) => self.was_looked_up(wishes, now),
                (Happened::Ended { .. } | Happened::Unread(_) | Happened::Lost | Happened::Unwanted, None)
                | (Happened::Read(_) | Happened::Recorded(_) | Happened::LookedUp(_), Some(_)) => {
                    unreachable!("attempts, and only attempts, are listed")
                }
            },
            Err(error) => match self.attempts.remove(&error.id()) {
                Some((due, _)) if error.is_cancelled() => self.core.postponed(due, now),
                Some((due, _)) => {
                    error!(subscriber = self.with.name(), seq = due.seq, %error, "an attempt broke down");
                    let attempted = Attempted {
                        outcome: Outcome::failed(Reason::Internal),
                        duration: Duration::ZERO,
                        request_headers: String::new(),
                        response: "the attempt broke down".to_owned(),
                    };
                    self.ended(due, clock::now(), attempted, now);
                }
                // Without its reading or recording the loop would stand still; it starts again instead.
                None => panic!("a task of the store broke down: {error}"),
            },
        }
    }

    fn ended(&mut self, due: Due, began: Timestamp, attempted: Attempted, now: Timestamp) {
        let (seq, number, took) = (due.seq, due.number, attempted.duration);
        let (outcome, status) = (attempted.outcome.as_str(), attempted.outcome.status());
        let step = self.core.ended(due, began, attempted, now, clock::chance());
        self.with.meters.ended(step, took);
        let subscriber = self.with.name();
        match step {
            NextStep::Done => self.with.board.write().last_delivered = Some(clock::now()),
            NextStep::Again(_) | NextStep::Dead | NextStep::Stop => {
                self.with.board.write().last_failed = Some(Failed {
                    at: clock::now(),
                    outcome,
                    status,
                });
            }
        }
        match step {
            NextStep::Done => debug!(subscriber, seq, number, status, "delivered"),
            NextStep::Again(at) => debug!(
                subscriber,
                seq,
                number,
                outcome,
                status,
                again_in = %format_args!("{:#}", at.duration_since(now)),
                "failed to deliver"
            ),
            NextStep::Dead => warn!(
                subscriber,
                seq, number, outcome, status, "all attempts are spent, it is dead"
            ),
            NextStep::Stop => warn!(subscriber, seq, "subscriber answered 410 and is stopped"),
        }
    }

    fn was_read(&mut self, read: Result<Vec<Arc<Kept>>, store::Error>, now: Timestamp) {
        let is_stale = match self.reading {
            Reading::UnderWay { erasures } => erasures != self.with.erasures.load(Ordering::Acquire),
            Reading::Ready | Reading::NotBefore { .. } | Reading::Closed => false,
        };
        self.reading = match read {
            Ok(_) if is_stale => Reading::Ready,
            // Not what the head promised; asking at once would be asking for ever.
            Ok(events) if events.is_empty() => Reading::NotBefore {
                at: after(now, STORE_PAUSE),
            },
            Ok(events) => {
                self.say_missing(&events);
                self.core.feed(events, now);
                Reading::Ready
            }
            Err(error) => {
                warn!(subscriber = self.with.name(), %error, "failed to read the feed");
                Reading::NotBefore {
                    at: after(now, STORE_PAUSE),
                }
            }
        };
    }

    /// Places have no gaps, but what is kept long enough is removed also before a subscriber that is stopped.
    fn say_missing(&self, events: &[Arc<Kept>]) {
        let (Some(first), Some(last)) = (events.first(), events.last()) else {
            return;
        };
        let missing = last.seq - self.core.read_to() - events.len() as u64;
        if missing > 0 {
            self.with.meters.expired(missing);
            warn!(
                subscriber = self.with.name(),
                events = missing,
                before = %first.id,
                "older than store.keep_events and removed while the subscriber was stopped: it never gets them"
            );
        }
    }

    fn was_recorded(&mut self, recorded: Result<(), store::Error>, now: Timestamp) {
        self.recording = Recording::Ready;
        match recorded {
            Ok(()) => self.core.settled(),
            Err(error) => {
                warn!(subscriber = self.with.name(), %error, "failed to record deliveries");
                self.core.not_settled(now);
                if self.is_stopping() {
                    self.recording = Recording::GivenUp;
                }
            }
        }
    }

    fn was_looked_up(&mut self, wishes: Result<Wishes, store::Error>, now: Timestamp) {
        self.recording = Recording::Ready;
        match wishes {
            Ok(wishes) => self.core.grant(wishes, now),
            Err(error) => warn!(subscriber = self.with.name(), %error, "failed to look up what operators want"),
        }
    }

    fn is_stopping(&self) -> bool {
        self.with.stop.is_cancelled()
    }

    fn is_over(&self) -> bool {
        let recorded = match self.recording {
            Recording::Ready => self.core.is_at_rest(),
            Recording::UnderWay => false,
            Recording::GivenUp => true,
        };
        self.is_stopping() && self.core.in_flight() == 0 && recorded
    }
}

fn after(now: Timestamp, pause: Duration) -> Timestamp {
    now.checked_add(pause).unwrap_or(now)
}
