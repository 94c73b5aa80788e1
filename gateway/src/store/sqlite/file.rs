//! The file: made for its owner only, claimed by one gateway, proved to be ours and whole, brought to today's schema.

use std::{
    fs,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, config::DbConfig};

use super::fold::Fold;
use crate::store::Error;

/// `cfed`, at a fixed place in the file's head: tells our files from those of every other program.
const APPLICATION_ID: i64 = 0x6366_6564;

/// What the lock file says once the database beside it was made.
const MADE: &[u8] = b"callfeed\n";

/// Each brings the schema from the version that is its index to the next one.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../../migrations/sqlite/0001_feed.sql"),
    include_str!("../../../migrations/sqlite/0002_bounds.sql"),
    include_str!("../../../migrations/sqlite/0003_operate.sql"),
    include_str!("../../../migrations/sqlite/0004_breaker.sql"),
    include_str!("../../../migrations/sqlite/0005_replay.sql"),
    include_str!("../../../migrations/sqlite/0006_schedule.sql"),
];

const PAGE_BYTES: u32 = 4096;
const WRITER_CACHE_KIB: u32 = 32 << 10;
const READER_CACHE_KIB: u32 = 4 << 10;

/// Every statement of the room fits, so that none is prepared twice.
const STATEMENTS_MAX: usize = 64;

/// How long another program may hold the file before a write counts as failed.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(2);

/// A damaged file shows early or not at all within a start that someone waits for.
const CHECK_MAX: Duration = Duration::from_secs(10);

/// What the log file may keep of its size once its content is in the database: reusing it is faster than growing it.
const LOG_KEPT_BYTES: u32 = 64 << 20;

/// What is read and written of the log at once, to prove it.
const REWRITE_BYTES: u64 = 1 << 20;

/// Both copies of the header of SQLite's index of the log, as in a file just made: the index is made anew.
const NO_INDEX: [u8; 96] = [0; 96];

/// A file that this process alone writes to, for as long as this value lives.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    /// Holds [`MADE`] once the database was made.
    lock: fs::File,
}

