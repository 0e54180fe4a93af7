//! The review queue.

use holdfast_core::time::Wall;

use crate::engine::job::Shape;
use crate::engine::undo::Undo;
use crate::error::{Error, Result};
use crate::model::approval::Approval;
use crate::model::key::StoredAnswer;
use crate::model::ticket::{
    Decided, Decision, NewTicket, Retried, Ticket, TicketClaim, TicketFilter,
};
use crate::ops::decide::{self, Deciding, RetryEnd, Retrying};
use crate::ops::tickets::{self, Claiming, Due, Kept, Opening};
use crate::ops::to_json;
use crate::store::{Store, list_limit, names, new_id, texts};

/// Who has decided what nobody decided in time.
const TIMEOUT: &str = "timeout";

impl Store {
    /// Opens a ticket, or gives the open one of the same kind and subject.
    pub async fn open_ticket(&self, ticket: NewTicket) -> Result<String> {
        let opening = Opening {
            id: new_id(),
            content: self.ticket_content(&ticket)?,
            new: NewTicket {
                content: None,
                ..ticket
            },
        };
        self.write(Shape::Many, opening, |tx, opening| {
            Box::pin(tickets::open(tx, opening))
        })
        .await
    }

    /// Tickets without their content, newest first.
    pub async fn tickets(&self, filter: &TicketFilter) -> Result<Vec<Ticket>> {
        self.read(filter.clone(), |tx, filter| {
            Box::pin(tickets::list(tx, filter))
        })
        .await
    }

    /// A ticket with its content.
    pub async fn ticket(&self, id: &str) -> Result<Option<Ticket>> {
        let kept = self.ticket_row(id).await?;
        kept.map(|kept| self.whole_ticket(kept)).transpose()
    }

    /// A person takes a ticket until `until`. `renewed`: the fence of the same person's claim, which
    /// goes on under a new one; nobody comes between.
    pub async fn claim_ticket(
        &self,
        id: &str,
        by: &str,
        renewed: Option<i64>,
        until: Wall,
        now: Wall,
    ) -> Result<TicketClaim> {
        names(&[by])?;
        let claim = Claiming {
            id: id.to_owned(),
            by: by.to_owned(),
            renewed,
            until,
            now,
        };
        self.write(Shape::Many, claim, |tx, claim| {
            Box::pin(tickets::claim(tx, claim))
        })
        .await
    }

    /// Gives a claimed ticket back. `false` = fenced off.
    pub async fn release_ticket(&self, id: &str, fence: i64) -> Result<bool> {
        self.write(Shape::One, (id.to_owned(), fence), |tx, claim| {
            Box::pin(tickets::release(tx, claim))
        })
        .await
    }

    /// Decides a ticket, with all that it does to its key, effect, approval or run. `fence`: of the
    /// claim; `None` = only if nobody holds one.
    pub async fn decide(
        &self,
        id: &str,
        fence: Option<i64>,
        by: &str,
        decision: Decision,
        now: Wall,
    ) -> Result<Decided> {
        self.decided(id, fence, by, decision, now, false).await
    }

    /// An open approval whose deadline has passed gets its default, or expires where it has none: what
    /// nobody else can do to it any more.
    pub async fn time_out(&self, approval: &Approval, now: Wall) -> Result<Decided> {
        let decision = match &approval.default {
            Some(choice) => Decision::Choose {
                choice: choice.clone(),
                note: String::new(),
            },
            None => Decision::Close {
                note: "nobody decided in time".to_owned(),
            },
        };
        self.decided(&approval.ticket, None, TIMEOUT, decision, now, true)
            .await
    }

    async fn decided(
        &self,
        id: &str,
        fence: Option<i64>,
        by: &str,
        decision: Decision,
        now: Wall,
        by_time: bool,
    ) -> Result<Decided> {
        names(&[by])?;
        texts(&[words_of(&decision)])?;
        let Some(kept) = self.ticket_row(id).await? else {
            return Ok(Decided::Missing);
        };
        let ticket = kept.ticket;
        let (answer, kept_answer) = match &decision {
            Decision::Answer(answer) | Decision::Reject { answer, .. } => {
                let for_key = ticket
                    .key
                    .as_ref()
                    .map(|key| self.answer_for(key, answer))
                    .transpose()?;
                (for_key, Some(self.answer_here(id, answer)?))
            }
            Decision::EffectDone { .. }
            | Decision::EffectNotDone { .. }
            | Decision::EffectSendAgain { .. }
            | Decision::Choose { .. }
            | Decision::Close { .. } => (None, None),
        };
        let call = Deciding {
            id: id.to_owned(),
            kind: ticket.kind,
            subject: ticket.subject,
            key: ticket.key,
            scope: ticket.scope,
            run: ticket.run,
            fence,
            by: by.to_owned(),
            decision,
            by_time,
            now,
            answer,
            kept_answer,
        };
        let outcome = self
            .write(Shape::Many, call, |tx, call| {
                Box::pin(decide::decide(tx, call))
            })
            .await?;
        Ok(match outcome {
            decide::Outcome::Done(kept) => Decided::Done(self.whole_ticket(*kept)?),
            decide::Outcome::Conflict(words) => Decided::Conflict(words),
            decide::Outcome::Missing => Decided::Missing,
        })
    }

