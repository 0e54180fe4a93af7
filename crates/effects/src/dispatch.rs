//! Sends what is recorded.
//!
//! The order is the promise: an effect is claimed (`sending`, committed) before its first byte leaves,
//! and what became of it is kept before anybody is told. When it can't be stored, the result waits in
//! memory and storing is tried again, never sending; what can never be stored is put before a person.
//! What a dead process left is settled by [`holdfast_core::effect::stranded`].

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use holdfast_core::effect::{self, Happened, Next, Sent, Terms};
use holdfast_store::{Effect, EffectEnd, EffectState, Error};
use tokio::sync::watch;

use crate::doubt::{self, Doubt};
use crate::effects::Effects;
use crate::failpoint::{AFTER_ANSWER, AFTER_CLAIM, BEFORE_FINISH};
use crate::outgoing::{Outgoing, target_key};
use crate::send::{Attempt, Outcome, send};
use crate::submit;
use crate::target::Target;

mod under_way;

use under_way::UnderWay;

/// Between two tries to store a result, growing.
const STORE_AGAIN: Duration = Duration::from_millis(100);
const STORE_AGAIN_MOST: Duration = Duration::from_secs(2);
/// The shortest rest: what is due now and could not be claimed is not asked for in a circle.
const SOON: Duration = Duration::from_millis(20);
/// How many of a dead process's effects are settled at once.
const STRANDED: usize = 64;
/// The most targets that are looked at for what is due: more than anybody configures.
const TARGETS: usize = 1000;

impl Effects {
    /// Sends effects until `drain` becomes `true` (or its sender is gone), then waits for those on
    /// their way. Dropped earlier, what is on its way counts as left behind by a dead process.
    pub async fn run(self: Arc<Self>, mut drain: watch::Receiver<bool>) {
        let mut sending = UnderWay::default();
        let follow = self.clone();
        let follower = async move { follow.follow_events().await };
        tokio::pin!(follower);
        let mut look = tokio::time::interval(self.limits.poll);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !*drain.borrow_and_update() {
            let rest = self.claim_into(&mut sending).await;
            tokio::select! {
                changed = drain.changed() => if changed.is_err() { break },
                () = &mut follower => {}
                () = self.recorded.notified() => {}
                _ = look.tick() => self.settle_stranded(&mut sending).await,
                () = tokio::time::sleep(rest) => {}
                true = sending.ended() => {}
            }
        }
        self.drain.send_replace(true);
        while sending.ended().await {}
    }

    /// Takes what is due, as far as there is room, and sends it. Gives the time until the next look.
    async fn claim_into(self: &Arc<Self>, sending: &mut UnderWay) -> Duration {
        sending.sweep();
        match self.try_claim_into(sending).await {
            Ok(rest) => rest,
            Err(error) => {
                tracing::warn!(%error, "effects can't be claimed");
                self.limits.poll
            }
        }
    }

    async fn try_claim_into(self: &Arc<Self>, sending: &mut UnderWay) -> Result<Duration, Error> {
        let now = self.now();
        let targets = self.targets();
        let mut waiting = self.outbox.waiting(TARGETS).await?;
        waiting.sort_by_key(|(_, due)| *due);
        let mut rest = self.limits.poll;
        for (name, due) in waiting {
            if due > now {
                rest = rest.min(due.since(now).max(SOON));
                continue;
            }
            let most = targets.get(&name).map_or(1, |target| target.parallel);
            let room = most
                .saturating_sub(sending.to(&name))
                .min(self.limits.parallel.saturating_sub(sending.len()));
            // Without room nothing is lost: one that ends wakes this.
            if room == 0 {
                continue;
            }
            for effect in self.outbox.claim(&name, now, room).await? {
                self.failpoint.reached(AFTER_CLAIM);
                let effects = self.clone();
                sending.spawn(name.clone(), async move { effects.perform(effect).await });
            }
        }
        Ok(rest)
    }

    /// One attempt at a claimed effect, to the stored end.
    async fn perform(&self, effect: Effect) {
        let targets = self.targets();
        let target = targets.get(&effect.target).map(AsRef::as_ref);
        let end = match caught(self.attempted(&effect, target)).await {
            Some(end) => end,
            // Nobody knows how far it came.
            None => self.lost(&effect, target),
        };
        self.finish(&effect, end).await;
    }

