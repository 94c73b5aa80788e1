//! What an operator can have done to deliveries while the gateway runs.

use super::Outbound;
use crate::{
    clock,
    event::EventId,
    store::{self, Settlement, Waiting},
};

/// Why an operator's wish cannot be fulfilled.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("there is no subscriber {0:?} in the configuration the gateway runs with")]
    NoSubscriber(String),
    #[error("there is no event {0}")]
    NoEvent(EventId),
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
    /// When there is no such subscriber or event, or the store fails.
    pub async fn replay(&self, subscriber: &str, id: EventId) -> Result<(), Refused> {
        self.check(subscriber)?;
        let history = self.store.history();
        let event = history.event(id).await?.ok_or(Refused::NoEvent(id))?;
        let attempts = history.attempts(id, Some(subscriber.to_owned())).await?;
        let waiting = Waiting {
            seq: event.seq,
            subject: event.subject,
            kept_at: event.kept_at,
            attempts: attempts.iter().map(|(_, attempt)| attempt.number).max().unwrap_or(0),
            due_at: clock::now(),
        };
        let settlement = Settlement {
            subscriber: subscriber.to_owned(),
            waiting: vec![waiting],
            ..Settlement::default()
        };
        self.store.settle(settlement).await?;
        self.look_again(subscriber);
        Ok(())
    }

    fn check(&self, subscriber: &str) -> Result<(), Refused> {
        match self.follower(subscriber) {
            Some(_) => Ok(()),
            None => Err(Refused::NoSubscriber(subscriber.to_owned())),
        }
    }
}
