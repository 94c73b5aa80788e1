//! What a call costs in processor time, and where it goes.

use std::{sync::Arc, time::Duration};

use super::{Answer, Case, Stand};
use crate::{
    clock::processor_time,
    plugin::{Conditions, Grant, Plugin, Request, Usage},
};

/// Calls before the first that counts.
const WARM_UP: usize = 50;

/// A part of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything, from the webhook to its valid events.
    Call,
    /// A fresh instance.
    Instantiate,
    /// The plugin's `verify`, without the host's cryptography: the way in and out, and the plugin's own code.
    Verify,
    /// The plugin's `normalize`, likewise.
    Normalize,
    /// The host's cryptography.
    Crypto,
    /// The event's schema, id and envelope.
    Validate,
}

impl Part {
    pub const ALL: [Self; 6] = [
        Self::Call,
        Self::Instantiate,
        Self::Verify,
        Self::Normalize,
        Self::Crypto,
        Self::Validate,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Instantiate => "instantiate",
            Self::Verify => "verify",
            Self::Normalize => "normalize",
            Self::Crypto => "host-crypto",
            Self::Validate => "validate",
        }
    }
}

/// What the calls took.
#[derive(Debug)]
pub struct Costs {
    pub calls: usize,
    pub memory_bytes_max: usize,
    /// Sorted.
    parts: Vec<(Part, Vec<Duration>)>,
}

impl Costs {
    /// The time that this share of the calls did not take longer than, for a part of them.
    pub fn quantile(&self, part: Part, share: f64) -> Duration {
        let times = self.parts.iter().find(|(known, _)| *known == part);
        let times = times.map(|(_, times)| times.as_slice()).unwrap_or_default();
        let at = (times.len() as f64 * share) as usize;
        times
            .get(at.min(times.len().saturating_sub(1)))
            .copied()
            .unwrap_or_default()
    }
}

/// Calls a plugin with its samples in turn. `None` when no case becomes an event.
pub async fn measure(stand: &Stand, plugin: &Arc<Plugin>, cases: &[Case], calls: usize) -> Option<Costs> {
    let mut samples: Vec<(Arc<Grant>, Request)> = Vec::new();
    for case in cases.iter().filter(|case| !case.is_oddity()) {
        let Ok(grant) = case.grant(plugin) else { continue };
        let Ok(request) = case.request(&grant) else { continue };
        if let Answer::Accepted(_) = stand.judge(&grant, request.clone()).await {
            samples.push((grant, request));
        }
    }
    let mut parts = Part::ALL.map(|part| (part, Vec::with_capacity(calls)));
    let mut memory_bytes_max = 0;
    for at in 0..WARM_UP + calls {
        let (grant, request) = samples.get(at % samples.len().max(1))?;
        let received_at_ms = request.received_at_ms;
        let trial = stand
            .runtime
            .try_out(grant, request.clone(), Conditions::default())
            .await;
        let began = processor_time();
        stand.conclude(grant, received_at_ms, trial.verdict);
        let validate = processor_time() - began;
        if at < WARM_UP {
            continue;
        }
        memory_bytes_max = memory_bytes_max.max(trial.usage.memory_bytes);
        for (part, times) in &mut parts {
            times.push(share(*part, &trial.usage, validate));
        }
    }
    for (_, times) in &mut parts {
        times.sort_unstable();
    }
    Some(Costs {
        calls,
        memory_bytes_max,
        parts: parts.into(),
    })
}

fn share(part: Part, usage: &Usage, validate: Duration) -> Duration {
    match part {
        Part::Call => usage.total() + validate,
        Part::Instantiate => usage.instantiate,
        Part::Verify => usage.verify.saturating_sub(usage.crypto),
        Part::Normalize => usage.normalize,
        Part::Crypto => usage.crypto,
        Part::Validate => validate,
    }
}
