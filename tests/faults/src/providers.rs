//! The providers' side: calls that live through their events, each posted once answered, from many connections.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use callfeed::{
    config::Route,
    simulate::{self, Sample},
};
use serde_json::Value;
use tokio::sync::watch;

use crate::{
    chance::Chance,
    gateway::Addresses,
    model::{Accepted, Erasure, Sent, Violation, speaks_of},
    subscribers::Ticks,
};

/// How long a provider waits for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How often a webhook is posted at most.
const TRIES: u64 = 6;

/// How many of its webhooks a connection can post once more.
const REMEMBERED: usize = 64;

/// What a provider posts about one call, or another matter, in order. The names are those of the samples.
const LIVES: &[(&str, &[&str])] = &[
    ("magpipe", &["call-completed"]),
    ("magpipe", &["sms-received"]),
    ("magpipe", &["sms-sent"]),
    ("magpipe", &["whatsapp-received"]),
    ("magpipe", &["chat-session-completed"]),
    ("magnetis", &["call-ringing", "call-completed"]),
    ("magnetis", &["email-received"]),
    ("magnetis", &["lead-created"]),
    ("magnetis", &["legacy-call"]),
    ("voxagent", &["session-started", "conversation-complete"]),
    ("topcalls", &["call-queued", "call-started", "call-completed"]),
    ("topcalls", &["call-queued", "call-failed"]),
    (
        "topcalls",
        &[
            "campaign-started",
            "campaign-paused",
            "campaign-resumed",
            "campaign-completed",
        ],
    ),
    (
        "salpre",
        &[
            "call-initiated",
            "call-ringing",
            "call-answered",
            "transcript",
            "call-ended",
        ],
    ),
    ("salpre", &["call-initiated", "error"]),
];

/// Everything the providers of one round share.
#[derive(Debug)]
pub struct Providers {
    pub routes: Vec<Route>,
    pub gateway: watch::Receiver<Option<Addresses>>,
    /// No new call once set.
    pub stop: AtomicBool,
    pub sent: Mutex<Vec<Sent>>,
    pub violations: Mutex<Vec<Violation>>,
    /// Odd while nothing can be made durable. Another number each time that begins and ends.
    pub unsynced: AtomicU64,
    /// Between two webhooks of a connection, at most.
    pub pause: Duration,
    pub ticks: Arc<Ticks>,
    /// What an operator wanted erased so far.
    pub erasures: Mutex<Vec<Erasure>>,
}

impl Providers {
    /// Everything sent so far, as of now.
    pub fn sent(&self) -> Vec<Sent> {
        lock(&self.sent).clone()
    }

    /// One connection: posts call after call until it is stopped.
    pub async fn post(self: Arc<Self>, mut chance: Chance) {
        let client = simulate::client(TIMEOUT).expect("a client can be made");
        let mut posted = VecDeque::new();
        while !self.stop.load(Ordering::Relaxed) {
            if chance.permille(30) {
                let webhook = self.unmappable(&mut chance);
                self.insist(&client, &webhook, true, &mut chance).await;
                continue;
            }
            if chance.permille(60)
                && let Some(webhook) = self.one_to_repeat(&posted, &mut chance)
            {
                self.insist(&client, webhook, false, &mut chance).await;
            }
            let (provider, life) = *chance.one_of(LIVES);
            let samples = simulate::samples(provider);
            let identity = chance.number();
            for stage in life {
                let sample = samples.iter().find(|sample| sample.name == *stage);
                let webhook = self.webhook(sample.expect("the sample is there"), identity);
                self.insist(&client, &webhook, true, &mut chance).await;
                if posted.len() == REMEMBERED {
                    posted.pop_front();
                }
                posted.push_back(webhook);
            }
        }
    }