    /// The routes that calls wait for which are to be retried by themselves, each with the moment when
    /// its longest waiting call became due (or will).
    pub async fn waiting_routes(&self, limit: usize) -> Result<Vec<(String, Wall)>> {
        self.read(list_limit(limit), |tx, limit| {
            Box::pin(tickets::waiting_routes(tx, limit))
        })
        .await
    }

    /// Brings back what dead processes were retrying. The number of tickets.
    pub async fn recover_tickets(&self, limit: usize) -> Result<u64> {
        self.write(Shape::Many, list_limit(limit), |tx, limit| {
            Box::pin(tickets::recover(tx, limit))
        })
        .await
    }

    /// Takes open calls of a route that are to be retried by themselves, longest due first, with their
    /// content.
    pub async fn due_tickets(&self, route: &str, now: Wall, limit: usize) -> Result<Vec<Ticket>> {
        let token = new_id();
        let undo = Undo::Tickets {
            token: token.clone(),
        };
        let given_back = undo.clone();
        let due = Due {
            route: route.to_owned(),
            now,
            limit: list_limit(limit),
            token,
        };
        let mine = self
            .take(Shape::Many, due, undo, |tx, due| {
                Box::pin(tickets::due(tx, due))
            })
            .await?;
        let whole = mine.into_iter().map(|kept| self.whole_ticket(kept));
        self.or_give_back(whole.collect(), given_back)
    }

    /// Tells how a retry ended, of `due_tickets` or of a person's claim. `false` = fenced off.
    pub async fn ticket_retried(
        &self,
        id: &str,
        fence: i64,
        outcome: Retried,
        now: Wall,
    ) -> Result<bool> {
        let Some(kept) = self.ticket_row(id).await? else {
            return Ok(false);
        };
        let key = kept.ticket.key;
        let end = match outcome {
            Retried::Answered(answer) => {
                let whole = self.answer_here(id, &answer)?;
                let for_key = match &key {
                    Some(key) => self.answer_for(key, &answer)?,
                    None => crate::ops::keys::Answer::new(&answer, Vec::new())?,
                };
                RetryEnd::Answered {
                    answer: for_key,
                    kept: whole,
                }
            }
            Retried::Failed { reason, not_before } => {
                texts(&[&reason])?;
                RetryEnd::Failed { reason, not_before }
            }
        };
        let call = Retrying {
            id: id.to_owned(),
            fence,
            key,
            end,
            now,
        };
        self.write(Shape::Many, call, |tx, call| {
            Box::pin(decide::retried(tx, call))
        })
        .await
    }

    async fn ticket_row(&self, id: &str) -> Result<Option<Kept>> {
        self.read(id.to_owned(), |tx, id| Box::pin(tickets::get(tx, id)))
            .await
    }

    /// A new ticket's content, sealed; and whether the rest is within its limits. Bound to what the
    /// ticket is about, because a call that fails again keeps its ticket's id.
    pub(crate) fn ticket_content(&self, ticket: &NewTicket) -> Result<Option<Vec<u8>>> {
        names(&[&ticket.scope, &ticket.subject])?;
        for name in [&ticket.run, &ticket.step, &ticket.route] {
            names(&[name.as_deref().unwrap_or_default()])?;
        }
        texts(&[&ticket.title, &to_json(&ticket.facts)?])?;
        let content = ticket.content.as_ref();
        content
            .map(|content| self.seal("tickets", &ticket.subject, content))
            .transpose()
    }

    /// An answer as it lies at its ticket.
    fn answer_here(&self, id: &str, answer: &StoredAnswer) -> Result<Vec<u8>> {
        let json = to_json(answer)?;
        self.seal("ticket_answers", id, json.as_bytes())
    }

    fn whole_ticket(&self, kept: Kept) -> Result<Ticket> {
        let mut ticket = kept.ticket;
        if let Some(content) = kept.content {
            ticket.content = Some(self.unseal("tickets", &ticket.subject, content)?);
        }
        if let Some(answer) = kept.answer {
            let json = self.unseal("ticket_answers", &ticket.id, answer)?;
            let answer = serde_json::from_slice(&json)
                .map_err(|_| Error::Corrupt("an answer that can't be read".to_owned()))?;
            ticket.answer = Some(answer);
        }
        Ok(ticket)
    }
}

/// What a person wrote.
fn words_of(decision: &Decision) -> &str {
    match decision {
        Decision::Answer(_) => "",
        Decision::Reject { reason, .. } => reason,
        Decision::EffectDone { note }
        | Decision::EffectNotDone { note }
        | Decision::EffectSendAgain { note }
        | Decision::Close { note }
        | Decision::Choose { note, .. } => note,
    }
}
