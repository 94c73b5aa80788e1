//! Decides what a subscriber's loop does next: what to attempt, how much to read, what to record.
//!
//! Pure: a [`Core`] is told what happened and when, and says what to do. It opens no connection and reads no clock, so a
//! seeded run can drive it through years of failures in a moment.
//!
//! Its times are those of a clock that passes as time does ([`clock::Steady`](crate::clock::Steady)), across restarts as
//! well, so that no pause becomes longer or shorter when the wall clock is set. What is for people, and the age of an event,
//! goes by the wall clock.
//!
//! What must stay true:
//!
//! - Deliveries stand in lines, those of one subject in one, or each in its own where order does not matter. Those of one
//!   line are attempted one at a time and in feed order; only the first is ever due.
//! - One that is given up lets those behind it go on once that is durable: a crash that forgot it would have it attempted
//!   after them.
//! - If a delivery waits, all before it in its line wait, also the one in flight: after a crash what waits is attempted
//!   before anything is read again.
//! - A settlement's cursor never passes a delivery that is neither settled nor in the retry set as recorded up to and with
//!   that settlement. So whatever a crash forgets is read again.
//! - No more than `waiting_max` deliveries are remembered at once, beside those that waited ahead of the cursor when a
//!   process ended, and of those only a window keeps its event in memory.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    breaker::Breaker,
    deliver::Attempted,
    rate::{Bucket, later},
    schedule::{NextStep, Schedule},
};
use crate::{
    config::{Filter, Order, Subscriber},
    event::{ERASED, Kept},
    store::{self, Attempt, Progress, Replay, Settlement, Steady, Stopped, Waiting, Wishes},
};

/// Most events asked of the store at once.
const READ_MAX: usize = 256;
/// Events in memory for one subscriber, in flight or about to be: at least this many …
const WINDOW_MIN: usize = 256;
/// … and no more reading past this many bytes of them.
const WINDOW_BYTES: usize = 16 << 20;

/// How long outcomes gather before they are recorded. A crash within this time means that they are delivered again.
const RECORD_AFTER: SignedDuration = SignedDuration::from_millis(20);
/// So many attempts are recorded without waiting for more.
const RECORD_AT: usize = 256;
/// With so many attempts unrecorded the disk is too far behind, and no more are made until it has caught up.
const RECORD_MAX: usize = 2048;

/// A cursor that only passed events the subscriber does not want is recorded this late …
const CURSOR_AFTER: SignedDuration = SignedDuration::from_millis(100);
/// … or after so many events.
const CURSOR_AT: u64 = 1000;

/// A delivery this far behind what was read enters the retry set, even while it is in flight, so that a crash does not
/// repeat everything that was delivered since.
const CURSOR_LAG_MAX: u64 = 1000;

/// Deliveries given up for their age at once. Others have their turn before the next of them.
const EXPIRE_AT_ONCE: usize = 256;
/// One that is in flight when its time is over is looked at again after this, unless it is settled by then.
const EXPIRE_AGAIN: SignedDuration = SignedDuration::from_mins(1);
/// How the record says that a delivery was given up for its age, where it says how an attempt ended …
const EXPIRED: (&str, &str) = (
    "expired",
    "given up without another attempt: the event is older than store.keep_events",
);
/// … or because the subscriber wants no such event any more.
const UNWANTED: (&str, &str) = (
    "unwanted",
    "given up without another attempt: the subscriber's types and where do not let the event pass any more",
);

/// How long to wait before a settlement that failed is tried again.
const SETTLE_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// How much is remembered, and done at once.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) window: usize,
    pub(super) window_bytes: usize,
    pub(super) record_at: usize,
    pub(super) record_max: usize,
    pub(super) cursor_at: u64,
    pub(super) cursor_lag_max: u64,
    pub(super) expire_at_once: usize,
}

impl Bounds {
    fn of(subscriber: &Subscriber) -> Self {
        Self {
            window: WINDOW_MIN.max(2 * subscriber.in_flight_max),
            window_bytes: WINDOW_BYTES,
            record_at: RECORD_AT,
            record_max: RECORD_MAX,
            cursor_at: CURSOR_AT,
            cursor_lag_max: CURSOR_LAG_MAX,
            expire_at_once: EXPIRE_AT_ONCE,
        }
    }
}

/// One delivery that is due for an attempt. Only [`Core::next`] makes one, and the core must be told what became of it.
#[derive(Debug, Clone)]
pub struct Due {
    pub seq: u64,
    /// 1 for the first.
    pub number: u32,
    /// `None`: it waited in the retry set and must be fetched.
    pub event: Option<Arc<Kept>>,
}

/// Everything one subscriber's loop has to remember.
#[derive(Debug)]
pub struct Core {
    subscriber: String,
    filter: Filter,
    schedule: Schedule,
    order: Order,
    rate: Option<Bucket>,
    breaker: Breaker,
    waiting_max: usize,
    bounds: Bounds,
    /// For how long an event can be delivered.
    keep_events: Duration,

    /// Everything up to and including this place was read.
    read: u64,
    /// All that is not settled.
    deliveries: HashMap<u64, Delivery>,
    lines: HashMap<Place, Line>,
    /// Given up and not on record yet, by place: the line that waits for it.
    dying: HashMap<u64, Place>,
    /// The first of every line that has none in flight and waits for no record, by when it is due.
    due: BTreeSet<(Timestamp, u64)>,
    /// Deliveries that are not in the retry set. The cursor stays before the first of them.
    open: BTreeSet<u64>,
    in_flight: usize,
    /// Deliveries whose event is in memory, and its bytes.
    window: usize,
    window_bytes: usize,
    /// Deliveries whose time was over when it was looked at last, the oldest first.
    overdue: VecDeque<u64>,
    /// No other delivery's time is over before this.
    overdue_next: Timestamp,
    /// Given up for their age since it was asked last.
    expired: u64,
    /// In the retry set ahead of what was read: they have their turn when those before them are known.
    waiting_ahead: BTreeMap<u64, Waiting>,
    /// Given up ahead of the cursor, and not read again yet.
    dead_ahead: BTreeSet<u64>,
    stopped: bool,
    /// The ticket of the last replay that is known.
    replays_known: u64,
    /// How far its clock is ahead of the wall clock.
    ahead: SignedDuration,
    record: Record,
}

#[derive(Debug)]
struct Delivery {
    line: Place,
    subject: Arc<str>,
    event: Option<Arc<Kept>>,
    kept_at: Timestamp,
    /// Attempts that ended.
    attempts: u32,
    due_at: Timestamp,
    in_flight: bool,
    /// In the retry set, on disk or about to be.
    waiting: bool,
}

/// Where a delivery stands in line.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Place {
    Of(Arc<str>),
    Alone(u64),
}

/// Unsettled deliveries that wait for each other, in feed order.
#[derive(Debug, Default)]
struct Line {
    seqs: VecDeque<u64>,
    in_flight: bool,
    /// So many before the first are given up, and that is not durable yet.
    dying: usize,
}

/// What is to be recorded.
#[derive(Debug)]
struct Record {
    /// What becomes of deliveries that are, or were, in the retry set, or are dead.
    fates: BTreeMap<u64, Fate>,
    attempts: Vec<Attempt>,
    stopped: Option<Stopped>,
    /// When the first of these was learned.
    since: Option<Timestamp>,
    /// When the first event was passed over.
    passed_since: Option<Timestamp>,
    /// The cursor as handed out last.
    cursor: u64,
    /// The breaker as handed out last.
    breaker: store::Breaker,
    /// The ticket of the last replay that is known, if no settlement told of it yet.
    replays_known: Option<u64>,
    /// Put into the retry set ahead of what was read, and not on record as known.
    ahead: BTreeSet<u64>,
    /// Handed out, and not known to be durable.
    outstanding: Option<Outstanding>,
}

#[derive(Debug)]
struct Outstanding {
    settlement: Arc<Settlement>,
    /// `None` while it is with the store.
    again_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Waiting,
    Delivered,
    Dead,
}

impl Core {
    /// When the loop's clock begins that takes up this record: as far ahead of the wall clock as it was, but never before
    /// what it showed last.
    pub fn begins_at(progress: &Progress, wall: Timestamp) -> Timestamp {
        progress
            .steady
            .map_or(wall, |steady| later(wall, steady.ahead).max(steady.at))
    }

    /// Takes up a subscriber where its record ends. What is older than `keep_events` is not delivered any more.
    pub fn new(
        subscriber: &Subscriber,
        keep_events: Duration,
        progress: Progress,
        now: Timestamp,
        ahead: SignedDuration,
    ) -> Self {
        let mut core = Self {
            subscriber: subscriber.name.clone(),
            filter: subscriber.filter.clone(),
            schedule: Schedule::new(subscriber.schedule.clone()),
            order: subscriber.order,
            rate: subscriber.rate.map(|rate| Bucket::new(rate, now)),
            breaker: Breaker::new(subscriber.in_flight_max, progress.breaker),
            waiting_max: subscriber.waiting_max.max(1),
            bounds: Bounds::of(subscriber),
            keep_events,
            read: progress.cursor,
            deliveries: HashMap::new(),
            lines: HashMap::new(),
            dying: HashMap::new(),
            due: BTreeSet::new(),
            open: BTreeSet::new(),
            in_flight: 0,
            window: 0,
            window_bytes: 0,
            overdue: VecDeque::new(),
            overdue_next: Timestamp::MAX,
            expired: 0,
            waiting_ahead: BTreeMap::new(),
            dead_ahead: progress.dead_ahead.into_iter().collect(),
            stopped: progress.stopped.is_some(),
            replays_known: 0,
            ahead,
            record: Record {
                fates: BTreeMap::new(),
                attempts: Vec::new(),
                stopped: None,
                since: None,
                passed_since: None,
                cursor: progress.cursor,
                breaker: progress.breaker,
                replays_known: None,
                ahead: BTreeSet::new(),
                outstanding: None,
            },
        };
        for waiting in progress.waiting {
            let waiting = Waiting {
                kept_at: later(waiting.kept_at, ahead),
                ..waiting
            };
            if waiting.seq > core.read {
                core.waiting_ahead.insert(waiting.seq, waiting);
            } else {
                core.take_up(waiting);
            }
        }
        core.replay(progress.replays, now);
        core
    }