    async fn attempted(&self, effect: &Effect, target: Option<&Target>) -> EffectEnd {
        let end = match (target, Outgoing::from_bytes(&effect.payload)) {
            (Some(target), Some(outgoing)) => self.attempt(effect, target, &outgoing).await,
            (None, _) => {
                let error = format!("the target `{}` is no longer configured", effect.target);
                self.unsendable(effect, None, error)
            }
            (Some(target), None) => {
                let error = "the payload can't be read".to_owned();
                self.unsendable(effect, Some(target), error)
            }
        };
        self.failpoint.reached(BEFORE_FINISH);
        end
    }

    fn lost(&self, effect: &Effect, target: Option<&Target>) -> EffectEnd {
        tracing::error!(effect = %effect.id, "sending an effect ended in a panic");
        let error = "Holdfast failed while it was being sent".to_owned();
        match target {
            Some(target) => {
                let outcome = Outcome {
                    sent: Sent::Lost(error),
                    result: None,
                };
                self.end(effect, target, outcome)
            }
            None => self.doubt(effect, None, Happened::Perhaps, error),
        }
    }

    async fn attempt(&self, effect: &Effect, target: &Target, outgoing: &Outgoing) -> EffectEnd {
        if let Err(why) = submit::recheck(target, outgoing, &effect.headers) {
            return self.unsendable(effect, Some(target), why);
        }
        let key = target_key(effect);
        let attempt = Attempt {
            id: &effect.id,
            key: &key,
            headers: &effect.headers,
            outgoing,
            now: self.now(),
            confirm: &|| Box::pin(self.confirm(effect)),
        };
        let outcome = send(target, &attempt, &self.resolve, &self.failpoint).await;
        if outcome.result.is_some() {
            self.failpoint.reached(AFTER_ANSWER);
        }
        self.end(effect, target, outcome)
    }

    /// Asked when the connection stands and nothing was sent: whether the effect is still this
    /// process's. One that was stopped for longer than its lease has been taken for dead; what it had
    /// claimed may lie before a person, who must not be overtaken.
    async fn confirm(&self, effect: &Effect) -> Result<(), String> {
        match self.outbox.effect(&effect.id).await {
            Ok(Some(found))
                if found.fence == effect.fence && found.state == EffectState::Sending =>
            {
                Ok(())
            }
            Ok(_) => Err("another process has taken it over".to_owned()),
            Err(error) => Err(format!("the claim can't be confirmed: {error}")),
        }
    }

    /// What the attempt means, as the store takes it.
    fn end(&self, effect: &Effect, target: &Target, outcome: Outcome) -> EffectEnd {
        let Outcome { sent, result } = outcome;
        let terms = Terms {
            honours_keys: target.honours_keys,
            attempts: u32::try_from(effect.attempts).unwrap_or(u32::MAX),
            limit: target.attempts,
            backoff: target.backoff,
        };
        let error = || words(&sent);
        match (effect::after(&sent, terms, fastrand::u64(..)), result) {
            (Next::Done, Some(result)) => EffectEnd::Done(result),
            (Next::Failed, result) => EffectEnd::Failed {
                error: error(),
                result,
            },
            (Next::Retry { after }, _) => EffectEnd::Retry {
                due: self.now() + after,
                error: error(),
            },
            (Next::Doubt(happened), _) => self.doubt(effect, Some(target), happened, error()),
            // Only an answer means `Done`, and an answer has a result.
            (Next::Done, None) => self.doubt(effect, Some(target), Happened::Perhaps, error()),
        }
    }

    /// It can't be sent as the configuration is now. That is nobody's refusal, so a person decides.
    fn unsendable(&self, effect: &Effect, target: Option<&Target>, error: String) -> EffectEnd {
        let is_first = effect.attempts <= 1;
        let keyless = target.is_some_and(|target| !target.honours_keys);
        let happened = if is_first || keyless {
            Happened::No
        } else {
            Happened::Perhaps
        };
        self.doubt(effect, target, happened, error)
    }

