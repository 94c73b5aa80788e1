use std::time::Duration;

use super::{
    super::{
        breaker::OPEN_AFTER,
        deliver::{Failure, Outcome, Reason},
        tests::{self, subscriber},
    },
    *,
};
use crate::config::{Order, Pattern, Rate};

const START: i64 = 1_700_000_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(START + seconds).unwrap()
}

fn millis(millis: i64) -> Timestamp {
    Timestamp::from_millisecond(START * 1000 + millis).unwrap()
}

fn config(schedule: &[u64]) -> Subscriber {
    let mut subscriber = subscriber("crm", "http://127.0.0.1:1/");
    subscriber.schedule = schedule.iter().copied().map(Duration::from_secs).collect();
    subscriber
}

const KEEP: Duration = Duration::from_secs(30 * 24 * 60 * 60);

fn fresh(subscriber: &Subscriber) -> Core {
    resumed(subscriber, Progress::default())
}

fn resumed(subscriber: &Subscriber, progress: Progress) -> Core {
    let now = Core::begins_at(&progress, at(0));
    Core::new(subscriber, KEEP, progress, now, now.duration_since(at(0)))
}

fn waits(seq: u64, subject: &str, attempts: u32, due_at: Timestamp) -> Waiting {
    Waiting {
        seq,
        subject: subject.to_owned(),
        kept_at: at(0),
        attempts,
        begun_after: 0,
        due_at,
    }
}

/// Kept just before the story begins.
fn event(seq: u64, subject: &str) -> Kept {
    Kept {
        kept_at: at(-1),
        ..tests::event(seq, subject)
    }
}

fn events(subjects: &[&str]) -> Vec<Arc<Kept>> {
    (1..)
        .zip(subjects)
        .map(|(seq, subject)| Arc::new(event(seq, subject)))
        .collect()
}

fn attempted(outcome: Outcome) -> Attempted {
    Attempted {
        outcome,
        duration: Duration::ZERO,
        request_headers: String::new(),
        response: String::new(),
    }
}

fn delivered() -> Attempted {
    attempted(Outcome::Delivered { status: 200 })
}

fn failed(status: u16, retry_after: Option<u64>) -> Attempted {
    let retry_after = retry_after.map(Duration::from_secs);
    attempted(Outcome::Failed(Failure {
        reason: Reason::Status,
        status: Some(status),
        retry_after,
    }))
}

fn due(core: &mut Core, now: Timestamp) -> Vec<Due> {
    std::iter::from_fn(|| core.next(now)).collect()
}

fn seqs(due: &[Due]) -> Vec<u64> {
    due.iter().map(|due| due.seq).collect()
}

fn end(core: &mut Core, due: Due, attempted: Attempted, now: Timestamp) -> NextStep {
    core.ended(due, now, attempted, now, 0.5)
}

/// Ticket, place, subject and attempts on record.
fn replays(of: &[(u64, u64, &str, u32)]) -> Wishes {
    let replay = |(ticket, seq, subject, attempts): &(u64, u64, &str, u32)| Replay {
        ticket: *ticket,
        seq: *seq,
        subject: (*subject).to_owned(),
        kept_at: at(0),
        attempts: *attempts,
    };
    Wishes {
        stopped: None,
        replays: of.iter().map(replay).collect(),
    }
}

/// Takes the settlement and has it kept.
fn settle(core: &mut Core, now: Timestamp) -> Settlement {
    let settlement = core.take_settlement(now).expect("there is something to record");
    core.settled();
    Arc::unwrap_or_clone(settlement)
}

#[test]
fn one_subject_goes_one_at_a_time_and_in_order() {
    let mut core = fresh(&config(&[0, 5]));
    core.feed(events(&["a", "b", "a", "b", "c"]), at(0));
    let first = due(&mut core, at(0));
    assert_eq!(seqs(&first), [1, 2, 5]);
    for due in first {
        end(&mut core, due, delivered(), at(0));
    }
    assert_eq!(core.cursor(), 2);
    let second = due(&mut core, at(0));
    assert_eq!(seqs(&second), [3, 4]);
    for due in second {
        end(&mut core, due, delivered(), at(0));
    }
    let settlement = settle(&mut core, at(1));
    assert_eq!((settlement.cursor, settlement.attempts.len()), (5, 5));
    assert_eq!(
        (
            settlement.waiting.len(),
            settlement.delivered.len(),
            settlement.dead.len()
        ),
        (0, 0, 0)
    );
    assert!(core.is_at_rest());
}

