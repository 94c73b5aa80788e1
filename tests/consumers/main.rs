//! What subscribers and providers run on their side, with software that is not ours: the official libraries of Standard
//! Webhooks and CloudEvents for Rust, Python and Node, the providers' own printed examples, and curl.

/// What every official library makes of real deliveries.
mod deliveries;
/// The lines that `callfeed demo --keep` prints, in real curl.
mod demo;
/// One gateway with every provider, and every sample posted to it.
mod feed;
/// A program of another language that serves, prints, and is watched.
mod program;
/// The receivers of the README, as they stand there.
mod receivers;
/// Python and Node with their packages.
mod tools;
/// The providers' printed examples against what `callfeed send` posts.
mod vendors;
