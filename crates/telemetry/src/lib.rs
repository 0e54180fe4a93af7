//! What Holdfast says of itself: log lines and Prometheus metrics.
//!
//! Names follow the OpenTelemetry `GenAI` conventions where one exists; what has no convention
//! (verdicts, joins, told errors) has the prefix `holdfast_`. No prompt, answer or key is ever a
//! label or a log field.

pub mod log;
pub mod metrics;

pub use metrics::Metrics;
