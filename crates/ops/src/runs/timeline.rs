//! A run as it is shown: itself, what belongs to it, and all of that in the order of time.
//!
//! The words of the timeline are those of the events (`step.done`, `effect.in_doubt`). It is made from
//! what is kept, not from the events: those are forgotten sooner. Moments are milliseconds since 1970.

use holdfast_core::idempotency::shown_key;
use holdfast_core::run::missing;
use holdfast_core::run::moment::span;
use holdfast_core::time::Wall;
use holdfast_store::{
    Approval, ApprovalState, BookedExchange, Effect, EffectState, Failure, MAX_STEPS, Run, Step,
    StepState, Ticket, TicketState,
};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

/// A run and everything that names it.
pub(crate) struct Parts {
    pub(crate) run: Run,
    pub(crate) steps: Vec<Step>,
    pub(crate) exchanges: Vec<BookedExchange>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) tickets: Vec<Ticket>,
    pub(crate) approvals: Vec<Approval>,
}

/// Something that happened.
struct Entry<'a> {
    at: Wall,
    kind: String,
    /// Of the exchange, effect, ticket or approval; nothing for the run and its steps.
    id: Option<&'a str>,
    step: Option<&'a str>,
    text: String,
}

/// A run by itself.
pub(crate) fn run(run: &Run) -> Value {
    json!({
        "id": run.id,
        "scope": run.scope,
        "state": run.state,
        "declared": run.declared,
        "expect": run.expect,
        "deadline": run.deadline.map(|at| at.0),
        "heartbeat": run.heartbeat.map(span),
        "labels": run.labels,
        "seen": run.seen.0,
        "created": run.created.0,
        "ended": run.ended.map(|at| at.0),
        "ticket": run.ticket,
    })
}

/// A run with everything. A list of `most` entries may have been cut, and one of the most steps.
pub(crate) fn whole(parts: &Parts, most: usize) -> Value {
    let steps = parts.steps.iter();
    let done: Vec<&str> = steps
        .filter(|step| step.state == StepState::Done)
        .map(|step| step.step.as_str())
        .collect();
    let lengths = [
        parts.exchanges.len(),
        parts.effects.len(),
        parts.tickets.len(),
        parts.approvals.len(),
    ];
    let more = json!({
        "missing": missing(&parts.run.expect, &done),
        "steps": list(&parts.steps, step),
        "exchanges": list(&parts.exchanges, exchange),
        "effects": list(&parts.effects, effect),
        "tickets": list(&parts.tickets, ticket),
        "approvals": list(&parts.approvals, approval),
        "timeline": timeline(parts),
        "cut": lengths.iter().any(|length| *length >= most) || parts.steps.len() >= MAX_STEPS,
    });
    let mut members = object(run(&parts.run));
    members.extend(object(more));
    Value::Object(members)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => unreachable!("invariant: an object was written"),
    }
}

/// In the order of time, where lists come newest first.
fn list<T>(all: &[T], show: fn(&T) -> Value) -> Vec<Value> {
    let mut shown: Vec<Value> = all.iter().map(show).collect();
    shown.sort_by_key(|one| one["created"].as_i64());
    shown
}

fn step(step: &Step) -> Value {
    json!({
        "step": step.step,
        "state": step.state,
        "fence": step.fence,
        "until": step.until.0,
        "attempts": step.attempts,
        "error": step.error,
        "failures": failures(step),
        "created": step.created.0,
        "updated": step.updated.0,
    })
}

/// Attempts that came to nothing, as they are shown.
pub(super) fn failures(step: &Step) -> Vec<Value> {
    let shown = |failure: &Failure| {
        json!({
            "attempt": failure.attempt,
            "begun": failure.begun.0,
            "at": failure.at.0,
            "why": if failure.lapsed { "lapsed" } else { "failed" },
            "error": failure.error,
        })
    };
    step.failures.iter().map(shown).collect()
}

fn exchange(booked: &BookedExchange) -> Value {
    let more: Option<Value> = serde_json::from_str::<Box<RawValue>>(&booked.json)
        .ok()
        .and_then(|raw| serde_json::from_str(raw.get()).ok());
    json!({
        "id": booked.id,
        "created": booked.at.0,
        "route": booked.route,
        "step": booked.step,
        "outcome": booked.outcome,
        "facts": more,
    })
}

fn effect(effect: &Effect) -> Value {
    json!({
        "id": effect.id,
        "target": effect.target,
        "key": shown_key(&effect.key),
        "state": effect.state,
        "step": effect.step,
        "attempts": effect.attempts,
        "error": effect.error,
        "ticket": effect.ticket,
        "created": effect.created.0,
        "updated": effect.updated.0,
    })
}

fn ticket(ticket: &Ticket) -> Value {
    json!({
        "id": ticket.id,
        "kind": ticket.kind,
        "state": ticket.state,
        "title": ticket.title,
        "step": ticket.step,
        "created": ticket.created.0,
        "decision": ticket.decision,
        "decided_by": ticket.decided_by,
        "decided_at": ticket.decided_at.map(|at| at.0),
    })
}

fn approval(approval: &Approval) -> Value {
    json!({
        "id": approval.id,
        "state": approval.state,
        "question": approval.question,
        "step": approval.step,
        "choice": approval.choice,
        "decided_by": approval.decided_by,
        "created": approval.created.0,
        "decided_at": approval.decided_at.map(|at| at.0),
    })
}

