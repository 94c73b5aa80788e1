//! Folding the log into the database: what was committed to the log is written to its place in the database, so that the
//! log can begin anew.
//!
//! A thread of its own folds while the writer goes on writing, on a connection of its own. The writer folds itself only
//! what is left at the end, so that there is a moment without a backlog, in which SQLite begins the log anew.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::{self, SyncSender},
    },
    thread::{self, JoinHandle},
};

use rusqlite::Connection;

use super::file;

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

/// How much of the log to fold.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fold {
    /// What no reader is in the way of.
    WhatCanBe,
    /// Everything, waiting for readers a moment, and cut the log's file.
    AllAndShrink,
}

impl Fold {
    /// Pages in the log, and how many of them are in the database.
    pub(super) fn run(self, connection: &Connection) -> rusqlite::Result<(u32, u32)> {
        let sql = match self {
            Self::WhatCanBe => "PRAGMA wal_checkpoint(PASSIVE)",
            Self::AllAndShrink => "PRAGMA wal_checkpoint(TRUNCATE)",
        };
        // SQLite counts -1 when there is no log.
        let count = |pages: i64| u32::try_from(pages).unwrap_or(0);
        connection.query_row(sql, [], |row| Ok((count(row.get(1)?), count(row.get(2)?))))
    }
}

/// How long the log is and how much of it is in the database already.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Set by SQLite after each commit.
    pages: AtomicU32,
    folded: AtomicU32,
    /// No fold before the log is as long as this.
    not_before: AtomicU32,
    /// The other thread is at work.
    folding: AtomicBool,
}

impl Log {
    pub(super) fn watch(self: &Arc<Self>, connection: &mut Connection) -> rusqlite::Result<()> {
        let log = Arc::clone(self);
        connection.wal_hook(Some(move |_: &mut rusqlite::hooks::Wal, count: i32| {
            log.grown(count.unsigned_abs());
            Ok(())
        }))
    }

    /// After a commit. A log that is shorter than what was folded was folded all of it and began anew.
    fn grown(&self, pages: u32) {
        self.pages.store(pages, Ordering::Relaxed);
        if pages < self.folded.load(Ordering::Relaxed) {
            self.folded.store(0, Ordering::Relaxed);
            self.not_before.store(0, Ordering::Relaxed);
        }
    }

    fn pages(&self) -> u32 {
        self.pages.load(Ordering::Relaxed)
    }

    pub(super) fn backlog(&self) -> u32 {
        self.pages().saturating_sub(self.folded.load(Ordering::Relaxed))
    }

    pub(super) fn due(&self) -> Due {
        let pages = self.pages();
        if self.folding.load(Ordering::Acquire) || pages < self.not_before.load(Ordering::Relaxed) {
            return Due::Nothing;
        }
        match self.backlog() {
            _ if pages >= LOG_PAGES_MAX => Due::All,
            0..LAST_PAGES if pages >= LOG_PAGES => Due::Rest,
            BACKLOG_PAGES.. => Due::Aside,
            _ if pages >= LOG_PAGES => Due::Aside,
            _ => Due::Nothing,
        }
    }

    /// After a fold. `pages` is as old as the fold's beginning.
    pub(super) fn folded(&self, pages: u32, folded: u32) {
        self.folded.store(folded, Ordering::Relaxed);
        let in_the_way = folded < pages || self.pages() >= LOG_PAGES_MAX;
        let not_before = if in_the_way { self.pages() + RETRY_PAGES } else { 0 };
        self.not_before.store(not_before, Ordering::Relaxed);
    }

    /// After the file was opened anew, with everything in the database.
    pub(super) fn begin_anew(&self) {
        self.pages.store(0, Ordering::Relaxed);
        self.folded.store(0, Ordering::Relaxed);
        self.not_before.store(0, Ordering::Relaxed);
    }

    pub(super) fn put_off(&self) {
        self.not_before.store(self.pages() + RETRY_PAGES, Ordering::Relaxed);
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
    pub(super) fn new(path: PathBuf, log: Arc<Log>) -> std::io::Result<Self> {
        let (start, started) = mpsc::sync_channel(1);
        let shared = Arc::clone(&log);
        let thread = thread::Builder::new().name("store-fold".to_owned()).spawn(move || {
            let mut connection = None;
            while started.recv().is_ok() {
                let folded = match &connection {
                    Some(open) => Fold::WhatCanBe.run(open),
                    None => file::writer(&path).and_then(|open| Fold::WhatCanBe.run(connection.insert(open))),
                };
                match folded {
                    Ok((pages, folded)) => shared.folded(pages, folded),
                    Err(error) => {
                        report(&error);
                        shared.put_off();
                        connection = None;
                    }
                }
                shared.folding.store(false, Ordering::Release);
            }
        })?;
        Ok(Self {
            log,
            start: Some(start),
            thread: Some(thread),
        })
    }

    /// Folds what is in the log now, unless it is at work already.
    pub(super) fn fold(&self) {
        if !self.log.folding.swap(true, Ordering::Acquire)
            && let Some(start) = &self.start
        {
            // There is room: it takes the last order before it is done with it.
            let _ = start.try_send(());
        }
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

/// Nothing is lost: the log keeps what it has, and the next fold begins where this one did.
pub(super) fn report(error: &rusqlite::Error) {
    tracing::warn!(%error, "store cannot fold its log into the database");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backlog_is_folded_aside_and_the_rest_of_a_long_log_by_the_writer() {
        let log = Log::default();
        log.grown(BACKLOG_PAGES - 1);
        assert_eq!(log.due(), Due::Nothing);
        log.grown(BACKLOG_PAGES);
        assert_eq!(log.due(), Due::Aside);

        log.folded(BACKLOG_PAGES, BACKLOG_PAGES);
        assert_eq!((log.backlog(), log.due()), (0, Due::Nothing));
        log.grown(LOG_PAGES);
        assert_eq!(log.due(), Due::Aside);
        log.folded(LOG_PAGES, LOG_PAGES);
        log.grown(LOG_PAGES + LAST_PAGES - 1);
        assert_eq!(log.due(), Due::Rest);
        log.grown(LOG_PAGES + LAST_PAGES);
        assert_eq!(log.due(), Due::Aside);

        // Another commit after the rest was folded begins the log anew.
        log.folded(LOG_PAGES + LAST_PAGES, LOG_PAGES + LAST_PAGES);
        log.grown(3);
        assert_eq!((log.backlog(), log.due()), (3, Due::Nothing));
    }

    #[test]
    fn a_reader_in_the_way_puts_the_next_fold_off() {
        let log = Log::default();
        log.grown(BACKLOG_PAGES * 2);
        log.folded(BACKLOG_PAGES * 2, 10);
        assert_eq!(log.due(), Due::Nothing);
        log.grown(BACKLOG_PAGES * 2 + RETRY_PAGES);
        assert_eq!(log.due(), Due::Aside);

        log.grown(LOG_PAGES_MAX);
        assert_eq!(log.due(), Due::All);
        log.put_off();
        assert_eq!(log.due(), Due::Nothing);
    }
}
