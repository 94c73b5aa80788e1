//! The embedded store: one SQLite file, one thread that writes, a few connections that read.
//!
//! `file` opens and proves the file, `writer` owns the only connection that changes it and commits in groups, `write` is
//! what it does inside a transaction, and `retention` and `erasure` what removes; `floor` knows when the disk is nearly
//! full, `fold` brings what was committed from the log into the database meanwhile, `tail` keeps the newest events in
//! memory for those who follow the feed, `read` answers everything else.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
};

use jiff::Timestamp;
use tokio::sync::{
    Semaphore,
    mpsc::{self, error::TrySendError},
    oneshot, watch,
};

use super::{
    Erased, Error, Health, Mapped, Progress, PruneBefore, PruneReport, Receipt, Settlement, Submission, Whose, Wishes,
};
use crate::{config::From, event::Kept};

mod erasure;
mod file;
mod floor;
mod fold;
mod read;
mod retention;
mod tail;
mod write;
mod writer;

use erasure::{Erase, Search};
use floor::Floor;
pub(super) use read::Readers;
use tail::Tail;
use writer::{Command, Job, Parts, Writer};

/// What all submissions that wait for the disk may weigh together. Their number alone would allow for gigabytes.
const QUEUE_BYTES_MAX: u32 = 64 << 20;

/// Events, or webhooks, that one transaction erases.
const ERASE_STEP: usize = 100;

#[derive(Debug)]
pub(super) struct Sqlite {
    commands: mpsc::Sender<Command>,
    /// One permit a byte.
    room: Arc<Semaphore>,
    head: watch::Receiver<u64>,
    health: watch::Receiver<Health>,
    tail: Arc<Mutex<Tail>>,
    readers: Arc<Readers>,
    #[cfg(test)]
    pretended: floor::Pretended,
    /// Taken by the one who closes.
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Sqlite {
    pub(super) async fn open(path: PathBuf, queue_max: usize, disk_floor_bytes: u64) -> Result<Self, Error> {
        blocking(move || Self::open_blocking(path, queue_max, disk_floor_bytes)).await?
    }

    fn open_blocking(path: PathBuf, queue_max: usize, disk_floor_bytes: u64) -> Result<Self, Error> {
        let claim = file::Claim::of(path)?;
        let connection = claim.open()?;
        // Readers find the file by its path only, so they open after the writer has made it.
        let readers = Arc::new(Readers::of(claim.path()));
        let (commands, queue) = mpsc::channel(queue_max.max(1));
        let floor = Floor::new(claim.path(), disk_floor_bytes);
        #[cfg(test)]
        let pretended = floor.pretended.clone();
        let Parts {
            writer,
            head,
            tail,
            health,
        } = Writer::ready(claim, connection, queue, floor)?;
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| Error::Unavailable(format!("no thread for the writer: {error}")))?;
        Ok(Self {
            commands,
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX as usize)),
            head,
            health,
            tail,
            readers,
            #[cfg(test)]
            pretended,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(super) async fn keep(&self, submission: Submission) -> Result<Receipt, Error> {
        let bytes = u32::try_from(writer::weight(&submission)).unwrap_or(QUEUE_BYTES_MAX);
        let Ok(room) = self.room.clone().try_acquire_many_owned(bytes.min(QUEUE_BYTES_MAX)) else {
            return Err(Error::Busy(self.commands.max_capacity() - self.commands.capacity()));
        };
        let (job, answer) = Job::new(Box::new(submission));
        match self.commands.try_send(Command::Keep(job, room)) {
            Ok(()) => answered(answer).await,
            Err(TrySendError::Full(_)) => Err(Error::Busy(self.commands.max_capacity())),
            Err(TrySendError::Closed(_)) => Err(closed()),
        }
    }

    pub(super) async fn keep_again(&self, webhook: u64, outcome: Mapped) -> Result<Option<Receipt>, Error> {
        self.ask((webhook, outcome), Command::KeepAgain).await
    }

    pub(super) async fn settle(&self, settlement: Arc<Settlement>) -> Result<(), Error> {
        self.ask(settlement, Command::Settle).await
    }

    pub(super) fn head(&self) -> watch::Receiver<u64> {
        self.head.clone()
    }

    pub(super) fn health(&self) -> watch::Receiver<Health> {
        self.health.clone()
    }

    pub(super) async fn read(&self, after: u64, limit: usize) -> Result<Vec<Arc<Kept>>, Error> {
        let at_tail = self.tail().after(after, limit);
        match at_tail {
            Some(events) => Ok(events),
            None => self.readers.feed(after, limit).await,
        }
    }

    pub(super) async fn fetch(&self, seqs: &[u64]) -> Result<Vec<Arc<Kept>>, Error> {
        let mut found: Vec<Option<Arc<Kept>>> = {
            let tail = self.tail();
            seqs.iter().map(|seq| tail.at(*seq)).collect()
        };
        let missing: Vec<u64> = seqs
            .iter()
            .zip(&found)
            .filter(|(_, event)| event.is_none())
            .map(|(seq, _)| *seq)
            .collect();
        if !missing.is_empty() {
            let mut read = self.readers.fetch(missing).await?.into_iter();
            for event in found.iter_mut().filter(|event| event.is_none()) {
                *event = read.next().flatten();
            }
        }
        Ok(found.into_iter().flatten().collect())
    }

    pub(super) async fn progress(&self, subscriber: &str, from: From) -> Result<Progress, Error> {
        let begin = match from {
            From::Now => None,
            From::Start => self.readers.place_to_begin(subscriber, Timestamp::MIN).await?,
            // Everybody would wait for the search if the writer made it.
            From::Time(since) => self.readers.place_to_begin(subscriber, since).await?,
        };
        self.ask((subscriber.to_owned(), begin), Command::Progress).await
    }

    pub(super) async fn wishes(&self, subscriber: &str) -> Result<Wishes, Error> {
        self.ask(subscriber.to_owned(), Command::Wishes).await
    }

    pub(super) async fn replay(&self, subscriber: &str, seqs: Vec<u64>) -> Result<(), Error> {
        self.ask((subscriber.to_owned(), seqs), Command::Replay).await
    }

    pub(super) async fn resume(&self, subscriber: &str) -> Result<(), Error> {
        self.ask(subscriber.to_owned(), Command::Resume).await
    }

    pub(super) async fn erase(&self, whose: Whose, dry_run: bool) -> Result<Erased, Error> {
        let mut search = Search::new(whose);
        let mut erased = Erased::default();
        // Until nothing came while the rest was erased.
        loop {
            let found = self.readers.find(&mut search).await?;
            erased.events += found.events.len();
            erased.webhooks += found.webhooks.len();
            if dry_run || found.is_empty() {
                return Ok(erased);
            }
            for events in found.events.chunks(ERASE_STEP) {
                self.ask(Erase::Events(events.to_vec()), Command::Erase).await?;
            }
            for webhooks in found.webhooks.chunks(ERASE_STEP) {
                self.ask(Erase::Webhooks(webhooks.to_vec()), Command::Erase).await?;
            }
        }
    }

    pub(super) async fn prune(&self, before: PruneBefore) -> Result<PruneReport, Error> {
        self.ask(before, Command::Prune).await
    }

    pub(super) async fn close(&self) -> Result<(), Error> {
        // No reader may be left when the writer closes: the last connection out folds the log into the file.
        self.readers.close().await;
        let result = self.ask((), Command::Close).await;
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            blocking(move || thread.join())
                .await?
                .map_err(|_| Error::Unavailable("the writer ended abnormally".to_owned()))?;
        }
        result
    }

