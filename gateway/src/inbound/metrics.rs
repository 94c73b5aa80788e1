//! What the inbound road counts.

use std::{collections::HashMap, time::Duration};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use super::{Answer, Route, Routes};

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

/// The counters of one route, found once.
#[derive(Debug)]
struct OfRoute {
    taken: [Counter; Taken::ALL.len()],
    accept: Histogram,
    plugin: Histogram,
}

/// Counters of the inbound road, resolved for every route when the gateway starts so that a webhook waits for no other route.
#[derive(Debug)]
pub struct Metrics {
    routes: HashMap<String, OfRoute>,
    refused: Family<RefusedLabels, Counter>,
}

/// From a tenth of a millisecond to ten seconds.
const BUCKETS: [f64; 15] = [
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

impl Metrics {
    pub fn register(registry: &mut Registry, routes: &Routes) -> Self {
        let taken = Family::<TakenLabels, Counter>::default();
        let accept = Family::<RouteLabels, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        let plugin = Family::<RouteLabels, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        let refused = Family::<RefusedLabels, Counter>::default();
        registry.register(
            "callfeed_webhooks",
            "Webhooks that reached their plugin, by result",
            taken.clone(),
        );
        registry.register(
            "callfeed_accept_seconds",
            "From the end of the body to the answer",
            accept.clone(),
        );
        registry.register(
            "callfeed_plugin_seconds",
            "Waiting for and running the plugin",
            plugin.clone(),
        );
        registry.register(
            "callfeed_refused_requests",
            "Requests refused before any plugin ran",
            refused.clone(),
        );
        let of_route = |name: &str| OfRoute {
            taken: Taken::ALL.map(|result| {
                taken
                    .get_or_create(&TakenLabels {
                        route: name.to_owned(),
                        result: result.as_str(),
                    })
                    .clone()
            }),
            accept: accept.get_or_create(&RouteLabels { route: name.to_owned() }).clone(),
            plugin: plugin.get_or_create(&RouteLabels { route: name.to_owned() }).clone(),
        };
        let routes = routes
            .iter()
            .map(|(_, route)| (route.name.clone(), of_route(&route.name)))
            .collect();
        Self { routes, refused }
    }

    pub(super) fn taken(&self, route: &Route, taken: Taken, elapsed: Duration) {
        if let Some(of_route) = self.routes.get(&route.name) {
            of_route.taken[taken as usize].inc();
            of_route.accept.observe(elapsed.as_secs_f64());
        }
    }

    pub(super) fn plugin_done(&self, route: &Route, elapsed: Duration) {
        if let Some(of_route) = self.routes.get(&route.name) {
            of_route.plugin.observe(elapsed.as_secs_f64());
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
