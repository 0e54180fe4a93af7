//! Tickets as the API shows them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_core::idempotency::shown_key;
use holdfast_core::review::{self, About, Claim, Kind, Standing, State};
use holdfast_core::time::Wall;
use holdfast_store::{KeptRequest, NEVER, Ticket, TicketKind, TicketState};
use serde_json::{Map, Value, json};

/// What limits the decisions about a ticket.
pub(crate) fn about(ticket: &Ticket) -> About {
    About {
        kind: match ticket.kind {
            TicketKind::Call => Kind::Call,
            TicketKind::Effect => Kind::Effect,
            TicketKind::Gate => Kind::Gate,
            TicketKind::Approval => Kind::Approval,
            TicketKind::Run => Kind::Run,
        },
        awaited: ticket.key.is_some(),
    }
}

/// How a ticket stands towards who says `fence`.
pub(crate) fn standing(ticket: &Ticket, fence: Option<i64>, now: Wall) -> Standing {
    let state = match ticket.state {
        TicketState::Open => State::Open,
        TicketState::Claimed => State::Claimed,
        TicketState::Retrying => State::Retrying,
        TicketState::Resolved => State::Resolved,
        TicketState::Expired => State::Expired,
    };
    let claim = ticket.claim_until.map(|until| Claim {
        fence: ticket.fence,
        until,
    });
    review::standing(state, claim, fence, now)
}

/// A ticket without its content. Moments are milliseconds since 1970.
pub(crate) fn ticket(ticket: &Ticket, now: Wall) -> Map<String, Value> {
    let standing = standing(ticket, None, now);
    // A claim past its end is none.
    let is_held = standing == Standing::Held;
    let state = if ticket.state == TicketState::Claimed && !is_held {
        TicketState::Open
    } else {
        ticket.state
    };
    let fits: Vec<&str> = match standing {
        Standing::Decided | Standing::Expired => Vec::new(),
        Standing::Free
        | Standing::Mine
        | Standing::Held
        | Standing::Lapsed
        | Standing::Retrying => {
            let fits = review::fitting(about(ticket)).iter();
            fits.map(|deed| deed.name()).collect()
        }
    };
    let shown = json!({
        "id": ticket.id,
        "kind": ticket.kind.as_str(),
        "state": state.as_str(),
        "title": ticket.title,
        "scope": ticket.scope,
        "subject": ticket.subject,
        "route": ticket.route,
        "run": ticket.run,
        "step": ticket.step,
        "key": ticket.key.as_ref().map(|key| shown_key(&key.key)),
        "retry": ticket.policy.as_str(),
        "not_before": ticket.not_before.0,
        "created": ticket.created.0,
        "updated": ticket.updated.0,
        "expires": Some(ticket.expires.0).filter(|_| ticket.expires != NEVER),
        "claimed_by": ticket.claimed_by.as_ref().filter(|_| is_held),
        "claim_until": ticket.claim_until.filter(|_| is_held).map(|until| until.0),
        "attempts": ticket.attempts,
        "reason": ticket.reason,
        "facts": ticket.facts,
        "fits": fits,
        "decision": ticket.decision,
        "decided_by": ticket.decided_by,
        "decided_at": ticket.decided_at.map(|at| at.0),
    });
    match shown {
        Value::Object(members) => members,
        _ => unreachable!("invariant: an object was written"),
    }
}

/// A ticket with its content, and with the answer that a call without a key was given.
pub(crate) fn with_content(shown: &Ticket, now: Wall) -> Map<String, Value> {
    let mut members = ticket(shown, now);
    let content = shown.content.as_deref().map_or(Value::Null, content);
    members.insert("content".to_owned(), content);
    if let Some(answer) = &shown.answer {
        let answer = json!({
            "exchange": answer.exchange,
            "status": answer.status,
            "body": body(&answer.body),
        });
        members.insert("answer".to_owned(), answer);
    }
    members
}

/// What is kept with a ticket: a call's request, or what another room put there.
fn content(bytes: &[u8]) -> Value {
    let Some(kept) = KeptRequest::from_bytes(bytes) else {
        return body(bytes);
    };
    // Values of one header in one line, as they may be sent (RFC 9110, 5.3).
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in kept.headers {
        let line = headers.entry(name).or_default();
        if !line.is_empty() {
            line.push_str(", ");
        }
        line.push_str(&value);
    }
    let mut shown = json!({
        "path": kept.path,
        "dialect": kept.dialect,
        "route": kept.route,
        "stream": kept.stream,
        "delivery": kept.delivery,
        "query": kept.query,
        "headers": headers,
        "body": body(&kept.body),
    });
    if let Some(refused) = kept.refused {
        shown["refused"] = refused.into();
    }
    shown
}

/// JSON as it is, text as a string, anything else as `{"base64": ..}`.
fn body(bytes: &[u8]) -> Value {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return value;
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({"base64": STANDARD.encode(bytes)}),
    }
}
