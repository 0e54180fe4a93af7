//! Approvals: asked with their ticket, chosen once.

use holdfast_core::time::Wall;
use serde_json::json;

use super::list::List;
use super::{tickets, to_json};
use crate::engine::sql::{NewEvent, Row, Tx, args};
use crate::error::{Error, Result};
use crate::model::approval::{Approval, ApprovalFilter, ApprovalState, NewApproval};
use crate::model::ticket::NewTicket;
use crate::store::list_limit;

macro_rules! head {
    () => {
        "id, scope, key, fingerprint, state, question, choices, standard, deadline, run, step, choice, note, decided_by, decided_at, created, ticket"
    };
}

/// An approval's row, still sealed.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub(crate) approval: Approval,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) context: Option<Vec<u8>>,
}

#[derive(Debug)]
pub(crate) struct Asking {
    pub(crate) new: NewApproval,
    pub(crate) ticket: NewTicket,
    pub(crate) ticket_id: String,
    /// Sealed.
    pub(crate) context: Vec<u8>,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Fresh(Box<Kept>),
    Known(Box<Kept>),
    Mismatch,
}

pub(crate) async fn ask(tx: &mut Tx, call: &Asking) -> Result<Outcome> {
    let new = &call.new;
    let inserted = tx
        .changed(
            "INSERT INTO approvals (id, scope, key, fingerprint, state, question, choices, standard, deadline, run, step, created, ticket, context) VALUES ($1, $2, $3, $4, 'open', $5, $6, $7, $8, $9, $10, $11, $12, $13) ON CONFLICT DO NOTHING",
            args![
                &new.id,
                &new.scope,
                &new.key,
                new.fingerprint.as_slice(),
                &new.question,
                to_json(&new.choices)?,
                &new.default,
                new.deadline,
                &new.run,
                &new.step,
                new.now,
                &call.ticket_id,
                &call.context
            ],
        )
        .await?;
    if inserted {
        tickets::insert(tx, &call.ticket_id, &call.ticket, None).await?;
        tx.event(NewEvent {
            at: new.now,
            scope: new.scope.clone(),
            kind: "approval.asked",
            subject: new.id.clone(),
            json: json!({
                "question": new.question, "choices": new.choices, "ticket": call.ticket_id,
                "run": new.run, "step": new.step,
            }),
        });
        return match get(tx, &new.id).await? {
            Some(kept) => Ok(Outcome::Fresh(Box::new(kept))),
            None => Err(Error::Internal("a new approval is not there".to_owned())),
        };
    }
    let row = tx
        .row(
            concat!(
                "SELECT ",
                head!(),
                ", context FROM approvals WHERE scope = $1 AND key = $2"
            ),
            args![&new.scope, &new.key],
        )
        .await?;
    let Some(row) = row else {
        return Err(Error::Unavailable(
            "too many conflicts about one approval".to_owned(),
        ));
    };
    let kept = read(row)?;
    if kept.fingerprint == new.fingerprint {
        Ok(Outcome::Known(Box::new(kept)))
    } else {
        Ok(Outcome::Mismatch)
    }
}

/// A choice, or none where it is closed without one.
#[derive(Debug)]
pub(crate) struct Choosing<'a> {
    pub(crate) id: &'a str,
    /// Choice and note.
    pub(crate) chosen: Option<(&'a str, &'a str)>,
    pub(crate) by: &'a str,
    /// It is the deadline itself, or the end of its ticket, and nobody's word.
    pub(crate) by_time: bool,
    pub(crate) now: Wall,
}

pub(crate) async fn lock(tx: &mut Tx, id: &str) -> Result<()> {
    tx.rows(
        "SELECT id FROM approvals WHERE id = $1 FOR UPDATE",
        args![id],
    )
    .await?;
    Ok(())
}

