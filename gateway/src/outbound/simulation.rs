//! Whole histories of one subscriber in simulated time, each from its seed: a feed, a store that fails, a process that
//! crashes, stops and starts, a subscriber of moods, operators, and a wall clock that is set. Nothing sleeps; a history of
//! days takes a fraction of a millisecond.
//!
//! [`Core`] is driven as `follow` drives it, and only woken when it asked to be. What every history shows:
//!
//! - Every event the subscriber wants is delivered, or given up with all its attempts on record, or still owed: the durable
//!   cursor never passes one that is neither delivered, nor dead, nor in the durable retry set.
//! - With `order = "call"`, an attempt begins only when every earlier event of its call that the subscriber wants was
//!   delivered before, or was given up, durably on record. One that an operator replays is owed again from when the process
//!   knows, and those after it wait. Never are two of one call under way.
//! - No more than `in_flight` attempts are under way, and one only while the breaker is open, also after a restart. No time
//!   of the rate's length sees more attempts than the rate says, wherever it begins, restarts included.
//! - No attempt comes before its pause is over, nor before the time for which the subscriber asked to be left alone, nor
//!   while the subscriber is stopped, nor of anything that is not in the feed. All times are true ones, whatever the clock
//!   shows.
//! - What is remembered stays within its bounds.
//! - Once the world is well everything is settled within a bounded time, and once the subscriber is down for good as well.
//!   Until then [`Core`] never asks to be woken without having something to do.
//!
//! A history that fails names its seed. `CALLFEED_SIM_SEED` runs that one again and tells its story, `CALLFEED_SIM_HISTORIES`
//! sets how many are run (from that seed on, if both are set).

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, VecDeque},
    io::Write as _,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    breaker::OPEN_AFTER,
    deliver::{Attempted, Failure, Outcome, Reason},
    dispatch::{Bounds, Core, Due},
    schedule::NextStep,
    tests,
};
use crate::{
    config::{Order, Pattern, Rate, Subscriber},
    event::Kept,
    store::{Breaker, Progress, Replay, Settlement, Steady, Stopped, Waiting, Wishes},
};

/// Microseconds: of a history, from its beginning.
type Time = i64;

const MILLI: Time = 1000;
const SECOND: Time = 1000 * MILLI;
const MINUTE: Time = 60 * SECOND;
const HOUR: Time = 60 * MINUTE;
const DAY: Time = 24 * HOUR;

const START: Time = 1_700_000_000 * SECOND;
/// As `follow` has them.
const STORE_PAUSE: Time = SECOND;
/// How long a subscriber may take.
const TIMEOUT: Time = 15 * SECOND;
/// What an overloaded subscriber asks for at most, in seconds.
const ASKED_MAX: u64 = 300;
/// A stopped subscriber is resumed within this time.
const RESUMED_WITHIN: Time = 10 * MINUTE;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }

    fn chance(&mut self) -> f64 {
        self.roll(1 << 20) as f64 / (1u64 << 20) as f64
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u64) as usize].clone()
    }

    /// A time shorter than this.
    fn within(&mut self, most: Time) -> Time {
        self.roll(most.max(1) as u64) as Time
    }
}

/// How the subscriber is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Well,
    Slow,
    Failing,
    Refusing,
    Stalling,
    Overloaded,
    Gone,
    /// Does not like some of the events.
    Picky,
    /// The gateway is at fault.
    Misrepresented,
    Mixed,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Keep,
    Replay,
    Resume,
    SetClock,
    StoreFails(bool),
    Stop,
    Start,
    /// The rest is of a life of the process, and means nothing to the next one.
    Answer(u32, u64),
    Abandon(u32),
    Read(u32),
    Recorded(u32),
    LookedUp(u32),
}

/// What is durable.
#[derive(Default)]
struct Disk {
    cursor: u64,
    waiting: BTreeMap<u64, Waiting>,
    dead: BTreeSet<u64>,
    stopped: Option<Stopped>,
    breaker: Breaker,
    steady: Option<Steady>,
    /// When the settlement that says so was taken, in truth.
    settled: Time,
    /// Ticket and place of every replay that is not known.
    replays: Vec<(u64, u64)>,
    /// Every attempt's outcome.
    attempts: BTreeMap<(u64, u32), String>,
    /// What follows from the record.
    pauses: Pauses,
}

/// What the subscriber may rely on.
#[derive(Clone, Default)]
struct Pauses {
    /// Attempts made of a delivery, and when the next may come.
    not_before: HashMap<u64, (u32, Time)>,
    /// No attempt at all before this time.
    held_until: Time,
    /// By how much they are over sooner because the clock was set forward between two processes, in all.
    hastened: Time,
}

impl Pauses {
    fn hasten(&mut self, by: Time) {
        self.hastened += by;
        self.held_until -= by;
        for (_, not_before) in self.not_before.values_mut() {
            *not_before -= by;
        }
    }
}

