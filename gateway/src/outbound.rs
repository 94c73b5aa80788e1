//! The outbound road: read the feed → filter → sign → deliver → record.
//!
//! Each subscriber has a loop of its own (`follow`), and no two of them share anything but the store: a slow or dead
//! subscriber costs the others nothing. The loop asks [`dispatch`] what to do; an attempt is signed by [`sign`] and sent
//! by [`deliver`], after [`address`] agreed; [`schedule`] says what comes after it. What a loop knows and the store does
//! not yet is lost in a crash, and delivered again under the same `webhook-id`: at least once, in the order of each call.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, PoisonError, RwLock, RwLockWriteGuard,
        atomic::{AtomicU64, Ordering},
    },
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
mod filter;
mod follow;
mod metrics;
mod operate;
pub mod privacy;
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
    erasures: Arc<AtomicU64>,
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

impl Following {
    /// Waits for one that was told to stop.
    async fn end(mut self, deadline: Instant) {
        if tokio::time::timeout_at(deadline, &mut self.task).await.is_err() {
            self.follower.abandon();
            // It has said what was wrong.
            let _ = self.task.await;
        }
    }
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
            erasures: Arc::default(),
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
        let count = subscribers.len();
        let mut same = HashSet::new();
        let mut ready = Vec::new();
        for subscriber in subscribers {
            let name = subscriber.name.clone();
            let known = self.follower(&name);
            if known
                .as_ref()
                .is_some_and(|known| known.serves(&subscriber, keep_events))
            {
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
                erasures: Arc::clone(&self.erasures),
            };
            ready.push((name, Arc::new(follower), progress));
        }

        let ended: Vec<_> = self.write().extract_if(|name, _| !same.contains(name)).collect();
        let deadline = Instant::now() + grace;
        // One that is slow to end holds up its own successor and no other.
        let mut endings = HashMap::new();
        for (name, following) in ended {
            following.follower.stop();
            let is_over = CancellationToken::new();
            let tell = is_over.clone().drop_guard();
            self.loops.spawn(async move {
                following.end(deadline).await;
                drop(tell);
            });
            endings.insert(name, is_over);
        }
        for (name, follower, progress) in ready {
            let before = endings.get(&name).cloned();
            let next = Arc::clone(&follower);
            let task = self.loops.spawn(async move {
                if let Some(before) = before {
                    before.cancelled().await;
                }
                next.follow(progress).await;
            });
            self.write().insert(name, Following { follower, task });
        }
        info!(subscribers = count, "delivering");
        // One that is removed now and added again later must not run twice.
        for (name, is_over) in endings {
            is_over.cancelled().await;
            if self.follower(&name).is_none() {
                self.metrics.forget(&name);
            }
        }
        Ok(())
    }

    /// Has no loop deliver what it read before now.
    pub fn forget_events(&self) {
        self.erasures.fetch_add(1, Ordering::AcqRel);
        for follower in self.followers() {
            follower.look_again();
        }
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
