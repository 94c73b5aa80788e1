//! What goes with time, and what stays for want of room or for somebody who still needs it.

use super::*;

#[tokio::test]
async fn retention_keeps_what_someone_still_needs() {
    let scene = Scene::new().await;
    scene.store.progress("crm").await.unwrap();
    scene.keep(1..=1200).await;
    let mut settled = settlement(1100);
    settled.waiting = vec![waiting(7, 1), waiting(8, 1)];
    settled.attempts = (1..=1100).map(|seq| attempt(seq, 1, Some(200))).collect();
    settled.dead = vec![9];
    scene.store.settle(settled).await.unwrap();

    // The attempts and webhooks are younger than the limit for them.
    let events_only = PruneBefore {
        webhooks: at(0),
        attempts: at(0),
        ..all_is_old()
    };
    let first = scene.store.prune(events_only.clone()).await.unwrap();
    assert!(first.more && first.events > 0 && first.events <= 500, "{first:?}");
    let mut events = first.events;
    loop {
        let step = scene.store.prune(events_only.clone()).await.unwrap();
        assert_eq!((step.webhooks, step.attempts), (0, 0));
        events += step.events;
        if !step.more {
            break;
        }
    }
    assert_eq!(events, 1098);
    let scene = scene.reopened().await;
    let left: Vec<u64> = [7, 8].into_iter().chain(1101..=1200).collect();
    assert_eq!(scene.seqs(0).await, left);
    let history = scene.store.history();
    assert!(history.event(id(9)).await.unwrap().is_none());
    let deliveries = history.deliveries(everything()).await.unwrap();
    assert_eq!(deliveries.iter().map(|it| it.seq).collect::<Vec<_>>(), [8, 7]);

    // A pruned event is new again; a kept one is not.
    let again = places(scene.store.keep(submission([event(9), event(7)])).await);
    assert_eq!(again, [Place::New(1201), Place::Known(7)]);

    let mut settled = settlement(1201);
    settled.delivered = vec![7, 8];
    scene.store.settle(settled).await.unwrap();
    let report = prune_all(&scene.store).await;
    // The newest event and the newest webhook carry the numbering.
    assert_eq!((report.events, report.webhooks), (102, 24));
    let scene = scene.reopened().await;
    assert_eq!(scene.seqs(0).await, [1201]);
    assert_eq!(
        places(scene.store.keep(submission([event(5000)])).await),
        [Place::New(1202)]
    );
}

#[tokio::test]
async fn an_event_may_be_recognised_longer_than_it_is_kept() {
    let scene = Scene::new().await;
    scene.keep(1..=700).await;
    let events_only = PruneBefore {
        ids: at(0),
        ..all_is_old()
    };
    while scene.store.prune(events_only.clone()).await.unwrap().more {}
    let scene = scene.reopened().await;
    assert_eq!(scene.seqs(0).await, [700]);
    assert_eq!(scene.store.history().counts().await.unwrap().events, 1);
    let again = places(scene.store.keep(submission([event(3), event(701)])).await);
    assert_eq!(again, [Place::Known(3), Place::New(701)]);
    assert!(scene.store.history().knows(id(3)).await.unwrap());

    while scene.store.prune(all_is_old()).await.unwrap().more {}
    assert!(!scene.store.history().knows(id(3)).await.unwrap());
    let again = places(scene.store.keep(submission([event(3)])).await);
    assert_eq!(again, [Place::New(702)]);
}

#[tokio::test]
async fn only_running_subscribers_of_the_configuration_hold_events_back() {
    let scene = Scene::new().await;
    for subscriber in ["stopped", "running", "removed"] {
        scene.store.progress(subscriber).await.unwrap();
    }
    scene.keep(1..=5).await;
    let mut removed = settlement(3);
    removed.subscriber = "removed".to_owned();
    removed.waiting = vec![waiting(1, 1), waiting(2, 0)];
    scene.store.settle(removed).await.unwrap();
    assert_eq!(prune_all(&scene.store).await.events, 0);
    let mut stopped = settlement(0);
    stopped.subscriber = "stopped".to_owned();
    stopped.stopped = Some(Stopped {
        at: at(0),
        reason: "410".to_owned(),
    });
    scene.store.settle(stopped).await.unwrap();
    let mut running = settlement(1);
    running.subscriber = "running".to_owned();
    scene.store.settle(running).await.unwrap();
    assert_eq!(prune_all(&scene.store).await.events, 1);

    // What it waited for is gone, in part; the rest is where it was.
    let progress = scene.store.progress("removed").await.unwrap();
    assert_eq!((progress.cursor, owed(&progress)), (3, vec![waiting(2, 0)]));
    assert_eq!(scene.store.history().counts().await.unwrap().waiting, 1);
}

