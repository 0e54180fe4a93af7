//! What a decision does: the ticket, and the key, effect, approval or run behind it, at once.

use holdfast_core::time::Wall;
use serde_json::{Value, json};

use super::keys::{self, Answer};
use super::tickets::{self, Kept, Resolution};
use super::{approvals, effects, runs};
use crate::engine::sql::{Tx, args};
use crate::error::Result;
use crate::model::key::KeyId;
use crate::model::ticket::{Decision, Ticket, TicketKind, TicketState};

/// A decided call's answer is kept at least this long after the decision, in milliseconds.
const ANSWER_KEPT: i64 = 24 * 60 * 60 * 1000;

/// A decision, with all that has to be sealed beforehand.
#[derive(Debug)]
pub(crate) struct Deciding {
    pub(crate) id: String,
    pub(crate) kind: TicketKind,
    pub(crate) subject: String,
    pub(crate) key: Option<KeyId>,
    pub(crate) scope: String,
    pub(crate) run: Option<String>,
    pub(crate) fence: Option<i64>,
    pub(crate) by: String,
    pub(crate) decision: Decision,
    /// Nobody decides: it is an approval's deadline.
    pub(crate) by_time: bool,
    pub(crate) now: Wall,
    /// For the key, its body sealed.
    pub(crate) answer: Option<Answer>,
    /// The whole answer, sealed for the ticket.
    pub(crate) kept_answer: Option<Vec<u8>>,
}

/// What became of it.
#[derive(Debug)]
pub(crate) enum Outcome {
    Done(Box<Kept>),
    Conflict(String),
    Missing,
}

pub(crate) async fn decide(tx: &mut Tx, call: &Deciding) -> Result<Outcome> {
    lock_subject(tx, call).await?;
    let Some(kept) = tickets::locked(tx, &call.id).await? else {
        return Ok(Outcome::Missing);
    };
    if let Some(conflict) = held(&kept, call.fence, call.now) {
        return Ok(Outcome::Conflict(conflict));
    }
    let applied = match kept.ticket.kind {
        TicketKind::Call | TicketKind::Gate => call_decided(tx, call).await?,
        TicketKind::Effect => effect_decided(tx, call).await?,
        TicketKind::Approval => approval_decided(tx, call).await?,
        TicketKind::Run => run_decided(tx, &kept.ticket, call).await?,
    };
    let answer = match applied {
        Applied::Conflict(conflict) => return Ok(Outcome::Conflict(conflict)),
        Applied::Done => None,
        Applied::KeptHere => call.kept_answer.clone(),
    };
    let over = Resolution {
        decision: describe(&call.decision),
        by: &call.by,
        now: call.now,
        answer,
    };
    tickets::resolve(tx, &kept.ticket, &over).await?;
    match tickets::get(tx, &call.id).await? {
        Some(kept) => Ok(Outcome::Done(Box::new(kept))),
        None => Ok(Outcome::Missing),
    }
}

/// How far a decision has come.
enum Applied {
    Done,
    /// The answer has no key to lie under.
    KeptHere,
    Conflict(String),
}

fn conflict(words: &str) -> Applied {
    Applied::Conflict(words.to_owned())
}

/// The order of locks: the thing, then its ticket.
async fn lock_subject(tx: &mut Tx, call: &Deciding) -> Result<()> {
    if let Some(key) = &call.key {
        keys::locked(tx, key).await?;
    }
    match call.kind {
        TicketKind::Call | TicketKind::Gate => {}
        TicketKind::Run => {
            tx.rows(
                "SELECT id FROM runs WHERE scope = $1 AND id = $2 FOR UPDATE",
                args![&call.scope, &call.run],
            )
            .await?;
        }
        TicketKind::Effect => {
            tx.rows(
                "SELECT id FROM effects WHERE id = $1 FOR UPDATE",
                args![&call.subject],
            )
            .await?;
        }
        TicketKind::Approval => approvals::lock(tx, &call.subject).await?,
    }
    Ok(())
}

