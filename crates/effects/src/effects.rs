//! The room: everything that recording, showing and sending effects share.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use holdfast_api::Clock;
use holdfast_core::time::Wall;
use holdfast_store::Store;
use tokio::sync::{Notify, watch};

use crate::bell::Bell;
use crate::connect::Resolve;
use crate::failpoint::Failpoint;
use crate::outbox::Outbox;
use crate::target::Targets;
use crate::verdicts::Verdicts;

/// What bounds effects.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Sent at once by this process.
    pub parallel: usize,
    /// How long an effect and its key are remembered.
    pub expiry: Duration,
    /// The longest that a caller waits for a result in one request.
    pub wait: Duration,
    /// Between two looks for what other processes recorded or left behind.
    pub poll: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let days = |days: u64| Duration::from_hours(24 * days);
        Self {
            parallel: 64,
            expiry: days(90),
            wait: Duration::from_mins(1),
            poll: Duration::from_secs(2),
        }
    }
}

/// What effects are made of.
pub struct Parts {
    pub store: Store,
    /// All targets, those of webhooks among them.
    pub targets: Targets,
    pub clock: Clock,
    pub limits: Limits,
    /// Knows the exchanges that effects require; the store itself is one.
    pub verdicts: Arc<dyn Verdicts>,
    pub failpoint: Failpoint,
    /// [`crate::system_resolver`], but for tests.
    pub resolve: Resolve,
}

/// Side effects, performed once. A [`holdfast_api::Service`] for `/v1/effects`; what is recorded is
/// sent by [`Effects::run`].
pub struct Effects {
    pub(crate) store: Store,
    pub(crate) outbox: Arc<dyn Outbox>,
    targets: ArcSwap<Targets>,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) verdicts: Arc<dyn Verdicts>,
    pub(crate) failpoint: Failpoint,
    pub(crate) resolve: Resolve,
    /// Rings when this process recorded an effect.
    pub(crate) recorded: Notify,
    /// Wakes who waits for a result.
    pub(crate) bell: Arc<Bell>,
    /// `true` from the beginning of going down.
    pub(crate) drain: watch::Sender<bool>,
}

impl Effects {
    pub fn new(parts: Parts) -> Arc<Self> {
        let outbox = Arc::new(parts.store.clone());
        Arc::new(Self::with_outbox(parts, outbox))
    }

    pub(crate) fn with_outbox(parts: Parts, outbox: Arc<dyn Outbox>) -> Self {
        Self {
            store: parts.store,
            outbox,
            targets: ArcSwap::from_pointee(parts.targets),
            clock: parts.clock,
            limits: parts.limits,
            verdicts: parts.verdicts,
            failpoint: parts.failpoint,
            resolve: parts.resolve,
            recorded: Notify::new(),
            bell: Arc::default(),
            drain: watch::Sender::new(false),
        }
    }

    /// Takes other targets from here on. What is on its way goes on to the old ones.
    pub fn set_targets(&self, targets: Targets) {
        self.targets.store(Arc::new(targets));
    }

    /// The targets as they are at this moment.
    pub fn targets(&self) -> Arc<Targets> {
        self.targets.load_full()
    }

    pub(crate) fn now(&self) -> Wall {
        (self.clock)()
    }

    /// Tells the sender that there may be something to send.
    pub(crate) fn wake(&self) {
        self.recorded.notify_one();
    }
}
