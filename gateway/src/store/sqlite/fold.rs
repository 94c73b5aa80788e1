//! Folding the log into the database: what was committed to the log is written to its place in the database, so that the
//! log can begin anew.
//!
//! A thread of its own folds while the writer goes on writing, on a connection of its own. The writer folds itself only
//! what is left at the end, so that there is a moment without a backlog, in which SQLite begins the log anew.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, SyncSender},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rusqlite::Connection;
use tokio::sync::watch;

use super::file;
use crate::store::Health;

/// Pages in the log that are not in the database yet before they are folded in whether it is quiet or not.
const BACKLOG_PAGES: u32 = 4_000;

/// Pages in the log, folded in or not, at which it should begin anew.
const LOG_PAGES: u32 = 16_000;

/// The backlog that the writer itself folds then, while everybody waits.
const LAST_PAGES: u32 = 1_000;

/// Pages in the log at which writing waits for the readers, so that the log can begin anew.
const LOG_PAGES_MAX: u32 = 64_000;

/// Pages to write before a fold that did not come to its end is tried again.
const RETRY_PAGES: u32 = 1_000;

/// A pause as long as this in the writes is a good moment to fold the log into the database …
const QUIET: Duration = Duration::from_millis(200);
/// … and so often it becomes twice as long while somebody is in the way each time.
const QUIET_DOUBLES: u32 = 6;

/// How long everybody waits for readers then.
const READERS_MAX: Duration = Duration::from_millis(100);

/// What the writer has to do after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// The other thread folds, beside the writer.
    Aside,
    /// The writer folds the little that is left.
    Rest,
    /// The writer folds everything and waits for the readers.
    All,
}

/// How much of the log to fold, by SQLite's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fold {
    /// What no reader is in the way of.
    Passive,
    /// Everything, waiting for readers a moment, and cut the log's file.
    Truncate,
}

/// What a fold came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Folded {
    /// A reader, or another fold, was in the way.
    pub(super) busy: bool,
    /// Pages in the log when it began …
    pages: u32,
    /// … and how many of them are in the database.
    folded: u32,
}

impl Fold {
    pub(super) fn run(self, connection: &Connection) -> rusqlite::Result<Folded> {
        // SQLite counts -1 when there is no log.
        let count = |pages: i64| u32::try_from(pages).unwrap_or(0);
        let run = |sql| {
            connection.query_row(sql, [], |row| {
                Ok(Folded {
                    busy: row.get(0)?,
                    pages: count(row.get(1)?),
                    folded: count(row.get(2)?),
                })
            })
        };
        match self {
            Self::Passive => run("PRAGMA wal_checkpoint(PASSIVE)"),
            Self::Truncate => {
                connection.busy_timeout(READERS_MAX)?;
                let folded = run("PRAGMA wal_checkpoint(TRUNCATE)");
                connection.busy_timeout(file::BUSY_TIMEOUT)?;
                folded
            }
        }
    }
}

/// How long the log is and how much of it is in the database already.
#[derive(Debug, Default)]
pub(super) struct Log {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Told by SQLite after each commit.
    pages: u32,
    folded: u32,
    /// No fold before the log is as long as this …
    not_before: u32,
    /// … and none that waits for readers before it is as long as this.
    not_all_before: u32,
    /// It holds what must not be found there, be it behind what it began anew with.
    must_end: bool,
    /// Times in a row that it could not be ended.
    not_ended: u32,
    /// The other thread is at work.
    folding: bool,
}

impl State {
    fn backlog(&self) -> u32 {
        self.pages.saturating_sub(self.folded)
    }

    fn begin_anew(&mut self) {
        *self = Self {
            folding: self.folding,
            must_end: self.must_end,
            not_ended: self.not_ended,
            ..Self::default()
        };
    }

    /// Its file is empty.
    fn end(&mut self) {
        self.begin_anew();
        self.must_end = false;
        self.not_ended = 0;
    }
}

