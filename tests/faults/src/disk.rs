//! The disk under the gateway: what the shim does to it, and what a power cut leaves of it.
//!
//! A sync promises that what was written before it is on disk. A power cut keeps that promise and no other: of
//! everything later it leaves nothing, or the beginning, or any sectors of it in any order. [`Disk::cut_power`] brings
//! both files of the store into such a state, from the journals that the shim has kept. What was answered with 200 has to
//! be there whichever it is.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    chance::Chance,
    control::{self, Control},
    journal::{HEAD_BYTES, Head, Kind},
};

/// What a disk writes whole or not at all.
const SECTOR: u64 = 512;

/// How syncs go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    Work,
    Fail,
    /// What they should have covered stays unwritten for good unless it is written again.
    FailAndForget,
    /// The same, of the database alone.
    FailAndForgetDatabase,
}

/// The control file and the journals of one store.
#[derive(Debug)]
pub struct Disk {
    directory: PathBuf,
    store: PathBuf,
    control: File,
}

/// What the shim has counted.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub attached: u64,
    pub syncs: u64,
    pub syncs_failed: u64,
    pub writes_refused: u64,
    pub writes: u64,
}

impl Disk {
    /// `directory` has to exist; `store` is the database's absolute path without links in it.
    pub fn new(directory: &Path, store: &Path) -> Result<Self> {
        let control = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(directory.join(control::FILE))?;
        control.set_len(control::FILE_BYTES as u64)?;
        Ok(Self {
            directory: directory.to_owned(),
            store: store.to_owned(),
            control,
        })
    }

    /// What the process under test needs in its environment.
    pub fn environment<'d>(&'d self, shim: &'d Path) -> [(&'static str, &'d Path); 3] {
        [
            ("LD_PRELOAD", shim),
            (control::DIRECTORY_VARIABLE, &self.directory),
            (control::STORE_VARIABLE, &self.store),
        ]
    }

    pub fn store(&self) -> &Path {
        &self.store
    }

    pub fn syncs(&self, syncs: Syncs) -> io::Result<()> {
        let value = match syncs {
            Syncs::Work => control::SYNC_WORKS,
            Syncs::Fail => control::SYNC_FAILS,
            Syncs::FailAndForget => control::SYNC_FAILS_AND_FORGETS,
            Syncs::FailAndForgetDatabase => control::DATABASE_SYNC_FAILS_AND_FORGETS,
        };
        self.set(std::mem::offset_of!(Control, sync), &value.to_ne_bytes())
    }

    pub fn full(&self, is_full: bool) -> io::Result<()> {
        self.set(std::mem::offset_of!(Control, full), &u32::from(is_full).to_ne_bytes())
    }

    pub fn slow_syncs(&self, delay: Duration) -> io::Result<()> {
        let micros = u32::try_from(delay.as_micros()).unwrap_or(u32::MAX);
        self.set(std::mem::offset_of!(Control, sync_delay_us), &micros.to_ne_bytes())
    }

    /// Sets the wall clock so far off, in seconds.
    pub fn clock(&self, offset_seconds: i64) -> io::Result<()> {
        let nanos = offset_seconds * 1_000_000_000;
        self.set(std::mem::offset_of!(Control, clock_offset_ns), &nanos.to_ne_bytes())
    }

    fn set(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        // The shim has the same file mapped; the system keeps both views one.
        self.control.write_all_at(bytes, offset as u64)
    }

    pub fn counts(&self) -> io::Result<Counts> {
        let count = |offset: usize| {
            let mut bytes = [0; 8];
            self.control.read_exact_at(&mut bytes, offset as u64)?;
            io::Result::Ok(u64::from_ne_bytes(bytes))
        };
        Ok(Counts {
            attached: count(std::mem::offset_of!(Control, attached))?,
            syncs: count(std::mem::offset_of!(Control, syncs))?,
            syncs_failed: count(std::mem::offset_of!(Control, syncs_failed))?,
            writes_refused: count(std::mem::offset_of!(Control, writes_refused))?,
            writes: count(std::mem::offset_of!(Control, writes))?,
        })
    }

    /// Takes back what a power cut could have taken. The process has to be gone.
    ///
    /// Says what it did, in a few words.
    pub fn cut_power(&self, chance: &mut Chance) -> Result<String> {
        let (log, shared) = (beside(&self.store, "-wal"), beside(&self.store, "-shm"));
        let mut told = Vec::new();
        for (name, path) in [("database", &self.store), ("log", &log)] {
            let journal = self.directory.join(format!("{name}.journal"));
            let history = read(&journal).with_context(|| format!("failed to read {}", journal.display()))?;
            if path.exists() {
                let lost = cut(path, &history, chance).with_context(|| format!("failed to cut {}", path.display()))?;
                told.push(format!("{name}: {lost}"));
                if history.unnamed && chance.permille(500) {
                    fs::remove_file(path)?;
                    told.push(format!("{name}: its name"));
                }
            }
            if journal.exists() {
                // What is there now is there for good.
                OpenOptions::new().write(true).open(&journal)?.set_len(0)?;
            }
        }
        match fs::remove_file(&shared) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        Ok(told.join(", "))
    }
}