#[test]
fn a_failure_holds_back_its_subject_only() {
    let mut core = fresh(&config(&[0, 5]));
    core.feed(events(&["a", "a", "b"]), at(0));
    let mut first = due(&mut core, at(0));
    assert_eq!(seqs(&first), [1, 3]);
    end(&mut core, first.pop().unwrap(), delivered(), at(0));
    assert_eq!(
        end(&mut core, first.pop().unwrap(), failed(500, None), at(0)),
        NextStep::Again(at(5))
    );

    // The cursor passes what waits.
    let settlement = settle(&mut core, at(1));
    assert_eq!(settlement.cursor, 3);
    let waiting: Vec<_> = settlement
        .waiting
        .iter()
        .map(|it| (it.seq, it.subject.as_str(), it.attempts))
        .collect();
    assert_eq!(waiting, [(1, "a", 1), (2, "a", 0)]);
    assert_eq!(settlement.waiting[0].due_at, at(5));

    // What comes later for the subject waits behind it.
    core.feed(vec![Arc::new(event(4, "a")), Arc::new(event(5, "c"))], at(2));
    assert_eq!(seqs(&due(&mut core, at(4))), [5]);
    assert_eq!((core.waiting(), core.cursor()), (3, 4));

    // All attempts spent: dead, and the next of the subject has its turn.
    let again = core.next(at(5)).unwrap();
    assert_eq!((again.seq, again.number), (1, 2));
    assert!(again.event.is_none());
    assert_eq!(end(&mut core, again, failed(500, None), at(5)), NextStep::Dead);
    let settlement = settle(&mut core, at(5));
    assert_eq!((settlement.dead, settlement.delivered), (vec![1], vec![]));
    for seq in [2, 4] {
        let due = core.next(at(5)).unwrap();
        assert_eq!((due.seq, due.number), (seq, 1));
        end(&mut core, due, delivered(), at(5));
    }
    let settlement = settle(&mut core, at(6));
    assert_eq!((settlement.dead, settlement.delivered), (vec![], vec![2, 4]));
    assert_eq!(core.waiting(), 0);
}

#[test]
fn without_order_every_delivery_stands_alone() {
    let mut subscriber = config(&[0, 5]);
    subscriber.order = Order::None;
    let mut core = fresh(&subscriber);
    core.feed(events(&["a", "a", "a"]), at(0));
    let mut first = due(&mut core, at(0));
    assert_eq!(seqs(&first), [1, 2, 3]);
    end(&mut core, first.remove(0), failed(500, None), at(0));
    end(&mut core, first.remove(0), delivered(), at(0));
    let settlement = settle(&mut core, at(1));
    assert_eq!((settlement.cursor, settlement.waiting.len()), (2, 1));
    assert_eq!(
        (settlement.waiting[0].seq, settlement.waiting[0].subject.as_str()),
        (1, "a")
    );
    // What comes later for the subject goes at once.
    core.feed(vec![Arc::new(event(4, "a"))], at(2));
    assert_eq!(seqs(&due(&mut core, at(2))), [4]);
    assert_eq!(seqs(&due(&mut core, at(5))), [1]);
}

#[test]
fn one_that_waits_delays_no_other_call() {
    let mut core = fresh(&config(&[0, 3600]));
    core.feed(events(&["a", "a", "b", "c", "b", "c"]), at(0));
    let mut delivered_seqs = Vec::new();
    for second in 0..3 {
        for due in due(&mut core, at(second)) {
            match due.seq {
                1 => drop(end(&mut core, due, failed(500, None), at(second))),
                seq => {
                    delivered_seqs.push(seq);
                    end(&mut core, due, delivered(), at(second));
                }
            }
        }
    }
    assert_eq!(delivered_seqs, [3, 4, 5, 6]);
    // Dead on record, it holds back nothing any more.
    let last = core.next(at(3600)).unwrap();
    assert_eq!(last.seq, 1);
    assert_eq!(end(&mut core, last, failed(500, None), at(3600)), NextStep::Dead);
    settle(&mut core, at(3600));
    assert_eq!(seqs(&due(&mut core, at(3600))), [2]);
}

#[test]
fn the_rate_counts_every_attempt_and_says_when_the_next_may_come() {
    let mut subscriber = config(&[0, 1]);
    subscriber.rate = Some(Rate {
        count: 2,
        per: Duration::from_secs(1),
    });
    let mut core = fresh(&subscriber);
    core.feed(events(&["a", "b", "c"]), at(0));
    // What was sent before the start is not known.
    assert_eq!(
        (core.next(at(0)).map(|due| due.seq), core.attempt_due()),
        (None, Some(at(1)))
    );
    let mut first = due(&mut core, at(1));
    assert_eq!((seqs(&first), core.attempt_due()), (vec![1, 2], Some(at(2))));
    end(&mut core, first.remove(0), failed(500, None), at(1));
    // The new one and the one made again, and no more after that.
    assert_eq!(seqs(&due(&mut core, millis(2500))), [3, 1]);
    assert_eq!(core.attempt_due(), None);
    core.feed(vec![Arc::new(event(4, "d"))], millis(2600));
    assert_eq!(
        (core.next(millis(2600)).map(|due| due.seq), core.attempt_due()),
        (None, Some(millis(3500)))
    );
    assert_eq!(seqs(&due(&mut core, millis(3500))), [4]);
}

#[test]
fn a_dead_one_lets_the_next_go_on_once_that_is_durable() {
    let mut core = fresh(&config(&[0]));
    core.feed(events(&["a", "a", "b", "b"]), at(0));
    let mut first = due(&mut core, at(0));
    assert_eq!(seqs(&first), [1, 3]);
    end(&mut core, first.pop().unwrap(), delivered(), at(0));
    let dead = first.pop().unwrap();
    assert_eq!(end(&mut core, dead, failed(500, None), at(0)), NextStep::Dead);

    // Neither what was read before nor what is read now goes on, and nobody else waits.
    core.feed(vec![Arc::new(event(5, "a"))], at(0));
    assert_eq!(seqs(&due(&mut core, at(9))), [4]);
    core.take_settlement(at(9)).unwrap();
    assert!(core.next(at(9)).is_none());
    core.not_settled(at(9));
    assert!(core.next(at(9)).is_none());
    core.take_settlement(at(10)).unwrap();
    core.settled();
    assert_eq!(core.next(at(10)).unwrap().seq, 2);
}

