//! Policies: the defaults, what a route says over them, and times that contradict each other.

use crate::checked::{Breaker, Budget, Delivery, Policy, Timeouts};
use crate::diagnostic::Problem;
use crate::draft::{BreakerDraft, BudgetDraft, DefaultsDraft, PolicyFields, TimeoutsDraft};
use crate::shape::Field;
use crate::yaml::Span;

use super::Checker;

#[derive(Default)]
pub(super) struct Defaults {
    pub(super) policy: Policy,
    pub(super) budget: Budget,
    pub(super) breaker: Breaker,
}

pub(super) fn defaults(field: &Field<DefaultsDraft>, checker: &mut Checker<'_>) -> Defaults {
    let Some(draft) = field.get() else {
        return Defaults::default();
    };
    let policy = over(&Policy::default(), draft.policy(), &draft.at, checker);
    check_times(
        &policy.timeouts,
        &times_span(&draft.timeouts, &draft.at),
        checker,
    );
    Defaults {
        policy,
        budget: budget(&draft.budget),
        breaker: breaker(&draft.breaker, checker),
    }
}

/// A policy with a section's own fields over it.
pub(super) fn over(
    base: &Policy,
    fields: PolicyFields<'_>,
    at: &Span,
    checker: &mut Checker<'_>,
) -> Policy {
    let mut policy = base.clone();
    fields.delivery.put(&mut policy.delivery);
    fields.join.put(&mut policy.join);
    fields
        .attempts_per_target
        .put(&mut policy.attempts_per_target);
    fields.max_attempts.put(&mut policy.max_attempts);
    fields.deadline.put(&mut policy.deadline);
    fields.on_refusal.put(&mut policy.on_refusal);
    fields.empty_answer.put(&mut policy.empty_answer);
    fields.heartbeat.put(&mut policy.heartbeat);
    fields.max_continuations.put(&mut policy.max_continuations);
    policy.timeouts = times_over(policy.timeouts, fields.timeouts);
    if let Some(backoff) = fields.backoff.get() {
        backoff.base.put(&mut policy.backoff.base);
        backoff.cap.put(&mut policy.backoff.cap);
    }
    check_policy(&policy, fields, at, checker);
    policy
}

fn check_policy(policy: &Policy, fields: PolicyFields<'_>, at: &Span, checker: &mut Checker<'_>) {
    if policy.backoff.base > policy.backoff.cap {
        let span = fields.backoff.span().unwrap_or_else(|| at.clone());
        let message = "the backoff's `base` is larger than its `cap`";
        checker.report(Problem::error(span, message));
    }
    if policy.attempts_per_target > policy.max_attempts {
        let given = fields
            .attempts_per_target
            .span()
            .or_else(|| fields.max_attempts.span());
        let message = format!(
            "`attempts_per_target` ({}) is larger than `max_attempts` ({})",
            policy.attempts_per_target, policy.max_attempts
        );
        checker.report(Problem::error(given.unwrap_or_else(|| at.clone()), message));
    }
    let attempt_given = fields
        .timeouts
        .get()
        .is_some_and(|times| !times.attempt.is_absent());
    let deadline_given = !fields.deadline.is_absent();
    if policy.timeouts.attempt > policy.deadline && (attempt_given || deadline_given) {
        let span = fields.deadline.span().or_else(|| fields.timeouts.span());
        // A short deadline alone is a plain wish; both together contradict each other.
        if attempt_given && deadline_given {
            let message = "one attempt may take longer than the `deadline` of the whole exchange";
            checker.report(Problem::warning(
                span.unwrap_or_else(|| at.clone()),
                message,
            ));
        }
    }
    let joins = fields.join.get() == Some(&true);
    if joins && policy.delivery == Delivery::Whole && fields.delivery.given().is_some() {
        let span = fields.join.span().unwrap_or_else(|| at.clone());
        let message =
            "`join` has no effect with `delivery: whole`: nothing is shown before the end";
        checker.report(Problem::warning(span, message));
    }
}

/// Time limits with a section's own over them.
pub(super) fn times_over(base: Timeouts, field: &Field<TimeoutsDraft>) -> Timeouts {
    let mut times = base;
    if let Some(draft) = field.get() {
        draft.connect.put(&mut times.connect);
        draft.head.put(&mut times.head);
        draft.first_token.put(&mut times.first_token);
        draft.idle.put(&mut times.idle);
        draft.attempt.put(&mut times.attempt);
        draft.after_finish.put(&mut times.after_finish);
    }
    times
}

/// Where to point at when the times of a section contradict each other.
pub(super) fn times_span(field: &Field<TimeoutsDraft>, at: &Span) -> Span {
    field.span().unwrap_or_else(|| at.clone())
}

/// No part of an attempt may be given more time than the whole.
pub(super) fn check_times(times: &Timeouts, span: &Span, checker: &mut Checker<'_>) {
    let parts = [
        ("connect", times.connect),
        ("head", times.head),
        ("first_token", times.first_token),
        ("idle", times.idle),
        ("after_finish", times.after_finish),
    ];
    for (name, part) in parts {
        if part > times.attempt {
            let message = format!(
                "the timeout `{name}` ({part:?}) is longer than the whole `attempt` ({:?})",
                times.attempt
            );
            checker.report(Problem::error(span.clone(), message));
        }
    }
}

fn budget(field: &Field<BudgetDraft>) -> Budget {
    let mut budget = Budget::default();
    if let Some(draft) = field.get() {
        draft.share.put(&mut budget.share);
        draft.floor_per_second.put(&mut budget.floor_per_second);
    }
    budget
}

fn breaker(field: &Field<BreakerDraft>, checker: &mut Checker<'_>) -> Breaker {
    let mut breaker = Breaker::default();
    let Some(draft) = field.get() else {
        return breaker;
    };
    draft.consecutive.put(&mut breaker.consecutive);
    draft.share.put(&mut breaker.share);
    draft.window.put(&mut breaker.window);
    draft.min_calls.put(&mut breaker.min_calls);
    draft.open.put(&mut breaker.open);
    draft.open_max.put(&mut breaker.open_max);
    draft.money.put(&mut breaker.money);
    if breaker.share <= 0.0 {
        let span = draft.share.span().unwrap_or_else(|| draft.at.clone());
        let message = "a breaker with a `share` of 0 would open without any failure";
        checker.report(Problem::error(span, message));
    }
    if breaker.open > breaker.open_max {
        let span = draft.open.span().or_else(|| draft.open_max.span());
        let message = "the breaker's `open` is longer than its `open_max`";
        checker.report(Problem::error(
            span.unwrap_or_else(|| draft.at.clone()),
            message,
        ));
    }
    breaker
}
