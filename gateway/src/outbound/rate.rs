//! Holds a subscriber's attempts to its rate.
//!
//! Pure: the time is handed in.
//!
//! What must stay true: no second, or minute, of whichever the rate speaks, sees more attempts than the rate says, wherever
//! it begins: not after a long rest, and not around a restart either.

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use crate::config::Rate;

/// As many tokens as one second allows, at least one, which is the most that comes in one burst.
///
/// A token that is taken is back after the time in which the rate allows for all of them. A bucket that is refilled all the
/// time would give out a full load and, within the same second, what was refilled meanwhile: nearly twice the rate.
#[derive(Debug)]
pub(super) struct Bucket {
    tokens: usize,
    back_after: SignedDuration,
    /// When those that are taken are back, the earliest first.
    taken: VecDeque<Timestamp>,
}

impl Bucket {
    /// All tokens are taken: what another process did a moment ago is not known.
    pub(super) fn new(rate: Rate, now: Timestamp) -> Self {
        let seconds = u32::try_from(rate.per.as_secs()).unwrap_or(u32::MAX).max(1);
        let count = rate.count.max(1);
        // The times in which all are back must add up to that of the rate, or a part of one more would fit in.
        let tokens = (1..=(count / seconds).max(1))
            .rev()
            .find(|tokens| count.is_multiple_of(*tokens))
            .unwrap_or(1);
        let times = i128::from(count / tokens);
        let nanos = SignedDuration::try_from(rate.per).map_or(0, |per| per.as_nanos());
        let back_after = SignedDuration::from_nanos_i128((nanos + times - 1) / times);
        let back_at = later(now, back_after);
        Self {
            tokens: tokens as usize,
            back_after,
            taken: std::iter::repeat_n(back_at, tokens as usize).collect(),
        }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Timestamp) -> bool {
        if self.back_at() > now {
            return false;
        }
        if self.taken.len() == self.tokens {
            self.taken.pop_front();
        }
        self.taken.push_back(later(now, self.back_after));
        true
    }

    /// When there is a token.
    pub(super) fn back_at(&self) -> Timestamp {
        match self.taken.front() {
            Some(first) if self.taken.len() == self.tokens => *first,
            _ => Timestamp::MIN,
        }
    }
}

/// The calendar's end is as late as it gets.
pub(super) fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.saturating_add(by).unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn micros(micros: i64) -> Timestamp {
        Timestamp::from_microsecond(1_700_000_000_000_000 + micros).unwrap()
    }

    fn rate(count: u32, seconds: u64) -> Rate {
        Rate {
            count,
            per: Duration::from_secs(seconds),
        }
    }

    /// Takes whatever there is at each of these times.
    fn taken(bucket: &mut Bucket, times: impl Iterator<Item = i64>) -> Vec<i64> {
        times
            .flat_map(|at| std::iter::repeat_n(at, 200_000))
            .filter(|at| bucket.back_at() <= micros(*at) && bucket.take(micros(*at)))
            .collect()
    }

    #[test]
    fn no_second_and_no_minute_sees_more_wherever_it_begins() {
        for (count, seconds) in [
            (1, 1),
            (50, 1),
            (1, 60),
            (7, 60),
            (90, 60),
            (600, 60),
            (607, 60),
            (615, 60),
        ] {
            let mut bucket = Bucket::new(rate(count, seconds), micros(0));
            let per = seconds as i64 * 1_000_000;
            // As soon as it goes for three times the period, then after a long rest, then at odd times.
            let mut all = Vec::new();
            let mut at = 0;
            for step in [1, 0, 333_333] {
                let until = at + 3 * per;
                while at < until {
                    while bucket.take(micros(at)) {
                        all.push(at);
                    }
                    let wait = (bucket.back_at().as_microsecond() - micros(at).as_microsecond()).max(0);
                    at += wait.max(1) + step;
                }
                at += 10 * per;
            }
            let most = (0..all.len())
                .map(|first| all[first..].iter().take_while(|it| **it < all[first] + per).count())
                .max()
                .unwrap();
            let burst = (0..all.len())
                .map(|first| all[first..].iter().take_while(|it| **it == all[first]).count())
                .max()
                .unwrap();
            assert!(most <= count as usize, "{most} of {count} in {seconds} s");
            assert!(
                burst <= (count as usize / seconds as usize).max(1),
                "{burst} at once of {count}"
            );
            // And it is used.
            let used = all.iter().filter(|at| **at < 3 * per).count();
            assert!(
                used + 2 * bucket.tokens >= 3 * count as usize * 9 / 10,
                "{used} of {count}"
            );
        }
    }

    #[test]
    fn a_burst_is_one_seconds_worth() {
        let mut bucket = Bucket::new(rate(50, 1), micros(0));
        assert_eq!(bucket.back_at(), micros(1_000_000), "a restart is no way around it");
        let hour = 3_600_000_000;
        let times = [hour, hour + 999_999, hour + 1_000_000];
        let at = taken(&mut bucket, times.into_iter());
        assert_eq!(at.iter().filter(|at| **at == hour).count(), 50);
        assert_eq!(at.iter().filter(|at| **at == hour + 1_000_000).count(), 50);
        assert_eq!(at.len(), 100);
    }
}
