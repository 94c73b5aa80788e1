//! Spares a subscriber that is down, and lets it come back at its own pace.
//!
//! Closed, it lets through as many attempts as are configured. It opens after [`OPEN_AFTER`] failures in a row that speak
//! of the subscriber rather than of an event, and then lets through one attempt at a time, with growing pauses: enough to
//! notice that the subscriber is back, without spending everyone's attempts until then. The first that gets through closes
//! it. What has piled up by then does not come all at once: first one at a time, then twice as many with every round of
//! successes, half as many with every failure, until it is as many as configured.
//!
//! Pure: the time and the chance for the jitter are handed in.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    deliver::{Outcome, Reason},
    schedule,
};
use crate::store;

pub(super) const OPEN_AFTER: u32 = 10;
/// The pause after each single attempt that fails, because a refused connection takes no time: this long at first …
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// … twice as long each time, and never longer than this.
const PAUSE_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub(super) struct Breaker {
    in_flight_max: usize,
    /// Smaller than `in_flight_max` from when it opens until the subscriber has shown that it can take as many again.
    in_flight_limit: usize,
    /// Since the limit changed.
    successes: usize,
    failures_in_a_row: u32,
    /// No attempt of any delivery before this time, for one of the two reasons …
    not_before: Timestamp,
    /// … of which this one, the subscriber's own `Retry-After`, also stands when an attempt gets through that began before
    /// it asked.
    asked_until: Timestamp,
}

impl Breaker {
    /// Takes up where the record ends.
    pub(super) fn new(in_flight_max: usize, recorded: store::Breaker) -> Self {
        let in_flight_max = in_flight_max.max(1);
        let store::Breaker {
            failures_in_a_row,
            not_before,
            in_flight_limit,
        } = recorded;
        let not_before = not_before.unwrap_or(Timestamp::MIN);
        Self {
            in_flight_max,
            in_flight_limit: in_flight_limit.map_or(in_flight_max, |limit| limit.clamp(1, in_flight_max)),
            successes: 0,
            failures_in_a_row,
            not_before,
            // No attempt is under way that began before it asked.
            asked_until: not_before,
        }
    }

    pub(super) fn recorded(&self) -> store::Breaker {
        store::Breaker {
            failures_in_a_row: self.failures_in_a_row,
            not_before: (self.not_before > Timestamp::MIN).then_some(self.not_before),
            // The next process may be allowed more than this one.
            in_flight_limit: (self.is_open() || self.in_flight_limit < self.in_flight_max)
                .then_some(self.in_flight_limit),
        }
    }

    /// How an attempt ended.
    pub(super) fn heard(&mut self, outcome: &Outcome, now: Timestamp, chance: f64) {
        match health(outcome) {
            Health::Failing => self.failed(outcome, now, chance),
            Health::Well => self.succeeded(),
            Health::Unknown => {}
        }
    }

    fn failed(&mut self, outcome: &Outcome, now: Timestamp, chance: f64) {
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        if let Some(until) = schedule::asked_of_all(outcome, now, chance) {
            self.asked_until = self.asked_until.max(until);
        }
        self.not_before = self.not_before.max(self.asked_until);
        if let Some(since_open) = self.failures_in_a_row.checked_sub(OPEN_AFTER) {
            let pause = PAUSE_MIN.saturating_mul(2u32.saturating_pow(since_open)).min(PAUSE_MAX);
            self.not_before = self.not_before.max(now.saturating_add(pause).unwrap_or(now));
            self.in_flight_limit = 1;
        } else if self.in_flight_limit < self.in_flight_max {
            self.in_flight_limit = (self.in_flight_limit / 2).max(1);
        }
        self.successes = 0;
    }

    fn succeeded(&mut self) {
        self.failures_in_a_row = 0;
        self.not_before = self.asked_until;
        if self.in_flight_limit < self.in_flight_max {
            self.successes += 1;
            if self.successes >= self.in_flight_limit {
                self.in_flight_limit = self.in_flight_limit.saturating_mul(2).min(self.in_flight_max);
                self.successes = 0;
            }
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.failures_in_a_row >= OPEN_AFTER
    }

    /// How many attempts may be under way.
    pub(super) fn in_flight_limit(&self) -> usize {
        self.in_flight_limit
    }

    pub(super) fn not_before(&self) -> Timestamp {
        self.not_before
    }
}

/// What an outcome says about the subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Health {
    /// It is there, whatever it thinks of the event.
    Well,
    Failing,
    Unknown,
}