    pub(super) fn readers(&self) -> Arc<Readers> {
        self.readers.clone()
    }

    /// Runs SQL on the writer's connection, to bring a test into a state that only time or a full disk would.
    #[cfg(test)]
    pub(super) async fn execute(&self, sql: &str) -> Result<(), Error> {
        self.ask(sql.to_owned(), Command::Execute).await
    }

    /// From now on so much is free on the disk.
    #[cfg(test)]
    pub(super) fn pretend_free(&self, bytes: u64) {
        *self.pretended.lock().expect("no test panics with it") = Some(bytes);
    }

    /// Fails the group it is in as a disk does that could not sync.
    #[cfg(test)]
    pub(super) async fn fail_to_sync(&self) -> Result<(), Error> {
        self.ask((), Command::FailToSync).await
    }

    async fn ask<I, O>(&self, input: I, command: impl FnOnce(Job<I, O>) -> Command) -> Result<O, Error> {
        let (job, answer) = Job::new(input);
        self.commands.send(command(job)).await.map_err(|_| closed())?;
        answered(answer).await
    }

    fn tail(&self) -> std::sync::MutexGuard<'_, Tail> {
        self.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn answered<O>(answer: oneshot::Receiver<Result<O, Error>>) -> Result<O, Error> {
    answer
        .await
        .unwrap_or_else(|_| Err(Error::Unavailable("the writer has ended".to_owned())))
}

fn closed() -> Error {
    Error::Unavailable("the store is closed".to_owned())
}

/// Runs what waits for the disk on a thread where waiting is allowed.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Unavailable(format!("a task of the store ended abnormally: {error}")))
}
