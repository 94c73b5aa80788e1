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
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use self::{
    lines::Lines,
    record::{Fate, Gathered, Record},
};
use super::{
    breaker::Breaker,
    deliver::Attempted,
    filter::passes,
    rate::{Bucket, later},
    schedule::{NextStep, Schedule},
};
use crate::{
    config::{Filter, Subscriber},
    event::Kept,
    store::{Attempt, Progress, Replay, Settlement, Steady, Stopped, Waiting, Wishes},
};

mod lines;
mod record;
#[cfg(test)]
mod tests;

/// Most events asked of the store at once.
const READ_MAX: usize = 256;
/// Events in memory for one subscriber, in flight or about to be: at least this many …
const WINDOW_MIN: usize = 256;
/// … and no more reading past this many bytes of them.
const WINDOW_BYTES: usize = 16 << 20;

/// So many attempts are recorded without waiting for more.
const RECORD_AT: usize = 256;
/// With so many attempts unrecorded the disk is too far behind, and no more are made until it has caught up.
const RECORD_MAX: usize = 2048;

/// A cursor that passed so many events is recorded at once.
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
    rate: Option<Bucket>,
    breaker: Breaker,
    waiting_max: usize,
    bounds: Bounds,
    /// For how long an event can be delivered.
    keep_events: Duration,

    /// Everything up to and including this place was read.
    read: u64,
    lines: Lines,
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
            rate: subscriber.rate.map(|rate| Bucket::new(rate, now)),
            breaker: Breaker::new(subscriber.in_flight_max, progress.breaker),
            waiting_max: subscriber.waiting_max.max(1),
            bounds: Bounds::of(subscriber),
            keep_events,
            read: progress.cursor,
            lines: Lines::new(subscriber.order),
            overdue: VecDeque::new(),
            overdue_next: Timestamp::MAX,
            expired: 0,
            waiting_ahead: BTreeMap::new(),
            dead_ahead: progress.dead_ahead.into_iter().collect(),
            stopped: progress.stopped.is_some(),
            replays_known: 0,
            ahead,
            record: Record::new(progress.cursor, progress.breaker),
        };
        for waiting in progress.waiting {
            let waiting = Waiting {
                kept_at: later(waiting.kept_at, ahead),
                ..waiting
            };
            if waiting.seq > core.read {
                core.waiting_ahead.insert(waiting.seq, waiting);
            } else {
                core.take_up(&waiting);
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
            self.record.replay_known(replay.ticket, now);
            let seq = replay.seq;
            // No attempt takes the number, and the place on record, of an earlier one.
            let attempts = self.record.last_attempt(seq).max(replay.attempts);
            if self.lines.get(seq).is_some() {
                self.lines.begin_anew(seq, attempts, now);
                self.set_aside_up_to(seq, now);
                self.record.fate(seq, Fate::Waiting, now);
                continue;
            }
            let waiting = Waiting {
                seq,
                attempts,
                begun_after: attempts,
                subject: replay.subject,
                kept_at: later(replay.kept_at, self.ahead),
                due_at: now,
            };
            if seq > self.read {
                self.waiting_ahead.insert(seq, waiting);
                self.record.waits_ahead(seq);
            } else {
                // One that was given up, and is not on its way to the record, holds up nobody: it is owed again.
                if self.record.live_again(seq) {
                    self.lines.release(seq);
                }
                self.take_up(&waiting);
                self.record.fate(seq, Fate::Waiting, now);
                self.set_aside_up_to(seq, now);
            }
        }
    }

    /// Puts one of the retry set into its line.
    fn take_up(&mut self, waiting: &Waiting) {
        self.lines.take_up(waiting);
        self.overdue_next = self.overdue_next.min(self.kept_until(waiting.kept_at));
    }

    /// How many events to read now, after [`Core::read_to`]. None while the subscriber is stopped, or while it owes as many
    /// deliveries as it may.
    pub fn room(&self) -> usize {
        if self.stopped || self.lines.window_bytes() >= self.bounds.window_bytes || !self.can_record() {
            return 0;
        }
        let window = self.bounds.window.saturating_sub(self.lines.window());
        self.waiting_max
            .saturating_sub(self.lines.len())
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
                self.record.passed(now);
                continue;
            }
            let (attempts, begun_after) = waited
                .as_ref()
                .map_or((0, 0), |waited| (waited.attempts, waited.begun_after));
            let kept_at = later(event.kept_at, self.ahead);
            let kept_until = self.kept_until(kept_at);
            if kept_until <= now {
                self.lines.give_up_unread(seq, &event.subject);
                self.give_up(seq, attempts, EXPIRED, now);
                self.expired += 1;
                continue;
            }
            let first = self.schedule.first(kept_at, now);
            let due_at = waited.as_ref().map_or(first, |waited| waited.due_at);
            self.lines.join(event, kept_at, (attempts, begun_after), due_at);
            self.overdue_next = self.overdue_next.min(kept_until);
            if waited.is_some() || self.lines.follows_waiting(seq) {
                self.set_aside_up_to(seq, now);
            }
        }
    }

    /// The next delivery to attempt, while there are slots for it.
    pub fn next(&mut self, now: Timestamp) -> Option<Due> {
        if self.stopped || now < self.breaker.not_before() || !self.has_slots() {
            return None;
        }
        if self.lines.first_due().is_none_or(|(due_at, _)| due_at > now) {
            self.make_way(now);
            return None;
        }
        if self.rate.as_mut().is_some_and(|rate| !rate.take(now)) {
            return None;
        }
        let (seq, delivery) = self.lines.begin_first()?;
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
        let attempt = Attempt {
            seq: due.seq,
            number: due.number,
            at: began,
            duration,
            status: outcome.status(),
            outcome: outcome.as_str().to_owned(),
            request_headers,
            response,
        };
        self.record.attempt(attempt, now);
        let delivery = self.lines.get(due.seq).expect("what was in flight is not settled");
        let made = due.number - delivery.begun_after;
        let step = self.schedule.next(made, &outcome, now, chance);
        match step {
            NextStep::Done => {
                // The cursor says of those that never waited that they are delivered.
                if self.lines.deliver(due.seq).waiting {
                    self.record.fate(due.seq, Fate::Delivered, now);
                }
            }
            NextStep::Dead => self.dead(due.seq, now),
            NextStep::Again(at) => self.delay(due.seq, due.number, at, now),
            NextStep::Stop => {
                self.delay(due.seq, due.number, now, now);
                self.stopped = true;
                self.record.stopped(Stopped {
                    at: self.wall(now),
                    reason: "the subscriber answered 410 Gone".to_owned(),
                });
            }
        }
        step
    }

    /// Tells that a [`Due`] could not be attempted, for reasons that are not the subscriber's. Not counted as an attempt.
    pub fn postponed(&mut self, due: Due, until: Timestamp) {
        self.lines.again(due.seq, due.number - 1, until);
    }

    /// Tells that the event of a [`Due`] is no longer in the store. The delivery is dead, on record.
    pub fn lost(&mut self, due: Due, now: Timestamp) {
        self.dead(due.seq, now);
    }

    /// Tells that the event of a [`Due`], which waited, is none that the subscriber wants any more. The delivery is dead, on
    /// record.
    pub fn unwanted(&mut self, due: Due, now: Timestamp) {
        self.lines.give_up(due.seq);
        self.give_up(due.seq, due.number - 1, UNWANTED, now);
    }

    /// Has every event that is in memory read again when its turn comes: what is in the store is another one now.
    pub fn forget_events(&mut self) {
        self.lines.forget_events();
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
            let Some(delivery) = self.lines.get(seq) else {
                continue;
            };
            if delivery.in_flight {
                self.overdue_next = self.overdue_next.min(again_after(now));
                continue;
            }
            let attempts = self.lines.give_up(seq).attempts;
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
        self.lines.iter().map(|(_, delivery)| delivery.kept_at).min()
    }

    /// When a settlement should be taken; `None` while there is nothing to record, or one is with the store.
    pub fn settlement_due(&self) -> Option<Timestamp> {
        self.record.due(self.cursor(), &self.bounds)
    }

    /// What is to be recorded now. `None` when there is nothing, or when one settlement is with the store already.
    ///
    /// One that failed is handed out again as it was, before any other, so that settlements become durable in order.
    pub fn take_settlement(&mut self, now: Timestamp) -> Option<Arc<Settlement>> {
        if self.record.is_outstanding() {
            return self.record.hand_out_again();
        }
        while let Some(seq) = self
            .lines
            .first_open()
            .filter(|seq| self.read - seq > self.bounds.cursor_lag_max)
        {
            self.set_aside(seq, now);
        }
        let Gathered {
            settlement,
            fates,
            ahead,
        } = self.record.gather(self.cursor(), self.breaker.recorded())?;
        let mut settlement = Settlement {
            subscriber: self.subscriber.clone(),
            steady: Steady {
                at: now,
                ahead: self.ahead,
            },
            // What was read since has its fate.
            waiting: ahead
                .iter()
                .filter_map(|seq| self.waiting_ahead.get(seq).cloned())
                .collect(),
            ..settlement
        };
        for (seq, fate) in fates {
            match fate {
                Fate::Delivered => settlement.delivered.push(seq),
                Fate::Dead => settlement.dead.push(seq),
                Fate::Waiting => {
                    let delivery = self.lines.get(seq).expect("what waits is not settled");
                    settlement.waiting.push(Waiting {
                        seq,
                        subject: delivery.subject.to_string(),
                        kept_at: delivery.kept_at,
                        attempts: delivery.attempts,
                        begun_after: delivery.begun_after,
                        due_at: delivery.due_at,
                    });
                }
            }
        }
        Some(self.record.hand_out(settlement))
    }

    /// Tells that the settlement taken last is durable.
    pub fn settled(&mut self) {
        for seq in self.record.settled().iter().flat_map(|settlement| &settlement.dead) {
            self.lines.release(*seq);
        }
    }

    /// Tells that nothing of the settlement taken last was recorded.
    pub fn not_settled(&mut self, now: Timestamp) {
        self.record.not_settled(now);
    }

    /// When to call [`Core::next`] again if nothing happens until then.
    pub fn attempt_due(&self) -> Option<Timestamp> {
        let (due_at, _) = self.lines.first_due().filter(|_| !self.stopped && self.has_slots())?;
        let allowed_at = self.rate.as_ref().map_or(Timestamp::MIN, Bucket::back_at);
        Some(self.breaker.not_before().max(due_at).max(allowed_at))
    }

    /// The place up to which everything was read.
    pub fn read_to(&self) -> u64 {
        self.read
    }

    /// The place up to which everything is settled or in the retry set.
    pub fn cursor(&self) -> u64 {
        self.lines.first_open().map_or(self.read, |first| first - 1)
    }

    /// Deliveries in the retry set.
    pub fn waiting(&self) -> usize {
        self.lines.waiting()
    }

    pub fn in_flight(&self) -> usize {
        self.lines.in_flight()
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
        self.lines.len() >= self.waiting_max
    }

    /// It owes far fewer deliveries than it may.
    pub fn is_half_empty(&self) -> bool {
        self.lines.len() <= self.waiting_max / 2
    }

    /// Nothing is in flight and nothing is left to record.
    pub fn is_at_rest(&self) -> bool {
        self.in_flight() == 0 && !self.record.is_outstanding() && self.settlement_due().is_none()
    }

    /// The subscriber's stop is not durable yet.
    pub(super) fn is_stopping(&self) -> bool {
        self.record.is_stopping()
    }

    fn has_slots(&self) -> bool {
        self.in_flight() < self.breaker.in_flight_limit() && self.can_record()
    }

    /// The disk is not too far behind.
    fn can_record(&self) -> bool {
        self.record.attempts() + self.in_flight() < self.bounds.record_max
    }

    fn wall(&self, at: Timestamp) -> Timestamp {
        later(at, -self.ahead)
    }

    fn kept_until(&self, kept_at: Timestamp) -> Timestamp {
        kept_at.saturating_add(self.keep_events).unwrap_or(Timestamp::MAX)
    }

    fn look_for_overdue(&mut self, now: Timestamp) {
        self.overdue_next = Timestamp::MAX;
        for (seq, delivery) in self.lines.iter() {
            let until = self.kept_until(delivery.kept_at);
            if until > now {
                self.overdue_next = self.overdue_next.min(until);
            } else if delivery.in_flight {
                self.overdue_next = self.overdue_next.min(again_after(now));
            } else {
                self.overdue.push_back(seq);
            }
        }
        self.overdue.make_contiguous().sort_unstable();
    }

    /// Records that a delivery was given up after its last attempt, or has no event any more.
    fn dead(&mut self, seq: u64, now: Timestamp) {
        self.lines.give_up(seq);
        self.record.fate(seq, Fate::Dead, now);
    }

    /// Records why a delivery was given up after so many attempts.
    fn give_up(&mut self, seq: u64, attempts: u32, (outcome, why): (&str, &str), now: Timestamp) {
        let attempt = Attempt {
            seq,
            number: attempts + 1,
            at: self.wall(now),
            duration: Duration::ZERO,
            status: None,
            outcome: outcome.to_owned(),
            request_headers: String::new(),
            response: why.to_owned(),
        };
        self.record.attempt(attempt, now);
        self.record.fate(seq, Fate::Dead, now);
    }

    /// Moves a delivery into the retry set, or records it there anew.
    fn set_aside(&mut self, seq: u64, now: Timestamp) {
        self.lines.set_aside(seq);
        self.record.fate(seq, Fate::Waiting, now);
    }

    /// Moves a delivery and all before it in its line into the retry set, as far as they are not there.
    fn set_aside_up_to(&mut self, seq: u64, now: Timestamp) {
        for open in self.lines.open_up_to(seq) {
            self.set_aside(open, now);
        }
    }

    /// When the window is full of deliveries that cannot be attempted now, because an earlier one of their line is on its
    /// way or because of the first pause, they give way to those of other lines. The one on its way goes with them.
    fn make_way(&mut self, now: Timestamp) {
        if self.lines.window() < self.bounds.window && self.lines.window_bytes() < self.bounds.window_bytes {
            return;
        }
        for seq in self.lines.open_and_idle() {
            self.set_aside(seq, now);
        }
    }

    /// Puts a failed delivery off, and those behind it in its line with it.
    fn delay(&mut self, seq: u64, attempts: u32, due_at: Timestamp, now: Timestamp) {
        self.lines.again(seq, attempts, due_at);
        self.set_aside(seq, now);
        for behind in self.lines.open_behind(seq) {
            self.set_aside(behind, now);
        }
    }
}

/// When to look again at one that is too old, but in flight: it may still arrive.
fn again_after(now: Timestamp) -> Timestamp {
    later(now, EXPIRE_AGAIN)
}

/// What a simulation has to know, and to narrow down, so that a short history reaches every bound.
#[cfg(test)]
impl Core {
    pub(super) fn bounded(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Deliveries, and those of them whose event is in memory.
    pub(super) fn remembered(&self) -> (usize, usize) {
        (self.lines.len(), self.lines.window())
    }
}