/// The running process, and what the model knows of it.
struct Life {
    core: Core,
    /// When it began, and what its clock showed then.
    began: (Time, Timestamp),
    order: Order,
    in_flight_max: usize,
    in_flight: HashMap<u64, UnderWay>,
    reading: Reading,
    recording: Recording,
    /// Not known to be durable.
    taken: Option<Taken>,
    look_again: bool,
    settled_last: bool,
    stopping: bool,
    /// In the retry set when it began.
    loaded: usize,
    replays_known: u64,
    /// What it knows to be given up on record, which lets those behind it go on.
    given_up: HashSet<u64>,
    /// Given up, and not yet on record.
    dying: HashSet<u64>,
    pauses: Pauses,
    failures_in_a_row: u32,
    stopped: bool,
}

impl Life {
    /// What its clock shows.
    fn clock(&self, now: Time) -> Timestamp {
        let (began, shown) = self.began;
        Timestamp::from_microsecond(shown.as_microsecond() + now - began).expect("a history is not that long")
    }

    /// When its clock will be past this.
    fn when(&self, at: Timestamp) -> Time {
        let (began, shown) = self.began;
        // What the clock's microseconds cannot tell apart is over with the next one.
        at.as_microsecond() + 1 - shown.as_microsecond() + began
    }
}

struct UnderWay {
    due: Due,
    began: Timestamp,
    /// `None`: the event cannot be read.
    ends: Option<Attempted>,
}

enum Reading {
    Ready,
    UnderWay { room: usize },
    NotBefore(Time),
}

/// A settlement, and what the model knew when it was taken first.
struct Taken {
    settlement: Arc<Settlement>,
    pauses: Pauses,
    dying: HashSet<u64>,
    at: Time,
    /// Wanted once more since then.
    revived: HashSet<u64>,
}

enum Recording {
    Ready,
    Settling,
    LookingUp(Option<Wishes>),
    GivenUp,
}

struct History {
    dice: Dice,
    tells: bool,
    now: Time,
    /// How far the wall clock is behind.
    set_back: Time,
    /// What the clock has shown: what was too old then was given up, whatever the clock shows since.
    latest: (Timestamp, Time),
    config: Subscriber,
    keep: Duration,
    bounds: Bounds,
    /// Each until its time; the last one for ever.
    moods: Vec<(Time, Mood)>,
    /// The subscriber stays down from when the world is calm.
    for_good: bool,
    /// From here on nothing goes wrong any more.
    calm_at: Time,
    store_fails: bool,
    crashes_left: u64,
    happenings: BinaryHeap<Reverse<(Time, u64, What)>>,
    happened: u64,
    feed: Vec<Arc<Kept>>,
    model: Kept,
    disk: Disk,
    life: Option<Life>,
    lives: u32,
    slots: u64,
    /// How often an operator wanted an event once more.
    replays: u64,
    /// Of those, the ones that were not attempted since.
    wanted: BTreeSet<u64>,
    /// All that were wanted once more at some time: their schedule may have begun anew after any attempt.
    replayed: BTreeSet<u64>,
    /// What the subscriber had, and the process of then knew.
    had: HashSet<u64>,
    /// When the latest attempts began, as far as the rate looks back.
    attempts: VecDeque<Time>,
}

impl History {
    fn new(seed: u64, model: &Kept, tells: bool) -> Self {
        let mut dice = Dice(seed);
        let d = &mut dice;
        let mut config = tests::subscriber("crm", "http://127.0.0.1:1/");
        config.schedule = d
            .pick::<&[u64]>(&[
                &[0],
                &[0, 5],
                &[0, 5, 60],
                &[10, 1, 1],
                &[0, 5, 300, 1800],
                &[0, 0, 7200, 3600, 5],
            ])
            .iter()
            .copied()
            .map(Duration::from_secs)
            .collect();
        config.in_flight_max = 1 + d.roll(6) as usize;
        config.waiting_max = 1 + d.roll(30) as usize;
        config.order = if d.one_in(4) { Order::None } else { Order::Call };
        config.rate = d.one_in(2).then(|| {
            let (count, seconds) = d.pick(&[(1, 1), (3, 1), (20, 1), (1, 60), (7, 60), (90, 60), (600, 60)]);
            Rate {
                count,
                per: Duration::from_secs(seconds),
            }
        });
        if d.one_in(2) {
            config.filter.types = vec![Pattern::Prefix("call.".into())];
        }
        let bounds = Bounds {
            window: 1 + d.roll(8) as usize,
            window_bytes: d.pick(&[1 << 20, 400]),
            record_at: 1 + d.roll(12) as usize,
            record_max: 1 + d.roll(16) as usize,
            cursor_at: 1 + d.roll(12),
            cursor_lag_max: 1 + d.roll(20),
            expire_at_once: 1 + d.roll(4) as usize,
        };

        let mut moods = Vec::new();
        let mut until = 0;
        for _ in 0..d.roll(7) {
            let most = d.pick(&[SECOND, 30 * SECOND, 10 * MINUTE, 6 * HOUR, 3 * DAY]);
            until += d.within(most);
            moods.push((
                until,
                d.pick(&[
                    Mood::Well,
                    Mood::Slow,
                    Mood::Failing,
                    Mood::Refusing,
                    Mood::Stalling,
                    Mood::Overloaded,
                    Mood::Gone,
                    Mood::Picky,
                    Mood::Misrepresented,
                    Mood::Mixed,
                    Mood::Mixed,
                ]),
            ));
        }
        let for_good = d.one_in(4);
        let keeps: &[Time] = if for_good {
            &[100 * SECOND, HOUR, DAY]
        } else {
            &[100 * SECOND, 2 * HOUR, 30 * DAY, 30 * DAY]
        };
        let keep = Duration::from_micros(d.pick(keeps) as u64);
        let last = if for_good {
            d.pick(&[Mood::Failing, Mood::Refusing, Mood::Stalling, Mood::Overloaded])
        } else {
            Mood::Well
        };

        let span = d.pick(&[1, 10 * SECOND, 10 * MINUTE, DAY]);
        let calm_at = until.max(span) + d.within(MINUTE);
        moods.push((Time::MAX, last));
        let mut history = Self {
            now: 0,
            tells,
            set_back: 0,
            latest: (Timestamp::MIN, 0),
            config,
            keep,
            bounds,
            moods,
            for_good,
            calm_at,
            store_fails: false,
            crashes_left: d.roll(5),
            happenings: BinaryHeap::new(),
            happened: 0,
            feed: Vec::new(),
            model: model.clone(),
            disk: Disk::default(),
            life: None,
            lives: 0,
            slots: 0,
            replays: 0,
            wanted: BTreeSet::new(),
            replayed: BTreeSet::new(),
            had: HashSet::new(),
            attempts: VecDeque::new(),
            dice,
        };
        history.plan(span);
        history
    }

