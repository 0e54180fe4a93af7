//! The review queue.

use crate::error::{Error, Result};
use crate::model::ticket::{
    Decided, Decision, NewTicket, Retried, Ticket, TicketClaim, TicketFilter,
};
use crate::store::Store;
use holdfast_core::time::Wall;

impl Store {
    /// Opens a ticket, or gives the open one of the same kind and subject.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn open_ticket(&self, ticket: NewTicket) -> Result<String> {
        let _ = (ticket,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Tickets without their content, newest first.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn tickets(&self, filter: &TicketFilter) -> Result<Vec<Ticket>> {
        let _ = (filter,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// A ticket with its content.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn ticket(&self, id: &str) -> Result<Option<Ticket>> {
        let _ = (id,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// A person takes a ticket until `until`.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn claim_ticket(
        &self,
        id: &str,
        by: &str,
        until: Wall,
        now: Wall,
    ) -> Result<TicketClaim> {
        let _ = (id, by, until, now);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Gives a claimed ticket back. `false` = fenced off.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn release_ticket(&self, id: &str, fence: i64) -> Result<bool> {
        let _ = (id, fence);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Decides a ticket, with all that it does to its key, effect, approval or run. `fence`: of the claim; `None` = only if nobody holds one.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn decide(
        &self,
        id: &str,
        fence: Option<i64>,
        by: &str,
        decision: Decision,
        now: Wall,
    ) -> Result<Decided> {
        let _ = (id, fence, by, decision, now);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Takes open calls that are to be retried by themselves, oldest first, with their content.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn due_tickets(&self, now: Wall, limit: usize) -> Result<Vec<Ticket>> {
        let _ = (now, limit);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Tells how a retry ended, of `due_tickets` or of a person's claim. `false` = fenced off.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn ticket_retried(
        &self,
        id: &str,
        fence: i64,
        outcome: Retried,
        now: Wall,
    ) -> Result<bool> {
        let _ = (id, fence, outcome, now);
        Err(Error::Unavailable("not available yet".to_owned()))
    }
}
