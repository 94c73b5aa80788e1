//! Forgets what has been kept long enough, in small steps that let webhooks and deliveries pass between them.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    clock, config,
    store::{PruneBefore, Store},
};

/// Between two looks when there was nothing left to forget.
const IDLE: Duration = Duration::from_secs(60);
/// Between two steps of the same look.
const STEP: Duration = Duration::from_millis(25);

/// For how long to keep, and for whom.
#[derive(Debug, Clone)]
pub struct Keep {
    pub config: config::Store,
    /// Events that one of these still needs stay.
    pub subscribers: Arc<[String]>,
}

/// Runs until told to stop.
pub async fn run(store: Store, keep: watch::Receiver<Keep>, stop: CancellationToken) {
    loop {
        let now = clock::aging();
        let Keep { config, subscribers } = keep.borrow().clone();
        let before = PruneBefore {
            events: now - config.keep_events,
            ids: now - config.keep_ids,
            webhooks: now - config.keep_webhooks,
            attempts: now - config.keep_attempts,
            subscribers,
        };
        let pause = match store.prune(before).await {
            Ok(report) if report.more => STEP,
            Ok(_) => IDLE,
            Err(error) => {
                tracing::warn!(%error, "could not remove what has been kept long enough; trying again");
                IDLE
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock::sleep(pause) => {}
        }
    }
}
