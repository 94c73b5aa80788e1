//! What the stories share: the real binary, its configuration, a provider's side and a subscriber's side.
//!
//! Nothing of ours is mocked. A story starts processes, speaks to them over sockets, and looks at what they keep through
//! their own commands. It waits for what it can observe, with a deadline, and never for time to pass.

/// The binary, built once, and its commands.
mod binary;
/// A running gateway: started, stopped, killed, started again.
mod gateway;
/// Plugins of the tests' own.
pub mod guest;
/// A provider: signs, posts, and misbehaves byte by byte.
mod provider;
/// What a configuration says.
mod setup;
/// A subscriber that answers by script and keeps what it was sent.
mod subscriber;
/// Waiting for what can be observed.
mod wait;

pub use binary::{Callfeed, Output, build_package, callfeed_bin};
pub use gateway::{Gateway, LogLine, Start};
pub use provider::{Answer, Connection, Webhook, client, http2_client, tls_client};
pub use setup::{Setup, provider_secret};
pub use subscriber::{Delivery, Gate, Reply, Subscriber, WHSEC};
pub use wait::{PATIENCE, eventually};
