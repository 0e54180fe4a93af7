//! One attempt, over whichever protocol the target speaks.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use holdfast_core::effect::Sent;
use holdfast_core::time::Wall;
use holdfast_store::EffectResult;

use crate::connect::Resolve;
use crate::failpoint::Failpoint;
use crate::outgoing::Outgoing;
use crate::target::{Kind, Target};
use crate::{http, smtp};

/// Whether it may be sent, on its way; the error says why not.
pub(crate) type Confirming<'a> = Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

/// What is sent.
#[derive(Clone, Copy)]
pub(crate) struct Attempt<'a> {
    /// The effect's id; the same in every attempt.
    pub id: &'a str,
    /// The idempotency key as the target gets it; the same in every attempt.
    pub key: &'a str,
    /// The caller's headers.
    pub headers: &'a [(String, String)],
    pub outgoing: &'a Outgoing,
    pub now: Wall,
    /// Asked once, when the connection stands and before the first byte of the request.
    pub confirm: &'a (dyn Fn() -> Confirming<'a> + Send + Sync),
}

impl fmt::Debug for Attempt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What is known afterwards.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Outcome {
    pub sent: Sent,
    /// What the target answered, whatever it means.
    pub result: Option<EffectResult>,
}

impl Outcome {
    pub(crate) fn bare(sent: Sent) -> Self {
        Self { sent, result: None }
    }
}

/// Performs one attempt. Ends within the target's timeout. Dropped, the connection is closed, and
/// nobody knows how far it came.
pub(crate) async fn send(
    target: &Target,
    attempt: &Attempt<'_>,
    resolve: &Resolve,
    failpoint: &Failpoint,
) -> Outcome {
    match &target.kind {
        Kind::Http(http) => http::send(target, http, attempt, resolve, failpoint).await,
        Kind::Smtp(smtp) => smtp::send(target, smtp, attempt, resolve, failpoint).await,
    }
}
