//! The part of the store that effects need, so that a store that fails at a chosen moment can stand in
//! for it in tests.

use std::future::Future;
use std::pin::Pin;

use holdfast_core::time::Wall;
use holdfast_store::{Effect, EffectEnd, EffectFilter, NewEffect, Recorded, Result, Store};

/// A call of the store on its way.
pub(crate) type Doing<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// See the calls of the same names in [`Store`].
pub(crate) trait Outbox: Send + Sync {
    fn record(&self, effect: NewEffect) -> Doing<'_, Recorded>;
    fn claim(&self, now: Wall, limit: usize) -> Doing<'_, Vec<Effect>>;
    fn finish<'a>(&'a self, id: &'a str, fence: i64, end: EffectEnd, now: Wall) -> Doing<'a, bool>;
    fn stranded(&self, limit: usize) -> Doing<'_, Vec<Effect>>;
    fn next_due(&self) -> Doing<'_, Option<Wall>>;
    fn cancel<'a>(&'a self, id: &'a str, now: Wall) -> Doing<'a, Option<Effect>>;
    fn effect<'a>(&'a self, id: &'a str) -> Doing<'a, Option<Effect>>;
    fn effects<'a>(&'a self, filter: &'a EffectFilter) -> Doing<'a, Vec<Effect>>;
}

impl Outbox for Store {
    fn record(&self, effect: NewEffect) -> Doing<'_, Recorded> {
        Box::pin(self.record_effect(effect))
    }

    fn claim(&self, now: Wall, limit: usize) -> Doing<'_, Vec<Effect>> {
        Box::pin(self.claim_effects(now, limit))
    }

    fn finish<'a>(&'a self, id: &'a str, fence: i64, end: EffectEnd, now: Wall) -> Doing<'a, bool> {
        Box::pin(self.finish_effect(id, fence, end, now))
    }

    fn stranded(&self, limit: usize) -> Doing<'_, Vec<Effect>> {
        Box::pin(self.stranded_effects(limit))
    }

    fn next_due(&self) -> Doing<'_, Option<Wall>> {
        Box::pin(self.next_effect_due())
    }

    fn cancel<'a>(&'a self, id: &'a str, now: Wall) -> Doing<'a, Option<Effect>> {
        Box::pin(self.cancel_effect(id, now))
    }

    fn effect<'a>(&'a self, id: &'a str) -> Doing<'a, Option<Effect>> {
        Box::pin(self.effect(id))
    }

    fn effects<'a>(&'a self, filter: &'a EffectFilter) -> Doing<'a, Vec<Effect>> {
        Box::pin(self.effects(filter))
    }
}