#[test]
fn what_waits_is_bounded_and_reading_stops() {
    let mut subscriber = config(&[0, 5]);
    subscriber.waiting_max = 3;
    let mut core = fresh(&subscriber);
    assert_eq!(core.room(), 3);
    core.feed(events(&["a", "b", "c"]), at(0));
    assert_eq!(core.room(), 0);
    for due in due(&mut core, at(0)) {
        end(&mut core, due, failed(500, None), at(0));
    }
    assert_eq!((core.room(), core.waiting()), (0, 3));
    let again = core.next(at(5)).unwrap();
    end(&mut core, again, delivered(), at(5));
    assert_eq!(core.room(), 1);
}

#[test]
fn a_flood_of_one_subject_gives_way_to_others() {
    let mut core = fresh(&config(&[0, 5]));
    core.feed(events(&["a"; WINDOW_MIN]), at(0));
    assert_eq!(core.room(), 0);
    assert_eq!(seqs(&due(&mut core, at(0))), [1]);
    // Also the one in flight: after a crash it must not be read again behind those it is before.
    assert_eq!(core.waiting(), WINDOW_MIN);
    assert!(core.room() > 0);
    core.feed(vec![Arc::new(event(WINDOW_MIN as u64 + 1, "b"))], at(0));
    assert_eq!(seqs(&due(&mut core, at(0))), [WINDOW_MIN as u64 + 1]);
}

#[test]
fn large_events_fill_the_window_by_their_bytes() {
    let mut core = fresh(&config(&[0, 5]));
    let mut events = events(&["a", "b", "c"]);
    for event in &mut events {
        Arc::make_mut(event).json = vec![b' '; WINDOW_BYTES / 3 + 1].into();
    }
    core.feed(events, at(0));
    assert_eq!(core.room(), 0);
    let first = core.next(at(0)).unwrap();
    end(&mut core, first, delivered(), at(0));
    assert!(core.room() > 0);
}

#[test]
fn events_nobody_wants_move_the_cursor_in_large_steps() {
    let mut subscriber = config(&[0]);
    subscriber.filter.types = vec![Pattern::Exact("email.received".into())];
    let mut core = fresh(&subscriber);
    core.feed(events(&["a"; 2]), millis(0));
    assert_eq!(core.next(millis(0)).map(|due| due.seq), None);
    assert_eq!(core.settlement_due(), Some(millis(100)));
    core.feed(vec![Arc::new(event(3, "a"))], millis(50));
    assert_eq!(core.settlement_due(), Some(millis(100)));
    assert_eq!(settle(&mut core, millis(100)).cursor, 3);
    assert_eq!(core.settlement_due(), None);

    core.feed(
        (4..4 + CURSOR_AT).map(|seq| Arc::new(event(seq, "a"))).collect(),
        millis(200),
    );
    assert_eq!(core.settlement_due(), Some(Timestamp::MIN));
}

#[test]
fn a_settlement_that_failed_comes_again_before_the_next() {
    let mut core = fresh(&config(&[0]));
    core.feed(events(&["a", "b"]), at(0));
    let first = core.next(at(0)).unwrap();
    end(&mut core, first, delivered(), at(0));
    assert_eq!(core.take_settlement(at(0)).unwrap().cursor, 1);
    let second = core.next(at(0)).unwrap();
    end(&mut core, second, delivered(), at(0));
    // One at a time.
    assert_eq!(core.settlement_due(), None);
    assert!(core.take_settlement(at(0)).is_none());
    core.not_settled(at(0));
    assert_eq!(core.settlement_due(), Some(at(1)));
    assert_eq!(settle(&mut core, at(1)).cursor, 1);
    assert_eq!(settle(&mut core, at(1)).cursor, 2);
    assert!(core.is_at_rest());
}

#[test]
fn when_the_disk_is_far_behind_no_attempt_is_made() {
    let mut subscriber = config(&[0]);
    subscriber.waiting_max = 2 * RECORD_MAX;
    let mut core = fresh(&subscriber);
    let mut made = 0;
    for seq in 1..=2 * RECORD_MAX as u64 {
        core.feed(vec![Arc::new(event(seq, &seq.to_string()))], at(0));
        if let Some(due) = core.next(at(0)) {
            made += 1;
            end(&mut core, due, delivered(), at(0));
        }
    }
    assert_eq!(made, RECORD_MAX);
    settle(&mut core, at(0));
    assert!(core.next(at(0)).is_some());
}

