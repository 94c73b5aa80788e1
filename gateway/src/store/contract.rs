//! What every engine promises, driven on a real file.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use jiff::{Timestamp, ToSpan as _};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::*;
use crate::{config::Location, event::Facts};

mod erasure;
mod retention;

pub(super) fn kept(seq: u64, json_bytes: usize) -> Kept {
    Kept {
        seq,
        id: id(seq),
        kind: "call.completed".to_owned(),
        subject: format!("magpipe/{seq}"),
        route: "magpipe".to_owned(),
        time: at(0),
        kept_at: at(0),
        facts: Facts::default(),
        json: Bytes::from(vec![b' '; json_bytes]),
    }
}

fn config(path: &Path) -> config::Store {
    config::Store {
        location: Location::Sqlite(path.to_owned()),
        keep_events: Duration::from_secs(3600),
        keep_ids: Duration::from_secs(3600),
        disk_floor_bytes: 0,
        keep_webhooks: Duration::from_secs(3600),
        keep_attempts: Duration::from_secs(3600),
        queue_max: 1024,
    }
}

struct Scene {
    _dir: TempDir,
    path: PathBuf,
    store: Store,
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data/feed.db");
        let store = Store::open(&config(&path)).await.unwrap();
        Self { _dir: dir, path, store }
    }

    async fn reopened(mut self) -> Self {
        self.store.close().await.unwrap();
        self.store = Store::open(&config(&self.path)).await.unwrap();
        self
    }

    /// Keeps events that are new, fifty to a webhook.
    async fn keep(&self, numbers: std::ops::RangeInclusive<u64>) {
        let numbers: Vec<u64> = numbers.collect();
        for some in numbers.chunks(50) {
            let kept = places(self.store.keep(submission(some.iter().copied().map(event))).await);
            assert!(kept.iter().all(|place| matches!(place, Place::New(_))));
        }
    }

    async fn seqs(&self, after: u64) -> Vec<u64> {
        self.store
            .read(after, 10_000)
            .await
            .unwrap()
            .iter()
            .map(|kept| kept.seq)
            .collect()
    }

    async fn execute(&self, sql: &str) {
        let Engine::Sqlite(sqlite) = &self.store.engine;
        sqlite.execute(sql).await.unwrap();
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

fn id(number: u64) -> EventId {
    EventId::derive("magpipe", &number.to_string())
}

fn event(number: u64) -> Event {
    large_event(number, 64)
}

fn large_event(number: u64, json_bytes: usize) -> Event {
    let id = id(number);
    Event {
        id,
        kind: if number.is_multiple_of(2) {
            "call.completed"
        } else {
            "message.sent"
        }
        .to_owned(),
        subject: format!("magpipe/call-{number}"),
        time: at(number as i64),
        facts: Facts {
            numbers: vec!["+16045550100".to_owned(), "raw \"100\"\n".to_owned()],
            duration_seconds: Some(12.5),
            test: number.is_multiple_of(3),
        },
        open_json: format!("{{\"id\":\"{id}\",\"pad\":\"{}\"", "x".repeat(json_bytes)).into_bytes(),
    }
}

fn webhook() -> RawWebhook {
    RawWebhook {
        route: "magpipe".to_owned(),
        received_at: at(5),
        method: "POST".to_owned(),
        target: "/hooks/magpipe?a=1".to_owned(),
        headers: vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            ("x-odd".to_owned(), "\"quoted\"\u{fffd}".to_owned()),
        ],
        peer: Some("192.0.2.1".to_owned()),
        body: Bytes::from_static(b"\0\xff not UTF-8"),
        form: "sha256-prefix".to_owned(),
        payload: None,
    }
}

fn submission(events: impl IntoIterator<Item = Event>) -> Submission {
    Submission {
        webhook: webhook(),
        outcome: Mapped::Events(events.into_iter().collect()),
    }
}

fn quarantine(detail: &str) -> Submission {
    Submission {
        webhook: RawWebhook {
            body: Bytes::copy_from_slice(detail.as_bytes()),
            ..webhook()
        },
        outcome: Mapped::Quarantined {
            reason: Reason::Fault,
            detail: detail.to_owned(),
        },
    }
}

fn places(receipt: Result<Receipt, Error>) -> Vec<Place> {
    match receipt.unwrap() {
        Receipt::Events(places) => places,
        Receipt::Quarantined(number) => panic!("{number} is in quarantine"),
    }
}

fn waiting(seq: u64, attempts: u32) -> Waiting {
    Waiting {
        seq,
        subject: format!("magpipe/call-{seq}"),
        kept_at: at(0),
        attempts,
        begun_after: attempts / 2,
        due_at: at(60),
    }
}

