//! The subscribers' side: real servers that fail, stall, answer slowly, close early, want to be left alone, and remember
//! what they got.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use harness::{Delivery, Gate, Reply, WHSEC};
use serde_json::Value;
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    task::JoinSet,
};

use crate::{
    chance::Chance,
    model::{self, Arrival, Replays, Tick},
    providers::lock,
};

/// What the gateway waits for an answer; the stalled and the slow are on either side of it.
pub const TIMEOUT: &str = "1s";
/// As many attempts as pauses.
pub const SCHEDULE: [&str; 4] = ["0s", "20ms", "60ms", "150ms"];
/// The longest answer that is slow.
const SLOW_MAX_MS: u64 = 300;
/// Slow answers under way at the same moment, of one subscriber.
const SLOW_MAX: usize = 4096;

/// So many of its last events a subscriber got lately.
const LATELY: usize = 20;

/// How a subscriber is, in permille of the deliveries it gets.
#[derive(Debug)]
pub struct Character {
    pub name: &'static str,
    pub types: &'static [&'static str],
    pub routes: &'static [&'static str],
    pub in_flight: u32,
    /// Whether the events of one call come in order.
    pub in_order: bool,
    /// How many attempts it takes, if there is a bound.
    pub rate: Option<&'static str>,
    fails: u64,
    stalls: u64,
    slow: u64,
    hangs_up: u64,
    asks_to_wait: u64,
    is_gone: u64,
    /// Of the events: those it refuses for ever.
    refuses: u64,
}

const STEADY: Character = Character {
    name: "steady",
    types: &[],
    routes: &[],
    in_flight: 32,
    in_order: true,
    rate: None,
    fails: 5,
    stalls: 0,
    slow: 20,
    hangs_up: 5,
    asks_to_wait: 0,
    is_gone: 0,
    refuses: 0,
};

/// Everyone who subscribes in a round.
pub const CHARACTERS: &[Character] = &[
    STEADY,
    Character {
        name: "flaky",
        in_flight: 16,
        fails: 150,
        stalls: 2,
        slow: 100,
        hangs_up: 100,
        ..STEADY
    },
    Character {
        name: "picky",
        types: &["call.completed", "call.missed", "message.*", "campaign.*"],
        routes: &["magpipe", "magnetis", "topcalls"],
        fails: 50,
        refuses: 60,
        ..STEADY
    },
    Character {
        name: "overloaded",
        types: &["call.*"],
        in_flight: 4,
        slow: 400,
        asks_to_wait: 4,
        hangs_up: 20,
        ..STEADY
    },
    Character {
        name: "leaving",
        routes: &["salpre", "topcalls", "voxagent"],
        is_gone: 5,
        fails: 50,
        refuses: 10,
        ..STEADY
    },
    Character {
        name: "hasty",
        routes: &["salpre", "voxagent"],
        in_order: false,
        rate: Some("200/s"),
        fails: 80,
        slow: 100,
        refuses: 20,
        ..STEADY
    },
];

/// One moment after the other, for everyone in a round.
#[derive(Debug, Default)]
pub struct Ticks(AtomicU64);

impl Ticks {
    pub fn next(&self) -> Tick {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }
}

/// A running subscriber.
#[derive(Debug)]
pub struct Subscriber {
    character: &'static Character,
    server: harness::Subscriber,
    state: Arc<State>,
    /// Gives slow answers; ends with this value.
    _slow: JoinSet<()>,
}

struct State {
    character: &'static Character,
    seed: u64,
    ticks: Arc<Ticks>,
    arrivals: Mutex<Vec<Arrival>>,
    /// How often each event came.
    counts: Mutex<HashMap<String, u64>>,
    calm: AtomicBool,
    /// It answered 410 since it was last asked.
    gone: AtomicBool,
    key: standardwebhooks::Webhook,
    replays: Mutex<Replays>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("character", &self.character.name)
            .finish_non_exhaustive()
    }
}

