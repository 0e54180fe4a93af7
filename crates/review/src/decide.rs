//! The decisions: each is checked against the ticket, then taken by the store in one transaction.

use holdfast_api::{Answer, Request, json};
use holdfast_core::fault::{Code, Fault};
use holdfast_core::review::{self, Deed, RUN_CHOICES, Refusal, Standing};
use holdfast_store::{BookedExchange, Decided, Decision, KeptRequest, Ticket, TicketKind};
use http::StatusCode;
use serde_json::json;

use crate::answer::{self, Made};
use crate::body::{self, note, signature};
use crate::service::invalid;
use crate::{Review, shown};

/// A ticket about which this caller may do something, now.
pub(crate) struct Case<'a> {
    pub(crate) ticket: Ticket,
    pub(crate) by: String,
    pub(crate) fence: Option<i64>,
    pub(crate) request: &'a Request,
}

impl Review {
    /// The ticket, if the deed fits it and nobody is before. `by` defaults to who claimed it.
    pub(crate) async fn case<'a>(
        &self,
        request: &'a Request,
        id: &str,
        deed: Deed,
        fence: Option<i64>,
        by: Option<&str>,
    ) -> Result<Case<'a>, Fault> {
        let ticket = self.find(&request.caller, id).await?;
        let standing = shown::standing(&ticket, fence, self.now());
        match review::check(shown::about(&ticket), deed, standing) {
            Ok(()) => {}
            Err(Refusal::Unfit(fits)) => return Err(unfit(&ticket, deed, fits)),
            Err(Refusal::Conflict(standing)) => return Err(self.conflict(&ticket, standing)),
        }
        let by = match (by, fence, &ticket.claimed_by) {
            (None, Some(_), Some(claimant)) => claimant.clone(),
            (by, _, _) => signature(&request.caller, by)?,
        };
        Ok(Case {
            ticket,
            by,
            fence,
            request,
        })
    }

    /// Takes the decision, if nobody was faster.
    pub(crate) async fn settle(&self, case: Case<'_>, decision: Decision) -> Answer {
        let consequence = review::consequence(shown::about(&case.ticket), nature(&decision));
        let id = &case.ticket.id;
        let now = self.now();
        let store = &self.inner.store;
        match store
            .decide(id, case.fence, &case.by, decision, now)
            .await?
        {
            Decided::Done(ticket) => {
                let answer = json!({
                    "consequence": consequence.map(review::Consequence::name),
                    "ticket": shown::ticket(&ticket, now),
                });
                json(StatusCode::OK, &answer)
            }
            Decided::Conflict(words) => {
                let ticket = self.find(&case.request.caller, id).await?;
                Err(match shown::standing(&ticket, case.fence, self.now()) {
                    // It is not the ticket that stands in the way, but what it is about.
                    Standing::Free | Standing::Mine => {
                        Fault::new(Code::Conflict, format!("ticket `{id}`: {words}"))
                    }
                    other => self.conflict(&ticket, other),
                })
            }
            Decided::Missing => Err(holdfast_api::not_found("ticket", id)),
        }
    }

    pub(crate) async fn answer(&self, request: &Request, id: &str) -> Answer {
        let body: body::Answer = request.json()?;
        let by = body.by.as_deref();
        let case = self.case(request, id, Deed::Answer, body.fence, by).await?;
        let kept = kept(&case.ticket)?;
        let exchange = uuid::Uuid::now_v7().simple().to_string();
        let now = self.now();
        let made = match (&body.text, &body.body) {
            (Some(text), None) => answer::from_text(&kept, text, &exchange, now),
            (None, Some(body)) => answer::from_body(&kept, body.get().as_bytes(), &exchange, now),
            (None, None) | (Some(_), Some(_)) => {
                Err("an answer has either `text` or `body`".to_owned())
            }
        };
        let made = made.map_err(invalid)?;
        let checked = self.inner.ask.check_answer(&kept, &made.body);
        checked.map_err(|why| {
            // It is the answer of the one who asks here that did not pass.
            let mut fault = Fault::new(Code::GateFailed, format!("the gate says: {why}"));
            fault.status = StatusCode::UNPROCESSABLE_ENTITY.as_u16();
            fault
        })?;
        // First the ledger: whoever has the answer can require it at once. An entry of an answer that
        // was too late is nobody's.
        let booked = booked(&case, &kept, &made, now.0);
        self.inner.store.book(vec![booked]).await?;
        self.settle(case, Decision::Answer(made.answer)).await
    }

    pub(crate) async fn reject(&self, request: &Request, id: &str) -> Answer {
        let body: body::Reject = request.json()?;
        let by = body.by.as_deref();
        let case = self.case(request, id, Deed::Reject, body.fence, by).await?;
        let reason = note("reason", body.reason)?;
        if reason.trim().is_empty() {
            return Err(invalid(
                "`reason` is empty: the caller is told it".to_owned(),
            ));
        }
        let kept = case
            .ticket
            .content
            .as_deref()
            .and_then(KeptRequest::from_bytes);
        let answer = answer::rejection(kept.as_ref(), &reason, &case.ticket.subject);
        self.settle(case, Decision::Reject { answer, reason }).await
    }

    pub(crate) async fn choose(&self, request: &Request, id: &str) -> Answer {
        let body: body::Choose = request.json()?;
        let by = body.by.as_deref();
        let case = self.case(request, id, Deed::Choose, body.fence, by).await?;
        let choices = match case.ticket.kind {
            TicketKind::Approval => {
                let approval = self.inner.store.approval(&case.ticket.subject).await?;
                approval
                    .map(|approval| approval.choices)
                    .unwrap_or_default()
            }
            TicketKind::Run => RUN_CHOICES.map(str::to_owned).to_vec(),
            TicketKind::Call | TicketKind::Effect | TicketKind::Gate => Vec::new(),
        };
        if !choices.contains(&body.choice) {
            let choices = choices.join("`, `");
            return Err(invalid(format!("the choices are `{choices}`")));
        }
        let decision = Decision::Choose {
            choice: body.choice,
            note: note("note", body.note)?,
        };
        self.settle(case, decision).await
    }

    pub(crate) async fn effect(&self, request: &Request, id: &str) -> Answer {
        let body: body::Effect = request.json()?;
        let by = body.by.as_deref();
        let case = self.case(request, id, Deed::Effect, body.fence, by).await?;
        let note = note("note", body.note)?;
        let decision = match body.outcome {
            body::Outcome::Done => Decision::EffectDone { note },
            body::Outcome::NotDone => Decision::EffectNotDone { note },
            body::Outcome::SendAgain => Decision::EffectSendAgain { note },
        };
        self.settle(case, decision).await
    }

    pub(crate) async fn close(&self, request: &Request, id: &str) -> Answer {
        let body: body::Close = request.json()?;
        let by = body.by.as_deref();
        let case = self.case(request, id, Deed::Close, body.fence, by).await?;
        let note = note("note", body.note)?;
        self.settle(case, Decision::Close { note }).await
    }
}

