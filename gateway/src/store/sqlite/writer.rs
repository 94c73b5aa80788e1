//! The one thread that writes. It takes whatever waits, commits it as one group, and only then answers.
//!
//! Everybody in a group shares one sync of the disk, so that many at once cost little more than one. A group that the
//! disk refuses fails as a whole and the next one tries again; a submission that is at fault itself fails alone.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};

use super::{
    erasure::{self, Erase},
    file::{self, Claim},
    floor::Floor,
    fold::{self, Aside, Due, Fold, Log},
    retention,
    tail::Tail,
    write::{self, Draft},
};
use crate::{
    clock,
    store::{Error, Health, Mapped, Progress, PruneBefore, PruneReport, Receipt, Settlement, Submission, Wishes},
};

/// Bounds on what one transaction takes in, and with it on what one failure takes down and how long one sync is.
const GROUP_COMMANDS_MAX: usize = 512;
const GROUP_BYTES_MAX: usize = 16 << 20;

/// How often a store that refused a write looks whether it can write again.
const PROBE: Duration = Duration::from_secs(1);

/// What callers ask of the writer.
#[derive(Debug)]
pub(super) enum Command {
    /// With its room in the queue, which it gives back when it is answered.
    Keep(Job<Box<Submission>, Receipt>, OwnedSemaphorePermit),
    Erase(Job<Erase, ()>),
    KeepAgain(Job<(u64, Mapped), Option<Receipt>>),
    Settle(Job<Arc<Settlement>, ()>),
    Progress(Job<(String, Option<u64>), Progress>),
    Wishes(Job<String, Wishes>),
    Replay(Job<(String, Vec<u64>), ()>),
    Resume(Job<String, ()>),
    Prune(Job<PruneBefore, PruneReport>),
    Close(Job<(), ()>),
    #[cfg(test)]
    Execute(Job<String, ()>),
    #[cfg(test)]
    FailToSync(Job<(), ()>),
}

/// A question, the answer as soon as there is one, and the way to who asked.
#[derive(Debug)]
pub(super) struct Job<I, O> {
    input: I,
    output: Option<O>,
    reply: oneshot::Sender<Result<O, Error>>,
}

impl<I, O> Job<I, O> {
    pub(super) fn new(input: I) -> (Self, oneshot::Receiver<Result<O, Error>>) {
        let (reply, answer) = oneshot::channel();
        let job = Self {
            input,
            output: None,
            reply,
        };
        (job, answer)
    }

    fn answer(self, result: Result<(), Error>) {
        let result = result.map(|()| self.output.expect("what was committed was worked out before"));
        // Who no longer waits learns from the feed.
        drop(self.reply.send(result));
    }
}

impl Command {
    /// Does the work inside the open transaction.
    fn apply(&mut self, connection: &Connection, draft: &mut Draft, now: jiff::Timestamp) -> rusqlite::Result<()> {
        match self {
            Self::Keep(job, _) => job.output = Some(write::keep(connection, draft, now, &job.input)?),
            Self::Erase(job) => job.output = Some(erasure::erase(connection, draft, &job.input)?),
            Self::KeepAgain(job) => {
                let (webhook, outcome) = &job.input;
                job.output = Some(write::keep_again(connection, draft, now, *webhook, outcome)?);
            }
            Self::Settle(job) => job.output = Some(write::settle(connection, now, &job.input)?),
            Self::Progress(job) => {
                let (subscriber, begin) = &job.input;
                job.output = Some(write::progress(connection, draft, subscriber, *begin)?);
            }
            Self::Wishes(job) => job.output = Some(write::wishes(connection, &job.input)?),
            Self::Replay(job) => {
                let (subscriber, seqs) = &job.input;
                job.output = Some(write::replay(connection, now, subscriber, seqs)?);
            }
            Self::Resume(job) => job.output = Some(write::resume(connection, &job.input)?),
            Self::Prune(job) => job.output = Some(retention::prune(connection, draft, &job.input)?),
            Self::Close(job) => job.output = Some(()),
            #[cfg(test)]
            Self::Execute(job) => job.output = Some(connection.execute_batch(&job.input)?),
            #[cfg(test)]
            Self::FailToSync(_) => {
                let failure = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
                return Err(rusqlite::Error::SqliteFailure(failure, None));
            }
        }
        Ok(())
    }

