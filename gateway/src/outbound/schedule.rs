//! Decides what follows an attempt: done, another one and when, given up, or the subscriber's stop.
//!
//! Pure: the time and the chance for the jitter are handed in.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::deliver::{Failure, Outcome};

/// A pause becomes up to this part longer or shorter, so that the deliveries one outage has gathered do not all come back
/// in the same second.
const JITTER: f64 = 0.1;

/// A longer `Retry-After` counts as this: no delivery sleeps past what the longest default pause would allow.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What to do with a delivery after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    Done,
    /// Another attempt, not before this time.
    Again(Timestamp),
    /// All attempts are spent.
    Dead,
    /// The subscriber wants no deliveries any more. This one waits, and is due as soon as the subscriber is resumed.
    Stop,
}

/// The pauses before the attempts of a delivery, the first included; their number is the number of attempts.
#[derive(Debug, Clone)]
pub struct Schedule {
    pauses: Vec<Duration>,
}

impl Schedule {
    /// An empty list means one attempt, at once.
    pub fn new(pauses: Vec<Duration>) -> Self {
        Self { pauses }
    }

    /// When the first attempt is due.
    ///
    /// It counts from the keeping of the event, so that a backlog is not delayed once more; and from `now` if the clock
    /// was set back since.
    pub fn first(&self, kept_at: Timestamp, now: Timestamp) -> Timestamp {
        later(kept_at.min(now), self.pauses.first().copied().unwrap_or_default())
    }

    /// What follows the outcome of an attempt, so many of the schedule made with it, with `chance` in `0.0..1.0`.
    ///
    /// A `Retry-After` (RFC 9110, 10.2.3) is a minimum, of at most 24 hours: the attempt after it comes when both it and
    /// the pause are over. The jitter goes both ways on the pause and only upwards on a `Retry-After`.
    ///
    /// One whose last attempt was answered 410 Gone has the whole schedule once more when the subscriber is resumed.
    pub fn next(&self, made: u32, outcome: &Outcome, now: Timestamp, chance: f64) -> NextStep {
        let failure = match outcome {
            Outcome::Delivered { status: _ } => return NextStep::Done,
            Outcome::Gone => return NextStep::Stop,
            Outcome::Failed(failure) => failure,
        };
        let pause = match (made as usize).checked_rem(self.pauses.len()) {
            None | Some(0) => return NextStep::Dead,
            Some(made) => self.pauses[made],
        };
        let pause = later(now, pause.mul_f64(1.0 + JITTER * (2.0 * chance - 1.0)));
        NextStep::Again(pause.max(asked(failure, now, chance).unwrap_or(now)))
    }
}

/// Until when a subscriber asked to be left alone altogether: a `Retry-After` of 429 or 503 speaks of the one who answers,
/// that of any other status of the delivery it answers.
pub fn asked_of_all(outcome: &Outcome, now: Timestamp, chance: f64) -> Option<Timestamp> {
    match outcome {
        Outcome::Failed(failure) if matches!(failure.status, Some(429 | 503)) => asked(failure, now, chance),
        Outcome::Delivered { status: _ } | Outcome::Failed(_) | Outcome::Gone => None,
    }
}

fn asked(failure: &Failure, now: Timestamp, chance: f64) -> Option<Timestamp> {
    let asked = failure.retry_after?.min(RETRY_AFTER_MAX);
    Some(later(now, asked.mul_f64(1.0 + JITTER * chance)))
}

fn later(from: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by)
        .ok()
        .and_then(|by| from.checked_add(by).ok())
        .unwrap_or(Timestamp::MAX)
}

/// Reads a `Retry-After` header: seconds, or an HTTP date in any of its three forms (RFC 9110, 5.6.7 and 10.2.3). A date
/// in the past is no wait. `None` when it is neither.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are more seconds than anyone waits.
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let date = Timestamp::try_from(httpdate::parse_http_date(value).ok()?).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{super::deliver::Reason, *};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn failed(retry_after: Option<u64>) -> Outcome {
        Outcome::Failed(Failure {
            reason: Reason::Status,
            status: Some(500),
            retry_after: retry_after.map(Duration::from_secs),
        })
    }

    fn schedule(seconds: &[u64]) -> Schedule {
        Schedule::new(seconds.iter().copied().map(Duration::from_secs).collect())
    }

    #[test]
    fn the_first_attempt_counts_from_the_keeping() {
        assert_eq!(schedule(&[0, 5]).first(at(100), at(103)), at(100));
        assert_eq!(schedule(&[10]).first(at(100), at(103)), at(110));
        // The clock was set back by an hour.
        assert_eq!(schedule(&[10]).first(at(3700), at(103)), at(113));
        assert_eq!(schedule(&[]).first(at(100), at(103)), at(100));
    }

    #[test]
    fn the_pauses_follow_in_order_and_then_it_is_dead() {
        let schedule = schedule(&[0, 5, 300]);
        // A chance of one half is no jitter.
        assert_eq!(schedule.next(1, &failed(None), at(100), 0.5), NextStep::Again(at(105)));
        assert_eq!(schedule.next(2, &failed(None), at(100), 0.5), NextStep::Again(at(400)));
        assert_eq!(schedule.next(3, &failed(None), at(100), 0.5), NextStep::Dead);
        // The third was answered 410: it has the same attempts once more.
        assert_eq!(schedule.next(4, &failed(None), at(100), 0.5), NextStep::Again(at(105)));
        assert_eq!(schedule.next(6, &failed(None), at(100), 0.5), NextStep::Dead);
        assert_eq!(
            schedule.next(1, &Outcome::Delivered { status: 204 }, at(100), 0.5),
            NextStep::Done
        );
        assert_eq!(schedule.next(3, &Outcome::Gone, at(100), 0.5), NextStep::Stop);
    }

    #[test]
    fn jitter_stays_within_a_tenth() {
        let schedule = schedule(&[0, 100]);
        assert_eq!(schedule.next(1, &failed(None), at(0), 0.0), NextStep::Again(at(90)));
        for percent in 0..100 {
            let NextStep::Again(due) = schedule.next(1, &failed(None), at(0), f64::from(percent) / 100.0) else {
                panic!("there is an attempt left");
            };
            assert!((at(90)..at(110)).contains(&due), "{due}");
        }
    }

    #[test]
    fn retry_after_is_a_bounded_minimum() {
        let schedule = schedule(&[0, 5, 300]);
        assert_eq!(schedule.next(1, &failed(Some(60)), at(0), 0.0), NextStep::Again(at(60)));
        assert_eq!(
            schedule.next(2, &failed(Some(60)), at(0), 0.5),
            NextStep::Again(at(300))
        );
        assert_eq!(
            schedule.next(1, &failed(Some(u64::MAX)), at(0), 0.0),
            NextStep::Again(at(24 * 60 * 60))
        );
        assert_eq!(schedule.next(3, &failed(Some(60)), at(0), 0.5), NextStep::Dead);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "1994-11-06T08:49:07Z".parse().unwrap();
        for (value, seconds) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(30)),
            ("Sun Nov  6 08:49:37 1994", Some(30)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
            ("1.5", None),
        ] {
            assert_eq!(retry_after(value, now), seconds.map(Duration::from_secs), "{value}");
        }
    }
}