#[test]
fn a_slow_delivery_does_not_make_a_crash_repeat_thousands() {
    let mut core = fresh(&config(&[0]));
    core.feed(events(&["a"]), at(0));
    let slow = core.next(at(0)).unwrap();
    for seq in 2..CURSOR_LAG_MAX + 10 {
        core.feed(vec![Arc::new(event(seq, "b"))], at(0));
        let due = core.next(at(0)).unwrap();
        end(&mut core, due, delivered(), at(0));
    }
    assert_eq!(core.cursor(), 0);
    let settlement = settle(&mut core, at(0));
    assert_eq!((settlement.cursor, settlement.waiting[0].seq), (CURSOR_LAG_MAX + 9, 1));
    end(&mut core, slow, delivered(), at(1));
    assert_eq!(settle(&mut core, at(1)).delivered, [1]);
}

#[test]
fn a_gone_subscriber_stops_and_goes_on_where_it_was() {
    let mut core = fresh(&config(&[0, 5]));
    core.feed(events(&["a", "b", "c"]), at(0));
    let (gone, other) = (core.next(at(0)).unwrap(), core.next(at(0)).unwrap());
    assert_eq!(end(&mut core, gone, attempted(Outcome::Gone), at(0)), NextStep::Stop);
    assert!(core.is_stopped() && core.next(at(0)).is_none());
    assert_eq!(core.room(), 0);
    // What was in flight still counts.
    end(&mut core, other, delivered(), at(0));
    let settlement = settle(&mut core, at(0));
    assert!(settlement.stopped.is_some());
    assert_eq!((settlement.cursor, settlement.waiting.len()), (2, 1));

    core.grant(Wishes::default(), at(1));
    assert_eq!(seqs(&due(&mut core, at(1))), [3, 1]);
}

#[test]
fn a_replayed_delivery_is_taken_up_in_its_place() {
    let mut core = resumed(
        &config(&[0, 5]),
        Progress {
            cursor: 9,
            ..Progress::default()
        },
    );
    core.feed(vec![Arc::new(event(10, "a")), Arc::new(event(11, "a"))], at(0));
    let running = core.next(at(0)).unwrap();
    assert_eq!(running.seq, 10);
    core.grant(replays(&[(1, 3, "a", 0)]), at(0));
    assert!(core.next(at(0)).is_none());
    end(&mut core, running, delivered(), at(0));
    for seq in [3, 11] {
        let due = core.next(at(0)).unwrap();
        assert_eq!(due.seq, seq);
        end(&mut core, due, delivered(), at(0));
    }
    assert_eq!(settle(&mut core, at(0)).delivered, [3]);
}

#[test]
fn a_subscriber_that_is_down_is_tried_one_at_a_time() {
    let mut core = fresh(&config(&[0, 5, 5]));
    let subjects: Vec<String> = (0..100).map(|i| i.to_string()).collect();
    core.feed(events(&subjects.iter().map(String::as_str).collect::<Vec<_>>()), at(0));
    let mut failures = 0;
    while !core.is_down() {
        let due = core.next(at(0)).unwrap();
        end(&mut core, due, failed(503, None), at(0));
        failures += 1;
    }
    assert_eq!(failures, OPEN_AFTER);
    let mut now = 0;
    for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
        assert_eq!(core.attempt_due(), Some(at(now + pause)));
        assert!(core.next(at(now + pause - 1)).is_none());
        now += pause;
        let mut probe = due(&mut core, at(now));
        assert_eq!(probe.len(), 1);
        end(&mut core, probe.remove(0), failed(503, None), at(now));
    }
    now += 60;
    let probe = core.next(at(now)).unwrap();
    end(&mut core, probe, delivered(), at(now));
    // It is back, and shows what it can take.
    for round in [2, 4, 8, 8] {
        let round_of = due(&mut core, at(now));
        assert_eq!(round_of.len(), round);
        for due in round_of {
            end(&mut core, due, delivered(), at(now));
        }
    }
}

#[test]
fn a_subscriber_that_is_down_is_so_after_a_restart() {
    let config = config(&[0, 5, 5]);
    let subjects: Vec<String> = (0..100).map(|i| i.to_string()).collect();
    let kept = events(&subjects.iter().map(String::as_str).collect::<Vec<_>>());
    let mut core = fresh(&config);
    core.feed(kept.clone(), at(0));
    while !core.is_down() {
        let due = core.next(at(0)).unwrap();
        end(&mut core, due, failed(503, None), at(0));
    }
    let Settlement {
        cursor,
        waiting,
        breaker,
        ..
    } = settle(&mut core, at(0));
    let breaker = breaker.expect("it has changed");

    let mut core = resumed(
        &config,
        Progress {
            cursor,
            waiting,
            breaker,
            ..Progress::default()
        },
    );
    core.feed(kept[cursor as usize..].to_vec(), at(0));
    assert!(core.is_down());
    assert_eq!(
        (core.next(at(0)).map(|due| due.seq), core.attempt_due()),
        (None, Some(at(1)))
    );
    let probe = due(&mut core, at(1));
    assert_eq!(probe.len(), 1);
    // What did not change is not written again.
    core.postponed(probe[0].clone(), at(1));
    core.feed(vec![Arc::new(event(101, "other"))], at(1));
    assert_eq!(core.take_settlement(at(1)).and_then(|it| it.breaker), None);
}