/// What waits, whenever its events were kept.
fn owed(progress: &Progress) -> Vec<Waiting> {
    let kept_at = at(0);
    let waiting = progress.waiting.iter().cloned();
    waiting.map(|waiting| Waiting { kept_at, ..waiting }).collect()
}

fn attempt(seq: u64, number: u32, status: Option<u16>) -> Attempt {
    Attempt {
        seq,
        number,
        at: at(i64::from(number)),
        duration: Duration::from_micros(1_234),
        status,
        outcome: match status {
            Some(200) => "delivered",
            Some(_) => "status",
            None => "timeout",
        }
        .to_owned(),
        request_headers: "webhook-id: …".to_owned(),
        response: "no".to_owned(),
    }
}

fn settlement(cursor: u64) -> Settlement {
    Settlement {
        subscriber: "crm".to_owned(),
        cursor,
        ..Settlement::default()
    }
}

fn everything() -> Query {
    Query {
        limit: 1000,
        ..Query::default()
    }
}

/// Later than everything these tests keep.
fn all_is_old() -> PruneBefore {
    let later = crate::clock::now() + 1.hour();
    PruneBefore {
        events: later,
        ids: later,
        webhooks: later,
        attempts: later,
        subscribers: ["crm".to_owned(), "stopped".to_owned(), "running".to_owned()].into(),
    }
}

async fn prune_all(store: &Store) -> PruneReport {
    let mut total = PruneReport::default();
    for _ in 0..1000 {
        let step = store.prune(all_is_old()).await.unwrap();
        total.events += step.events;
        total.webhooks += step.webhooks;
        total.attempts += step.attempts;
        if !step.more {
            return total;
        }
    }
    panic!("retention does not come to an end");
}

fn assert_same(left: &Kept, right: &Kept) {
    // The disk keeps times by the microsecond.
    assert_eq!(left.kept_at.as_microsecond(), right.kept_at.as_microsecond());
    assert_eq!(
        (
            left.seq,
            left.id,
            &left.kind,
            &left.subject,
            &left.route,
            left.time,
            &left.facts,
            &left.json
        ),
        (
            right.seq,
            right.id,
            &right.kind,
            &right.subject,
            &right.route,
            right.time,
            &right.facts,
            &right.json
        ),
    );
}

