//! Approvals.

use crate::error::{Error, Result};
use crate::model::approval::{Approval, ApprovalFilter, Asked, NewApproval};
use crate::store::Store;
use holdfast_core::time::Wall;

impl Store {
    /// Asks, with its ticket.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn ask_approval(&self, approval: NewApproval) -> Result<Asked> {
        let _ = (approval,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// An approval with its context.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn approval(&self, id: &str) -> Result<Option<Approval>> {
        let _ = (id,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Approvals without context, newest first.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn approvals(&self, filter: &ApprovalFilter) -> Result<Vec<Approval>> {
        let _ = (filter,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Open approvals past their deadline; decide each with its default, or close it.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn due_approvals(&self, now: Wall, limit: usize) -> Result<Vec<Approval>> {
        let _ = (now, limit);
        Err(Error::Unavailable("not available yet".to_owned()))
    }
}