impl Log {
    pub(super) fn watch(self: &Arc<Self>, connection: &mut Connection) -> rusqlite::Result<()> {
        let log = Arc::clone(self);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, count: i32| {
            log.after_commit(count.unsigned_abs());
            Ok(())
        }))
    }

    /// A log that is shorter than it was began anew, which it only does when all of it is in the database. One whose first
    /// commit is longer than all it had before looks as if it had grown; its backlog is told too small by that little.
    fn after_commit(&self, pages: u32) {
        let mut state = self.state();
        if pages < state.pages {
            state.begin_anew();
        }
        state.pages = pages;
    }

    pub(super) fn after_fold(&self, fold: Fold, result: Folded) {
        let mut state = self.state();
        if fold == Fold::Truncate && !result.busy {
            state.end();
            return;
        }
        if fold == Fold::Truncate {
            if state.not_all_before == 0 {
                tracing::warn!(
                    pages = state.pages,
                    "a reader of the store keeps its log from beginning anew: the log grows for as long as that lasts"
                );
            }
            state.not_ended += 1;
            // Everybody waits while this is tried.
            state.not_all_before = state.pages.saturating_mul(2);
            state.not_before = state.pages + RETRY_PAGES;
        }
        if result.pages > state.pages {
            // It began anew since.
            return;
        }
        state.folded = result.folded;
        let in_the_way = result.busy || result.folded < result.pages;
        state.not_before = if in_the_way { state.pages + RETRY_PAGES } else { 0 };
    }

    /// After a fold that failed.
    pub(super) fn put_off(&self) {
        let mut state = self.state();
        state.not_ended += 1;
        state.not_before = state.pages + RETRY_PAGES;
    }

    /// After the file was opened anew: another log may be there. A commit that was reported as failed may be in it all the
    /// same, and before it what that has erased.
    pub(super) fn reopened(&self) {
        let mut state = self.state();
        state.begin_anew();
        state.must_end = true;
        state.not_ended = 0;
    }

    /// What to do now; when nothing is being written, also with what is not worth a fold otherwise.
    pub(super) fn due(&self, quiet: bool) -> Due {
        let state = self.state();
        let (pages, backlog) = (state.pages, state.backlog());
        let put_off = pages < state.not_before;
        if state.folding {
            Due::Nothing
        } else if state.must_end && (quiet || !put_off) {
            Due::All
        } else if put_off {
            Due::Nothing
        } else if pages >= LOG_PAGES_MAX && pages >= state.not_all_before {
            Due::All
        } else if pages >= LOG_PAGES && backlog < LAST_PAGES {
            Due::Rest
        } else if pages >= LOG_PAGES || backlog >= BACKLOG_PAGES || (quiet && backlog > 0) {
            Due::Aside
        } else {
            Due::Nothing
        }
    }

    /// Has the writer fold everything and cut the log's file as soon as it can: whenever it is quiet, if it cannot now.
    pub(super) fn end_soon(&self) {
        let mut state = self.state();
        state.must_end = true;
        state.not_ended = 0;
    }

    pub(super) fn is_to_end(&self) -> bool {
        self.state().must_end
    }

    /// How long nothing is written before it is quiet.
    pub(super) fn patience(&self) -> Duration {
        let state = self.state();
        match state.must_end {
            true => QUIET * (1 << state.not_ended.min(QUIET_DOUBLES)),
            false => QUIET,
        }
    }

    /// Whether it is for the caller to begin the fold beside the writer.
    fn begin_folding(&self) -> bool {
        !std::mem::replace(&mut self.state().folding, true)
    }

    fn end_folding(&self) {
        self.state().folding = false;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread that folds beside the writer.
#[derive(Debug)]
pub(super) struct Aside {
    log: Arc<Log>,
    /// `None` once it is to end.
    start: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Aside {
    pub(super) fn new(path: PathBuf, log: Arc<Log>, health: Arc<watch::Sender<Health>>) -> std::io::Result<Self> {
        let (start, started) = mpsc::sync_channel(1);
        let shared = Arc::clone(&log);
        let thread = thread::Builder::new().name("store-fold".to_owned()).spawn(move || {
            let mut connection = None;
            while started.recv().is_ok() {
                let folded = match &connection {
                    Some(open) => Fold::Passive.run(open),
                    None => file::writer(&path).and_then(|open| Fold::Passive.run(connection.insert(open))),
                };
                match folded {
                    Ok(folded) => shared.after_fold(Fold::Passive, folded),
                    Err(error) => {
                        failed(&error, &health);
                        shared.put_off();
                        connection = None;
                    }
                }
                shared.end_folding();
            }
        })?;
        Ok(Self {
            log,
            start: Some(start),
            thread: Some(thread),
        })
    }

    /// Folds what is in the log now, unless it is at work already. `false` when there is no thread to do it any more.
    pub(super) fn fold(&self) -> bool {
        if !self.log.begin_folding() {
            return true;
        }
        // There is room: it takes the last order before it is done with it.
        let ordered = self.start.as_ref().is_some_and(|start| start.try_send(()).is_ok());
        if !ordered {
            self.log.end_folding();
        }
        ordered
    }

    /// Waits for the fold under way, the last one.
    pub(super) fn end(&mut self) {
        self.start = None;
        if let Some(thread) = self.thread.take() {
            // It has said what was wrong.
            let _ = thread.join();
        }
    }
}

/// Tells of a fold that failed. Mostly nothing is lost: the log keeps what it has, and the next fold begins where this one
/// did.
///
/// A failed sync is another matter. SQLite counts pages as folded once it has written them, and syncs them when it comes to
/// the log's end; the system drops pages it could not write, and says so once. Another fold would begin behind them, find
/// nothing wrong, and let the log begin anew, with those pages in neither file. Only a start that reads the log from its
/// beginning brings them back.
pub(super) fn failed(error: &rusqlite::Error, health: &watch::Sender<Health>) {
    if file::is_failed_sync(error) {
        tracing::error!(%error, "store cannot tell what the disk has kept");
        health.send_replace(Health::Broken);
    } else {
        tracing::warn!(%error, "store cannot fold its log into the database");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(pages: u32, folded: u32) -> Folded {
        Folded {
            busy: false,
            pages,
            folded,
        }
    }

    fn due(log: &Log) -> Due {
        log.due(false)
    }

    #[test]
    fn a_backlog_is_folded_aside_and_the_rest_of_a_long_log_by_the_writer() {
        let log = Log::default();
        log.after_commit(BACKLOG_PAGES - 1);
        assert_eq!((due(&log), log.due(true)), (Due::Nothing, Due::Aside));
        log.after_commit(BACKLOG_PAGES);
        assert_eq!(due(&log), Due::Aside);

        log.after_fold(Fold::Passive, folded(BACKLOG_PAGES, BACKLOG_PAGES));
        assert_eq!((due(&log), log.due(true)), (Due::Nothing, Due::Nothing));
        log.after_commit(LOG_PAGES);
        assert_eq!(due(&log), Due::Aside);
        log.after_fold(Fold::Passive, folded(LOG_PAGES, LOG_PAGES));
        log.after_commit(LOG_PAGES + LAST_PAGES - 1);
        assert_eq!(due(&log), Due::Rest);
        log.after_commit(LOG_PAGES + LAST_PAGES);
        assert_eq!(due(&log), Due::Aside);

        // Another commit after the rest was folded begins the log anew.
        log.after_fold(Fold::Passive, folded(LOG_PAGES + LAST_PAGES, LOG_PAGES + LAST_PAGES));
        log.after_commit(3);
        assert_eq!((due(&log), log.due(true)), (Due::Nothing, Due::Aside));
    }

    #[test]
    fn a_fold_that_ends_after_the_log_began_anew_says_nothing_about_it() {
        let log = Log::default();
        log.after_commit(BACKLOG_PAGES);
        log.after_commit(3);
        log.after_fold(Fold::Passive, folded(BACKLOG_PAGES, BACKLOG_PAGES));
        log.after_commit(BACKLOG_PAGES);
        assert_eq!(due(&log), Due::Aside);
    }

    #[test]
    fn a_reader_in_the_way_puts_the_next_fold_off() {
        let log = Log::default();
        log.after_commit(BACKLOG_PAGES * 2);
        log.after_fold(Fold::Passive, folded(BACKLOG_PAGES * 2, 10));
        assert_eq!((due(&log), log.due(true)), (Due::Nothing, Due::Nothing));
        log.after_commit(BACKLOG_PAGES * 2 + RETRY_PAGES);
        assert_eq!(due(&log), Due::Aside);

        log.after_commit(LOG_PAGES_MAX);
        assert_eq!(due(&log), Due::All);
        log.put_off();
        assert_eq!(due(&log), Due::Nothing);
    }

    #[test]
    fn waiting_for_a_reader_that_stays_is_tried_ever_less_often() {
        let log = Log::default();
        let busy = |pages| Folded {
            busy: true,
            ..folded(pages, 10)
        };
        log.after_commit(LOG_PAGES_MAX);
        log.after_fold(Fold::Truncate, busy(LOG_PAGES_MAX));
        log.after_commit(LOG_PAGES_MAX + RETRY_PAGES);
        assert_eq!(due(&log), Due::Aside);
        log.after_commit(LOG_PAGES_MAX * 2);
        assert_eq!(due(&log), Due::All);
    }

    #[test]
    fn what_must_end_is_not_forgotten_before_its_file_is_cut() {
        let log = Log::default();
        log.after_commit(10);
        assert!(log.begin_folding());
        log.after_commit(20);
        log.end_soon();
        // A fold under way, which ends the backlog and not the file.
        assert_eq!((log.due(true), log.is_to_end()), (Due::Nothing, true));
        log.after_fold(Fold::Passive, folded(10, 10));
        log.end_folding();
        assert_eq!(due(&log), Due::All);

        // Readers, who are waited for while it is quiet and not at each commit.
        let busy = Folded {
            busy: true,
            ..folded(20, 20)
        };
        log.after_fold(Fold::Truncate, busy);
        assert_eq!((due(&log), log.due(true)), (Due::Nothing, Due::All));

        // The next commit begins the log anew, in front of what must go.
        log.after_commit(3);
        assert_eq!((due(&log), log.is_to_end()), (Due::All, true));
        log.after_fold(Fold::Truncate, folded(0, 0));
        assert_eq!((log.due(true), log.is_to_end()), (Due::Nothing, false));
        log.after_commit(3);
        assert_eq!(due(&log), Due::Nothing);
    }

    #[test]
    fn only_a_failed_sync_breaks_the_store() {
        use rusqlite::ffi;
        for (code, expected) in [
            (ffi::SQLITE_FULL, Health::Writable),
            (ffi::SQLITE_BUSY, Health::Writable),
            (ffi::SQLITE_IOERR_WRITE, Health::Writable),
            (ffi::SQLITE_IOERR_FSYNC, Health::Broken),
        ] {
            let (health, seen) = watch::channel(Health::Writable);
            failed(&rusqlite::Error::SqliteFailure(ffi::Error::new(code), None), &health);
            assert_eq!(*seen.borrow(), expected, "{code}");
        }
    }

    #[test]
    fn once_everything_is_folded_it_is_as_at_first() {
        let log = Log::default();
        log.after_commit(LOG_PAGES_MAX);
        log.after_fold(Fold::Truncate, folded(0, 0));
        assert_eq!((due(&log), log.due(true)), (Due::Nothing, Due::Nothing));
        log.after_commit(3);
        assert_eq!(due(&log), Due::Nothing);
        log.after_commit(BACKLOG_PAGES);
        assert_eq!(due(&log), Due::Aside);
    }
}
