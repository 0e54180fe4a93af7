//! The configuration as the rest of Holdfast uses it: complete, checked, immutable.
//!
//! Nothing here is optional that has a default, no name is left to be looked up, and no secret can
//! be printed. A [`Config`] is made by [`crate::parse`] or [`crate::load`] only, shared behind an `Arc`, and replaced
//! whole on reload. The file's own shapes are in `draft`.

mod durable;
mod policy;
mod provider;

use std::net::SocketAddr;
use std::time::Duration;

pub use durable::{
    EffectKind, EffectTarget, Effects, GateOn, GateTerms, Idempotency, KeepTickets, MOST_STORED,
    MOST_STORED_REQUEST, Repeats, Retention, Review, Runs, SmtpSecurity, StorePlace, StoreTerms,
    TicketRetry, Webhook,
};
pub use policy::{
    Backoff, Breaker, Budget, Delivery, EmptyAnswer, OnRefusal, Policy, Timeouts, UpstreamStream,
};
pub use provider::{
    Auth, AuthStyle, BaseUrl, Connections, Http2, Kind, MaxTokensField, Prefill, Provider, Quirks,
    Scheme, Tls, UrlError,
};

use crate::secret::KeyHash;
use crate::words::words;

/// One immutable snapshot of the whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where callers are served. Never empty. Read at start only.
    pub listen: Vec<SocketAddr>,
    /// How many worker threads; `None` = one per core. Read at start only.
    pub workers: Option<usize>,
    /// Who may call. Empty = anybody who reaches the (loopback) address.
    pub callers: Vec<Caller>,
    pub providers: Vec<Provider>,
    /// In the order of the file. Find one with [`Config::route`].
    pub routes: Vec<Route>,
    /// In the order of the file. Find one with [`Config::step`].
    pub steps: Vec<Step>,
    /// The retry budget of every target.
    pub budget: Budget,
    /// The circuit breaker of every target.
    pub breaker: Breaker,
    pub limits: Limits,
    pub log: Log,
    /// Where what has to be kept is kept; `None` = nothing can be.
    pub store: Option<StoreTerms>,
    pub effects: Effects,
    pub webhooks: Vec<Webhook>,
    pub review: Review,
    pub runs: Runs,
    /// How long running answers may go on after SIGTERM.
    pub drain: Duration,
}

/// How the scope of whoever is no configured caller begins: the hash of its vendor's key follows. No
/// caller's name begins so.
pub const STRANGER: &str = "key:";

/// Somebody who may call, known by a static key.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// Shown in the ledger and in metrics. Unique.
    pub name: String,
    pub key: KeyHash,
    /// The models (the `model` of a route, as written there) that this caller may use; `None` = all.
    pub routes: Option<Vec<String>>,
    /// Sees and decides what belongs to other callers.
    pub reviewer: bool,
}

/// The model name that callers use -> an ordered list of targets and a policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// A model name, or a prefix of names that ends with `*`. Unique.
    pub model: String,
    /// In the order of preference. Never empty.
    pub targets: Vec<Target>,
    pub policy: Policy,
}

/// What a step of a workflow demands, whichever route answers it.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// A step's name, or a prefix of names that ends with `*`. Unique.
    pub step: String,
    pub gate: GateTerms,
}

/// A provider, a model name and that model's limits.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Index into [`Config::providers`].
    pub provider: usize,
    /// The model name that the vendor knows; `None` = the name that the caller used.
    pub model: Option<String>,
    /// The most tokens that the model can answer; a larger wish is lowered to it. It is also the
    /// `max_tokens` given to Anthropic for a caller that names none; `None` = 64000.
    pub max_output_tokens: Option<u64>,
    /// Tokens that fit into the model; orders the targets after a context overflow.
    pub context_window: Option<u64>,
    /// Whether the model takes images.
    pub images: bool,
    /// Whether the model takes documents (PDF).
    pub documents: bool,
    /// Whether a call without `stream` is made as a stream to the vendor.
    pub upstream_stream: UpstreamStream,
    /// How a begun answer is handed to this target to go on with.
    pub prefill: Prefill,
    /// Complete: of this target, over its provider's, over its route's, over the defaults.
    pub timeouts: Timeouts,
}

