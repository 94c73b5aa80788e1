//! The inbound road: receive → authenticate + map → validate → keep → answer.
//!
//! It ends when the event is durable, and only then is the sender answered. From receive to keep the work runs detached
//! from the connection: a sender that hangs up stops nothing half-way. This road never looks at subscribers.

use std::{net::SocketAddr, sync::Arc};

use arc_swap::ArcSwap;
use hyper::{Request, Response, body::Incoming};
use jiff::Timestamp;
use tokio_util::task::TaskTracker;

use crate::{
    config,
    event::{EventId, RawWebhook},
    plugin::{Assurance, Fault, Proof, RejectionKind, Verdict},
    store::{Mapped, Place, Reason, Receipt, Store, Submission},
    telemetry::one_line,
};

mod again;
mod answer;
mod listen;
mod metrics;
mod receive;
mod route;
mod validate;

pub use again::{Change, Impossible, Renormalized, Retried, What};
pub use answer::Answer;
pub use listen::{Certificate, Listener};
pub use metrics::{Meters, Metrics};
pub(crate) use receive::request_of;
pub use route::{Route, Routes};
pub use validate::{Invalid, SCHEMA, SCHEMA_ID, Validator};

use metrics::Taken;
use receive::{InHand, Received};

/// Bytes of an explanation for the operator.
const DETAIL_BYTES: usize = 1 << 10;

/// Everything a webhook meets on its way in.
#[derive(Debug)]
pub struct Inbound {
    bounds: config::Server,
    /// Those of the configuration read last.
    routes: ArcSwap<Routes>,
    validator: Validator,
    store: Store,
    metrics: Metrics,
    in_hand: InHand,
    /// What runs detached from its connection.
    tasks: TaskTracker,
}

impl Inbound {
    pub fn new(bounds: config::Server, routes: Routes, store: Store, metrics: Metrics) -> Self {
        let (validator, tasks) = (Validator::new(), TaskTracker::new());
        let in_hand = InHand::new(bounds.in_hand_bytes_max);
        Self {
            in_hand,
            bounds,
            routes: ArcSwap::from_pointee(routes),
            validator,
            store,
            metrics,
            tasks,
        }
    }

    /// Takes webhooks by these routes from now on. Those in hand end as they began.
    pub fn serve(&self, routes: Routes) {
        self.routes.store(Arc::new(routes));
    }

    /// The routes of other providers than the one whose subject this is.
    pub fn strangers_to(&self, subject: &str) -> Vec<String> {
        let provider = subject.split_once('/').map_or(subject, |(provider, _)| provider);
        let routes = self.routes.load();
        let strangers = routes
            .all()
            .filter(|route| route.grant.plugin.descriptor.provider != provider);
        strangers.map(|route| route.name.clone()).collect()
    }

    /// Answers one request.
    async fn handle(self: Arc<Self>, request: Request<Incoming>, peer: SocketAddr) -> Response<answer::Body> {
        let routes = self.routes.load_full();
        let received = match receive::receive(&routes, &self.bounds, &self.in_hand, request, peer).await {
            Ok(received) => received,
            Err(refused) => {
                self.metrics.refused(&refused);
                return refused.into_response();
            }
        };
        let this = Arc::clone(&self);
        let taken = self.tasks.spawn(async move { this.take(received).await });
        // A panic is a fault of ours: the sender should try again.
        taken.await.unwrap_or(Answer::Unavailable).into_response()
    }

    /// Takes one webhook from its plugin to the store.
    async fn take(&self, received: Received) -> Answer {
        let started = std::time::Instant::now();
        let Received {
            route,
            request,
            webhook,
            place: _place,
        } = received;
        let verdict = route.runtime.call(&route.grant, request).await;
        route.meters.plugin_done(started.elapsed());
        let (answer, taken) = self.conclude(&route, webhook, verdict).await;
        route.meters.taken(taken, started.elapsed());
        answer
    }