struct Slow {
    arrival: usize,
    after: Duration,
    gate: Gate,
}

impl Subscriber {
    pub async fn start(character: &'static Character, seed: u64, ticks: &Arc<Ticks>) -> Self {
        let server = harness::Subscriber::start().await;
        let state = Arc::new(State {
            character,
            seed,
            ticks: Arc::clone(ticks),
            arrivals: Mutex::default(),
            counts: Mutex::default(),
            calm: AtomicBool::new(false),
            gone: AtomicBool::new(false),
            key: standardwebhooks::Webhook::new(WHSEC).expect("it is a secret"),
            replays: Mutex::default(),
        });
        let (sender, receiver) = mpsc::channel(SLOW_MAX);
        let mut slow = JoinSet::new();
        slow.spawn(answer_slowly(Arc::clone(&state), receiver));
        server.rule({
            let state = Arc::clone(&state);
            move |delivery| state.answer(delivery, &sender)
        });
        Self {
            character,
            server,
            state,
            _slow: slow,
        }
    }

    pub fn name(&self) -> &'static str {
        self.character.name
    }

    /// Its block of the configuration.
    pub fn toml(&self) -> String {
        let Character {
            name,
            types,
            routes,
            in_flight,
            in_order,
            rate,
            ..
        } = self.character;
        let order = if *in_order { "call" } else { "none" };
        let rate = rate.map(|rate| format!("rate = {rate:?}\n")).unwrap_or_default();
        let types = if types.is_empty() { &["*"][..] } else { types };
        let routes = if routes.is_empty() {
            String::new()
        } else {
            format!("where = {{ routes = {routes:?} }}\n")
        };
        format!(
            "\n[[subscriber]]\nname = {name:?}\nurl = {:?}\nsecrets = [{WHSEC:?}]\ntypes = {types:?}\n{routes}\
             timeout = {TIMEOUT:?}\nschedule = {SCHEDULE:?}\nin_flight = {in_flight}\norder = {order:?}\n{rate}",
            self.server.url()
        )
    }

    /// From now on it answers at once, and well unless it refuses the event for ever.
    pub fn calm_down(&self) {
        self.state.calm.store(true, Ordering::Relaxed);
    }

    /// Whether it answered 410 since this was asked last.
    pub fn was_gone(&self) -> bool {
        self.state.gone.swap(false, Ordering::Relaxed)
    }

    /// Any of the events it got so far, which is about to be delivered to it once more.
    pub fn one_to_replay(&self, chance: &mut Chance) -> Option<String> {
        let arrivals = lock(&self.state.arrivals);
        if arrivals.is_empty() {
            return None;
        }
        let id = &chance.one_of(&arrivals).id;
        lock(&self.state.replays).one_by_one.insert(id.clone());
        Some(id.clone())
    }

    /// The call of one of the events it got lately, or ever: to some of these it is still owed.
    pub fn one_to_erase(&self, chance: &mut Chance) -> Option<String> {
        let arrivals = lock(&self.state.arrivals);
        if arrivals.is_empty() {
            return None;
        }
        let lately = arrivals.len().saturating_sub(LATELY);
        let among = if chance.permille(700) {
            &arrivals[lately..]
        } else {
            &arrivals
        };
        let event: Value = serde_json::from_slice(&chance.one_of(among).body).ok()?;
        event["subject"].as_str().map(str::to_owned)
    }

    /// Its dead deliveries are about to be made once more.
    pub fn will_replay_dead(&self) {
        lock(&self.state.replays).dead = true;
    }

    /// Everything it got so far.
    pub fn evidence(&self) -> model::Subscriber {
        model::Subscriber {
            name: self.character.name,
            types: self.character.types,
            routes: self.character.routes,
            in_order: self.character.in_order,
            replays: lock(&self.state.replays).clone(),
            attempts: SCHEDULE.len() as u32,
            arrivals: lock(&self.state.arrivals).clone(),
        }
    }
}

