//! Webhooks of the record that are looked at again, after their plugin was corrected: those in quarantine become events, and
//! what others became is said better.
//!
//! The feed is only added to. An event that says something else now is followed by its correction, which names it.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{DETAIL_BYTES, Inbound, Invalid, Route, receive};
use crate::{
    event::{Event, EventId, Kept, RawWebhook},
    plugin::{Fault, Grant, MappedEvent, Rejection, Verdict},
    store::{self, Mapped, Reason, Receipt},
    telemetry::one_line,
};

/// Why a webhook cannot be looked at again.
#[derive(Debug, thiserror::Error)]
pub enum Impossible {
    #[error("there is no webhook {0} in quarantine")]
    NotInQuarantine(u64),
    #[error("webhook {0} is not kept any more")]
    Gone(u64),
    #[error("webhook {number} came in on route {route:?}, which the configuration does not have any more")]
    NoRoute { number: u64, route: String },
    #[error("the plugin was busy; try again")]
    Busy,
    #[error(transparent)]
    Store(#[from] store::Error),
}

/// What a webhook in quarantine became.
#[derive(Debug)]
pub enum Retried {
    /// It left quarantine. No events: the plugin has nothing to report of it.
    Released(Vec<EventId>),
    Refused {
        reason: Reason,
        detail: String,
    },
}

/// What came of comparing a webhook of the record with the feed.
#[derive(Debug)]
pub enum Renormalized {
    /// What is said differently now; nothing when all is as it was.
    Compared(Vec<Change>),
    /// The plugin makes no event of it any more, and why.
    Refused(String),
    /// Not all that it became is in the feed any more: what was forgotten would come again as new.
    Forgotten,
}

/// What looking at one webhook again would add to the feed, or added.
#[derive(Debug)]
pub struct Change {
    pub what: What,
    /// The event as it is in the feed: its type, subject, time and data.
    pub before: Option<Value>,
    pub after: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// An event of the feed, and the one that corrects it.
    Corrected { event: EventId, by: EventId },
    /// An event the webhook had not become before.
    Added(EventId),
    /// The plugin does not make this event of the webhook any more. It stays.
    NotMade(EventId),
}

/// What a plugin says today of a webhook of the record.
enum Said {
    Events(Arc<Route>, Vec<MappedEvent>),
    Nothing,
    Refused(Reason, String),
}

impl Inbound {
    /// Has a webhook in quarantine mapped again. What it becomes takes the next places in the feed, with its own time.
    ///
    /// # Errors
    ///
    /// When it is not there, its route is not, or the store fails. It stays as it was then.
    pub async fn retry(&self, number: u64) -> Result<Retried, Impossible> {
        let entry = self.store.history().quarantined(number).await?;
        let webhook = entry.ok_or(Impossible::NotInQuarantine(number))?.webhook;
        let outcome = match self.map_again(number, &webhook).await? {
            Said::Nothing => Mapped::Events(Vec::new()),
            Said::Refused(reason, detail) => Mapped::Quarantined { reason, detail },
            Said::Events(route, mapped) => match self.validator.events(&route.grant, mapped, webhook.received_at) {
                Ok(events) => Mapped::Events(events),
                Err(invalid) => Mapped::Quarantined {
                    reason: Reason::Invalid,
                    detail: one_line(&invalid.to_string(), DETAIL_BYTES),
                },
            },
        };
        let retried = match &outcome {
            Mapped::Events(events) => Retried::Released(events.iter().map(|event| event.id).collect()),
            Mapped::Quarantined { reason, detail } => Retried::Refused {
                reason: *reason,
                detail: detail.clone(),
            },
        };
        self.keep_again(number, outcome).await?;
        Ok(retried)
    }

    /// Compares what the installed plugin says of a webhook with what is in the feed, and adds what is new unless it is only
    /// to be looked at. Done twice it adds nothing the second time.
    ///
    /// # Errors
    ///
    /// When the webhook is not there, its route is not, or the store fails. Nothing is added then.
    pub async fn renormalize(&self, number: u64, dry_run: bool) -> Result<Renormalized, Impossible> {
        let history = self.store.history();
        let webhook = history
            .webhook_numbered(number)
            .await?
            .ok_or(Impossible::Gone(number))?;
        let kept = history.events_of(number).await?;
        let Some(in_force) = in_force(&kept) else {
            return Ok(Renormalized::Forgotten);
        };
        let (route, mapped) = match self.map_again(number, &webhook).await? {
            Said::Events(route, mapped) => (route, mapped),
            Said::Nothing => {
                let what = "the plugin has nothing to report of it any more";
                return Ok(Renormalized::Refused(what.to_owned()));
            }
            Said::Refused(reason, detail) => {
                return Ok(Renormalized::Refused(format!("{}: {detail}", reason.as_str())));
            }
        };
        let (mut changes, new) = match self.compare(&route.grant, mapped, webhook.received_at, in_force) {
            Ok(compared) => compared,
            Err(invalid) => return Ok(Renormalized::Refused(format!("invalid: {invalid}"))),
        };
        // Another webhook may have become it before.
        let mut unknown = Vec::new();
        for event in new {
            match history.knows(event.id).await? {
                true => changes.retain(|change| change.what != What::Added(event.id)),
                false => unknown.push(event),
            }
        }
        if !dry_run && !unknown.is_empty() {
            self.keep_again(number, Mapped::Events(unknown)).await?;
        }
        Ok(Renormalized::Compared(changes))
    }

