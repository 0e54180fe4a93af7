//! What the clients do: piece of work number `n` of a seed is always the same one.

use fastrand::Rng;

use crate::targets::{Mode, Order};
use crate::words::{Dialect, Marker};

/// All work of a seed.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    seed: u64,
    /// Set apart from what other runs left in the same database.
    tag: String,
}

/// One piece of work, under one key.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    /// Unique over all work.
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Call(Call),
    Effect(Effect),
    Step(Step),
}

/// A keyed model call.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) dialect: Dialect,
    pub(crate) stream: bool,
    pub(crate) delivery: &'static str,
    pub(crate) marker: Marker,
    /// Named by run and step instead of a key.
    pub(crate) is_derived: bool,
    /// Its clients come back for the answer: they ask with `Prefer: respond-async`.
    pub(crate) is_async: bool,
}

/// A keyed effect.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    pub(crate) honours: bool,
    pub(crate) order: Order,
}

/// A step of a run, that two workers want to do.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    pub(crate) run: String,
    /// One of the workers begins it and is not heard of again.
    pub(crate) forgets: bool,
    /// How long its work takes, in milliseconds.
    pub(crate) slow: u64,
}

// === impl Plan ===

impl Plan {
    pub(crate) fn new(seed: u64, tag: &str) -> Self {
        Self {
            seed,
            tag: tag.to_owned(),
        }
    }

    /// Dice for one purpose, the same for the same seed.
    pub(crate) fn dice(&self, purpose: u64) -> Rng {
        // Neighbouring seeds must not give neighbouring streams.
        let mixed = self.seed ^ purpose.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut rng = Rng::with_seed(mixed);
        rng.u64(..);
        rng
    }

    /// Piece of work number `n`.
    pub(crate) fn work(&self, n: u64) -> Work {
        let mut dice = self.dice(n);
        let tag = &self.tag;
        match dice.u32(..100) {
            0..60 => {
                let name = format!("{tag}-k{n}");
                let kind = Kind::Call(call(&mut dice, &name));
                Work { name, kind }
            }
            60..90 => {
                let name = format!("{tag}-e{n}");
                let kind = Kind::Effect(effect(&mut dice, &name));
                Work { name, kind }
            }
            _ => Work {
                name: format!("{tag}-s{n}"),
                kind: Kind::Step(Step {
                    run: format!("{tag}-r{}", n / 50),
                    forgets: dice.u32(..100) < 10,
                    slow: dice.u64(..30),
                }),
            },
        }
    }
}

fn call(dice: &mut Rng, name: &str) -> Call {
    let sick = match dice.u32(..100) {
        0..92 => 0,
        92..97 => 1,
        _ => 3,
    };
    Call {
        dialect: if dice.bool() {
            Dialect::Anthropic
        } else {
            Dialect::OpenAi
        },
        stream: dice.u32(..100) < 60,
        delivery: ["live", "guarded", "whole"][dice.usize(..3)],
        marker: Marker {
            key: name.to_owned(),
            sick,
            slow: dice.u64(..120),
        },
        is_derived: dice.u32(..100) < 20,
        is_async: dice.u32(..100) < 25,
    }
}

fn effect(dice: &mut Rng, name: &str) -> Effect {
    let mode = match dice.u32(..100) {
        0..88 => Mode::Fine,
        88..93 => Mode::Busy,
        93..97 => Mode::Refuses,
        _ => Mode::Ill,
    };
    Effect {
        honours: dice.bool(),
        order: Order {
            marker: name.to_owned(),
            mode,
            slow: dice.u64(..40),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_one_plan_and_every_kind_of_work_is_in_it() {
        let plan = Plan::new(7, "t");
        let (mut calls, mut effects, mut steps) = (0, 0, 0);
        for n in 0..500 {
            let work = plan.work(n);
            assert_eq!(format!("{work:?}"), format!("{:?}", plan.work(n)));
            match work.kind {
                Kind::Call(_) => calls += 1,
                Kind::Effect(_) => effects += 1,
                Kind::Step(_) => steps += 1,
            }
        }
        assert!(calls > 200 && effects > 80 && steps > 20);
        let other = Plan::new(8, "t");
        assert!((0..50).any(|n| format!("{:?}", plan.work(n)) != format!("{:?}", other.work(n))));
    }
}