    async fn conclude(&self, route: &Route, webhook: RawWebhook, verdict: Verdict) -> (Answer, Taken) {
        match verdict {
            Verdict::Accepted { proof, events, reply } => {
                let events = self.validator.events(&route.grant, events, webhook.received_at);
                let (outcome, ids) = match events {
                    Ok(events) => {
                        let ids: Vec<EventId> = events.iter().map(|event| event.id).collect();
                        (Mapped::Events(events), ids)
                    }
                    Err(invalid) => {
                        let detail = one_line(&invalid.to_string(), DETAIL_BYTES);
                        route.report_fault("its event is not valid", &detail);
                        (
                            Mapped::Quarantined {
                                reason: Reason::Invalid,
                                detail,
                            },
                            Vec::new(),
                        )
                    }
                };
                let (answer, taken) = self.keep(route, webhook, &proof, outcome, ids).await;
                match (answer, reply) {
                    (Answer::Accepted(_), Some(reply)) => (Answer::Reply(reply), taken),
                    (answer, _) => (answer, taken),
                }
            }
            Verdict::Quarantine { proof, fault } => {
                let (reason, detail) = match fault {
                    Fault::Stopped(what) => (Reason::Fault, what),
                    Fault::Rejected(rejection) => {
                        (Reason::Rejected, format!("{}: {}", rejection.code, rejection.detail))
                    }
                };
                route.report_fault("the plugin could not map an authentic webhook", &detail);
                self.keep(
                    route,
                    webhook,
                    &proof,
                    Mapped::Quarantined { reason, detail },
                    Vec::new(),
                )
                .await
            }
            Verdict::Ignored { proof, reason } => {
                tracing::debug!(route = route.name, form = proof.form(), reason, "ignored");
                (Answer::Accepted(Vec::new()), Taken::Ignored)
            }
            Verdict::Respond(reply) => (Answer::Reply(reply), Taken::Responded),
            Verdict::Rejected(rejection) => {
                route.report_rejection(&rejection, &webhook);
                let answer = match rejection.kind {
                    RejectionKind::Unauthenticated | RejectionKind::Malformed => Answer::NotAuthentic,
                    RejectionKind::Unsupported => Answer::UnsupportedMediaType,
                };
                (answer, Taken::Rejected)
            }
            Verdict::Failed(Fault::Stopped(what)) => {
                route.report_fault("the plugin failed before anything was proven", &what);
                (Answer::Unavailable, Taken::Failed)
            }
            Verdict::Failed(Fault::Rejected(rejection)) => {
                route.report_rejection(&rejection, &webhook);
                (Answer::NotAuthentic, Taken::Rejected)
            }
            Verdict::Misconfigured(what) => {
                route.report_fault("the route lacks what its plugin needs", &what);
                (Answer::Unavailable, Taken::Failed)
            }
            Verdict::Busy => (Answer::Unavailable, Taken::Busy),
        }
    }

    /// Keeps what the webhook became. Only what this answers with 200 is durable.
    async fn keep(
        &self,
        route: &Route,
        mut webhook: RawWebhook,
        proof: &Proof,
        outcome: Mapped,
        ids: Vec<EventId>,
    ) -> (Answer, Taken) {
        proof.form().clone_into(&mut webhook.form);
        webhook.payload = proof.payload().map(str::to_owned);
        // A token proves a webhook by being shown, and no reader of the record may be able to show it.
        if proof.assurance() == Some(Assurance::Token)
            && let Some(body) = route.grant.redact_body(&webhook.body)
        {
            webhook.body = body;
        }
        route.note_form(proof);
        match self.store.keep(Submission { webhook, outcome }).await {
            Ok(Receipt::Events(places)) => {
                let new = places.iter().filter(|place| matches!(place, Place::New(_))).count();
                tracing::debug!(route = route.name, ?ids, new, "kept");
                let taken = if new > 0 { Taken::Kept } else { Taken::Duplicate };
                (Answer::Accepted(ids), taken)
            }
            Ok(Receipt::Quarantined(number)) => {
                tracing::warn!(
                    route = route.name,
                    number,
                    "quarantined; `callfeed quarantine show {number}` shows it"
                );
                (Answer::Accepted(Vec::new()), Taken::Quarantined)
            }
            Err(error) => {
                route.report_fault(
                    "the webhook could not be kept; the provider was asked to send it again",
                    &error.to_string(),
                );
                (Answer::Unavailable, Taken::Unavailable)
            }
        }
    }

    /// Waits until nothing is half-way any more.
    pub async fn drain(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// The moment a webhook came in, in the contract's unit.
fn epoch_ms(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}
