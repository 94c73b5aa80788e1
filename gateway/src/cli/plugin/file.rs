//! Files of which nobody sees half, and two that change places.

use std::{
    fs::{self, File, Metadata, Permissions},
    io::{self, ErrorKind, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown},
    path::{Path, PathBuf},
};

use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};
use tempfile::{NamedTempFile, TempPath};

use crate::cli::display;

/// Puts a file in the place of what is there, or nothing of it, and returns when it is on the disk.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let (file, _) = beside(path, content)?;
    file.persist(path)?;
    sync(path)
}

/// `None` when it is not there.
pub(super) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match found(path)? {
        Some(metadata) if !metadata.is_file() => Err(io::Error::other("it is not a file")),
        Some(_) => fs::read(path).map(Some),
        None => Ok(None),
    }
}

pub(super) fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    }
}

fn found(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn sync(path: &Path) -> io::Result<()> {
    File::open(directory(path))?.sync_all()
}

/// Another file for this place, on the disk, with the mode of the one that is there, and whether its owner could be kept.
fn beside(path: &Path, content: &[u8]) -> io::Result<(NamedTempFile, bool)> {
    let former = found(path)?;
    let mut file = NamedTempFile::new_in(directory(path))?;
    file.write_all(content)?;
    let mut is_owner_kept = true;
    // The gateway may run as somebody else, and there is no secret in a plugin.
    let mut permissions = Permissions::from_mode(0o644);
    if let Some(former) = former {
        // The group first: who gave a file away cannot give it to a group any more.
        is_owner_kept = fchown(file.as_file(), None, Some(former.gid())).is_ok()
            && fchown(file.as_file(), Some(former.uid()), None).is_ok();
        permissions = former.permissions();
    }
    file.as_file().set_permissions(permissions)?;
    file.as_file().sync_all()?;
    Ok((file, is_owner_kept))
}

/// A file that took the place of another, which lies beside it now. Nothing is copied, so that the file before it comes back
/// as it was, with its owner and its mode.
#[derive(Debug)]
pub(super) struct Swap {
    steps: Vec<Step>,
    /// Where a new file was written, and what was beside the place before lies now.
    spare: Option<TempPath>,
    /// Whether the new file belongs to whom the former one does.
    pub(super) is_owner_kept: bool,
}

#[derive(Debug)]
enum Step {
    Exchanged(PathBuf, PathBuf),
    Moved { from: PathBuf, to: PathBuf },
}

impl Swap {
    /// Puts a new file in place, and that which is there beside it, as `previous`.
    pub(super) fn install(path: &Path, previous: &Path, content: &[u8]) -> anyhow::Result<Self> {
        let written = beside(path, content);
        let (file, is_owner_kept) = written.map_err(|error| untouched(path, &error))?;
        let spare = file.into_temp_path();
        let mut steps = Vec::new();
        if !path.exists() {
            steps.push(Step::moved(&spare, path));
        } else {
            steps.push(match previous.exists() {
                true => Step::exchanged(&spare, previous),
                false => Step::moved(&spare, previous),
            });
            steps.push(Step::exchanged(path, previous));
        }
        Self {
            steps: Vec::new(),
            spare: Some(spare),
            is_owner_kept,
        }
        .take(path, steps)
    }

    /// Has a file and the one beside it change places.
    pub(super) fn back(path: &Path, previous: &Path) -> anyhow::Result<Self> {
        let step = match path.exists() {
            true => Step::exchanged(path, previous),
            false => Step::moved(previous, path),
        };
        Self {
            steps: Vec::new(),
            spare: None,
            is_owner_kept: true,
        }
        .take(path, vec![step])
    }

    fn take(mut self, path: &Path, steps: Vec<Step>) -> anyhow::Result<Self> {
        let mut taken = Ok(());
        for step in steps {
            taken = step.forth();
            if taken.is_err() {
                break;
            }
            self.steps.push(step);
        }
        match taken.and_then(|()| sync(path)) {
            Ok(()) => Ok(self),
            Err(error) => Err(match self.undo() {
                Ok(()) => untouched(path, &error),
                Err(left) => left.context(format!("failed to write {}: {error}", display(path))),
            }),
        }
    }

    /// Puts all back. The error says what lies where.
    pub(super) fn undo(mut self) -> anyhow::Result<()> {
        while let Some(step) = self.steps.pop() {
            if let Err(error) = step.back() {
                self.steps.push(step);
                let mut lie: Vec<_> = self.steps.iter().map(Step::told).collect();
                drop(self.spare.take().map(TempPath::keep));
                lie.reverse();
                anyhow::bail!("failed to put back what was there: {error}; {}", lie.join("; "));
            }
            let (Step::Exchanged(path, _) | Step::Moved { to: path, .. }) = &step;
            // They are back; that a power cut could still undo it is nothing to act upon.
            drop(sync(path));
        }
        Ok(())
    }
}

fn untouched(path: &Path, error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!("failed to write {}: {error}; nothing has changed", display(path))
}

impl Step {
    fn exchanged(one: &Path, other: &Path) -> Self {
        Self::Exchanged(one.to_owned(), other.to_owned())
    }

    fn moved(from: &Path, to: &Path) -> Self {
        Self::Moved {
            from: from.to_owned(),
            to: to.to_owned(),
        }
    }

    fn forth(&self) -> io::Result<()> {
        match self {
            Self::Exchanged(one, other) => exchange(one, other),
            Self::Moved { from, to } => fs::rename(from, to),
        }
    }

    fn back(&self) -> io::Result<()> {
        match self {
            Self::Exchanged(one, other) => exchange(one, other),
            Self::Moved { from, to } => fs::rename(to, from),
        }
    }

    /// What it left, where it was not undone.
    fn told(&self) -> String {
        match self {
            Self::Exchanged(one, other) => {
                format!("{} and {} have changed places", display(one), display(other))
            }
            Self::Moved { from, to } => format!("{} was {}", display(to), display(from)),
        }
    }
}

/// Whoever looks, or cuts the power, finds both in one order or in the other.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => exchange_by_link(one, other),
        done => Ok(done?),
    }
}