#[test]
fn a_retry_after_of_an_overloaded_subscriber_holds_for_all_subjects() {
    let mut two_at_once = config(&[0, 5, 5]);
    two_at_once.in_flight_max = 2;
    let mut core = fresh(&two_at_once);
    core.feed(events(&["a", "b", "c"]), at(0));
    let mut first = due(&mut core, at(0));
    end(&mut core, first.remove(0), failed(429, Some(30)), at(0));
    // It began before the subscriber asked for a pause.
    end(&mut core, first.remove(0), delivered(), at(0));
    let until = core.attempt_due().unwrap();
    assert!((at(30)..at(34)).contains(&until), "{until}");
    assert!(core.next(at(29)).is_none());
    assert_eq!(seqs(&due(&mut core, at(34))), [3, 1]);

    // Any other answer speaks of its own delivery only.
    let mut core = fresh(&config(&[0, 5, 5]));
    core.feed(events(&["a", "b"]), at(0));
    let first = core.next(at(0)).unwrap();
    end(&mut core, first, failed(500, Some(30)), at(0));
    assert_eq!(core.next(at(0)).unwrap().seq, 2);
}

#[test]
fn what_is_due_stays_as_far_off_whatever_the_wall_clock_shows() {
    let hour = 3600;
    for set_by in [hour, -hour, 1000 * hour, -1000 * hour] {
        let mut core = fresh(&config(&[0, 300]));
        core.feed(events(&["a"]), at(0));
        let first = core.next(at(0)).unwrap();
        end(&mut core, first, failed(500, None), at(0));
        core.look_at_clock(SignedDuration::from_secs(-set_by));
        assert_eq!(core.attempt_due(), Some(at(300)));
        // What is kept now is as old as the wall clock says, and so is what waits.
        let mut next = event(2, "b");
        next.kept_at = at(10 + set_by);
        core.feed(vec![Arc::new(next)], at(10));
        assert_eq!(seqs(&due(&mut core, at(10))), [2]);
        core.expire(at(20));
        assert_eq!(core.take_expired(), 0);

        // The next process goes on by the same clock, ten seconds later.
        let settlement = settle(&mut core, at(20));
        let progress = Progress {
            cursor: settlement.cursor,
            waiting: vec![waits(1, "a", 1, at(300))],
            steady: Some(settlement.steady),
            ..Progress::default()
        };
        let now = Core::begins_at(&progress, at(30 + set_by));
        assert_eq!(now, at(30));
        let mut next = Core::new(
            &config(&[0, 300]),
            KEEP,
            progress,
            now,
            now.duration_since(at(30 + set_by)),
        );
        assert_eq!(next.attempt_due(), Some(at(300)));
        assert!(next.next(at(299)).is_none());
        assert!(next.next(at(300)).is_some());
    }
}

#[test]
fn a_clock_that_was_set_back_between_two_processes_holds_nothing_up() {
    let progress = Progress {
        cursor: 1,
        waiting: vec![waits(1, "a", 1, at(7200 + 300))],
        steady: Some(Steady {
            at: at(7200),
            ahead: SignedDuration::ZERO,
        }),
        ..Progress::default()
    };
    let mut config = config(&[0, 300]);
    config.rate = Some(Rate {
        count: 1,
        per: Duration::from_secs(1),
    });
    let mut core = resumed(&config, progress);
    assert_eq!(core.attempt_due(), Some(at(7200 + 300)), "five minutes, not two hours");
    // Nor does it allow for more than the rate.
    core.feed(vec![Arc::new(event(2, "b"))], at(7200));
    assert_eq!(core.attempt_due(), Some(at(7201)));
}

#[test]
fn a_day_and_a_million_events_later_it_comes_back_gently_and_soon() {
    const COUNT: u64 = 1_000_000;
    const ANSWER: Duration = Duration::from_millis(10);
    let mut config = config(&[0, 5, 300, 3600, 36_000]);
    config.in_flight_max = 32;
    config.waiting_max = Subscriber::WAITING_MAX;
    let mut core = fresh(&config);
    let model = event(0, "");
    // They came throughout the day.
    let kept_at = |seq: u64| at((seq * 86_400 / COUNT) as i64);
    let read = |core: &mut Core, now: Timestamp| {
        let head = (now.duration_since(at(0)).as_secs() as u64 * COUNT / 86_400).min(COUNT);
        let after = core.read_to();
        let last = head.min(after + core.room() as u64);
        let kept = |seq: u64| Kept {
            seq,
            subject: (seq / 4).to_string(),
            kept_at: kept_at(seq),
            ..model.clone()
        };
        core.feed((after + 1..=last).map(|seq| Arc::new(kept(seq))).collect(), now);
        assert!(core.lines.window() <= core.bounds.window);
    };

    // An attempt a minute, each of another call: what it costs is remembered, and the backlog is not.
    let (mut now, day) = (at(1), at(86_400));
    let mut attempts = 0;
    while now < day {
        read(&mut core, now);
        for due in due(&mut core, now) {
            attempts += 1;
            end(&mut core, due, failed(503, None), now);
        }
        settle(&mut core, now);
        assert!(core.lines.len() <= 4 * attempts + core.bounds.window);
        now = core.attempt_due().unwrap();
    }
    assert!((1440..1470).contains(&attempts), "{attempts}");

    let (read_before, owed) = (core.read_to(), core.lines.len() as u64);
    let (mut rounds, mut longest_due, mut arrived) = (Vec::new(), at(0), 0);
    while core.read_to() < COUNT || core.lines.len() > 0 {
        read(&mut core, now);
        let round = due(&mut core, now);
        rounds.push(round.len());
        for due in round {
            let due_at = core.lines.get(due.seq).unwrap().due_at;
            // Those that are due for longest go first; those behind one that waited could not.
            assert!(due.seq <= read_before || due_at >= longest_due - Duration::from_secs(10));
            longest_due = longest_due.max(due_at);
            arrived += 1;
            end(&mut core, due, delivered(), now);
        }
        if let Some(settlement) = core.take_settlement(now) {
            assert!(settlement.waiting.len() <= 2 * core.bounds.window);
            core.settled();
        }
        now += ANSWER;
    }
    assert_eq!(arrived, COUNT - read_before + owed);
    assert_eq!(rounds[..7], [1, 2, 4, 8, 16, 32, 32]);
    // An unhurried round is one that waits for others of its calls, or for reading.
    let full = rounds.iter().filter(|round| **round == 32).count();
    assert!(full * 100 >= rounds.len() * 95, "{full} of {}", rounds.len());
}

