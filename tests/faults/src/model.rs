//! What has to be true of a gateway, whatever happened to it. Pure: evidence in, violations out.
//!
//! The evidence comes from both ends and from the store: what providers sent and were answered ([`Sent`]), what subscribers
//! received and answered ([`Arrival`]), what an operator wanted erased ([`Erasure`]), and what is on record ([`Record`]). The
//! model knows nothing of how a gateway works.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::Value;

/// A moment. Moments of one round are ordered.
pub type Tick = u64;

/// The type of what is left of an event that was erased.
const ERASED: &str = "erased";

/// A webhook as a provider sent it, once or more often.
#[derive(Debug, Clone)]
pub struct Sent {
    pub route: &'static str,
    pub body: Bytes,
    /// Before it was sent first.
    pub begun: Tick,
    /// If it was answered 200.
    pub accepted: Option<Accepted>,
}

/// An answer 200.
#[derive(Debug, Clone)]
pub struct Accepted {
    pub at: Tick,
    pub ids: Vec<String>,
}

impl Sent {
    fn has(&self, id: &str) -> bool {
        self.accepted
            .as_ref()
            .is_some_and(|accepted| accepted.ids.iter().any(|it| it == id))
    }

    fn speaks_of(&self, subject: &str) -> bool {
        speaks_of(self.route, &self.body, subject)
    }
}

/// Whether a webhook may be about this call.
pub fn speaks_of(route: &str, body: &[u8], subject: &str) -> bool {
    subject.split_once('/').is_some_and(|(of_route, id)| {
        of_route == route && !id.is_empty() && body.windows(id.len()).any(|part| part == id.as_bytes())
    })
}

/// What an operator wanted erased: all that is kept of a call.
#[derive(Debug, Clone)]
pub struct Erasure {
    pub subject: String,
    pub asked: Tick,
    /// When it was answered as done, if it was.
    pub done: Option<Tick>,
    /// When the gateway that answered had ended: nothing that was under way comes any more.
    pub over: Option<Tick>,
}

/// An event as the feed has it.
#[derive(Debug, Clone)]
pub struct Event {
    pub seq: u64,
    /// By the gateway's clock.
    pub kept_at: Timestamp,
    pub id: String,
    pub kind: String,
    pub subject: String,
    pub route: String,
    pub json: Bytes,
    /// The body it came in.
    pub webhook: Option<Bytes>,
    /// Of one that was erased: what is on record of its webhook beside the body, and of the attempts to deliver it.
    pub rest: String,
    /// It was erased, and this is what it was before, as far as anybody saw it.
    pub recalled: bool,
}

impl Event {
    fn is_tombstone(&self) -> bool {
        self.kind == ERASED
    }

    fn stands_at(&self, place: &Value) -> bool {
        place.as_str().and_then(|place| place.parse().ok()) == Some(self.seq)
    }

    /// Whether a tombstone says nothing but where it stands.
    fn is_bare(&self) -> bool {
        let Ok(Value::Object(json)) = serde_json::from_slice(&self.json) else {
            return false;
        };
        let tells = |(name, value): (&String, &Value)| match name.as_str() {
            "id" => *value == *self.id,
            "sequence" => self.stands_at(value),
            "source" => *value == format!("/routes/{}", self.route),
            "type" => *value == ERASED,
            "specversion" | "time" => true,
            _ => false,
        };
        let is_empty = |body: &Bytes| body.is_empty();
        json.len() == 6
            && json.iter().all(tells)
            && self.subject.is_empty()
            && self.rest.is_empty()
            && self.webhook.as_ref().is_none_or(is_empty)
    }

    /// What a tombstone was, by what was delivered of it.
    fn recall(&mut self, body: &Bytes) -> bool {
        let json: Value = serde_json::from_slice(body).unwrap_or_default();
        let is_it = json["id"] == *self.id
            && self.stands_at(&json["sequence"])
            && json["source"] == format!("/routes/{}", self.route);
        let (Some(kind), Some(subject)) = (json["type"].as_str(), json["subject"].as_str()) else {
            return false;
        };
        if !is_it || kind == ERASED {
            return false;
        }
        self.kind = kind.to_owned();
        self.subject = subject.to_owned();
        self.json = body.clone();
        true
    }
}

/// What the store says.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// By place.
    pub events: Vec<Event>,
    pub quarantine: Vec<Quarantined>,
    pub subscribers: BTreeMap<String, Progress>,
    pub forgotten: Forgotten,
    /// What is erased now as it was at a former look, by place.
    pub before_erasure: BTreeMap<u64, Event>,
}

/// A webhook in quarantine.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Quarantined {
    pub route: String,
    pub body: Bytes,
    /// By the gateway's clock.
    pub received_at: Timestamp,
}

/// What was on record once, and has been kept for as long as it had to be.
#[derive(Debug, Clone, Default)]
pub struct Forgotten {
    /// What came before this may be forgotten, and its deliveries given up. `None`: nothing may.
    pub before: Option<Timestamp>,
    pub events: Vec<Event>,
    pub quarantine: Vec<Quarantined>,
}

impl Forgotten {
    fn may(&self, at: Timestamp) -> bool {
        self.before.is_some_and(|before| at < before)
    }
}

/// What was on record at one look or another.
#[derive(Debug, Default)]
pub struct Memory {
    before: Option<Timestamp>,
    /// One that comes again once it is forgotten is kept again, at another place.
    events: BTreeMap<(u64, String), Event>,
    quarantine: HashSet<Quarantined>,
}

impl Memory {
    /// Tells the record what it has forgotten rightfully, and remembers what it has. `before` is as of any moment after the
    /// record was last changed.
    pub fn compare(&mut self, record: &mut Record, before: Option<Timestamp>) {
        // What the clock has shown once it has shown, wherever it was set since.
        self.before = self.before.max(before);
        let mut forgotten = Forgotten {
            before: self.before,
            ..Forgotten::default()
        };
        let place = |event: &Event| (event.seq, event.id.clone());
        let kept: HashSet<(u64, String)> = record.events.iter().map(place).collect();
        let gone = self.events.iter().filter(|(place, _)| !kept.contains(*place));
        let gone = gone.map(|(_, event)| event);
        forgotten.events = gone.filter(|event| forgotten.may(event.kept_at)).cloned().collect();
        let was = |event: &&Event| self.events.get(&place(event)).filter(|was| !was.is_tombstone());
        let erased = record.events.iter().filter(|event| event.is_tombstone());
        record.before_erasure = erased
            .filter_map(|event| was(&event).map(|was| (event.seq, was.clone())))
            .collect();
        let in_quarantine: HashSet<&Quarantined> = record.quarantine.iter().collect();
        let gone = self.quarantine.iter().filter(|it| !in_quarantine.contains(it));
        forgotten.quarantine = gone.filter(|it| forgotten.may(it.received_at)).cloned().collect();
        let known = |event: &&Event| !record.before_erasure.contains_key(&event.seq);
        let events = record.events.iter().filter(known);
        self.events.extend(events.map(|event| (place(event), event.clone())));
        self.quarantine.extend(record.quarantine.iter().cloned());
        record.forgotten = forgotten;
    }
}

/// What the store says of a subscriber.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    pub cursor: u64,
    pub waiting: BTreeSet<u64>,
    pub dead: BTreeSet<u64>,
    pub delivered: BTreeSet<u64>,
    /// Number and status of each attempt on record, by place.
    pub attempts: BTreeMap<u64, Vec<(u32, Option<u16>)>>,
}