    fn plan(&mut self, span: Time) {
        self.at(0, What::Start);
        for _ in 0..self.dice.roll(40) {
            let at = self.dice.within(span);
            self.at(at, What::Keep);
        }
        let rare = |it: &mut Self, sides: u64| if it.dice.one_in(3) { it.dice.roll(sides) } else { 0 };
        for _ in 0..rare(self, 5) {
            let at = self.dice.within(self.calm_at);
            self.at(at, What::Replay);
        }
        for _ in 0..rare(self, 3) {
            let at = self.dice.within(self.calm_at);
            self.at(at, What::SetClock);
        }
        for _ in 0..rare(self, 4) {
            let at = self.dice.within(self.calm_at);
            self.at(at, What::Stop);
        }
        for _ in 0..rare(self, 4) {
            let at = self.dice.within(self.calm_at);
            let most = self.dice.pick(&[SECOND, MINUTE, 3 * HOUR]);
            let until = (at + self.dice.within(most)).min(self.calm_at);
            self.at(at, What::StoreFails(true));
            self.at(until, What::StoreFails(false));
        }
        self.at(self.calm_at, What::StoreFails(false));
    }

    fn at(&mut self, at: Time, what: What) {
        self.happened += 1;
        self.happenings.push(Reverse((at, self.happened, what)));
    }

    fn after(&mut self, most: Time, what: What) {
        let at = self.now + self.dice.within(most);
        self.at(at, what);
    }

    fn tell(&self, story: impl FnOnce() -> String) {
        if self.tells {
            let seconds = self.now as f64 / SECOND as f64;
            let _ = writeln!(std::io::stderr(), "{seconds:>16.6} {}", story());
        }
    }

    fn clock(&self) -> Timestamp {
        Timestamp::from_microsecond(START + self.now - self.set_back).expect("a history is not that long")
    }

    fn is_wanted(&self, event: &Kept) -> bool {
        self.config.filter.types.is_empty() || event.kind.starts_with("call.")
    }

    fn run(mut self) {
        let mut idle_turns = 0;
        loop {
            self.turn();
            if self.is_done() {
                return self.check_end();
            }
            let next = self.happenings.peek().map(|Reverse((at, ..))| *at);
            let wake = self.wake_at();
            let at = next
                .into_iter()
                .chain(wake)
                .min()
                .expect("owes deliveries and waits for nothing");
            let settled_by = self.settled_by();
            assert!(
                at <= settled_by,
                "not settled by {settled_by}, cursor {} of {}",
                self.disk.cursor,
                self.feed.len()
            );
            if at > self.now || next == Some(at) {
                idle_turns = 0;
            } else {
                idle_turns += 1;
                assert!(idle_turns < 100, "it is woken for nothing");
            }
            self.now = self.now.max(at);
            while let Some(Reverse((at, _, what))) = self.happenings.peek().cloned() {
                if at > self.now {
                    break;
                }
                self.happenings.pop();
                let crashes = self.crashes_left > 0 && self.now < self.calm_at && self.dice.one_in(40);
                if crashes && self.dice.one_in(2) {
                    self.crash();
                    self.happen(what);
                } else {
                    self.happen(what);
                    if crashes {
                        self.crash();
                    }
                }
            }
        }
    }

    /// When even the slowest history like this one is over.
    fn settled_by(&self) -> Time {
        // The clock may be set back three times, an hour each, which delays nothing but ages.
        let set_back = if self.for_good { 3 * HOUR } else { 0 };
        let down = if self.lives > 1 || self.life.is_none() { HOUR } else { 0 };
        // What is under way when the world is calm may still fail.
        let from = self.calm_at + set_back + down + RESUMED_WITHIN + 10 * MINUTE;
        let ages = if self.for_good {
            self.keep.as_micros() as Time
        } else {
            let pause = self
                .config
                .schedule
                .iter()
                .max()
                .map_or(0, |pause| pause.as_micros() as Time);
            pause.max(ASKED_MAX as Time * SECOND) * 11 / 10
        };
        let each = self
            .config
            .rate
            .map_or(0, |rate| (rate.per.as_micros() as Time) / Time::from(rate.count));
        from + ages + 60 * (each + TIMEOUT)
    }