/// The path of a file that SQLite keeps beside the database.
pub fn beside(store: &Path, suffix: &str) -> PathBuf {
    let mut path = store.as_os_str().to_owned();
    path.push(suffix);
    PathBuf::from(path)
}

/// A change to a file, with what was there before.
#[derive(Debug, Clone)]
struct Change {
    head: Head,
    old: Vec<u8>,
    is_safe: bool,
}

/// What a journal tells.
#[derive(Debug, Default)]
struct Unsynced {
    /// In the order made; with those that are safe among them, because they went over others that are not.
    changes: Vec<Change>,
    /// The file's name is not on disk.
    unnamed: bool,
}

fn read(journal: &Path) -> io::Result<Unsynced> {
    match fs::read(journal) {
        Ok(bytes) => Ok(parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Unsynced::default()),
        Err(error) => Err(error),
    }
}

fn parse(mut bytes: &[u8]) -> Unsynced {
    let mut found = Unsynced::default();
    // Changes up to here are safe or forgotten already.
    let mut decided = 0;
    while let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() {
        let Some(head) = Head::decode(head) else { break };
        let Some((old, rest)) = usize::try_from(head.old_bytes)
            .ok()
            .and_then(|old| rest.split_at_checked(old))
        else {
            // Killed while it wrote: the change was not begun.
            break;
        };
        bytes = rest;
        match head.kind {
            Kind::Write | Kind::Truncate => found.changes.push(Change {
                head,
                old: old.to_vec(),
                is_safe: false,
            }),
            Kind::Synced | Kind::Forgotten => {
                for change in &mut found.changes {
                    if (decided + 1..=head.number).contains(&change.head.number) {
                        change.is_safe = head.kind == Kind::Synced;
                    }
                }
                decided = decided.max(head.number);
            }
            Kind::Created => found.unnamed = true,
            Kind::Named => found.unnamed = false,
        }
    }
    found
}

/// What survives of changes that are not safe.
#[derive(Debug, Clone, Copy)]
enum Survival {
    Nothing,
    /// So many of them, from the first on.
    Beginning(usize),
    /// Each sector with this chance, in permille.
    Sectors(u64),
}

