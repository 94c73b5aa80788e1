//! The two files that matter, and what is known of them: which descriptors are theirs, what was synced.

use std::{
    ffi::{CStr, CString, c_char, c_int},
    os::unix::ffi::OsStrExt as _,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
};

use libc::{off_t, size_t, ssize_t};

use crate::{
    control::{self, Control},
    fail,
    journal::{HEAD_BYTES, Head, Kind},
    raw_open,
};

/// Descriptors that are looked up. A gateway has fewer.
const DESCRIPTORS: usize = 1 << 16;

/// The part a file plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Database,
    Log,
    /// Where both have their names.
    Directory,
}

/// One file with its journal.
pub(crate) struct File {
    journal: &'static str,
    state: Mutex<State>,
}

struct State {
    /// -1 until it is needed.
    journal: c_int,
    /// Of the last record.
    number: u64,
    /// Of the last change to be forgotten by a failed sync.
    forgotten: u64,
    /// Of the last time the file was emptied: what went before does not matter any more once that is on disk.
    emptied: u64,
    /// Whether its name may still be lost.
    unnamed: bool,
}

/// The real call.
pub(crate) struct Sync<'c> {
    pub(crate) raw: &'c dyn Fn() -> c_int,
}

static DATABASE: File = File::new("database.journal");
static LOG: File = File::new("log.journal");
/// Role by descriptor; 0 is none.
static ROLES: [AtomicU8; DESCRIPTORS] = [const { AtomicU8::new(0) }; DESCRIPTORS];

/// Ends the process: a proof with a gap is none.
pub(crate) fn give_up(why: &str) -> ! {
    for part in ["callfeed-faults-shim: ", why, "\n"] {
        // SAFETY: plain system calls with bytes of our own.
        unsafe { libc::syscall(libc::SYS_write, 2, part.as_ptr(), part.len()) };
    }
    // SAFETY: ends the process at once.
    unsafe { libc::abort() }
}

fn path_of(variable: &str, add: &str) -> Option<CString> {
    let mut path = std::env::var_os(variable)?;
    path.push(add);
    CString::new(path.as_bytes()).ok()
}

/// The path of the control file; `None` in a process that nobody controls.
pub(crate) fn control_path() -> Option<&'static CStr> {
    static PATH: OnceLock<Option<CString>> = OnceLock::new();
    PATH.get_or_init(|| path_of(control::DIRECTORY_VARIABLE, &format!("/{}", control::FILE)))
        .as_deref()
}

/// Which part the file of this path plays.
pub(crate) unsafe fn role(path: *const c_char) -> Option<Role> {
    static PATHS: OnceLock<Option<[(CString, Role); 3]>> = OnceLock::new();
    let paths = PATHS.get_or_init(|| {
        let database = path_of(control::STORE_VARIABLE, "")?;
        let log = path_of(control::STORE_VARIABLE, "-wal")?;
        let store = std::env::var_os(control::STORE_VARIABLE)?;
        let parent = std::path::Path::new(&store).parent()?;
        let directory = CString::new(parent.as_os_str().as_bytes()).ok()?;
        Some([
            (database, Role::Database),
            (log, Role::Log),
            (directory, Role::Directory),
        ])
    });
    if path.is_null() {
        return None;
    }
    // SAFETY: the caller's path ends with a zero byte.
    let path = unsafe { CStr::from_ptr(path) };
    let known = paths.as_ref()?.iter().find(|(known, _)| known.as_c_str() == path);
    known.map(|(_, role)| *role)
}

impl Role {
    fn code(self) -> u8 {
        match self {
            Self::Database => 1,
            Self::Log => 2,
            Self::Directory => 3,
        }
    }

    fn file(self) -> Option<&'static File> {
        match self {
            Self::Database => Some(&DATABASE),
            Self::Log => Some(&LOG),
            Self::Directory => None,
        }
    }
}

/// The file that a descriptor is of.
pub(crate) fn of(fd: c_int) -> Option<&'static File> {
    match code(fd) {
        1 => Role::Database.file(),
        2 => Role::Log.file(),
        _ => None,
    }
}

fn code(fd: c_int) -> u8 {
    let known = usize::try_from(fd).ok().and_then(|fd| ROLES.get(fd));
    known.map_or(0, |role| role.load(Ordering::Acquire))
}

pub(crate) fn forget(fd: c_int) {
    if let Some(role) = usize::try_from(fd).ok().and_then(|fd| ROLES.get(fd)) {
        role.store(0, Ordering::Release);
    }
}

pub(crate) fn not_understood(fd: c_int, call: &str) {
    if of(fd).is_some() {
        give_up(call);
    }
}