    /// Tells how far the clock of every `now` is ahead of the wall clock, which may have been set since it was told last.
    pub fn look_at_clock(&mut self, ahead: SignedDuration) {
        self.ahead = ahead;
    }

    /// Does what operators want: delivers once more, and goes on, or stops, as the record says.
    ///
    /// Must not be called with what was read while a settlement was with the store: it may have stopped the subscriber.
    pub fn grant(&mut self, wishes: Wishes, now: Timestamp) {
        // What is in memory and not yet durable is newer than the record.
        self.stopped = wishes.stopped.is_some() || self.is_stopping();
        self.replay(wishes.replays, now);
    }

    fn replay(&mut self, replays: Vec<Replay>, now: Timestamp) {
        // It may take a while until the record says that they are known.
        let known = self.replays_known;
        for replay in replays.into_iter().filter(|it| it.ticket > known) {
            self.replays_known = replay.ticket;
            self.record.replays_known = Some(replay.ticket);
            self.record.since.get_or_insert(now);
            let seq = replay.seq;
            if let Some(delivery) = self.deliveries.get_mut(&seq) {
                // The attempt under way is as good as another.
                if !delivery.in_flight {
                    self.due.remove(&(delivery.due_at, seq));
                    delivery.due_at = delivery.due_at.min(now);
                    let line = delivery.line.clone();
                    self.arm(&line);
                }
                self.set_aside_up_to(seq, now);
                continue;
            }
            let waiting = Waiting {
                seq,
                attempts: self.last_attempt(seq).max(replay.attempts),
                subject: replay.subject,
                kept_at: later(replay.kept_at, self.ahead),
                due_at: now,
            };
            if seq > self.read {
                self.waiting_ahead.insert(seq, waiting);
                self.record.ahead.insert(seq);
            } else {
                self.live_again(seq);
                self.take_up(waiting);
                self.record.fates.insert(seq, Fate::Waiting);
                self.set_aside_up_to(seq, now);
            }
        }
    }

    /// The number of the last attempt that is not known to be on record; 0 when there is none.
    fn last_attempt(&self, seq: u64) -> u32 {
        let outstanding = self.record.outstanding.iter().flat_map(|it| &it.settlement.attempts);
        let attempts = self.record.attempts.iter().chain(outstanding);
        let numbers = attempts
            .filter(|attempt| attempt.seq == seq)
            .map(|attempt| attempt.number);
        numbers.max().unwrap_or(0)
    }

    /// One that was given up, and is not on its way to the record, holds up nobody: it is owed again.
    fn live_again(&mut self, seq: u64) {
        if self.record.fates.remove(&seq) == Some(Fate::Dead)
            && let Some(line) = self.dying.remove(&seq)
        {
            self.release(&line);
        }
    }

    /// Puts one of the retry set into its line.
    fn take_up(&mut self, waiting: Waiting) {
        let Waiting {
            seq,
            subject,
            kept_at,
            attempts,
            due_at,
        } = waiting;
        self.enqueue(seq, &subject, kept_at, None, attempts, due_at);
        self.deliveries.get_mut(&seq).expect("enqueued just now").waiting = true;
    }

    /// How many events to read now, after [`Core::read_to`]. None while the subscriber is stopped, or while it owes as many
    /// deliveries as it may.
    pub fn room(&self) -> usize {
        if self.stopped || self.window_bytes >= self.bounds.window_bytes || !self.can_record() {
            return 0;
        }
        let window = self.bounds.window.saturating_sub(self.window);
        self.waiting_max
            .saturating_sub(self.deliveries.len())
            .min(window)
            .min(READ_MAX)
    }

    /// Takes in what was read after [`Core::read_to`], in feed order.
    pub fn feed(&mut self, events: Vec<Arc<Kept>>, now: Timestamp) {
        for event in events {
            let seq = event.seq;
            self.read = self.read.max(seq);
            let waited = self.waiting_ahead.remove(&seq);
            let is_dead = self.dead_ahead.remove(&seq);
            if waited.is_none() && (is_dead || !passes(&self.filter, &event)) {
                self.record.passed_since.get_or_insert(now);
                continue;
            }
            let attempts = waited.as_ref().map_or(0, |waited| waited.attempts);
            let kept_at = later(event.kept_at, self.ahead);
            if self.kept_until(kept_at) <= now {
                self.hold(seq, self.line_of(seq, &Arc::from(event.subject.as_str())));
                self.give_up(seq, attempts, EXPIRED, now);
                self.expired += 1;
                continue;
            }
            let first = self.schedule.first(kept_at, now);
            let due_at = waited.as_ref().map_or(first, |waited| waited.due_at);
            let known = Some(Arc::clone(&event));
            self.enqueue(seq, &event.subject, kept_at, known, attempts, due_at);
            self.open.insert(seq);
            if waited.is_some() || self.follows_waiting(seq) {
                self.set_aside_up_to(seq, now);
            }
        }
    }

    /// The next delivery to attempt, while there are slots for it.
    pub fn next(&mut self, now: Timestamp) -> Option<Due> {
        if self.stopped || now < self.breaker.not_before() || !self.has_slots() {
            return None;
        }
        let Some(&(_, seq)) = self.due.first().filter(|(due_at, _)| *due_at <= now) else {
            self.make_way(now);
            return None;
        };
        if self.rate.as_mut().is_some_and(|rate| !rate.take(now)) {
            return None;
        }
        self.due.pop_first();
        self.in_flight += 1;
        let delivery = self.deliveries.get_mut(&seq).expect("what is due is not settled");
        delivery.in_flight = true;
        self.lines
            .get_mut(&delivery.line)
            .expect("what is due stands in its line")
            .in_flight = true;
        Some(Due {
            seq,
            number: delivery.attempts + 1,
            event: delivery.event.clone(),
        })
    }

    /// Tells how the attempt of a [`Due`] begun at `began` ended, with `chance` in `0.0..1.0` for the jitter.
    pub fn ended(&mut self, due: Due, began: Timestamp, attempted: Attempted, now: Timestamp, chance: f64) -> NextStep {
        let Attempted {
            outcome,
            duration,
            request_headers,
            response,
        } = attempted;
        self.breaker.heard(&outcome, now, chance);
        self.record.since.get_or_insert(now);
        self.record.attempts.push(Attempt {
            seq: due.seq,
            number: due.number,
            at: began,
            duration,
            status: outcome.status(),
            outcome: outcome.as_str().to_owned(),
            request_headers,
            response,
        });
        let step = self.schedule.next(due.number, &outcome, now, chance);
        match step {
            NextStep::Done => self.settle(due.seq, Fate::Delivered, now),
            NextStep::Dead => self.settle(due.seq, Fate::Dead, now),
            NextStep::Again(at) => self.delay(due.seq, due.number, at, now),
            NextStep::Stop => {
                self.delay(due.seq, due.number, now, now);
                self.stopped = true;
                self.record.stopped = Some(Stopped {
                    at: self.wall(now),
                    reason: "the subscriber answered 410 Gone".to_owned(),
                });
            }
        }
        step
    }

    /// Tells that a [`Due`] could not be attempted, for reasons that are not the subscriber's. Not counted as an attempt.
    pub fn postponed(&mut self, due: Due, until: Timestamp) {
        self.land(due.seq);
        let delivery = self
            .deliveries
            .get_mut(&due.seq)
            .expect("what was in flight is not settled");
        delivery.due_at = until;
        let line = delivery.line.clone();
        self.arm(&line);
    }

    /// Tells that the event of a [`Due`] is no longer in the store. The delivery is dead, on record.
    pub fn lost(&mut self, due: Due, now: Timestamp) {
        self.settle(due.seq, Fate::Dead, now);
    }

    /// Tells that the event of a [`Due`], which waited, is none that the subscriber wants any more. The delivery is dead, on
    /// record.
    pub fn unwanted(&mut self, due: Due, now: Timestamp) {
        self.settle(due.seq, Fate::Dead, now);
        self.give_up(due.seq, due.number - 1, UNWANTED, now);
    }

    /// Has every event that is in memory read again when its turn comes: what is in the store is another one now.
    pub fn forget_events(&mut self) {
        for delivery in self.deliveries.values_mut() {
            delivery.event = None;
        }
        self.window = 0;
        self.window_bytes = 0;
    }

    /// Gives up deliveries whose event is older than events are kept, some at a time: a subscriber that is down for good
    /// would keep every event for ever.
    pub fn expire(&mut self, now: Timestamp) {
        if self.overdue.is_empty() && self.overdue_next <= now {
            self.look_for_overdue(now);
        }
        for _ in 0..self.bounds.expire_at_once {
            if !self.can_record() {
                return;
            }
            let Some(seq) = self.overdue.pop_front() else { return };
            // It may be settled by now.
            let Some(delivery) = self.deliveries.get(&seq) else {
                continue;
            };
            if delivery.in_flight {
                self.overdue_next = self.overdue_next.min(again_after(now));
                continue;
            }
            self.due.remove(&(delivery.due_at, seq));
            let attempts = delivery.attempts;
            self.remove(seq, Fate::Dead);
            self.give_up(seq, attempts, EXPIRED, now);
            self.expired += 1;
        }
    }

