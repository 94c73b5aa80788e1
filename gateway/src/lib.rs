//! callfeed: one gateway between many call providers and many consumers.
//!
//! Two short roads joined by the store:
//!
//! ```text
//! inbound    receive → authenticate + map (plugin) → validate → keep → answer
//! outbound   read the feed → filter → sign → deliver → record
//! ```

pub mod clock;
pub mod config;
pub mod event;
pub mod outbound;
pub mod store;
