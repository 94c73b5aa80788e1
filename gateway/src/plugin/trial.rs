//! One webhook through a plugin under conditions of one's own, and measured: for the kit, never for a route's webhook.

use std::{sync::Arc, time::Duration};

use super::{Descriptor, Error, Fault, Grant, Plugin, Proof, Request, Runtime, Verdict, call::Call, v1};
use crate::clock::processor_time;

/// What a trial changes of the world that a plugin sees. A gateway changes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Conditions {
    /// Every signature and token is found right, so that what comes after the check is reached with any body.
    pub believing: bool,
    /// What random numbers and clocks are made of. A right plugin says the same whatever it is.
    pub noise: u64,
}

/// How a webhook ended, and what it took.
#[derive(Debug)]
pub(crate) struct Trial {
    pub verdict: Verdict,
    pub usage: Usage,
}

/// What one webhook took of the machine. Times are those of the processor: a trial stays on its thread, as long as the future
/// that runs it does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub memory_bytes: usize,
    pub instantiate: Duration,
    /// With the way in and out of the instance, and with the host's cryptography.
    pub verify: Duration,
    pub normalize: Duration,
    /// The host's cryptography alone.
    pub crypto: Duration,
    /// It used up a bound on its time or memory.
    pub is_over: bool,
}

impl Usage {
    pub fn total(&self) -> Duration {
        self.instantiate + self.verify + self.normalize
    }
}

impl Runtime {
    /// Runs one webhook through a plugin, as [`Runtime::call`] does, under these conditions.
    pub(crate) async fn try_out(&self, grant: &Arc<Grant>, request: Request, conditions: Conditions) -> Trial {
        let _running = self.ticker.run();
        let mut usage = Usage::default();
        let mut call = match self.begin_trial(grant, request, conditions, &mut usage).await {
            Ok(call) => call,
            Err(what) => return failed(what, usage),
        };
        let began = processor_time();
        let verified = call.verify(self, grant).await;
        usage.verify = processor_time() - began;
        let began = processor_time();
        let verdict = match verified {
            Ok(proof) => call.normalize(self, grant, proof).await,
            Err(verdict) => *verdict,
        };
        usage.normalize = processor_time() - began;
        ended(self, &call, verdict, usage)
    }

    /// Maps a webhook without checking it, as is done with one from the record, with what was signed.
    pub(crate) async fn try_mapping(
        &self,
        grant: &Arc<Grant>,
        request: Request,
        form: &str,
        payload: Option<String>,
        conditions: Conditions,
    ) -> Trial {
        let _running = self.ticker.run();
        let mut usage = Usage::default();
        let mut call = match self.begin_trial(grant, request, conditions, &mut usage).await {
            Ok(call) => call,
            Err(what) => return failed(what, usage),
        };
        let proof = Proof {
            // What a token proved has none any more.
            assurance: Some(grant.plugin.descriptor.assurance),
            form: form.to_owned(),
            payload,
        };
        let began = processor_time();
        let verdict = call.normalize(self, grant, proof).await;
        usage.normalize = processor_time() - began;
        ended(self, &call, verdict, usage)
    }

    /// Asks a plugin once more to describe itself.
    ///
    /// # Errors
    ///
    /// When it fails to, or breaks the contract this time.
    pub(crate) async fn describe_again(&self, plugin: &Plugin, conditions: Conditions) -> Result<Descriptor, Error> {
        let raw = self.describe(&plugin.pre, conditions).await.map_err(Error::Describe)?;
        v1::descriptor(raw)
    }

    async fn begin_trial(
        &self,
        grant: &Arc<Grant>,
        request: Request,
        conditions: Conditions,
        usage: &mut Usage,
    ) -> Result<Call, String> {
        let state = self.state(grant, &request).on_trial(conditions);
        let began = processor_time();
        let call = self.instantiate(grant, request, state).await;
        usage.instantiate = processor_time() - began;
        call
    }
}

fn failed(what: String, usage: Usage) -> Trial {
    Trial {
        verdict: Verdict::Failed(Fault::Stopped(what)),
        usage: Usage { is_over: true, ..usage },
    }
}

fn ended(runtime: &Runtime, call: &Call, verdict: Verdict, usage: Usage) -> Trial {
    let state = call.store.data();
    let is_late = state.clockwork.is_over() || usage.total() > runtime.limits().plugin_time;
    Trial {
        verdict,
        usage: Usage {
            memory_bytes: state.growth.memory_bytes,
            crypto: state.crypto_time.unwrap_or_default(),
            is_over: state.growth.refused || is_late,
            ..usage
        },
    }
}
