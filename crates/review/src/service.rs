//! The paths under `/v1/tickets`: looking, claiming, and the way to each decision.

use std::time::Duration;

use holdfast_api::{Answer, Answering, Caller, Request, Service, json};
use holdfast_core::fault::{Code, Fault};
use holdfast_core::review::Standing;
use holdfast_core::run::moment::parse_span;
use holdfast_core::time::Wall;
use holdfast_store::{Ticket, TicketClaim, TicketFilter, TicketKind, TicketState};
use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::body::{self, signature};
use crate::{LONGEST_CLAIM, Review, shown};

/// The most tickets of one list, and how many there are where the caller does not say.
const MOST: usize = 500;
const USUAL: usize = 50;

/// Every path, as it stands in the `OpenAPI` document.
pub(crate) const PATHS: [(Method, &str); 10] = [
    (Method::GET, "/v1/tickets"),
    (Method::GET, "/v1/tickets/{id}"),
    (Method::POST, "/v1/tickets/{id}/claim"),
    (Method::POST, "/v1/tickets/{id}/release"),
    (Method::POST, "/v1/tickets/{id}/answer"),
    (Method::POST, "/v1/tickets/{id}/retry"),
    (Method::POST, "/v1/tickets/{id}/reject"),
    (Method::POST, "/v1/tickets/{id}/choose"),
    (Method::POST, "/v1/tickets/{id}/effect"),
    (Method::POST, "/v1/tickets/{id}/close"),
];

impl Service for Review {
    fn handle(&self, request: &Request) -> Option<Answering> {
        let segments = request.segments();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let template = match segments.as_slice() {
            ["tickets"] => "/v1/tickets".to_owned(),
            ["tickets", _] => "/v1/tickets/{id}".to_owned(),
            ["tickets", _, verb] => format!("/v1/tickets/{{id}}/{verb}"),
            _ => return None,
        };
        let (method, path) = PATHS.iter().find(|(_, path)| *path == template)?;
        if *method != request.method {
            let fault = request.wrong_method();
            return Some(Box::pin(std::future::ready(Err(fault))));
        }
        let id = segments.get(1).copied().unwrap_or_default().to_owned();
        let verb = path.rsplit('/').next().unwrap_or_default();
        Some(Box::pin(self.clone().serve(verb, id, request.clone())))
    }
}

impl Review {
    async fn serve(self, verb: &'static str, id: String, request: Request) -> Answer {
        match verb {
            "tickets" => self.list(&request).await,
            "{id}" => self.show(&request, &id).await,
            "claim" => self.claim(&request, &id).await,
            "release" => self.release(&request, &id).await,
            "answer" => self.answer(&request, &id).await,
            "retry" => self.retry(&request, &id).await,
            "reject" => self.reject(&request, &id).await,
            "choose" => self.choose(&request, &id).await,
            "effect" => self.effect(&request, &id).await,
            _ => self.close(&request, &id).await,
        }
    }

    /// Newest first. `next` = what `after` takes to go on; `null` at the end.
    async fn list(&self, request: &Request) -> Answer {
        let limit = match request.param("limit") {
            None => USUAL,
            Some(text) => text
                .parse()
                .ok()
                .filter(|limit| (1..=MOST).contains(limit))
                .ok_or_else(|| invalid(format!("`limit` is a number from 1 to {MOST}")))?,
        };
        let scope = request.param("scope");
        if scope
            .as_deref()
            .is_some_and(|scope| !request.caller.may_see(scope))
        {
            return json(StatusCode::OK, &json!({"tickets": [], "next": null}));
        }
        let filter = TicketFilter {
            scope: scope.or_else(|| request.caller.limit().map(str::to_owned)),
            kind: word(request, "kind", TicketKind::ALL, TicketKind::as_str)?,
            state: word(request, "state", TicketState::ALL, TicketState::as_str)?,
            run: request.param("run"),
            route: request.param("route"),
            after: request.param("after"),
            limit,
        };
        let found = self.inner.store.tickets(&filter).await?;
        let next = found.last().filter(|_| found.len() == limit);
        let next = next.map(|ticket| ticket.id.clone());
        let now = self.now();
        let tickets: Vec<_> = found.iter().map(|one| shown::ticket(one, now)).collect();
        json(StatusCode::OK, &json!({"tickets": tickets, "next": next}))
    }

    async fn show(&self, request: &Request, id: &str) -> Answer {
        let ticket = self.find(&request.caller, id).await?;
        let shown = match request.param("content").as_deref() {
            Some("false") => shown::ticket(&ticket, self.now()),
            None | Some("true") => self.whole(&ticket).await?,
            Some(_) => return Err(invalid("`content` is `true` or `false`".to_owned())),
        };
        json(StatusCode::OK, &shown)
    }

    /// A ticket with its content; what an approval was asked with lies there.
    async fn whole(&self, ticket: &Ticket) -> Result<Map<String, Value>, Fault> {
        let mut shown = shown::with_content(ticket, self.now());
        if ticket.kind == TicketKind::Approval
            && let Some(approval) = self.inner.store.approval(&ticket.subject).await?
        {
            shown.insert("content".to_owned(), approval.context);
        }
        Ok(shown)
    }