/// One that answers 4xx is there, and it is the event it does not like; but 408 and 429 are what an overloaded one says.
fn health(outcome: &Outcome) -> Health {
    match outcome {
        Outcome::Delivered { status: _ } | Outcome::Gone => Health::Well,
        Outcome::Failed(failure) => match (failure.reason, failure.status) {
            (Reason::Status, Some(400..=407 | 409..=428 | 430..=499)) => Health::Well,
            (
                Reason::Status
                | Reason::Redirect
                | Reason::Timeout
                | Reason::Connect
                | Reason::Tls
                | Reason::Dns
                | Reason::Closed
                | Reason::RefusedAddress,
                _,
            ) => Health::Failing,
            // It was never asked.
            (Reason::Internal, _) => Health::Unknown,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::{super::deliver::Failure, *};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn status(status: u16, retry_after: Option<u64>) -> Outcome {
        Outcome::Failed(Failure {
            reason: Reason::Status,
            status: Some(status),
            retry_after: retry_after.map(Duration::from_secs),
        })
    }

    const WELL: Outcome = Outcome::Delivered { status: 200 };

    fn fresh(in_flight_max: usize) -> Breaker {
        Breaker::new(in_flight_max, store::Breaker::default())
    }

    fn open(in_flight_max: usize) -> Breaker {
        let mut breaker = fresh(in_flight_max);
        for _ in 0..OPEN_AFTER {
            assert!(!breaker.is_open());
            breaker.heard(&status(500, None), at(0), 0.5);
        }
        assert!(breaker.is_open());
        breaker
    }

    #[test]
    fn an_event_it_does_not_like_says_nothing_of_the_subscriber() {
        for code in [400, 404, 422] {
            assert_eq!(health(&status(code, None)), Health::Well, "{code}");
        }
        for code in [101, 408, 429, 500, 503] {
            assert_eq!(health(&status(code, None)), Health::Failing, "{code}");
        }
    }

    #[test]
    fn one_that_comes_back_takes_twice_as_many_with_every_round() {
        let mut breaker = open(20);
        let mut limits = Vec::new();
        while breaker.in_flight_limit() < 20 {
            let round = breaker.in_flight_limit();
            limits.push(round);
            for _ in 0..round {
                assert_eq!(breaker.in_flight_limit(), round);
                breaker.heard(&WELL, at(60), 0.5);
            }
        }
        assert_eq!(limits, [1, 2, 4, 8, 16]);
        // Then it is as any other: a failure holds back its call and no more.
        breaker.heard(&status(500, None), at(61), 0.5);
        assert_eq!((breaker.in_flight_limit(), breaker.not_before()), (20, Timestamp::MIN));
    }

    #[test]
    fn a_failure_on_the_way_back_halves() {
        let mut breaker = open(20);
        for _ in 0..1 + 2 + 4 + 3 {
            breaker.heard(&WELL, at(60), 0.5);
        }
        assert_eq!(breaker.in_flight_limit(), 8);
        for limit in [4, 2, 1, 1] {
            breaker.heard(&status(500, None), at(61), 0.5);
            assert_eq!(breaker.in_flight_limit(), limit);
        }
        breaker.heard(&WELL, at(62), 0.5);
        assert_eq!(breaker.in_flight_limit(), 2);
    }

    #[test]
    fn a_restart_changes_nothing() {
        let before = open(20);
        assert_eq!(before.not_before(), at(1));
        let mut after = Breaker::new(20, before.recorded());
        assert_eq!(
            (after.is_open(), after.not_before(), after.in_flight_limit()),
            (true, at(1), 1)
        );
        assert_eq!(after.recorded(), before.recorded());
        // The next pause is the longer one, as without it.
        after.heard(&status(500, None), at(1), 0.5);
        assert_eq!(after.not_before(), at(3));
        // Half-way back as well.
        for _ in 0..1 + 2 {
            after.heard(&WELL, at(3), 0.5);
        }
        assert_eq!(Breaker::new(20, after.recorded()).in_flight_limit(), 4);
        assert_eq!(Breaker::new(3, after.recorded()).in_flight_limit(), 3);

        let mut asked = fresh(20);
        asked.heard(&status(429, Some(100)), at(0), 0.0);
        let asked = Breaker::new(20, asked.recorded());
        assert_eq!((asked.is_open(), asked.not_before()), (false, at(100)));

        assert_eq!(fresh(20).recorded(), store::Breaker::default());
    }

    #[test]
    fn one_that_is_down_is_asked_one_at_a_time_also_when_more_are_allowed_than_before() {
        let more_allowed = Breaker::new(8, open(1).recorded());
        assert_eq!((more_allowed.is_open(), more_allowed.in_flight_limit()), (true, 1));
    }
}