impl State {
    fn answer(&self, delivery: &Delivery, slow: &Sender<Slow>) -> Reply {
        let id = delivery.id();
        let count = {
            let mut counts = lock(&self.counts);
            let count = counts.entry(id.clone()).or_default();
            *count += 1;
            *count
        };
        // What it does with an event does not depend on when the event comes.
        let mut event = Chance::of(self.seed, id.as_bytes());
        let is_refused = event.permille(self.character.refuses);
        let mut chance = Chance::new(event.number().wrapping_add(count));
        let way = if is_refused {
            Way::Fail(*chance.one_of(&[400, 404, 422, 500]))
        } else if self.calm.load(Ordering::Relaxed) {
            Way::Take
        } else {
            self.character.way(&mut chance)
        };
        let mut arrival = Arrival {
            at: self.ticks.next(),
            body: Bytes::clone(&delivery.body),
            verified: self.verifies(delivery),
            taken: None,
            id,
        };
        if let Way::Take = way {
            arrival.taken = Some(self.ticks.next());
        }
        let index = {
            let mut arrivals = lock(&self.arrivals);
            arrivals.push(arrival);
            arrivals.len() - 1
        };
        match way {
            Way::Take => Reply::status(204),
            Way::TakeSlowly(after) => {
                let gate = Gate::new();
                let reply = Reply::status(200).after(&gate);
                let slow_one = Slow {
                    arrival: index,
                    after,
                    gate,
                };
                // Without room it is answered never.
                let _ = slow.try_send(slow_one);
                reply
            }
            Way::Fail(status) => Reply::status(status),
            Way::AskToWait(status) => Reply::status(status).header("retry-after", "1"),
            Way::HangUp => Reply::hang_up(),
            Way::Stall => Reply::stall(),
            Way::Gone => {
                self.gone.store(true, Ordering::Relaxed);
                Reply::status(410)
            }
        }
    }

    /// The clock that stamped it may be hours off; the stamp is signed all the same.
    fn verifies(&self, delivery: &Delivery) -> bool {
        let Ok(timestamp) = delivery.header("webhook-timestamp").parse() else {
            return false;
        };
        let expected = self.key.sign(&delivery.id(), timestamp, &delivery.body);
        expected.is_ok_and(|expected| expected == delivery.header("webhook-signature"))
    }
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Take,
    TakeSlowly(Duration),
    Fail(u16),
    AskToWait(u16),
    HangUp,
    Stall,
    Gone,
}

impl Character {
    fn way(&self, chance: &mut Chance) -> Way {
        let dice = chance.below(1000);
        let mut end = 0;
        let mut falls = |permille: u64| {
            end += permille;
            dice < end
        };
        if falls(self.fails) {
            Way::Fail(*chance.one_of(&[500, 502, 503, 400, 404, 422, 301]))
        } else if falls(self.stalls) {
            Way::Stall
        } else if falls(self.slow) {
            Way::TakeSlowly(Duration::from_millis(chance.within(5, SLOW_MAX_MS)))
        } else if falls(self.hangs_up) {
            Way::HangUp
        } else if falls(self.asks_to_wait) {
            Way::AskToWait(*chance.one_of(&[429, 503]))
        } else if falls(self.is_gone) {
            Way::Gone
        } else {
            Way::Take
        }
    }
}

/// Answers what should be answered slowly, each in its own time.
async fn answer_slowly(state: Arc<State>, mut slow: Receiver<Slow>) {
    let mut under_way = JoinSet::new();
    while let Some(Slow { arrival, after, gate }) = slow.recv().await {
        let state = Arc::clone(&state);
        under_way.spawn(async move {
            tokio::time::sleep(after).await;
            lock(&state.arrivals)[arrival].taken = Some(state.ticks.next());
            gate.open();
        });
        while under_way.try_join_next().is_some() {}
    }
}
