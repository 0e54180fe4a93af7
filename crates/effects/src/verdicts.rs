//! What became of the exchanges that an effect requires.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use holdfast_core::fault::{Code, Fault};
use holdfast_store::Store;
use tokio::time::Instant;

/// How long an unknown exchange is looked for: the ledger is written behind the answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks.
const BETWEEN: Duration = Duration::from_millis(50);

/// A verdict on its way; `None` = no such exchange in this scope (yet).
pub type Judging = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// Tells the outcome of an exchange in the ledger's words (`whole`, `tools`, or why not).
pub trait Verdicts: Send + Sync {
    fn verdict(&self, scope: &str, exchange: &str) -> Judging;
}

/// The store's ledger. A store that can't be read knows no exchange: the effect is refused.
impl Verdicts for Store {
    fn verdict(&self, scope: &str, exchange: &str) -> Judging {
        let (store, scope, exchange) = (self.clone(), scope.to_owned(), exchange.to_owned());
        Box::pin(async move {
            let booked = store.exchange(&exchange).await.ok()??;
            (booked.scope == scope).then_some(booked.outcome)
        })
    }
}

/// Refuses unless every exchange was whole.
pub(crate) async fn require(
    verdicts: &dyn Verdicts,
    scope: &str,
    requires: &[String],
) -> Result<(), Fault> {
    let unmet = |message| Err(Fault::new(Code::RequirementUnmet, message));
    let end = Instant::now() + PATIENCE;
    for exchange in requires {
        match sought(verdicts, scope, exchange, end).await.as_deref() {
            Some("whole" | "tools") => {}
            Some(outcome) => {
                return unmet(format!(
                    "the exchange `{exchange}` was not whole: its outcome is `{outcome}`"
                ));
            }
            None => return unmet(format!("there is no exchange `{exchange}`")),
        }
    }
    Ok(())
}

async fn sought(
    verdicts: &dyn Verdicts,
    scope: &str,
    exchange: &str,
    end: Instant,
) -> Option<String> {
    loop {
        let found = verdicts.verdict(scope, exchange).await;
        if found.is_some() || Instant::now() >= end {
            return found;
        }
        tokio::time::sleep(BETWEEN).await;
    }
}