/// The request of a call's ticket.
pub(crate) fn kept(ticket: &Ticket) -> Result<KeptRequest, Fault> {
    let kept = ticket.content.as_deref().and_then(KeptRequest::from_bytes);
    kept.ok_or_else(|| {
        let message = format!("the request of ticket `{}` was not kept", ticket.id);
        Fault::new(Code::Conflict, message)
    })
}

/// What matters of a decision for what follows from it.
fn nature(decision: &Decision) -> review::Decision<'_> {
    match decision {
        Decision::Answer(_) => review::Decision::Answer,
        Decision::Reject { .. } => review::Decision::Reject,
        Decision::EffectDone { .. } => review::Decision::Done,
        Decision::EffectNotDone { .. } => review::Decision::NotDone,
        Decision::EffectSendAgain { .. } => review::Decision::SendAgain,
        Decision::Choose { choice, .. } => review::Decision::Choose(choice),
        Decision::Close { .. } => review::Decision::Close,
    }
}

fn unfit(ticket: &Ticket, deed: Deed, fits: &[Deed]) -> Fault {
    let names: Vec<_> = fits
        .iter()
        .map(|deed| format!("`{}`", deed.name()))
        .collect();
    let message = format!(
        "`{}` does not fit a ticket of the kind {}{}; what fits: {}",
        deed.name(),
        ticket.kind.as_str(),
        if ticket.key.is_some() {
            " whose caller may come back"
        } else {
            ""
        },
        names.join(", ")
    );
    invalid(message)
}

/// The ledger's entry of an answer given by hand, so that an effect can require it.
fn booked(case: &Case<'_>, kept: &KeptRequest, made: &Made, now: i64) -> BookedExchange {
    let ticket = &case.ticket;
    let json = json!({
        "id": made.answer.exchange,
        "at": now / 1000,
        "caller": Some(&ticket.scope).filter(|scope| !scope.is_empty()),
        "run": ticket.run,
        "step": ticket.step,
        "route": kept.route,
        "dialect": kept.dialect,
        "stream": kept.stream,
        "delivery": kept.delivery,
        "outcome": made.verdict,
        "code": null,
        "joins": 0,
        "millis": 0,
        "losses": [],
        "input_tokens": null,
        "output_tokens": null,
        "attempts": [],
        "by_hand": true,
        "ticket": ticket.id,
    });
    BookedExchange {
        id: made.answer.exchange.clone(),
        at: holdfast_core::time::Wall(now),
        scope: ticket.scope.clone(),
        route: kept.route.clone(),
        run: ticket.run.clone(),
        step: ticket.step.clone(),
        outcome: made.verdict.to_owned(),
        json: json.to_string(),
    }
}