/// Opens one of the files and remembers its descriptor.
pub(crate) unsafe fn open(role: Role, path: *const c_char, flags: c_int, raw: impl Fn(c_int) -> c_int) -> c_int {
    if flags & libc::O_TRUNC != 0 {
        give_up("one of the files is opened to be emptied");
    }
    let file = role.file();
    let mut state = file.map(File::lock);
    // SAFETY: the caller's path.
    let is_new = flags & libc::O_CREAT != 0 && unsafe { libc::access(path, libc::F_OK) } != 0;
    let fd = raw(flags);
    let Ok(index) = usize::try_from(fd) else { return fd };
    let Some(known) = ROLES.get(index) else {
        give_up("a descriptor is too large");
    };
    known.store(role.code(), Ordering::Release);
    if is_new && let (Some(file), Some(state)) = (file, &mut state) {
        // Another file of this name was removed: what happened to that one is of no use any more.
        file.begin_anew(state);
        file.note(state, Kind::Created, &[]);
        state.unnamed = true;
    }
    fd
}

/// A sync of anything else. That of the directory makes names durable.
pub(crate) fn sync_other(fd: c_int, control: &Control, raw: impl Fn() -> c_int) -> c_int {
    if code(fd) != Role::Directory.code() {
        return raw();
    }
    if matches!(
        control.sync.load(Ordering::Relaxed),
        control::SYNC_FAILS | control::SYNC_FAILS_AND_FORGETS
    ) {
        control.syncs_failed.fetch_add(1, Ordering::Relaxed);
        fail(libc::EIO);
        return -1;
    }
    let result = raw();
    if result == 0 {
        for file in [&DATABASE, &LOG] {
            let mut state = file.lock();
            if std::mem::take(&mut state.unnamed) {
                file.note(&mut state, Kind::Named, &[]);
            }
        }
    }
    result
}