/// For a file system that cannot exchange: there is always a whole file at `one`, and neither is ever without a name.
fn exchange_by_link(one: &Path, other: &Path) -> io::Result<()> {
    let link = tempfile::Builder::new().make_in(directory(one), |link| fs::hard_link(one, link))?;
    fs::rename(other, one)?;
    link.into_temp_path().persist(other).map_err(|failed| {
        let (is, was) = (failed.path.display().to_string(), display(one));
        match failed.path.keep() {
            Ok(_) => io::Error::other(format!(
                "{}; {is} was {was}, and {was} was {}",
                failed.error,
                display(other)
            )),
            Err(lost) => lost.error,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        directory: tempfile::TempDir,
        path: PathBuf,
        previous: PathBuf,
    }

    fn place(path: Option<&str>, previous: Option<&str>) -> Place {
        let directory = tempfile::tempdir().unwrap();
        let place = Place {
            path: directory.path().join("a.wasm"),
            previous: directory.path().join("a.wasm.previous"),
            directory,
        };
        for (at, content) in [(&place.path, path), (&place.previous, previous)] {
            if let Some(content) = content {
                fs::write(at, content).unwrap();
            }
        }
        place
    }

    impl Place {
        fn install(&self) -> anyhow::Result<Swap> {
            Swap::install(&self.path, &self.previous, b"new")
        }

        fn lies(&self) -> [Option<String>; 2] {
            [&self.path, &self.previous].map(|path| fs::read_to_string(path).ok())
        }

        fn files(&self) -> usize {
            fs::read_dir(self.directory.path()).unwrap().count()
        }
    }

    #[test]
    fn files_change_places_and_back() {
        for (path, previous) in [
            (None, None),
            (None, Some("older")),
            (Some("old"), None),
            (Some("old"), Some("older")),
        ] {
            let place = place(path, previous);
            let before = (place.lies(), place.files());
            let inode = || fs::metadata(&place.path).ok().map(|metadata| metadata.ino());
            let former = inode();
            let swap = place.install().unwrap();
            let kept = path.or(previous).map(str::to_owned);
            assert_eq!(place.lies(), [Some("new".to_owned()), kept.clone()]);
            swap.undo().unwrap();
            assert_eq!((place.lies(), place.files()), before);
            assert_eq!(inode(), former);

            drop(place.install().unwrap());
            assert_eq!(place.files(), 1 + usize::from(kept.is_some()));
            if kept.is_some() {
                let swap = Swap::back(&place.path, &place.previous).unwrap();
                assert_eq!(place.lies(), [kept.clone(), Some("new".to_owned())]);
                swap.undo().unwrap();
            }
            assert_eq!(place.lies(), [Some("new".to_owned()), kept]);
        }
    }

    #[test]
    fn a_file_keeps_owner_and_mode_of_the_one_before_it() {
        let place = place(Some("old"), None);
        // Only root can; for others the files are theirs before and after.
        drop(std::os::unix::fs::chown(&place.path, Some(4242), Some(4243)));
        let owner = |path| {
            fs::metadata(path)
                .map(|metadata| (metadata.uid(), metadata.gid()))
                .unwrap()
        };
        let before = owner(&place.path);
        fs::set_permissions(&place.path, Permissions::from_mode(0o640)).unwrap();
        assert!(place.install().unwrap().is_owner_kept);
        for path in [&place.path, &place.previous] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o7777, 0o640);
            assert_eq!(owner(path), before);
        }
    }

    #[test]
    fn a_step_that_fails_undoes_those_before_it() {
        let place = place(Some("old"), Some("older"));
        fs::remove_file(&place.previous).unwrap();
        fs::create_dir(&place.previous).unwrap();
        fs::write(place.previous.join("in the way"), "").unwrap();
        let spare = place.directory.path().join("spare");
        fs::write(&spare, "new").unwrap();
        let swap = Swap {
            steps: Vec::new(),
            spare: None,
            is_owner_kept: true,
        };
        let steps = vec![
            Step::exchanged(&spare, &place.path),
            Step::moved(&place.path, &place.previous),
        ];
        let error = swap.take(&place.path, steps).unwrap_err().to_string();
        assert!(error.ends_with("; nothing has changed"), "{error}");
        assert_eq!(fs::read(&place.path).unwrap(), b"old");
        assert_eq!(fs::read(&spare).unwrap(), b"new");
    }

    #[test]
    fn what_cannot_be_put_back_is_said_to_lie_where_it_does() {
        let place = place(Some("old"), Some("older"));
        let swap = place.install().unwrap();
        fs::remove_file(&place.previous).unwrap();
        let error = swap.undo().unwrap_err().to_string();
        let (path, previous) = (display(&place.path), display(&place.previous));
        assert!(
            error.contains(&format!("; {path} and {previous} have changed places; ")),
            "{error}"
        );
        let (_, rest) = error.rsplit_once("; ").unwrap();
        let (spare, _) = rest.split_once(" and ").unwrap();
        assert_eq!(fs::read(spare).unwrap(), b"older");
        assert_eq!(fs::read(&place.path).unwrap(), b"new");
    }

    #[test]
    fn two_files_change_places_where_only_links_are_to_be_had() {
        let place = place(Some("one"), Some("other"));
        exchange_by_link(&place.path, &place.previous).unwrap();
        assert_eq!(place.lies(), [Some("other".to_owned()), Some("one".to_owned())]);
        assert_eq!(place.files(), 2);
        fs::remove_file(&place.previous).unwrap();
        exchange_by_link(&place.path, &place.previous).unwrap_err();
        assert_eq!(place.lies(), [Some("other".to_owned()), None]);
        assert_eq!(place.files(), 1);
    }
}