    fn is_done(&self) -> bool {
        let Some(life) = &self.life else { return false };
        self.now >= self.calm_at
            && self.disk.cursor == self.feed.len() as u64
            && self.disk.waiting.is_empty()
            && self.disk.replays.is_empty()
            && life.in_flight.is_empty()
            && !life.look_again
            && matches!(life.recording, Recording::Ready)
            && life.core.is_at_rest()
    }

    fn check_end(&self) {
        for event in self.feed.iter().filter(|event| self.is_wanted(event)) {
            let over = self.had.contains(&event.seq) || self.disk.dead.contains(&event.seq);
            assert!(over, "{} was lost", event.seq);
        }
        assert!(self.wanted.is_empty(), "{:?} were not delivered once more", self.wanted);
        self.disk.dead.iter().for_each(|seq| self.check_dead(*seq));
    }

    /// What is given up was tried as often as the schedule says, unless it became too old, and all of it is on record.
    ///
    /// One that was delivered and forgotten in a crash begins anew, over its earlier record, and may be given up then.
    fn check_dead(&self, seq: u64) {
        if self.had.contains(&seq) {
            return;
        }
        let record: Vec<_> = self.disk.attempts.range((seq, 0)..=(seq, u32::MAX)).collect();
        let numbers = record.iter().map(|((_, number), _)| *number);
        assert!(
            numbers.eq(1..=record.len() as u32),
            "{seq} has a gap in its record: {record:?}"
        );
        let last = record.last().map(|(_, outcome)| outcome.as_str());
        let schedule = self.config.schedule.len();
        let spent = match self.replayed.contains(&seq) {
            true => record.len() >= schedule,
            false => record.len().is_multiple_of(schedule),
        };
        assert!(
            last == Some("expired") || (last.is_some() && spent),
            "{seq} was given up early: {record:?}"
        );
    }

    /// The latest time that anything can take for the present one.
    fn age(&mut self) {
        let (latest, seen) = self.latest;
        let passed = Duration::from_micros((self.now - seen) as u64);
        self.latest = (self.clock().max(latest + passed), self.now);
    }

    /// As in `follow`.
    fn look_at_clock(&self, life: &mut Life) -> Timestamp {
        let now = life.clock(self.now);
        life.core.look_at_clock(now.duration_since(self.clock()));
        now
    }

    /// As the loop of `follow`.
    fn turn(&mut self) {
        let Some(mut life) = self.life.take() else { return };
        let clock = self.look_at_clock(&mut life);
        self.age();
        if !life.stopping {
            life.core.expire(clock);
            self.attempt(&mut life);
            self.read(&mut life);
        }
        self.record(&mut life);
        let (deliveries, window) = life.core.remembered();
        assert!(window <= self.bounds.window, "{window} events in memory");
        assert!(
            deliveries <= self.config.waiting_max + life.loaded + self.replays as usize,
            "{deliveries} deliveries remembered"
        );
        let recorded = match life.recording {
            Recording::Ready => life.core.is_at_rest(),
            Recording::GivenUp => true,
            Recording::Settling | Recording::LookingUp(_) => false,
        };
        if life.stopping && life.in_flight.is_empty() && recorded {
            self.tell(|| "stopped".to_owned());
            self.after(MINUTE, What::Start);
        } else {
            self.life = Some(life);
        }
    }

    fn wake_at(&self) -> Option<Time> {
        let life = self.life.as_ref().filter(|life| !life.stopping)?;
        let recording = match life.recording {
            Recording::Ready => life.core.settlement_due(),
            _ => None,
        };
        let asked = [life.core.attempt_due(), life.core.expiry_due(), recording];
        let reading = match life.reading {
            Reading::NotBefore(at) => Some(at),
            Reading::Ready | Reading::UnderWay { .. } => None,
        };
        let asked = asked.into_iter().flatten().map(|at| life.when(at));
        let earliest = asked.chain(reading).min()?;
        Some(earliest.max(self.now))
    }

    fn attempt(&mut self, life: &mut Life) {
        let clock = life.clock(self.now);
        while let Some(due) = life.core.next(clock) {
            let seq = due.seq;
            self.check_attempt(life, &due);
            let event = Arc::clone(&self.feed[seq as usize - 1]);
            assert!(due.event.as_ref().is_none_or(|it| Arc::ptr_eq(it, &event)));
            self.tell(|| format!("attempt {} of {seq} of {}", due.number, event.subject));
            let is_fetched = due.event.is_none();
            let (mut takes, ends) = if is_fetched && self.store_fails {
                (MILLI, None)
            } else {
                let (takes, outcome) = self.answers(seq);
                (takes, Some(attempted(outcome)))
            };
            if is_fetched {
                takes += self.dice.within(20 * MILLI);
            }
            self.slots += 1;
            let known = Due { event: None, ..due };
            let under_way = UnderWay {
                due: known,
                began: clock,
                ends,
            };
            life.in_flight.insert(self.slots, under_way);
            let at = self.now + takes;
            self.at(at, What::Answer(self.lives, self.slots));
        }
    }