fn timeline(parts: &Parts) -> Vec<Value> {
    let mut entries = of_run(&parts.run);
    entries.extend(parts.steps.iter().flat_map(of_step));
    entries.extend(parts.exchanges.iter().map(of_exchange));
    entries.extend(parts.effects.iter().flat_map(of_effect));
    entries.extend(parts.tickets.iter().flat_map(of_ticket));
    entries.extend(parts.approvals.iter().flat_map(of_approval));
    entries.sort_by_key(|entry| entry.at);
    entries.into_iter().map(Entry::show).collect()
}

impl Entry<'_> {
    fn show(self) -> Value {
        json!({
            "at": self.at.0,
            "kind": self.kind,
            "id": self.id,
            "step": self.step,
            "text": self.text,
        })
    }
}

fn of_run(run: &Run) -> Vec<Entry<'_>> {
    let entry = |at, kind: &str, text: &str| Entry {
        at,
        kind: kind.to_owned(),
        id: None,
        step: None,
        text: text.to_owned(),
    };
    let first = if run.declared {
        "run.declared"
    } else {
        "run.seen"
    };
    let mut entries = vec![entry(run.created, first, &run.id)];
    entries.extend(
        run.ended
            .map(|at| entry(at, "run.ended", run.state.as_str())),
    );
    entries
}

fn of_step(step: &Step) -> Vec<Entry<'_>> {
    let entry = |at, kind: &str, text: String| Entry {
        at,
        kind: kind.to_owned(),
        id: None,
        step: Some(&step.step),
        text,
    };
    let again = |attempt: i64, at| {
        let text = format!("attempt {attempt}");
        (attempt > 1).then(|| entry(at, "step.begun_again", text))
    };
    let mut entries = vec![entry(step.created, "step.begun", String::new())];
    for failure in &step.failures {
        entries.extend(again(failure.attempt, failure.begun));
        let kind = if failure.lapsed {
            "step.lapsed"
        } else {
            "step.failed"
        };
        entries.push(entry(failure.at, kind, failure.error.clone()));
    }
    match step.state {
        StepState::Running => entries.extend(again(step.attempts, step.begun)),
        StepState::Done => {
            entries.extend(again(step.attempts, step.begun));
            entries.push(entry(step.updated, "step.done", String::new()));
        }
        // The last failure has said it.
        StepState::Failed => {}
    }
    entries
}

fn of_exchange(booked: &BookedExchange) -> Entry<'_> {
    Entry {
        at: booked.at,
        kind: "exchange".to_owned(),
        id: Some(&booked.id),
        step: booked.step.as_deref(),
        text: format!("{}: {}", booked.route, booked.outcome),
    }
}

fn of_effect(effect: &Effect) -> Vec<Entry<'_>> {
    let entry = |at, kind: &str, text: String| Entry {
        at,
        kind: kind.to_owned(),
        id: Some(&effect.id),
        step: effect.step.as_deref(),
        text,
    };
    let mut entries = vec![entry(
        effect.created,
        "effect.recorded",
        effect.target.clone(),
    )];
    let later = match effect.state {
        EffectState::Recorded => None,
        EffectState::Sending => Some("effect.sending"),
        EffectState::Done => Some("effect.done"),
        EffectState::Failed => Some("effect.failed"),
        EffectState::Doubt => Some("effect.in_doubt"),
        EffectState::Cancelled => Some("effect.cancelled"),
    };
    let why = effect.error.clone().unwrap_or_default();
    entries.extend(later.map(|kind| entry(effect.updated, kind, why)));
    entries
}

fn of_ticket(ticket: &Ticket) -> Vec<Entry<'_>> {
    let entry = |at, kind: &str, text: String| Entry {
        at,
        kind: kind.to_owned(),
        id: Some(&ticket.id),
        step: ticket.step.as_deref(),
        text,
    };
    let mut entries = vec![entry(ticket.created, "ticket.opened", ticket.title.clone())];
    let by = ticket.decided_by.clone().unwrap_or_default();
    match ticket.state {
        TicketState::Open | TicketState::Claimed | TicketState::Retrying => {}
        TicketState::Resolved => {
            let at = ticket.decided_at.unwrap_or(ticket.updated);
            entries.push(entry(at, "ticket.decided", by));
        }
        TicketState::Expired => entries.push(entry(ticket.updated, "ticket.expired", by)),
    }
    entries
}

fn of_approval(approval: &Approval) -> Vec<Entry<'_>> {
    let entry = |at, kind: &str, text: String| Entry {
        at,
        kind: kind.to_owned(),
        id: Some(&approval.id),
        step: approval.step.as_deref(),
        text,
    };
    let mut entries = vec![entry(
        approval.created,
        "approval.asked",
        approval.question.clone(),
    )];
    let at = approval.decided_at.unwrap_or(approval.created);
    match approval.state {
        ApprovalState::Open => {}
        ApprovalState::Decided => {
            let choice = approval.choice.clone().unwrap_or_default();
            let by = approval.decided_by.clone().unwrap_or_default();
            entries.push(entry(at, "approval.decided", format!("{choice}, by {by}")));
        }
        ApprovalState::Expired => entries.push(entry(at, "approval.expired", String::new())),
    }
    entries
}
