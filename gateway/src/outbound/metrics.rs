//! What the outbound road tells about itself in numbers.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::schedule::NextStep;

/// The metrics of all subscribers.
#[derive(Debug, Clone)]
pub struct Metrics {
    deliveries: Family<ByOutcome, Counter>,
    seconds: Family<BySubscriber, Histogram, fn() -> Histogram>,
    lag: Family<BySubscriber, Gauge>,
    waiting: Family<BySubscriber, Gauge>,
    in_flight: Family<BySubscriber, Gauge>,
    breaker_open: Family<BySubscriber, Gauge>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BySubscriber {
    subscriber: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    subscriber: String,
    outcome: &'static str,
}

impl Metrics {
    /// Makes the metrics known to the registry:
    ///
    /// - `callfeed_deliveries_total{subscriber,outcome}`: attempts that ended, by what followed: `delivered`, `retried`,
    ///   `dead`, `stopped`; and deliveries that were given up without one, `expired`
    /// - `callfeed_delivery_seconds{subscriber}`: how long an attempt took, from dialling to the end of the answer
    /// - `callfeed_lag_events{subscriber}`: the feed's head less the cursor
    /// - `callfeed_waiting{subscriber}`: deliveries in the retry set
    /// - `callfeed_in_flight{subscriber}`: attempts under way
    /// - `callfeed_breaker_open{subscriber}`: 1 while the subscriber is down and attempts are made one at a time, or 0
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            deliveries: Family::default(),
            seconds: Family::new_with_constructor(|| {
                Histogram::new([
                    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
                ])
            }),
            lag: Family::default(),
            waiting: Family::default(),
            in_flight: Family::default(),
            breaker_open: Family::default(),
        };
        // The encoder adds `_total` to a counter, and a unit to the name.
        registry.register(
            "callfeed_deliveries",
            "Attempts that ended, by what followed",
            metrics.deliveries.clone(),
        );
        registry.register_with_unit(
            "callfeed_delivery",
            "How long an attempt took",
            Unit::Seconds,
            metrics.seconds.clone(),
        );
        registry.register(
            "callfeed_lag_events",
            "Events kept and not yet passed by the cursor",
            metrics.lag.clone(),
        );
        registry.register(
            "callfeed_waiting",
            "Deliveries that wait for another attempt",
            metrics.waiting.clone(),
        );
        registry.register("callfeed_in_flight", "Attempts under way", metrics.in_flight.clone());
        registry.register(
            "callfeed_breaker_open",
            "Whether the subscriber is down, and attempts are made one at a time",
            metrics.breaker_open.clone(),
        );
        metrics
    }

    /// Removes the present levels of all subscribers, some of which may not be there any more. Totals stay.
    pub(super) fn forget_levels(&self) {
        self.lag.clear();
        self.waiting.clear();
        self.in_flight.clear();
        self.breaker_open.clear();
    }

    /// One who gets nothing any more has no levels either. What was counted stays.
    pub(super) fn forget(&self, subscriber: &str) {
        let labels = BySubscriber {
            subscriber: subscriber.to_owned(),
        };
        self.lag.remove(&labels);
        self.waiting.remove(&labels);
        self.in_flight.remove(&labels);
        self.breaker_open.remove(&labels);
    }

    /// Looks up one subscriber's metrics, once.
    pub(super) fn of(&self, subscriber: &str) -> Meters {
        let labels = BySubscriber {
            subscriber: subscriber.to_owned(),
        };
        let ended = |outcome| {
            self.deliveries.get_or_create_owned(&ByOutcome {
                subscriber: subscriber.to_owned(),
                outcome,
            })
        };
        Meters {
            delivered: ended("delivered"),
            retried: ended("retried"),
            dead: ended("dead"),
            stopped: ended("stopped"),
            expired: ended("expired"),
            seconds: self.seconds.get_or_create_owned(&labels),
            lag: self.lag.get_or_create_owned(&labels),
            waiting: self.waiting.get_or_create_owned(&labels),
            in_flight: self.in_flight.get_or_create_owned(&labels),
            breaker_open: self.breaker_open.get_or_create_owned(&labels),
        }
    }
}

/// One subscriber's metrics.
#[derive(Debug)]
pub(super) struct Meters {
    delivered: Counter,
    retried: Counter,
    dead: Counter,
    stopped: Counter,
    expired: Counter,
    seconds: Histogram,
    lag: Gauge,
    waiting: Gauge,
    in_flight: Gauge,
    breaker_open: Gauge,
}

impl Meters {
    pub(super) fn ended(&self, step: NextStep, took: Duration) {
        self.seconds.observe(took.as_secs_f64());
        match step {
            NextStep::Done => self.delivered.inc(),
            NextStep::Again(_) => self.retried.inc(),
            NextStep::Dead => self.dead.inc(),
            NextStep::Stop => self.stopped.inc(),
        };
    }

    pub(super) fn expired(&self, count: u64) {
        self.expired.inc_by(count);
    }

    pub(super) fn breaker(&self, is_open: bool) {
        self.breaker_open.set(i64::from(is_open));
    }

    pub(super) fn levels(&self, lag: u64, waiting: usize, in_flight: usize) {
        self.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
    }
}