#[tokio::test]
async fn young_attempts_of_old_events_do_not_hide_old_ones() {
    let scene = Scene::new().await;
    scene.keep(1..=3).await;
    let later = crate::clock::now() + 2.hours();
    let mut replayed = settlement(3);
    // More than a step looks at, all of one event.
    replayed.attempts = (1..=1200)
        .map(|number| Attempt {
            at: later,
            ..attempt(1, number, Some(500))
        })
        .collect();
    replayed.attempts.push(attempt(2, 1, Some(200)));
    scene.store.settle(replayed).await.unwrap();
    let attempts_only = PruneBefore {
        events: at(0),
        webhooks: at(0),
        ..all_is_old()
    };
    let mut removed = 0;
    for _ in 0..10 {
        let step = scene.store.prune(attempts_only.clone()).await.unwrap();
        removed += step.attempts;
        if !step.more {
            break;
        }
    }
    assert_eq!(removed, 1);
}

#[tokio::test]
async fn below_the_floor_nothing_is_kept_and_the_rest_goes_on() {
    let scene = Scene::new().await;
    scene.keep(1..=3).await;
    let path = scene.path.clone();
    scene.store.close().await.unwrap();
    let nearly_full = config::Store {
        disk_floor_bytes: u64::MAX,
        ..config(&path)
    };
    let store = Store::open(&nearly_full).await.unwrap();
    let refused = store.keep(submission([event(4)])).await;
    let Err(Error::Unavailable(why)) = refused else {
        panic!("{refused:?}")
    };
    assert!(why.contains("store.disk_floor"), "{why}");
    assert_eq!(*store.health().borrow(), Health::Refusing);
    store.settle(settlement(3)).await.unwrap();
    assert_eq!(store.progress("crm").await.unwrap().cursor, 3);
    assert!(prune_all(&store).await.events > 0);
    assert_eq!(*store.health().borrow(), Health::Refusing);
}

#[tokio::test]
async fn what_retention_frees_in_the_file_is_room_again() {
    let scene = Scene::new().await;
    for number in 1..=50 {
        scene
            .store
            .keep(submission([large_event(number, 100_000)]))
            .await
            .unwrap();
    }
    let Receipt::Quarantined(in_quarantine) = scene.store.keep(quarantine("odd")).await.unwrap() else {
        panic!("it is in quarantine");
    };
    let path = scene.path.clone();
    scene.store.close().await.unwrap();
    let floored = config::Store {
        disk_floor_bytes: 8 << 20,
        ..config(&path)
    };
    let store = Store::open(&floored).await.unwrap();
    let Engine::Sqlite(sqlite) = &store.engine;
    sqlite.pretend_free(6 << 20);
    let refused = store.keep(submission([event(51)])).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    let again = store.keep_again(in_quarantine, Mapped::Events(vec![event(52)])).await;
    assert!(matches!(again, Err(Error::Unavailable(_))), "{again:?}");

    assert_eq!(prune_all(&store).await.events, 49);
    let mut health = store.health();
    health.wait_for(|health| *health == Health::Writable).await.unwrap();
    assert_eq!(places(store.keep(submission([event(51)])).await), [Place::New(51)]);
}

#[tokio::test]
async fn a_beginning_in_time_misses_nothing_where_the_clock_was_set_back() {
    let scene = Scene::new().await;
    scene.keep(1..=12).await;
    // It was ahead while the third and the fourth came.
    for (seq, second) in (1..=12).zip([10, 11, 500, 501, 12, 13, 14, 15, 16, 17, 18, 19]) {
        let us = at(second).as_microsecond();
        let sql = format!("UPDATE event SET kept_at_us = {us} WHERE seq = {seq}");
        scene.execute(&sql).await;
    }
    let begin = async |name: &str, second| {
        let from = From::Time(at(second));
        scene.store.join(name, from).await.unwrap().cursor
    };
    assert_eq!(begin("all", 0).await, 0);
    assert_eq!(begin("behind", 16).await, 2);
    assert_eq!(begin("ahead", 501).await, 3);
    assert_eq!(begin("none", 600).await, 12);
    // One that has begun goes on where it is.
    assert_eq!(begin("none", 0).await, 12);
    // At the start of what is left.
    scene.execute("DELETE FROM event WHERE seq < 4").await;
    let from_start = scene.store.join("start", From::Start).await.unwrap();
    assert_eq!(from_start.cursor, 3);
}

#[tokio::test]
async fn what_waits_for_a_stopped_subscriber_is_not_held_back() {
    let scene = Scene::new().await;
    for subscriber in ["stopped", "running"] {
        scene.store.progress(subscriber).await.unwrap();
    }
    scene.keep(1..=4).await;
    let mut stopped = settlement(4);
    stopped.subscriber = "stopped".to_owned();
    stopped.waiting = vec![waiting(1, 1), waiting(2, 1)];
    stopped.stopped = Some(Stopped {
        at: at(0),
        reason: "410".to_owned(),
    });
    scene.store.settle(stopped).await.unwrap();
    let mut running = settlement(4);
    running.subscriber = "running".to_owned();
    running.waiting = vec![waiting(2, 1)];
    scene.store.settle(running).await.unwrap();
    assert_eq!(prune_all(&scene.store).await.events, 2);
    let scene = scene.reopened().await;
    assert_eq!(scene.seqs(0).await, [2, 4]);
    assert_eq!(owed(&scene.store.progress("stopped").await.unwrap()), [waiting(2, 1)]);
}