#[test]
fn what_was_given_up_ahead_of_the_cursor_is_not_begun_anew() {
    let mut core = resumed(
        &config(&[0, 5]),
        Progress {
            dead_ahead: vec![2],
            ..Progress::default()
        },
    );
    core.feed(events(&["a", "b", "c"]), at(0));
    assert_eq!(seqs(&due(&mut core, at(0))), [1, 3]);
}

#[test]
fn order_holds_when_the_one_in_flight_is_cut_off() {
    let config = config(&[0, 5]);
    let mut core = fresh(&config);
    core.bounds.window = 4;
    let kept = events(&["b", "a", "c", "a"]);
    core.feed(kept.clone(), at(0));
    let first = due(&mut core, at(0));
    assert_eq!(seqs(&first), [1, 2, 3]);
    let settlement = settle(&mut core, at(1));
    drop(first);
    let mut core = resumed(
        &config,
        Progress {
            cursor: settlement.cursor,
            waiting: settlement.waiting,
            ..Progress::default()
        },
    );
    assert!(core.next(at(1)).is_none(), "not before those before it are known");
    core.feed(kept, at(1));
    assert_eq!(seqs(&due(&mut core, at(1))), [1, 2, 3]);
}

#[test]
fn what_could_not_be_attempted_is_not_counted() {
    let mut core = fresh(&config(&[0, 5]));
    core.feed(events(&["a", "a"]), at(0));
    let unread = core.next(at(0)).unwrap();
    core.postponed(unread, at(1));
    assert!(core.next(at(0)).is_none());
    let lost = core.next(at(1)).unwrap();
    assert_eq!((lost.seq, lost.number), (1, 1));
    core.lost(lost, at(1));
    let settlement = settle(&mut core, at(2));
    assert_eq!(
        (settlement.cursor, settlement.dead, settlement.attempts.len()),
        (1, vec![1], 0)
    );
    assert_eq!(core.next(at(2)).unwrap().seq, 2);
}

#[test]
fn a_fault_of_ours_says_nothing_of_the_subscriber() {
    let mut core = fresh(&config(&[0, 5, 5]));
    let subjects: Vec<String> = (0..100).map(|i| i.to_string()).collect();
    core.feed(events(&subjects.iter().map(String::as_str).collect::<Vec<_>>()), at(0));
    for _ in 0..OPEN_AFTER {
        let due = core.next(at(0)).unwrap();
        end(&mut core, due, failed(503, None), at(0));
    }
    assert!(core.is_down());
    let probe = core.next(at(1)).unwrap();
    end(&mut core, probe, attempted(Outcome::failed(Reason::Internal)), at(1));
    assert!(core.is_down(), "a subscriber that was not asked is not back");
    let breaker = settle(&mut core, at(1)).breaker.unwrap();
    assert_eq!(breaker.failures_in_a_row, OPEN_AFTER, "nor has it failed once more");
}

/// Fails with a pause of 300 seconds to follow, at second 5.
fn failed_twice() -> Core {
    let mut core = fresh(&config(&[0, 5, 300, 300]));
    core.feed(events(&["a"]), at(0));
    for second in [0, 5] {
        let due = core.next(at(second)).unwrap();
        end(&mut core, due, failed(500, None), at(second));
    }
    assert_eq!(core.attempt_due(), Some(at(305)));
    core
}

#[test]
fn a_replay_of_what_was_delivered_gets_the_whole_schedule() {
    let mut core = fresh(&config(&[0, 5, 5, 5]));
    core.feed(events(&["a"]), at(0));
    for (second, is_last) in [(0, false), (10, false), (20, true)] {
        let due = core.next(at(second)).unwrap();
        let outcome = if is_last { delivered() } else { failed(500, None) };
        end(&mut core, due, outcome, at(second));
    }
    settle(&mut core, at(21));
    core.grant(replays(&[(1, 1, "a", 3)]), at(22));
    let due = core.next(at(22)).unwrap();
    assert_eq!(due.number, 4);
    end(&mut core, due, failed(500, None), at(22));
    assert_eq!(
        settle(&mut core, at(23)).dead,
        [0u64; 0],
        "one attempt of four is not all"
    );
    assert!(core.next(at(40)).is_some());
}