/// Everything that is bounded, in one place. None is zero.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The largest request body, in bytes. Larger: 413.
    pub body_bytes: usize,
    /// The largest request head (request line and headers), in bytes. Larger: 431.
    pub header_bytes: usize,
    /// The most request headers. More: 431.
    pub headers: usize,
    /// The deepest nesting of a request's JSON. Deeper: 400.
    pub json_depth: usize,
    /// How long a caller may take to send the request head.
    pub header_timeout: Duration,
    /// How long an HTTP/1.1 connection may be idle between two requests.
    pub idle_timeout: Duration,
    /// How long a caller may leave what it was sent unread.
    pub write_timeout: Duration,
    /// How long a caller may take to send the request body.
    pub body_timeout: Duration,
    /// The largest answer that is held whole (delivery `whole`, calls without `stream`), in bytes.
    pub answer_bytes: usize,
    /// The largest single event of a vendor's stream, in bytes.
    pub event_bytes: usize,
    /// Bytes of requests and held answers over all calls at once. Beyond: 503.
    pub buffered_bytes: usize,
    /// The most open connections of callers. Beyond: refused with `Retry-After`, but for `/healthz`.
    pub connections: usize,
    /// The most calls at once. Beyond: 529 / 503 with `Retry-After`.
    pub in_flight: usize,
    /// How many exchanges the ledger in memory remembers.
    pub ledger_records: usize,
    /// Finished exchanges that wait to be stored. Beyond: not stored, and counted.
    pub queued_writes: usize,
    /// The longest that a caller may wait for something to happen (`?wait=`).
    pub wait: Duration,
}

/// What is written to standard error, and how.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Log {
    pub format: LogFormat,
    pub level: LogLevel,
}

words! {
    /// The shape of a log line.
    pub enum LogFormat {
        /// One readable line for each event.
        Text = "text",
        /// One JSON object for each event.
        Json = "json",
    }
}

words! {
    /// The least important events that are logged.
    pub enum LogLevel {
        /// What failed inside Holdfast.
        Error = "error",
        /// Also what a person should look at: a breaker that opened, a file that did not load.
        Warn = "warn",
        /// Also one line for each exchange.
        Info = "info",
        /// Also one line for each attempt.
        Debug = "debug",
        /// Everything; never the content of a message.
        Trace = "trace",
    }
}

// === impl Config ===

impl Config {
    /// The route for a model name: the exact one, else the one with the longest fitting wildcard.
    pub fn route(&self, model: &str) -> Option<&Route> {
        best_fit(&self.routes, model, |route| &route.model)
    }

    /// What is demanded of a step: by its exact name, else by the longest fitting wildcard.
    pub fn step(&self, name: &str) -> Option<&Step> {
        best_fit(&self.steps, name, |step| &step.step)
    }

    /// The caller that a presented key belongs to.
    ///
    /// Compares with every caller's key in constant time, so that the time taken tells nothing.
    pub fn caller(&self, presented: &str) -> Option<&Caller> {
        let hash = KeyHash::of(presented);
        let mut found = None;
        for caller in &self.callers {
            if caller.key == hash {
                found = Some(caller);
            }
        }
        found
    }

    /// The provider of a target of this configuration.
    pub fn provider(&self, target: &Target) -> &Provider {
        &self.providers[target.provider]
    }
}

/// The exact name wins, then the longest wildcard.
fn best_fit<'a, T>(items: &'a [T], name: &str, pattern: impl Fn(&T) -> &str) -> Option<&'a T> {
    let exact = items.iter().find(|item| pattern(item) == name);
    exact.or_else(|| {
        let wild = items.iter().filter(|item| {
            let prefix = pattern(item).strip_suffix('*');
            prefix.is_some_and(|prefix| name.starts_with(prefix))
        });
        wild.max_by_key(|item| pattern(item).len())
    })
}

// === impl Caller ===

impl Caller {
    /// Whether this caller may use a route.
    pub fn may_use(&self, route: &Route) -> bool {
        match &self.routes {
            None => true,
            Some(models) => models.contains(&route.model),
        }
    }
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 32 << 20,
            header_bytes: 64 << 10,
            headers: 100,
            json_depth: 128,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(2),
            write_timeout: Duration::from_mins(1),
            body_timeout: Duration::from_mins(1),
            answer_bytes: 64 << 20,
            event_bytes: 16 << 20,
            buffered_bytes: 1 << 30,
            connections: 10_000,
            in_flight: 4_096,
            ledger_records: 10_000,
            queued_writes: 10_000,
            wait: Duration::from_mins(1),
        }
    }
}

// === impl Log ===

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: LogLevel::Info,
        }
    }
}