/// Gives why it can't be done, in words. The caller has locked the row.
pub(crate) async fn choose(tx: &mut Tx, call: &Choosing<'_>) -> Result<Option<String>> {
    let Some(kept) = get(tx, &call.id.to_owned()).await? else {
        return Ok(Some("the approval is gone".to_owned()));
    };
    let approval = kept.approval;
    if approval.state != ApprovalState::Open {
        return Ok(Some("the approval is decided".to_owned()));
    }
    let is_late = approval.deadline.is_some_and(|at| at <= call.now);
    if is_late && !call.by_time {
        // The default is promised from the deadline on, also before somebody acts on it.
        return Ok(Some("its deadline has passed".to_owned()));
    }
    if let Some((choice, _)) = call.chosen
        && !approval.choices.iter().any(|one| one == choice)
    {
        let choices = approval.choices.join("`, `");
        return Ok(Some(format!("the choices are `{choices}`")));
    }
    let (state, kind) = match call.chosen {
        Some(_) => ("decided", "approval.decided"),
        None => ("expired", "approval.expired"),
    };
    let (choice, note) = call.chosen.unzip();
    tx.execute(
        "UPDATE approvals SET state = $2, choice = $3, note = $4, decided_by = $5, decided_at = $6 WHERE id = $1",
        args![call.id, state, choice, note, call.by, call.now],
    )
    .await?;
    tx.event(NewEvent {
        at: call.now,
        scope: approval.scope.clone(),
        kind,
        subject: approval.id.clone(),
        json: json!({
            "question": approval.question, "choice": choice, "note": note, "by": call.by,
            "ticket": approval.ticket, "run": approval.run, "step": approval.step,
        }),
    });
    Ok(None)
}

pub(crate) async fn get(tx: &mut Tx, id: &String) -> Result<Option<Kept>> {
    let row = tx
        .row(
            concat!("SELECT ", head!(), ", context FROM approvals WHERE id = $1"),
            args![id],
        )
        .await?;
    row.map(read).transpose()
}

pub(crate) async fn list(tx: &mut Tx, filter: &ApprovalFilter) -> Result<Vec<Approval>> {
    let rows = List::new(concat!("SELECT ", head!(), ", NULL FROM approvals"))
        .only("scope =", filter.scope.as_ref())
        .only("state =", filter.state.map(ApprovalState::as_str))
        .only("run =", filter.run.as_ref())
        .only("id <", filter.after.as_ref())
        .rows(tx, "id DESC", filter.limit)
        .await?;
    rows.into_iter()
        .map(|row| Ok(read(row)?.approval))
        .collect()
}

pub(crate) async fn due(tx: &mut Tx, call: &(Wall, usize)) -> Result<Vec<Approval>> {
    let rows = tx
        .rows(
            concat!(
                "SELECT ",
                head!(),
                ", NULL FROM approvals WHERE state = 'open' AND deadline <= $1 ORDER BY deadline LIMIT $2"
            ),
            args![call.0, list_limit(call.1)],
        )
        .await?;
    rows.into_iter()
        .map(|row| Ok(read(row)?.approval))
        .collect()
}

fn read(mut row: Row) -> Result<Kept> {
    let (id, scope, key) = (row.text()?, row.text()?, row.opt_text()?);
    let fingerprint = row.fingerprint()?;
    let approval = Approval {
        id,
        scope,
        key,
        state: row.word(ApprovalState::find)?,
        question: row.text()?,
        choices: row.json()?,
        default: row.opt_text()?,
        deadline: row.opt_wall()?,
        context: serde_json::Value::Null,
        run: row.opt_text()?,
        step: row.opt_text()?,
        choice: row.opt_text()?,
        note: row.opt_text()?,
        decided_by: row.opt_text()?,
        decided_at: row.opt_wall()?,
        created: row.wall()?,
        ticket: row.text()?,
    };
    Ok(Kept {
        approval,
        fingerprint,
        context: row.opt_blob()?,
    })
}