#[test]
fn a_replay_after_a_crash_is_numbered_on_and_has_the_whole_schedule() {
    // Wanted once more before the settlement that said of the third attempt that it delivered.
    let progress = Progress {
        cursor: 1,
        waiting: vec![waits(1, "a", 2, at(0))],
        replays: replays(&[(1, 1, "a", 3)]).replays,
        ..Progress::default()
    };
    // The next process knew, and had one attempt before it ended.
    let known = Progress {
        cursor: 1,
        waiting: vec![Waiting {
            begun_after: 3,
            ..waits(1, "a", 3, at(0))
        }],
        ..Progress::default()
    };
    for progress in [progress, known] {
        let mut core = resumed(&config(&[0, 5, 5, 5]), progress);
        for number in 4..=7 {
            let now = at(10 * i64::from(number));
            let due = core.next(now).expect("it is due");
            assert_eq!(due.number, number);
            end(&mut core, due, failed(500, None), now);
        }
        assert_eq!(settle(&mut core, at(80)).dead, [1]);
    }
}

#[test]
fn a_replay_of_what_waits_begins_its_schedule_anew() {
    let mut core = failed_twice();
    settle(&mut core, at(6));
    core.grant(replays(&[(1, 1, "a", 2)]), at(11));
    let due = core.next(at(11)).expect("it is due now");
    assert_eq!((due.seq, due.number), (1, 3));
    assert!(core.next(at(400)).is_none(), "and only once");
    end(&mut core, due, failed(500, None), at(11));
    let first_pause = Some(at(16));
    assert_eq!(core.attempt_due(), first_pause);
    // Looked up once more before the record said that it is known.
    core.grant(replays(&[(1, 1, "a", 2)]), at(11));
    assert_eq!(core.attempt_due(), first_pause);
    let settlement = settle(&mut core, at(12));
    let waiting = Waiting {
        kept_at: at(-1),
        begun_after: 2,
        ..waits(1, "a", 3, at(16))
    };
    assert_eq!((settlement.waiting, settlement.replays_known), (vec![waiting], Some(1)));
    assert!(core.is_at_rest());
}

#[test]
fn a_replay_of_what_is_about_to_be_recorded_is_not_lost() {
    let ends: [fn() -> Attempted; 2] = [|| failed(500, None), delivered];
    for outcome in ends {
        // With the store already, or not yet.
        for is_with_store in [false, true] {
            let mut core = fresh(&config(&[0]));
            core.feed(events(&["a", "a"]), at(0));
            let due = core.next(at(0)).unwrap();
            end(&mut core, due, outcome(), at(0));
            let outstanding = is_with_store.then(|| core.take_settlement(at(1)).unwrap());
            core.grant(replays(&[(7, 1, "a", 0)]), at(1));
            if outstanding.is_some() {
                core.settled();
            }
            let again = core.next(at(1)).expect("it is due");
            assert_eq!(
                (again.seq, again.number),
                (1, 2),
                "numbered on, and before the next of its line"
            );
            end(&mut core, again, delivered(), at(1));
            let settlement = settle(&mut core, at(2));
            assert_eq!((settlement.delivered, settlement.dead), (vec![1], vec![]));
            assert_eq!(settlement.replays_known, Some(7));
            assert_eq!(core.next(at(2)).map(|due| due.seq), Some(2));
        }
    }
}

#[test]
fn a_replay_ahead_of_what_was_read_is_on_record_at_once() {
    let mut core = fresh(&config(&[0, 5]));
    core.grant(replays(&[(1, 2, "b", 3)]), at(1));
    let settlement = settle(&mut core, at(2));
    let waiting = Waiting {
        begun_after: 3,
        ..waits(2, "b", 3, at(1))
    };
    assert_eq!(settlement.waiting, [waiting]);
    assert_eq!((settlement.cursor, settlement.replays_known), (0, Some(1)));
    core.feed(events(&["a", "b"]), at(3));
    assert_eq!(
        due(&mut core, at(3))
            .iter()
            .map(|it| (it.seq, it.number))
            .collect::<Vec<_>>(),
        [(1, 1), (2, 4)]
    );
}

#[test]
fn a_replay_of_what_is_not_in_the_retry_set_leaves_nothing_behind() {
    // In flight, and open behind one that is in flight.
    for seq in [1, 2] {
        let mut core = fresh(&config(&[0, 5]));
        core.feed(events(&["a", "a", "b"]), at(0));
        let first = core.next(at(0)).unwrap();
        core.grant(replays(&[(1, seq, "a", 0)]), at(1));
        // After a crash the second must not come before the first, so that waits too.
        assert_eq!((core.waiting(), core.cursor()), (seq as usize, seq));
        end(&mut core, first, delivered(), at(1));
        for due in due(&mut core, at(1)) {
            end(&mut core, due, delivered(), at(1));
        }
        let settlement = settle(&mut core, at(2));
        assert_eq!(settlement.cursor, 3);
        assert_eq!(settlement.delivered, (1..=seq).collect::<Vec<_>>());
        assert!(core.next(at(400)).is_none());
    }
}

