//! Stops short of a full disk, while there is still room to record deliveries and to remove what is old.
//!
//! Room is what is free on the disk and what is free inside the store's file: the file never shrinks, and what retention
//! removes is written over. A store that filled its own disk would refuse for ever otherwise.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use bytesize::ByteSize;

use crate::store::Error;

/// How long an answer of the system counts.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// So much more than the floor has to be free before webhooks are taken again, so that it does not flutter.
const RISE: f64 = 1.05;

/// What a test says is free on the disk.
#[cfg(test)]
pub(super) type Pretended = std::sync::Arc<std::sync::Mutex<Option<u64>>>;

#[derive(Debug)]
pub(super) struct Floor {
    directory: PathBuf,
    #[cfg(test)]
    pub(super) pretended: Pretended,
    bytes: u64,
    looked: Option<Instant>,
    below: bool,
}

impl Floor {
    pub(super) fn new(file: &Path, bytes: u64) -> Self {
        Self {
            directory: file.parent().unwrap_or(Path::new("/")).to_owned(),
            #[cfg(test)]
            pretended: Pretended::default(),
            bytes,
            looked: None,
            below: false,
        }
    }

    /// Why nothing can be kept now, when it is for want of room.
    pub(super) fn refusal(&mut self, free_inside: impl FnOnce() -> u64) -> Option<Error> {
        if self.bytes == 0 {
            return None;
        }
        if self.looked.is_none_or(|looked| looked.elapsed() >= LOOK_EVERY) {
            self.looked = Some(Instant::now());
            // What the system does not tell is found out by writing.
            if let Some(free) = self.free() {
                self.look(free.saturating_add(free_inside()));
            }
        }
        self.below.then(|| {
            Error::Unavailable(format!(
                "less than store.disk_floor ({}) is free on the disk of {} and in the store's file",
                ByteSize(self.bytes).display().iec(),
                self.directory.display()
            ))
        })
    }

    fn free(&self) -> Option<u64> {
        #[cfg(test)]
        if let Some(free) = *self.pretended.lock().expect("no test panics with it") {
            return Some(free);
        }
        let disk = rustix::fs::statvfs(&self.directory).ok()?;
        Some(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn look(&mut self, free: u64) {
        let floor = if self.below {
            self.bytes as f64 * RISE
        } else {
            self.bytes as f64
        };
        self.below = (free as f64) < floor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_once_there_is_clearly_room_again() {
        let mut floor = Floor::new(Path::new("/var/lib/callfeed.db"), 1000);
        for (free, below) in [
            (1000, false),
            (999, true),
            (1000, true),
            (1049, true),
            (1050, false),
            (1000, false),
        ] {
            floor.look(free);
            assert_eq!(floor.below, below, "{free}");
        }
    }
}