    fn check_attempt(&mut self, life: &Life, due: &Due) {
        let seq = due.seq;
        let event = self
            .feed
            .get(seq as usize - 1)
            .expect("only what is in the feed is delivered");
        assert!(self.is_wanted(event), "{seq} is not wanted");
        assert!(!life.stopped, "{seq} came while the subscriber was stopped");
        assert!(self.now >= life.pauses.held_until, "{seq} came while all were held");
        let most = if life.failures_in_a_row >= OPEN_AFTER {
            1
        } else {
            life.in_flight_max
        };
        assert!(life.in_flight.len() < most, "more than {most} in flight");
        assert!(
            life.in_flight.values().all(|other| other.due.seq != seq),
            "{seq} is in flight already"
        );
        self.wanted.remove(&seq);
        if let Some((number, not_before)) = life.pauses.not_before.get(&seq) {
            assert_eq!(due.number, number + 1, "attempts of {seq} are not counted right");
            assert!(self.now >= *not_before, "{seq} came too early");
        }
        if life.order == Order::Call {
            let before = self.feed[..seq as usize - 1].iter();
            for earlier in before.filter(|it| it.subject == event.subject && self.is_wanted(it)) {
                let over = self.had.contains(&earlier.seq) || life.given_up.contains(&earlier.seq);
                assert!(over, "{seq} was attempted before {} was over", earlier.seq);
            }
            for other in life.in_flight.values() {
                let other = &self.feed[other.due.seq as usize - 1];
                assert_ne!(other.subject, event.subject, "two of one call in flight");
            }
        }
        if let Some(rate) = self.config.rate {
            let since = self.now - rate.per.as_micros() as Time;
            while self.attempts.front().is_some_and(|at| *at <= since) {
                self.attempts.pop_front();
            }
            self.attempts.push_back(self.now);
            assert!(self.attempts.len() <= rate.count as usize, "above the rate");
        }
    }

    /// How long the subscriber takes for an attempt that begins now, and what becomes of it.
    fn answers(&mut self, seq: u64) -> (Time, Outcome) {
        let place = self.moods.partition_point(|(until, _)| *until <= self.now);
        let mut mood = self.moods[place].1;
        if mood == Mood::Mixed {
            mood = self.dice.pick(&[
                Mood::Well,
                Mood::Well,
                Mood::Well,
                Mood::Failing,
                Mood::Refusing,
                Mood::Stalling,
            ]);
        }
        let dice = &mut self.dice;
        let failed = |reason, status, retry_after| {
            Outcome::Failed(Failure {
                reason,
                status,
                retry_after,
            })
        };
        match mood {
            Mood::Well => (1 + dice.within(300 * MILLI), Outcome::Delivered { status: 200 }),
            Mood::Slow => (SECOND + dice.within(13 * SECOND), Outcome::Delivered { status: 204 }),
            Mood::Failing => (dice.within(50 * MILLI), failed(Reason::Status, Some(500), None)),
            Mood::Refusing => (0, failed(Reason::Connect, None, None)),
            Mood::Stalling => (TIMEOUT, failed(Reason::Timeout, None, None)),
            Mood::Overloaded => {
                let asked = Duration::from_secs(1 + dice.roll(ASKED_MAX));
                (dice.within(20 * MILLI), failed(Reason::Status, Some(429), Some(asked)))
            }
            Mood::Gone => (dice.within(20 * MILLI), Outcome::Gone),
            Mood::Picky if seq.is_multiple_of(3) => (MILLI, failed(Reason::Status, Some(422), None)),
            Mood::Picky => (MILLI, Outcome::Delivered { status: 200 }),
            Mood::Misrepresented => (0, failed(Reason::Internal, None, None)),
            Mood::Mixed => unreachable!("one of the others was picked"),
        }
    }

    fn read(&mut self, life: &mut Life) {
        match life.reading {
            Reading::UnderWay { .. } => return,
            Reading::NotBefore(at) if self.now < at => return,
            Reading::NotBefore(_) | Reading::Ready => life.reading = Reading::Ready,
        }
        let (after, room) = (life.core.read_to(), life.core.room());
        if self.feed.len() as u64 > after && room > 0 {
            life.reading = Reading::UnderWay { room };
            self.after(20 * MILLI, What::Read(self.lives));
        }
    }

    fn record(&mut self, life: &mut Life) {
        if !matches!(life.recording, Recording::Ready) {
            return;
        }
        let clock = life.clock(self.now);
        let has_turn = life.look_again && mem::take(&mut life.settled_last) && !life.stopping;
        let is_due = life.stopping || life.core.settlement_due().is_some_and(|at| at <= clock);
        if is_due
            && !has_turn
            && let Some(settlement) = life.core.take_settlement(clock)
        {
            life.recording = Recording::Settling;
            life.settled_last = true;
            // The one that failed comes again as it was.
            life.taken.get_or_insert_with(|| Taken {
                settlement,
                pauses: life.pauses.clone(),
                dying: life.dying.clone(),
                at: self.now,
                revived: HashSet::new(),
            });
            let most = if self.dice.one_in(20) { 5 * SECOND } else { 30 * MILLI };
            self.after(most, What::Recorded(self.lives));
        } else if life.look_again && !life.stopping {
            life.look_again = false;
            // What is written meanwhile may be in it or not.
            let wishes = self.dice.one_in(2).then(|| self.wishes());
            life.recording = Recording::LookingUp(wishes);
            self.after(30 * MILLI, What::LookedUp(self.lives));
        }
    }

