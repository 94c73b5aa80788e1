//! A seeded runner that breaks what a gateway stands on, and checks that nothing accepted is lost.
//!
//! ```text
//! cargo run --release -p callfeed-faults -- --rounds 20 --seed 7
//! cargo run --release -p callfeed-faults -- --duration 8h
//! ```
//!
//! A round has one store. The real binary is started on it several times, while providers post from many connections and
//! subscribers fail, stall, answer slowly, hang up, ask to wait or say that they are gone. At random moments the disk is
//! full, syncs fail, the clock jumps, the configuration is read again, calls are erased; and each gateway ends by
//! `kill -9`, a power cut or `SIGTERM`, also while it starts. After each end the [`model`] looks at a copy of the store. In
//! the last life nothing goes wrong, so that everything can be delivered or given up, and the model has its last word:
//!
//! - What was answered 200 is in the feed exactly once, or in quarantine. Nothing else is, but what was sent and not
//!   answered.
//! - While nothing can be synced, no new webhook is answered 200.
//! - Every event reached every subscriber that wants it at least once, unchanged, verified, in the order of its call, or is
//!   dead on record with all of its attempts. Nothing else reached anyone.
//! - What an operator had erased is a tombstone once the gateway said so, whatever became of the gateway since, says nothing
//!   any more, and reaches nobody. Nothing else is.
//! - No cursor is ever past a delivery that is neither taken, nor waiting, nor dead.
//!
//! The faults are a library's that is preloaded into the gateway (`tests/faults/shim`). A power cut is more than a kill: the
//! [`disk`] then loses, of everything written since the last sync, all, or the end, or any of its sectors.
//!
//! A seed decides what is posted, what goes wrong, when, for how long, and what a power cut takes. It does not decide how the
//! machine schedules processes, so a round that is played again makes the same decisions and may still meet the gateway
//! at other moments. A round that failed keeps its store, its logs, a diary and what arrived, and says where.

// What runs: cargo builds it.
pub mod binaries;
// Decisions by a seed.
pub mod chance;
// The disk under the gateway.
pub mod disk;
// One process.
pub mod gateway;
// What has to be true.
pub mod model;
// Those who post.
pub mod providers;
// Everything together.
pub mod round;
// What is on record.
pub mod store;
// Those who receive.
pub mod subscribers;

#[path = "../shim/src/control.rs"]
mod control;
#[cfg_attr(not(test), expect(dead_code, reason = "the shim writes what is read here"))]
#[path = "../shim/src/journal.rs"]
mod journal;
