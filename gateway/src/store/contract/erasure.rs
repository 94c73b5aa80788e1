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
    let expected = Erased {
        events: 2,
        quarantined: 1,
    };
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

    let found = async || {
        let mut found = 0;
        for name in ["feed.db", "feed.db-wal"] {
            let bytes = std::fs::read(scene.path.with_file_name(name)).unwrap_or_default();
            found += bytes
                .windows(secret.len())
                .filter(|window| *window == secret.as_bytes())
                .count();
        }
        found
    };
    // Twice of the call that stays: its event and its webhook.
    for _ in 0..600 {
        if found().await == 2 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("it is still there {} times", found().await);
}
