//! The outbound road: read the feed → filter → sign → deliver → record.
//!
//! Each subscriber has a loop of its own (`follow`), and no two of them share anything but the store: a slow or dead
//! subscriber costs the others nothing. The loop asks [`dispatch`] what to do; an attempt is signed by [`sign`] and sent
//! by [`deliver`], after [`address`] agreed; [`schedule`] says what comes after it. What a loop knows and the store does
//! not yet is lost in a crash, and delivered again under the same `webhook-id`: at least once, in the order of each call.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use self::{deliver::Courier, follow::Follower, sign::Signer};
use crate::{clock, config::Subscriber, store, store::Store};

pub mod address;
pub mod deliver;
pub mod dispatch;
mod follow;
mod metrics;
mod operate;
pub mod schedule;
pub mod sign;
#[cfg(test)]
mod tests;

pub use metrics::Metrics;
pub use operate::Refused;

/// How long a stop waits for the last records once no attempt is under way any more.
const LAST_RECORDS: Duration = Duration::from_secs(5);

/// Why the outbound road cannot open.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("deliveries for subscriber {subscriber} cannot be signed")]
    Keys {
        subscriber: String,
        #[source]
        source: sign::Error,
    },
    #[error("nothing can be delivered to subscriber {subscriber}")]
    Courier {
        subscriber: String,
        #[source]
        source: deliver::Error,
    },
    #[error("the progress of subscriber {subscriber} cannot be read")]
    Progress {
        subscriber: String,
        #[source]
        source: store::Error,
    },
}

/// The loops of all subscribers, running. Must be [stopped](Outbound::stop) before the store is closed.
#[derive(Debug)]
pub struct Outbound {
    loops: TaskTracker,
    followers: HashMap<String, Arc<Follower>>,
    store: Store,
    stop: CancellationToken,
    abandon: CancellationToken,
}

impl Outbound {
    /// Starts to deliver. A subscriber never seen before gets every event that is kept after this returns.
    ///
    /// # Errors
    ///
    /// When a subscriber's keys or TLS are unusable, or the store cannot say how far it is. Nothing runs then.
    pub async fn start(store: Store, subscribers: Vec<Subscriber>, metrics: &Metrics) -> Result<Self, Error> {
        let (stop, abandon) = (CancellationToken::new(), CancellationToken::new());
        metrics.forget_levels();
        let mut ready = Vec::with_capacity(subscribers.len());
        for subscriber in subscribers {
            let name = subscriber.name.clone();
            let signer = Signer::new(&subscriber.secrets, &subscriber.signature).map_err(|source| Error::Keys {
                subscriber: name.clone(),
                source,
            })?;
            let courier = Courier::new(&subscriber).map_err(|source| Error::Courier {
                subscriber: name.clone(),
                source,
            })?;
            let progress = store.progress(&name).await.map_err(|source| Error::Progress {
                subscriber: name.clone(),
                source,
            })?;
            if let Some(stopped) = &progress.stopped {
                warn!(subscriber = name, since = %stopped.at, reason = stopped.reason, "subscriber is stopped");
            }
            let meters = metrics.of(&name);
            let follower = Follower::new(
                subscriber,
                store.clone(),
                signer,
                courier,
                meters,
                stop.clone(),
                abandon.clone(),
            );
            ready.push((name, Arc::new(follower), progress));
        }
        let loops = TaskTracker::new();
        let mut followers = HashMap::with_capacity(ready.len());
        for (name, follower, progress) in ready {
            loops.spawn(Arc::clone(&follower).follow(progress));
            followers.insert(name, follower);
        }
        loops.close();
        info!(subscribers = followers.len(), "delivering");
        Ok(Self {
            loops,
            followers,
            store,
            stop,
            abandon,
        })
    }

    /// Tells that another hand changed what the store says about a subscriber, by resuming it or by putting a delivery
    /// back into its retry set. An unknown name is no subscriber of ours and left alone.
    pub fn look_again(&self, subscriber: &str) {
        if let Some(follower) = self.followers.get(subscriber) {
            follower.look_again();
        }
    }

    /// Begins no more attempts, gives those under way `grace` to end, records what became of them and returns.
    ///
    /// What did not end in time is attempted again after the next start.
    pub async fn stop(&self, grace: Duration) {
        self.stop.cancel();
        tokio::select! {
            () = self.loops.wait() => return,
            () = clock::sleep(grace) => self.abandon.cancel(),
        }
        tokio::select! {
            () = self.loops.wait() => {}
            () = clock::sleep(LAST_RECORDS) => {
                warn!("the last attempts could not be recorded in time and are made again after the next start");
            }
        }
    }
}