    fn progress(&self) -> Progress {
        // How old it is, the store knows from the event.
        let waiting = self.disk.waiting.values().map(|waiting| Waiting {
            kept_at: self.feed[waiting.seq as usize - 1].kept_at,
            ..waiting.clone()
        });
        Progress {
            cursor: self.disk.cursor,
            waiting: waiting.collect(),
            dead_ahead: self.disk.dead.range(self.disk.cursor + 1..).copied().collect(),
            stopped: self.disk.stopped.clone(),
            breaker: self.disk.breaker,
            steady: self.disk.steady,
            replays: self.wishes().replays,
        }
    }

    fn wishes(&self) -> Wishes {
        let replay = |(ticket, seq): &(u64, u64)| {
            let event = &self.feed[*seq as usize - 1];
            Replay {
                ticket: *ticket,
                seq: *seq,
                subject: event.subject.clone(),
                kept_at: event.kept_at,
                attempts: self.last_attempt(*seq),
            }
        };
        Wishes {
            stopped: self.disk.stopped.clone(),
            replays: self.disk.replays.iter().map(replay).collect(),
        }
    }

    fn last_attempt(&self, seq: u64) -> u32 {
        let record = self.disk.attempts.range((seq, 0)..=(seq, u32::MAX));
        record.last().map_or(0, |((_, number), _)| *number)
    }

    fn happen(&mut self, what: What) {
        self.tell(|| format!("{what:?}"));
        match what {
            What::Keep => self.keep(),
            What::Replay => self.replay(),
            What::Resume => {
                self.disk.stopped = None;
                self.look_again();
            }
            What::SetClock => {
                let by = self.dice.within(HOUR);
                self.set_back += self.dice.pick(&[by, by, -by]);
            }
            What::StoreFails(fails) => self.store_fails = fails,
            What::Start => self.start(),
            What::Stop => {
                if let Some(life) = self.life.as_mut().filter(|life| !life.stopping) {
                    life.stopping = true;
                    self.after(20 * SECOND, What::Abandon(self.lives));
                }
            }
            What::Answer(of, slot) => self.of_life(of, |it, life| it.ended(life, slot)),
            What::Abandon(of) => self.of_life(of, |it, life| {
                let clock = it.look_at_clock(life);
                for (_, under_way) in life.in_flight.drain() {
                    life.core.postponed(under_way.due, clock);
                }
            }),
            What::Read(of) => self.of_life(of, Self::was_read),
            What::Recorded(of) => self.of_life(of, Self::was_recorded),
            What::LookedUp(of) => self.of_life(of, Self::was_looked_up),
        }
    }

    fn of_life(&mut self, of: u32, act: impl FnOnce(&mut Self, &mut Life)) {
        if of == self.lives
            && let Some(mut life) = self.life.take()
        {
            act(self, &mut life);
            self.life = Some(life);
        }
    }

    fn look_again(&mut self) {
        if let Some(life) = &mut self.life {
            life.look_again = true;
        }
    }

    fn keep(&mut self) {
        let seq = self.feed.len() as u64 + 1;
        let subject = ["a", "b", "c", "d", "e"][self.dice.roll(5) as usize].to_owned();
        let kind = if self.dice.one_in(5) {
            "email.received"
        } else {
            "call.completed"
        };
        self.feed.push(Arc::new(Kept {
            seq,
            subject,
            kind: kind.to_owned(),
            kept_at: self.clock(),
            ..self.model.clone()
        }));
    }

    /// An operator wants an event once more, whatever became of it.
    fn replay(&mut self) {
        let wanted: Vec<_> = self
            .feed
            .iter()
            .filter(|event| self.is_wanted(event))
            .cloned()
            .collect();
        if wanted.is_empty() {
            return;
        }
        let event = self.dice.pick(&wanted);
        let seq = event.seq;
        self.tell(|| format!("replay {seq}"));
        let attempts = self.last_attempt(seq);
        let waiting = Waiting {
            seq,
            subject: event.subject.clone(),
            kept_at: event.kept_at,
            attempts,
            begun_after: attempts,
            due_at: self.clock(),
        };
        self.disk.waiting.entry(seq).or_insert(waiting);
        self.disk.dead.remove(&seq);
        self.replays += 1;
        self.disk.replays.push((self.replays, seq));
        self.wanted.insert(seq);
        self.replayed.insert(seq);
        self.look_again();
    }

