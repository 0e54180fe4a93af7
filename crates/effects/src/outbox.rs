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
    fn waiting(&self, limit: usize) -> Doing<'_, Vec<(String, Wall)>>;
    fn claim<'a>(&'a self, target: &'a str, now: Wall, limit: usize) -> Doing<'a, Vec<Effect>>;
    fn finish<'a>(&'a self, id: &'a str, fence: i64, end: EffectEnd, now: Wall) -> Doing<'a, bool>;
    fn stranded(&self, limit: usize) -> Doing<'_, Vec<Effect>>;
    fn cancel<'a>(&'a self, id: &'a str, attempts: i64, now: Wall) -> Doing<'a, Option<Effect>>;
    fn effect<'a>(&'a self, id: &'a str) -> Doing<'a, Option<Effect>>;
    fn of_key<'a>(&'a self, scope: &'a str, key: &'a str) -> Doing<'a, Option<Effect>>;
    fn effects<'a>(&'a self, filter: &'a EffectFilter) -> Doing<'a, Vec<Effect>>;
}

impl Outbox for Store {
    fn record(&self, effect: NewEffect) -> Doing<'_, Recorded> {
        Box::pin(self.record_effect(effect))
    }

    fn waiting(&self, limit: usize) -> Doing<'_, Vec<(String, Wall)>> {
        Box::pin(self.waiting_targets(limit))
    }

    fn claim<'a>(&'a self, target: &'a str, now: Wall, limit: usize) -> Doing<'a, Vec<Effect>> {
        Box::pin(self.claim_effects(target, now, limit))
    }

    fn finish<'a>(&'a self, id: &'a str, fence: i64, end: EffectEnd, now: Wall) -> Doing<'a, bool> {
        Box::pin(self.finish_effect(id, fence, end, now))
    }

    fn stranded(&self, limit: usize) -> Doing<'_, Vec<Effect>> {
        Box::pin(self.stranded_effects(limit))
    }

    fn cancel<'a>(&'a self, id: &'a str, attempts: i64, now: Wall) -> Doing<'a, Option<Effect>> {
        Box::pin(self.cancel_effect(id, attempts, now))
    }

    fn effect<'a>(&'a self, id: &'a str) -> Doing<'a, Option<Effect>> {
        Box::pin(self.effect(id))
    }

    fn of_key<'a>(&'a self, scope: &'a str, key: &'a str) -> Doing<'a, Option<Effect>> {
        Box::pin(self.effect_of_key(scope, key))
    }

    fn effects<'a>(&'a self, filter: &'a EffectFilter) -> Doing<'a, Vec<Effect>> {
        Box::pin(self.effects(filter))
    }
}