impl File {
    const fn new(journal: &'static str) -> Self {
        Self {
            journal,
            state: Mutex::new(State {
                journal: -1,
                number: 0,
                forgotten: 0,
                emptied: 0,
                unnamed: false,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.journal < 0 {
            self.open_journal(&mut state);
        }
        state
    }

    /// Goes on with the journal of the process before: what it had not synced is not synced yet.
    fn open_journal(&self, state: &mut State) {
        let Some(path) = path_of(control::DIRECTORY_VARIABLE, &format!("/{}", self.journal)) else {
            give_up("there is no directory for the journals");
        };
        let flags = libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC;
        // SAFETY: a path of our own.
        state.journal = unsafe { raw_open(path.as_ptr(), flags, 0o600) };
        if state.journal < 0 {
            give_up("a journal cannot be opened");
        }
        let mut at = 0;
        let mut head = [0; HEAD_BYTES];
        while read_at(state.journal, &mut head, at) == HEAD_BYTES {
            let Some(record) = Head::decode(&head) else { break };
            let end = at + HEAD_BYTES as off_t + record.old_bytes as off_t;
            if end > size(state.journal) {
                break;
            }
            at = end;
            state.number = state.number.max(record.number);
            match record.kind {
                Kind::Forgotten => state.forgotten = record.number,
                Kind::Truncate if record.length == 0 => state.emptied = record.number,
                Kind::Created => state.unnamed = true,
                Kind::Named => state.unnamed = false,
                Kind::Write | Kind::Truncate | Kind::Synced => {}
            }
        }
        // What was killed while it wrote its record had not begun its change.
        set_size(state.journal, at);
        // SAFETY: plain system call.
        unsafe { libc::syscall(libc::SYS_lseek, state.journal, at, libc::SEEK_SET) };
    }

    fn begin_anew(&self, state: &mut State) {
        set_size(state.journal, 0);
        // SAFETY: plain system call.
        unsafe { libc::syscall(libc::SYS_lseek, state.journal, 0, libc::SEEK_SET) };
        (state.forgotten, state.emptied) = (0, 0);
    }

    /// A record that is no change.
    fn note(&self, state: &mut State, kind: Kind, old: &[u8]) {
        state.number += 1;
        self.record(state, kind, state.number, (0, 0, 0), old);
    }

    fn record(
        &self,
        state: &State,
        kind: Kind,
        number: u64,
        (offset, length, file_bytes): (u64, u64, u64),
        old: &[u8],
    ) {
        let head = Head {
            kind,
            number,
            offset,
            length,
            file_bytes,
            old_bytes: old.len() as u64,
        };
        for part in [&head.encode()[..], old] {
            let mut rest = part;
            while !rest.is_empty() {
                // SAFETY: bytes of our own.
                let written = unsafe { libc::syscall(libc::SYS_write, state.journal, rest.as_ptr(), rest.len()) };
                match usize::try_from(written) {
                    Ok(written) if written > 0 => rest = &rest[written..],
                    _ => give_up("a journal cannot be written to"),
                }
            }
        }
    }

    /// Journals the change of `length` bytes at `offset`, with what they are now.
    fn journal(&self, state: &mut State, fd: c_int, kind: Kind, offset: u64, length: u64) {
        let file_bytes = size(fd) as u64;
        let (from, to) = match kind {
            Kind::Truncate => (length.min(file_bytes), file_bytes),
            _ => (offset.min(file_bytes), (offset + length).min(file_bytes)),
        };
        let mut old = vec![0; (to - from) as usize];
        if read_at(fd, &mut old, from as off_t) != old.len() {
            give_up("one of the files cannot be read back");
        }
        state.number += 1;
        self.record(state, kind, state.number, (offset, length, file_bytes), &old);
    }

    pub(crate) fn write(
        &self,
        control: &Control,
        fd: c_int,
        offset: off_t,
        count: size_t,
        raw: impl Fn(size_t) -> ssize_t,
    ) -> ssize_t {
        if control.full.load(Ordering::Relaxed) != 0 {
            control.writes_refused.fetch_add(1, Ordering::Relaxed);
            fail(libc::ENOSPC);
            return -1;
        }
        let mut state = self.lock();
        self.journal(&mut state, fd, Kind::Write, offset as u64, count as u64);
        control.writes.fetch_add(1, Ordering::Relaxed);
        raw(count)
    }

    pub(crate) fn truncate(&self, _control: &Control, fd: c_int, length: off_t, raw: impl Fn() -> c_int) -> c_int {
        let mut state = self.lock();
        self.journal(&mut state, fd, Kind::Truncate, 0, length as u64);
        if length == 0 {
            state.emptied = state.number;
        }
        raw()
    }

    pub(crate) fn sync(&self, control: &Control, sync: Sync<'_>) -> c_int {
        // What is written while the sync is under way may miss it.
        let covered = self.lock().number;
        let delay = control.sync_delay_us.load(Ordering::Relaxed);
        if delay > 0 {
            // SAFETY: plain library call.
            unsafe { libc::usleep(delay) };
        }
        let is_database = std::ptr::eq(self, &DATABASE);
        let fails = match control.sync.load(Ordering::Relaxed) {
            control::SYNC_FAILS => true,
            control::DATABASE_SYNC_FAILS_AND_FORGETS if !is_database => false,
            control::SYNC_FAILS_AND_FORGETS | control::DATABASE_SYNC_FAILS_AND_FORGETS => {
                let mut state = self.lock();
                self.record(&state, Kind::Forgotten, covered, (0, 0, 0), &[]);
                state.forgotten = covered;
                true
            }
            _ => false,
        };
        if fails {
            control.syncs_failed.fetch_add(1, Ordering::Relaxed);
            fail(libc::EIO);
            return -1;
        }
        let result = (sync.raw)();
        if result != 0 {
            return result;
        }
        control.syncs.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        let nothing_since = state.number == covered;
        let nothing_forgotten = state.forgotten == 0 || state.emptied > state.forgotten;
        if nothing_since && nothing_forgotten && !state.unnamed {
            self.begin_anew(&mut state);
        } else {
            self.record(&state, Kind::Synced, covered, (0, 0, 0), &[]);
        }
        result
    }
}

fn size(fd: c_int) -> off_t {
    // SAFETY: plain library call into a place of our own.
    unsafe {
        let mut status = std::mem::zeroed::<libc::stat>();
        if libc::fstat(fd, &raw mut status) != 0 {
            give_up("the size of a file cannot be read");
        }
        status.st_size
    }
}

fn set_size(fd: c_int, length: off_t) {
    // SAFETY: plain system call.
    if unsafe { libc::syscall(libc::SYS_ftruncate, fd, length) } != 0 {
        give_up("a journal cannot be cut");
    }
}

/// How many bytes there were.
fn read_at(fd: c_int, into: &mut [u8], offset: off_t) -> usize {
    let mut filled = 0;
    while filled < into.len() {
        let rest = &mut into[filled..];
        let at = offset + filled as off_t;
        // SAFETY: bytes of our own.
        let read = unsafe { libc::syscall(libc::SYS_pread64, fd, rest.as_mut_ptr(), rest.len(), at) };
        match usize::try_from(read) {
            Ok(read) if read > 0 => filled += read,
            _ => break,
        }
    }
    filled
}