    fn start(&mut self) {
        if self.life.is_some() {
            return;
        }
        self.lives += 1;
        if self.lives > 1 && self.dice.one_in(4) {
            self.config.order = self.dice.pick(&[Order::Call, Order::None]);
            self.config.in_flight_max = 1 + self.dice.roll(6) as usize;
        }
        let breaker = self.disk.breaker;
        let mut pauses = self.disk.pauses.clone();
        for (_, seq) in &self.disk.replays {
            pauses.not_before.remove(seq);
        }
        let (progress, wall) = (self.progress(), self.clock());
        let now = Core::begins_at(&progress, wall);
        if let Some(steady) = progress.steady {
            // Between two processes there is only the wall clock. Where that was set forward, pauses seem to be over.
            let seems = now.as_microsecond() - steady.at.as_microsecond();
            let too_much = (seems - (self.now - self.disk.settled)).max(0);
            pauses.hasten(too_much);
        }
        let core = Core::new(&self.config, self.keep, progress, now, now.duration_since(wall));
        self.life = Some(Life {
            core: core.bounded(self.bounds),
            began: (self.now, now),
            order: self.config.order,
            in_flight_max: self.config.in_flight_max,
            in_flight: HashMap::new(),
            reading: Reading::Ready,
            recording: Recording::Ready,
            taken: None,
            look_again: false,
            settled_last: false,
            stopping: false,
            loaded: self.disk.waiting.len(),
            replays_known: self.disk.replays.last().map_or(0, |(ticket, _)| *ticket),
            given_up: self.disk.dead.iter().copied().collect(),
            dying: HashSet::new(),
            pauses,
            failures_in_a_row: breaker.failures_in_a_row,
            stopped: self.disk.stopped.is_some(),
        });
    }

    fn crash(&mut self) {
        let Some(life) = self.life.take() else { return };
        self.crashes_left -= 1;
        self.tell(|| "crash".to_owned());
        // What was with the store may or may not have reached the disk.
        if let (Recording::Settling, Some(taken)) = (life.recording, life.taken)
            && self.dice.one_in(2)
        {
            self.write(taken);
        }
        let most = self.dice.pick(&[1, SECOND, HOUR]);
        self.after(most, What::Start);
    }

    fn ended(&mut self, life: &mut Life, slot: u64) {
        let Some(UnderWay { due, began, ends }) = life.in_flight.remove(&slot) else {
            return;
        };
        let clock = self.look_at_clock(life);
        let Some(attempted) = ends else {
            let until = Timestamp::from_microsecond(clock.as_microsecond() + STORE_PAUSE).expect("in range");
            return life.core.postponed(due, until);
        };
        let (seq, number) = (due.seq, due.number);
        let mut asked = 0;
        match &attempted.outcome {
            Outcome::Delivered { .. } => {
                self.had.insert(seq);
                life.failures_in_a_row = 0;
            }
            Outcome::Gone => life.failures_in_a_row = 0,
            Outcome::Failed(failure) => {
                if let Some(all) = failure.retry_after {
                    asked = all.as_micros() as Time;
                    life.pauses.held_until = life.pauses.held_until.max(self.now + asked);
                }
                match (failure.reason, failure.status) {
                    (Reason::Internal, _) => {}
                    (_, Some(422)) => life.failures_in_a_row = 0,
                    _ => life.failures_in_a_row += 1,
                }
            }
        }
        let chance = self.dice.chance();
        let step = life.core.ended(due, began, attempted, clock, chance);
        self.tell(|| format!("{seq}: {step:?}"));
        life.pauses.not_before.remove(&seq);
        match step {
            NextStep::Done => {}
            NextStep::Again(_) => {
                let pauses = &self.config.schedule;
                let pause = match self.replayed.contains(&seq) {
                    true => *pauses[1..].iter().min().expect("another attempt has a pause"),
                    false => pauses[number as usize % pauses.len()],
                };
                let pause = pause.mul_f64(0.9).as_micros() as Time;
                life.pauses
                    .not_before
                    .insert(seq, (number, self.now + pause.max(asked)));
            }
            NextStep::Dead => {
                let schedule = self.config.schedule.len();
                let spent = match self.replayed.contains(&seq) {
                    true => number as usize >= schedule,
                    false => (number as usize).is_multiple_of(schedule),
                };
                assert!(spent, "{seq} was given up early");
                life.dying.insert(seq);
            }
            NextStep::Stop => {
                life.pauses.not_before.insert(seq, (number, self.now));
                life.stopped = true;
            }
        }
    }

    fn was_read(&mut self, life: &mut Life) {
        let Reading::UnderWay { room } = mem::replace(&mut life.reading, Reading::Ready) else {
            unreachable!("one reading at a time")
        };
        if self.store_fails {
            life.reading = Reading::NotBefore(self.now + STORE_PAUSE);
            return;
        }
        let clock = self.look_at_clock(life);
        let after = life.core.read_to() as usize;
        let some = 1 + self.dice.roll(room as u64) as usize;
        let events = self.feed[after..].iter().take(some).cloned().collect();
        life.core.feed(events, clock);
    }

    fn was_recorded(&mut self, life: &mut Life) {
        life.recording = Recording::Ready;
        let clock = self.look_at_clock(life);
        if self.store_fails {
            life.core.not_settled(clock);
            if life.stopping {
                life.recording = Recording::GivenUp;
            }
            return;
        }
        let taken = life.taken.take().expect("it was recorded");
        for seq in taken.settlement.dead.iter().filter(|seq| !taken.revived.contains(seq)) {
            life.dying.remove(seq);
            life.given_up.insert(*seq);
        }
        self.write(taken);
        life.core.settled();
    }

