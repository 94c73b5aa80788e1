//! The plugin kit: shows whether a plugin is right, from outside and in any language, before it meets a webhook.
//!
//! A plugin comes with [`Case`]s, webhooks as the provider sends them and what should become of each; [`examine`] runs
//! them through the same host that a gateway has, and from them works out everything else that must hold: that nothing
//! can be forged or lost, and that no body, however odd, stops it. [`inspect`] says what a file is, [`mod@bench`] what a call
//! costs, [`lab`] how a captured request is signed. A file may carry its cases; a gateway runs it with them before it serves
//! ([`rehearse`]). Nothing here serves a webhook.

use std::sync::Arc;

use jiff::Timestamp;

use crate::{
    config::{Limits, Provider},
    event::Event,
    inbound::Validator,
    plugin::{self, Conditions, Fault, Grant, MappedEvent, Plugin, Reply, Request, Runtime, Usage, Verdict},
};

mod answer;
pub mod bench;
pub mod case;
mod conformance;
mod files;
pub mod inspect;
pub mod lab;
mod leaves;
mod mutation;
pub mod project;
mod rehearsal;

pub use answer::Answer;
pub use case::{Case, RECEIVED_AT, bless};
pub use conformance::{Check, Failure, Finding, Options, Outcome, Progress, Report, examine};
pub use files::{Error, Files};
pub use rehearsal::{Rehearsed, Unfit, rehearse};

/// The host of a gateway without the gateway: plugins, and the schema behind them.
#[derive(Debug)]
pub struct Stand {
    pub runtime: Runtime,
    pub validator: Validator,
}

impl Stand {
    /// # Errors
    ///
    /// When the WebAssembly engine does not start.
    pub fn new(limits: &Limits) -> Result<Self, plugin::Error> {
        Ok(Self {
            runtime: Runtime::new(limits)?,
            validator: Validator::new(),
        })
    }

    /// # Errors
    ///
    /// Why the file cannot serve as a plugin.
    pub async fn load(&self, name: &str, wasm: &[u8]) -> Result<Arc<Plugin>, plugin::Error> {
        plugin::compile(&self.runtime, name, wasm).await.map(Arc::new)
    }

    /// The plugin of a provider that a configuration describes.
    ///
    /// # Errors
    ///
    /// When this build is damaged.
    pub async fn declare(&self, provider: &Provider) -> Result<Arc<Plugin>, plugin::Error> {
        plugin::declare(&self.runtime, provider).await.map(Arc::new)
    }

    /// What becomes of a webhook, up to its events.
    pub async fn judge(&self, grant: &Arc<Grant>, request: Request) -> Answer {
        let received_at_ms = request.received_at_ms;
        let verdict = self.runtime.call(grant, request).await;
        self.conclude(grant, received_at_ms, verdict)
    }

    /// The same under conditions, and what it took.
    pub(crate) async fn try_out(
        &self,
        grant: &Arc<Grant>,
        request: Request,
        conditions: Conditions,
    ) -> (Answer, Usage) {
        let received_at_ms = request.received_at_ms;
        let trial = self.runtime.try_out(grant, request, conditions).await;
        (self.conclude(grant, received_at_ms, trial.verdict), trial.usage)
    }

    /// The same for one who asks what a plugin does and not what this machine is busy with: what is over its time is given it
    /// twice more, for other work costs a plugin some, too.
    pub(crate) async fn try_fairly(
        &self,
        grant: &Arc<Grant>,
        request: Request,
        conditions: Conditions,
    ) -> (Answer, Usage) {
        for _ in 0..2 {
            let (answer, usage) = self.try_out(grant, request.clone(), conditions).await;
            if !usage.is_over {
                return (answer, usage);
            }
        }
        self.try_out(grant, request, conditions).await
    }

    fn over_time(&self, body_bytes: usize, usage: Usage) -> String {
        format!(
            "a webhook of {body_bytes} bytes took {:.1} ms of processor time, more than limits.plugin_time ({:?})",
            usage.total().as_secs_f64() * 1e3,
            self.runtime.limits().plugin_time
        )
    }

    /// What the mapping alone makes of a webhook that was found authentic as `form`, with what was signed.
    pub(crate) async fn try_mapping(
        &self,
        grant: &Arc<Grant>,
        request: Request,
        form: &str,
        payload: Option<String>,
        conditions: Conditions,
    ) -> (Answer, Usage) {
        let received_at_ms = request.received_at_ms;
        let trial = self
            .runtime
            .try_mapping(grant, request, form, payload, conditions)
            .await;
        (self.conclude(grant, received_at_ms, trial.verdict), trial.usage)
    }

    fn conclude(&self, grant: &Grant, received_at_ms: u64, verdict: Verdict) -> Answer {
        match verdict {
            Verdict::Accepted { proof, events, reply } => {
                let received_at = i64::try_from(received_at_ms)
                    .ok()
                    .and_then(|ms| Timestamp::from_millisecond(ms).ok())
                    .unwrap_or_default();
                match self.validator.events(grant, events.clone(), received_at) {
                    Ok(valid) => Answer::Accepted(Accepted {
                        form: proof.form().to_owned(),
                        payload: proof.payload().map(str::to_owned),
                        mapped: events,
                        events: valid,
                        reply,
                    }),
                    Err(invalid) => Answer::Invalid {
                        mapped: events,
                        what: invalid.to_string(),
                    },
                }
            }
            Verdict::Ignored { proof, reason } => Answer::Ignored {
                form: proof.form().to_owned(),
                reason,
            },
            Verdict::Respond(reply) => Answer::Respond(reply),
            Verdict::Rejected(why) => Answer::Rejected(why),
            Verdict::Quarantine { fault, .. } => match fault {
                Fault::Rejected(why) => Answer::Quarantined(why),
                Fault::Stopped(what) => Answer::Stopped { authentic: true, what },
            },
            Verdict::Failed(fault) => match fault {
                Fault::Rejected(why) => Answer::Rejected(why),
                Fault::Stopped(what) => Answer::Stopped { authentic: false, what },
            },
            Verdict::Misconfigured(what) => Answer::Misconfigured(what),
            Verdict::Busy => Answer::Busy,
        }
    }
}

/// An authentic webhook, what its plugin wrote, and the events made of it.
#[derive(Debug)]
pub struct Accepted {
    pub form: String,
    /// What was really signed, where that is not the body.
    pub payload: Option<String>,
    pub mapped: Vec<MappedEvent>,
    pub events: Vec<Event>,
    pub reply: Option<Reply>,
}
