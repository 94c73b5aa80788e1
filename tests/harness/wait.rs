use std::time::{Duration, Instant};

/// How long anything may take before a story fails. Far longer than needed: a busy machine is no failure.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at something that does not tell when it changes.
const LOOK: Duration = Duration::from_millis(10);

/// Looks until there is something to see; fails after [`PATIENCE`].
///
/// # Panics
///
/// When nothing came of it, with `what` was waited for.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        tokio::time::sleep(LOOK).await;
    }
}
