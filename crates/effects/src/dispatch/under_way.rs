//! What is being sent at this moment, counted by target: a slow target keeps no other one waiting.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{Id, JoinError, JoinSet};

/// Sendings under way.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    tasks: JoinSet<()>,
    targets: HashMap<Id, String>,
    busy: HashMap<String, usize>,
}

impl UnderWay {
    pub(super) fn len(&self) -> usize {
        self.tasks.len()
    }

    /// How many are on their way to a target.
    pub(super) fn to(&self, target: &str) -> usize {
        self.busy.get(target).copied().unwrap_or_default()
    }

    pub(super) fn spawn(
        &mut self,
        target: String,
        sending: impl Future<Output = ()> + Send + 'static,
    ) {
        let id = self.tasks.spawn(sending).id();
        *self.busy.entry(target.clone()).or_default() += 1;
        self.targets.insert(id, target);
    }

    /// Ready when one has ended; `false` = none is under way.
    pub(super) async fn ended(&mut self) -> bool {
        let ended = self.tasks.join_next_with_id().await;
        self.note(ended)
    }

    /// Takes in what has ended.
    pub(super) fn sweep(&mut self) {
        loop {
            let ended = self.tasks.try_join_next_with_id();
            if !self.note(ended) {
                return;
            }
        }
    }

    fn note(&mut self, ended: Option<Result<(Id, ()), JoinError>>) -> bool {
        let id = match ended {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => {
                tracing::error!(%error, "sending an effect ended in a panic");
                error.id()
            }
            None => return false,
        };
        if let Some(target) = self.targets.remove(&id)
            && let Some(busy) = self.busy.get_mut(&target)
        {
            *busy -= 1;
            if *busy == 0 {
                self.busy.remove(&target);
            }
        }
        true
    }
}
