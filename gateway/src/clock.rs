//! The only door to now, to sleep and to chance, so that everything else can be driven by values.

use std::time::Duration;

use jiff::Timestamp;

/// The wall clock.
#[expect(clippy::disallowed_methods, reason = "this is the door")]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Waits without holding a thread.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// A number in `0.0..1.0` from the operating system, for jitter.
pub fn chance() -> f64 {
    let random = getrandom::u64().expect("the operating system has randomness once the process runs");
    // The 53 high bits are all that a double can tell apart.
    (random >> 11) as f64 / (1u64 << 53) as f64
}
