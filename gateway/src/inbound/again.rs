//! Webhooks of the record that are looked at again, after their plugin was corrected: those in quarantine become events, and
//! what others became is said better.
//!
//! The feed is only added to. An event that says something else now is followed by its correction, which names it.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Value, json};

use super::{DETAIL_BYTES, Inbound, Route, receive};
use crate::{
    event::{EventId, Kept, RawWebhook},
    plugin::{Fault, MappedEvent, Rejection, Verdict},
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
    pub async fn renormalize(&self, number: u64, dry_run: bool) -> Result<Result<Vec<Change>, String>, Impossible> {
        let history = self.store.history();
        let webhook = history
            .webhook_numbered(number)
            .await?
            .ok_or(Impossible::Gone(number))?;
        let mut in_force = in_force(&history.events_of(number).await?);
        let (route, mapped) = match self.map_again(number, &webhook).await? {
            Said::Events(route, mapped) => (route, mapped),
            Said::Nothing => return Ok(Err("the plugin has nothing to report of it any more".to_owned())),
            Said::Refused(reason, detail) => return Ok(Err(format!("{}: {detail}", reason.as_str()))),
        };
        let grant = &route.grant;
        let (mut changes, mut new) = (Vec::new(), Vec::new());
        for mapped in mapped {
            let event = match self.validator.events(grant, vec![mapped.clone()], webhook.received_at) {
                Ok(events) => events.into_iter().next().expect("one event makes one"),
                Err(invalid) => return Ok(Err(format!("invalid: {invalid}"))),
            };
            let after = says(&event.close_json(0));
            let Some((known, before)) = in_force.remove(&event.id) else {
                // Another webhook may have become it before.
                if history.event(event.id).await?.is_some() {
                    continue;
                }
                changes.push(Change {
                    what: What::Added(event.id),
                    before: None,
                    after: Some(after),
                });
                new.push(event);
                continue;
            };
            if before == after {
                continue;
            }
            let correction = match self.validator.correction(grant, mapped, webhook.received_at, known) {
                Ok(correction) => correction,
                Err(invalid) => return Ok(Err(format!("invalid: {invalid}"))),
            };
            changes.push(Change {
                what: What::Corrected {
                    event: known,
                    by: correction.id,
                },
                before: Some(before),
                after: Some(after),
            });
            new.push(correction);
        }
        changes.extend(in_force.into_values().map(|(event, before)| Change {
            what: What::NotMade(event),
            before: Some(before),
            after: None,
        }));
        if !dry_run && !new.is_empty() {
            self.keep_again(number, Mapped::Events(new)).await?;
        }
        Ok(Ok(changes))
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

/// The events of one webhook that no other one corrects, and what they say, by the id that their first version has.
fn in_force(kept: &[Kept]) -> HashMap<EventId, (EventId, Value)> {
    let mut first = HashMap::new();
    let mut in_force = HashMap::new();
    for event in kept {
        let json: Value = serde_json::from_slice(&event.json).expect("what was kept is JSON");
        let corrects = json["data"]["corrects"].as_str().and_then(|id| id.parse().ok());
        let first_version = corrects
            .and_then(|id: EventId| first.get(&id).copied())
            .unwrap_or(event.id);
        first.insert(event.id, first_version);
        in_force.insert(first_version, (event.id, says(&event.json)));
    }
    in_force
}

/// What an event says, without what only this version of it has.
fn says(event: &[u8]) -> Value {
    let mut event: Value = serde_json::from_slice(event).expect("an event is JSON");
    let mut data = event["data"].take();
    if let Some(data) = data.as_object_mut() {
        data.remove("corrects");
    }
    json!({ "type": event["type"], "subject": event["subject"], "time": event["time"], "data": data })
}
