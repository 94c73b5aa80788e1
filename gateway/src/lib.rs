//! callfeed: one gateway between many call providers and many consumers.
//!
//! Two short roads joined by the store:
//!
//! ```text
//! inbound    receive → authenticate + map (plugin) → validate → keep → answer
//! outbound   read the feed → filter → sign → deliver → record
//! ```

// What the configuration means; whatever exists has been proved.
pub mod config;
// The nouns and their ids; no I/O.
pub mod event;
// Opens the rooms in order, closes them in reverse.
pub mod gateway;

// From a provider's request to a durable event; answers only then.
pub mod inbound;
// From the feed to every subscriber, at least once, in order per call.
pub mod outbound;
// WebAssembly components that authenticate and map; only the host's own proof counts.
pub mod plugin;
// Shows whether a plugin is right, before it meets a webhook.
pub mod kit;
// Forgets what has been kept long enough.
pub mod retention;
// Durable before it answers; the two roads meet here only.
pub mod store;

// The operator's address.
pub mod admin;
// The commands.
pub mod cli;
// How many files and sockets the process may have open.
mod descriptors;
// The only door to now, sleep and chance.
pub mod clock;
// Sockets that do not wait for ever for a peer that takes nothing.
mod impatient;
// Strikes secrets out of what goes on record.
mod redaction;
// The providers' side, for `demo` and `send`.
pub mod simulate;
// Logs.
pub mod telemetry;
