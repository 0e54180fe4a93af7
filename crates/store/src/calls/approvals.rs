//! Approvals.

use holdfast_core::time::Wall;
use serde_json::json;

use crate::engine::job::Shape;
use crate::error::{Error, Result};
use crate::model::approval::{Approval, ApprovalFilter, Asked, NewApproval};
use crate::model::ticket::{NewTicket, RetryPolicy, TicketKind};
use crate::ops::approvals::{self, Asking, Kept, Outcome};
use crate::ops::to_json;
use crate::store::{Store, names, new_id, texts};

impl Store {
    /// Asks, with its ticket.
    pub async fn ask_approval(&self, approval: NewApproval) -> Result<Asked> {
        names(&[
            &approval.id,
            &approval.scope,
            approval.key.as_deref().unwrap_or_default(),
            approval.run.as_deref().unwrap_or_default(),
            approval.step.as_deref().unwrap_or_default(),
        ])?;
        texts(&[&approval.question, &to_json(&approval.choices)?])?;
        let context = to_json(&approval.context)?;
        let ticket = NewTicket {
            kind: TicketKind::Approval,
            scope: approval.scope.clone(),
            subject: approval.id.clone(),
            key: None,
            run: approval.run.clone(),
            step: approval.step.clone(),
            route: None,
            title: approval.question.clone(),
            facts: json!({
                "choices": approval.choices, "default": approval.default,
                "deadline": approval.deadline.map(|deadline| deadline.0),
            }),
            content: None,
            policy: RetryPolicy::Never,
            not_before: approval.now,
            expires: approval.expires,
            now: approval.now,
        };
        let call = Asking {
            context: self.seal("approvals", &approval.id, context.as_bytes())?,
            new: approval,
            ticket,
            ticket_id: new_id(),
        };
        let outcome = self
            .write(Shape::Many, call, |tx, call| {
                Box::pin(approvals::ask(tx, call))
            })
            .await?;
        Ok(match outcome {
            Outcome::Fresh(kept) => Asked::Fresh(self.whole_approval(*kept)?),
            Outcome::Known(kept) => Asked::Known(self.whole_approval(*kept)?),
            Outcome::Mismatch => Asked::Mismatch,
        })
    }

    /// An approval with its context.
    pub async fn approval(&self, id: &str) -> Result<Option<Approval>> {
        let kept = self
            .read(id.to_owned(), |tx, id| Box::pin(approvals::get(tx, id)))
            .await?;
        kept.map(|kept| self.whole_approval(kept)).transpose()
    }

    /// Approvals without context, newest first.
    pub async fn approvals(&self, filter: &ApprovalFilter) -> Result<Vec<Approval>> {
        self.read(filter.clone(), |tx, filter| {
            Box::pin(approvals::list(tx, filter))
        })
        .await
    }

    /// Open approvals past their deadline; see [`Self::time_out`].
    pub async fn due_approvals(&self, now: Wall, limit: usize) -> Result<Vec<Approval>> {
        self.read((now, limit), |tx, call| Box::pin(approvals::due(tx, call)))
            .await
    }

    fn whole_approval(&self, kept: Kept) -> Result<Approval> {
        let mut approval = kept.approval;
        if let Some(sealed) = kept.context {
            let json = self.unseal("approvals", &approval.id, sealed)?;
            approval.context = serde_json::from_slice(&json)
                .map_err(|_| Error::Corrupt("a context that can't be read".to_owned()))?;
        }
        Ok(approval)
    }
}
