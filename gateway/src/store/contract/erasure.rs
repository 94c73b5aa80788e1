//! What is erased is gone.

use super::*;
use crate::event::ERASED;

#[tokio::test]
async fn what_is_erased_is_nowhere_any_more() {
    let secret = "whisper-it-softly";
    let speaking = |number: u64, subject: &str, party: &str| Event {
        subject: subject.to_owned(),
        facts: Facts {
            numbers: vec![party.to_owned()],
            ..Facts::default()
        },
        open_json: format!("{{\"id\":\"{}\",\"said\":\"{secret}\"", id(number)).into_bytes(),
        ..event(number)
    };
    let scene = Scene::new().await;
    scene.store.progress("crm").await.unwrap();
    // Two events of one call, one of which does not name the person; and another call.
    for (number, subject, party) in [
        (1, "magpipe/a", "+33123456789"),
        (2, "magpipe/a", "anonymous"),
        (3, "magpipe/b", "+331234567890"),
    ] {
        let mut submission = submission([speaking(number, subject, party)]);
        submission.webhook.body = Bytes::from(format!("{secret} {number}"));
        scene.store.keep(submission).await.unwrap();
    }
    let mut in_quarantine = quarantine("odd");
    in_quarantine.webhook.body = Bytes::from(format!("{secret} tel=33123456789&x"));
    scene.store.keep(in_quarantine).await.unwrap();
    let mut settled = settlement(0);
    settled.attempts = vec![attempt(1, 1, Some(500))];
    settled.attempts[0].response = secret.to_owned();
    settled.waiting = vec![waiting(1, 1)];
    scene.store.settle(settled).await.unwrap();

    let whose = Whose::Number("+33123456789".to_owned());
    let expected = Erased { events: 2, webhooks: 1 };
    assert_eq!(scene.store.erase(whose.clone(), true).await.unwrap(), expected);
    assert_eq!(scene.store.history().counts().await.unwrap().quarantined, 1);
    assert_eq!(scene.store.erase(whose.clone(), false).await.unwrap(), expected);
    let left = scene.store.erase(whose, false).await.unwrap();
    assert_eq!(left, Erased::default());

    // The feed has no hole, and nothing of it is delivered.
    let feed = scene.store.read(0, 10).await.unwrap();
    let kinds: Vec<_> = feed.iter().map(|event| (event.seq, event.kind.as_str())).collect();
    assert_eq!(kinds, [(1, ERASED), (2, ERASED), (3, "message.sent")]);
    assert!(scene.store.fetch(&[1, 2]).await.unwrap().is_empty());
    // It comes again and is recognised.
    let again = places(scene.store.keep(submission([event(1)])).await);
    assert_eq!(again, [Place::Known(1)]);
    let history = scene.store.history();
    assert_eq!(history.counts().await.unwrap().quarantined, 0);
    let attempts = history.attempts(id(1), None).await.unwrap();
    assert_eq!((attempts[0].1.response.as_str(), attempts[0].1.status), ("", Some(500)));

    // Twice of the call that stays: its event and its webhook.
    until_on_disk(&scene, secret, 2).await;
}

fn on_disk(scene: &Scene, secret: &str) -> usize {
    let files = ["feed.db", "feed.db-wal"].into_iter();
    files
        .map(|name| {
            let bytes = std::fs::read(scene.path.with_file_name(name)).unwrap_or_default();
            let windows = bytes.windows(secret.len());
            windows.filter(|window| *window == secret.as_bytes()).count()
        })
        .sum()
}