/// Brings a file into one of the states that a power cut could leave it in.
fn cut(path: &Path, history: &Unsynced, chance: &mut Chance) -> io::Result<String> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    // First back to how it was before all of them, which also shows what each had written.
    let mut written = Vec::with_capacity(history.changes.len());
    for change in history.changes.iter().rev() {
        written.push(undo(&file, change)?);
    }
    written.reverse();

    let count = history.changes.iter().filter(|change| !change.is_safe).count();
    let survival = match chance.below(4) {
        0 | 1 => Survival::Nothing,
        2 => Survival::Beginning(usize::try_from(chance.below(count as u64 + 1)).unwrap_or(count)),
        _ => Survival::Sectors(chance.within(50, 950)),
    };
    let mut unsafe_before = 0;
    for (change, new) in history.changes.iter().zip(&written) {
        let survives = match survival {
            _ if change.is_safe => true,
            Survival::Nothing => false,
            Survival::Beginning(first) => unsafe_before < first,
            Survival::Sectors(_) => true,
        };
        if !change.is_safe {
            unsafe_before += 1;
        }
        match (survives, survival) {
            (false, _) => {}
            (true, Survival::Sectors(permille)) if !change.is_safe => {
                redo_sectors(&file, change, new, |_| chance.permille(permille))?;
            }
            (true, _) => redo_sectors(&file, change, new, |_| true)?,
        }
    }
    Ok(match survival {
        Survival::Nothing => format!("all {count} unsynced changes"),
        Survival::Beginning(first) => format!("all after {first} of {count} unsynced changes"),
        Survival::Sectors(permille) => format!("sectors of {count} unsynced changes, {permille}‰ left"),
    })
}

/// Takes a change back and returns what it had written.
fn undo(file: &File, change: &Change) -> io::Result<Vec<u8>> {
    let Head {
        kind,
        offset,
        length,
        file_bytes,
        ..
    } = change.head;
    let now = file.metadata()?.len();
    let mut written = Vec::new();
    if kind == Kind::Write {
        // Less than it asked for where it was cut short, or killed before.
        let end = (offset + length).min(now);
        written.resize(usize::try_from(end.saturating_sub(offset)).unwrap_or(0), 0);
        file.read_exact_at(&mut written, offset)?;
    }
    let old_at = if kind == Kind::Write {
        offset
    } else {
        length.min(file_bytes)
    };
    file.set_len(file_bytes)?;
    file.write_all_at(&change.old, old_at.min(file_bytes))?;
    Ok(written)
}

/// Makes a change once more, those of its sectors that are kept.
fn redo_sectors(file: &File, change: &Change, new: &[u8], mut keep: impl FnMut(u64) -> bool) -> io::Result<()> {
    let Head {
        kind, offset, length, ..
    } = change.head;
    if kind == Kind::Truncate {
        if keep(0) {
            file.set_len(length)?;
        }
        return Ok(());
    }
    let mut at = offset;
    let mut rest = new;
    while !rest.is_empty() {
        let to_boundary = usize::try_from(SECTOR - at % SECTOR)
            .expect("a sector fits")
            .min(rest.len());
        let (sector, after) = rest.split_at(to_boundary);
        if keep(at) {
            file.write_all_at(sector, at)?;
        }
        at += sector.len() as u64;
        rest = after;
    }
    Ok(())
}