/// Why this may not be decided now by who says `fence`.
fn held(kept: &Kept, fence: Option<i64>, now: Wall) -> Option<String> {
    let ticket = &kept.ticket;
    let by = |who: &Option<String>| who.clone().unwrap_or_else(|| "somebody".to_owned());
    match ticket.state {
        TicketState::Resolved => Some(format!("{} has decided it", by(&ticket.decided_by))),
        TicketState::Expired => Some("it has expired".to_owned()),
        TicketState::Retrying if kept.alive => Some("it is being asked again just now".to_owned()),
        TicketState::Open | TicketState::Claimed | TicketState::Retrying => {
            let is_held = ticket.state == TicketState::Claimed
                && ticket.claim_until.is_some_and(|until| until > now);
            match fence {
                Some(fence) if is_held && fence == ticket.fence => None,
                Some(_) => Some("your claim has ended".to_owned()),
                None if is_held => Some(format!("{} has claimed it", by(&ticket.claimed_by))),
                None => None,
            }
        }
    }
}

async fn call_decided(tx: &mut Tx, call: &Deciding) -> Result<Applied> {
    match &call.decision {
        Decision::Answer(_) | Decision::Reject { .. } => Ok(answer_call(
            tx,
            call.key.as_ref(),
            &call.id,
            call.answer.as_ref(),
            call.now,
        )
        .await?),
        Decision::Close { .. } => {
            if let Some(key) = &call.key {
                keys::free_ticketed(tx, key, &call.id).await?;
            }
            Ok(Applied::Done)
        }
        Decision::EffectDone { .. }
        | Decision::EffectNotDone { .. }
        | Decision::EffectSendAgain { .. }
        | Decision::Choose { .. } => Ok(conflict("a call is answered, rejected or closed")),
    }
}

async fn answer_call(
    tx: &mut Tx,
    key: Option<&KeyId>,
    ticket: &str,
    answer: Option<&Answer>,
    now: Wall,
) -> Result<Applied> {
    let (Some(key), Some(answer)) = (key, answer) else {
        return Ok(Applied::KeptHere);
    };
    let until = Wall(now.0.saturating_add(ANSWER_KEPT));
    if keys::answer_ticketed(tx, key, ticket, answer, until).await? {
        Ok(Applied::Done)
    } else {
        // Its key was forgotten meanwhile.
        Ok(Applied::KeptHere)
    }
}

async fn effect_decided(tx: &mut Tx, call: &Deciding) -> Result<Applied> {
    let settled = match &call.decision {
        Decision::EffectDone { note } => effects::Settled::Done(note),
        Decision::EffectNotDone { note } => effects::Settled::NotDone(note),
        Decision::EffectSendAgain { note } => effects::Settled::SendAgain(note),
        Decision::Answer(_)
        | Decision::Reject { .. }
        | Decision::Choose { .. }
        | Decision::Close { .. } => {
            return Ok(conflict(
                "an effect in doubt was done, was not done, or is sent again",
            ));
        }
    };
    if effects::settle(tx, &call.subject, &settled, call.now).await? {
        Ok(Applied::Done)
    } else {
        Ok(conflict("the effect is not in doubt any more"))
    }
}

async fn approval_decided(tx: &mut Tx, call: &Deciding) -> Result<Applied> {
    let chosen = match &call.decision {
        Decision::Choose { choice, note } => Some((choice.as_str(), note.as_str())),
        Decision::Close { .. } => None,
        Decision::Answer(_)
        | Decision::Reject { .. }
        | Decision::EffectDone { .. }
        | Decision::EffectNotDone { .. }
        | Decision::EffectSendAgain { .. } => {
            return Ok(conflict("an approval needs one of its choices"));
        }
    };
    let choosing = approvals::Choosing {
        id: &call.subject,
        chosen,
        by: &call.by,
        by_time: call.by_time,
        now: call.now,
    };
    Ok(match approvals::choose(tx, &choosing).await? {
        None => Applied::Done,
        Some(words) => Applied::Conflict(words),
    })
}

