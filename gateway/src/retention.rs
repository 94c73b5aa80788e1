//! Forgets what has been kept long enough, in small steps that let webhooks and deliveries pass between them.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    clock, config,
    store::{PruneBefore, Store},
};

/// Between two looks when there was nothing left to forget.
const IDLE: Duration = Duration::from_secs(60);
/// Between two steps of the same look.
const STEP: Duration = Duration::from_millis(25);

/// Runs until told to stop. Events that one of these subscribers still needs stay.
pub async fn run(store: Store, config: config::Store, subscribers: Arc<[String]>, stop: CancellationToken) {
    loop {
        let now = clock::now();
        let before = PruneBefore {
            events: now - config.keep_events,
            webhooks: now - config.keep_webhooks,
            attempts: now - config.keep_attempts,
            subscribers: Arc::clone(&subscribers),
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
