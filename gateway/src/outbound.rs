//! The outbound road: read the feed → filter → sign → deliver → record.
//!
//! Each subscriber has a loop of its own (`follow`), and no two of them share anything but the store: a slow or dead
//! subscriber costs the others nothing. The loop asks [`dispatch`] what to do; an attempt is signed by [`sign`] and sent
//! by [`deliver`], after [`address`] agreed; [`schedule`] says what comes after it. What a loop knows and the store does
//! not yet is lost in a crash, and delivered again under the same `webhook-id`: at least once, in the order of each call.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
    time::Duration,
};

use tokio::{
    sync::{Mutex, Notify},
    task::JoinHandle,
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use self::{deliver::Courier, follow::Follower, privacy::Censor, sign::Signer};
use crate::{clock, config::Subscriber, store, store::Store};

pub mod address;
mod breaker;
pub mod deliver;
pub mod dispatch;
mod follow;
mod metrics;
mod operate;
mod privacy;
mod rate;
pub mod schedule;
pub mod sign;
#[cfg(test)]
mod simulation;
mod standing;
#[cfg(test)]
mod tests;

pub use metrics::Metrics;
pub use operate::{Refused, Replayed};
pub use standing::{Failed, Seen, Standing, State};

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
    store: Store,
    metrics: Metrics,
    following: RwLock<HashMap<String, Following>>,
    /// Held by the one who changes who is followed for.
    changing: Mutex<()>,
    loops: TaskTracker,
    stop: CancellationToken,
    abandon: CancellationToken,
}

/// One subscriber's loop.
#[derive(Debug)]
struct Following {
    follower: Arc<Follower>,
    task: JoinHandle<()>,
}

impl Outbound {
    /// Starts to deliver what is not older than `keep_events`. A subscriber never seen before gets every event that is
    /// kept after this returns.
    ///
    /// # Errors
    ///
    /// When a subscriber's keys or TLS are unusable, or the store cannot say how far it is. Nothing runs then.
    pub async fn start(
        store: Store,
        subscribers: Vec<Subscriber>,
        keep_events: Duration,
        metrics: &Metrics,
    ) -> Result<Self, Error> {
        metrics.forget_levels();
        let outbound = Self {
            store,
            metrics: metrics.clone(),
            following: RwLock::default(),
            changing: Mutex::default(),
            loops: TaskTracker::new(),
            stop: CancellationToken::new(),
            abandon: CancellationToken::new(),
        };
        outbound.serve(subscribers, keep_events, Duration::ZERO).await?;
        Ok(outbound)
    }

    /// Delivers to these subscribers, and to no others. One that is the same as before notices nothing; one that changed,
    /// or that is gone, begins no more attempts and has `grace` to end those under way.
    ///
    /// # Errors
    ///
    /// As for [`Outbound::start`]. Nothing changes then.
    pub async fn serve(
        &self,
        subscribers: Vec<Subscriber>,
        keep_events: Duration,
        grace: Duration,
    ) -> Result<(), Error> {
        let _turn = self.changing.lock().await;
        let goes_on = |known: &Follower, subscriber: &Subscriber| known.serves(subscriber, keep_events);
        self.change(subscribers, keep_events, grace, goes_on).await
    }

    /// Has every loop forget the events it has in memory, and go on where its record ends. Attempts under way have `grace` to
    /// end.
    ///
    /// # Errors
    ///
    /// As for [`Outbound::start`]. Nothing is forgotten then.
    pub async fn forget_events(&self, grace: Duration) -> Result<(), Error> {
        let _turn = self.changing.lock().await;
        let followers = self.followers();
        let Some(keep_events) = followers.first().map(|follower| follower.keep_events) else {
            return Ok(());
        };
        let subscribers = followers.iter().map(|follower| follower.subscriber.clone()).collect();
        self.change(subscribers, keep_events, grace, |_, _| false).await
    }