async fn run_decided(tx: &mut Tx, ticket: &Ticket, call: &Deciding) -> Result<Applied> {
    let choice = match &call.decision {
        Decision::Choose { choice, .. } => choice.as_str(),
        Decision::Close { .. } => return Ok(Applied::Done),
        Decision::Answer(_)
        | Decision::Reject { .. }
        | Decision::EffectDone { .. }
        | Decision::EffectNotDone { .. }
        | Decision::EffectSendAgain { .. } => "",
    };
    let Some(fate) = runs::Fate::find(choice) else {
        return Ok(conflict(
            "an orphaned run is `done`, `failed` or told to `resume`",
        ));
    };
    if runs::orphan_decided(tx, ticket, fate, call.now).await? {
        Ok(Applied::Done)
    } else {
        Ok(conflict("the run is not an orphan any more"))
    }
}

/// A decision as it is kept and shown. Without content.
fn describe(decision: &Decision) -> Value {
    match decision {
        Decision::Answer(answer) => {
            json!({ "decision": "answer", "status": answer.status, "exchange": answer.exchange })
        }
        Decision::Reject { answer, reason } => {
            json!({ "decision": "reject", "status": answer.status, "reason": reason })
        }
        Decision::EffectDone { note } => json!({ "decision": "effect_done", "note": note }),
        Decision::EffectNotDone { note } => json!({ "decision": "effect_not_done", "note": note }),
        Decision::EffectSendAgain { note } => {
            json!({ "decision": "effect_send_again", "note": note })
        }
        Decision::Choose { choice, note } => {
            json!({ "decision": "choose", "choice": choice, "note": note })
        }
        Decision::Close { note } => json!({ "decision": "close", "note": note }),
    }
}

// === The end of a retry ===

#[derive(Debug)]
pub(crate) struct Retrying {
    pub(crate) id: String,
    pub(crate) fence: i64,
    pub(crate) key: Option<KeyId>,
    pub(crate) end: RetryEnd,
    pub(crate) now: Wall,
}

#[derive(Debug)]
pub(crate) enum RetryEnd {
    /// `answer` for the key; `kept` the whole, for the ticket.
    Answered {
        answer: Answer,
        kept: Vec<u8>,
    },
    Failed {
        reason: String,
        not_before: Wall,
    },
}

pub(crate) async fn retried(tx: &mut Tx, call: &Retrying) -> Result<bool> {
    if let Some(key) = &call.key {
        keys::locked(tx, key).await?;
    }
    let Some(kept) = tickets::locked(tx, &call.id).await? else {
        return Ok(false);
    };
    let ticket = &kept.ticket;
    let mine = match ticket.state {
        TicketState::Retrying => kept.owner.as_deref() == Some(&*tx.owner),
        TicketState::Claimed => true,
        TicketState::Open | TicketState::Resolved | TicketState::Expired => false,
    };
    if !mine || ticket.fence != call.fence {
        return Ok(false);
    }
    match &call.end {
        RetryEnd::Answered { answer, kept } => {
            let applied =
                answer_call(tx, call.key.as_ref(), &call.id, Some(answer), call.now).await?;
            let by = ticket.claimed_by.clone();
            let over = Resolution {
                decision: json!({ "decision": "answer", "status": answer.status, "exchange": answer.exchange }),
                by: by.as_deref().unwrap_or("retry"),
                now: call.now,
                answer: matches!(applied, Applied::KeptHere).then(|| kept.clone()),
            };
            tickets::resolve(tx, ticket, &over).await
        }
        RetryEnd::Failed { reason, not_before } => {
            tx.changed(
                "UPDATE tickets SET state = 'open', reason = $2, not_before = $3, updated = $4, attempts = attempts + 1, owner = NULL, token = NULL, claimed_by = NULL, claim_until = NULL WHERE id = $1",
                args![&call.id, reason, *not_before, call.now],
            )
            .await
        }
    }
}
