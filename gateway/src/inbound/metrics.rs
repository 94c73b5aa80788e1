//! What the inbound road counts.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use super::Answer;

/// What became of a webhook that reached its plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Kept,
    Duplicate,
    Ignored,
    Quarantined,
    Responded,
    Rejected,
    /// The plugin failed before anything was proven, or the route is misconfigured.
    Failed,
    /// No place for the plugin was free in time.
    Busy,
    /// The store could not keep it.
    Unavailable,
}

impl Taken {
    const ALL: [Self; 9] = [
        Self::Kept,
        Self::Duplicate,
        Self::Ignored,
        Self::Quarantined,
        Self::Responded,
        Self::Rejected,
        Self::Failed,
        Self::Busy,
        Self::Unavailable,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Quarantined => "quarantined",
            Self::Responded => "responded",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TakenLabels {
    route: String,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusedLabels {
    status: u16,
}

/// The counters of one route, found once so that a webhook waits for no other route.
#[derive(Debug)]
pub struct Meters {
    taken: [Counter; Taken::ALL.len()],
    accept: Histogram,
    plugin: Histogram,
}

impl Meters {
    pub(super) fn taken(&self, taken: Taken, elapsed: Duration) {
        self.taken[taken as usize].inc();
        self.accept.observe(elapsed.as_secs_f64());
    }

    pub(super) fn plugin_done(&self, elapsed: Duration) {
        self.plugin.observe(elapsed.as_secs_f64());
    }
}

/// Counters of the inbound road.
#[derive(Debug, Clone)]
pub struct Metrics {
    taken: Family<TakenLabels, Counter>,
    accept: Family<RouteLabels, Histogram, fn() -> Histogram>,
    plugin: Family<RouteLabels, Histogram, fn() -> Histogram>,
    refused: Family<RefusedLabels, Counter>,
}

/// From a tenth of a millisecond to ten seconds.
const BUCKETS: [f64; 15] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            taken: Family::default(),
            accept: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            plugin: Family::new_with_constructor(|| Histogram::new(BUCKETS)),
            refused: Family::default(),
        };
        registry.register(
            "callfeed_webhooks",
            "Webhooks that reached their plugin, by result",
            metrics.taken.clone(),
        );
        registry.register(
            "callfeed_accept_seconds",
            "From the end of the body to the answer",
            metrics.accept.clone(),
        );
        registry.register(
            "callfeed_plugin_seconds",
            "Waiting for and running the plugin",
            metrics.plugin.clone(),
        );
        registry.register(
            "callfeed_refused_requests",
            "Requests refused before any plugin ran",
            metrics.refused.clone(),
        );
        metrics
    }

    pub fn of(&self, route: &str) -> Meters {
        let labels = RouteLabels {
            route: route.to_owned(),
        };
        Meters {
            taken: Taken::ALL.map(|result| {
                self.taken
                    .get_or_create(&TakenLabels {
                        route: route.to_owned(),
                        result: result.as_str(),
                    })
                    .clone()
            }),
            accept: self.accept.get_or_create(&labels).clone(),
            plugin: self.plugin.get_or_create(&labels).clone(),
        }
    }

    pub(super) fn refused(&self, answer: &Answer) {
        self.refused
            .get_or_create(&RefusedLabels {
                status: answer.status().as_u16(),
            })
            .inc();
    }
}
