//! How the subscribers stand: what their loops last said of themselves, and what the record knows besides.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

use super::Outbound;
use crate::{
    redaction,
    store::{self, Stopped},
};

/// How one subscriber stands.
#[derive(Debug, Clone)]
pub struct Standing {
    pub name: String,
    /// Without user and query.
    pub url: String,
    pub state: State,
    /// Deliveries that were given up, for as long as they are on record.
    pub dead: u64,
    pub progress: Seen,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    Up,
    /// Attempts are made one at a time.
    Down {
        since: Timestamp,
    },
    /// No attempts are made until somebody resumes it.
    Stopped(Stopped),
}

impl State {
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down { since: _ } => "down",
            Self::Stopped(_) => "stopped",
        }
    }

    pub fn since(&self) -> Option<Timestamp> {
        match self {
            Self::Up => None,
            Self::Down { since } => Some(*since),
            Self::Stopped(stopped) => Some(stopped.at),
        }
    }
}

/// What a subscriber's loop saw of it, since the process began.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub cursor: u64,
    /// The feed's head less the cursor.
    pub lag: u64,
    /// Deliveries in the retry set.
    pub waiting: usize,
    pub in_flight: usize,
    pub down_since: Option<Timestamp>,
    pub last_delivered: Option<Timestamp>,
    pub last_failed: Option<Failed>,
}

/// The last attempt that did not deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed {
    pub at: Timestamp,
    pub outcome: &'static str,
    pub status: Option<u16>,
}

/// Where a loop says it.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<Seen>);

impl Board {
    pub(super) fn write(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbound {
    /// How every subscriber of the configuration stands, by name.
    ///
    /// # Errors
    ///
    /// When the store cannot read.
    pub async fn standings(&self) -> Result<Vec<Standing>, store::Error> {
        let records = self.store.history().subscribers().await?.into_iter();
        let mut records: HashMap<_, _> = records.map(|record| (record.name.clone(), record)).collect();
        let standing = |follower: &super::Follower| {
            let name = follower.subscriber.name.clone();
            let progress = follower.board.write().clone();
            let record = records.remove(&name);
            let dead = record.as_ref().map_or(0, |record| record.dead);
            let state = match (record.and_then(|record| record.stopped), progress.down_since) {
                (Some(stopped), _) => State::Stopped(stopped),
                (None, Some(since)) => State::Down { since },
                (None, None) => State::Up,
            };
            Standing {
                url: redaction::shown_url(&follower.subscriber.url),
                name,
                state,
                dead,
                progress,
            }
        };
        let mut standings: Vec<_> = self.followers().iter().map(AsRef::as_ref).map(standing).collect();
        standings.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(standings)
    }
}