    /// Claims, or renews a claim whose fence is said. A renewed claim has a new fence.
    async fn claim(&self, request: &Request, id: &str) -> Answer {
        let ticket = self.find(&request.caller, id).await?;
        let body: body::Claim = request.json()?;
        let span = self.claim_span(body.span.as_deref())?;
        let now = self.now();
        let standing = shown::standing(&ticket, body.fence, now);
        let by = match standing {
            Standing::Mine if body.by.is_none() => ticket.claimed_by.clone().unwrap_or_default(),
            Standing::Free | Standing::Mine => signature(&request.caller, body.by.as_deref())?,
            other => return Err(self.conflict(&ticket, other)),
        };
        let until = self.claim_end(&ticket, now + span).await?;
        let fence = body.fence;
        let fence = self.take(&request.caller, id, fence, &by, until).await?;
        let claim = json!({"id": id, "by": by, "fence": fence, "until": until.0});
        json(StatusCode::OK, &claim)
    }

    /// Claims; `fence` = of the claim to renew. Gives the new fence.
    pub(crate) async fn take(
        &self,
        caller: &Caller,
        id: &str,
        fence: Option<i64>,
        by: &str,
        until: Wall,
    ) -> Result<i64, Fault> {
        let store = &self.inner.store;
        let claimed = store.claim_ticket(id, by, fence, until, self.now());
        match claimed.await? {
            TicketClaim::Claimed { fence } => Ok(fence),
            TicketClaim::Held { .. } | TicketClaim::Decided => {
                Err(self.too_late(caller, id).await?)
            }
            TicketClaim::Missing => Err(holdfast_api::not_found("ticket", id)),
        }
    }

    async fn release(&self, request: &Request, id: &str) -> Answer {
        let ticket = self.find(&request.caller, id).await?;
        let body: body::Release = request.json()?;
        match shown::standing(&ticket, Some(body.fence), self.now()) {
            Standing::Mine => {}
            other => return Err(self.conflict(&ticket, other)),
        }
        if !self.inner.store.release_ticket(id, body.fence).await? {
            return Err(self.too_late(&request.caller, id).await?);
        }
        let ticket = self.find(&request.caller, id).await?;
        json(StatusCode::OK, &shown::ticket(&ticket, self.now()))
    }

    fn claim_span(&self, text: Option<&str>) -> Result<Duration, Fault> {
        let Some(text) = text else {
            return Ok(self.inner.terms.claim);
        };
        let longest = LONGEST_CLAIM.as_secs() / 3600;
        let bounded = || invalid(format!("`for` is a time from `1s` to `{longest}h`"));
        let span = parse_span(text).map_err(|_| bounded())?;
        let fits = (Duration::from_secs(1)..=LONGEST_CLAIM).contains(&span);
        fits.then_some(span).ok_or_else(bounded)
    }

    /// A claim ends with its ticket, and with an approval's deadline: a claim must not hold back the
    /// default that was promised.
    async fn claim_end(&self, ticket: &Ticket, until: Wall) -> Result<Wall, Fault> {
        let mut until = until.min(ticket.expires);
        if ticket.kind == TicketKind::Approval
            && let Some(approval) = self.inner.store.approval(&ticket.subject).await?
            && let Some(deadline) = approval.deadline
        {
            until = until.min(deadline);
        }
        Ok(until)
    }

    /// Why it is too late, read anew.
    pub(crate) async fn too_late(&self, caller: &Caller, id: &str) -> Result<Fault, Fault> {
        let ticket = self.find(caller, id).await?;
        let standing = shown::standing(&ticket, None, self.now());
        Ok(self.conflict(&ticket, standing))
    }

    /// Who has the ticket, or who decided what.
    pub(crate) fn conflict(&self, ticket: &Ticket, standing: Standing) -> Fault {
        let id = &ticket.id;
        let message = match standing {
            Standing::Held => {
                let by = ticket.claimed_by.as_deref().unwrap_or("somebody");
                let until = ticket.claim_until.unwrap_or_default();
                let left = until.since(self.now()).as_secs();
                format!("ticket `{id}` is claimed by {by} for another {left} s")
            }
            Standing::Lapsed => {
                format!("the claim on ticket `{id}` with this fence is over; claim it again")
            }
            Standing::Retrying => format!("ticket `{id}` is being asked again at this moment"),
            Standing::Decided => {
                let by = ticket.decided_by.as_deref().unwrap_or("somebody");
                let what = decided(ticket.decision.as_ref());
                format!("ticket `{id}` was decided by {by}: {what}")
            }
            Standing::Expired => format!("ticket `{id}` has expired"),
            Standing::Free | Standing::Mine => {
                format!("ticket `{id}` changed meanwhile; look at it again")
            }
        };
        Fault::new(Code::Conflict, message)
    }
}

/// A stored decision in few words: `choose "yes"`, `reject "not this one"`.
fn decided(decision: Option<&Value>) -> String {
    let member = |name: &str| decision.and_then(|decision| decision[name].as_str());
    let what = member("decision").unwrap_or("it is over");
    let detail = member("choice").or_else(|| member("reason"));
    match detail {
        Some(detail) => {
            let detail: String = detail.chars().take(200).collect();
            format!("{what} {detail:?}")
        }
        None => what.to_owned(),
    }
}

pub(crate) fn invalid(message: String) -> Fault {
    Fault::new(Code::InvalidRequest, message)
}

/// A parameter that is one of a few words.
fn word<T: Copy>(
    request: &Request,
    name: &str,
    all: &[T],
    as_str: fn(T) -> &'static str,
) -> Result<Option<T>, Fault> {
    let Some(said) = request.param(name) else {
        return Ok(None);
    };
    let found = all.iter().copied().find(|one| as_str(*one) == said);
    if found.is_none() {
        let words: Vec<_> = all.iter().map(|one| as_str(*one)).collect();
        return Err(invalid(format!("`{name}` is one of {}", words.join(", "))));
    }
    Ok(found)
}