    /// When to call [`Core::expire`]; `None` while that would do nothing.
    pub fn expiry_due(&self) -> Option<Timestamp> {
        if !self.can_record() {
            None
        } else if self.overdue.is_empty() {
            Some(self.overdue_next).filter(|next| *next < Timestamp::MAX)
        } else {
            Some(Timestamp::MIN)
        }
    }

    /// How many were given up for their age since this was asked last.
    pub fn take_expired(&mut self) -> u64 {
        std::mem::take(&mut self.expired)
    }

    /// When the oldest event was kept that is read and not settled, by the loop's clock.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.deliveries.values().map(|delivery| delivery.kept_at).min()
    }

    /// When a settlement should be taken; `None` while there is nothing to record, or one is with the store.
    pub fn settlement_due(&self) -> Option<Timestamp> {
        let record = &self.record;
        if let Some(outstanding) = &record.outstanding {
            return outstanding.again_at;
        }
        let at_once = record.attempts.len() >= self.bounds.record_at
            || record.stopped.is_some()
            || self.cursor().saturating_sub(record.cursor) >= self.bounds.cursor_at;
        if at_once {
            return Some(Timestamp::MIN);
        }
        let after = |since: Option<Timestamp>, pause| since.map(|since| later(since, pause));
        [
            after(record.since, RECORD_AFTER),
            after(record.passed_since, CURSOR_AFTER),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// What is to be recorded now. `None` when there is nothing, or when one settlement is with the store already.
    ///
    /// One that failed is handed out again as it was, before any other, so that settlements become durable in order.
    pub fn take_settlement(&mut self, now: Timestamp) -> Option<Arc<Settlement>> {
        if let Some(outstanding) = &mut self.record.outstanding {
            outstanding.again_at.take()?;
            return Some(Arc::clone(&outstanding.settlement));
        }
        while let Some(&seq) = self
            .open
            .first()
            .filter(|seq| self.read - *seq > self.bounds.cursor_lag_max)
        {
            self.set_aside(seq, now);
        }
        let cursor = self.cursor();
        let record = &mut self.record;
        record.since = None;
        record.passed_since = None;
        let is_empty = record.fates.is_empty()
            && record.attempts.is_empty()
            && record.ahead.is_empty()
            && record.replays_known.is_none()
            && record.stopped.is_none();
        if cursor == record.cursor && is_empty {
            return None;
        }
        record.cursor = cursor;
        let breaker = self.breaker.recorded();
        let is_news = std::mem::replace(&mut record.breaker, breaker) != breaker;
        let mut settlement = Settlement {
            subscriber: self.subscriber.clone(),
            steady: Steady {
                at: now,
                ahead: self.ahead,
            },
            cursor,
            attempts: std::mem::take(&mut record.attempts),
            stopped: record.stopped.take(),
            breaker: is_news.then_some(breaker),
            replays_known: record.replays_known.take(),
            // What was read since has its fate.
            waiting: std::mem::take(&mut record.ahead)
                .iter()
                .filter_map(|seq| self.waiting_ahead.get(seq).cloned())
                .collect(),
            ..Settlement::default()
        };
        for (seq, fate) in std::mem::take(&mut record.fates) {
            match fate {
                Fate::Delivered => settlement.delivered.push(seq),
                Fate::Dead => settlement.dead.push(seq),
                Fate::Waiting => {
                    let delivery = self.deliveries.get(&seq).expect("what waits is not settled");
                    settlement.waiting.push(Waiting {
                        seq,
                        subject: delivery.subject.to_string(),
                        kept_at: delivery.kept_at,
                        attempts: delivery.attempts,
                        due_at: delivery.due_at,
                    });
                }
            }
        }
        let settlement = Arc::new(settlement);
        self.record.outstanding = Some(Outstanding {
            settlement: Arc::clone(&settlement),
            again_at: None,
        });
        Some(settlement)
    }

    /// Tells that the settlement taken last is durable.
    pub fn settled(&mut self) {
        let Some(outstanding) = self.record.outstanding.take() else {
            return;
        };
        for seq in &outstanding.settlement.dead {
            if let Some(line) = self.dying.remove(seq) {
                self.release(&line);
            }
        }
    }

    /// Tells that nothing of the settlement taken last was recorded.
    pub fn not_settled(&mut self, now: Timestamp) {
        if let Some(outstanding) = &mut self.record.outstanding {
            outstanding.again_at = Some(later(now, SETTLE_AGAIN));
        }
    }

    /// When to call [`Core::next`] again if nothing happens until then.
    pub fn attempt_due(&self) -> Option<Timestamp> {
        let (due_at, _) = self.due.first().filter(|_| !self.stopped && self.has_slots())?;
        let allowed_at = self.rate.as_ref().map_or(Timestamp::MIN, Bucket::back_at);
        Some(self.breaker.not_before().max(*due_at).max(allowed_at))
    }

    /// The place up to which everything was read.
    pub fn read_to(&self) -> u64 {
        self.read
    }

    /// The place up to which everything is settled or in the retry set.
    pub fn cursor(&self) -> u64 {
        self.open.first().map_or(self.read, |first| first - 1)
    }

    /// Deliveries in the retry set.
    pub fn waiting(&self) -> usize {
        self.deliveries.len() - self.open.len()
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Attempts are made one at a time, because so many failed in a row.
    pub fn is_down(&self) -> bool {
        self.breaker.is_open()
    }

    /// It owes as many deliveries as it may.
    pub fn is_full(&self) -> bool {
        self.deliveries.len() >= self.waiting_max
    }

    /// It owes far fewer deliveries than it may.
    pub fn is_half_empty(&self) -> bool {
        self.deliveries.len() <= self.waiting_max / 2
    }

    /// Nothing is in flight and nothing is left to record.
    pub fn is_at_rest(&self) -> bool {
        self.in_flight == 0 && self.record.outstanding.is_none() && self.settlement_due().is_none()
    }

    /// The subscriber's stop is not durable yet.
    pub(super) fn is_stopping(&self) -> bool {
        let outstanding = self.record.outstanding.as_ref();
        self.record.stopped.is_some() || outstanding.is_some_and(|it| it.settlement.stopped.is_some())
    }

    fn has_slots(&self) -> bool {
        self.in_flight < self.breaker.in_flight_limit() && self.can_record()
    }

    /// The disk is not too far behind.
    fn can_record(&self) -> bool {
        let outstanding = self
            .record
            .outstanding
            .as_ref()
            .map_or(0, |it| it.settlement.attempts.len());
        self.record.attempts.len() + outstanding + self.in_flight < self.bounds.record_max
    }

    fn wall(&self, at: Timestamp) -> Timestamp {
        later(at, -self.ahead)
    }

    fn kept_until(&self, kept_at: Timestamp) -> Timestamp {
        kept_at.saturating_add(self.keep_events).unwrap_or(Timestamp::MAX)
    }

    fn look_for_overdue(&mut self, now: Timestamp) {
        self.overdue_next = Timestamp::MAX;
        for (seq, delivery) in &self.deliveries {
            let until = self.kept_until(delivery.kept_at);
            if until > now {
                self.overdue_next = self.overdue_next.min(until);
            } else if delivery.in_flight {
                self.overdue_next = self.overdue_next.min(again_after(now));
            } else {
                self.overdue.push_back(*seq);
            }
        }
        self.overdue.make_contiguous().sort_unstable();
    }

    /// Records why a delivery was given up after so many attempts.
    fn give_up(&mut self, seq: u64, attempts: u32, (outcome, why): (&str, &str), now: Timestamp) {
        self.record.attempts.push(Attempt {
            seq,
            number: attempts + 1,
            at: self.wall(now),
            duration: Duration::ZERO,
            status: None,
            outcome: outcome.to_owned(),
            request_headers: String::new(),
            response: why.to_owned(),
        });
        self.record.fates.insert(seq, Fate::Dead);
        self.record.since.get_or_insert(now);
    }

    /// Moves a delivery and all before it in its line into the retry set, as far as they are not there.
    fn set_aside_up_to(&mut self, seq: u64, now: Timestamp) {
        let seqs = &self.lines[&self.deliveries[&seq].line].seqs;
        let place = seqs.partition_point(|other| *other <= seq);
        let mut open = Vec::new();
        for other in seqs.range(..place).rev() {
            if !self.deliveries[other].waiting {
                open.push(*other);
            } else if *other != seq {
                // All before one that waits wait already.
                break;
            }
        }
        for other in open {
            self.set_aside(other, now);
        }
    }

    /// The line for a delivery of this subject.
    fn line_of(&self, seq: u64, subject: &Arc<str>) -> Place {
        match self.order {
            Order::Call => Place::Of(Arc::clone(subject)),
            Order::None => Place::Alone(seq),
        }
    }

    /// Puts a delivery into its line.
    fn enqueue(
        &mut self,
        seq: u64,
        subject: &str,
        kept_at: Timestamp,
        event: Option<Arc<Kept>>,
        attempts: u32,
        due_at: Timestamp,
    ) {
        let subject = Arc::from(subject);
        let line_of = self.line_of(seq, &subject);
        let line = self.lines.entry(line_of.clone()).or_default();
        // Nearly always the end; what is replayed may belong before others.
        let place = line.seqs.partition_point(|other| *other < seq);
        if place == 0
            && !line.in_flight
            && let Some(first) = line.seqs.front()
        {
            self.due.remove(&(self.deliveries[first].due_at, *first));
        }
        line.seqs.insert(place, seq);
        if let Some(event) = &event {
            self.window += 1;
            self.window_bytes += event.json.len();
        }
        let delivery = Delivery {
            line: line_of.clone(),
            subject,
            event,
            kept_at,
            attempts,
            due_at,
            in_flight: false,
            waiting: false,
        };
        self.deliveries.insert(seq, delivery);
        self.overdue_next = self.overdue_next.min(self.kept_until(kept_at));
        if place == 0 {
            self.arm(&line_of);
        }
    }

    /// Makes the first of a line due, unless one of the line is in flight or the record is waited for.
    fn arm(&mut self, line: &Place) {
        if let Some(line) = self.lines.get(line)
            && !line.in_flight
            && line.dying == 0
            && let Some(first) = line.seqs.front()
        {
            self.due.insert((self.deliveries[first].due_at, *first));
        }
    }

    /// Whether the one before the last of its line waits.
    fn follows_waiting(&self, last: u64) -> bool {
        let seqs = &self.lines[&self.deliveries[&last].line].seqs;
        seqs.iter()
            .nth_back(1)
            .is_some_and(|other| self.deliveries[other].waiting)
    }

    /// Moves a delivery into the retry set. Its event leaves the memory and is fetched again when it is due.
    fn set_aside(&mut self, seq: u64, now: Timestamp) {
        let delivery = self
            .deliveries
            .get_mut(&seq)
            .expect("only unsettled deliveries are set aside");
        delivery.waiting = true;
        if let Some(event) = delivery.event.take() {
            self.window -= 1;
            self.window_bytes -= event.json.len();
        }
        self.open.remove(&seq);
        self.record.fates.insert(seq, Fate::Waiting);
        self.record.since.get_or_insert(now);
    }

    /// When the window is full of deliveries that cannot be attempted now, because an earlier one of their line is on its
    /// way or because of the first pause, they give way to those of other lines. The one on its way goes with them.
    fn make_way(&mut self, now: Timestamp) {
        if self.window < self.bounds.window && self.window_bytes < self.bounds.window_bytes {
            return;
        }
        let idle: Vec<u64> = self
            .open
            .iter()
            .copied()
            .filter(|seq| {
                let delivery = &self.deliveries[seq];
                !delivery.in_flight || self.lines[&delivery.line].seqs.back() != Some(seq)
            })
            .collect();
        for seq in idle {
            self.set_aside(seq, now);
        }
    }

    fn land(&mut self, seq: u64) {
        let delivery = self
            .deliveries
            .get_mut(&seq)
            .expect("what was in flight is not settled");
        delivery.in_flight = false;
        self.in_flight -= 1;
        self.lines
            .get_mut(&delivery.line)
            .expect("what was in flight stands in its line")
            .in_flight = false;
    }

    fn settle(&mut self, seq: u64, fate: Fate, now: Timestamp) {
        self.land(seq);
        let waited = self.remove(seq, fate).waiting;
        // The cursor says of all others that they are delivered.
        if waited || fate == Fate::Dead {
            self.record.fates.insert(seq, fate);
        }
        self.record.since.get_or_insert(now);
    }

    /// Takes a delivery that is not in flight out of its line, and makes the next one due; after one that is given up, once
    /// that is durable.
    fn remove(&mut self, seq: u64, fate: Fate) -> Delivery {
        let delivery = self.deliveries.remove(&seq).expect("removed is what is not settled");
        if let Some(event) = &delivery.event {
            self.window -= 1;
            self.window_bytes -= event.json.len();
        }
        self.open.remove(&seq);
        let line = self
            .lines
            .get_mut(&delivery.line)
            .expect("what is not settled stands in its line");
        match line.seqs.front() {
            Some(first) if *first == seq => drop(line.seqs.pop_front()),
            _ => line.seqs.retain(|other| *other != seq),
        }
        match fate {
            Fate::Dead => self.hold(seq, delivery.line.clone()),
            Fate::Delivered | Fate::Waiting => self.go_on(&delivery.line),
        }
        delivery
    }

    /// Those behind one that is given up wait until that is durable.
    fn hold(&mut self, seq: u64, line: Place) {
        self.lines.entry(line.clone()).or_default().dying += 1;
        self.dying.insert(seq, line);
    }

    fn release(&mut self, line: &Place) {
        self.lines
            .get_mut(line)
            .expect("a line stays while it waits for the record")
            .dying -= 1;
        self.go_on(line);
    }

    /// After one of a line is out of the way: the next one has its turn, if there is one.
    fn go_on(&mut self, place: &Place) {
        let line = &self.lines[place];
        if !line.seqs.is_empty() {
            self.arm(place);
        } else if line.dying == 0 {
            self.lines.remove(place);
        }
    }

    /// Puts a failed delivery off, and those behind it in its line with it.
    fn delay(&mut self, seq: u64, attempts: u32, due_at: Timestamp, now: Timestamp) {
        self.land(seq);
        let delivery = self
            .deliveries
            .get_mut(&seq)
            .expect("what was in flight is not settled");
        delivery.attempts = attempts;
        delivery.due_at = due_at;
        let line = delivery.line.clone();
        let behind: Vec<u64> = self.lines[&line]
            .seqs
            .iter()
            .copied()
            .filter(|other| *other >= seq)
            .collect();
        for other in behind {
            if other == seq || !self.deliveries[&other].waiting {
                self.set_aside(other, now);
            }
        }
        self.arm(&line);
    }
}

/// When to look again at one that is too old, but in flight: it may still arrive.
fn again_after(now: Timestamp) -> Timestamp {
    later(now, EXPIRE_AGAIN)
}

/// Whether a subscriber wants an event.
pub(super) fn passes(filter: &Filter, event: &Kept) -> bool {
    let Filter {
        types,
        routes,
        numbers,
        min_duration,
        test,
    } = filter;
    let facts = &event.facts;
    event.kind != ERASED
        && (types.is_empty() || types.iter().any(|pattern| pattern.matches(&event.kind)))
        && (routes.is_empty() || routes.contains(&event.route))
        && (numbers.is_empty()
            || facts
                .numbers
                .iter()
                .any(|number| numbers.iter().any(|pattern| pattern.matches(number))))
        && min_duration.is_none_or(|min| {
            facts
                .duration_seconds
                .is_some_and(|seconds| seconds >= min.as_secs_f64())
        })
        && test.is_none_or(|test| facts.test == test)
}

/// What a simulation has to know, and to narrow down, so that a short history reaches every bound.
#[cfg(test)]
impl Core {
    pub(super) fn bounded(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Deliveries, and those of them whose event is in memory.
    pub(super) fn remembered(&self) -> (usize, usize) {
        (self.deliveries.len(), self.window)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        super::{
            breaker::OPEN_AFTER,
            deliver::{Failure, Outcome, Reason},
            tests::{self, subscriber},
        },
        *,
    };
    use crate::config::{Pattern, Rate};

    const START: i64 = 1_700_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(START + seconds).unwrap()
    }

    fn millis(millis: i64) -> Timestamp {
        Timestamp::from_millisecond(START * 1000 + millis).unwrap()
    }

    fn config(schedule: &[u64]) -> Subscriber {
        let mut subscriber = subscriber("crm", "http://127.0.0.1:1/");
        subscriber.schedule = schedule.iter().copied().map(Duration::from_secs).collect();
        subscriber
    }

    const KEEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

    fn fresh(subscriber: &Subscriber) -> Core {
        resumed(subscriber, Progress::default())
    }

    fn resumed(subscriber: &Subscriber, progress: Progress) -> Core {
        let now = Core::begins_at(&progress, at(0));
        Core::new(subscriber, KEEP, progress, now, now.duration_since(at(0)))
    }

    fn waits(seq: u64, subject: &str, attempts: u32, due_at: Timestamp) -> Waiting {
        Waiting {
            seq,
            subject: subject.to_owned(),
            kept_at: at(0),
            attempts,
            due_at,
        }
    }

    /// Kept just before the story begins.
    fn event(seq: u64, subject: &str) -> Kept {
        Kept {
            kept_at: at(-1),
            ..tests::event(seq, subject)
        }
    }

    fn events(subjects: &[&str]) -> Vec<Arc<Kept>> {
        (1..)
            .zip(subjects)
            .map(|(seq, subject)| Arc::new(event(seq, subject)))
            .collect()
    }

    fn attempted(outcome: Outcome) -> Attempted {
        Attempted {
            outcome,
            duration: Duration::ZERO,
            request_headers: String::new(),
            response: String::new(),
        }
    }

    fn delivered() -> Attempted {
        attempted(Outcome::Delivered { status: 200 })
    }

    fn failed(status: u16, retry_after: Option<u64>) -> Attempted {
        let retry_after = retry_after.map(Duration::from_secs);
        attempted(Outcome::Failed(Failure {
            reason: Reason::Status,
            status: Some(status),
            retry_after,
        }))
    }

    fn due(core: &mut Core, now: Timestamp) -> Vec<Due> {
        std::iter::from_fn(|| core.next(now)).collect()
    }

    fn seqs(due: &[Due]) -> Vec<u64> {
        due.iter().map(|due| due.seq).collect()
    }

    fn end(core: &mut Core, due: Due, attempted: Attempted, now: Timestamp) -> NextStep {
        core.ended(due, now, attempted, now, 0.5)
    }

    /// Ticket, place, subject and attempts on record.
    fn replays(of: &[(u64, u64, &str, u32)]) -> Wishes {
        let replay = |(ticket, seq, subject, attempts): &(u64, u64, &str, u32)| Replay {
            ticket: *ticket,
            seq: *seq,
            subject: (*subject).to_owned(),
            kept_at: at(0),
            attempts: *attempts,
        };
        Wishes {
            stopped: None,
            replays: of.iter().map(replay).collect(),
        }
    }

    /// Takes the settlement and has it kept.
    fn settle(core: &mut Core, now: Timestamp) -> Settlement {
        let settlement = core.take_settlement(now).expect("there is something to record");
        core.settled();
        Arc::unwrap_or_clone(settlement)
    }

    #[test]
    fn one_subject_goes_one_at_a_time_and_in_order() {
        let mut core = fresh(&config(&[0, 5]));
        core.feed(events(&["a", "b", "a", "b", "c"]), at(0));
        let first = due(&mut core, at(0));
        assert_eq!(seqs(&first), [1, 2, 5]);
        for due in first {
            end(&mut core, due, delivered(), at(0));
        }
        assert_eq!(core.cursor(), 2);
        let second = due(&mut core, at(0));
        assert_eq!(seqs(&second), [3, 4]);
        for due in second {
            end(&mut core, due, delivered(), at(0));
        }
        let settlement = settle(&mut core, at(1));
        assert_eq!((settlement.cursor, settlement.attempts.len()), (5, 5));
        assert_eq!(
            (
                settlement.waiting.len(),
                settlement.delivered.len(),
                settlement.dead.len()
            ),
            (0, 0, 0)
        );
        assert!(core.is_at_rest());
    }

    #[test]
    fn a_failure_holds_back_its_subject_only() {
        let mut core = fresh(&config(&[0, 5]));
        core.feed(events(&["a", "a", "b"]), at(0));
        let mut first = due(&mut core, at(0));
        assert_eq!(seqs(&first), [1, 3]);
        end(&mut core, first.pop().unwrap(), delivered(), at(0));
        assert_eq!(
            end(&mut core, first.pop().unwrap(), failed(500, None), at(0)),
            NextStep::Again(at(5))
        );

        // The cursor passes what waits.
        let settlement = settle(&mut core, at(1));
        assert_eq!(settlement.cursor, 3);
        let waiting: Vec<_> = settlement
            .waiting
            .iter()
            .map(|it| (it.seq, it.subject.as_str(), it.attempts))
            .collect();
        assert_eq!(waiting, [(1, "a", 1), (2, "a", 0)]);
        assert_eq!(settlement.waiting[0].due_at, at(5));

        // What comes later for the subject waits behind it.
        core.feed(vec![Arc::new(event(4, "a")), Arc::new(event(5, "c"))], at(2));
        assert_eq!(seqs(&due(&mut core, at(4))), [5]);
        assert_eq!((core.waiting(), core.cursor()), (3, 4));

        // All attempts spent: dead, and the next of the subject has its turn.
        let again = core.next(at(5)).unwrap();
        assert_eq!((again.seq, again.number), (1, 2));
        assert!(again.event.is_none());
        assert_eq!(end(&mut core, again, failed(500, None), at(5)), NextStep::Dead);
        let settlement = settle(&mut core, at(5));
        assert_eq!((settlement.dead, settlement.delivered), (vec![1], vec![]));
        for seq in [2, 4] {
            let due = core.next(at(5)).unwrap();
            assert_eq!((due.seq, due.number), (seq, 1));
            end(&mut core, due, delivered(), at(5));
        }
        let settlement = settle(&mut core, at(6));
        assert_eq!((settlement.dead, settlement.delivered), (vec![], vec![2, 4]));
        assert_eq!(core.waiting(), 0);
    }

    #[test]
    fn without_order_every_delivery_stands_alone() {
        let mut subscriber = config(&[0, 5]);
        subscriber.order = Order::None;
        let mut core = fresh(&subscriber);
        core.feed(events(&["a", "a", "a"]), at(0));
        let mut first = due(&mut core, at(0));
        assert_eq!(seqs(&first), [1, 2, 3]);
        end(&mut core, first.remove(0), failed(500, None), at(0));
        end(&mut core, first.remove(0), delivered(), at(0));
        let settlement = settle(&mut core, at(1));
        assert_eq!((settlement.cursor, settlement.waiting.len()), (2, 1));
        assert_eq!(
            (settlement.waiting[0].seq, settlement.waiting[0].subject.as_str()),
            (1, "a")
        );
        // What comes later for the subject goes at once.
        core.feed(vec![Arc::new(event(4, "a"))], at(2));
        assert_eq!(seqs(&due(&mut core, at(2))), [4]);
        assert_eq!(seqs(&due(&mut core, at(5))), [1]);
    }

    #[test]
    fn one_that_waits_delays_no_other_call() {
        let mut core = fresh(&config(&[0, 3600]));
        core.feed(events(&["a", "a", "b", "c", "b", "c"]), at(0));
        let mut delivered_seqs = Vec::new();
        for second in 0..3 {
            for due in due(&mut core, at(second)) {
                match due.seq {
                    1 => drop(end(&mut core, due, failed(500, None), at(second))),
                    seq => {
                        delivered_seqs.push(seq);
                        end(&mut core, due, delivered(), at(second));
                    }
                }
            }
        }
        assert_eq!(delivered_seqs, [3, 4, 5, 6]);
        // Dead on record, it holds back nothing any more.
        let last = core.next(at(3600)).unwrap();
        assert_eq!(last.seq, 1);
        assert_eq!(end(&mut core, last, failed(500, None), at(3600)), NextStep::Dead);
        settle(&mut core, at(3600));
        assert_eq!(seqs(&due(&mut core, at(3600))), [2]);
    }

    #[test]
    fn the_rate_counts_every_attempt_and_says_when_the_next_may_come() {
        let mut subscriber = config(&[0, 1]);
        subscriber.rate = Some(Rate {
            count: 2,
            per: Duration::from_secs(1),
        });
        let mut core = fresh(&subscriber);
        core.feed(events(&["a", "b", "c"]), at(0));
        // What was sent before the start is not known.
        assert_eq!(
            (core.next(at(0)).map(|due| due.seq), core.attempt_due()),
            (None, Some(at(1)))
        );
        let mut first = due(&mut core, at(1));
        assert_eq!((seqs(&first), core.attempt_due()), (vec![1, 2], Some(at(2))));
        end(&mut core, first.remove(0), failed(500, None), at(1));
        // The new one and the one made again, and no more after that.
        assert_eq!(seqs(&due(&mut core, millis(2500))), [3, 1]);
        assert_eq!(core.attempt_due(), None);
        core.feed(vec![Arc::new(event(4, "d"))], millis(2600));
        assert_eq!(
            (core.next(millis(2600)).map(|due| due.seq), core.attempt_due()),
            (None, Some(millis(3500)))
        );
        assert_eq!(seqs(&due(&mut core, millis(3500))), [4]);
    }

    #[test]
    fn a_dead_one_lets_the_next_go_on_once_that_is_durable() {
        let mut core = fresh(&config(&[0]));
        core.feed(events(&["a", "a", "b", "b"]), at(0));
        let mut first = due(&mut core, at(0));
        assert_eq!(seqs(&first), [1, 3]);
        end(&mut core, first.pop().unwrap(), delivered(), at(0));
        let dead = first.pop().unwrap();
        assert_eq!(end(&mut core, dead, failed(500, None), at(0)), NextStep::Dead);

        // Neither what was read before nor what is read now goes on, and nobody else waits.
        core.feed(vec![Arc::new(event(5, "a"))], at(0));
        assert_eq!(seqs(&due(&mut core, at(9))), [4]);
        core.take_settlement(at(9)).unwrap();
        assert!(core.next(at(9)).is_none());
        core.not_settled(at(9));
        assert!(core.next(at(9)).is_none());
        core.take_settlement(at(10)).unwrap();
        core.settled();
        assert_eq!(core.next(at(10)).unwrap().seq, 2);
    }

    #[test]
    fn what_waits_is_bounded_and_reading_stops() {
        let mut subscriber = config(&[0, 5]);
        subscriber.waiting_max = 3;
        let mut core = fresh(&subscriber);
        assert_eq!(core.room(), 3);
        core.feed(events(&["a", "b", "c"]), at(0));
        assert_eq!(core.room(), 0);
        for due in due(&mut core, at(0)) {
            end(&mut core, due, failed(500, None), at(0));
        }
        assert_eq!((core.room(), core.waiting()), (0, 3));
        let again = core.next(at(5)).unwrap();
        end(&mut core, again, delivered(), at(5));
        assert_eq!(core.room(), 1);
    }

    #[test]
    fn a_flood_of_one_subject_gives_way_to_others() {
        let mut core = fresh(&config(&[0, 5]));
        core.feed(events(&["a"; WINDOW_MIN]), at(0));
        assert_eq!(core.room(), 0);
        assert_eq!(seqs(&due(&mut core, at(0))), [1]);
        // Also the one in flight: after a crash it must not be read again behind those it is before.
        assert_eq!(core.waiting(), WINDOW_MIN);
        assert!(core.room() > 0);
        core.feed(vec![Arc::new(event(WINDOW_MIN as u64 + 1, "b"))], at(0));
        assert_eq!(seqs(&due(&mut core, at(0))), [WINDOW_MIN as u64 + 1]);
    }

    #[test]
    fn large_events_fill_the_window_by_their_bytes() {
        let mut core = fresh(&config(&[0, 5]));
        let mut events = events(&["a", "b", "c"]);
        for event in &mut events {
            Arc::make_mut(event).json = vec![b' '; WINDOW_BYTES / 3 + 1].into();
        }
        core.feed(events, at(0));
        assert_eq!(core.room(), 0);
        let first = core.next(at(0)).unwrap();
        end(&mut core, first, delivered(), at(0));
        assert!(core.room() > 0);
    }

    #[test]
    fn events_nobody_wants_move_the_cursor_in_large_steps() {
        let mut subscriber = config(&[0]);
        subscriber.filter.types = vec![Pattern::Exact("email.received".into())];
        let mut core = fresh(&subscriber);
        core.feed(events(&["a"; 2]), millis(0));
        assert_eq!(core.next(millis(0)).map(|due| due.seq), None);
        assert_eq!(core.settlement_due(), Some(millis(100)));
        core.feed(vec![Arc::new(event(3, "a"))], millis(50));
        assert_eq!(core.settlement_due(), Some(millis(100)));
        assert_eq!(settle(&mut core, millis(100)).cursor, 3);
        assert_eq!(core.settlement_due(), None);

        core.feed(
            (4..4 + CURSOR_AT).map(|seq| Arc::new(event(seq, "a"))).collect(),
            millis(200),
        );
        assert_eq!(core.settlement_due(), Some(Timestamp::MIN));
    }

    #[test]
    fn a_settlement_that_failed_comes_again_before_the_next() {
        let mut core = fresh(&config(&[0]));
        core.feed(events(&["a", "b"]), at(0));
        let first = core.next(at(0)).unwrap();
        end(&mut core, first, delivered(), at(0));
        assert_eq!(core.take_settlement(at(0)).unwrap().cursor, 1);
        let second = core.next(at(0)).unwrap();
        end(&mut core, second, delivered(), at(0));
        // One at a time.
        assert_eq!(core.settlement_due(), None);
        assert!(core.take_settlement(at(0)).is_none());
        core.not_settled(at(0));
        assert_eq!(core.settlement_due(), Some(at(1)));
        assert_eq!(settle(&mut core, at(1)).cursor, 1);
        assert_eq!(settle(&mut core, at(1)).cursor, 2);
        assert!(core.is_at_rest());
    }

    #[test]
    fn when_the_disk_is_far_behind_no_attempt_is_made() {
        let mut subscriber = config(&[0]);
        subscriber.waiting_max = 2 * RECORD_MAX;
        let mut core = fresh(&subscriber);
        let mut made = 0;
        for seq in 1..=2 * RECORD_MAX as u64 {
            core.feed(vec![Arc::new(event(seq, &seq.to_string()))], at(0));
            if let Some(due) = core.next(at(0)) {
                made += 1;
                end(&mut core, due, delivered(), at(0));
            }
        }
        assert_eq!(made, RECORD_MAX);
        settle(&mut core, at(0));
        assert!(core.next(at(0)).is_some());
    }

    #[test]
    fn a_slow_delivery_does_not_make_a_crash_repeat_thousands() {
        let mut core = fresh(&config(&[0]));
        core.feed(events(&["a"]), at(0));
        let slow = core.next(at(0)).unwrap();
        for seq in 2..CURSOR_LAG_MAX + 10 {
            core.feed(vec![Arc::new(event(seq, "b"))], at(0));
            let due = core.next(at(0)).unwrap();
            end(&mut core, due, delivered(), at(0));
        }
        assert_eq!(core.cursor(), 0);
        let settlement = settle(&mut core, at(0));
        assert_eq!((settlement.cursor, settlement.waiting[0].seq), (CURSOR_LAG_MAX + 9, 1));
        end(&mut core, slow, delivered(), at(1));
        assert_eq!(settle(&mut core, at(1)).delivered, [1]);
    }

    #[test]
    fn a_gone_subscriber_stops_and_goes_on_where_it_was() {
        let mut core = fresh(&config(&[0, 5]));
        core.feed(events(&["a", "b", "c"]), at(0));
        let (gone, other) = (core.next(at(0)).unwrap(), core.next(at(0)).unwrap());
        assert_eq!(end(&mut core, gone, attempted(Outcome::Gone), at(0)), NextStep::Stop);
        assert!(core.is_stopped() && core.next(at(0)).is_none());
        assert_eq!(core.room(), 0);
        // What was in flight still counts.
        end(&mut core, other, delivered(), at(0));
        let settlement = settle(&mut core, at(0));
        assert!(settlement.stopped.is_some());
        assert_eq!((settlement.cursor, settlement.waiting.len()), (2, 1));

        core.grant(Wishes::default(), at(1));
        assert_eq!(seqs(&due(&mut core, at(1))), [3, 1]);
    }

    #[test]
    fn a_replayed_delivery_is_taken_up_in_its_place() {
        let mut core = resumed(
            &config(&[0, 5]),
            Progress {
                cursor: 9,
                ..Progress::default()
            },
        );
        core.feed(vec![Arc::new(event(10, "a")), Arc::new(event(11, "a"))], at(0));
        let running = core.next(at(0)).unwrap();
        assert_eq!(running.seq, 10);
        core.grant(replays(&[(1, 3, "a", 0)]), at(0));
        assert!(core.next(at(0)).is_none());
        end(&mut core, running, delivered(), at(0));
        for seq in [3, 11] {
            let due = core.next(at(0)).unwrap();
            assert_eq!(due.seq, seq);
            end(&mut core, due, delivered(), at(0));
        }
        assert_eq!(settle(&mut core, at(0)).delivered, [3]);
    }

    #[test]
    fn a_subscriber_that_is_down_is_tried_one_at_a_time() {
        let mut core = fresh(&config(&[0, 5, 5]));
        let subjects: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        core.feed(events(&subjects.iter().map(String::as_str).collect::<Vec<_>>()), at(0));
        let mut failures = 0;
        while !core.is_down() {
            let due = core.next(at(0)).unwrap();
            end(&mut core, due, failed(503, None), at(0));
            failures += 1;
        }
        assert_eq!(failures, OPEN_AFTER);
        let mut now = 0;
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(core.attempt_due(), Some(at(now + pause)));
            assert!(core.next(at(now + pause - 1)).is_none());
            now += pause;
            let mut probe = due(&mut core, at(now));
            assert_eq!(probe.len(), 1);
            end(&mut core, probe.remove(0), failed(503, None), at(now));
        }
        now += 60;
        let probe = core.next(at(now)).unwrap();
        end(&mut core, probe, delivered(), at(now));
        // It is back, and shows what it can take.
        for round in [2, 4, 8, 8] {
            let round_of = due(&mut core, at(now));
            assert_eq!(round_of.len(), round);
            for due in round_of {
                end(&mut core, due, delivered(), at(now));
            }
        }
    }

    #[test]
    fn a_subscriber_that_is_down_is_so_after_a_restart() {
        let config = config(&[0, 5, 5]);
        let subjects: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        let kept = events(&subjects.iter().map(String::as_str).collect::<Vec<_>>());
        let mut core = fresh(&config);
        core.feed(kept.clone(), at(0));
        while !core.is_down() {
            let due = core.next(at(0)).unwrap();
            end(&mut core, due, failed(503, None), at(0));
        }
        let Settlement {
            cursor,
            waiting,
            breaker,
            ..
        } = settle(&mut core, at(0));
        let breaker = breaker.expect("it has changed");

        let mut core = resumed(
            &config,
            Progress {
                cursor,
                waiting,
                breaker,
                ..Progress::default()
            },
        );
        core.feed(kept[cursor as usize..].to_vec(), at(0));
        assert!(core.is_down());
        assert_eq!(
            (core.next(at(0)).map(|due| due.seq), core.attempt_due()),
            (None, Some(at(1)))
        );
        let probe = due(&mut core, at(1));
        assert_eq!(probe.len(), 1);
        // What did not change is not written again.
        core.postponed(probe[0].clone(), at(1));
        core.feed(vec![Arc::new(event(101, "other"))], at(1));
        assert_eq!(core.take_settlement(at(1)).and_then(|it| it.breaker), None);
    }

    #[test]
    fn a_retry_after_of_an_overloaded_subscriber_holds_for_all_subjects() {
        let mut two_at_once = config(&[0, 5, 5]);
        two_at_once.in_flight_max = 2;
        let mut core = fresh(&two_at_once);
        core.feed(events(&["a", "b", "c"]), at(0));
        let mut first = due(&mut core, at(0));
        end(&mut core, first.remove(0), failed(429, Some(30)), at(0));
        // It began before the subscriber asked for a pause.
        end(&mut core, first.remove(0), delivered(), at(0));
        let until = core.attempt_due().unwrap();
        assert!((at(30)..at(34)).contains(&until), "{until}");
        assert!(core.next(at(29)).is_none());
        assert_eq!(seqs(&due(&mut core, at(34))), [3, 1]);

        // Any other answer speaks of its own delivery only.
        let mut core = fresh(&config(&[0, 5, 5]));
        core.feed(events(&["a", "b"]), at(0));
        let first = core.next(at(0)).unwrap();
        end(&mut core, first, failed(500, Some(30)), at(0));
        assert_eq!(core.next(at(0)).unwrap().seq, 2);
    }

    #[test]
    fn what_is_due_stays_as_far_off_whatever_the_wall_clock_shows() {
        let hour = 3600;
        for set_by in [hour, -hour, 1000 * hour, -1000 * hour] {
            let mut core = fresh(&config(&[0, 300]));
            core.feed(events(&["a"]), at(0));
            let first = core.next(at(0)).unwrap();
            end(&mut core, first, failed(500, None), at(0));
            core.look_at_clock(SignedDuration::from_secs(-set_by));
            assert_eq!(core.attempt_due(), Some(at(300)));
            // What is kept now is as old as the wall clock says, and so is what waits.
            let mut next = event(2, "b");
            next.kept_at = at(10 + set_by);
            core.feed(vec![Arc::new(next)], at(10));
            assert_eq!(seqs(&due(&mut core, at(10))), [2]);
            core.expire(at(20));
            assert_eq!(core.take_expired(), 0);

            // The next process goes on by the same clock, ten seconds later.
            let settlement = settle(&mut core, at(20));
            let progress = Progress {
                cursor: settlement.cursor,
                waiting: vec![waits(1, "a", 1, at(300))],
                steady: Some(settlement.steady),
                ..Progress::default()
            };
            let now = Core::begins_at(&progress, at(30 + set_by));
            assert_eq!(now, at(30));
            let mut next = Core::new(
                &config(&[0, 300]),
                KEEP,
                progress,
                now,
                now.duration_since(at(30 + set_by)),
            );
            assert_eq!(next.attempt_due(), Some(at(300)));
            assert!(next.next(at(299)).is_none());
            assert!(next.next(at(300)).is_some());
        }
    }

    #[test]
    fn a_clock_that_was_set_back_between_two_processes_holds_nothing_up() {
        let progress = Progress {
            cursor: 1,
            waiting: vec![waits(1, "a", 1, at(7200 + 300))],
            steady: Some(Steady {
                at: at(7200),
                ahead: SignedDuration::ZERO,
            }),
            ..Progress::default()
        };
        let mut config = config(&[0, 300]);
        config.rate = Some(Rate {
            count: 1,
            per: Duration::from_secs(1),
        });
        let mut core = resumed(&config, progress);
        assert_eq!(core.attempt_due(), Some(at(7200 + 300)), "five minutes, not two hours");
        // Nor does it allow for more than the rate.
        core.feed(vec![Arc::new(event(2, "b"))], at(7200));
        assert_eq!(core.attempt_due(), Some(at(7201)));
    }

    #[test]
    fn a_day_and_a_million_events_later_it_comes_back_gently_and_soon() {
        const COUNT: u64 = 1_000_000;
        const ANSWER: Duration = Duration::from_millis(10);
        let mut config = config(&[0, 5, 300, 3600, 36_000]);
        config.in_flight_max = 32;
        config.waiting_max = Subscriber::WAITING_MAX;
        let mut core = fresh(&config);
        let model = event(0, "");
        // They came throughout the day.
        let kept_at = |seq: u64| at((seq * 86_400 / COUNT) as i64);
        let read = |core: &mut Core, now: Timestamp| {
            let head = (now.duration_since(at(0)).as_secs() as u64 * COUNT / 86_400).min(COUNT);
            let after = core.read_to();
            let last = head.min(after + core.room() as u64);
            let kept = |seq: u64| Kept {
                seq,
                subject: (seq / 4).to_string(),
                kept_at: kept_at(seq),
                ..model.clone()
            };
            core.feed((after + 1..=last).map(|seq| Arc::new(kept(seq))).collect(), now);
            assert!(core.window <= core.bounds.window);
        };

        // An attempt a minute, each of another call: what it costs is remembered, and the backlog is not.
        let (mut now, day) = (at(1), at(86_400));
        let mut attempts = 0;
        while now < day {
            read(&mut core, now);
            for due in due(&mut core, now) {
                attempts += 1;
                end(&mut core, due, failed(503, None), now);
            }
            settle(&mut core, now);
            assert!(core.deliveries.len() <= 4 * attempts + core.bounds.window);
            now = core.attempt_due().unwrap();
        }
        assert!((1440..1470).contains(&attempts), "{attempts}");

        let (read_before, owed) = (core.read_to(), core.deliveries.len() as u64);
        let (mut rounds, mut longest_due, mut arrived) = (Vec::new(), at(0), 0);
        while core.read_to() < COUNT || !core.deliveries.is_empty() {
            read(&mut core, now);
            let round = due(&mut core, now);
            rounds.push(round.len());
            for due in round {
                let due_at = core.deliveries[&due.seq].due_at;
                // Those that are due for longest go first; those behind one that waited could not.
                assert!(due.seq <= read_before || due_at >= longest_due - Duration::from_secs(10));
                longest_due = longest_due.max(due_at);
                arrived += 1;
                end(&mut core, due, delivered(), now);
            }
            if let Some(settlement) = core.take_settlement(now) {
                assert!(settlement.waiting.len() <= 2 * core.bounds.window);
                core.settled();
            }
            now += ANSWER;
        }
        assert_eq!(arrived, COUNT - read_before + owed);
        assert_eq!(rounds[..7], [1, 2, 4, 8, 16, 32, 32]);
        // An unhurried round is one that waits for others of its calls, or for reading.
        let full = rounds.iter().filter(|round| **round == 32).count();
        assert!(full * 100 >= rounds.len() * 95, "{full} of {}", rounds.len());
    }

    #[test]
    fn what_was_given_up_ahead_of_the_cursor_is_not_begun_anew() {
        let mut core = resumed(
            &config(&[0, 5]),
            Progress {
                dead_ahead: vec![2],
                ..Progress::default()
            },
        );
        core.feed(events(&["a", "b", "c"]), at(0));
        assert_eq!(seqs(&due(&mut core, at(0))), [1, 3]);
    }

    #[test]
    fn order_holds_when_the_one_in_flight_is_cut_off() {
        let config = config(&[0, 5]);
        let mut core = fresh(&config);
        core.bounds.window = 4;
        let kept = events(&["b", "a", "c", "a"]);
        core.feed(kept.clone(), at(0));
        let first = due(&mut core, at(0));
        assert_eq!(seqs(&first), [1, 2, 3]);
        let settlement = settle(&mut core, at(1));
        drop(first);
        let mut core = resumed(
            &config,
            Progress {
                cursor: settlement.cursor,
                waiting: settlement.waiting,
                ..Progress::default()
            },
        );
        assert!(core.next(at(1)).is_none(), "not before those before it are known");
        core.feed(kept, at(1));
        assert_eq!(seqs(&due(&mut core, at(1))), [1, 2, 3]);
    }

    #[test]
    fn what_could_not_be_attempted_is_not_counted() {
        let mut core = fresh(&config(&[0, 5]));
        core.feed(events(&["a", "a"]), at(0));
        let unread = core.next(at(0)).unwrap();
        core.postponed(unread, at(1));
        assert!(core.next(at(0)).is_none());
        let lost = core.next(at(1)).unwrap();
        assert_eq!((lost.seq, lost.number), (1, 1));
        core.lost(lost, at(1));
        let settlement = settle(&mut core, at(2));
        assert_eq!(
            (settlement.cursor, settlement.dead, settlement.attempts.len()),
            (1, vec![1], 0)
        );
        assert_eq!(core.next(at(2)).unwrap().seq, 2);
    }

    #[test]
    fn a_fault_of_ours_says_nothing_of_the_subscriber() {
        let mut core = fresh(&config(&[0, 5, 5]));
        let subjects: Vec<String> = (0..100).map(|i| i.to_string()).collect();
        core.feed(events(&subjects.iter().map(String::as_str).collect::<Vec<_>>()), at(0));
        for _ in 0..OPEN_AFTER {
            let due = core.next(at(0)).unwrap();
            end(&mut core, due, failed(503, None), at(0));
        }
        assert!(core.is_down());
        let probe = core.next(at(1)).unwrap();
        end(&mut core, probe, attempted(Outcome::failed(Reason::Internal)), at(1));
        assert!(core.is_down(), "a subscriber that was not asked is not back");
        let breaker = settle(&mut core, at(1)).breaker.unwrap();
        assert_eq!(breaker.failures_in_a_row, OPEN_AFTER, "nor has it failed once more");
    }

    /// Fails with a pause of 300 seconds to follow, at second 5.
    fn failed_twice() -> Core {
        let mut core = fresh(&config(&[0, 5, 300, 300]));
        core.feed(events(&["a"]), at(0));
        for second in [0, 5] {
            let due = core.next(at(second)).unwrap();
            end(&mut core, due, failed(500, None), at(second));
        }
        assert_eq!(core.attempt_due(), Some(at(305)));
        core
    }

    #[test]
    fn a_replay_of_what_waits_makes_it_due() {
        let mut core = failed_twice();
        settle(&mut core, at(6));
        core.grant(replays(&[(1, 1, "a", 2)]), at(11));
        let due = core.next(at(11)).expect("it is due now");
        assert_eq!((due.seq, due.number), (1, 3));
        assert!(core.next(at(400)).is_none(), "and only once");
        end(&mut core, due, failed(500, None), at(11));
        assert_eq!(core.attempt_due(), Some(at(311)));
        // Looked up once more before the record said that it is known.
        core.grant(replays(&[(1, 1, "a", 2)]), at(11));
        assert_eq!(core.attempt_due(), Some(at(311)));
        let settlement = settle(&mut core, at(12));
        assert_eq!((settlement.waiting.len(), settlement.replays_known), (1, Some(1)));
        assert!(core.is_at_rest());
    }

    #[test]
    fn a_replay_of_what_is_about_to_be_recorded_is_not_lost() {
        let ends: [fn() -> Attempted; 2] = [|| failed(500, None), delivered];
        for outcome in ends {
            // With the store already, or not yet.
            for is_with_store in [false, true] {
                let mut core = fresh(&config(&[0]));
                core.feed(events(&["a", "a"]), at(0));
                let due = core.next(at(0)).unwrap();
                end(&mut core, due, outcome(), at(0));
                let outstanding = is_with_store.then(|| core.take_settlement(at(1)).unwrap());
                core.grant(replays(&[(7, 1, "a", 0)]), at(1));
                if outstanding.is_some() {
                    core.settled();
                }
                let again = core.next(at(1)).expect("it is due");
                assert_eq!(
                    (again.seq, again.number),
                    (1, 2),
                    "numbered on, and before the next of its line"
                );
                end(&mut core, again, delivered(), at(1));
                let settlement = settle(&mut core, at(2));
                assert_eq!((settlement.delivered, settlement.dead), (vec![1], vec![]));
                assert_eq!(settlement.replays_known, Some(7));
                assert_eq!(core.next(at(2)).map(|due| due.seq), Some(2));
            }
        }
    }

    #[test]
    fn a_replay_ahead_of_what_was_read_is_on_record_at_once() {
        let mut core = fresh(&config(&[0, 5]));
        core.grant(replays(&[(1, 2, "b", 3)]), at(1));
        let settlement = settle(&mut core, at(2));
        assert_eq!(settlement.waiting, [waits(2, "b", 3, at(1))]);
        assert_eq!((settlement.cursor, settlement.replays_known), (0, Some(1)));
        core.feed(events(&["a", "b"]), at(3));
        assert_eq!(
            due(&mut core, at(3))
                .iter()
                .map(|it| (it.seq, it.number))
                .collect::<Vec<_>>(),
            [(1, 1), (2, 4)]
        );
    }

    #[test]
    fn a_replay_of_what_is_not_in_the_retry_set_leaves_nothing_behind() {
        // In flight, and open behind one that is in flight.
        for seq in [1, 2] {
            let mut core = fresh(&config(&[0, 5]));
            core.feed(events(&["a", "a", "b"]), at(0));
            let first = core.next(at(0)).unwrap();
            core.grant(replays(&[(1, seq, "a", 0)]), at(1));
            // After a crash the second must not come before the first, so that waits too.
            assert_eq!((core.waiting(), core.cursor()), (seq as usize, seq));
            end(&mut core, first, delivered(), at(1));
            for due in due(&mut core, at(1)) {
                end(&mut core, due, delivered(), at(1));
            }
            let settlement = settle(&mut core, at(2));
            assert_eq!(settlement.cursor, 3);
            assert_eq!(settlement.delivered, (1..=seq).collect::<Vec<_>>());
            assert!(core.next(at(400)).is_none());
        }
    }

    #[test]
    fn what_is_forgotten_is_fetched_and_what_is_unwanted_is_given_up_on_record() {
        let mut core = fresh(&config(&[0, 5]));
        core.feed(events(&["a", "a", "b"]), at(0));
        let first = core.next(at(0)).unwrap();
        assert!(first.event.is_some());
        core.forget_events();
        assert_eq!(core.remembered(), (3, 0));
        let other = core.next(at(0)).unwrap();
        assert!((other.seq, other.event.is_some()) == (3, false));
        end(&mut core, first, delivered(), at(0));
        end(&mut core, other, failed(500, None), at(0));
        let second = core.next(at(0)).unwrap();
        assert_eq!(second.seq, 2);
        core.unwanted(second, at(0));
        let settlement = settle(&mut core, at(1));
        assert_eq!((settlement.cursor, settlement.dead), (3, vec![2]));
        let last = settlement.attempts.last().unwrap();
        assert_eq!((last.seq, last.number, last.outcome.as_str()), (2, 1, UNWANTED.0));
    }

    #[test]
    fn what_is_too_old_is_given_up_on_record() {
        let mut core = fresh(&config(&[0, 5]));
        core.keep_events = Duration::from_secs(100);
        let mut events = events(&["a", "a", "b", "c"]);
        for (event, kept) in events.iter_mut().zip([0, 10, 0, 50]) {
            Arc::make_mut(event).kept_at = at(kept);
        }
        core.feed(events, at(50));
        let mut first = due(&mut core, at(50));
        assert_eq!(seqs(&first), [1, 3, 4]);
        let (one, in_flight) = (first.remove(0), first.remove(0));
        end(&mut core, one, failed(500, None), at(50));
        assert_eq!((core.expiry_due(), core.oldest()), (Some(at(100)), Some(at(0))));
        core.expire(at(99));
        assert_eq!(core.take_expired(), 0);

        core.expire(at(100));
        assert_eq!(core.take_expired(), 1);
        let settlement = settle(&mut core, at(100));
        assert_eq!((settlement.dead, settlement.waiting[0].seq), (vec![1], 2));
        let last = settlement.attempts.last().unwrap();
        assert_eq!((last.seq, last.number, last.status), (1, 2, None));
        assert_eq!((last.outcome.as_str(), last.at), (EXPIRED.0, at(100)));
        // The one behind it has its turn, and is given up when its time comes.
        assert_eq!(core.attempt_due(), Some(at(10)));
        core.expire(at(110));
        assert_eq!(settle(&mut core, at(110)).dead, [2]);
        assert_eq!(core.attempt_due(), None);

        // What is in flight may still arrive; if it does not, its time is over.
        end(&mut core, in_flight, failed(500, None), at(120));
        core.expire(core.expiry_due().unwrap());
        assert_eq!(core.take_expired(), 2);
        assert_eq!(core.next(at(1000)).map(|due| due.seq), None);
    }

    #[test]
    fn what_is_attempted_while_others_are_given_up_has_its_turn_later() {
        let mut core = fresh(&config(&[0, 3600]));
        core.keep_events = Duration::from_secs(100);
        core.bounds.expire_at_once = 1;
        core.feed(events(&["a", "b"]), at(0));
        // Both are too old, and one of them is under way before it is given up.
        core.expire(at(100));
        let in_flight = core.next(at(100)).unwrap();
        assert_eq!(in_flight.seq, 2);
        core.expire(at(100));
        end(&mut core, in_flight, failed(500, None), at(101));
        core.expire(core.expiry_due().expect("it is too old as well"));
        assert_eq!(core.take_expired(), 2);
    }

    #[test]
    fn what_is_read_too_late_is_given_up_on_record() {
        let mut core = fresh(&config(&[0, 5]));
        core.feed(events(&["a", "a"]), at(0) + KEEP);
        assert!(core.next(at(0) + KEEP).is_none());
        assert_eq!(core.take_expired(), 2);
        let settlement = settle(&mut core, at(0) + KEEP);
        assert_eq!((settlement.cursor, settlement.dead), (2, vec![1, 2]));
        assert!(settlement.attempts.iter().all(|attempt| attempt.outcome == EXPIRED.0));
    }

    #[test]
    fn a_large_backlog_is_given_up_in_small_steps() {
        const COUNT: u64 = 10_000;
        let waiting = (1..=COUNT).map(|seq| waits(seq, "a", 1, at(seq as i64))).collect();
        let mut core = resumed(
            &config(&[0, 5]),
            Progress {
                cursor: COUNT,
                waiting,
                ..Progress::default()
            },
        );
        let now = at(0) + KEEP;
        let (mut given_up, mut steps) = (0, 0);
        while core.expiry_due().is_some_and(|at| at <= now) {
            while core.expiry_due().is_some_and(|at| at <= now) {
                core.expire(now);
                let step = core.take_expired();
                assert!(step <= EXPIRE_AT_ONCE as u64);
                given_up += step;
                steps += 1;
            }
            // The disk is behind, or nothing is left.
            let settlement = settle(&mut core, now);
            assert!(settlement.dead.len() <= RECORD_MAX);
        }
        assert_eq!(given_up, COUNT);
        assert!(steps >= COUNT as usize / EXPIRE_AT_ONCE);
        assert_eq!((core.waiting(), core.oldest(), core.expiry_due()), (0, None, None));
    }

    #[test]
    fn the_filter_holds_all_its_conditions() {
        let mut event = event(1, "a");
        event.facts.numbers = vec!["+16045550123".into(), "+33123456789".into()];
        event.facts.duration_seconds = Some(12.5);
        let filter = |change: fn(&mut Filter)| {
            let mut filter = Filter::default();
            change(&mut filter);
            filter
        };
        for (wanted, filter) in [
            (true, filter(|_| {})),
            (true, filter(|it| it.types = vec![Pattern::Prefix("call.".into())])),
            (
                false,
                filter(|it| it.types = vec![Pattern::Exact("call.missed".into())]),
            ),
            (true, filter(|it| it.routes = vec!["other".into(), "magpipe".into()])),
            (false, filter(|it| it.routes = vec!["other".into()])),
            (true, filter(|it| it.numbers = vec![Pattern::Prefix("+1604".into())])),
            (false, filter(|it| it.numbers = vec![Pattern::Exact("+1604".into())])),
            (true, filter(|it| it.min_duration = Some(Duration::from_millis(12_500)))),
            (false, filter(|it| it.min_duration = Some(Duration::from_secs(13)))),
            (true, filter(|it| it.test = Some(false))),
            (false, filter(|it| it.test = Some(true))),
        ] {
            assert_eq!(passes(&filter, &event), wanted, "{filter:?}");
        }
        event.facts.duration_seconds = None;
        assert!(!passes(&filter(|it| it.min_duration = Some(Duration::ZERO)), &event));
    }
}