    fn was_looked_up(&mut self, life: &mut Life) {
        let Recording::LookingUp(wishes) = mem::replace(&mut life.recording, Recording::Ready) else {
            unreachable!("one recording at a time")
        };
        if self.store_fails {
            // The operator sees that nothing happens.
            life.look_again = true;
            return;
        }
        let wishes = wishes.unwrap_or_else(|| self.wishes());
        let known = life.replays_known;
        for replay in wishes.replays.iter().filter(|it| it.ticket > known) {
            life.replays_known = replay.ticket;
            life.given_up.remove(&replay.seq);
            life.dying.remove(&replay.seq);
            life.pauses.not_before.remove(&replay.seq);
            if let Some(taken) = &mut life.taken {
                taken.revived.insert(replay.seq);
            }
            if life.in_flight.values().any(|it| it.due.seq == replay.seq) {
                self.wanted.remove(&replay.seq);
            }
        }
        life.stopped &= wishes.stopped.is_some() || life.core.is_stopping();
        let clock = self.look_at_clock(life);
        life.core.grant(wishes, clock);
    }

    fn write(&mut self, taken: Taken) {
        let Taken {
            settlement,
            mut pauses,
            dying,
            at,
            revived: _,
        } = taken;
        self.tell(|| {
            let Settlement {
                cursor,
                waiting,
                delivered,
                dead,
                ..
            } = &*settlement;
            let waiting: Vec<_> = waiting.iter().map(|waiting| waiting.seq).collect();
            format!("cursor {cursor}, waiting {waiting:?}, delivered {delivered:?}, dead {dead:?}")
        });
        assert!(settlement.cursor >= self.disk.cursor, "the cursor goes back");
        assert!(
            settlement.cursor <= self.feed.len() as u64,
            "the cursor is ahead of the feed"
        );
        let disk = &mut self.disk;
        disk.cursor = settlement.cursor;
        disk.steady = Some(settlement.steady);
        disk.settled = at;
        disk.pauses.hasten(pauses.hastened - disk.pauses.hastened);
        for waiting in &settlement.waiting {
            disk.waiting.insert(waiting.seq, waiting.clone());
            disk.dead.remove(&waiting.seq);
            // One that was given up and is wanted once more, both since the record before, has no pause.
            match pauses.not_before.remove(&waiting.seq) {
                Some(pause) => disk.pauses.not_before.insert(waiting.seq, pause),
                None => disk.pauses.not_before.remove(&waiting.seq),
            };
        }
        for seq in settlement.delivered.iter().chain(&settlement.dead) {
            disk.pauses.not_before.remove(seq);
        }
        for seq in &settlement.delivered {
            assert!(self.had.contains(seq), "{seq} is recorded as delivered and was not");
            disk.waiting.remove(seq);
            disk.dead.remove(seq);
        }
        for attempt in &settlement.attempts {
            disk.attempts
                .insert((attempt.seq, attempt.number), attempt.outcome.clone());
        }
        if let Some(breaker) = settlement.breaker {
            disk.breaker = breaker;
            disk.pauses.held_until = pauses.held_until;
        }
        for seq in &settlement.dead {
            disk.waiting.remove(seq);
            disk.dead.insert(*seq);
        }
        let known = settlement.replays_known.unwrap_or_default();
        disk.replays.retain(|(ticket, _)| *ticket > known);
        let is_news = settlement.stopped.is_some() && disk.stopped.is_none();
        if is_news {
            disk.stopped.clone_from(&settlement.stopped);
            self.after(RESUMED_WITHIN, What::Resume);
        }
        for seq in &settlement.dead {
            let event = &self.feed[*seq as usize - 1];
            let is_old = event.kept_at + self.keep <= self.latest.0;
            assert!(
                is_old || dying.contains(seq),
                "{seq} is recorded as dead and was not given up"
            );
            self.check_dead(*seq);
            if is_old {
                self.wanted.remove(seq);
            }
        }
        for event in self.feed[..self.disk.cursor as usize]
            .iter()
            .filter(|event| self.is_wanted(event))
        {
            let known = self.had.contains(&event.seq)
                || self.disk.dead.contains(&event.seq)
                || self.disk.waiting.contains_key(&event.seq);
            assert!(known, "the cursor passed {} and nothing is known of it", event.seq);
        }
    }
}

fn attempted(outcome: Outcome) -> Attempted {
    Attempted {
        outcome,
        duration: Duration::ZERO,
        request_headers: String::new(),
        response: String::new(),
    }
}

#[test]
fn whatever_happens_nothing_is_lost_and_everything_ends() {
    let asked = |name| {
        let text = std::env::var(name).ok()?;
        Some(
            text.parse::<u64>()
                .unwrap_or_else(|_| panic!("{name} is a whole number")),
        )
    };
    let (seed, histories) = (asked("CALLFEED_SIM_SEED"), asked("CALLFEED_SIM_HISTORIES"));
    let first = seed.unwrap_or(0);
    let count = histories.unwrap_or(if seed.is_some() { 1 } else { 1000 });
    let model = tests::event(1, "");
    for seed in first..first.saturating_add(count) {
        let history = || History::new(seed, &model, count == 1).run();
        if catch_unwind(AssertUnwindSafe(history)).is_err() {
            panic!("history {seed} ends badly; CALLFEED_SIM_SEED={seed} tells its story");
        }
    }
}
