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

/// What the store knows. A store that can't be read knows no exchange: the effect is refused.
impl Verdicts for Store {
    fn verdict(&self, scope: &str, exchange: &str) -> Judging {
        let (store, scope, exchange) = (self.clone(), scope.to_owned(), exchange.to_owned());
        Box::pin(async move { store.outcome(&scope, &exchange).await.ok()? })
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Knows its exchange from the given look on.
    struct Late(Arc<AtomicUsize>, usize);

    impl Verdicts for Late {
        fn verdict(&self, _scope: &str, _exchange: &str) -> Judging {
            let is_known = self.0.fetch_add(1, Ordering::SeqCst) + 1 >= self.1;
            Box::pin(async move { is_known.then(|| "whole".to_owned()) })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_verdict_that_comes_late_is_waited_for_but_not_for_ever() {
        let required = ["0190".to_owned()];
        let looks = Arc::new(AtomicUsize::new(0));
        let late = Late(looks.clone(), 3);
        assert_eq!(require(&late, "", &required).await, Ok(()));
        assert_eq!(looks.load(Ordering::SeqCst), 3);
        let begun = Instant::now();
        let never = Late(looks, usize::MAX);
        let fault = require(&never, "", &required).await.unwrap_err();
        assert_eq!(fault.status, 424);
        assert!(begun.elapsed() < PATIENCE * 2);
    }
}