impl Claim {
    /// Makes the file and its directory where they are missing, and locks out every other gateway.
    ///
    /// The lock is on a file beside it: SQLite's own locks are taken and dropped with each transaction.
    pub(super) fn of(path: PathBuf) -> Result<Self, Error> {
        let named = path.display().to_string();
        let failed = |detail: String| Error::Open {
            path: named.clone(),
            detail,
        };
        make(&path).map_err(|error| failed(error.to_string()))?;
        // One file has one lock, by whichever link it is named.
        let path = fs::canonicalize(&path).map_err(|error| failed(error.to_string()))?;
        let mut lock_path = path.clone().into_os_string();
        lock_path.push(".lock");
        let lock = owner_only()
            .open(&lock_path)
            .map_err(|error| failed(format!("cannot open {}: {error}", lock_path.display())))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(failed(
                    "another gateway is running on it; stop that one, or give this one a file of its own".to_owned(),
                ));
            }
            Err(fs::TryLockError::Error(error)) => {
                return Err(failed(format!("cannot lock {}: {error}", lock_path.display())));
            }
        }
        Ok(Self { path, lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The first connection of a gateway's life: proves the file before anything relies on it.
    pub(super) fn open(&self) -> Result<Connection, Error> {
        let doubt = |error: rusqlite::Error| doubt(&self.path, &error);
        let mut connection = connect(&self.path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(doubt)?;
        // What is not ours, or not proven, is left as it is.
        leave_the_log(&connection, true).map_err(doubt)?;
        let mut known = version(&connection, &self.path)?;
        if self.has_log() && (known.is_some() || self.was_made()) {
            self.alone(&connection, || {
                rewrite(&beside(&self.path, "-wal"))?;
                self.forget_index()
            })
            .map_err(doubt)?;
            known = version(&connection, &self.path)?;
        }
        if known.is_some() {
            check(&mut connection, &self.path)?;
        } else if self.was_made() {
            return Err(corrupt(&self.path, "it is empty, and once was not".to_owned()));
        } else {
            connection.pragma_update(None, "page_size", PAGE_BYTES).map_err(doubt)?;
        }
        leave_the_log(&connection, false).map_err(doubt)?;
        prepare_writer(&connection).map_err(doubt)?;
        migrate(&mut connection, known.unwrap_or(0)).map_err(doubt)?;
        self.note_made().map_err(|error| Error::Open {
            path: self.path.display().to_string(),
            detail: format!("cannot write to its lock file: {error}"),
        })?;
        match Fold::Truncate.run(&connection) {
            // A reader of another process is in no one's way yet, nor is a database that cannot grow: that is met when
            // writing.
            Ok(_) => Ok(connection),
            Err(error) if is_full(&error) => Ok(connection),
            Err(error) => Err(doubt(error)),
        }
    }

    /// A fresh connection after a commit failed: nothing that was cached is trusted.
    pub(super) fn reopen(&self) -> rusqlite::Result<Connection> {
        let connection = writer(&self.path)?;
        self.alone(&connection, || rewrite(&beside(&self.path, "-wal")))?;
        leave_the_log(&connection, false)?;
        Ok(connection)
    }

    /// While no other process writes, empties the log or removes it.
    fn alone(&self, connection: &Connection, work: impl FnOnce() -> rusqlite::Result<()>) -> rusqlite::Result<()> {
        connection.execute_batch("BEGIN IMMEDIATE")?;
        let done = work();
        // There is nothing to commit. But a rollback would go by the index, which may be forgotten.
        connection.execute_batch("COMMIT").and(done)
    }

    /// Has SQLite read the log from its beginning. A connection of another process, idle for as long as it likes, keeps the
    /// index in memory, and it says how much of the log is in the database already; but not that the database was synced
    /// since, nor that a sync has failed. What is folded again is written again.
    fn forget_index(&self) -> rusqlite::Result<()> {
        let path = beside(&self.path, "-shm");
        let forgotten = fs::OpenOptions::new().write(true).open(&path).and_then(|mut index| {
            let written = index.write_all(&NO_INDEX);
            // Closing it would drop every lock that SQLite has on it in this process.
            std::mem::forget(index);
            written
        });
        match forgotten {
            // Somebody had it without a log.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            forgotten => forgotten.map_err(|error| failure(rusqlite::ffi::SQLITE_IOERR, &path, &error)),
        }
    }

    /// One that an earlier process left: what was erased may still be in it.
    pub(super) fn has_log(&self) -> bool {
        fs::metadata(beside(&self.path, "-wal")).is_ok_and(|log| log.len() > 0)
    }

    /// A database that something else emptied looks like one that was never made.
    fn was_made(&self) -> bool {
        self.lock.metadata().is_ok_and(|metadata| metadata.len() > 0)
    }

    fn note_made(&self) -> io::Result<()> {
        if !self.was_made() {
            (&self.lock).write_all(MADE)?;
            self.lock.sync_all()?;
        }
        Ok(())
    }
}

/// The path of a file that SQLite keeps beside the database.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut beside = path.as_os_str().to_owned();
    beside.push(suffix);
    PathBuf::from(beside)
}

/// Has the disk hold a file as it can be read, by writing it over itself. After a failed sync the system may show what the
/// disk never got, and counts it as written, so that another sync does nothing: what a start reads in the log would be
/// delivered, and be gone after a power cut, even once it is in the database, because that brings back the old log. Who
/// reads sees the same bytes all along.
fn rewrite(path: &Path) -> rusqlite::Result<()> {
    let file = match write_over_itself(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::StorageFull => {
            return Err(failure(rusqlite::ffi::SQLITE_FULL, path, &error));
        }
        Err(error) => return Err(failure(rusqlite::ffi::SQLITE_IOERR, path, &error)),
    };
    file.sync_all()
        .and_then(|()| sync_parent(path))
        .map_err(|error| failure(rusqlite::ffi::SQLITE_IOERR_FSYNC, path, &error))
}

fn failure(code: i32, path: &Path, error: &io::Error) -> rusqlite::Error {
    let remedy = match code {
        rusqlite::ffi::SQLITE_FULL => "; free some space",
        _ => "",
    };
    let detail = format!("cannot write to {}: {error}{remedy}", path.display());
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), Some(detail))
}

fn write_over_itself(path: &Path) -> io::Result<fs::File> {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut piece = Vec::new();
    loop {
        let at = file.stream_position()?;
        piece.clear();
        (&file).take(REWRITE_BYTES).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return Ok(file);
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(&piece)?;
    }
}

/// A new name is durable once its directory is.
fn sync_parent(path: &Path) -> io::Result<()> {
    #[cfg(unix)]
    fs::File::open(parent(path))?.sync_all()?;
    Ok(())
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        _ => Path::new("."),
    }
}

/// After this the system may hold pages to be written that are not, and has said so for the only time.
pub(super) fn is_failed_sync(error: &rusqlite::Error) -> bool {
    matches!(error, rusqlite::Error::SqliteFailure(failure, _)
        if failure.extended_code == rusqlite::ffi::SQLITE_IOERR_FSYNC)
}

fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
}

/// What the file has room for without growing.
pub(super) fn free_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let pages: u64 = connection.query_row("PRAGMA freelist_count", [], |row| row.get(0))?;
    Ok(pages * u64::from(PAGE_BYTES))
}

/// A connection that can write, and leaves the log as it is when it is closed.
pub(super) fn writer(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    leave_the_log(&connection, true)?;
    prepare_writer(&connection)?;
    Ok(connection)
}

