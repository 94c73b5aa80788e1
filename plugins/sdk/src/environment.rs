//! What else a plugin can reach: the operator's log, the route's options, and the time of receipt.
//!
//! In a native build they are those of the [`TestHost`](crate::testing::TestHost).

use serde::de::DeserializeOwned;

use crate::Rejection;
pub use crate::bindings::callfeed::provider::environment::Level;

#[cfg(target_arch = "wasm32")]
pub use crate::bindings::callfeed::provider::environment::{log, now_ms, options as options_json};
#[cfg(not(target_arch = "wasm32"))]
pub use crate::testing::environment::{log, now_ms, options_json};

/// Logs a warning under the plugin's and the route's names. Nothing of the body.
pub fn warn(message: &str) {
    log(Level::Warn, message);
}

/// The route's options, which the gateway has checked against the descriptor's schema.
///
/// # Errors
///
/// [`Unsupported`](crate::RejectionKind::Unsupported) with `options-invalid`, when the schema allows what `T` does not.
pub fn options<T: DeserializeOwned>() -> Result<T, Rejection> {
    serde_json::from_str(&options_json()).map_err(|error| {
        Rejection::unsupported("options-invalid").detail(format!("line {} column {}", error.line(), error.column()))
    })
}
