//! What an operator can have done to deliveries while the gateway runs.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Outbound, filter::passes, follow::Follower};
use crate::{
    event::{ERASED, EventId},
    store::{self, Query},
};

/// How far a replay of many got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replayed {
    Some {
        count: usize,
        /// The last place looked at.
        last: u64,
    },
    /// There are no more.
    End,
    /// The subscriber owes as many deliveries as it may. Once some of them are made there is room again.
    Full,
}

/// Why an operator's wish cannot be fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("there is no subscriber {0:?} in the configuration the gateway runs with")]
    NoSubscriber(String),
    #[error("there is no event {0}")]
    NoEvent(EventId),
    #[error("event {0} was erased: there is nothing left to deliver")]
    Erased(EventId),
    #[error("types and where of subscriber {subscriber:?} do not let {event} pass; change its block and reload")]
    NotWanted { subscriber: String, event: EventId },
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Outbound {
    /// Goes on with a subscriber that was stopped, from where it was. Does nothing to one that was not.
    ///
    /// # Errors
    ///
    /// When there is no such subscriber, or the store cannot write.
    pub async fn resume(&self, subscriber: &str) -> Result<(), Refused> {
        self.check(subscriber)?;
        self.store.resume(subscriber).await?;
        self.look_again(subscriber);
        Ok(())
    }

    /// Delivers an event once more, whatever became of it: at once, and then by the whole schedule. Attempts are
    /// numbered on from those on record.
    ///
    /// # Errors
    ///
    /// When there is no such subscriber or event, the subscriber does not want it, or the store fails.
    pub async fn replay(&self, subscriber: &str, id: EventId) -> Result<(), Refused> {
        let follower = self.check(subscriber)?;
        let event = self.store.history().event(id).await?.ok_or(Refused::NoEvent(id))?;
        if event.kind == ERASED {
            return Err(Refused::Erased(id));
        }
        if !passes(&follower.subscriber.filter, &event) {
            return Err(Refused::NotWanted {
                subscriber: subscriber.to_owned(),
                event: id,
            });
        }
        self.put_back(subscriber, vec![event.seq]).await
    }

    /// Delivers the next events that `query` asks for once more, in feed order after a place: those the subscriber wants, each
    /// as [`Outbound::replay`] does.
    ///
    /// # Errors
    ///
    /// When there is no such subscriber, or the store fails.
    pub async fn replay_some(&self, query: Query, after: u64, until: Option<Timestamp>) -> Result<Replayed, Refused> {
        let name = query.subscriber.clone().unwrap_or_default();
        let follower = self.check(&name)?;
        let limit = query.limit;
        let found = self.store.history().replayable(query, after, until).await?;
        if found.waiting + limit > follower.subscriber.waiting_max.max(limit) {
            return Ok(Replayed::Full);
        }
        let Some(last) = found.events.last().map(|event| event.seq) else {
            return Ok(Replayed::End);
        };
        let wanted = found
            .events
            .iter()
            .filter(|event| passes(&follower.subscriber.filter, event));
        let wanted: Vec<_> = wanted.map(|event| event.seq).collect();
        let count = wanted.len();
        if count > 0 {
            self.put_back(&name, wanted).await?;
        }
        Ok(Replayed::Some { count, last })
    }

    /// Puts deliveries into the subscriber's retry set, and has its loop see them.
    async fn put_back(&self, subscriber: &str, seqs: Vec<u64>) -> Result<(), Refused> {
        self.store.replay(subscriber, seqs).await?;
        self.look_again(subscriber);
        Ok(())
    }

    fn check(&self, subscriber: &str) -> Result<Arc<Follower>, Refused> {
        self.follower(subscriber)
            .ok_or_else(|| Refused::NoSubscriber(subscriber.to_owned()))
    }
}