    /// What is different, and the events that would say so.
    fn compare(
        &self,
        grant: &Grant,
        mapped: Vec<MappedEvent>,
        received_at: Timestamp,
        mut in_force: HashMap<EventId, &Kept>,
    ) -> Result<(Vec<Change>, Vec<Event>), Invalid> {
        let (mut changes, mut new) = (Vec::new(), Vec::new());
        for mapped in mapped {
            let replaced = in_force.remove(&EventId::derive(grant.route(), &mapped.id));
            let event = match replaced {
                None => self.validator.event(grant, mapped, received_at)?,
                Some(replaced) => self.validator.correction(grant, mapped, received_at, replaced)?,
            };
            let (before, after) = (replaced.map(|it| says(&it.json)), Some(says(&event.close_json(0))));
            if before == after {
                continue;
            }
            let what = match replaced {
                None => What::Added(event.id),
                Some(replaced) => What::Corrected {
                    event: replaced.id,
                    by: event.id,
                },
            };
            changes.push(Change { what, before, after });
            new.push(event);
        }
        changes.extend(in_force.into_values().map(|event| Change {
            what: What::NotMade(event.id),
            before: Some(says(&event.json)),
            after: None,
        }));
        Ok((changes, new))
    }

    async fn keep_again(&self, number: u64, outcome: Mapped) -> Result<Receipt, Impossible> {
        let kept = self.store.keep_again(number, outcome).await?;
        kept.ok_or(Impossible::Gone(number))
    }

    async fn map_again(&self, number: u64, webhook: &RawWebhook) -> Result<Said, Impossible> {
        let routes = self.routes.load_full();
        let route = routes.named(&webhook.route).ok_or_else(|| Impossible::NoRoute {
            number,
            route: webhook.route.clone(),
        })?;
        let Ok(request) = receive::from_record(route, webhook) else {
            return Ok(Said::Refused(
                Reason::Rejected,
                "it has more fields than a form may have".to_owned(),
            ));
        };
        let verdict = route
            .runtime
            .map_again(&route.grant, request, &webhook.form, webhook.payload.clone())
            .await;
        Ok(match verdict {
            Verdict::Accepted { events, .. } => Said::Events(Arc::clone(route), events),
            Verdict::Ignored { .. } | Verdict::Respond(_) => Said::Nothing,
            Verdict::Quarantine { fault, .. } | Verdict::Failed(fault) => match fault {
                Fault::Stopped(what) => Said::Refused(Reason::Fault, what),
                Fault::Rejected(rejection) => refused(&rejection),
            },
            Verdict::Rejected(rejection) => refused(&rejection),
            Verdict::Misconfigured(what) => Said::Refused(Reason::Fault, what),
            Verdict::Busy => return Err(Impossible::Busy),
        })
    }
}

fn refused(rejection: &Rejection) -> Said {
    Said::Refused(Reason::Rejected, format!("{}: {}", rejection.code, rejection.detail))
}

/// The events of one webhook that no other one corrects, by the id that their first version has. `None` when not all that
/// it became is in the feed: there is nothing then to tell what is new from what was forgotten.
fn in_force(kept: &[Kept]) -> Option<HashMap<EventId, &Kept>> {
    let mut first = HashMap::new();
    let mut in_force = HashMap::new();
    for event in kept {
        let json: Value = serde_json::from_slice(&event.json).expect("what was kept is JSON");
        let corrects: Option<EventId> = json["data"]["corrects"].as_str().and_then(|id| id.parse().ok());
        let first_version = match corrects {
            Some(id) => *first.get(&id)?,
            None => event.id,
        };
        first.insert(event.id, first_version);
        in_force.insert(first_version, event);
    }
    (!in_force.is_empty()).then_some(in_force)
}

/// What an event says, without what only this version of it has, and without the time when it is that of its webhook, which
/// the record has with fewer digits.
fn says(event: &[u8]) -> Value {
    let mut event: Value = serde_json::from_slice(event).expect("an event is JSON");
    let mut data = event["data"].take();
    if let Some(data) = data.as_object_mut() {
        data.remove("corrects");
    }
    let mut said = json!({ "type": event["type"], "subject": event["subject"] });
    if data["time_is_received"] != true {
        said["time"] = event["time"].take();
    }
    said["data"] = data;
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Facts;

    fn kept(name: &str, corrects: Option<&str>) -> Kept {
        let id = EventId::derive("r", name);
        let corrects = corrects.map(|name| EventId::derive("r", name).to_string());
        Kept {
            seq: 1,
            id,
            kind: "call.completed".to_owned(),
            subject: "p/1".to_owned(),
            route: "r".to_owned(),
            time: Timestamp::UNIX_EPOCH,
            kept_at: Timestamp::UNIX_EPOCH,
            facts: Facts::default(),
            json: json!({ "data": { "corrects": corrects } }).to_string().into(),
        }
    }

    #[test]
    fn the_last_correction_is_in_force_and_nothing_is_where_its_beginning_is_forgotten() {
        let (event, other) = (kept("a", None), kept("b", None));
        let (first, second) = (kept("c", Some("a")), kept("d", Some("c")));
        let all = [event.clone(), other.clone(), first.clone(), second.clone()];
        let in_force_ids = in_force(&all).unwrap().into_iter().map(|(id, it)| (id, it.id));
        assert_eq!(
            in_force_ids.collect::<HashMap<_, _>>(),
            [(event.id, second.id), (other.id, other.id)].into()
        );
        assert!(in_force(&[]).is_none());
        assert!(in_force(&[other, first]).is_none());
        assert!(in_force(&[second]).is_none());
    }
}
