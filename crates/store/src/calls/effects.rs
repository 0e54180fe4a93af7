//! The outbox.

use crate::error::{Error, Result};
use crate::model::effect::{Effect, EffectEnd, EffectFilter, NewEffect, Recorded};
use crate::store::Store;
use holdfast_core::time::Wall;

impl Store {
    /// Records an effect before it is sent.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn record_effect(&self, effect: NewEffect) -> Result<Recorded> {
        let _ = (effect,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Takes effects that are due: they count as sent from here on.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn claim_effects(&self, now: Wall, limit: usize) -> Result<Vec<Effect>> {
        let _ = (now, limit);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Tells how a sending ended. `false` = fenced off.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn finish_effect(
        &self,
        id: &str,
        fence: i64,
        end: EffectEnd,
        now: Wall,
    ) -> Result<bool> {
        let _ = (id, fence, end, now);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Takes effects whose sender died; each must be finished at once.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn stranded_effects(&self, limit: usize) -> Result<Vec<Effect>> {
        let _ = (limit,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Cancels an effect that is not on its way; its state afterwards tells whether it was in time.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn cancel_effect(&self, id: &str, now: Wall) -> Result<Option<Effect>> {
        let _ = (id, now);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// An effect with payload and result.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn effect(&self, id: &str) -> Result<Option<Effect>> {
        let _ = (id,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// Effects without payload and result, newest first.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn effects(&self, filter: &EffectFilter) -> Result<Vec<Effect>> {
        let _ = (filter,);
        Err(Error::Unavailable("not available yet".to_owned()))
    }

    /// When the next effect is due.
    #[expect(clippy::unused_async, reason = "its body waits for the engine")]
    pub async fn next_effect_due(&self) -> Result<Option<Wall>> {
        Err(Error::Unavailable("not available yet".to_owned()))
    }
}
