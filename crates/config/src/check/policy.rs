//! Policies: the defaults, what a route says over them, and times that contradict each other.

use std::time::Duration;

use crate::checked::{Breaker, Budget, Delivery, Policy, Timeouts};
use crate::diagnostic::Problem;
use crate::draft::{BreakerDraft, BudgetDraft, DefaultsDraft, PolicyFields, TimeoutsDraft};
use crate::shape::Field;

use super::{Checker, durable};

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
    let policy = over(&Policy::default(), draft.policy(), checker);
    Defaults {
        policy,
        budget: budget(&draft.budget),
        breaker: breaker(&draft.breaker, checker),
    }
}

/// A policy with a section's own fields over it.
pub(super) fn over(base: &Policy, fields: PolicyFields<'_>, checker: &mut Checker<'_>) -> Policy {
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
    durable::policy_over(&mut policy, fields, checker);
    policy.timeouts = times_over(policy.timeouts, fields.timeouts);
    if let Some(backoff) = fields.backoff.get() {
        backoff.base.put(&mut policy.backoff.base);
        backoff.cap.put(&mut policy.backoff.cap);
    }
    policy.attempts_per_target = policy.attempts_per_target.min(policy.max_attempts);
    check_policy(&policy, fields, checker);
    policy
}

fn check_policy(policy: &Policy, fields: PolicyFields<'_>, checker: &mut Checker<'_>) {
    check_times(fields.timeouts, policy.timeouts.attempt, checker);
    if let Some(backoff) = fields.backoff.given()
        && policy.backoff.base > policy.backoff.cap
    {
        let message = "the backoff's `base` is larger than its `cap`";
        checker.report(Problem::error(backoff.span.clone(), message));
    }
    if let (Some(each), Some(all)) = (
        fields.attempts_per_target.given(),
        fields.max_attempts.get(),
    ) && each.0 > all.0
    {
        let message = format!(
            "`attempts_per_target` ({}) is larger than `max_attempts` ({})",
            each.0, all.0
        );
        checker.report(Problem::error(each.span.clone(), message));
    }
    let attempt = fields
        .timeouts
        .get()
        .and_then(|times| times.attempt.given());
    if let (Some(attempt), Some(deadline)) = (attempt, fields.deadline.get())
        && attempt.0 > deadline.0
    {
        let message = "one attempt may take longer than the `deadline` of the whole exchange";
        checker.report(Problem::warning(attempt.span.clone(), message));
    }
    if let (Some(join), Some(Delivery::Whole)) = (fields.join.given(), fields.delivery.get())
        && join.value
    {
        let message =
            "`join` has no effect with `delivery: whole`: nothing is shown before the end";
        checker.report(Problem::warning(join.span.clone(), message));
    }
}

/// Time limits with a section's own over them. What is inherited is cut to the section's `attempt`.
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
    Timeouts {
        connect: times.connect.min(times.attempt),
        head: times.head.min(times.attempt),
        first_token: times.first_token.min(times.attempt),
        idle: times.idle.min(times.attempt),
        attempt: times.attempt,
        after_finish: times.after_finish.min(times.attempt),
    }
}

/// No part of an attempt may be given more time than the whole.
pub(super) fn check_times(
    field: &Field<TimeoutsDraft>,
    attempt: Duration,
    checker: &mut Checker<'_>,
) {
    let Some(draft) = field.get() else {
        return;
    };
    let parts = [
        ("connect", &draft.connect),
        ("head", &draft.head),
        ("first_token", &draft.first_token),
        ("idle", &draft.idle),
        ("after_finish", &draft.after_finish),
    ];
    for (name, part) in parts {
        if let Some(part) = part.given().filter(|part| part.0 > attempt) {
            let message = format!(
                "the timeout `{name}` ({:?}) is longer than the whole `attempt` ({attempt:?})",
                part.0
            );
            checker.report(Problem::error(part.span.clone(), message));
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
