//! Stands between one process and its disk and clock. Preloaded (`LD_PRELOAD`), told by a small file what to do.
//!
//! - A sync of the database or its log can fail, and a full disk can refuse their writes.
//! - The wall clock can be off. The monotonic clock is left alone, as a clock that is set leaves it.
//! - Every change to either file since its last successful sync is kept in a journal, with what was there before, so
//!   that whoever kills the process can take back what a power cut could have taken.
//!
//! Only calls that SQLite makes are understood. Another way to change either file ends the process with a word about it,
//! because a journal with gaps would prove nothing. Memory maps are not seen: SQLite maps only the `-shm` file for
//! writing, and that one a power cut loses whole.
//!
//! Everything below stands in for the system library in a process that knows nothing of it: it makes its own calls to
//! the system directly, never through a function it has replaced, and leaves `errno` as the system does.

#![expect(
    unsafe_code,
    reason = "the system library's functions are replaced by functions of the same form"
)]
#![expect(clippy::missing_safety_doc, reason = "each is as safe as the function it stands for")]

mod control;
mod files;
mod journal;

use std::{
    ffi::{c_char, c_int, c_long, c_void},
    sync::{
        OnceLock,
        atomic::{AtomicI64, AtomicPtr, AtomicU32, AtomicU64, Ordering},
    },
};

use control::Control;
use files::Sync;
use libc::{SYS_clock_gettime, mode_t, off_t, size_t, ssize_t, time_t, timespec, timeval};

const NANOS: i64 = 1_000_000_000;

/// The control file as memory; a value of its own that says nothing is wrong where there is none.
fn control() -> &'static Control {
    static MAPPED: OnceLock<&'static Control> = OnceLock::new();
    static CALM: Control = Control {
        sync: AtomicU32::new(control::SYNC_WORKS),
        full: AtomicU32::new(0),
        clock_offset_ns: AtomicI64::new(0),
        sync_delay_us: AtomicU32::new(0),
        reserved: AtomicU32::new(0),
        attached: AtomicU64::new(0),
        syncs: AtomicU64::new(0),
        syncs_failed: AtomicU64::new(0),
        writes_refused: AtomicU64::new(0),
        writes: AtomicU64::new(0),
    };
    static READY: AtomicPtr<Control> = AtomicPtr::new(std::ptr::null_mut());
    // The clock is asked very often, and also while the map is being made.
    let ready = READY.load(Ordering::Acquire);
    if !ready.is_null() {
        // SAFETY: only ever set to the map below, which is never taken away.
        return unsafe { &*ready };
    }
    let Some(path) = files::control_path() else {
        return &CALM;
    };
    let mapped = MAPPED.get_or_init(|| {
        // SAFETY: plain system calls; the path ends with a zero byte.
        unsafe {
            let fd = raw_open(path.as_ptr(), libc::O_RDWR | libc::O_CLOEXEC, 0);
            if fd < 0 {
                files::give_up("the control file cannot be opened");
            }
            let address = libc::mmap(
                std::ptr::null_mut(),
                control::FILE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd,
                0,
            );
            libc::syscall(libc::SYS_close, fd);
            if address == libc::MAP_FAILED {
                files::give_up("the control file cannot be mapped");
            }
            let mapped = &*address.cast::<Control>();
            mapped.attached.fetch_add(1, Ordering::Relaxed);
            mapped
        }
    });
    READY.store(std::ptr::from_ref(*mapped).cast_mut(), Ordering::Release);
    mapped
}

fn fail(errno: c_int) {
    // SAFETY: the address of this thread's own errno.
    unsafe { *libc::__errno_location() = errno };
}

unsafe fn raw_open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's path.
    unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path, flags, mode) as c_int }
}