#[test]
fn what_is_forgotten_is_fetched_and_what_is_unwanted_is_given_up_on_record() {
    let mut core = fresh(&config(&[0, 5]));
    core.feed(events(&["a", "a", "b"]), at(0));
    let first = core.next(at(0)).unwrap();
    assert!(first.event.is_some());
    core.forget_events();
    assert_eq!(core.remembered(), (3, 0));
    let other = core.next(at(0)).unwrap();
    assert!((other.seq, other.event.is_some()) == (3, false));
    end(&mut core, first, delivered(), at(0));
    end(&mut core, other, failed(500, None), at(0));
    let second = core.next(at(0)).unwrap();
    assert_eq!(second.seq, 2);
    core.unwanted(second, at(0));
    let settlement = settle(&mut core, at(1));
    assert_eq!((settlement.cursor, settlement.dead), (3, vec![2]));
    let last = settlement.attempts.last().unwrap();
    assert_eq!((last.seq, last.number, last.outcome.as_str()), (2, 1, UNWANTED.0));
}

#[test]
fn what_is_too_old_is_given_up_on_record() {
    let mut core = fresh(&config(&[0, 5]));
    core.keep_events = Duration::from_secs(100);
    let mut events = events(&["a", "a", "b", "c"]);
    for (event, kept) in events.iter_mut().zip([0, 10, 0, 50]) {
        Arc::make_mut(event).kept_at = at(kept);
    }
    core.feed(events, at(50));
    let mut first = due(&mut core, at(50));
    assert_eq!(seqs(&first), [1, 3, 4]);
    let (one, in_flight) = (first.remove(0), first.remove(0));
    end(&mut core, one, failed(500, None), at(50));
    assert_eq!((core.expiry_due(), core.oldest()), (Some(at(100)), Some(at(0))));
    core.expire(at(99));
    assert_eq!(core.take_expired(), 0);

    core.expire(at(100));
    assert_eq!(core.take_expired(), 1);
    let settlement = settle(&mut core, at(100));
    assert_eq!((settlement.dead, settlement.waiting[0].seq), (vec![1], 2));
    let last = settlement.attempts.last().unwrap();
    assert_eq!((last.seq, last.number, last.status), (1, 2, None));
    assert_eq!((last.outcome.as_str(), last.at), (EXPIRED.0, at(100)));
    // The one behind it has its turn, and is given up when its time comes.
    assert_eq!(core.attempt_due(), Some(at(10)));
    core.expire(at(110));
    assert_eq!(settle(&mut core, at(110)).dead, [2]);
    assert_eq!(core.attempt_due(), None);

    // What is in flight may still arrive; if it does not, its time is over.
    end(&mut core, in_flight, failed(500, None), at(120));
    core.expire(core.expiry_due().unwrap());
    assert_eq!(core.take_expired(), 2);
    assert_eq!(core.next(at(1000)).map(|due| due.seq), None);
}

#[test]
fn what_is_attempted_while_others_are_given_up_has_its_turn_later() {
    let mut core = fresh(&config(&[0, 3600]));
    core.keep_events = Duration::from_secs(100);
    core.bounds.expire_at_once = 1;
    core.feed(events(&["a", "b"]), at(0));
    // Both are too old, and one of them is under way before it is given up.
    core.expire(at(100));
    let in_flight = core.next(at(100)).unwrap();
    assert_eq!(in_flight.seq, 2);
    core.expire(at(100));
    end(&mut core, in_flight, failed(500, None), at(101));
    core.expire(core.expiry_due().expect("it is too old as well"));
    assert_eq!(core.take_expired(), 2);
}

#[test]
fn what_is_read_too_late_is_given_up_on_record() {
    let mut core = fresh(&config(&[0, 5]));
    core.feed(events(&["a", "a"]), at(0) + KEEP);
    assert!(core.next(at(0) + KEEP).is_none());
    assert_eq!(core.take_expired(), 2);
    let settlement = settle(&mut core, at(0) + KEEP);
    assert_eq!((settlement.cursor, settlement.dead), (2, vec![1, 2]));
    assert!(settlement.attempts.iter().all(|attempt| attempt.outcome == EXPIRED.0));
}

#[test]
fn a_large_backlog_is_given_up_in_small_steps() {
    const COUNT: u64 = 10_000;
    let waiting = (1..=COUNT).map(|seq| waits(seq, "a", 1, at(seq as i64))).collect();
    let mut core = resumed(
        &config(&[0, 5]),
        Progress {
            cursor: COUNT,
            waiting,
            ..Progress::default()
        },
    );
    let now = at(0) + KEEP;
    let (mut given_up, mut steps) = (0, 0);
    while core.expiry_due().is_some_and(|at| at <= now) {
        while core.expiry_due().is_some_and(|at| at <= now) {
            core.expire(now);
            let step = core.take_expired();
            assert!(step <= EXPIRE_AT_ONCE as u64);
            given_up += step;
            steps += 1;
        }
        // The disk is behind, or nothing is left.
        let settlement = settle(&mut core, now);
        assert!(settlement.dead.len() <= RECORD_MAX);
    }
    assert_eq!(given_up, COUNT);
    assert!(steps >= COUNT as usize / EXPIRE_AT_ONCE);
    assert_eq!((core.waiting(), core.oldest(), core.expiry_due()), (0, None, None));
}
