//! Random outages, each from a seed, and the load that they cause.
//!
//! `HOLDFAST_SEED=<seed>` plays one world alone.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use holdfast_core::exchange::{Outcome, Setup};
use holdfast_core::policy::{Delivery, OnRefusal, Policy, Target, Timeouts};
use holdfast_core::time::Time;

use crate::dice::Dice;
use crate::drive::{DELIVERIES, DIALECTS, once, target, wishes};
use crate::script::Script;
use crate::vendor::{Fault, PASSING, SHAPED};
use crate::world::{Call, Healths, run};

/// Worlds of one test; each has up to a dozen callers.
const WORLDS: u64 = 1650;

/// Plays `world` for every seed, or for the one in the environment; names the seed that fails.
pub(crate) fn every_seed(test: &str, world: impl Fn(u64) -> usize) {
    if let Ok(seed) = std::env::var("HOLDFAST_SEED") {
        world(seed.parse().expect("HOLDFAST_SEED is a number"));
        return;
    }
    let play = |seed| {
        catch_unwind(AssertUnwindSafe(|| world(seed))).unwrap_or_else(|why| {
            let said = format!(
                "\nHOLDFAST_SEED={seed} cargo test -p holdfast-core --test exchange -- {test}\n"
            );
            std::io::Write::write_all(&mut std::io::stderr(), said.as_bytes()).unwrap();
            resume_unwind(why)
        })
    };
    let ended: usize = (0..WORLDS).map(play).sum();
    assert!(ended > 10_000, "{ended}");
}

fn timeouts(dice: &mut Dice) -> Timeouts {
    let seconds = |dice: &mut Dice, most| Duration::from_secs(1 + dice.next() % most);
    Timeouts {
        connect: seconds(dice, 5),
        head: seconds(dice, 20),
        first_token: seconds(dice, 20),
        idle: seconds(dice, 15),
        attempt: Duration::from_secs(40),
        after_finish: Duration::from_secs(2),
    }
}

pub(crate) fn targets(dice: &mut Dice) -> Vec<Target> {
    let count = 1 + dice.below(4);
    (0..count)
        .map(|place| Target {
            domain: u32::try_from(place / 2).unwrap(),
            streams_plain_calls: dice.percent(70),
            timeouts: timeouts(dice),
            ..target(dice.of(&DIALECTS))
        })
        .collect()
}

pub(crate) fn policy(dice: &mut Dice, deadline: u64) -> Policy {
    Policy {
        delivery: dice.of(&DELIVERIES),
        join: dice.percent(80),
        attempts_per_target: dice.of(&[1, 2, 3]),
        max_attempts: dice.of(&[1, 2, 4, 6, 9]),
        deadline: Duration::from_secs(deadline),
        on_refusal: dice.of(&[OnRefusal::Deliver, OnRefusal::Next]),
        heartbeat: Duration::from_secs(dice.of(&[1, 5, 10])),
        ..Policy::default()
    }
}

fn setup(dice: &mut Dice, targets: &[Target], policy: Policy) -> Setup {
    let mut wishes = wishes(dice.of(&DIALECTS), dice.percent(70));
    wishes.joinable = dice.percent(80);
    Setup {
        policy,
        targets: targets.to_vec(),
        wishes,
        include_usage: dice.percent(50),
        gate: None,
        ..once(
            wishes.dialect,
            wishes.stream,
            wishes.dialect,
            policy.delivery,
        )
    }
}

/// Callers within half a minute, each with a script and a policy of its own.
pub(crate) fn callers(
    dice: &mut Dice,
    targets: &[Target],
    policy: &dyn Fn(&mut Dice) -> Policy,
) -> Vec<Call> {
    let count = 1 + dice.below(12);
    let mut calls = Vec::new();
    for _ in 0..count {
        let began = Time::from_millis(dice.next() % 30_000);
        let policy = policy(dice);
        let setup = setup(dice, targets, policy);
        let gone = dice
            .percent(5)
            .then(|| began + Duration::from_millis(dice.next() % 20_000));
        calls.push(Call::new(setup, Script::any(dice, 8), began, gone));
    }
    calls
}

pub(crate) fn step(dice: &mut Dice) -> Duration {
    Duration::from_millis(dice.of(&[0, 1, 20, 300]))
}

#[test]
fn every_call_ends_whole_or_told_in_any_outage() {
    every_seed("every_call_ends_whole_or_told", |seed| {
        let mut dice = Dice::new(seed);
        let targets = targets(&mut dice);
        let faulty = dice.of(&[10, 50, 90]);
        let mood = move |_: usize, _: Time, dice: &mut Dice| {
            let caller_faults = [Fault::Status(400), Fault::Status(413), Fault::AfterTheEnd];
            let fault = match dice.below(10) {
                _ if !dice.percent(faulty) => Fault::None,
                0 => dice.of(&caller_faults),
                1 | 2 => dice.of(&SHAPED),
                _ => dice.of(&PASSING),
            };
            (fault, step(dice))
        };
        let policy = |dice: &mut Dice| {
            let deadline = dice.of(&[1, 10, 60, 300]);
            policy(dice, deadline)
        };
        let calls = callers(&mut dice, &targets, &policy);
        let mut healths = Healths::new(targets.len());
        run(calls, &mut healths, &mood, &mut dice).len()
    });
}

