//! What is to be recorded of a subscriber's deliveries, and what of it is with the store.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use super::Bounds;
use crate::{
    outbound::rate::later,
    store::{self, Attempt, Settlement, Stopped},
};

/// How long outcomes gather before they are recorded. A crash within this time means that they are delivered again.
const RECORD_AFTER: SignedDuration = SignedDuration::from_millis(20);
/// A cursor that only passed events the subscriber does not want is recorded this late.
const CURSOR_AFTER: SignedDuration = SignedDuration::from_millis(100);
/// How long to wait before a settlement that failed is tried again.
const SETTLE_AGAIN: SignedDuration = SignedDuration::from_secs(1);

/// What becomes of a delivery that is, or was, in the retry set, or is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Waiting,
    Delivered,
    Dead,
}

/// What is to be recorded.
#[derive(Debug)]
pub(super) struct Record {
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

/// What was gathered, without what only the deliveries themselves can tell.
pub(super) struct Gathered {
    pub(super) settlement: Settlement,
    pub(super) fates: BTreeMap<u64, Fate>,
    /// Put into the retry set ahead of what was read.
    pub(super) ahead: BTreeSet<u64>,
}

impl Record {
    pub(super) fn new(cursor: u64, breaker: store::Breaker) -> Self {
        Self {
            fates: BTreeMap::new(),
            attempts: Vec::new(),
            stopped: None,
            since: None,
            passed_since: None,
            cursor,
            breaker,
            replays_known: None,
            ahead: BTreeSet::new(),
            outstanding: None,
        }
    }

    fn news(&mut self, now: Timestamp) {
        self.since.get_or_insert(now);
    }

    pub(super) fn fate(&mut self, seq: u64, fate: Fate, now: Timestamp) {
        self.fates.insert(seq, fate);
        self.news(now);
    }

    pub(super) fn attempt(&mut self, attempt: Attempt, now: Timestamp) {
        self.attempts.push(attempt);
        self.news(now);
    }

    pub(super) fn stopped(&mut self, stopped: Stopped) {
        self.stopped = Some(stopped);
    }

    /// An event was passed over.
    pub(super) fn passed(&mut self, now: Timestamp) {
        self.passed_since.get_or_insert(now);
    }

    pub(super) fn replay_known(&mut self, ticket: u64, now: Timestamp) {
        self.replays_known = Some(ticket);
        self.news(now);
    }

    /// One ahead of what was read is in the retry set.
    pub(super) fn waits_ahead(&mut self, seq: u64) {
        self.ahead.insert(seq);
    }

    /// Whether it was given up, and that is not on its way to the record; it is not to be recorded any more then.
    pub(super) fn live_again(&mut self, seq: u64) -> bool {
        self.fates.remove(&seq) == Some(Fate::Dead)
    }

    /// The number of the last attempt that is not known to be on record; 0 when there is none.
    pub(super) fn last_attempt(&self, seq: u64) -> u32 {
        let outstanding = self.outstanding.iter().flat_map(|it| &it.settlement.attempts);
        let attempts = self.attempts.iter().chain(outstanding);
        let numbers = attempts
            .filter(|attempt| attempt.seq == seq)
            .map(|attempt| attempt.number);
        numbers.max().unwrap_or(0)
    }

    /// Attempts that are not known to be on record.
    pub(super) fn attempts(&self) -> usize {
        let outstanding = self.outstanding.as_ref();
        self.attempts.len() + outstanding.map_or(0, |it| it.settlement.attempts.len())
    }

    /// The subscriber's stop is not durable yet.
    pub(super) fn is_stopping(&self) -> bool {
        let outstanding = self.outstanding.as_ref();
        self.stopped.is_some() || outstanding.is_some_and(|it| it.settlement.stopped.is_some())
    }

    pub(super) fn is_outstanding(&self) -> bool {
        self.outstanding.is_some()
    }

    /// When to record, with the cursor at this place; `None` while there is nothing, or while it is with the store.
    pub(super) fn due(&self, cursor: u64, bounds: &Bounds) -> Option<Timestamp> {
        if let Some(outstanding) = &self.outstanding {
            return outstanding.again_at;
        }
        let at_once = self.attempts.len() >= bounds.record_at
            || self.stopped.is_some()
            || cursor.saturating_sub(self.cursor) >= bounds.cursor_at;
        if at_once {
            return Some(Timestamp::MIN);
        }
        let after = |since: Option<Timestamp>, pause| since.map(|since| later(since, pause));
        [after(self.since, RECORD_AFTER), after(self.passed_since, CURSOR_AFTER)]
            .into_iter()
            .flatten()
            .min()
    }

    /// Everything to record, once; `None` when there is nothing.
    pub(super) fn gather(&mut self, cursor: u64, breaker: store::Breaker) -> Option<Gathered> {
        self.since = None;
        self.passed_since = None;
        let is_empty = self.fates.is_empty()
            && self.attempts.is_empty()
            && self.ahead.is_empty()
            && self.replays_known.is_none()
            && self.stopped.is_none();
        if cursor == self.cursor && is_empty {
            return None;
        }
        self.cursor = cursor;
        let is_news = std::mem::replace(&mut self.breaker, breaker) != breaker;
        Some(Gathered {
            settlement: Settlement {
                cursor,
                attempts: std::mem::take(&mut self.attempts),
                stopped: self.stopped.take(),
                breaker: is_news.then_some(breaker),
                replays_known: self.replays_known.take(),
                ..Settlement::default()
            },
            fates: std::mem::take(&mut self.fates),
            ahead: std::mem::take(&mut self.ahead),
        })
    }

    /// It is with the store from now on.
    pub(super) fn hand_out(&mut self, settlement: Settlement) -> Arc<Settlement> {
        let settlement = Arc::new(settlement);
        self.outstanding = Some(Outstanding {
            settlement: Arc::clone(&settlement),
            again_at: None,
        });
        settlement
    }

    /// The one that failed, as it was; `None` while it is with the store.
    pub(super) fn hand_out_again(&mut self) -> Option<Arc<Settlement>> {
        let outstanding = self.outstanding.as_mut()?;
        outstanding.again_at.take()?;
        Some(Arc::clone(&outstanding.settlement))
    }

    /// What is durable now.
    pub(super) fn settled(&mut self) -> Option<Arc<Settlement>> {
        self.outstanding.take().map(|outstanding| outstanding.settlement)
    }

    /// Nothing of it was recorded.
    pub(super) fn not_settled(&mut self, now: Timestamp) {
        if let Some(outstanding) = &mut self.outstanding {
            outstanding.again_at = Some(later(now, SETTLE_AGAIN));
        }
    }
}