/// Copies the store as it lies there, so that looking at it changes nothing.
pub fn copy_store(store: &Path, into: &Path) -> Result<PathBuf> {
    fs::create_dir_all(into)?;
    let copy = into.join(store.file_name().context("the store has no name")?);
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) = (beside(store, suffix), beside(&copy, suffix));
        match fs::remove_file(&to) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        // The shared memory is made anew from the log.
        if suffix != "-shm" && from.exists() {
            fs::copy(&from, &to)?;
        }
    }
    ensure!(copy.exists(), "there is no store at {}", store.display());
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file, and a journal as the shim writes it.
    struct Journaled {
        file: Vec<u8>,
        journal: Vec<u8>,
        number: u64,
    }

    impl Journaled {
        fn change(&mut self, kind: Kind, offset: u64, length: u64) {
            self.number += 1;
            let file_bytes = self.file.len() as u64;
            let (from, to) = match kind {
                Kind::Truncate => (length.min(file_bytes), file_bytes),
                _ => (offset.min(file_bytes), (offset + length).min(file_bytes)),
            };
            let old = self.file[from as usize..to as usize].to_vec();
            self.note(kind, self.number, (offset, length, file_bytes), &old);
        }

        fn note(&mut self, kind: Kind, number: u64, (offset, length, file_bytes): (u64, u64, u64), old: &[u8]) {
            let head = Head {
                kind,
                number,
                offset,
                length,
                file_bytes,
                old_bytes: old.len() as u64,
            };
            self.journal.extend(head.encode());
            self.journal.extend(old);
        }

        fn write(&mut self, offset: u64, bytes: &[u8]) {
            self.change(Kind::Write, offset, bytes.len() as u64);
            let end = offset as usize + bytes.len();
            if self.file.len() < end {
                self.file.resize(end, 0);
            }
            self.file[offset as usize..end].copy_from_slice(bytes);
        }

        fn truncate(&mut self, length: u64) {
            self.change(Kind::Truncate, 0, length);
            self.file.resize(length as usize, 0);
        }

        fn cut(&self, directory: &Path, seed: u64) -> Vec<u8> {
            let path = directory.join("file");
            fs::write(&path, &self.file).unwrap();
            cut(&path, &parse(&self.journal), &mut Chance::new(seed)).unwrap();
            fs::read(path).unwrap()
        }
    }

    /// Random changes to a file, with a sync among them: what was there then is still there, wherever nothing later went.
    #[test]
    fn what_was_synced_survives_every_cut() {
        let directory = tempfile::tempdir().unwrap();
        let mut without_loss = 0;
        for seed in 0..400 {
            let mut chance = Chance::new(seed);
            let mut disk = Journaled {
                file: Vec::new(),
                journal: Vec::new(),
                number: 0,
            };
            let mut synced = Vec::new();
            let mut touched = Vec::new();
            let (count, sync_after) = (chance.within(1, 30), chance.below(30));
            let mut may_shrink = false;
            for index in 0..count {
                if chance.permille(150) {
                    let length = chance.below(6000);
                    may_shrink |= index >= sync_after;
                    touched.push((length, u64::MAX));
                    disk.truncate(length);
                } else {
                    let (offset, length) = (chance.below(5000), chance.within(1, 2000));
                    let byte = u8::try_from(index + 1).unwrap();
                    touched.push((offset, offset + length));
                    disk.write(offset, &vec![byte; length as usize]);
                }
                if index + 1 == sync_after {
                    disk.note(Kind::Synced, disk.number, (0, 0, 0), &[]);
                    synced.clone_from(&disk.file);
                    touched.clear();
                }
            }
            // Killed in the middle of a record.
            disk.journal.extend([0x17, 0xfa]);
            let left = disk.cut(directory.path(), seed);
            for (at, byte) in synced.iter().enumerate() {
                let at_64 = at as u64;
                if !touched.iter().any(|(from, to)| (*from..*to).contains(&at_64)) && !may_shrink {
                    assert_eq!(left.get(at), Some(byte), "seed {seed}, byte {at}");
                }
            }
            without_loss += usize::from(left == disk.file);
        }
        assert!(without_loss < 200, "a cut that takes nothing proves nothing");
    }

    #[test]
    fn what_a_failed_sync_forgot_is_not_saved_by_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = Journaled {
            file: b"old old old".to_vec(),
            journal: Vec::new(),
            number: 0,
        };
        disk.write(0, b"new");
        disk.note(Kind::Forgotten, disk.number, (0, 0, 0), &[]);
        disk.write(4, b"new");
        disk.note(Kind::Synced, disk.number, (0, 0, 0), &[]);
        let left: Vec<_> = (0..40).map(|seed| disk.cut(directory.path(), seed)).collect();
        assert!(left.iter().all(|left| &left[3..] == b" new old"));
        assert!(left.iter().any(|left| left.starts_with(b"old")));
        assert!(left.iter().any(|left| left.starts_with(b"new")));
    }

    #[test]
    fn a_file_that_grew_and_one_that_was_cut_are_as_before() {
        let directory = tempfile::tempdir().unwrap();
        let mut disk = Journaled {
            file: b"0123456789".to_vec(),
            journal: Vec::new(),
            number: 0,
        };
        disk.truncate(4);
        disk.write(8, b"abcdefgh");
        assert_eq!(disk.file, b"0123\0\0\0\0abcdefgh");
        let left: Vec<_> = (0..40).map(|seed| disk.cut(directory.path(), seed)).collect();
        assert!(left.contains(&b"0123456789".to_vec()));
        assert!(left.contains(&b"0123".to_vec()));
        assert!(left.contains(&disk.file));
    }
}
