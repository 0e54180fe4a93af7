//! The shared health of the targets: breaker and retry budget, over all workers and routes.
//!
//! A lock is taken twice for each attempt, never while bytes flow.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use holdfast_core::breaker::{self, Breaker, Report};
use holdfast_core::budget::{self, Budget};
use holdfast_core::plan::{Health, Leave};
use holdfast_core::time::Time;
use holdfast_telemetry::metrics::Counter;
use parking_lot::Mutex;

/// One target's breaker and budget.
#[derive(Debug)]
pub(crate) struct TargetHealth {
    /// `provider/model`, as shown in metrics and headers.
    pub(crate) name: Arc<str>,
    /// Its counters for what most attempts are.
    pub(crate) usual: UsualCounters,
    terms: (breaker::Terms, budget::Terms),
    state: Mutex<State>,
}

/// Counters of one target that are looked up once: a look-up hashes all labels, at every call.
#[derive(Debug, Default)]
pub(crate) struct UsualCounters {
    /// Attempts that came whole.
    pub(crate) whole: OnceLock<Counter>,
    /// In the order of [`TOKEN_KINDS`].
    pub(crate) tokens: [OnceLock<Counter>; TOKEN_KINDS.len()],
}

/// The kinds of tokens that are counted.
pub(crate) const TOKEN_KINDS: [&str; 4] = ["input", "cache_read", "cache_write", "output"];

#[derive(Debug)]
struct State {
    breaker: Breaker,
    budget: Budget,
}

/// What is known of a target at one moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Standing {
    Closed,
    HalfOpen,
    Open,
}

impl TargetHealth {
    fn new(name: Arc<str>, breaker: breaker::Terms, budget: budget::Terms, now: Time) -> Self {
        let state = State {
            breaker: Breaker::new(breaker),
            budget: Budget::new(budget, now),
        };
        Self {
            name,
            usual: UsualCounters::default(),
            terms: (breaker, budget),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn admit(&self, now: Time, again: bool) -> Leave {
        let mut state = self.state.lock();
        if again && !state.budget.withdraw(now) {
            return Leave::NoBudget;
        }
        let leave = Leave::from(state.breaker.admit(now));
        if !again && matches!(leave, Leave::Go { .. }) {
            state.budget.deposit(now);
        }
        leave
    }

    pub(crate) fn report(&self, now: Time, report: Report, probe: bool) {
        let (was, is) = {
            let mut state = self.state.lock();
            let was = state.breaker.is_closed();
            state.breaker.report(now, report, probe);
            (was, state.breaker.is_closed())
        };
        match (was, is) {
            (true, false) => tracing::warn!(target_name = &*self.name, "breaker opened"),
            (false, true) => tracing::info!(
                target_name = &*self.name,
                "breaker closed: the target is back"
            ),
            _ => {}
        }
    }

    pub(crate) fn standing(&self, now: Time) -> Standing {
        let state = self.state.lock();
        match state.breaker.open_until() {
            Some(until) if now < until => Standing::Open,
            Some(_) => Standing::HalfOpen,
            None if state.breaker.is_closed() => Standing::Closed,
            None => Standing::HalfOpen,
        }
    }
}

/// All targets' health, kept over reloads by name. Under other terms a target begins anew: what was
/// counted by the old ones says nothing.
#[derive(Debug, Default)]
pub(crate) struct Healths {
    by_name: Mutex<HashMap<Arc<str>, Arc<TargetHealth>>>,
}

impl Healths {
    pub(crate) fn of(
        &self,
        name: Arc<str>,
        breaker: breaker::Terms,
        budget: budget::Terms,
        now: Time,
    ) -> Arc<TargetHealth> {
        let mut by_name = self.by_name.lock();
        if let Some(health) = by_name.get(&name)
            && health.terms == (breaker, budget)
        {
            return health.clone();
        }
        let health = Arc::new(TargetHealth::new(name.clone(), breaker, budget, now));
        by_name.insert(name, health.clone());
        health
    }
}

impl Healths {
    /// The provider changed (its key, its address): its targets begin anew, also those that a money
    /// error shut.
    pub(crate) fn forget(&self, provider: &str) {
        let is_its = |target: &str| {
            target
                .strip_prefix(provider)
                .is_some_and(|model| model.starts_with('/'))
        };
        self.by_name.lock().retain(|name, _| !is_its(name));
    }
}

/// The health of one exchange's targets, in its own numbering.
#[derive(Clone, Debug)]
pub(crate) struct Selected(pub(crate) Vec<Arc<TargetHealth>>);

impl Health for Selected {
    fn admit(&mut self, target: usize, now: Time, again: bool) -> Leave {
        self.0[target].admit(now, again)
    }

    fn report(&mut self, target: usize, now: Time, report: Report, probe: bool) {
        self.0[target].report(now, report, probe);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_provider_begins_anew_and_no_other_one() {
        let healths = Healths::default();
        let of = |name: &str| {
            healths.of(
                name.into(),
                breaker::Terms::default(),
                budget::Terms::default(),
                Time::default(),
            )
        };
        let (mine, other) = (of("a/m"), of("ab/m"));
        healths.forget("a");
        assert!(!Arc::ptr_eq(&mine, &of("a/m")));
        assert!(Arc::ptr_eq(&other, &of("ab/m")));
    }
}