    /// Ends every loop that does not go on, and starts those that are missing then.
    async fn change(
        &self,
        subscribers: Vec<Subscriber>,
        keep_events: Duration,
        grace: Duration,
        goes_on: impl Fn(&Follower, &Subscriber) -> bool,
    ) -> Result<(), Error> {
        let count = subscribers.len();
        let mut same = HashSet::new();
        let mut ready = Vec::new();
        for subscriber in subscribers {
            let name = subscriber.name.clone();
            let known = self.follower(&name);
            if known.as_ref().is_some_and(|known| goes_on(known, &subscriber)) {
                same.insert(name);
                continue;
            }
            let signer = Signer::new(&subscriber.secrets, &subscriber.signature).map_err(|source| Error::Keys {
                subscriber: name.clone(),
                source,
            })?;
            let courier = Courier::new(&subscriber).map_err(|source| Error::Courier {
                subscriber: name.clone(),
                source,
            })?;
            let progress = match &known {
                // It moves on until its loop ends, and is asked for then.
                Some(_) => None,
                None => Some(
                    self.store
                        .join(&name, subscriber.from)
                        .await
                        .map_err(|source| Error::Progress {
                            subscriber: name.clone(),
                            source,
                        })?,
                ),
            };
            if let Some(stopped) = progress.as_ref().and_then(|progress| progress.stopped.as_ref()) {
                warn!(subscriber = name, since = %stopped.at, reason = stopped.reason, "subscriber is stopped");
            }
            // What was seen of one that changed is remembered.
            let board = known.map(|known| Arc::clone(&known.board)).unwrap_or_default();
            let follower = Follower {
                board,
                censor: Censor::new(&subscriber.privacy),
                subscriber,
                keep_events,
                store: self.store.clone(),
                signer,
                courier,
                meters: self.metrics.of(&name),
                stop: self.stop.child_token(),
                abandon: self.abandon.child_token(),
                record_changed: Notify::new(),
            };
            ready.push((name, Arc::new(follower), progress));
        }

        let ended: Vec<_> = self.write().extract_if(|name, _| !same.contains(name)).collect();
        for (_, following) in &ended {
            following.follower.stop();
        }
        let deadline = Instant::now() + grace;
        for (name, mut following) in ended {
            if tokio::time::timeout_at(deadline, &mut following.task).await.is_err() {
                following.follower.abandon();
                // It has said what was wrong.
                let _ = following.task.await;
            }
            if !ready.iter().any(|(next, ..)| *next == name) {
                self.metrics.forget(&name);
            }
        }
        for (name, follower, progress) in ready {
            let task = self.loops.spawn(Arc::clone(&follower).follow(progress));
            self.write().insert(name, Following { follower, task });
        }
        info!(subscribers = count, "delivering");
        Ok(())
    }

    fn followers(&self) -> Vec<Arc<Follower>> {
        let following = self.following.read().unwrap_or_else(PoisonError::into_inner);
        following.values().map(|it| Arc::clone(&it.follower)).collect()
    }

    fn follower(&self, subscriber: &str) -> Option<Arc<Follower>> {
        let following = self.following.read().unwrap_or_else(PoisonError::into_inner);
        following
            .get(subscriber)
            .map(|following| Arc::clone(&following.follower))
    }

    fn write(&self) -> RwLockWriteGuard<'_, HashMap<String, Following>> {
        self.following.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells that another hand changed what the store says about a subscriber, by resuming it or by putting a delivery
    /// back into its retry set. An unknown name is no subscriber of ours and left alone.
    pub fn look_again(&self, subscriber: &str) {
        if let Some(follower) = self.follower(subscriber) {
            follower.look_again();
        }
    }

    /// Begins no more attempts, gives those under way `grace` to end, records what became of them and returns.
    ///
    /// What did not end in time is attempted again after the next start.
    pub async fn stop(&self, grace: Duration) {
        self.loops.close();
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
