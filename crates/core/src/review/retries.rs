//! When calls of the queue are asked again without a person: slowly, oldest first.
//!
//! A vendor that comes back is weak at first, so its queue is not thrown at it: one call at a time on
//! each route, a rest after each, and after a failure a rest twice as long, up to a cap. Whoever
//! drives this asks [`may_begin`](Retries::may_begin) for each route that calls wait for, longest first,
//! says [`begin`](Retries::begin) and [`end`](Retries::end), and [`rested`](Retries::rested) once the
//! rest that `end` gave is over. No clock is read: the driver sleeps.

use std::collections::BTreeMap;
use std::time::Duration;

/// How fast.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    /// The rest of a route after a call that was answered.
    pub interval: Duration,
    /// The longest rest.
    pub cap: Duration,
    /// Calls at once over all routes; 0 counts as 1.
    pub parallel: usize,
}

/// What is under way, and how each route has done.
#[derive(Clone, Debug)]
pub struct Retries {
    pace: Pace,
    routes: BTreeMap<String, Route>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Route {
    busy: Option<Busy>,
    /// Failures in a row.
    failures: u32,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Busy {
    Asking,
    Resting,
}

// === impl Pace ===

impl Pace {
    /// The rest after so many failures in a row.
    pub fn rest(self, failures: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failures);
        self.interval
            .saturating_mul(doubled)
            .min(self.cap.max(self.interval))
    }
}

// === impl Retries ===

impl Retries {
    pub fn new(pace: Pace) -> Self {
        Self {
            pace,
            routes: BTreeMap::new(),
        }
    }

    /// How many are asked at this moment.
    pub fn asking(&self) -> usize {
        let asking = |route: &&Route| route.busy == Some(Busy::Asking);
        self.routes.values().filter(asking).count()
    }

    /// How many more may begin now.
    pub fn room(&self) -> usize {
        self.pace.parallel.max(1).saturating_sub(self.asking())
    }

    /// Whether a call of this route may begin now: there is room, and the route neither is asked nor
    /// rests.
    pub fn may_begin(&self, route: &str) -> bool {
        let known = self.routes.get(route);
        self.room() > 0 && known.is_none_or(|route| route.busy.is_none())
    }

    /// A call of this route is asked.
    pub fn begin(&mut self, route: &str) {
        let route = self.routes.entry(route.to_owned()).or_default();
        route.busy = Some(Busy::Asking);
    }

    /// It ended. Gives how long the route rests.
    pub fn end(&mut self, route: &str, answered: bool) -> Duration {
        let route = self.routes.entry(route.to_owned()).or_default();
        route.failures = if answered {
            0
        } else {
            route.failures.saturating_add(1)
        };
        route.busy = Some(Busy::Resting);
        self.pace.rest(route.failures)
    }

    /// The rest is over.
    pub fn rested(&mut self, route: &str) {
        match self.routes.get_mut(route) {
            // A route without a history needs no memory.
            Some(known) if known.failures == 0 => {
                self.routes.remove(route);
            }
            Some(known) => known.busy = None,
            None => {}
        }
    }
}