async fn until_on_disk(scene: &Scene, secret: &str, times: usize) {
    for _ in 0..600 {
        if on_disk(scene, secret) == times {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it is there {} times", on_disk(scene, secret));
}

const SECRET: &str = "whisper-it-softly";
const NUMBER: &str = "+33123456789";

/// Has the number for a party.
fn speaking(number: u64) -> Event {
    Event {
        facts: Facts {
            numbers: vec![NUMBER.to_owned()],
            ..Facts::default()
        },
        open_json: format!("{{\"id\":\"{}\",\"said\":\"{SECRET}\"", id(number)).into_bytes(),
        ..event(number)
    }
}

/// How many events and webhooks that was.
async fn erase(scene: &Scene, whose: Whose) -> (usize, usize) {
    let planned = scene.store.erase(whose.clone(), true).await.unwrap();
    let erased = scene.store.erase(whose, false).await.unwrap();
    assert_eq!(planned, erased);
    (erased.events, erased.webhooks)
}

async fn erase_number(scene: &Scene) -> (usize, usize) {
    erase(scene, Whose::Number(NUMBER.to_owned())).await
}

#[tokio::test]
async fn what_readers_keep_in_the_log_is_gone_once_they_are() {
    let scene = Scene::new().await;
    scene.store.keep(submission([speaking(1)])).await.unwrap();
    let reader = rusqlite::Connection::open(&scene.path).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM event").unwrap();
    assert_eq!(erase_number(&scene).await, (1, 0));
    // Answered after the writer has waited for the reader in vain.
    scene.store.progress("crm").await.unwrap();
    assert!(on_disk(&scene, SECRET) > 0);
    // Nobody writes any more when it goes.
    reader.execute_batch("ROLLBACK").unwrap();
    until_on_disk(&scene, SECRET, 0).await;
}

/// The number of a webhook that is in quarantine then.
async fn quarantined(scene: &Scene, body: &str) -> u64 {
    match scene.store.keep(quarantine(body)).await.unwrap() {
        Receipt::Quarantined(number) => number,
        Receipt::Events(places) => panic!("{places:?}"),
    }
}

#[tokio::test]
async fn an_answer_that_comes_after_the_erasure_is_not_kept() {
    let scene = Scene::new().await;
    scene.store.keep(submission([speaking(1)])).await.unwrap();
    assert_eq!(erase_number(&scene).await, (1, 0));
    let mut late = settlement(1);
    late.attempts = vec![attempt(1, 1, Some(200))];
    scene.store.settle(late).await.unwrap();
    let attempts = scene.store.history().attempts(id(1), None).await.unwrap();
    let attempt = &attempts[0].1;
    assert_eq!((attempt.response.as_str(), attempt.request_headers.as_str()), ("", ""));
    assert_eq!((attempt.status, attempt.outcome.as_str()), (Some(200), "delivered"));
}

#[tokio::test]
async fn a_webhook_that_was_emptied_becomes_nothing_any_more() {
    let scene = Scene::new().await;
    let in_quarantine = quarantined(&scene, r#"{"from":"+33123456789"}"#).await;
    scene.store.keep(submission([speaking(1)])).await.unwrap();
    assert_eq!(erase_number(&scene).await, (1, 1));
    for webhook in [in_quarantine, in_quarantine + 1] {
        let again = scene.store.keep_again(webhook, Mapped::Events(vec![speaking(2)])).await;
        assert!(again.unwrap().is_none(), "{webhook}");
    }
    assert_eq!(scene.seqs(0).await, [1]);
}

#[tokio::test]
async fn webhooks_that_no_event_names_are_found() {
    let scene = Scene::new().await;
    // One that left quarantine and became nothing, and one that is kept longer than its event.
    let released = quarantined(&scene, r#"{"from":"+33123456789"}"#).await;
    let nothing = Mapped::Events(Vec::new());
    scene.store.keep_again(released, nothing).await.unwrap();
    let mut outlived = submission([speaking(1)]);
    outlived.webhook.body = Bytes::from_static(b"from=+33123456789");
    scene.store.keep(outlived).await.unwrap();
    scene.keep(2..=2).await;
    let events_only = PruneBefore {
        webhooks: at(0),
        ..all_is_old()
    };
    assert_eq!(scene.store.prune(events_only).await.unwrap().events, 1);
    assert_eq!(erase_number(&scene).await, (0, 2));
    for number in [released, released + 1] {
        let webhook = scene.store.history().webhook_numbered(number).await.unwrap().unwrap();
        assert_eq!((webhook.body.len(), webhook.target.as_str()), (0, ""));
    }
}

#[tokio::test]
async fn what_comes_while_it_is_erased_is_erased_too() {
    let scene = Scene::new().await;
    let released = quarantined(&scene, r#"{"from":"+33123456789"}"#).await;
    for number in 1..=50 {
        scene.store.keep(submission([speaking(number)])).await.unwrap();
    }
    // Committed behind what the search has looked through, before anything is erased.
    let whose = Whose::Number(NUMBER.to_owned());
    let retry = async {
        tokio::task::yield_now().await;
        scene
            .store
            .keep_again(released, Mapped::Events(vec![speaking(51)]))
            .await
            .unwrap()
    };
    let (erased, _) = tokio::join!(scene.store.erase(whose, false), retry);
    erased.unwrap();
    let feed = scene.store.read(0, 100).await.unwrap();
    assert!(feed.iter().all(|event| event.kind == ERASED));
    let webhook = scene.store.history().webhook_numbered(released).await.unwrap().unwrap();
    assert_eq!(webhook.body.len(), 0);
}

#[tokio::test]
async fn a_number_is_found_however_it_is_written() {
    let scene = Scene::new().await;
    let theirs = [
        r#"{"from":"0033123456789"}"#,
        r#"{"from":"\u002b33123456789"}"#,
        r#"{"from":"\u002b\u00333123456789"}"#,
        r#"{"from":33123456789}"#,
        r#"{"from":"+33 1 23 45 67 89"}"#,
        r#"{"from":"+33 (0)1 23-45-67-89"}"#,
        r#"{"text":"call tel:33123456789."}"#,
        "From=%2B33123456789",
        "From=%2B33%20123%20456%20789",
        "a=b%2033123456789",
    ];
    for body in theirs {
        quarantined(&scene, body).await;
    }
    let mut in_target = quarantine("in the target");
    in_target.webhook.target = "/hooks/magpipe?from=%2B33123456789".to_owned();
    let mut in_payload = quarantine("in what was signed");
    in_payload.webhook.payload = Some(r#"{"from":"+33123456789"}"#.to_owned());
    for it in [in_target, in_payload] {
        scene.store.keep(it).await.unwrap();
    }
    let others = [
        r#"{"from":"+331234567890"}"#,
        r#"{"from":"+133123456789"}"#,
        r#"{"from":"033123456789"}"#,
        r#"{"from":"+3312345678"}"#,
        r#"{"from":"+33","id":"123456789"}"#,
    ];
    for body in others {
        quarantined(&scene, body).await;
    }
    // Its plugin did not know it for a number.
    let mut as_sent = speaking(1);
    as_sent.facts.numbers = vec!["00 33 123456789".to_owned()];
    scene.store.keep(submission([as_sent])).await.unwrap();
    assert_eq!(erase_number(&scene).await, (1, theirs.len() + 2));
    assert_eq!(scene.store.history().counts().await.unwrap().quarantined, 5);
}

#[tokio::test]
async fn a_lead_is_found_by_its_phone() {
    let scene = Scene::new().await;
    for (number, phone) in [(1, NUMBER), (2, "+33999999999")] {
        let json = format!(
            r#"{{"id":"{}","data":{{"lead":{{"phone":{{"number":"{phone}"}}}}}}"#,
            id(number)
        );
        let lead = Event {
            kind: "lead.created".to_owned(),
            facts: Facts::default(),
            open_json: json.into_bytes(),
            ..event(number)
        };
        scene.store.keep(submission([lead])).await.unwrap();
    }
    assert_eq!(erase_number(&scene).await, (1, 0));
    let feed = scene.store.read(0, 10).await.unwrap();
    let kinds: Vec<_> = feed.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, [ERASED, "lead.created"]);
}

#[tokio::test]
async fn what_is_no_number_is_found_as_it_was_sent() {
    let scene = Scene::new().await;
    for body in [r#"{"from":"100","seconds":5}"#, r#"{"from":"200","text":"100 times"}"#] {
        quarantined(&scene, body).await;
    }
    let mut short = speaking(1);
    short.facts.numbers = vec!["1001".to_owned(), "100".to_owned()];
    scene.store.keep(submission([short])).await.unwrap();
    assert_eq!(erase(&scene, Whose::Number("100".to_owned())).await, (1, 1));
}

#[tokio::test]
async fn a_call_is_looked_for_by_its_id_and_not_in_webhooks_of_other_providers() {
    let scene = Scene::new().await;
    let on = async |route: &str, body: &str| {
        let mut submission = quarantine(body);
        submission.webhook.route = route.to_owned();
        scene.store.keep(submission).await.unwrap();
    };
    let theirs = [
        r#"{"call_id":12}"#,
        r#"{"call":{"id":"12"}}"#,
        r#"{"call_id":12,"#,
        r#"{"data":"{\"call_id\":\"12\"}"}"#,
        "call_id=12&a=b",
        "payload=%7B%22call_id%22%3A%2212%22%7D",
    ];
    for body in theirs {
        on("salpre", body).await;
    }
    for body in [
        r#"{"call_id":"112","text":"at 12 o'clock"}"#,
        r#"{"call_id":"12-3","12":1}"#,
        "call_id=112",
        "12=a",
    ] {
        on("salpre", body).await;
    }
    on("magpipe", r#"{"duration_seconds": 12}"#).await;
    let whose = Whose::Subject {
        subject: "salpre/12".to_owned(),
        strangers: vec!["magpipe".to_owned()],
    };
    assert_eq!(erase(&scene, whose).await, (0, theirs.len()));
}
