//! [`environment`](crate::environment) in a native build.

use crate::environment::Level;

/// Kept in [`Seen::log`](super::Seen::log).
pub fn log(level: Level, message: &str) {
    super::host().seen.log.borrow_mut().push((level, message.to_owned()));
}

/// Milliseconds since the Unix epoch.
pub fn now_ms() -> u64 {
    super::host().now_ms
}

/// The route's options, a JSON object.
pub fn options_json() -> String {
    super::host().options.clone()
}