/// Whether the connection leaves the log as it is when it is closed, and is the last one.
pub(super) fn leave_the_log(connection: &Connection, leaves: bool) -> rusqlite::Result<()> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, leaves)
        .map(drop)
}

/// A connection that can only read.
pub(super) fn reader(path: &Path) -> rusqlite::Result<Connection> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.pragma_update(None, "cache_size", -i64::from(READER_CACHE_KIB))?;
    Ok(connection)
}

/// Proves, for one who only reads, that there is a store of today's schema.
pub(super) fn prove_readable(path: &Path) -> Result<(), Error> {
    let failed = |detail: String| Error::Open {
        path: path.display().to_string(),
        detail,
    };
    match fs::metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(failed(
                "there is no such file; the gateway makes it when it first starts".to_owned(),
            ));
        }
        Err(error) => return Err(failed(error.to_string())),
    }
    let connection = reader(path).map_err(|error| doubt(path, &error))?;
    match version(&connection, path)? {
        Some(version) if version == MIGRATIONS.len() => Ok(()),
        Some(_) => Err(failed(
            "it was written by an older callfeed; start the gateway once to bring it up".to_owned(),
        )),
        None => Err(failed("nothing was kept there yet".to_owned())),
    }
}

fn make(path: &Path) -> io::Result<()> {
    let parent = parent(path);
    if !parent.exists() {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(parent)?;
    }
    if !path.exists() {
        owner_only().open(path)?.sync_all()?;
        sync_parent(path)?;
    }
    Ok(())
}

fn owner_only() -> fs::OpenOptions {
    let mut options = fs::OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    // SQLite gives its log the same permissions as the database.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn connect(path: &Path, mode: OpenFlags) -> rusqlite::Result<Connection> {
    // An absolute path never starts with the colon or `file:` that SQLite gives a meaning of its own.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let connection = Connection::open_with_flags(path, mode | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

fn prepare_writer(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get::<_, String>(0))?;
    // In WAL mode only FULL syncs the log with every commit, and a keep is answered after its commit.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -i64::from(WRITER_CACHE_KIB))?;
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "journal_size_limit", LOG_KEPT_BYTES)?;
    Ok(())
}

/// The schema's version; `None` when the file is new. Refuses what is not ours.
fn version(connection: &Connection, path: &Path) -> Result<Option<usize>, Error> {
    let number = |sql| {
        connection
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .map_err(|error| doubt(path, &error))
    };
    let refused = |detail: String| Error::Open {
        path: path.display().to_string(),
        detail,
    };
    let application = number("PRAGMA application_id")?;
    if application == 0 && number("SELECT count(*) FROM sqlite_schema")? == 0 {
        return Ok(None);
    }
    if application != APPLICATION_ID {
        return Err(refused(
            "it is the database of another program; name a file of callfeed, or one that does not exist yet".to_owned(),
        ));
    }
    let version = number("PRAGMA user_version")?;
    match usize::try_from(version) {
        Ok(version) if version <= MIGRATIONS.len() => Ok(Some(version)),
        _ => Err(refused(format!(
            "it was written by a newer callfeed (schema {version}, this one knows {}); run that one, or restore the \
             backup made before it was first started",
            MIGRATIONS.len()
        ))),
    }
}

fn migrate(connection: &mut Connection, from: usize) -> rusqlite::Result<()> {
    if from == MIGRATIONS.len() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for migration in &MIGRATIONS[from..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as i64)?;
    transaction.commit()
}

/// Looks for damage, for a bounded time.
fn check(connection: &mut Connection, path: &Path) -> Result<(), Error> {
    let started = Instant::now();
    let late = move || started.elapsed() > CHECK_MAX;
    connection
        .progress_handler(10_000, Some(late))
        .map_err(|error| doubt(path, &error))?;
    let answer = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    connection
        .progress_handler(0, None::<fn() -> bool>)
        .map_err(|error| doubt(path, &error))?;
    match answer {
        Ok(answer) if answer == "ok" => Ok(()),
        Ok(damage) => Err(corrupt(path, damage)),
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::OperationInterrupted) => {
            tracing::info!(path = %path.display(), seconds = CHECK_MAX.as_secs(), "store is large: checked in part");
            Ok(())
        }
        Err(error) => Err(doubt(path, &error)),
    }
}

/// What an error says about the file, when it is opened.
fn doubt(path: &Path, error: &rusqlite::Error) -> Error {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => corrupt(path, error.to_string()),
        _ => Error::Open {
            path: path.display().to_string(),
            detail: error.to_string(),
        },
    }
}

fn corrupt(path: &Path, detail: String) -> Error {
    let path = path.display().to_string();
    let remedy = format!(
        "Stop here, then restore a backup, or save what is readable with: sqlite3 '{path}' .recover | sqlite3 \
         '{path}.recovered'"
    );
    Error::Corrupt { path, detail, remedy }
}