    /// One that was posted before, preferably of a call that is erased.
    fn one_to_repeat<'w>(&self, posted: &'w VecDeque<Webhook>, chance: &mut Chance) -> Option<&'w Webhook> {
        let erasures = lock(&self.erasures);
        let is_erased = |webhook: &&Webhook| {
            let mut subjects = erasures.iter().map(|erasure| &erasure.subject);
            subjects.any(|subject| speaks_of(webhook.provider, &webhook.body, subject))
        };
        let mut among: Vec<&Webhook> = posted.iter().filter(is_erased).collect();
        drop(erasures);
        if among.is_empty() || chance.permille(200) {
            among = posted.iter().collect();
        }
        (!among.is_empty()).then(|| *chance.one_of(&among))
    }

    fn webhook(&self, sample: &Sample, identity: u64) -> Webhook {
        self.signed(sample.provider, &sample.content_type, sample.identified(identity))
    }

    /// Signed, and yet nothing that its plugin could map.
    fn unmappable(&self, chance: &mut Chance) -> Webhook {
        let number = chance.number();
        let provider = *chance.one_of(&["magpipe", "voxagent", "salpre"]);
        let body = match chance.below(3) {
            0 => format!(r#"{{"event":"call.completed","data":{{"odd":{number}}}"#),
            1 => format!("[{number}]"),
            _ => format!("not JSON at all, {number}"),
        };
        self.signed(provider, "application/json", body.into_bytes())
    }

    fn signed(&self, provider: &'static str, content_type: &str, body: Vec<u8>) -> Webhook {
        let route = self.routes.iter().find(|route| route.provider == provider);
        let route = route.expect("every provider has a route");
        let mut headers = vec![("content-type".to_owned(), content_type.to_owned())];
        headers.extend(simulate::sign(route, &route.urls[0], content_type, &body).expect("the route has a secret"));
        Webhook {
            provider,
            path: route.path.clone(),
            headers,
            body: Bytes::from(body),
        }
    }

    /// Posts a webhook until it is answered 200, a few times at most, as providers do.
    async fn insist(&self, client: &reqwest::Client, webhook: &Webhook, is_new: bool, chance: &mut Chance) {
        let index = {
            let mut sent = lock(&self.sent);
            sent.push(Sent {
                route: webhook.provider,
                body: webhook.body.clone(),
                begun: self.ticks.next(),
                accepted: None,
            });
            sent.len() - 1
        };
        for attempt in 1..=TRIES {
            let pause = chance.within(1, u64::try_from(self.pause.as_millis()).unwrap_or(1).max(1));
            tokio::time::sleep(Duration::from_millis(pause)).await;
            let Some(address) = *self.gateway.borrow() else {
                // Between two gateways; a call that is going on waits for the next one.
                let mut gateway = self.gateway.clone();
                if gateway.wait_for(Option::is_some).await.is_err() {
                    return;
                }
                continue;
            };
            let before = self.unsynced.load(Ordering::SeqCst);
            let answer = webhook.post(client, address).await;
            let after = self.unsynced.load(Ordering::SeqCst);
            match answer {
                Some((200, body)) => {
                    // Posted again, it may have been kept before.
                    if is_new && attempt == 1 && before == after && before % 2 == 1 {
                        let route = webhook.provider;
                        lock(&self.violations).push(Violation::AnsweredWithoutSync { route });
                    }
                    let at = self.ticks.next();
                    lock(&self.sent)[index].accepted = Some(Accepted { at, ids: ids(&body) });
                    return;
                }
                Some((503, _)) | None => {}
                Some((status, _)) => {
                    let route = webhook.provider;
                    lock(&self.violations).push(Violation::Refused { route, status });
                    return;
                }
            }
            if chance.permille(100) {
                // Some providers post once and never again.
                return;
            }
        }
    }
}

#[derive(Debug)]
struct Webhook {
    provider: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Bytes,
}

impl Webhook {
    /// Status and body of the answer; `None` when there was none, or not all of it.
    async fn post(&self, client: &reqwest::Client, gateway: Addresses) -> Option<(u16, String)> {
        let mut request = client
            .post(format!("http://{}{}", gateway.inbound, self.path))
            .body(self.body.clone());
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let answer = request.send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.text().await.ok()?))
    }
}

fn ids(body: &str) -> Vec<String> {
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let ids = body["accepted"].as_array().into_iter().flatten();
    ids.filter_map(|id| id.as_str().map(str::to_owned)).collect()
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use harness::{Reply, Subscriber};

    use super::*;

    /// What is said of a webhook whose answers come from `gateway`, and how often it was posted.
    async fn said_of_one(gateway: &Subscriber, providers: &Arc<Providers>, is_new: bool) -> (usize, Vec<Violation>) {
        let webhook = Webhook {
            provider: "magpipe",
            path: "/hooks/magpipe".to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        };
        let before = gateway.deliveries().len();
        let client = simulate::client(TIMEOUT).unwrap();
        // This one does not give up after a failure.
        providers.insist(&client, &webhook, is_new, &mut Chance::new(1)).await;
        let said = std::mem::take(&mut *lock(&providers.violations));
        (gateway.deliveries().len() - before, said)
    }

    #[tokio::test]
    async fn an_answer_200_while_nothing_can_be_made_durable_is_noticed() {
        let gateway = Subscriber::start().await;
        let addresses = Addresses {
            inbound: gateway.address(),
            admin: gateway.address(),
        };
        let providers = Arc::new(Providers {
            routes: Vec::new(),
            gateway: watch::Sender::new(Some(addresses)).subscribe(),
            stop: AtomicBool::new(false),
            sent: Mutex::default(),
            violations: Mutex::default(),
            unsynced: AtomicU64::new(0),
            pause: Duration::ZERO,
            ticks: Arc::default(),
            erasures: Mutex::default(),
        });
        let accepts = || Reply::status(200).body(r#"{"accepted":[]}"#);
        gateway.rule(move |_| accepts());
        let unsynced = &providers.unsynced;

        assert_eq!(said_of_one(&gateway, &providers, true).await, (1, vec![]));

        unsynced.store(1, Ordering::SeqCst);
        let violation = Violation::AnsweredWithoutSync { route: "magpipe" };
        assert_eq!(said_of_one(&gateway, &providers, true).await, (1, vec![violation]));

        // One that was posted long ago is kept long since.
        assert_eq!(said_of_one(&gateway, &providers, false).await, (1, vec![]));

        // It may have been kept before, and only the answer failed.
        gateway.script([Reply::status(503)]);
        assert_eq!(said_of_one(&gateway, &providers, true).await, (2, vec![]));

        // The fault ends, or ends and begins anew, before the answer; or it begins only then.
        for (before, meanwhile) in [(1, 2), (1, 3), (2, 3)] {
            unsynced.store(before, Ordering::SeqCst);
            let of_gateway = Arc::clone(&providers);
            gateway.rule(move |_| {
                of_gateway.unsynced.store(meanwhile, Ordering::SeqCst);
                accepts()
            });
            assert_eq!(
                said_of_one(&gateway, &providers, true).await,
                (1, vec![]),
                "{before} {meanwhile}"
            );
        }
    }
}
