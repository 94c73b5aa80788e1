//! The promise: what was answered with 200 survives a crash at any moment, once, and is delivered at least once.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
};

use harness::{Setup, Subscriber};
use tokio::{sync::watch, task::JoinSet};

/// How often it is ended, as `kill -9` does.
const CRASHES: usize = 4;
/// Senders at the same time.
const SENDERS: usize = 12;
/// Answers before each crash.
const ANSWERS: usize = 100;

#[tokio::test]
async fn nothing_that_was_answered_is_lost_in_a_crash() {
    let subscriber = Subscriber::start().await;
    let mut gateway = Setup::new()
        .route("magpipe")
        .route("salpre")
        .subscriber("crm", &subscriber)
        .start()
        .await;
    let answered: Arc<Mutex<Vec<String>>> = Arc::default();

    for crash in 1..=CRASHES {
        let (count, mut counted) = watch::channel(0);
        let mut senders = JoinSet::new();
        for sender in 0..SENDERS {
            let (route, sample) = if sender % 3 == 0 {
                ("salpre", "call-ended")
            } else {
                ("magpipe", "call-completed")
            };
            let webhooks: Vec<_> = (0..1000).map(|_| gateway.sample(route, sample)).collect();
            let (client, url) = (harness::client(), gateway.url(&format!("/hooks/{route}")));
            let (answered, count) = (Arc::clone(&answered), count.clone());
            senders.spawn(async move {
                for webhook in webhooks {
                    // Without an answer nothing was promised.
                    let Ok(answer) = webhook.post(&client, &url).await else {
                        return;
                    };
                    answered.lock().unwrap().extend(answer.accepted());
                    count.send_modify(|count| *count += 1);
                }
            });
        }
        counted.wait_for(|count| *count >= ANSWERS).await.unwrap();
        gateway.kill9().await;
        senders.join_all().await;
        assert!(answered.lock().unwrap().len() >= crash * ANSWERS);
        gateway.restart().await;
    }

    let answered = answered.lock().unwrap().clone();
    let feed = gateway.feed().await;
    let mut kept = BTreeMap::new();
    for event in &feed {
        *kept.entry(event["id"].as_str().unwrap()).or_insert(0) += 1;
    }
    for id in &answered {
        assert_eq!(kept.get(id.as_str()), Some(&1), "{id} was answered with 200");
    }
    let places: Vec<u64> = feed
        .iter()
        .map(|event| event["sequence"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(places.is_sorted_by(|a, b| a < b), "no two events have one place");

    let all: HashSet<String> = kept.keys().map(|id| (*id).to_owned()).collect();
    let what = "every event that was kept";
    let deliveries = subscriber
        .wait_until(what, |deliveries| {
            deliveries.len() >= all.len() && deliveries.iter().map(harness::Delivery::id).collect::<HashSet<_>>() == all
        })
        .await;
    // What arrives twice arrives as the same event.
    let mut bodies = BTreeMap::new();
    for delivery in &deliveries {
        assert!(delivery.verifies(harness::WHSEC));
        assert_eq!(
            *bodies.entry(delivery.id()).or_insert_with(|| delivery.body.clone()),
            delivery.body
        );
    }
}
