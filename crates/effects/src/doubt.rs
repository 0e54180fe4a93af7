//! The ticket of an effect of which a person has to decide what became of it.

use holdfast_core::effect::Happened;
use holdfast_core::idempotency::shown_key;
use holdfast_core::run::moment::moment;
use holdfast_core::time::Wall;
use holdfast_store::{Effect, NEVER, NewTicket, RetryPolicy, TicketKind};
use serde_json::json;

use crate::outgoing::{Outgoing, target_key};
use crate::target::{Kind, Target};

/// What is known.
pub(crate) struct Doubt<'a> {
    pub effect: &'a Effect,
    /// `None` = it is no longer configured.
    pub target: Option<&'a Target>,
    pub happened: Happened,
    pub error: &'a str,
    pub now: Wall,
}

/// The ticket, with everything that a person needs to look it up at the target.
pub(crate) fn ticket(doubt: &Doubt<'_>) -> NewTicket {
    let Doubt {
        effect,
        target,
        happened,
        error,
        ..
    } = *doubt;
    let outgoing = Outgoing::from_bytes(&effect.payload).unwrap_or_default();
    let what = what(&outgoing, target);
    let title = match happened {
        Happened::No => format!("`{}` was not reached: {what} did not happen", effect.target),
        Happened::Perhaps => format!("Did {what} at `{}` happen?", effect.target),
    };
    let facts = json!({
        "effect": effect.id,
        "target": effect.target,
        "honours_keys": target.map(|target| target.honours_keys),
        "method": outgoing.method,
        "path": outgoing.path,
        "key": shown_key(&effect.key),
        "key_sent": target_key(effect),
        "payload_bytes": outgoing.body.len(),
        "payload_sha256": outgoing.body_digest(),
        "attempts": effect.attempts,
        "happened": match happened {
            Happened::No => "no",
            Happened::Perhaps => "unknown",
        },
        "error": error,
        "recorded": moment(effect.created),
        "last_sent": moment(effect.updated),
    });
    NewTicket {
        kind: TicketKind::Effect,
        scope: effect.scope.clone(),
        subject: effect.id.clone(),
        key: None,
        run: effect.run.clone(),
        step: effect.step.clone(),
        route: None,
        title,
        facts,
        content: Some(effect.payload.clone()),
        policy: RetryPolicy::Never,
        not_before: doubt.now,
        // Nothing else ends the doubt.
        expires: NEVER,
        now: doubt.now,
    }
}

fn what(outgoing: &Outgoing, target: Option<&Target>) -> String {
    let is_mail = target.is_some_and(|target| matches!(target.kind, Kind::Smtp(_)));
    if is_mail || outgoing.method.is_empty() {
        "the mail".to_owned()
    } else {
        format!("`{} {}`", outgoing.method, outgoing.path)
    }
}
