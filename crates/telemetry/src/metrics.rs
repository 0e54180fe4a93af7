//! The Prometheus metrics, made once and handed down; there is no global registry.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
pub use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Of an exchange: what the caller asked for and what it got.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct ExchangeLabels {
    pub route: Arc<str>,
    /// `whole`, `tools`, `limit`, `paused`, `refused`, `told`, `caller_gone`.
    pub outcome: &'static str,
    /// `HF-...` where an error was told, else empty.
    pub code: &'static str,
}

/// Of an attempt: who was asked and what came.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct AttemptLabels {
    pub target: Arc<str>,
    pub verdict: &'static str,
    /// What was wrong, where it was broken, else empty.
    pub flaw: &'static str,
}

/// Of a target.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct TargetLabels {
    pub target: Arc<str>,
}

/// Of token counts.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct TokenLabels {
    pub target: Arc<str>,
    /// `input`, `cache_read`, `cache_write`, `output`.
    pub kind: &'static str,
}

/// Of keyed calls.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct KeyedLabels {
    /// `asked` (the first here), `joined` (a running answer), `run` (a call was made), `replayed`.
    pub event: &'static str,
}

/// What may become of a keyed call.
const KEYED_EVENTS: [&str; 4] = ["asked", "joined", "run", "replayed"];

/// Every metric of the gateway. Cheap to clone: all share one state.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pub exchanges: Family<ExchangeLabels, Counter>,
    pub attempts: Family<AttemptLabels, Counter>,
    pub joins: Counter,
    pub in_flight: Gauge,
    pub connections: Gauge,
    pub breaker_open: Family<TargetLabels, Gauge>,
    pub duration: Histogram,
    pub first_token: Histogram,
    pub tokens: Family<TokenLabels, Counter>,
    pub ledger_dropped: Counter,
    pub signs_dropped: Counter,
    pub shed: Counter,
    pub reloads_failed: Counter<u64, AtomicU64>,
    keyed: Family<KeyedLabels, Counter>,
    /// In the order of [`KEYED_EVENTS`]: a look-up in the family hashes the label, at every call.
    keyed_events: [Counter; KEYED_EVENTS.len()],
    pub store_up: Gauge,
}

/// The buckets of the `GenAI` conventions for durations, in seconds: 0.01 doubling to 81.92.
fn seconds() -> impl Iterator<Item = f64> {
    (0..14).map(|n| 0.01 * f64::from(1 << n))
}

impl Default for Metrics {
    fn default() -> Self {
        let keyed: Family<KeyedLabels, Counter> = Family::default();
        let mut metrics = Self {
            keyed_events: KEYED_EVENTS
                .map(|event| keyed.get_or_create_owned(&KeyedLabels { event })),
            registry: Registry::default(),
            exchanges: Family::default(),
            attempts: Family::default(),
            joins: Counter::default(),
            in_flight: Gauge::default(),
            connections: Gauge::default(),
            breaker_open: Family::default(),
            duration: Histogram::new(seconds()),
            first_token: Histogram::new(seconds()),
            tokens: Family::default(),
            ledger_dropped: Counter::default(),
            signs_dropped: Counter::default(),
            shed: Counter::default(),
            reloads_failed: Counter::default(),
            keyed,
            store_up: Gauge::default(),
        };
        metrics.register();
        metrics
    }
}

impl Metrics {
    fn register(&mut self) {
        let r = &mut self.registry;
        r.register(
            "holdfast_exchanges",
            "Exchanges by what the caller got",
            self.exchanges.clone(),
        );
        r.register(
            "holdfast_attempts",
            "Calls to vendors by what came of them",
            self.attempts.clone(),
        );
        r.register(
            "holdfast_joins",
            "Cut answers continued on another target",
            self.joins.clone(),
        );
        r.register(
            "holdfast_in_flight",
            "Exchanges under way",
            self.in_flight.clone(),
        );
        r.register(
            "holdfast_connections",
            "Open connections of callers",
            self.connections.clone(),
        );
        r.register(
            "holdfast_breaker_open",
            "1 where the target is not asked for now",
            self.breaker_open.clone(),
        );
        r.register(
            "holdfast_ledger_dropped",
            "Ledger records lost to a full queue",
            self.ledger_dropped.clone(),
        );
        r.register(
            "holdfast_signs_dropped",
            "Signs of life of runs lost to a full queue",
            self.signs_dropped.clone(),
        );
        r.register(
            "holdfast_shed",
            "Calls refused because of a limit",
            self.shed.clone(),
        );
        r.register(
            "holdfast_reloads_failed",
            "Configuration files that were refused",
            self.reloads_failed.clone(),
        );
        r.register(
            "holdfast_keyed",
            "Calls with an idempotency key by what became of them",
            self.keyed.clone(),
        );
        r.register(
            "holdfast_store_up",
            "1 while the store takes what has to be kept",
            self.store_up.clone(),
        );
        r.register_with_unit(
            "gen_ai_client_operation_duration",
            "Time of a whole exchange",
            Unit::Seconds,
            self.duration.clone(),
        );
        r.register_with_unit(
            "gen_ai_client_operation_time_to_first_chunk",
            "Time of an attempt to its first token",
            Unit::Seconds,
            self.first_token.clone(),
        );
        r.register(
            "gen_ai_client_tokens",
            "Tokens told by the vendors",
            self.tokens.clone(),
        );
    }

    /// Counts one event of a keyed call.
    pub fn keyed(&self, event: &'static str) {
        let known = KEYED_EVENTS.iter().zip(&self.keyed_events);
        if let Some((_, counter)) = known.into_iter().find(|(known, _)| **known == event) {
            counter.inc();
        }
    }

    /// The metrics in the `OpenMetrics` text format.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("invariant: writing to a string does not fail");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_keyed_calls_are_counted_by_name() {
        let metrics = Metrics::default();
        metrics.keyed("run");
        let text = metrics.encode();
        for (event, count) in [("asked", 0), ("joined", 0), ("run", 1), ("replayed", 0)] {
            let line = format!("holdfast_keyed_total{{event=\"{event}\"}} {count}");
            assert!(text.contains(&line), "{text}");
        }
    }

    #[test]
    fn every_metric_is_shown_under_its_name() {
        let metrics = Metrics::default();
        metrics.joins.inc();
        let labels = ExchangeLabels {
            route: "r".into(),
            outcome: "told",
            code: "HF-012",
        };
        metrics.exchanges.get_or_create(&labels).inc();
        let text = metrics.encode();
        assert!(text.contains("holdfast_joins_total 1"), "{text}");
        let line = "holdfast_exchanges_total{route=\"r\",outcome=\"told\",code=\"HF-012\"} 1";
        assert!(text.contains(line), "{text}");
        assert!(
            text.contains("gen_ai_client_operation_duration_seconds_bucket"),
            "{text}"
        );
    }
}
