//! What the runner tells the shim: a small file that both have open, the shim as memory.
//!
//! Shared by both as source: the shim is preloaded, never linked.

use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64};

/// Names the directory of the control file and the journals.
pub(crate) const DIRECTORY_VARIABLE: &str = "CALLFEED_FAULTS_DIR";
/// Names the database file; its log and its directory follow from it.
pub(crate) const STORE_VARIABLE: &str = "CALLFEED_FAULTS_STORE";
/// The control file, in that directory.
pub(crate) const FILE: &str = "control";
pub(crate) const FILE_BYTES: usize = 64;

/// `sync` when syncs work.
pub(crate) const SYNC_WORKS: u32 = 0;
/// Syncs fail; a later one that succeeds covers what they should have.
pub(crate) const SYNC_FAILS: u32 = 1;
/// Syncs fail and what they should have covered stays unwritten though the system takes it for written, as Linux does
/// with the pages of a failed write-back.
pub(crate) const SYNC_FAILS_AND_FORGETS: u32 = 2;
/// The same, and only those of the database; those of its log work.
pub(crate) const DATABASE_SYNC_FAILS_AND_FORGETS: u32 = 3;

/// The file's content. All zeroes: nothing is wrong.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Control {
    /// [`SYNC_WORKS`] and the others.
    pub(crate) sync: AtomicU32,
    /// 1: the disk is full.
    pub(crate) full: AtomicU32,
    /// Added to the wall clock.
    pub(crate) clock_offset_ns: AtomicI64,
    /// How long each sync takes at least: widens the moments in which a kill finds something half-way.
    pub(crate) sync_delay_us: AtomicU32,
    pub(crate) reserved: AtomicU32,
    /// Processes that the shim was loaded into.
    pub(crate) attached: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) syncs_failed: AtomicU64,
    pub(crate) writes_refused: AtomicU64,
    /// Writes that were journaled.
    pub(crate) writes: AtomicU64,
}