impl Progress {
    fn attempts_of(&self, seq: u64) -> &[(u32, Option<u16>)] {
        self.attempts.get(&seq).map_or(&[], Vec::as_slice)
    }
}

/// A subscriber as configured, with what it received.
#[derive(Debug, Clone)]
pub struct Subscriber {
    pub name: &'static str,
    /// All when empty; `call.*` is all of a family.
    pub types: &'static [&'static str],
    /// All when empty.
    pub routes: &'static [&'static str],
    /// Whether the events of one call come in order.
    pub in_order: bool,
    pub replays: Replays,
    /// How many attempts make a delivery dead.
    pub attempts: u32,
    pub arrivals: Vec<Arrival>,
}

/// What an operator wanted delivered to a subscriber once more, done or not.
#[derive(Debug, Clone, Default)]
pub struct Replays {
    /// By id, whatever had become of them.
    pub one_by_one: BTreeSet<String>,
    /// All that were dead, at some time.
    pub dead: bool,
}

/// A request that reached a subscriber.
#[derive(Debug, Clone)]
pub struct Arrival {
    pub at: Tick,
    /// `webhook-id`.
    pub id: String,
    pub body: Bytes,
    pub verified: bool,
    /// When it was answered 2xx, if it was.
    pub taken: Option<Tick>,
}