    fn answer(self, result: Result<(), Error>) {
        match self {
            Self::Keep(job, _room) => job.answer(result),
            Self::Erase(job) => job.answer(result),
            Self::KeepAgain(job) => job.answer(result),
            Self::Settle(job) => job.answer(result),
            Self::Progress(job) => job.answer(result),
            Self::Wishes(job) => job.answer(result),
            Self::Replay(job) => job.answer(result),
            Self::Resume(job) => job.answer(result),
            Self::Prune(job) => job.answer(result),
            Self::Close(job) => job.answer(result),
            #[cfg(test)]
            Self::Execute(job) => job.answer(result),
            #[cfg(test)]
            Self::FailToSync(job) => job.answer(result),
        }
    }

    /// Roughly the bytes it adds to a transaction.
    fn weight(&self) -> usize {
        match self {
            Self::Keep(job, _) => weight(&job.input),
            Self::Settle(job) => {
                let attempts = job.input.attempts.iter();
                attempts
                    .map(|attempt| attempt.request_headers.len() + attempt.response.len())
                    .sum()
            }
            _ => 0,
        }
    }
}

pub(super) struct Writer {
    claim: Claim,
    /// `None` after the disk failed, until it can be opened again.
    connection: Option<Connection>,
    commands: mpsc::Receiver<Command>,
    /// The numbering as it is on disk.
    durable: Draft,
    tail: Arc<Mutex<Tail>>,
    head: watch::Sender<u64>,
    log: Arc<Log>,
    aside: Aside,
    floor: Floor,
    health: Arc<watch::Sender<Health>>,
}

/// A writer, and what others see of it.
pub(super) struct Parts {
    pub(super) writer: Writer,
    pub(super) head: watch::Receiver<u64>,
    pub(super) tail: Arc<Mutex<Tail>>,
    pub(super) health: watch::Receiver<Health>,
}

impl Writer {
    pub(super) fn ready(
        claim: Claim,
        mut connection: Connection,
        commands: mpsc::Receiver<Command>,
        floor: Floor,
    ) -> Result<Parts, Error> {
        let unreadable = |error: rusqlite::Error| Error::Open {
            path: claim.path().display().to_string(),
            detail: error.to_string(),
        };
        let log = Arc::new(Log::default());
        log.watch(&mut connection).map_err(unreadable)?;
        if claim.has_log() {
            log.end_soon();
        }
        let (health, healths) = watch::channel(Health::Writable);
        let health = Arc::new(health);
        let aside = Aside::new(claim.path().to_owned(), Arc::clone(&log), Arc::clone(&health))
            .map_err(|error| Error::Unavailable(format!("no thread for the log: {error}")))?;
        let durable = Draft::load(&connection).map_err(unreadable)?;
        let tail = Arc::new(Mutex::new(Tail::new(durable.head)));
        let (head, heads) = watch::channel(durable.head);
        let writer = Self {
            claim,
            connection: Some(connection),
            commands,
            durable,
            tail: tail.clone(),
            head,
            log,
            aside,
            floor,
            health,
        };
        Ok(Parts {
            writer,
            head: heads,
            tail,
            health: healths,
        })
    }

    /// Until closed, or until the last handle is gone.
    pub(super) fn run(mut self) {
        // Only for the timer of the quiet moments; nothing else runs on it.
        let timer = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime without I/O needs nothing from the system");
        let mut waiting = Vec::with_capacity(GROUP_COMMANDS_MAX);
        let mut closing = Vec::new();
        loop {
            let received = timer.block_on(self.next(&mut waiting));
            if received == Some(0) {
                break;
            }
            if received.is_none() {
                self.tidy_up();
            }
            for close in waiting.extract_if(.., |command| matches!(command, Command::Close(_))) {
                // What was sent before is still received; nothing can be sent any more.
                self.commands.close();
                closing.push(close);
            }
            while !waiting.is_empty() {
                let rest = waiting.split_off(group_len(&waiting));
                self.group(std::mem::replace(&mut waiting, rest));
                self.fold_if_due(false);
            }
        }
        self.close();
        for mut close in closing {
            if let Command::Close(job) = &mut close {
                job.output = Some(());
            }
            close.answer(Ok(()));
        }
    }

