//! Which target is asked next, and when.
//!
//! First every target once, in the route's order, but one from a failure domain that has not failed
//! in this exchange goes before one that shares a domain with a failure. Then those whose failure
//! may pass, again, after their backoff and out of their retry budget. Moving on is free and at
//! once; asking again is neither. The only place in Holdfast that retries.

use std::time::Duration;

use crate::breaker::{Admission, Report};
use crate::policy::{Policy, Target};
use crate::time::Time;

/// The state of the targets that all exchanges share: breakers and retry budgets.
pub trait Health {
    /// Asks to call `target`; `again` = it was asked before in this exchange (draws on the budget).
    fn admit(&mut self, target: usize, now: Time, again: bool) -> Leave;
    /// Tells how an admitted call ended: exactly once for each `Leave::Go`.
    fn report(&mut self, target: usize, now: Time, report: Report, probe: bool);
}

/// The answer of [`Health::admit`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Leave {
    Go {
        probe: bool,
    },
    /// The breaker is open until then.
    Open(Time),
    /// Asking again would be more load than the budget allows.
    NoBudget,
}

impl From<Admission> for Leave {
    fn from(admission: Admission) -> Self {
        match admission {
            Admission::Go => Self::Go { probe: false },
            Admission::Probe => Self::Go { probe: true },
            Admission::Open(until) => Self::Open(until),
        }
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Next {
    Ask {
        target: usize,
        probe: bool,
    },
    /// A target may be asked again then.
    Wait(Time),
    Exhausted,
}

#[derive(Clone, Copy, Debug)]
struct Course {
    asked: u32,
    /// Not before then; `None` = never again in this exchange.
    ready: Option<Time>,
    failed: bool,
}

/// One exchange's way through its targets.
#[derive(Clone, Debug)]
pub struct Plan {
    courses: Vec<Course>,
    asked: u32,
    /// The earliest time at which a breaker that stood in the way lets a probe through.
    opens: Option<Time>,
    /// Only targets with a larger window are of use.
    window_over: Option<u64>,
}

impl Plan {
    /// A plan over `targets` targets, none of which was asked.
    pub fn new(targets: usize) -> Self {
        let course = Course {
            asked: 0,
            ready: Some(Time::default()),
            failed: false,
        };
        Self {
            courses: vec![course; targets],
            asked: 0,
            opens: None,
            window_over: None,
        }
    }

    /// Chooses. An `Ask` is counted as asked and admitted.
    pub fn next(
        &mut self,
        now: Time,
        targets: &[Target],
        policy: &Policy,
        health: &mut impl Health,
    ) -> Next {
        self.opens = None;
        if self.asked >= policy.max_attempts {
            return Next::Exhausted;
        }
        for target in self.fresh(targets) {
            match health.admit(target, now, false) {
                Leave::Go { probe } => return self.ask(target, probe),
                Leave::Open(until) => self.note_open(until),
                Leave::NoBudget => {}
            }
        }
        self.again(now, targets, policy, health)
    }

    /// Whether the exchange may ask anybody once more.
    pub fn may_ask(&self, policy: &Policy) -> bool {
        self.asked < policy.max_attempts
    }

    /// `target` is asked once more out of turn.
    pub fn ask_again(&mut self, target: usize) {
        self.courses[target].asked += 1;
        self.asked += 1;
    }

    /// The target failed. `ready` = when it may be asked again, `None` = not in this exchange.
    pub fn failed(&mut self, target: usize, ready: Option<Time>) {
        self.courses[target].ready = ready;
        self.courses[target].failed = true;
    }

    /// The request did not fit this target: only larger windows are tried from here on.
    pub fn overflowed(&mut self, target: usize, window: Option<u64>) {
        self.failed(target, None);
        self.window_over = self.window_over.max(window);
        if window.is_none() {
            // A window that nobody knows can't be compared: nothing is known to be larger.
            self.window_over = Some(u64::MAX);
        }
    }

    /// How often `target` was asked.
    pub fn asked(&self, target: usize) -> u32 {
        self.courses[target].asked
    }

    /// How often any target was asked.
    pub fn attempts(&self) -> u32 {
        self.asked
    }

    /// Whether a target is left that was never asked.
    pub fn has_fresh(&self, targets: &[Target]) -> bool {
        !self.fresh(targets).is_empty()
    }

    /// When the first of the breakers that stood in the way opens up; of the last [`Self::next`].
    pub fn opens(&self) -> Option<Time> {
        self.opens
    }

    fn ask(&mut self, target: usize, probe: bool) -> Next {
        self.courses[target].asked += 1;
        self.asked += 1;
        Next::Ask { target, probe }
    }

    fn note_open(&mut self, until: Time) {
        self.opens = Some(self.opens.map_or(until, |opens| opens.min(until)));
    }

    fn fits(&self, target: &Target) -> bool {
        self.window_over
            .is_none_or(|over| target.context_window.is_some_and(|window| window > over))
    }

    /// Targets never asked, those of domains without a failure first.
    fn fresh(&self, targets: &[Target]) -> Vec<usize> {
        let in_failed_domain = |place: usize| {
            self.courses
                .iter()
                .zip(targets)
                .any(|(course, target)| course.failed && target.domain == targets[place].domain)
        };
        let mut fresh: Vec<usize> = (0..self.courses.len())
            .filter(|&place| self.courses[place].asked == 0 && self.courses[place].ready.is_some())
            .filter(|&place| self.fits(&targets[place]))
            .collect();
        fresh.sort_by_key(|&place| in_failed_domain(place));
        fresh
    }

    /// The earliest of the targets that may be asked again.
    fn again(
        &mut self,
        now: Time,
        targets: &[Target],
        policy: &Policy,
        health: &mut impl Health,
    ) -> Next {
        loop {
            let best = self
                .courses
                .iter()
                .enumerate()
                .filter(|(place, course)| {
                    course.asked > 0
                        && course.asked < policy.attempts_per_target
                        && self.fits(&targets[*place])
                })
                .filter_map(|(place, course)| Some((course.ready?, place)))
                .min();
            let Some((ready, target)) = best else {
                return Next::Exhausted;
            };
            if ready > now {
                return Next::Wait(ready);
            }
            match health.admit(target, now, true) {
                Leave::Go { probe } => return self.ask(target, probe),
                Leave::Open(until) => {
                    self.note_open(until);
                    self.courses[target].ready = None;
                }
                Leave::NoBudget => self.courses[target].ready = None,
            }
        }
    }
}

/// When a failed target may be asked again: the backoff, or what the vendor named if that is later.
/// `None` where that lies beyond the deadline.
pub fn ready_at(
    now: Time,
    backoff: Duration,
    named: Option<Duration>,
    deadline: Time,
) -> Option<Time> {
    let ready = now + backoff.max(named.unwrap_or_default());
    (ready < deadline).then_some(ready)
}

#[cfg(test)]
mod tests {
    use holdfast_wire::turn::Dialect;

    use super::*;
    use crate::policy::Timeouts;

    struct Open(Vec<Leave>);

    impl Health for Open {
        fn admit(&mut self, target: usize, _: Time, _: bool) -> Leave {
            self.0
                .get(target)
                .copied()
                .unwrap_or(Leave::Go { probe: false })
        }

        fn report(&mut self, _: usize, _: Time, _: Report, _: bool) {}
    }

    fn targets(domains: &[u32]) -> Vec<Target> {
        domains
            .iter()
            .map(|&domain| Target {
                dialect: Dialect::OpenAi,
                domain,
                context_window: Some(1000 * u64::from(domain)),
                names_model: true,
                caller_auth: false,
                streams_plain_calls: true,
                timeouts: Timeouts::default(),
            })
            .collect()
    }

    fn ask(target: usize) -> Next {
        Next::Ask {
            target,
            probe: false,
        }
    }

    const NOW: Time = Time::from_millis(0);

    #[test]
    fn another_domain_goes_before_the_one_that_failed() {
        let targets = targets(&[1, 1, 2]);
        let (policy, mut health) = (Policy::default(), Open(vec![]));
        let mut plan = Plan::new(3);
        let later = Some(Time::from_millis(50));
        assert_eq!(plan.next(NOW, &targets, &policy, &mut health), ask(0));
        plan.failed(0, later);
        assert_eq!(plan.next(NOW, &targets, &policy, &mut health), ask(2));
        plan.failed(2, None);
        assert_eq!(plan.next(NOW, &targets, &policy, &mut health), ask(1));
        plan.failed(1, None);
        assert_eq!(
            plan.next(NOW, &targets, &policy, &mut health),
            Next::Wait(Time::from_millis(50))
        );
        assert_eq!(
            plan.next(Time::from_millis(50), &targets, &policy, &mut health),
            ask(0)
        );
        plan.failed(0, later);
        assert_eq!(
            plan.next(Time::from_millis(99), &targets, &policy, &mut health),
            Next::Exhausted
        );
    }

    #[test]
    fn an_open_breaker_is_passed_over_and_an_empty_budget_ends_the_retries() {
        let targets = targets(&[1, 2]);
        let policy = Policy::default();
        let mut plan = Plan::new(2);
        let until = Time::from_millis(700);
        let mut health = Open(vec![Leave::Open(until), Leave::Go { probe: true }]);
        let next = plan.next(NOW, &targets, &policy, &mut health);
        assert_eq!(
            next,
            Next::Ask {
                target: 1,
                probe: true
            }
        );
        plan.failed(1, Some(NOW));
        health.0[1] = Leave::NoBudget;
        assert_eq!(
            plan.next(NOW, &targets, &policy, &mut health),
            Next::Exhausted
        );
        assert_eq!(plan.opens(), Some(until));
    }

    #[test]
    fn an_overflow_goes_to_a_larger_window_only() {
        let targets = targets(&[2, 1, 3]);
        let (policy, mut health) = (Policy::default(), Open(vec![]));
        let mut plan = Plan::new(3);
        assert_eq!(plan.next(NOW, &targets, &policy, &mut health), ask(0));
        plan.overflowed(0, targets[0].context_window);
        assert_eq!(plan.next(NOW, &targets, &policy, &mut health), ask(2));
        plan.overflowed(2, targets[2].context_window);
        assert_eq!(
            plan.next(NOW, &targets, &policy, &mut health),
            Next::Exhausted
        );
    }

    #[test]
    fn no_plan_asks_more_often_than_its_limits() {
        for (targets_count, per_target, most) in [(1, 1, 9), (3, 2, 6), (5, 3, 4)] {
            let targets = targets(&vec![1; targets_count]);
            let policy = Policy {
                attempts_per_target: per_target,
                max_attempts: most,
                ..Policy::default()
            };
            let mut plan = Plan::new(targets_count);
            let mut asked = 0;
            while let Next::Ask { target, .. } =
                plan.next(NOW, &targets, &policy, &mut Open(vec![]))
            {
                asked += 1;
                plan.failed(target, Some(NOW));
            }
            let expected = most.min(per_target * u32::try_from(targets_count).unwrap());
            assert_eq!(asked, expected);
        }
    }

    #[test]
    fn a_retry_after_beyond_the_deadline_is_no_retry() {
        let second = Duration::from_secs(1);
        let deadline = Time::from_millis(2500);
        assert_eq!(
            ready_at(NOW, second, None, deadline),
            Some(Time::from_millis(1000))
        );
        assert_eq!(
            ready_at(NOW, second, Some(second * 2), deadline),
            Some(Time::from_millis(2000))
        );
        assert_eq!(ready_at(NOW, second, Some(second * 3), deadline), None);
    }
}