impl Subscriber {
    pub fn wants(&self, event: &Event) -> bool {
        let of_type = |pattern: &&str| match pattern.strip_suffix('*') {
            Some(start) => event.kind.starts_with(start),
            None => event.kind == **pattern,
        };
        (self.types.is_empty() || self.types.iter().any(of_type))
            && (self.routes.is_empty() || self.routes.iter().any(|route| *route == event.route))
    }
}

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// Answered 200, and in neither the feed nor the quarantine.
    Lost { route: &'static str, id: String },
    /// In the feed more than once, by its id or by its webhook.
    Twice { id: String },
    /// In quarantine more than once.
    TwiceInQuarantine { route: String },
    /// The feed's places are not 1, 2, 3 …, but for what is forgotten.
    Gap { after: u64, next: u64 },
    /// In the feed or the quarantine, and nobody sent it.
    Unknown { what: String },
    /// Answered 200 while nothing could be written durably.
    AnsweredWithoutSync { route: &'static str },
    /// An authentic webhook was answered with something else than 200 and 503.
    Refused { route: &'static str, status: u16 },
    /// Delivered, and not in the feed.
    Phantom { subscriber: &'static str, id: String },
    /// Delivered with other bytes than the feed has.
    Altered { subscriber: &'static str, seq: u64 },
    /// Its signature is wrong.
    Unverified { subscriber: &'static str, id: String },
    /// Delivered to one who did not ask for it.
    Unwanted { subscriber: &'static str, seq: u64 },
    /// Neither taken by the subscriber nor dead on record.
    Undelivered { subscriber: &'static str, seq: u64 },
    /// On record as delivered, and the subscriber never took it.
    Claimed { subscriber: &'static str, seq: u64 },
    /// Came while an earlier one of its subject was neither taken nor given up.
    Overtaken {
        subscriber: &'static str,
        earlier: u64,
        later: u64,
    },
    /// Dead without all of its attempts on record.
    DeadTooSoon {
        subscriber: &'static str,
        seq: u64,
        attempts: Vec<u32>,
    },
    /// The cursor is behind it, though it is neither taken, nor waiting, nor dead.
    CursorPassed {
        subscriber: &'static str,
        seq: u64,
        cursor: u64,
    },
    /// Everybody took everything, and the record says otherwise.
    Unsettled {
        subscriber: &'static str,
        cursor: u64,
        head: u64,
        waiting: usize,
    },
    /// Its erasure was answered as done, and it is kept.
    NotErased { seq: u64 },
    /// Erased, and nobody asked for that.
    ErasedUnasked { seq: u64 },
    /// Erased, and more is on record of it than that.
    Remains { seq: u64 },
    /// Delivered after its erasure had been answered as done.
    SentErased { subscriber: &'static str, seq: u64 },
    /// Webhooks were sent all the time, and none was answered 200.
    NothingAccepted,
    /// The store's file is damaged.
    Damaged { how: String },
    /// The gateway did not come up, or did not end well, with nothing wrong any more.
    Broken { how: String },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost { route, id } => write!(f, "lost: {id} of {route} was answered 200 and is not kept"),
            Self::Twice { id } => write!(f, "twice: {id} is in the feed more than once"),
            Self::TwiceInQuarantine { route } => {
                write!(f, "twice: a webhook of {route} is in quarantine more than once")
            }
            Self::Gap { after, next } => write!(f, "gap: after place {after} in the feed comes {next}"),
            Self::Unknown { what } => write!(f, "unknown: nobody sent {what}"),
            Self::AnsweredWithoutSync { route } => {
                write!(
                    f,
                    "answered too soon: 200 for {route} while nothing could be made durable"
                )
            }
            Self::Refused { route, status } => {
                write!(f, "refused: an authentic webhook of {route} was answered {status}")
            }
            Self::Phantom { subscriber, id } => write!(f, "phantom: {subscriber} got {id}, which is not in the feed"),
            Self::Altered { subscriber, seq } => write!(f, "altered: {subscriber} got other bytes for {seq}"),
            Self::Unverified { subscriber, id } => write!(f, "unverified: {subscriber} cannot verify {id}"),
            Self::Unwanted { subscriber, seq } => write!(f, "unwanted: {subscriber} got {seq} without asking for it"),
            Self::Undelivered { subscriber, seq } => {
                write!(f, "undelivered: {subscriber} never took {seq}, and it is not dead")
            }
            Self::Claimed { subscriber, seq } => {
                write!(
                    f,
                    "claimed: {seq} is on record as delivered to {subscriber}, which never took it"
                )
            }
            Self::Overtaken {
                subscriber,
                earlier,
                later,
            } => write!(
                f,
                "overtaken: {subscriber} got {later} while {earlier} of the same call was open"
            ),
            Self::DeadTooSoon {
                subscriber,
                seq,
                attempts,
            } => write!(
                f,
                "dead too soon: {seq} for {subscriber}, with attempts {attempts:?} on record"
            ),
            Self::CursorPassed {
                subscriber,
                seq,
                cursor,
            } => write!(
                f,
                "cursor passed: {subscriber} is at {cursor}, and {seq} is not settled"
            ),
            Self::Unsettled {
                subscriber,
                cursor,
                head,
                waiting,
            } => write!(
                f,
                "unsettled: {subscriber} stays at {cursor} of {head}, with {waiting} waiting"
            ),
            Self::NotErased { seq } => write!(f, "not erased: {seq} is kept, though its erasure was answered as done"),
            Self::ErasedUnasked { seq } => write!(f, "erased unasked: {seq}"),
            Self::Remains { seq } => write!(f, "remains: {seq} is erased, and more is on record of it than that"),
            Self::SentErased { subscriber, seq } => {
                write!(
                    f,
                    "sent erased: {subscriber} got {seq} after its erasure was answered as done"
                )
            }
            Self::NothingAccepted => write!(f, "nothing accepted: no webhook was answered 200"),
            Self::Damaged { how } => write!(f, "damaged: {how}"),
            Self::Broken { how } => write!(f, "broken: {how}"),
        }
    }
}

/// What has to be true at any moment, also when the gateway was killed just now.
///
/// `sent` has to be as of before the record was taken, `subscribers` as of after, and no erasure may be under way meanwhile.
pub fn check_always(
    sent: &[Sent],
    record: &Record,
    subscribers: &[Subscriber],
    erasures: &[Erasure],
) -> Vec<Violation> {
    let mut found = Vec::new();
    check_feed(record, &mut found);
    check_kept(sent, record, &mut found);
    check_tombstones(record, &mut found);
    let record = &recall(sent, record, subscribers, erasures);
    check_erasures(sent, record, subscribers, erasures, &mut found);
    for subscriber in subscribers {
        check_cursor(record, subscriber, &mut found);
    }
    found
}

/// What has to be true in the end, when everything had its time.
pub fn check_finally(
    sent: &[Sent],
    record: &Record,
    subscribers: &[Subscriber],
    erasures: &[Erasure],
) -> Vec<Violation> {
    let mut found = check_always(sent, record, subscribers, erasures);
    let record = &recall(sent, record, subscribers, erasures);
    check_origins(sent, record, &mut found);
    if sent.iter().all(|webhook| webhook.accepted.is_none()) {
        found.push(Violation::NothingAccepted);
    }
    for subscriber in subscribers {
        check_deliveries(record, subscriber, &mut found);
        check_settled(record, subscriber, &mut found);
        if subscriber.in_order {
            check_order(sent, record, subscriber, erasures, &mut found);
        }
    }
    found
}

/// The record with every tombstone as what it was, by a former look at it, or else by what was delivered of it. Of one that
/// nobody saw, the webhook tells whose it was.
fn recall(sent: &[Sent], record: &Record, subscribers: &[Subscriber], erasures: &[Erasure]) -> Record {
    let mut record = record.clone();
    let tombstones = record.events.iter_mut().chain(&mut record.forgotten.events);
    let tombstones: Vec<&mut Event> = tombstones.filter(|event| event.is_tombstone()).collect();
    if tombstones.is_empty() {
        return record;
    }
    let mut delivered: HashMap<&str, Vec<&Bytes>> = HashMap::new();
    for arrival in subscribers.iter().flat_map(|subscriber| &subscriber.arrivals) {
        delivered.entry(&arrival.id).or_default().push(&arrival.body);
    }
    for event in tombstones {
        event.recalled = true;
        let bodies = delivered.get(event.id.as_str()).map_or(&[][..], Vec::as_slice);
        if let Some(was) = record.before_erasure.get(&event.seq) {
            event.kind.clone_from(&was.kind);
            event.subject.clone_from(&was.subject);
            event.json = was.json.clone();
        } else if !bodies.iter().any(|body| event.recall(body)) {
            let of_event = origins(sent, &event.id);
            let wish = |erasure: &&Erasure| of_event.iter().any(|webhook| webhook.speaks_of(&erasure.subject));
            event.subject = erasures
                .iter()
                .find(wish)
                .map_or_else(String::new, |it| it.subject.clone());
            event.json = Bytes::new();
        }
    }
    record
}

/// The webhooks that this event may have come in.
fn origins<'s>(sent: &'s [Sent], id: &str) -> Vec<&'s Sent> {
    let of_event: Vec<&Sent> = sent.iter().filter(|webhook| webhook.has(id)).collect();
    if of_event.is_empty() {
        return sent.iter().filter(|webhook| webhook.accepted.is_none()).collect();
    }
    of_event
}

fn check_feed(record: &Record, found: &mut Vec<Violation>) {
    let forgotten: HashSet<u64> = record.forgotten.events.iter().map(|event| event.seq).collect();
    let mut ids = HashSet::new();
    let mut last = 0;
    for event in &record.events {
        if event.seq <= last || (last + 1..event.seq).any(|seq| !forgotten.contains(&seq)) {
            found.push(Violation::Gap {
                after: last,
                next: event.seq,
            });
        }
        last = event.seq;
        if !ids.insert(&event.id) {
            found.push(Violation::Twice { id: event.id.clone() });
        }
    }
}

fn check_kept(sent: &[Sent], record: &Record, found: &mut Vec<Violation>) {
    let events = record.events.iter().chain(&record.forgotten.events);
    let ids: HashSet<&str> = events.map(|event| event.id.as_str()).collect();
    let quarantine = record.quarantine.iter().chain(&record.forgotten.quarantine);
    let quarantine: HashSet<(&str, &[u8])> = quarantine.map(|it| (it.route.as_str(), &it.body[..])).collect();
    let mut answered: HashMap<(&str, &[u8]), &[String]> = HashMap::new();
    for webhook in sent {
        let Some(accepted) = &webhook.accepted else { continue };
        let before = answered
            .entry((webhook.route, &webhook.body[..]))
            .or_insert(&accepted.ids);
        let others = accepted.ids.iter().filter(|id| !before.contains(id));
        found.extend(others.map(|id| Violation::Twice { id: id.clone() }));
        let lost = |id: &str| Violation::Lost {
            route: webhook.route,
            id: id.to_owned(),
        };
        if accepted.ids.is_empty() && !quarantine.contains(&(webhook.route, &webhook.body[..])) {
            found.push(lost("a webhook without events"));
        }
        let missing = accepted.ids.iter().filter(|id| !ids.contains(id.as_str()));
        found.extend(missing.map(|id| lost(id)));
    }
}

fn check_tombstones(record: &Record, found: &mut Vec<Violation>) {
    let tombstones = record.events.iter().filter(|event| event.is_tombstone());
    let telling = tombstones.filter(|event| !event.is_bare());
    found.extend(telling.map(|event| Violation::Remains { seq: event.seq }));
}

/// What was in the feed when its erasure was asked for is erased once that was answered, and reaches nobody any more but by
/// an attempt that was under way then. Nothing is erased that nobody asked for.
fn check_erasures(
    sent: &[Sent],
    record: &Record,
    subscribers: &[Subscriber],
    erasures: &[Erasure],
    found: &mut Vec<Violation>,
) {
    let mut known_since: HashMap<&str, Tick> = HashMap::new();
    let mut known = |id, at: Tick| {
        let since = known_since.entry(id).or_insert(at);
        *since = at.min(*since);
    };
    for Accepted { at, ids } in sent.iter().filter_map(|webhook| webhook.accepted.as_ref()) {
        ids.iter().for_each(|id| known(id.as_str(), *at));
    }
    for arrival in subscribers.iter().flat_map(|subscriber| &subscriber.arrivals) {
        known(arrival.id.as_str(), arrival.at);
    }
    // What comes again after its tombstone is forgotten is kept like any other.
    let forgotten: HashSet<&str> = record.forgotten.events.iter().map(|event| event.id.as_str()).collect();
    // By id: its place, when it was erased at the latest, and when nothing of it was under way any more.
    let mut erased: HashMap<&str, (u64, Tick, Tick)> = HashMap::new();
    for event in &record.events {
        let id = event.id.as_str();
        if event.recalled && possible_erasures(sent, erasures, event).next().is_none() {
            found.push(Violation::ErasedUnasked { seq: event.seq });
        }
        let since = known_since.get(id).copied().filter(|_| !forgotten.contains(id));
        let covers =
            |erasure: &&Erasure| erasure.subject == event.subject && since.is_some_and(|at| at < erasure.asked);
        let covering = || erasures.iter().filter(covers);
        let Some(done) = covering().filter_map(|it| it.done).min() else {
            continue;
        };
        let over = covering().filter_map(|it| it.over).min();
        erased.insert(id, (event.seq, done, over.unwrap_or(Tick::MAX)));
        if !event.recalled {
            found.push(Violation::NotErased { seq: event.seq });
        }
    }
    for subscriber in subscribers {
        let mut under_way = HashSet::new();
        for arrival in &subscriber.arrivals {
            let Some((seq, done, over)) = erased.get(arrival.id.as_str()) else {
                continue;
            };
            // An event has one attempt at a time.
            if arrival.at > *over || arrival.at > *done && !under_way.insert(seq) {
                found.push(Violation::SentErased {
                    subscriber: subscriber.name,
                    seq: *seq,
                });
            }
        }
    }
}

/// Those that may have erased it: of its call, and not done before its webhook was sent.
fn possible_erasures<'e>(sent: &[Sent], erasures: &'e [Erasure], event: &Event) -> impl Iterator<Item = &'e Erasure> {
    let origins = origins(sent, &event.id).into_iter();
    let of_call = origins.filter(|webhook| webhook.speaks_of(&event.subject));
    let begun = of_call.map(|webhook| webhook.begun).min();
    let wanted = erasures.iter().filter(move |erasure| erasure.subject == event.subject);
    wanted.filter(move |erasure| erasure.done.is_none_or(|done| begun.is_none_or(|begun| begun < done)))
}

/// Everything kept was sent, and nothing sent was kept twice.
fn check_origins(sent: &[Sent], record: &Record, found: &mut Vec<Violation>) {
    let known: HashSet<(&str, &[u8])> = sent.iter().map(|webhook| (webhook.route, &webhook.body[..])).collect();
    let mut once = HashSet::new();
    for event in &record.events {
        if event.recalled {
            // Its webhook is empty. That it was kept only once shows by its id.
            if !origins(sent, &event.id)
                .iter()
                .any(|webhook| webhook.speaks_of(&event.subject))
            {
                found.push(Violation::Unknown { what: event.id.clone() });
            }
            continue;
        }
        let origin = event.webhook.as_ref().map(|body| (event.route.as_str(), &body[..]));
        match origin.filter(|origin| known.contains(origin)) {
            // Each of ours becomes one event.
            Some(origin) if !once.insert(origin) => found.push(Violation::Twice { id: event.id.clone() }),
            Some(_) => {}
            None => found.push(Violation::Unknown { what: event.id.clone() }),
        }
    }
    let mut once = HashSet::new();
    for Quarantined { route, body, .. } in &record.quarantine {
        let origin = (route.as_str(), &body[..]);
        if !known.contains(&origin) {
            found.push(Violation::Unknown {
                what: format!("what {route} has in quarantine"),
            });
        } else if !once.insert(origin) {
            found.push(Violation::TwiceInQuarantine { route: route.clone() });
        }
    }
}

fn check_cursor(record: &Record, subscriber: &Subscriber, found: &mut Vec<Violation>) {
    let Some(progress) = record.subscribers.get(subscriber.name) else {
        return;
    };
    let taken: HashSet<&str> = taken(subscriber).keys().copied().collect();
    let passed = record
        .events
        .iter()
        .take_while(|event| event.seq <= progress.cursor)
        .filter(|event| subscriber.wants(event) && !event.recalled)
        .filter(|event| !taken.contains(event.id.as_str()))
        .filter(|event| !progress.waiting.contains(&event.seq) && !progress.dead.contains(&event.seq));
    found.extend(passed.map(|event| Violation::CursorPassed {
        subscriber: subscriber.name,
        seq: event.seq,
        cursor: progress.cursor,
    }));
}

fn check_deliveries(record: &Record, subscriber: &Subscriber, found: &mut Vec<Violation>) {
    let name = subscriber.name;
    let events = record.events.iter().chain(&record.forgotten.events);
    let mut feed: HashMap<&str, Vec<&Event>> = HashMap::new();
    for event in events {
        feed.entry(event.id.as_str()).or_default().push(event);
    }
    for arrival in &subscriber.arrivals {
        if !arrival.verified {
            found.push(Violation::Unverified {
                subscriber: name,
                id: arrival.id.clone(),
            });
        }
        match feed.get(arrival.id.as_str()).map(Vec::as_slice) {
            None | Some([]) => found.push(Violation::Phantom {
                subscriber: name,
                id: arrival.id.clone(),
            }),
            Some(all @ [event, ..]) if all.iter().all(|it| it.json != arrival.body) => found.push(Violation::Altered {
                subscriber: name,
                seq: event.seq,
            }),
            Some([event, ..]) if !subscriber.wants(event) => found.push(Violation::Unwanted {
                subscriber: name,
                seq: event.seq,
            }),
            Some(_) => {}
        }
    }
}

fn check_settled(record: &Record, subscriber: &Subscriber, found: &mut Vec<Violation>) {
    let name = subscriber.name;
    let nothing = Progress::default();
    let progress = record.subscribers.get(name).unwrap_or(&nothing);
    let taken = taken(subscriber);
    for event in record.events.iter().filter(|event| subscriber.wants(event)) {
        let (seq, was_taken) = (event.seq, taken.contains_key(event.id.as_str()));
        if progress.dead.contains(&seq) && record.forgotten.may(event.kept_at) {
            // Given up for its age.
        } else if progress.dead.contains(&seq) {
            let numbers: Vec<u32> = progress.attempts_of(seq).iter().map(|(number, _)| *number).collect();
            // Given up early where nothing was left to deliver.
            let is_whole = event.recalled || has_spent_all(subscriber, event, progress);
            if !is_whole || !numbers.iter().copied().eq(1..=numbers.len() as u32) {
                found.push(Violation::DeadTooSoon {
                    subscriber: name,
                    seq,
                    attempts: numbers,
                });
            }
        } else if !was_taken && !event.recalled {
            found.push(Violation::Undelivered { subscriber: name, seq });
        }
        if progress.delivered.contains(&seq) && !was_taken {
            found.push(Violation::Claimed { subscriber: name, seq });
        }
    }
    let head = record.events.last().map_or(0, |event| event.seq);
    if progress.cursor != head || !progress.waiting.is_empty() {
        found.push(Violation::Unsettled {
            subscriber: name,
            cursor: progress.cursor,
            head,
            waiting: progress.waiting.len(),
        });
    }
}

/// Whether the attempts on record are all that a delivery has before it is dead.
fn has_spent_all(subscriber: &Subscriber, event: &Event, progress: &Progress) -> bool {
    let attempts = progress.attempts_of(event.seq);
    let has_failed = |(_, status): &(u32, Option<u16>)| status.is_none_or(|it| !(200..300).contains(&it));
    if subscriber.replays.one_by_one.contains(&event.id) {
        // The schedule began anew at any moment, also after it was taken.
        let last = attempts
            .rchunks(subscriber.attempts as usize)
            .next()
            .unwrap_or_default();
        last.len() as u32 == subscriber.attempts && last.iter().all(has_failed)
    } else {
        // One whose last attempt was answered 410, or that was dead, has the whole schedule once more.
        !attempts.is_empty()
            && (attempts.len() as u32).is_multiple_of(subscriber.attempts)
            && attempts.iter().all(has_failed)
    }
}

/// The first arrival of an event comes after every earlier one of its subject was taken, or had its last attempt, or may have
/// been erased. What an operator puts back comes when it comes.
fn check_order(
    sent: &[Sent],
    record: &Record,
    subscriber: &Subscriber,
    erasures: &[Erasure],
    found: &mut Vec<Violation>,
) {
    let nothing = Progress::default();
    let progress = record.subscribers.get(subscriber.name).unwrap_or(&nothing);
    let taken = taken(subscriber);
    let mut arrived: HashMap<&str, Vec<Tick>> = HashMap::new();
    for arrival in &subscriber.arrivals {
        arrived.entry(arrival.id.as_str()).or_default().push(arrival.at);
    }
    arrived.values_mut().for_each(|times| times.sort_unstable());
    // When the subject's events so far were all closed, and the one that was closed last.
    let mut closed: HashMap<&str, (Tick, u64)> = HashMap::new();
    let mut out_of_order = subscriber.replays.one_by_one.clone();
    // What is kept again came before, too.
    out_of_order.extend(record.forgotten.events.iter().map(|event| event.id.clone()));
    let in_order = |event: &&Event| subscriber.wants(event) && !out_of_order.contains(&event.id);
    for event in record.events.iter().filter(in_order) {
        let (id, subject) = (event.id.as_str(), event.subject.as_str());
        let times = arrived.get(id).map_or(&[][..], Vec::as_slice);
        if let (Some(first), Some((until, earlier))) = (times.first(), closed.get(subject))
            && first < until
        {
            found.push(Violation::Overtaken {
                subscriber: subscriber.name,
                earlier: *earlier,
                later: event.seq,
            });
        }
        let end = taken.get(id).copied().unwrap_or(Tick::MAX);
        let was_given_up = progress.dead.contains(&event.seq)
            && (!event.recalled || record.forgotten.may(event.kept_at) || has_spent_all(subscriber, event, progress));
        let end = match was_given_up {
            // It may have been taken before, and a crash had it delivered again; or after, by an answer that nobody waited
            // for any more. It may have died without reaching the subscriber at all.
            true => end.min(times.last().copied().unwrap_or(0)),
            false => end,
        };
        let erased = event.recalled.then(|| possible_erasures(sent, erasures, event));
        let erased = erased.and_then(|erasures| erasures.map(|erasure| erasure.asked).min());
        let end = end.min(erased.unwrap_or(Tick::MAX));
        // It may have been dead before, and put back when the next one had come already.
        let was_dead = times.get(subscriber.attempts as usize - 1);
        let end = match was_dead {
            Some(was_dead) if subscriber.replays.dead => end.min(*was_dead),
            _ => end,
        };
        let until = closed.entry(subject).or_insert((0, 0));
        if end >= until.0 {
            *until = (end, event.seq);
        }
    }
}

/// When each event was first taken.
fn taken(subscriber: &Subscriber) -> HashMap<&str, Tick> {
    let mut taken = HashMap::new();
    for arrival in &subscriber.arrivals {
        if let Some(at) = arrival.taken {
            let first = taken.entry(arrival.id.as_str()).or_insert(at);
            *first = at.min(*first);
        }
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three webhooks, two of one call and one in quarantine, all as it should be.
    struct World {
        sent: Vec<Sent>,
        record: Record,
        subscribers: Vec<Subscriber>,
        erasures: Vec<Erasure>,
    }

    fn body(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::from_second(second as i64).unwrap()
    }

    fn event(seq: u64, id: &str, webhook: &'static str) -> Event {
        Event {
            seq,
            kept_at: at(seq),
            id: id.to_owned(),
            kind: "call.completed".to_owned(),
            subject: "magpipe/1".to_owned(),
            route: "magpipe".to_owned(),
            json: Bytes::from(format!(
                "{{\"id\":{id:?},\"sequence\":\"{seq}\",\"source\":\"/routes/magpipe\",\"type\":\"call.completed\",\
                 \"subject\":\"magpipe/1\"}}"
            )),
            webhook: Some(body(webhook)),
            rest: String::new(),
            recalled: false,
        }
    }

    fn in_quarantine(text: &'static str) -> Quarantined {
        Quarantined {
            route: "magpipe".to_owned(),
            body: body(text),
            received_at: at(1),
        }
    }

    fn arrival(at: Tick, event: &Event, taken: Option<Tick>) -> Arrival {
        Arrival {
            at,
            id: event.id.clone(),
            body: event.json.clone(),
            verified: true,
            taken,
        }
    }

    fn world() -> World {
        let sent = |text, ids: &[&str]| Sent {
            route: "magpipe",
            body: body(text),
            begun: 0,
            accepted: Some(Accepted {
                at: 1,
                ids: ids.iter().map(|id| (*id).to_owned()).collect(),
            }),
        };
        let events = vec![event(1, "a", "first"), event(2, "b", "second")];
        let subscriber = Subscriber {
            name: "crm",
            types: &["call.*"],
            routes: &[],
            in_order: true,
            replays: Replays::default(),
            attempts: 2,
            arrivals: vec![
                arrival(1, &events[0], None),
                arrival(2, &events[0], Some(3)),
                arrival(4, &events[1], Some(5)),
            ],
        };
        let progress = Progress {
            cursor: 2,
            delivered: [1, 2].into(),
            attempts: [(1, vec![(1, Some(500)), (2, Some(204))]), (2, vec![(1, Some(204))])].into(),
            ..Progress::default()
        };
        World {
            sent: vec![sent("first", &["a"]), sent("second", &["b"]), sent("odd", &[])],
            record: Record {
                events,
                quarantine: vec![in_quarantine("odd")],
                subscribers: [("crm".to_owned(), progress)].into(),
                ..Record::default()
            },
            subscribers: vec![subscriber],
            erasures: Vec::new(),
        }
    }

    impl World {
        fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
            change(&mut self);
            self
        }

        fn progress(&mut self) -> &mut Progress {
            self.record.subscribers.get_mut("crm").unwrap()
        }

        fn arrivals(&mut self) -> &mut Vec<Arrival> {
            &mut self.subscribers[0].arrivals
        }

        fn always(&self) -> Vec<Violation> {
            check_always(&self.sent, &self.record, &self.subscribers, &self.erasures)
        }

        fn finally(&self) -> Vec<Violation> {
            check_finally(&self.sent, &self.record, &self.subscribers, &self.erasures)
        }
    }

    fn lost(id: &str) -> Violation {
        Violation::Lost {
            route: "magpipe",
            id: id.to_owned(),
        }
    }

    #[test]
    fn a_world_without_faults_is_well() {
        assert_eq!(world().finally(), []);
        // Unanswered, it may be kept or not.
        assert_eq!(world().with(|it| it.sent[1].accepted = None).finally(), []);
        let unsent = world().with(|it| {
            it.sent.push(Sent {
                route: "salpre",
                body: body("never answered"),
                begun: 9,
                accepted: None,
            });
        });
        assert_eq!(unsent.finally(), []);
    }

    #[test]
    fn a_gateway_that_takes_nothing_is_found() {
        let refusing = world().with(|it| {
            it.sent.iter_mut().for_each(|webhook| webhook.accepted = None);
            it.record = Record::default();
            it.arrivals().clear();
        });
        assert_eq!(refusing.finally(), [Violation::NothingAccepted]);
    }

    #[test]
    fn a_lost_event_is_found() {
        let world = world().with(|it| drop(it.record.events.pop()));
        assert_eq!(world.always(), [lost("b")]);
    }

    #[test]
    fn a_webhook_lost_from_quarantine_is_found() {
        let world = world().with(|it| it.record.quarantine.clear());
        assert_eq!(world.always(), [lost("a webhook without events")]);
    }

    #[test]
    fn an_event_kept_twice_is_found() {
        let twice = Violation::Twice { id: "b".to_owned() };
        let by_id = world().with(|it| it.record.events.push(event(3, "b", "second")));
        assert!(by_id.always().contains(&twice));
        let by_webhook = world().with(|it| it.record.events[1].webhook = Some(body("first")));
        assert_eq!(by_webhook.finally(), [twice]);
    }

    #[test]
    fn a_webhook_twice_in_quarantine_is_found() {
        let world = world().with(|it| it.record.quarantine.push(in_quarantine("odd")));
        let route = "magpipe".to_owned();
        assert_eq!(world.finally(), [Violation::TwiceInQuarantine { route }]);
    }

    #[test]
    fn a_gap_in_the_feed_is_found() {
        let world = world().with(|it| it.record.events[1].seq = 3);
        assert!(world.always().contains(&Violation::Gap { after: 1, next: 3 }));
    }

    #[test]
    fn what_nobody_sent_is_found() {
        let world = world().with(|it| {
            it.sent.remove(1);
        });
        assert_eq!(world.finally(), [Violation::Unknown { what: "b".to_owned() }]);
    }

    #[test]
    fn a_delivery_of_what_is_not_in_the_feed_is_found() {
        let world = world().with(|it| {
            let arrived = arrival(9, &event(3, "c", "third"), Some(9));
            it.arrivals().push(arrived);
        });
        let phantom = Violation::Phantom {
            subscriber: "crm",
            id: "c".to_owned(),
        };
        assert_eq!(world.finally(), [phantom]);
    }

    #[test]
    fn altered_bytes_are_found() {
        let world = world().with(|it| it.arrivals()[1].body = body("{\"id\":\"a\",\"sequence\":\"2\"}"));
        let altered = Violation::Altered {
            subscriber: "crm",
            seq: 1,
        };
        assert_eq!(world.finally(), [altered]);
    }

    #[test]
    fn a_wrong_signature_is_found() {
        let world = world().with(|it| it.arrivals()[2].verified = false);
        let unverified = Violation::Unverified {
            subscriber: "crm",
            id: "b".to_owned(),
        };
        assert_eq!(world.finally(), [unverified]);
    }

    #[test]
    fn what_was_not_asked_for_is_found() {
        let world = world().with(|it| it.subscribers[0].routes = &["salpre"]);
        let unwanted = |seq| Violation::Unwanted { subscriber: "crm", seq };
        assert_eq!(world.finally(), [unwanted(1), unwanted(1), unwanted(2)]);
    }

    #[test]
    fn a_delivery_that_never_came_is_found() {
        let world = world().with(|it| {
            it.arrivals().pop();
            it.progress().delivered.remove(&2);
        });
        let (subscriber, seq) = ("crm", 2);
        let cursor = 2;
        assert_eq!(
            world.finally(),
            [
                Violation::CursorPassed {
                    subscriber,
                    seq,
                    cursor
                },
                Violation::Undelivered { subscriber, seq }
            ]
        );
    }

    #[test]
    fn a_delivery_on_record_that_never_came_is_found() {
        let world = world().with(|it| drop(it.arrivals().pop()));
        let claimed = Violation::Claimed {
            subscriber: "crm",
            seq: 2,
        };
        assert!(world.finally().contains(&claimed));
    }

    #[test]
    fn a_cursor_that_passed_an_unsettled_delivery_is_found() {
        let passed = Violation::CursorPassed {
            subscriber: "crm",
            seq: 2,
            cursor: 2,
        };
        let open = || world().with(|it| it.arrivals()[2].taken = None);
        assert_eq!(open().always(), [passed]);
        assert_eq!(open().with(|it| it.progress().waiting = [2].into()).always(), []);
        assert_eq!(open().with(|it| it.progress().dead = [2].into()).always(), []);
        assert_eq!(open().with(|it| it.progress().cursor = 1).always(), []);
    }

    #[test]
    fn what_is_never_settled_is_found() {
        let world = world().with(|it| it.progress().cursor = 1);
        let unsettled = Violation::Unsettled {
            subscriber: "crm",
            cursor: 1,
            head: 2,
            waiting: 0,
        };
        assert_eq!(world.finally(), [unsettled]);
    }

    #[test]
    fn an_event_that_overtakes_its_call_is_found() {
        let overtaken = Violation::Overtaken {
            subscriber: "crm",
            earlier: 1,
            later: 2,
        };
        // It came between the failed and the successful attempt of the one before it.
        let early = world().with(|it| it.arrivals()[2].at = 2);
        assert_eq!(early.finally(), [overtaken]);
        let of_another_call = world().with(|it| {
            it.arrivals()[2].at = 2;
            it.record.events[1].subject = "magpipe/2".to_owned();
        });
        assert_eq!(of_another_call.finally(), []);
        // Delivered again after a crash, both are in order.
        let again = world().with(|it| {
            for (at, index) in [(6, 0), (7, 1)] {
                let arrived = arrival(at, &it.record.events[index].clone(), Some(at));
                it.arrivals().push(arrived);
            }
        });
        assert_eq!(again.finally(), []);
    }

    fn dead(attempts: &[(u32, Option<u16>)]) -> World {
        let attempts = attempts.to_vec();
        world().with(|it| {
            it.arrivals()[1].taken = None;
            it.progress().dead.insert(1);
            it.progress().delivered.remove(&1);
            it.progress().attempts.insert(1, attempts);
        })
    }

    #[test]
    fn a_dead_delivery_needs_all_of_its_attempts() {
        let too_soon = |attempts: &[u32]| Violation::DeadTooSoon {
            subscriber: "crm",
            seq: 1,
            attempts: attempts.to_vec(),
        };
        assert_eq!(dead(&[(1, Some(500)), (2, None)]).finally(), []);
        assert_eq!(dead(&[(2, None)]).finally(), [too_soon(&[2])]);
        assert_eq!(dead(&[(1, Some(500))]).finally(), [too_soon(&[1])]);
        assert_eq!(dead(&[(1, Some(500)), (2, Some(204))]).finally(), [too_soon(&[1, 2])]);
    }

    #[test]
    fn the_next_of_a_call_waits_for_the_last_attempt_of_a_dead_one() {
        let early = dead(&[(1, Some(500)), (2, None)]).with(|it| it.arrivals()[2].at = 1);
        let overtaken = Violation::Overtaken {
            subscriber: "crm",
            earlier: 1,
            later: 2,
        };
        assert_eq!(early.finally(), [overtaken]);
        // Unless it was taken before, and only a crash had it attempted again.
        let taken_before = dead(&[(1, Some(500)), (2, None)]).with(|it| {
            it.arrivals()[0].taken = Some(1);
            let again = arrival(9, &it.record.events[0].clone(), None);
            it.arrivals().push(again);
        });
        assert_eq!(taken_before.finally(), []);
    }

    #[test]
    fn what_a_killed_gateway_did_not_see_taken_may_be_dead_before() {
        // The answer was slow, the gateway was killed meanwhile, and the next one had the last attempt.
        let late = |taken| {
            dead(&[(1, Some(500)), (2, None)]).with(|it| {
                it.arrivals()[0].taken = Some(taken);
                it.arrivals()[2].at = 3;
            })
        };
        assert_eq!(late(9).finally(), []);
        // Its last attempt came later than the next one.
        let early = late(9).with(|it| it.arrivals()[1].at = 4);
        let overtaken = Violation::Overtaken {
            subscriber: "crm",
            earlier: 1,
            later: 2,
        };
        assert_eq!(early.finally(), [overtaken]);
    }

    #[test]
    fn who_does_not_ask_for_order_may_get_any() {
        let early = world().with(|it| {
            it.arrivals()[2].at = 2;
            it.subscribers[0].in_order = false;
        });
        assert_eq!(early.finally(), []);
    }

    #[test]
    fn what_is_put_back_by_its_id_comes_when_it_comes() {
        // It was dead when the next one came, and was put back then; or it was taken, and died when it was put back.
        let late = |attempts: &[(u32, Option<u16>)]| {
            dead(attempts).with(|it| {
                let again = arrival(9, &it.record.events[0].clone(), None);
                it.arrivals().push(again);
                it.subscribers[0].replays.one_by_one.insert("a".to_owned());
            })
        };
        assert_eq!(
            late(&[(1, Some(500)), (2, Some(204)), (3, Some(500)), (4, None)]).finally(),
            []
        );
        let too_soon = Violation::DeadTooSoon {
            subscriber: "crm",
            seq: 1,
            attempts: vec![1, 2, 3],
        };
        assert_eq!(late(&[(1, Some(500)), (2, Some(204)), (3, None)]).finally(), [too_soon]);
    }

    #[test]
    fn what_was_dead_may_come_again_after_what_it_held_back() {
        let again = || {
            dead(&[(1, Some(500)), (2, None)]).with(|it| {
                let again = arrival(9, &it.record.events[0].clone(), Some(10));
                it.arrivals().push(again);
                it.progress().dead.clear();
                it.progress().delivered.insert(1);
            })
        };
        let overtaken = Violation::Overtaken {
            subscriber: "crm",
            earlier: 1,
            later: 2,
        };
        assert_eq!(again().finally(), [overtaken]);
        assert_eq!(again().with(|it| it.subscribers[0].replays.dead = true).finally(), []);
        // The next one still waits for the death.
        let early = again().with(|it| {
            it.subscribers[0].replays.dead = true;
            it.arrivals()[2].at = 1;
        });
        assert_eq!(
            early.finally(),
            [Violation::Overtaken {
                subscriber: "crm",
                earlier: 1,
                later: 2
            }]
        );
    }

    #[test]
    fn what_is_old_may_be_forgotten_and_nothing_else() {
        let pruned = |before: Option<u64>| {
            let mut memory = Memory::default();
            world().with(|it| {
                memory.compare(&mut it.record, None);
                it.record.events.remove(0);
                it.record.quarantine.clear();
                memory.compare(&mut it.record, before.map(at));
                // However the clock was set since.
                memory.compare(&mut it.record, before.map(|_| at(0)));
            })
        };
        assert_eq!(pruned(Some(2)).finally(), []);
        let gap = Violation::Gap { after: 0, next: 2 };
        let all_lost = [gap, lost("a"), lost("a webhook without events")];
        assert_eq!(pruned(None).always(), all_lost);
        assert_eq!(pruned(Some(1)).always(), all_lost);
        // What was never on record was not forgotten.
        let unseen = world().with(|it| {
            it.record.events.remove(0);
            Memory::default().compare(&mut it.record, Some(at(2)));
        });
        assert!(unseen.always().contains(&lost("a")));
    }

    #[test]
    fn what_is_old_may_be_given_up_before_its_last_attempt() {
        let given_up = |before| dead(&[(1, Some(500))]).with(|it| it.record.forgotten.before = Some(at(before)));
        assert_eq!(given_up(2).finally(), []);
        let too_soon = Violation::DeadTooSoon {
            subscriber: "crm",
            seq: 1,
            attempts: vec![1],
        };
        assert_eq!(given_up(1).finally(), [too_soon]);
    }

    #[test]
    fn what_comes_again_after_it_was_forgotten_is_kept_again() {
        let again = world().with(|it| {
            let mut memory = Memory::default();
            memory.compare(&mut it.record, None);
            it.record.events.remove(0);
            it.record.events.push(event(3, "a", "first"));
            memory.compare(&mut it.record, Some(at(2)));
            let arrived = arrival(9, &it.record.events[1].clone(), Some(10));
            it.arrivals().push(arrived);
            it.progress().cursor = 3;
            it.progress().delivered.insert(3);
        });
        assert_eq!(again.finally(), []);
    }

    /// What is left of one.
    fn tombstone(seq: u64, id: &str) -> Event {
        Event {
            kind: ERASED.to_owned(),
            subject: String::new(),
            json: Bytes::from(format!(
                "{{\"specversion\":\"1.0\",\"id\":{id:?},\"source\":\"/routes/magpipe\",\"type\":\"erased\",\
                 \"time\":\"2026-02-18T15:30:45Z\",\"sequence\":\"{seq}\"}}"
            )),
            webhook: Some(Bytes::new()),
            ..event(seq, id, "")
        }
    }

    fn erasure(asked: Tick, done: Option<Tick>) -> Erasure {
        Erasure {
            subject: "magpipe/1".to_owned(),
            asked,
            done,
            over: done.map(|done| done + 10),
        }
    }

    /// The call is erased, as asked at 20 and answered at 22, after both of its events had been delivered.
    fn erased() -> World {
        let mut memory = Memory::default();
        world().with(|it| {
            it.sent[0].body = body("first of call 1");
            it.sent[1].body = body("second of call 1");
            it.record.events[0].webhook = Some(body("first of call 1"));
            it.record.events[1].webhook = Some(body("second of call 1"));
            memory.compare(&mut it.record, None);
            it.record.events[0] = tombstone(1, "a");
            it.record.events[1] = tombstone(2, "b");
            memory.compare(&mut it.record, None);
            it.erasures = vec![erasure(20, Some(22))];
        })
    }

    #[test]
    fn what_is_erased_as_asked_is_well() {
        assert_eq!(erased().finally(), []);
        let unseen = erased().with(|it| it.record.before_erasure.clear());
        assert_eq!(unseen.finally(), [], "what was delivered tells of it");
        let of_nobody = erased().with(|it| {
            it.record.before_erasure.clear();
            it.arrivals().clear();
            it.progress().delivered.clear();
        });
        assert_eq!(of_nobody.finally(), [], "its webhooks tell whose it is");
        let unanswered = of_nobody.with(|it| it.sent.iter_mut().take(2).for_each(|webhook| webhook.accepted = None));
        assert_eq!(unanswered.finally(), []);
        let by_one_that_was_killed = erased().with(|it| it.erasures[0] = erasure(20, None));
        assert_eq!(by_one_that_was_killed.finally(), []);
    }

    #[test]
    fn what_is_not_erased_is_found() {
        let kept = || {
            erased().with(|it| {
                it.record.events[1] = Event {
                    webhook: Some(body("second of call 1")),
                    ..event(2, "b", "")
                };
            })
        };
        assert_eq!(kept().always(), [Violation::NotErased { seq: 2 }]);
        // Nobody knew that it was kept when the erasure was asked for.
        let later = kept().with(|it| {
            it.sent[1].accepted.as_mut().unwrap().at = 21;
            it.arrivals()[2].at = 21;
            it.arrivals()[2].taken = Some(21);
        });
        assert_eq!(later.finally(), []);
        // One that was not answered may have done a part.
        assert_eq!(kept().with(|it| it.erasures[0] = erasure(20, None)).finally(), []);
    }

    #[test]
    fn what_nobody_wanted_erased_is_found() {
        let unasked = |seq| Violation::ErasedUnasked { seq };
        assert_eq!(
            erased().with(|it| it.erasures.clear()).always(),
            [unasked(1), unasked(2)]
        );
        let of_another_call = erased().with(|it| it.erasures[0].subject = "magpipe/2".to_owned());
        assert_eq!(of_another_call.always(), [unasked(1), unasked(2)]);
        let unseen = of_another_call.with(|it| {
            it.record.before_erasure.clear();
            it.arrivals().clear();
        });
        assert!(unseen.always().contains(&unasked(1)));
        // Sent only when the erasure was done.
        assert_eq!(erased().with(|it| it.sent[1].begun = 23).always(), [unasked(2)]);
    }

    #[test]
    fn a_tombstone_that_nobody_sent_is_found() {
        let unsent = erased().with(|it| {
            it.sent.remove(1);
        });
        assert_eq!(unsent.finally(), [Violation::Unknown { what: "b".to_owned() }]);
    }

    #[test]
    fn what_remains_of_one_that_is_erased_is_found() {
        let changes: [fn(&mut Event); 5] = [
            |it| it.webhook = Some(body("first")),
            |it| it.rest = "an answer".to_owned(),
            |it| it.subject = "magpipe/1".to_owned(),
            |it| {
                it.json = Bytes::from_static(
                    br#"{"id":"a","source":"/routes/magpipe","type":"erased","sequence":"1","subject":"magpipe/1"}"#,
                );
            },
            |it| it.json = event(1, "a", "").json,
        ];
        for change in changes {
            let world = erased().with(|it| change(&mut it.record.events[0]));
            assert_eq!(world.always(), [Violation::Remains { seq: 1 }]);
        }
    }

    #[test]
    fn a_delivery_of_what_is_erased_is_found() {
        let sent = |at: &[Tick]| {
            erased().with(|it| {
                for at in at {
                    let arrived = arrival(*at, &event(1, "a", ""), Some(*at));
                    it.arrivals().push(arrived);
                }
            })
        };
        let violation = Violation::SentErased {
            subscriber: "crm",
            seq: 1,
        };
        // Before the answer as often as it likes, and one that was under way then, as long as its gateway lives.
        assert_eq!(sent(&[20, 21, 30]).finally(), []);
        assert_eq!(sent(&[23, 24]).finally(), std::slice::from_ref(&violation));
        assert_eq!(sent(&[33]).finally(), std::slice::from_ref(&violation));
        assert_eq!(sent(&[33]).with(|it| it.erasures[0] = erasure(20, None)).finally(), []);
        // Another one of the call was kept while it was at work, and may be erased or not.
        let later = sent(&[33]).with(|it| {
            it.sent[0].accepted.as_mut().unwrap().at = 21;
            it.arrivals().retain(|arrival| arrival.at > 30 || arrival.id == "b");
        });
        assert_eq!(later.always(), []);
    }

    #[test]
    fn a_delivery_of_a_tombstone_is_found() {
        let altered = Violation::Altered {
            subscriber: "crm",
            seq: 1,
        };
        for is_known in [true, false] {
            let world = erased().with(|it| {
                if !is_known {
                    it.record.before_erasure.clear();
                }
                it.arrivals()[0].body = tombstone(1, "a").json;
            });
            assert_eq!(world.finally(), std::slice::from_ref(&altered));
        }
    }

    #[test]
    fn what_is_erased_was_delivered_like_any_other_before() {
        let altered = erased().with(|it| it.arrivals()[0].body = event(1, "a", "other").json.slice(1..));
        let violation = Violation::Altered {
            subscriber: "crm",
            seq: 1,
        };
        assert_eq!(altered.finally(), std::slice::from_ref(&violation));
        assert_eq!(
            altered.with(|it| it.record.before_erasure.clear()).finally(),
            [violation]
        );
        let unwanted = erased().with(|it| it.subscribers[0].types = &["message.*"]);
        assert_eq!(unwanted.finally().len(), 3);
        let claimed = erased().with(|it| {
            it.arrivals().pop();
        });
        let violation = Violation::Claimed {
            subscriber: "crm",
            seq: 2,
        };
        assert_eq!(claimed.finally(), [violation]);
    }

    #[test]
    fn what_is_erased_is_owed_to_nobody() {
        let owed = || {
            erased().with(|it| {
                it.arrivals().pop();
                it.progress().delivered.remove(&2);
            })
        };
        assert_eq!(owed().finally(), [], "passed over");
        let given_up = owed().with(|it| it.progress().dead = [2].into());
        assert_eq!(given_up.finally(), [], "before its first attempt");
        let numbers = given_up.with(|it| drop(it.progress().attempts.insert(2, vec![(2, Some(500))])));
        let too_soon = Violation::DeadTooSoon {
            subscriber: "crm",
            seq: 2,
            attempts: vec![2],
        };
        assert_eq!(numbers.finally(), [too_soon]);
        let unsettled = owed().with(|it| it.progress().waiting = [2].into());
        assert_eq!(unsettled.finally().len(), 1);
    }

    #[test]
    fn what_follows_in_its_call_waits_until_it_is_erased() {
        let overtaken = Violation::Overtaken {
            subscriber: "crm",
            earlier: 1,
            later: 2,
        };
        // The first one is never taken, the second comes at 4 or at 25, and was sent after the erasure.
        let followed = |at: Tick| {
            erased().with(|it| {
                it.record.events[1] = Event {
                    webhook: Some(body("second of call 1")),
                    ..event(2, "b", "")
                };
                it.sent[1].accepted.as_mut().unwrap().at = 24;
                it.arrivals()[1].taken = None;
                it.arrivals()[2].at = at;
                it.arrivals()[2].taken = Some(at);
                it.progress().delivered.remove(&1);
                it.erasures[0] = erasure(20, None);
            })
        };
        assert_eq!(followed(25).finally(), []);
        assert_eq!(followed(4).finally(), std::slice::from_ref(&overtaken));
        // It is dead because it was erased, and not before.
        let dead = |attempts: &[(u32, Option<u16>)]| {
            followed(4).with(|it| {
                it.progress().dead.insert(1);
                it.progress().attempts.insert(1, attempts.to_vec());
            })
        };
        assert_eq!(dead(&[(1, Some(500))]).finally(), [overtaken]);
        assert_eq!(dead(&[(1, Some(500)), (2, None)]).finally(), []);
    }

    #[test]
    fn one_that_was_erased_and_forgotten_is_kept_again() {
        let again = |before: u64| {
            erased().with(|it| {
                let mut memory = Memory::default();
                memory.compare(&mut it.record, None);
                it.record.events.remove(0);
                let kept_again = Event {
                    webhook: Some(body("first of call 1")),
                    ..event(3, "a", "")
                };
                it.record.events.push(kept_again.clone());
                memory.compare(&mut it.record, Some(at(before)));
                it.arrivals().retain(|arrival| arrival.id == "b");
                it.arrivals().push(arrival(40, &kept_again, Some(41)));
                it.progress().delivered = [2, 3].into();
                it.progress().cursor = 3;
            })
        };
        assert_eq!(again(2).finally(), []);
        assert!(again(1).finally().contains(&Violation::NotErased { seq: 3 }));
    }

    #[test]
    fn a_webhook_that_is_sent_again_is_answered_as_before() {
        let again = |id: &str| {
            erased().with(|it| {
                let accepted = Accepted {
                    at: 30,
                    ids: vec![id.to_owned()],
                };
                it.sent.push(Sent {
                    begun: 29,
                    accepted: Some(accepted),
                    ..it.sent[0].clone()
                });
            })
        };
        assert_eq!(again("a").finally(), []);
        let anew = again("c").with(|it| {
            it.record.events.push(Event {
                webhook: Some(body("first of call 1")),
                ..event(3, "c", "")
            });
        });
        assert!(anew.always().contains(&Violation::Twice { id: "c".to_owned() }));
    }
}