    /// How many commands came, 0 after the last one; `None` when it stayed quiet and there is something to tidy up.
    async fn next(&mut self, waiting: &mut Vec<Command>) -> Option<usize> {
        let receive = self.commands.recv_many(waiting, GROUP_COMMANDS_MAX);
        let patience = match *self.health.borrow() {
            Health::Writable if self.log.due(true) == Due::Nothing && !self.log.is_to_end() => {
                return Some(receive.await);
            }
            Health::Writable => self.log.patience(),
            Health::Refusing => PROBE,
            Health::Broken => return Some(receive.await),
        };
        tokio::time::timeout(patience, receive).await.ok()
    }

    /// While nobody asks for anything.
    fn tidy_up(&mut self) {
        if *self.health.borrow() == Health::Refusing {
            // Who looks whether we are ready sends nothing before we are.
            self.group(Vec::new());
        }
        self.fold_if_due(true);
    }

    fn group(&mut self, mut group: Vec<Command>) {
        let connection = self.connection.as_ref();
        let free_inside = || connection.and_then(|it| file::free_bytes(it).ok()).unwrap_or(0);
        let no_room = self.floor.refusal(free_inside);
        if let Some(no_room) = &no_room {
            self.report(Some(no_room));
            let adds = |command: &mut Command| matches!(command, Command::Keep(..) | Command::KeepAgain(_));
            for keep in group.extract_if(.., adds) {
                keep.answer(Err(no_room.clone()));
            }
        }
        let results = self.commit_group(&mut group);
        if no_room.is_none() {
            self.report(results.as_ref().err());
        }
        match results {
            Ok(results) => {
                for (command, result) in group.into_iter().zip(results) {
                    command.answer(result);
                }
            }
            Err(error) => {
                for command in group {
                    command.answer(Err(error.clone()));
                }
            }
        }
    }

    /// One transaction for all. The outer error is the disk's and everybody's, an inner one is that command's own.
    fn commit_group(&mut self, group: &mut [Command]) -> Result<Vec<Result<(), Error>>, Error> {
        let now = clock::now();
        self.recover()?;
        let connection = self.connection.as_ref().expect("recovered above");
        let mut draft = self.durable.clone();
        let is_refusing = *self.health.borrow() == Health::Refusing;
        let together = transaction(connection, || {
            if is_refusing {
                write::probe(connection)?;
            }
            group
                .iter_mut()
                .try_for_each(|command| command.apply(connection, &mut draft, now))
        });
        let outcome = match together {
            Ok(()) => Ok(vec![Ok(()); group.len()]),
            Err(error) if is_own_fault(&error) => {
                draft = self.durable.clone();
                transaction(connection, || {
                    let results = group.iter_mut().map(|command| {
                        let before = draft.clone();
                        let result = write::apart(connection, || command.apply(connection, &mut draft, now));
                        match result {
                            Ok(()) => Ok(Ok(())),
                            Err(error) if is_own_fault(&error) => {
                                draft = before;
                                Ok(Err(unavailable(error)))
                            }
                            Err(error) => Err(error),
                        }
                    });
                    results.collect()
                })
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(results) => {
                self.publish(draft);
                Ok(results)
            }
            Err(error) => {
                // One whose transaction would not end takes no other.
                if !leaves_the_file_sound(&error) || !connection.is_autocommit() {
                    self.connection = None;
                }
                Err(unavailable(error))
            }
        }
    }

    /// Tells everyone who follows the feed, after the commit and before the answers.
    fn publish(&mut self, mut draft: Draft) {
        let kept = std::mem::take(&mut draft.kept);
        let grown = draft.head != self.durable.head;
        let erased = std::mem::take(&mut draft.erased);
        self.durable = draft;
        if erased {
            *self.tail.lock().unwrap_or_else(PoisonError::into_inner) = Tail::new(self.durable.head);
            // What was erased is in the log, too.
            self.log.end_soon();
        }
        if grown {
            let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
            for event in kept {
                tail.push(event);
            }
            drop(tail);
            self.head.send_replace(self.durable.head);
        }
    }

    /// Opens the file again where a failure of the disk closed it.
    fn recover(&mut self) -> Result<(), Error> {
        if *self.health.borrow() == Health::Broken {
            return Err(Error::Unavailable(
                "the disk failed to keep what it was given; the gateway must start again to learn what is there"
                    .to_owned(),
            ));
        }
        if self.connection.is_some() {
            return Ok(());
        }
        let mut connection = self.claim.reopen().map_err(|error| {
            if file::is_failed_sync(&error) {
                fold::failed(&error, &self.health);
            }
            unavailable(error)
        })?;
        let durable = Draft::load(&connection).map_err(unavailable)?;
        self.log.reopened();
        self.log.watch(&mut connection).map_err(unavailable)?;
        self.connection = Some(connection);
        // A commit that was reported as failed may have reached the disk after all. Its senders try again and are
        // recognised; what it erased is erased.
        *self.tail.lock().unwrap_or_else(PoisonError::into_inner) = Tail::new(durable.head);
        self.head.send_replace(durable.head);
        self.durable = durable;
        Ok(())
    }

    /// Says once, not once a group, whether the store takes writes.
    fn report(&mut self, failure: Option<&Error>) {
        let health = match failure {
            Some(_) => Health::Refusing,
            None => Health::Writable,
        };
        self.health.send_if_modified(|known| {
            let news = *known != health && *known != Health::Broken;
            if news {
                *known = health;
                match failure {
                    Some(error) => tracing::error!(%error, "store does not accept writes"),
                    None => tracing::info!("store accepts writes again"),
                }
            }
            news
        });
    }

    fn fold_if_due(&mut self, quiet: bool) {
        match self.log.due(quiet) {
            Due::Nothing => {}
            Due::Aside if self.aside.fold() => {}
            Due::Aside | Due::Rest => self.fold(Fold::Passive),
            Due::All => self.fold(Fold::Truncate),
        }
    }

    fn fold(&mut self, fold: Fold) {
        let Some(connection) = &self.connection else { return };
        match fold.run(connection) {
            Ok(folded) => self.log.after_fold(fold, folded),
            Err(error) => {
                fold::failed(&error, &self.health);
                self.log.put_off();
                if !leaves_the_file_sound(&error) {
                    self.drop_connection();
                }
            }
        }
    }

    /// Gives the file free, with everything in the database.
    fn close(mut self) {
        // The other connection first: the last one out clears the log away.
        self.aside.end();
        if *self.health.borrow() != Health::Broken {
            self.fold(Fold::Truncate);
        }
        self.drop_connection();
    }

    /// Where the disk cannot be trusted, only a start may touch the log again.
    fn drop_connection(&mut self) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if *self.health.borrow() == Health::Broken
            && let Err(error) = file::leave_the_log(&connection, true)
        {
            tracing::error!(%error, "store cannot keep its log");
        }
    }
}

