//! The form of a journal: what happened to one file since it was last safe on disk, with what was there before.
//!
//! A journal is written beside every change, before it, so that a process that is killed leaves a true one. Shared by
//! the shim, which writes, and the runner, which reads, as source.

/// Begins every record.
pub(crate) const MAGIC: u32 = 0xcafe_fa17;
/// Bytes of a record before the old content.
pub(crate) const HEAD_BYTES: usize = 48;

/// What a record tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `length` bytes at `offset` are about to be written; their old content follows as far as there was any.
    Write,
    /// The file is about to be cut, or grown, to `length`; what is cut off follows.
    Truncate,
    /// What has numbers up to this record's is on disk, unless it was forgotten.
    Synced,
    /// What has numbers up to this record's and was not on disk was taken for written though it is not.
    Forgotten,
    /// The file was made; its name is not on disk.
    Created,
    /// Its name is on disk.
    Named,
}

impl Kind {
    fn code(self) -> u32 {
        match self {
            Self::Write => 1,
            Self::Truncate => 2,
            Self::Synced => 3,
            Self::Forgotten => 4,
            Self::Created => 5,
            Self::Named => 6,
        }
    }

    fn of(code: u32) -> Option<Self> {
        [
            Self::Write,
            Self::Truncate,
            Self::Synced,
            Self::Forgotten,
            Self::Created,
            Self::Named,
        ]
        .into_iter()
        .find(|kind| kind.code() == code)
    }
}

/// A record without the old content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    /// Ascending within a file.
    pub(crate) number: u64,
    pub(crate) offset: u64,
    pub(crate) length: u64,
    /// How long the file was before.
    pub(crate) file_bytes: u64,
    /// Bytes of old content that follow.
    pub(crate) old_bytes: u64,
}

impl Head {
    pub(crate) fn encode(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..4].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.kind.code().to_le_bytes());
        let words = [self.number, self.offset, self.length, self.file_bytes, self.old_bytes];
        for (place, word) in bytes[8..].chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// `None` when these bytes are no head: the journal's last record may be cut short.
    pub(crate) fn decode(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let half = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let word = |index: usize| {
            let at = 8 + index * 8;
            u64::from(half(at)) | u64::from(half(at + 4)) << 32
        };
        if half(0) != MAGIC {
            return None;
        }
        Some(Self {
            kind: Kind::of(half(4))?,
            number: word(0),
            offset: word(1),
            length: word(2),
            file_bytes: word(3),
            old_bytes: word(4),
        })
    }
}