#[tokio::test]
async fn an_event_is_kept_once_also_across_a_restart() {
    let scene = Scene::new().await;
    let first = places(scene.store.keep(submission([event(1), event(2), event(1)])).await);
    assert_eq!(first, [Place::New(1), Place::New(2), Place::Known(1)]);
    let scene = scene.reopened().await;
    assert_eq!(*scene.store.head().borrow(), 2);
    let again = places(scene.store.keep(submission([event(2), event(3)])).await);
    assert_eq!(again, [Place::Known(2), Place::New(3)]);
    let known = places(scene.store.keep(submission([event(1)])).await);
    assert_eq!(known, [Place::Known(1)]);
    assert_eq!(scene.seqs(0).await, [1, 2, 3]);
    assert_eq!(scene.store.history().counts().await.unwrap().events, 3);
    let kept = &scene.store.fetch(&[3]).await.unwrap()[0];
    assert_eq!(kept.json, event(3).close_json(3));
    assert!(kept.json.ends_with(br#","sequence":"3"}"#));
}

#[tokio::test]
async fn the_webhook_is_kept_as_received() {
    let scene = Scene::new().await;
    scene.keep(1..=1).await;
    let history = scene.store.history();
    let found = history.webhook(id(1)).await.unwrap().unwrap();
    let sent = webhook();
    assert_eq!(
        (
            found.route,
            found.received_at,
            found.method,
            found.target,
            found.headers,
            found.peer,
            found.body
        ),
        (
            sent.route,
            sent.received_at,
            sent.method,
            sent.target,
            sent.headers,
            sent.peer,
            sent.body
        ),
    );
    assert_eq!((found.form, found.payload), (sent.form, sent.payload));
    assert!(history.webhook(id(2)).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keeps_at_once_are_gapless_and_each_exactly_once() {
    let scene = Scene::new().await;
    let mut tasks = JoinSet::new();
    // Each event comes twice, from two senders.
    for number in 0..400 {
        let store = scene.store.clone();
        tasks.spawn(async move { places(store.keep(submission([event(number / 2)])).await) });
    }
    let mut new = HashSet::new();
    let mut known = 0;
    while let Some(places) = tasks.join_next().await {
        match places.unwrap()[..] {
            [Place::New(seq)] => assert!(new.insert(seq)),
            [Place::Known(_)] => known += 1,
            ref other => panic!("{other:?}"),
        }
    }
    assert_eq!((new.len(), known), (200, 200));
    assert_eq!(scene.seqs(0).await, (1..=200).collect::<Vec<_>>());
    let ids: HashSet<_> = scene
        .store
        .read(0, 1000)
        .await
        .unwrap()
        .iter()
        .map(|kept| kept.id)
        .collect();
    assert_eq!(ids.len(), 200);
}

#[tokio::test]
async fn the_head_is_told_after_the_commit() {
    let scene = Scene::new().await;
    let mut head = scene.store.head();
    assert_eq!(*head.borrow_and_update(), 0);
    scene.keep(1..=2).await;
    assert_eq!(*head.wait_for(|head| *head == 2).await.unwrap(), 2);
}

#[tokio::test]
async fn the_feed_reads_the_same_at_its_tail_and_behind_it() {
    let scene = Scene::new().await;
    scene.keep(1..=20).await;
    let at_tail = scene.store.read(4, 10).await.unwrap();
    let fetched = scene.store.fetch(&[9, 5]).await.unwrap();
    let scene = scene.reopened().await;
    let behind = scene.store.read(4, 10).await.unwrap();
    assert_eq!(at_tail.len(), 10);
    assert_eq!(behind.len(), 10);
    for (left, right) in at_tail.iter().zip(&behind) {
        assert_same(left, right);
    }
    scene.keep(21..=22).await;
    // One from the disk, one from memory, one that is nowhere, in the order asked for.
    let mixed = scene.store.fetch(&[22, 99, 9, 5]).await.unwrap();
    assert_eq!(mixed.iter().map(|kept| kept.seq).collect::<Vec<_>>(), [22, 9, 5]);
    assert_same(&mixed[1], &fetched[0]);
    assert!(scene.store.read(22, 10).await.unwrap().is_empty());
    assert!(scene.store.read(u64::MAX, 10).await.unwrap().is_empty());
    assert!(scene.store.read(0, 0).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_read_behind_the_tail_is_bounded_by_bytes() {
    let scene = Scene::new().await;
    for number in 1..=12 {
        scene
            .store
            .keep(submission([large_event(number, 1 << 20)]))
            .await
            .unwrap();
    }
    let first = scene.store.read(0, 100).await.unwrap();
    assert_eq!(
        first.iter().map(|kept| kept.seq).collect::<Vec<_>>(),
        (1..=8).collect::<Vec<_>>()
    );
    assert_eq!(scene.seqs(8).await, [9, 10, 11, 12]);
}

#[tokio::test]
async fn a_new_subscriber_starts_at_the_head() {
    let scene = Scene::new().await;
    scene.keep(1..=3).await;
    assert_eq!(scene.store.progress("crm").await.unwrap().cursor, 3);
    scene.keep(4..=5).await;
    let scene = scene.reopened().await;
    let progress = scene.store.progress("crm").await.unwrap();
    assert_eq!(progress.cursor, 3);
    assert_eq!((progress.waiting, progress.stopped), (vec![], None));
}

#[tokio::test]
async fn how_a_subscriber_fared_comes_back_after_a_restart() {
    let scene = Scene::new().await;
    assert_eq!(scene.store.progress("crm").await.unwrap().breaker, Breaker::default());
    let down = Breaker {
        failures_in_a_row: 12,
        not_before: Some(at(1_000)),
        in_flight_limit: Some(1),
    };
    let mut news = settlement(0);
    news.breaker = Some(down);
    scene.store.settle(news).await.unwrap();
    // One that has no news of it, as every replay has, leaves it as it was.
    scene.store.settle(settlement(0)).await.unwrap();
    let scene = scene.reopened().await;
    assert_eq!(scene.store.progress("crm").await.unwrap().breaker, down);
    let mut well = settlement(0);
    well.breaker = Some(Breaker::default());
    scene.store.settle(well).await.unwrap();
    assert_eq!(scene.store.progress("crm").await.unwrap().breaker, Breaker::default());
}

#[tokio::test]
async fn what_is_settled_comes_back_after_a_restart() {
    let scene = Scene::new().await;
    assert_eq!(scene.store.progress("crm").await.unwrap().cursor, 0);
    scene.keep(1..=6).await;
    let mut first = settlement(5);
    first.waiting = vec![waiting(2, 1), waiting(3, 0), waiting(4, 1)];
    first.attempts = vec![attempt(1, 1, Some(200)), attempt(2, 1, Some(500)), attempt(4, 1, None)];
    scene.store.settle(first).await.unwrap();
    // A cursor never goes back.
    scene.store.settle(settlement(1)).await.unwrap();
    let mut second = settlement(6);
    let steady = Steady {
        at: at(77),
        ahead: SignedDuration::from_secs(-5),
    };
    second.steady = steady;
    second.waiting = vec![waiting(3, 2)];
    second.delivered = vec![2];
    second.dead = vec![4];
    second.attempts = vec![attempt(2, 2, Some(200))];
    second.stopped = Some(Stopped {
        at: at(9),
        reason: "410".to_owned(),
    });
    scene.store.settle(second).await.unwrap();

    let scene = scene.reopened().await;
    let progress = scene.store.progress("crm").await.unwrap();
    assert_eq!((progress.cursor, progress.steady), (6, Some(steady)));
    let event = scene.store.fetch(&[3]).await.unwrap().remove(0);
    assert_eq!(progress.waiting[0].kept_at, event.kept_at, "as old as its event");
    assert_eq!(owed(&progress), [waiting(3, 2)]);
    assert_eq!(progress.stopped.unwrap().reason, "410");

    let history = scene.store.history();
    for (state, seqs) in [
        (DeliveryState::Delivered, vec![2, 1]),
        (DeliveryState::Waiting, vec![3]),
        (DeliveryState::Dead, vec![4]),
    ] {
        let query = Query {
            state: Some(state),
            ..everything()
        };
        let found = history.deliveries(query).await.unwrap();
        assert_eq!(found.iter().map(|it| it.seq).collect::<Vec<_>>(), seqs);
    }
    let deliveries = history.deliveries(everything()).await.unwrap();
    let told: Vec<_> = deliveries
        .iter()
        .map(|it| (it.seq, it.state, it.attempts, it.last_status))
        .collect();
    use DeliveryState::{Dead, Delivered, Waiting};
    assert_eq!(
        told,
        [
            (4, Dead, 1, None),
            (3, Waiting, 2, None),
            (2, Delivered, 2, Some(200)),
            (1, Delivered, 1, Some(200)),
        ]
    );
    // By the wall clock.
    assert_eq!(deliveries[1].due_at, Some(at(65)));
    assert_eq!((deliveries[2].id, deliveries[2].last_at), (id(2), Some(at(2))));
    let counts = history.counts().await.unwrap();
    assert_eq!((counts.dead, counts.waiting), (1, 1));
    let subscribers = history.subscribers().await.unwrap();
    assert_eq!(
        (subscribers[0].cursor, subscribers[0].waiting, subscribers[0].dead),
        (6, 1, 1)
    );

    scene.store.resume("crm").await.unwrap();
    assert_eq!(scene.store.progress("crm").await.unwrap().stopped, None);
}

#[tokio::test]
async fn what_can_be_replayed() {
    let scene = Scene::new().await;
    scene.store.progress("crm").await.unwrap();
    scene.keep(1..=4).await;
    let mut record = settlement(4);
    record.waiting = vec![waiting(2, 1)];
    record.dead = vec![1, 3];
    scene.store.settle(record).await.unwrap();
    let history = scene.store.history();
    let found = async |subscriber: &str, state, after| {
        let query = Query {
            subscriber: Some(subscriber.to_owned()),
            state,
            ..everything()
        };
        let found = history.replayable(query, after, None).await.unwrap();
        let seqs = found.events.iter().map(|kept| kept.seq).collect::<Vec<_>>();
        (seqs, found.waiting)
    };
    assert_eq!(found("crm", None, 0).await, (vec![1, 2, 3, 4], 1));
    assert_eq!(found("crm", None, 2).await, (vec![3, 4], 1));
    assert_eq!(found("crm", Some(DeliveryState::Dead), 0).await, (vec![1, 3], 1));
    assert_eq!(found("nobody", None, 0).await, (vec![], 0));
}

#[tokio::test]
async fn a_replay_stays_until_it_is_known() {
    let scene = Scene::new().await;
    scene.store.progress("crm").await.unwrap();
    scene.keep(1..=4).await;
    let mut first = settlement(4);
    first.attempts = vec![
        attempt(1, 1, Some(200)),
        attempt(3, 1, Some(500)),
        attempt(3, 2, Some(500)),
    ];
    first.waiting = vec![waiting(2, 1)];
    first.dead = vec![3];
    scene.store.settle(first).await.unwrap();

    // One that is delivered, one that waits, one that is dead, and one that never was.
    scene.store.replay("crm", vec![1, 2, 3, 9]).await.unwrap();
    scene.store.replay("crm", vec![2]).await.unwrap();
    let asked = async |scene: &Scene| {
        let wishes = scene.store.wishes("crm").await.unwrap();
        assert_eq!(wishes.replays, scene.store.progress("crm").await.unwrap().replays);
        let replays = wishes.replays.into_iter();
        replays.map(|it| (it.ticket, it.seq, it.attempts)).collect::<Vec<_>>()
    };
    assert_eq!(asked(&scene).await, [(1, 1, 1), (2, 2, 0), (3, 3, 2), (4, 2, 0)]);
    let progress = scene.store.progress("crm").await.unwrap();
    let owed = progress.waiting.iter();
    let owed: Vec<_> = owed.map(|it| (it.seq, it.attempts, it.begun_after)).collect();
    assert_eq!(owed, [(1, 1, 1), (2, 1, 0), (3, 2, 2)]);
    assert_eq!(scene.store.history().counts().await.unwrap().dead, 0);

    // A settlement that was on its way, by a loop that knows of the first ticket only.
    let mut second = settlement(4);
    second.delivered = vec![1, 2];
    second.replays_known = Some(1);
    scene.store.settle(second).await.unwrap();
    let scene = scene.reopened().await;
    assert_eq!(asked(&scene).await, [(2, 2, 0), (3, 3, 2), (4, 2, 0)]);

    let mut third = settlement(4);
    third.replays_known = Some(4);
    scene.store.settle(third).await.unwrap();
    assert_eq!(asked(&scene).await, []);
    // No ticket is given twice.
    scene.store.replay("crm", vec![4]).await.unwrap();
    assert_eq!(asked(&scene).await, [(5, 4, 0)]);
    assert!(scene.store.wishes("nobody").await.unwrap().replays.is_empty());
}

#[tokio::test]
async fn history_lists_what_is_asked_for_page_by_page() {
    let scene = Scene::new().await;
    scene.keep(1..=4).await;
    scene.keep(5..=9).await;
    let history = scene.store.history();
    let seqs = async |query: Query| {
        let events = history.events(query).await.unwrap();
        events.iter().map(|kept| kept.seq).collect::<Vec<_>>()
    };
    let page = Query {
        limit: 4,
        ..Query::default()
    };
    assert_eq!(seqs(page.clone()).await, [9, 8, 7, 6]);
    assert_eq!(
        seqs(Query {
            before: Some(6),
            ..page.clone()
        })
        .await,
        [5, 4, 3, 2]
    );
    assert_eq!(
        seqs(Query {
            before: Some(2),
            ..page.clone()
        })
        .await,
        [1]
    );
    assert_eq!(
        seqs(Query {
            kind: Some("call.*".to_owned()),
            ..page.clone()
        })
        .await,
        [8, 6, 4, 2]
    );
    assert_eq!(
        seqs(Query {
            kind: Some("message.sent".to_owned()),
            ..everything()
        })
        .await,
        [9, 7, 5, 3, 1]
    );
    assert_eq!(
        seqs(Query {
            kind: Some("call".to_owned()),
            ..everything()
        })
        .await,
        [] as [u64; 0]
    );
    assert_eq!(
        seqs(Query {
            subject: Some("magpipe/call-3".to_owned()),
            ..everything()
        })
        .await,
        [3]
    );
    assert_eq!(
        seqs(Query {
            route: Some("other".to_owned()),
            ..everything()
        })
        .await,
        [] as [u64; 0]
    );
    let fifth = history.event(id(5)).await.unwrap().unwrap();
    assert_eq!(
        seqs(Query {
            since: Some(fifth.kept_at),
            ..everything()
        })
        .await,
        [9, 8, 7, 6, 5]
    );
    assert_same(&fifth, &scene.store.fetch(&[5]).await.unwrap()[0]);
    assert!(history.event(id(99)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_page_of_deliveries_never_splits_an_event() {
    let scene = Scene::new().await;
    scene.keep(1..=4).await;
    for subscriber in ["crm", "billing"] {
        let mut settled = settlement(4);
        settled.subscriber = subscriber.to_owned();
        settled.attempts = (1..=4).map(|seq| attempt(seq, 1, Some(200))).collect();
        scene.store.settle(settled).await.unwrap();
    }
    let history = scene.store.history();
    let page = history
        .deliveries(Query {
            limit: 3,
            ..Query::default()
        })
        .await
        .unwrap();
    assert_eq!(page.iter().map(|it| it.seq).collect::<Vec<_>>(), [4, 4, 3, 3]);
    let next = history
        .deliveries(Query {
            limit: 1,
            before: Some(3),
            ..Query::default()
        })
        .await
        .unwrap();
    assert_eq!(next.iter().map(|it| it.seq).collect::<Vec<_>>(), [2, 2]);
    let one = Query {
        subscriber: Some("crm".to_owned()),
        state: Some(DeliveryState::Delivered),
        kind: Some("call.*".to_owned()),
        ..everything()
    };
    let one = history.deliveries(one).await.unwrap();
    assert_eq!(
        one.iter()
            .map(|it| (it.seq, it.subscriber.as_str()))
            .collect::<Vec<_>>(),
        [(4, "crm"), (2, "crm")]
    );

    let attempts = history.attempts(id(4), None).await.unwrap();
    assert_eq!(attempts.len(), 2);
    let attempts = history.attempts(id(4), Some("billing".to_owned())).await.unwrap();
    assert_eq!(attempts[0].0, "billing");
    let found = &attempts[0].1;
    let made = attempt(4, 1, Some(200));
    assert_eq!(
        (
            found.seq,
            found.number,
            found.at,
            found.duration,
            found.status,
            &found.outcome,
            &found.response
        ),
        (
            made.seq,
            made.number,
            made.at,
            made.duration,
            made.status,
            &made.outcome,
            &made.response
        ),
    );
    assert_eq!(found.request_headers, made.request_headers);
}

#[tokio::test]
async fn quarantine_keeps_each_webhook_once_and_as_long_as_events() {
    let scene = Scene::new().await;
    let mut numbers = Vec::new();
    for detail in ["trap", "loop", "bad"] {
        match scene.store.keep(quarantine(detail)).await.unwrap() {
            Receipt::Quarantined(number) => numbers.push(number),
            Receipt::Events(places) => panic!("{places:?}"),
        }
    }
    scene.keep(1..=1).await;
    let again = scene.store.keep(quarantine("loop")).await.unwrap();
    assert!(matches!(again, Receipt::Quarantined(number) if number == numbers[1]));
    let history = scene.store.history();
    let list = history.quarantine(2, None).await.unwrap();
    assert_eq!(
        list.iter().map(|it| it.number).collect::<Vec<_>>(),
        [numbers[2], numbers[1]]
    );
    let rest = history.quarantine(2, Some(numbers[1])).await.unwrap();
    assert_eq!(
        (rest.len(), rest[0].detail.as_str(), rest[0].reason.as_str()),
        (1, "trap", "fault")
    );
    assert_eq!(rest[0].webhook.body, "trap");
    assert!(history.quarantined(numbers[2]).await.unwrap().is_some());
    assert!(history.quarantined(4711).await.unwrap().is_none());

    let webhooks_only = PruneBefore {
        events: at(0),
        ..all_is_old()
    };
    assert_eq!(scene.store.prune(webhooks_only).await.unwrap().webhooks, 0);
    assert_eq!(prune_all(&scene.store).await.webhooks, 3);
    assert_eq!(history.counts().await.unwrap().quarantined, 0);
    // The newest webhook carries the numbering.
    assert!(history.webhook(id(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_full_disk_refuses_and_then_recovers() {
    let scene = Scene::new().await;
    scene.keep(1..=3).await;
    scene.execute("PRAGMA max_page_count = 1").await;
    let mut refused = 0;
    for number in 10..200 {
        match scene.store.keep(submission([large_event(number, 8192)])).await {
            Err(Error::Unavailable(_)) => refused += 1,
            Ok(_) => assert_eq!(refused, 0),
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused > 0);
    let mut health = scene.store.health();
    assert_eq!(*health.borrow(), Health::Refusing);
    let head = *scene.store.head().borrow();
    assert_eq!(scene.store.read(head, 10).await.unwrap().len(), 0);
    // It finds out by itself: who waits for it to be ready sends nothing meanwhile.
    health.wait_for(|health| *health == Health::Writable).await.unwrap();
    scene.execute("PRAGMA max_page_count = 1000000").await;
    let again = places(scene.store.keep(submission([large_event(199, 8192)])).await);
    assert_eq!(again, [Place::New(head + 1)]);
    let scene = scene.reopened().await;
    assert_eq!(scene.seqs(0).await, (1..=head + 1).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_disk_that_fails_takes_the_group_down_and_no_more() {
    let scene = Scene::new().await;
    scene.keep(1..=3).await;
    let Engine::Sqlite(sqlite) = &scene.store.engine;
    let mut next = 4;
    for _ in 0..2 {
        loop {
            let (kept, failed) = tokio::join!(scene.store.keep(submission([event(next)])), sqlite.fail_to_sync());
            assert!(matches!(failed, Err(Error::Unavailable(_))));
            match kept {
                Err(Error::Unavailable(_)) => break,
                // The writer took it before the failure came along, in a group of its own.
                kept => assert_eq!(places(kept), [Place::New(next)]),
            }
            next += 1;
        }
        assert_eq!(*scene.store.head().borrow(), next - 1);
    }
    assert_eq!(
        places(scene.store.keep(submission([event(next), event(3)])).await),
        [Place::New(next), Place::Known(3)]
    );
    assert_eq!(scene.seqs(0).await, (1..=next).collect::<Vec<_>>());
    let scene = scene.reopened().await;
    assert_eq!(scene.seqs(0).await, (1..=next).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_was_answered_is_on_disk() {
    let scene = Scene::new().await;
    scene.keep(1..=30).await;
    // What a killed process leaves behind.
    let copy = scene.path.with_file_name("copy.db");
    for suffix in ["", "-wal"] {
        let file = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
        std::fs::copy(file(&scene.path), file(&copy)).unwrap();
    }
    let store = Store::open(&config(&copy)).await.unwrap();
    assert_eq!(*store.head().borrow(), 30);
    assert_eq!(
        places(store.keep(submission([event(30), event(31)])).await),
        [Place::Known(30), Place::New(31)]
    );
}

#[tokio::test]
async fn one_at_fault_does_not_take_its_neighbours_along() {
    let scene = Scene::new().await;
    let mut poisoned = settlement(0);
    // No place that SQLite could hold.
    poisoned.delivered = vec![u64::MAX];
    // On one thread all of them are queued before the first is answered.
    let (first, fault, second) = tokio::join!(
        scene.store.keep(submission([event(1)])),
        scene.store.settle(poisoned),
        scene.store.keep(submission([event(2), event(1)])),
    );
    assert_eq!(places(first), [Place::New(1)]);
    assert!(matches!(fault, Err(Error::Unavailable(_))));
    assert_eq!(places(second), [Place::New(2), Place::Known(1)]);
    assert_eq!(scene.seqs(0).await, [1, 2]);
    assert!(scene.store.history().subscribers().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_queue_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&dir.path().join("feed.db"));
    config.queue_max = 1;
    let store = Store::open(&config).await.unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..50 {
        let store = store.clone();
        tasks.spawn(async move { store.keep(submission([event(number)])).await });
    }
    let results = tasks.join_all().await;
    let kept = results.iter().filter(|result| result.is_ok()).count();
    assert!(
        results
            .iter()
            .all(|result| matches!(result, Ok(_) | Err(Error::Busy(1))))
    );
    assert!(kept > 0);
    assert_eq!(*store.head().borrow(), kept as u64);
}

#[tokio::test]
async fn the_queue_is_bounded_by_its_bytes_too() {
    let scene = Scene::new().await;
    // The writer waits for it a while, and nothing leaves the queue.
    let other = rusqlite::Connection::open(&scene.path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut tasks = JoinSet::new();
    for number in 0..20 {
        let store = scene.store.clone();
        tasks.spawn(async move { store.keep(submission([large_event(number, 4 << 20)])).await });
    }
    let refused = tasks.join_next().await.unwrap().unwrap();
    assert!(matches!(refused, Err(Error::Busy(_))), "{refused:?}");
    other.execute_batch("ROLLBACK").unwrap();
    let results = tasks.join_all().await;
    let kept = results.iter().filter(|result| result.is_ok()).count();
    assert_eq!((kept, *scene.store.head().borrow()), (15, 15));
    // The room is given back.
    scene.keep(100..=100).await;
}

#[tokio::test]
async fn a_reader_is_in_no_ones_way_after_a_failed_sync() {
    let scene = Scene::new().await;
    scene.keep(1..=3).await;
    let reader = rusqlite::Connection::open(&scene.path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM event").unwrap();
    scene.keep(4..=4).await;
    let Engine::Sqlite(sqlite) = &scene.store.engine;
    assert!(sqlite.fail_to_sync().await.is_err());
    scene.keep(5..=5).await;
    let seen: u64 = reader
        .query_row("SELECT count(*) FROM event", [], |row| row.get(0))
        .unwrap();
    assert_eq!(seen, 3);
    reader.execute_batch("ROLLBACK").unwrap();
    assert_eq!(scene.seqs(0).await, [1, 2, 3, 4, 5]);
    let scene = scene.reopened().await;
    assert_eq!(scene.seqs(0).await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_closed_store_refuses() {
    let scene = Scene::new().await;
    let pending = scene.store.keep(submission([event(1)]));
    let (pending, closed) = tokio::join!(pending, scene.store.close());
    assert_eq!(places(pending), [Place::New(1)]);
    closed.unwrap();
    assert!(matches!(
        scene.store.keep(submission([event(2)])).await,
        Err(Error::Unavailable(_))
    ));
    assert!(matches!(scene.store.history().counts().await, Err(Error::Read(_))));
    // Everything is in the database; the log is gone.
    assert!(!scene.path.with_extension("db-wal").exists());
}

#[tokio::test]
async fn a_second_gateway_is_refused_and_a_reader_is_not() {
    let scene = Scene::new().await;
    scene.keep(1..=3).await;
    let error = Store::open(&config(&scene.path)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Open { detail, .. } if detail.contains("another gateway")),
        "{error}"
    );
    #[cfg(unix)]
    {
        let link = scene.path.with_file_name("link.db");
        std::os::unix::fs::symlink(&scene.path, &link).unwrap();
        assert!(matches!(Store::open(&config(&link)).await, Err(Error::Open { .. })));
    }
    let history = History::open(&config(&scene.path)).await.unwrap();
    assert_eq!(history.events(everything()).await.unwrap().len(), 3);
    scene.keep(4..=4).await;
    assert_eq!(history.counts().await.unwrap().events, 4);
    let scene = scene.reopened().await;
    assert_eq!(history.counts().await.unwrap().events, 4);
    scene.store.close().await.unwrap();
    let afterwards = History::open(&config(&scene.path)).await.unwrap();
    assert_eq!(afterwards.counts().await.unwrap().events, 4);
}

#[tokio::test]
async fn history_needs_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.db");
    let error = History::open(&config(&path)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Open { detail, .. } if detail.contains("no such file")),
        "{error}"
    );
    assert!(!path.exists());
}

#[tokio::test]
async fn a_damaged_file_is_refused_with_a_remedy() {
    let scene = Scene::new().await;
    for number in 1..=50 {
        scene.store.keep(submission([large_event(number, 4000)])).await.unwrap();
    }
    scene.store.close().await.unwrap();
    let whole = std::fs::read(&scene.path).unwrap();
    let mut scribbled = whole.clone();
    scribbled[4096..whole.len() / 2].fill(0x5a);
    let damaged = [
        &whole[..whole.len() / 2],
        &whole[..4096 * 3 + 100],
        &scribbled,
        &b"not a database".repeat(1000),
    ];
    for bytes in damaged {
        std::fs::write(&scene.path, bytes).unwrap();
        let error = Store::open(&config(&scene.path)).await.unwrap_err();
        let Error::Corrupt { path, remedy, .. } = &error else {
            panic!("{error}")
        };
        assert!(remedy.contains(".recover") && path.ends_with("feed.db"), "{error}");
        assert_eq!(std::fs::read(&scene.path).unwrap(), bytes, "evidence was changed");
    }
    std::fs::write(&scene.path, whole).unwrap();
    assert_eq!(*Store::open(&config(&scene.path)).await.unwrap().head().borrow(), 50);
}

#[tokio::test]
async fn a_file_that_was_emptied_is_not_taken_for_a_new_one() {
    let scene = Scene::new().await;
    scene.keep(1..=3).await;
    scene.store.close().await.unwrap();
    std::fs::write(&scene.path, "").unwrap();
    let error = Store::open(&config(&scene.path)).await.unwrap_err();
    assert!(matches!(error, Error::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn what_was_answered_is_synced_first() {
    let scene = Scene::new().await;
    // 2 is FULL; in WAL mode only that syncs the log with every commit.
    scene
        .execute(
            "CREATE TEMP TABLE proof (ok INTEGER CHECK (ok = 2)); INSERT INTO proof SELECT * FROM pragma_synchronous",
        )
        .await;
}

#[tokio::test]
async fn a_file_of_another_program_or_a_newer_schema_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("feed.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE song (title TEXT)").unwrap();
    drop(other);
    let error = Store::open(&config(&path)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Open { detail, .. } if detail.contains("another program")),
        "{error}"
    );
    assert!(matches!(History::open(&config(&path)).await, Err(Error::Open { .. })));

    let scene = Scene::new().await;
    scene.execute("PRAGMA user_version = 4711").await;
    scene.store.close().await.unwrap();
    let error = Store::open(&config(&scene.path)).await.unwrap_err();
    assert!(
        matches!(&error, Error::Open { detail, .. } if detail.contains("newer")),
        "{error}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new().await;
    scene.keep(1..=1).await;
    let directory = scene.path.parent().unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(directory), 0o700);
    for file in std::fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn what_was_given_up_ahead_of_the_cursor_is_told() {
    let scene = Scene::new().await;
    scene.keep(1..=5).await;
    let mut settled = settlement(2);
    settled.dead = vec![1, 4];
    scene.store.settle(settled).await.unwrap();
    assert_eq!(scene.store.progress("crm").await.unwrap().dead_ahead, [4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_read_while_the_gateway_writes() {
    let scene = Scene::new().await;
    let history = History::open(&config(&scene.path)).await.unwrap();
    let store = scene.store.clone();
    let writing = async move {
        for number in 1..=100 {
            store.keep(submission([event(number)])).await.unwrap();
        }
    };
    let reading = async {
        let mut seen = 0;
        while seen < 100 {
            let events = history.events(everything()).await.unwrap();
            let newest = events.first().map_or(0, |kept| kept.seq);
            assert!(newest >= seen);
            assert_eq!(events.len() as u64, newest);
            seen = newest;
        }
    };
    tokio::join!(writing, reading);
}