#[test]
fn one_healthy_target_makes_every_whole_delivery_whole() {
    every_seed("one_healthy_target", |seed| {
        let mut dice = Dice::new(seed ^ 0xA5A5);
        let targets = targets(&mut dice);
        let sound = dice.below(targets.len());
        let mood = move |target: usize, _: Time, dice: &mut Dice| {
            let fault = if target == sound {
                Fault::None
            } else if dice.percent(80) {
                dice.of(&PASSING)
            } else {
                dice.of(&SHAPED)
            };
            (fault, Duration::from_millis(dice.of(&[0, 1, 20])))
        };
        let policy = |dice: &mut Dice| Policy {
            delivery: Delivery::Whole,
            max_attempts: 9,
            // A refusal that is passed over is lost if the others have nothing.
            on_refusal: OnRefusal::Deliver,
            ..policy(dice, 300)
        };
        let mut calls = callers(&mut dice, &targets, &policy);
        calls.retain(|call| !call.may_leave());
        let mut healths = Healths::new(targets.len());
        let ended = run(calls, &mut healths, &mood, &mut dice);
        for call in &ended {
            let (_, finish) = call.finish.as_ref().unwrap();
            assert!(matches!(finish.outcome, Outcome::Delivered(_)), "{call:?}");
        }
        ended.len()
    });
}

/// Calls at a steady rate for a minute, while the first target fails as `down` says.
fn long_outage(
    seed: u64,
    first_alone: bool,
    down: impl Fn(Time, &mut Dice) -> Fault,
) -> (u64, Healths, Vec<Call>) {
    let mut dice = Dice::new(seed);
    let count = if first_alone { 1 } else { 2 };
    let targets: Vec<Target> = (0..count)
        .map(|place| Target {
            domain: place,
            ..target(dice.of(&DIALECTS))
        })
        .collect();
    let rate = 50;
    let calls: Vec<Call> = (0..rate * 60)
        .map(|n| {
            let policy = Policy {
                delivery: dice.of(&DELIVERIES),
                ..Policy::default()
            };
            let setup = setup(&mut dice, &targets, policy);
            let began = Time::from_millis(n * 1000 / rate);
            Call::new(setup, Script::any(&mut dice, 2), began, None)
        })
        .collect();
    let mood = move |target: usize, now: Time, dice: &mut Dice| {
        let fault = if target == 0 {
            down(now, dice)
        } else {
            Fault::None
        };
        (fault, Duration::from_millis(1))
    };
    let mut healths = Healths::new(targets.len());
    let ended = run(calls, &mut healths, &mood, &mut dice);
    (rate * 60, healths, ended)
}

#[test]
fn an_outage_is_never_multiplied() {
    let faults = [
        Fault::Refuse,
        Fault::Status(500),
        Fault::Status(529),
        Fault::Cut,
        Fault::Empty,
    ];
    for (seed, fault) in (0..).zip(faults) {
        let alone = seed % 2 == 0;
        let (calls, healths, ended) = long_outage(seed, alone, |now, _| {
            let is_down = now < Time::from_millis(30_000);
            if is_down { fault } else { Fault::None }
        });
        // A tenth of the calls, one a second for each target, and what was saved up at first.
        let floor = 2 * (60 + 20);
        let repeats = healths.repeats;
        assert!(repeats <= calls / 10 + floor, "{fault:?}: {repeats}");
        let asked = repeats + healths.first_asks;
        assert!(
            asked <= calls * 11 / 10 + floor,
            "{fault:?}: {asked} for {calls} calls"
        );
        // The last probe of the outage failed at 15 s, the next one is 20 s later.
        let back = ended.iter().filter(|call| {
            let end = call.finish.as_ref().map(|(_, end)| &end.outcome);
            let whole = matches!(end, Some(Outcome::Delivered(_)));
            call.began >= Time::from_millis(40_000) && whole && call.asked[0] == 1
        });
        assert_eq!(back.count(), 1000, "{fault:?}: the target is not back");
    }
}

/// A third of the calls fails: too few for the breaker, and too many to ask for all of them again.
#[test]
fn a_flickering_target_is_asked_again_within_the_budget() {
    let (calls, healths, ended) = long_outage(7, true, |_, dice| {
        if dice.percent(33) {
            Fault::Status(503)
        } else {
            Fault::None
        }
    });
    let again: u64 = ended
        .iter()
        .map(|call| u64::from(call.asked[0].saturating_sub(1)))
        .sum();
    assert_eq!(again, healths.repeats);
    assert!(again <= calls / 10 + 60 + 20, "{again} of {calls}");
    assert!(again > calls / 20, "{again}: nothing was asked again");
}
