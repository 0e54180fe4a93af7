//! Where effects may go: named in the configuration, never a free address.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::backoff::Backoff;
use http::{HeaderName, HeaderValue, Method};
use rustls::ClientConfig;
use secrecy::SecretString;

use crate::sign::Signer;
use crate::webhooks;

/// A destination of effects, checked.
#[derive(Clone, Debug)]
pub struct Target {
    pub name: String,
    pub kind: Kind,
    /// Whether it performs a request once for each idempotency key. Where it does not, nothing is ever
    /// sent twice unless it is certain that nothing happened.
    pub honours_keys: bool,
    /// Whether it may lie in a private network.
    pub allow_private: bool,
    /// For one attempt, from the name lookup to the answer's last byte.
    pub timeout: Duration,
    /// The most attempts before a person decides.
    pub attempts: u32,
    pub backoff: Backoff,
    /// The largest payload.
    pub payload_bytes: usize,
    /// The most on their way there at once, from this process.
    pub parallel: usize,
}

/// What is spoken there.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one for each target, and it lives as long as the configuration"
)]
pub enum Kind {
    Http(Http),
    Smtp(Smtp),
}

/// An HTTP/1.1 server.
#[derive(Clone, Debug)]
pub struct Http {
    pub host: String,
    pub port: u16,
    /// The `Host` header: the host, with the port where it is not the scheme's own.
    pub authority: String,
    /// `Some` = `https`.
    pub tls: Option<Arc<ClientConfig>>,
    /// What stands before every path; empty or `/...` without a `/` at its end.
    pub base: String,
    /// The first one is used where a caller names none. Never empty.
    pub methods: Vec<Method>,
    /// Patterns with `*`. Empty: callers name no path, the base is the address.
    pub paths: Vec<String>,
    /// Where the key goes.
    pub key_header: HeaderName,
    /// The target's own headers, credentials among them (marked sensitive). They win.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Headers that callers may set.
    pub allow_headers: Vec<HeaderName>,
    pub sign: Option<Signer>,
}

/// A mail server.
#[derive(Clone)]
pub struct Smtp {
    pub host: String,
    pub port: u16,
    pub security: Security,
    pub login: Option<(String, SecretString)>,
    pub from: lettre::message::Mailbox,
    /// Patterns of addresses with `*`; letters' case does not count. Never empty.
    pub allow_to: Vec<String>,
}

/// How a mail server's connection is protected.
#[derive(Clone, Debug)]
pub enum Security {
    /// From the first byte (port 465).
    Tls(Arc<ClientConfig>),
    /// After `STARTTLS` (port 587), which must be offered.
    StartTls(Arc<ClientConfig>),
    /// Never; for servers on the same machine.
    None,
}

/// All targets, by name.
#[derive(Clone, Debug, Default)]
pub struct Targets(BTreeMap<String, Arc<Target>>);

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smtp")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

// === impl Targets ===

impl Targets {
    pub fn new(targets: impl IntoIterator<Item = Target>) -> Self {
        let named = targets
            .into_iter()
            .map(|target| (target.name.clone(), Arc::new(target)));
        Self(named.collect())
    }

    pub fn get(&self, name: &str) -> Option<&Arc<Target>> {
        self.0.get(name)
    }

    /// One that callers may name: not a webhook's.
    pub(crate) fn of_callers(&self, name: &str) -> Option<&Arc<Target>> {
        self.get(name).filter(|_| !webhooks::is_target(name))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}
