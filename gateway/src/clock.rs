//! The only door to now, to sleep and to chance, so that everything else can be driven by values.

use std::{
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

/// How far the wall clock may be off what has passed since it was looked at last without having been set.
const SET_MIN: SignedDuration = SignedDuration::from_mins(1);
/// How long the wall clock has to stay where it was set before ages go by it.
const BELIEVED_AFTER: Duration = Duration::from_secs(10 * 60);

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The wall clock, by which ages are judged. One that is set is not believed at once: until it has stayed so for ten
/// minutes, time goes on as it did before. What is too old is removed for good, and a clock that was a month ahead for a
/// moment must not have removed everything.
pub fn aging() -> Timestamp {
    static AGING: LazyLock<(Instant, Mutex<Aging>)> =
        LazyLock::new(|| (Instant::now(), Mutex::new(Aging::from(now()))));
    let (since, aging) = &*AGING;
    let mut aging = aging.lock().unwrap_or_else(PoisonError::into_inner);
    aging.look(now(), since.elapsed())
}

#[derive(Debug)]
struct Aging {
    /// What the wall clock showed when it was believed last, and what had passed by then.
    wall: Timestamp,
    passed: Duration,
    /// What had passed when it was found to be set.
    set: Option<Duration>,
}

impl From<Timestamp> for Aging {
    fn from(wall: Timestamp) -> Self {
        Self {
            wall,
            passed: Duration::ZERO,
            set: None,
        }
    }
}

impl Aging {
    fn look(&mut self, wall: Timestamp, passed: Duration) -> Timestamp {
        let expected = self
            .wall
            .checked_add(passed.saturating_sub(self.passed))
            .unwrap_or(Timestamp::MAX);
        let is_set = expected.duration_since(wall).abs() >= SET_MIN;
        let set = is_set.then(|| *self.set.get_or_insert(passed));
        if set.is_some_and(|set| passed.saturating_sub(set) < BELIEVED_AFTER) {
            return expected;
        }
        *self = Self {
            wall,
            passed,
            set: None,
        };
        wall
    }
}

/// A clock that passes as time does, whatever becomes of the wall clock: by it pauses are measured.
#[derive(Debug)]
pub struct Steady {
    began: Timestamp,
    since: Instant,
}

impl Steady {
    pub fn from(began: Timestamp) -> Self {
        Self {
            began,
            since: Instant::now(),
        }
    }

    pub fn now(&self) -> Timestamp {
        self.began.checked_add(self.since.elapsed()).unwrap_or(Timestamp::MAX)
    }
}

/// Processor time that the calling thread has used: unlike the time on a wall, not lengthened by other work.
pub fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or_default(),
    )
}

/// Waits without holding a thread.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// A number in `0.0..1.0` from the operating system, for jitter.
pub fn chance() -> f64 {
    let random = getrandom::u64().expect("the operating system has randomness once the process runs");
    // The 53 high bits are all that a double can tell apart.
    (random >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_clock_that_is_set_is_believed_once_it_stays_so() {
        let day = 86_400;
        for jump in [40 * day, -40 * day] {
            let mut aging = Aging::from(at(0));
            let mut look = |wall: i64, passed: u64| aging.look(at(wall), Duration::from_secs(passed));
            // It drifts, and is put right by seconds.
            assert_eq!(look(61, 60), at(61));
            assert_eq!(look(100, 101), at(100));
            // For a moment it shows another month.
            assert_eq!(look(110 + jump, 111), at(110));
            assert_eq!(look(700 + jump, 701), at(700));
            assert_eq!(look(705, 706), at(705));
            // Then it stays so.
            assert_eq!(look(800 + jump, 801), at(800));
            assert_eq!(look(1399 + jump, 1400), at(1399));
            assert_eq!(look(1400 + jump, 1401), at(1400 + jump));
            assert_eq!(look(1500 + jump, 1501), at(1500 + jump));
        }
    }
}