/// Roughly the bytes a submission takes, in the queue and in a transaction.
pub(super) fn weight(submission: &Submission) -> usize {
    let events = match &submission.outcome {
        Mapped::Events(events) => events.iter().map(|event| event.open_json.len()).sum(),
        Mapped::Quarantined { detail, .. } => detail.len(),
    };
    let webhook = &submission.webhook;
    webhook.body.len() + webhook.payload.as_ref().map_or(0, String::len) + events
}

/// The commands at the front that make one transaction; at least one.
fn group_len(waiting: &[Command]) -> usize {
    let mut bytes = 0;
    let fit = waiting.iter().take_while(|command| {
        bytes += command.weight();
        bytes <= GROUP_BYTES_MAX
    });
    fit.count().max(1)
}

fn transaction<T>(connection: &Connection, work: impl FnOnce() -> rusqlite::Result<T>) -> rusqlite::Result<T> {
    write::begin(connection)?;
    let result = work().and_then(|value| write::commit(connection).map(|()| value));
    // Some failures have rolled back already.
    if result.is_err() && !connection.is_autocommit() {
        write::rollback(connection)?;
    }
    result
}

/// The statement was at fault, not the disk: its neighbours can be kept.
fn is_own_fault(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => matches!(
            code,
            ErrorCode::ConstraintViolation
                | ErrorCode::TooBig
                | ErrorCode::TypeMismatch
                | ErrorCode::ParameterOutOfRange
                | ErrorCode::Unknown
        ),
        // A value that SQLite has no place for.
        None => true,
    }
}

/// After these the connection's view of the file is still right.
fn leaves_the_file_sound(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked)
    ) || is_own_fault(error)
}

fn unavailable(error: rusqlite::Error) -> Error {
    Error::Unavailable(error.to_string())
}