    fn doubt(
        &self,
        effect: &Effect,
        target: Option<&Target>,
        happened: Happened,
        error: String,
    ) -> EffectEnd {
        let now = self.now();
        // Sent again on a person's word after an earlier doubt: that one stands.
        let happened = if effect.ticket.is_some() {
            Happened::Perhaps
        } else {
            happened
        };
        let ticket = doubt::ticket(&Doubt {
            effect,
            target,
            happened,
            error: &error,
            now,
        });
        EffectEnd::Doubt(ticket, error)
    }

    /// Stores an end. What the store will never take is put before a person.
    async fn finish(&self, effect: &Effect, end: EffectEnd) {
        if let Err(error) = self.insist(effect, end).await {
            let error = format!("what became of it can't be stored: {error}");
            let targets = self.targets();
            let target = targets.get(&effect.target).map(AsRef::as_ref);
            let end = self.doubt(effect, target, Happened::Perhaps, error);
            // Where that is not taken either, the next process finds it.
            let _ = self.insist(effect, end).await;
        }
        self.bell.ring(&effect.id);
    }

    /// Stores an end, however long that takes. Fenced off, somebody else has settled it. `Err` = the
    /// store will never take it.
    async fn insist(&self, effect: &Effect, end: EffectEnd) -> Result<(), Error> {
        let mut again = STORE_AGAIN;
        loop {
            let stored = self
                .outbox
                .finish(&effect.id, effect.fence, end.clone(), self.now())
                .await;
            match stored {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    tracing::warn!(effect = %effect.id, "another process has taken this effect over");
                    return Ok(());
                }
                Err(error) if error.is_lasting() => {
                    tracing::error!(effect = %effect.id, %error, "an effect's result can't be stored");
                    return Err(error);
                }
                Err(error) => {
                    tracing::warn!(effect = %effect.id, %error, "an effect's result can't be stored yet");
                    tokio::time::sleep(again).await;
                    again = (again * 2).min(STORE_AGAIN_MOST);
                }
            }
        }
    }

    /// Settles what dead processes left on its way.
    async fn settle_stranded(self: &Arc<Self>, sending: &mut UnderWay) {
        let stranded = match self.outbox.stranded(STRANDED).await {
            Ok(stranded) => stranded,
            Err(error) => {
                tracing::warn!(%error, "effects that were left behind can't be looked for");
                return;
            }
        };
        for effect in stranded {
            let effects = self.clone();
            sending.spawn(effect.target.clone(), async move {
                let end = effects.stranded_end(&effect);
                effects.finish(&effect, end).await;
            });
        }
    }

    fn stranded_end(&self, effect: &Effect) -> EffectEnd {
        let targets = self.targets();
        let target = targets.get(&effect.target).map(AsRef::as_ref);
        let error = "the process that sent it died before it stored an answer".to_owned();
        let honours_keys = target.is_some_and(|target: &Target| target.honours_keys);
        match effect::stranded(honours_keys) {
            Next::Retry { after } => EffectEnd::Retry {
                due: self.now() + after,
                error,
            },
            Next::Doubt(happened) => self.doubt(effect, target, happened, error),
            Next::Done | Next::Failed => self.doubt(effect, target, Happened::Perhaps, error),
        }
    }
}

/// What it gives; `None` = it panicked.
async fn caught<T>(doing: impl Future<Output = T>) -> Option<T> {
    let mut doing = pin!(doing);
    poll_fn(|cx| {
        let polled = catch_unwind(AssertUnwindSafe(|| doing.as_mut().poll(cx)));
        polled.map_or(Poll::Ready(None), |poll| poll.map(Some))
    })
    .await
}

/// An attempt in words, for people.
fn words(sent: &Sent) -> String {
    match sent {
        Sent::NotSent(why) => format!("nothing was sent: {why}"),
        Sent::Refused(why) => format!("refused: {why}"),
        Sent::Lost(why) => format!("sent, and no answer was read: {why}"),
        Sent::Answered {
            status: status @ 300..=399,
            ..
        } => {
            format!("the target answered {status}; redirects are not followed")
        }
        Sent::Answered { status, .. } => format!("the target answered {status}"),
    }
}

#[cfg(test)]
mod tests;
