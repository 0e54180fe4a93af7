//! What is kept, for how long, and what is done with it: the store, keys, tickets, gates, effects.

use std::path::PathBuf;
use std::time::Duration;

use super::Backoff;
use crate::secret::Secret;
use crate::words::words;

/// The longest content that the store takes, in bytes.
pub const MOST_STORED: usize = 64 << 20;

/// The longest body of a request that is stored with its head, in base64.
pub const MOST_STORED_REQUEST: usize = 47 << 20;

/// Where what has to be kept is kept, and within which limits. Read at start only.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreTerms {
    pub place: StorePlace,
    /// The file did not say so: another process on the same file is no mistake of this one.
    pub implied: bool,
    /// SQLite: connections that read.
    pub readers: u32,
    /// PostgreSQL: connections.
    pub connections: u32,
    /// Operations that may wait; one more is refused.
    pub queue: usize,
    /// The longest that one operation may take.
    pub timeout: Duration,
    /// A process whose sign of life stood still for this long is dead.
    pub lease: Duration,
    /// Seals content at rest: 32 bytes as 64 hexadecimal digits.
    pub encryption_key: Option<Secret>,
    /// Keys that content was sealed with before; newest first.
    pub old_keys: Vec<Secret>,
    pub retention: Retention,
}

/// Which database.
#[derive(Clone, Debug, PartialEq)]
pub enum StorePlace {
    /// A file, relative to the configuration's directory.
    Sqlite(PathBuf),
    /// A `postgres://` URL; it may hold a password.
    Postgres(Secret),
}

/// How long what is over is kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Retention {
    pub exchanges: Duration,
    pub tickets: Duration,
    pub effects: Duration,
    pub runs: Duration,
    pub events: Duration,
}

/// What a key does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Idempotency {
    /// How long an answer is kept under its key; up to a thousandth longer.
    pub expiry: Duration,
    /// What a repeat gets while the first call runs.
    pub repeats: Repeats,
    /// Whether a run with a step is a key.
    pub derive: bool,
}

words! {
    /// What a repeat gets while the first call with its key runs.
    pub enum Repeats {
        /// The running answer, from its first byte.
        Join = "join",
        /// 409.
        Refuse = "refuse",
    }
}

words! {
    /// Which calls that nobody could answer are kept for review.
    pub enum KeepTickets {
        /// Those with a key.
        Keyed = "keyed",
        /// All.
        All = "all",
        /// None.
        Never = "never",
    }
}

words! {
    /// When a kept call is tried again without a person.
    pub enum TicketRetry {
        /// When its caller repeats it.
        OnRepeat = "on_repeat",
        /// By itself, when one of its targets is back.
        WhenHealthy = "when_healthy",
        /// Only a person can.
        Never = "never",
    }
}

/// What an answer must be beyond whole.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GateTerms {
    /// A JSON Schema as JSON text. Compiled elsewhere.
    pub json_schema: Option<String>,
    /// CEL expressions that must all be true.
    pub cel: Vec<String>,
    /// In characters.
    pub min_length: usize,
    pub must_contain: Vec<String>,
    pub no_refusal: bool,
    /// How often a target is asked again with the reason.
    pub asks: u32,
    pub on: GateOn,
}

words! {
    /// What a gate reads an answer as.
    #[derive(Default)]
    pub enum GateOn {
        /// Any text; checks of JSON fail where it is none.
        #[default]
        Text = "text",
        /// JSON, or the gate fails.
        Json = "json",
    }
}

/// Side effects.
#[derive(Clone, Debug, PartialEq)]
pub struct Effects {
    pub targets: Vec<EffectTarget>,
    /// How many are sent at once, to all targets together.
    pub parallel: usize,
    /// How long a key of an effect is remembered.
    pub expiry: Duration,
}

/// Where an effect may go.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectTarget {
    /// Unique.
    pub name: String,
    pub kind: EffectKind,
    /// Whether it performs a repeated key once. Where not, nothing is ever sent twice.
    pub honours_keys: bool,
    /// Whether it may be at a private address.
    pub allow_private: bool,
    pub timeout: Duration,
    pub attempts: u32,
    pub backoff: Backoff,
    /// The largest payload, in bytes.
    pub payload_bytes: usize,
    /// How many are sent there at once.
    pub parallel: usize,
    /// A PEM file of certificates to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// How an effect is sent.
#[derive(Clone, Debug, PartialEq)]
pub enum EffectKind {
    Http {
        /// Scheme, host, port and base path.
        url: super::BaseUrl,
        methods: Vec<String>,
        /// Paths behind the URL; a `*` at the end stands for anything.
        paths: Vec<String>,
        headers: Vec<(String, Secret)>,
        /// Headers that callers may set.
        allow_headers: Vec<String>,
        key_header: String,
        /// Signs each request (HMAC-SHA256, Standard Webhooks).
        sign: Option<Secret>,
    },
    Smtp {
        host: String,
        port: u16,
        security: SmtpSecurity,
        username: Option<String>,
        password: Option<Secret>,
        from: String,
        /// Recipients: addresses, or `*@domain`.
        allow_to: Vec<String>,
    },
}

words! {
    /// How a mail server is spoken to.
    pub enum SmtpSecurity {
        /// TLS from the first byte.
        Tls = "tls",
        /// TLS after `STARTTLS`, or nothing.
        StartTls = "starttls",
        /// In the clear.
        None = "none",
    }
}

/// Somebody who is told of events.
#[derive(Clone, Debug, PartialEq)]
pub struct Webhook {
    /// Unique.
    pub name: String,
    pub url: super::BaseUrl,
    /// Signs each delivery.
    pub secret: Secret,
    /// Kinds of events; empty = all.
    pub events: Vec<String>,
    pub allow_private: bool,
}

/// The review queue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Review {
    /// How long a person has a ticket, where no other time is asked for.
    pub claim: Duration,
    /// How long an approval without a deadline waits for somebody.
    pub approval_expiry: Duration,
    /// Between two automatic retries.
    pub retry_interval: Duration,
    pub retry_parallel: usize,
}

/// The watch over runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Runs {
    /// A run without a sign of life for this long is an orphan, where it named no other time.
    pub heartbeat: Option<Duration>,
    pub check_every: Duration,
}

const DAY: Duration = Duration::from_hours(24);

impl Default for StoreTerms {
    fn default() -> Self {
        Self {
            place: StorePlace::Sqlite(PathBuf::from("holdfast.db")),
            implied: true,
            readers: 4,
            connections: 8,
            queue: 4096,
            timeout: Duration::from_secs(5),
            lease: Duration::from_secs(15),
            encryption_key: None,
            old_keys: Vec::new(),
            retention: Retention::default(),
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            exchanges: DAY * 30,
            tickets: DAY * 90,
            effects: DAY * 90,
            runs: DAY * 90,
            events: DAY * 7,
        }
    }
}

impl Default for Idempotency {
    fn default() -> Self {
        Self {
            expiry: DAY,
            repeats: Repeats::Join,
            derive: true,
        }
    }
}

impl Default for Effects {
    fn default() -> Self {
        Self {
            targets: Vec::new(),
            parallel: 64,
            expiry: DAY * 90,
        }
    }
}

impl Default for Review {
    fn default() -> Self {
        Self {
            claim: Duration::from_mins(10),
            approval_expiry: DAY * 7,
            retry_interval: Duration::from_secs(10),
            retry_parallel: 1,
        }
    }
}

impl Default for Runs {
    fn default() -> Self {
        Self {
            heartbeat: None,
            check_every: Duration::from_secs(1),
        }
    }
}
