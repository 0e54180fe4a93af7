//! Names of headers that every call is asked for or given: read once, not for each call.

use http::HeaderName;

pub(crate) static RUN: HeaderName = HeaderName::from_static("holdfast-run");
pub(crate) static STEP: HeaderName = HeaderName::from_static("holdfast-step");
pub(crate) static DELIVERY: HeaderName = HeaderName::from_static("holdfast-delivery");
pub(crate) static DEBUG: HeaderName = HeaderName::from_static("holdfast-debug");
pub(crate) static EXCHANGE: HeaderName = HeaderName::from_static("holdfast-exchange");
pub(crate) static TARGET: HeaderName = HeaderName::from_static("holdfast-target");
pub(crate) static ATTEMPTS: HeaderName = HeaderName::from_static("holdfast-attempts");
pub(crate) static X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
pub(crate) static IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
pub(crate) static PREFER: HeaderName = HeaderName::from_static("prefer");
pub(crate) static ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
