//! One thread that writes, many that wait: whatever has gathered while the disk was busy is made durable together.

use std::{
    fs::{File, OpenOptions},
    io::Write as _,
    path::Path,
};

use anyhow::Result;
use bytes::Bytes;
use rusqlite::{Connection, TransactionBehavior, params};
use tokio::sync::{mpsc, oneshot};

const GROUP_MAX: usize = 256;
const QUEUE_MAX: usize = 1024;

pub(crate) struct Record {
    pub(crate) key: [u8; 16],
    pub(crate) body: Bytes,
    pub(crate) kept: oneshot::Sender<()>,
}

/// Makes a group of records durable.
pub(crate) trait Engine: Send + 'static {
    fn keep(&mut self, group: &[Record]) -> Result<()>;
}

/// The thread ends with the first failure, and every waiting webhook with it: the bench does not go on with a server
/// that cannot write.
pub(crate) fn start(mut engine: impl Engine) -> mpsc::Sender<Record> {
    let (records, mut queue) = mpsc::channel(QUEUE_MAX);
    std::thread::spawn(move || -> Result<()> {
        let mut group = Vec::with_capacity(GROUP_MAX);
        while queue.blocking_recv_many(&mut group, GROUP_MAX) > 0 {
            engine.keep(&group)?;
            for record in group.drain(..) {
                // A sender that hung up needs no answer.
                let _ = record.kept.send(());
            }
        }
        Ok(())
    });
    records
}

/// A transaction for each group: the key, so that the same event is kept once, and the body.
pub(crate) struct Sqlite(Connection);

impl Sqlite {
    pub(crate) fn open(file: &Path) -> Result<Self> {
        let connection = Connection::open(file)?;
        connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA wal_autocheckpoint = 8000;
             PRAGMA cache_size = -32768;
             CREATE TABLE seen (key BLOB PRIMARY KEY) WITHOUT ROWID;
             CREATE TABLE webhook (seq INTEGER PRIMARY KEY, body BLOB NOT NULL);",
        )?;
        Ok(Self(connection))
    }
}

impl Engine for Sqlite {
    fn keep(&mut self, group: &[Record]) -> Result<()> {
        let transaction = self.0.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            let mut see = transaction.prepare_cached("INSERT OR IGNORE INTO seen (key) VALUES (?1)")?;
            let mut keep = transaction.prepare_cached("INSERT INTO webhook (body) VALUES (?1)")?;
            for record in group {
                if see.execute(params![record.key])? == 1 {
                    keep.execute(params![&record.body[..]])?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// One write and one `fdatasync` for each group, and no memory of what was there before: what any log has to do.
pub(crate) struct Append {
    file: File,
    joined: Vec<u8>,
}

impl Append {
    pub(crate) fn open(file: &Path) -> Result<Self> {
        Ok(Self {
            file: OpenOptions::new().create(true).append(true).open(file)?,
            joined: Vec::new(),
        })
    }
}

impl Engine for Append {
    fn keep(&mut self, group: &[Record]) -> Result<()> {
        self.joined.clear();
        for record in group {
            self.joined
                .extend_from_slice(&u32::try_from(record.body.len())?.to_le_bytes());
            self.joined.extend_from_slice(&record.body);
        }
        self.file.write_all(&self.joined)?;
        self.file.sync_data()?;
        Ok(())
    }
}