// The variadic forms pass their mode as the third argument like any other.

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's path.
    unsafe {
        match files::role(path) {
            None => raw_open(path, flags, mode),
            Some(role) => files::open(role, path, flags, |flags| raw_open(path, flags, mode)),
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    // SAFETY: the caller's path.
    unsafe { open(path, flags | libc::O_LARGEFILE, mode) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    files::forget(fd);
    // SAFETY: plain system call.
    unsafe { libc::syscall(libc::SYS_close, fd) as c_int }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
    let raw = |count: size_t| {
        // SAFETY: the caller's bytes, and no more of them than it said.
        unsafe { libc::syscall(libc::SYS_write, fd, bytes, count) as ssize_t }
    };
    match files::of(fd) {
        None => raw(count),
        Some(file) => {
            // SAFETY: plain system call.
            let at = unsafe { libc::syscall(libc::SYS_lseek, fd, 0, libc::SEEK_CUR) };
            file.write(control(), fd, at, count, raw)
        }
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite(fd: c_int, bytes: *const c_void, count: size_t, offset: off_t) -> ssize_t {
    let raw = |count: size_t| {
        // SAFETY: the caller's bytes, and no more of them than it said.
        unsafe { libc::syscall(libc::SYS_pwrite64, fd, bytes, count, offset) as ssize_t }
    };
    match files::of(fd) {
        None => raw(count),
        Some(file) => file.write(control(), fd, offset, count, raw),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwrite64(fd: c_int, bytes: *const c_void, count: size_t, offset: off_t) -> ssize_t {
    // SAFETY: the caller's bytes.
    unsafe { pwrite(fd, bytes, count, offset) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const libc::iovec, count: c_int) -> ssize_t {
    files::not_understood(fd, "writev");
    // SAFETY: the caller's parts.
    unsafe { libc::syscall(libc::SYS_writev, fd, parts, count) as ssize_t }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fallocate(fd: c_int, mode: c_int, offset: off_t, length: off_t) -> c_int {
    files::not_understood(fd, "fallocate");
    // SAFETY: plain system call.
    unsafe { libc::syscall(libc::SYS_fallocate, fd, mode, offset, length) as c_int }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_fallocate(fd: c_int, offset: off_t, length: off_t) -> c_int {
    files::not_understood(fd, "posix_fallocate");
    // SAFETY: plain system call. This one returns what others leave in errno.
    match unsafe { libc::syscall(libc::SYS_fallocate, fd, 0, offset, length) } {
        0 => 0,
        _ => unsafe { *libc::__errno_location() },
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate(fd: c_int, length: off_t) -> c_int {
    let raw = || {
        // SAFETY: plain system call.
        unsafe { libc::syscall(libc::SYS_ftruncate, fd, length) as c_int }
    };
    match files::of(fd) {
        None => raw(),
        Some(file) => file.truncate(control(), fd, length, raw),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn ftruncate64(fd: c_int, length: off_t) -> c_int {
    // SAFETY: as above.
    unsafe { ftruncate(fd, length) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fsync(fd: c_int) -> c_int {
    sync(fd, libc::SYS_fsync)
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn fdatasync(fd: c_int) -> c_int {
    // SQLite asks for this one only where the length is as good as the content: it writes a changed length, too.
    sync(fd, libc::SYS_fdatasync)
}

fn sync(fd: c_int, call: c_long) -> c_int {
    let raw = || {
        // SAFETY: plain system call.
        unsafe { libc::syscall(call, fd) as c_int }
    };
    match files::of(fd) {
        None => files::sync_other(fd, control(), raw),
        Some(file) => file.sync(control(), Sync { raw: &raw }),
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut timespec) -> c_int {
    // SAFETY: the caller's place for the time.
    unsafe {
        let result = libc::syscall(SYS_clock_gettime, clock, time) as c_int;
        if result == 0 && matches!(clock, libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE) {
            let nanos = (*time).tv_sec * NANOS + (*time).tv_nsec + offset();
            (*time).tv_sec = nanos.div_euclid(NANOS);
            (*time).tv_nsec = nanos.rem_euclid(NANOS);
        }
        result
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn gettimeofday(time: *mut timeval, _zone: *mut c_void) -> c_int {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place of our own, and the caller's.
    unsafe {
        let result = clock_gettime(libc::CLOCK_REALTIME, &raw mut now);
        if !time.is_null() {
            (*time).tv_sec = now.tv_sec;
            (*time).tv_usec = now.tv_nsec / 1000;
        }
        result
    }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn time(place: *mut time_t) -> time_t {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place of our own, and the caller's.
    unsafe {
        clock_gettime(libc::CLOCK_REALTIME, &raw mut now);
        if !place.is_null() {
            *place = now.tv_sec;
        }
    }
    now.tv_sec
}

fn offset() -> i64 {
    control().clock_offset_ns.load(Ordering::Relaxed)
}
