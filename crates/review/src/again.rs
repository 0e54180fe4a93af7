//! Calls of the queue made once more: because somebody wants it now, or by the clock (`auto`).
//!
//! A call that was made is paid for: what it brought is stored even if whoever wanted it has gone, and
//! even if the store has to be asked several times. It is never made a second time for that.

use std::future::Future;
use std::time::Duration;

use holdfast_api::{Answer, Request, json};
use holdfast_core::fault::{Code, Fault};
use holdfast_core::idempotency::{Afterwards, afterwards};
use holdfast_core::review::{Consequence, Deed};
use holdfast_store::{Decided, Decision, Error, KeptRequest, Retried, StoredAnswer};
use http::StatusCode;
use serde_json::json;
use tokio::sync::oneshot;

use crate::body;
use crate::decide::kept;
use crate::{Review, shown};

/// Between two tries to store what a call brought.
const AGAIN: Duration = Duration::from_millis(200);
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// How often it is tried: for about two minutes.
const TRIES: u32 = 28;

/// A call that somebody wants made now.
struct Errand {
    review: Review,
    id: String,
    caller: holdfast_api::Caller,
    by: String,
    fence: i64,
    scope: String,
    kept: KeptRequest,
    target: Option<String>,
}

impl Review {
    /// Makes the call now, and tells what it brought. It uses up the claim: afterwards the ticket is
    /// decided, or open again.
    pub(crate) async fn retry(&self, request: &Request, id: &str) -> Answer {
        let body: body::Retry = request.json()?;
        let by = body.by.as_deref();
        let case = self.case(request, id, Deed::Retry, body.fence, by).await?;
        let kept = kept(&case.ticket)?;
        let until = self.now() + self.inner.terms.claim;
        let caller = &request.caller;
        let fence = self.take(caller, id, case.fence, &case.by, until).await?;
        let errand = Errand {
            review: self.clone(),
            id: id.to_owned(),
            caller: request.caller.clone(),
            by: case.by,
            fence,
            scope: case.ticket.scope,
            kept,
            target: body.target,
        };
        let (told, result) = oneshot::channel();
        self.spawn(async move {
            // Whoever wanted it may have hung up.
            let _ = told.send(errand.run().await);
        });
        let ended = |_| Fault::new(Code::Draining, "the gateway is going down");
        result.await.map_err(ended)?
    }

    /// Runs on by itself; [`Review::run`] waits for it at the end.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.inner.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }
}

impl Errand {
    async fn run(mut self) -> Answer {
        let asked = self.ask().await;
        match asked {
            Ok(answer) => self.answered(answer).await,
            Err(fault) => self.failed(fault).await,
        }
    }

    /// Asks, and keeps the claim alive meanwhile.
    async fn ask(&mut self) -> Result<StoredAnswer, Fault> {
        let inner = &self.review.inner;
        let span = inner.terms.claim;
        let target = self.target.as_deref();
        let mut asking = inner.ask.ask(self.kept.clone(), &self.scope, target);
        loop {
            tokio::select! {
                answer = &mut asking => return answer,
                () = tokio::time::sleep(span / 2) => {}
            }
            let until = self.review.now() + span;
            let fence = Some(self.fence);
            let renewed = self
                .review
                .take(&self.caller, &self.id, fence, &self.by, until);
            // A claim that can't be renewed is noticed when the answer is stored.
            if let Ok(fence) = renewed.await {
                self.fence = fence;
            }
        }
    }

    async fn answered(mut self, answer: StoredAnswer) -> Answer {
        let mut decided = self.decide(&answer).await?;
        if matches!(decided, Decided::Conflict(_)) {
            // Where the claim ran out on the way and nobody else has the ticket, it is claimed anew: what
            // was paid for is not thrown away.
            let review = &self.review;
            let until = review.now() + review.inner.terms.claim;
            let taken = review.take(&self.caller, &self.id, None, &self.by, until);
            self.fence = taken.await?;
            decided = self.decide(&answer).await?;
        }
        let review = &self.review;
        match decided {
            Decided::Done(ticket) => {
                let told = json!({
                    "answered": true,
                    "consequence": Consequence::Answered.name(),
                    "ticket": shown::ticket(&ticket, review.now()),
                });
                json(StatusCode::OK, &told)
            }
            Decided::Conflict(_) => Err(review.too_late(&self.caller, &self.id).await?),
            Decided::Missing => Err(holdfast_api::not_found("ticket", &self.id)),
        }
    }

    async fn decide(&self, answer: &StoredAnswer) -> Result<Decided, Error> {
        let (review, fence) = (&self.review, Some(self.fence));
        persist(|| {
            let decision = Decision::Answer(answer.clone());
            let store = &review.inner.store;
            store.decide(&self.id, fence, &self.by, decision, review.now())
        })
        .await
    }

    /// What the vendors did is a result; what is wrong with the errand itself is told as an error.
    async fn failed(self, fault: Fault) -> Answer {
        let review = &self.review;
        let store = &review.inner.store;
        if afterwards(fault.code) != Afterwards::Ticket {
            store.release_ticket(&self.id, self.fence).await?;
            return Err(fault);
        }
        let outcome = Retried::Failed {
            reason: reason(&fault),
            not_before: review.now() + review.inner.terms.retry_interval,
        };
        let stored =
            persist(|| store.ticket_retried(&self.id, self.fence, outcome.clone(), review.now()));
        if !stored.await? {
            return Err(review.too_late(&self.caller, &self.id).await?);
        }
        let ticket = review.find(&self.caller, &self.id).await?;
        let told = json!({
            "answered": false,
            "code": fault.code.number(),
            "reason": fault.message,
            "ticket": shown::ticket(&ticket, review.now()),
        });
        json(StatusCode::OK, &told)
    }
}

/// A failure as it is kept with the ticket.
pub(crate) fn reason(fault: &Fault) -> String {
    format!("{} ({})", fault.message, fault.code.number())
}

/// Does it until the store takes it, or will never take it. What is done must be fenced: it may be
/// done twice where the store lost sight of the first time.
pub(crate) async fn persist<T, F>(mut act: impl FnMut() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    let mut pause = AGAIN;
    for _ in 1..TRIES {
        match act().await {
            Err(Error::Unavailable(_) | Error::Full(_) | Error::Locked(_) | Error::Busy) => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(AGAIN_MAX);
            }
            done => return done,
        }
    }
    act().await
}
