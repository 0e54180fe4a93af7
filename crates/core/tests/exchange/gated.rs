//! Outages with gates: answers that are whole and refused at random.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use holdfast_core::exchange::{Outcome, Record, Setup};
use holdfast_core::fault::Code;
use holdfast_core::gate::{Answered, Gate, Gated, Refusal};
use holdfast_core::judge::Verdict;
use holdfast_core::policy::{Delivery, Policy};
use holdfast_core::time::Time;

use crate::dice::Dice;
use crate::outage::{callers, every_seed, policy, step, targets};
use crate::vendor::{Fault, PASSING, SHAPED};
use crate::world::{Healths, run};

/// A gate that lets answers pass at random. It is asked again and again about the same text, as models
/// that correct themselves give another one each time.
#[derive(Debug)]
pub(crate) struct Whim {
    seed: u64,
    /// Per cent.
    passes: usize,
    checks: AtomicU64,
    refusals: AtomicU64,
    /// Checks when the last answer passed.
    passed: AtomicU64,
}

impl Whim {
    pub(crate) fn new(seed: u64, passes: usize) -> Self {
        let none = AtomicU64::default;
        Self {
            seed,
            passes,
            checks: none(),
            refusals: none(),
            passed: none(),
        }
    }

    /// Holds the end of an exchange against what this gate said.
    pub(crate) fn check_end(&self, setup: &Setup, outcome: &Outcome, record: &Record) {
        let holds = !setup.wishes.stream || setup.policy.delivery == Delivery::Whole;
        let checks = self.checks.load(Ordering::Relaxed);
        let refusals = self.refusals.load(Ordering::Relaxed);
        let last_passed = checks == self.passed.load(Ordering::Relaxed);
        let gated = record.attempts.iter().filter(|it| it.flaw == Some("gate"));
        let held_back = u64::try_from(gated.count()).unwrap();
        if holds {
            assert_eq!(held_back, refusals, "{record:#?}");
            assert_eq!(record.gate.is_some(), refusals > 0, "{record:#?}");
            assert_eq!(record.flagged, None);
        } else {
            assert_eq!((held_back, &record.gate), (0, &None), "{record:#?}");
            assert!(checks <= 1);
        }
        match outcome {
            Outcome::Delivered(Verdict::Tools) => {}
            Outcome::Delivered(_) if holds => assert!(checks > 0 && last_passed, "{record:#?}"),
            Outcome::Delivered(_) => {
                assert_eq!(checks, 1);
                assert_eq!(record.flagged.is_some(), !last_passed, "{record:#?}");
            }
            Outcome::Told(fault) => {
                assert_eq!(record.flagged, None);
                assert!(fault.code != Code::GateFailed || refusals > 0);
                let asked_all = fault.code != Code::Deadline && fault.vendor.is_none();
                let may_be_caller =
                    matches!(fault.code, Code::VendorRejected | Code::ContextOverflow);
                if refusals > 0 && holds && asked_all && !may_be_caller {
                    assert_eq!(fault.code, Code::GateFailed, "{fault:?} {record:#?}");
                }
            }
            Outcome::CallerGone => assert_eq!(record.flagged, None),
        }
    }
}

impl Gate for Whim {
    fn check(&self, _: &Answered<'_>) -> Result<(), Refusal> {
        let check = self.checks.fetch_add(1, Ordering::Relaxed);
        if Dice::new(self.seed.wrapping_add(check)).percent(self.passes) {
            self.passed.store(check + 1, Ordering::Relaxed);
            return Ok(());
        }
        self.refusals.fetch_add(1, Ordering::Relaxed);
        Err(Refusal::new("whim", format!("not to my liking, {check}")))
    }
}

#[test]
fn every_gated_call_ends_passed_or_told_in_any_outage() {
    every_seed("every_gated_call", |seed| {
        let mut dice = Dice::new(seed ^ 0x6A7E);
        let targets = targets(&mut dice);
        let faulty = dice.of(&[0, 30, 70]);
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
        let policy = |dice: &mut Dice| -> Policy {
            let deadline = dice.of(&[1, 10, 60, 300]);
            policy(dice, deadline)
        };
        let mut calls = callers(&mut dice, &targets, &policy);
        let mut gates = Vec::new();
        for (place, call) in (0..).zip(&mut calls) {
            let gate = Arc::new(Whim::new(seed << 8 | place, dice.of(&[20, 50, 90])));
            let asks = dice.of(&[0, 1, 1, 2, 5]);
            call.gate(Gated {
                gate: gate.clone(),
                asks,
            });
            gates.push(gate);
        }
        let mut healths = Healths::new(targets.len());
        let ended = run(calls, &mut healths, &mood, &mut dice);
        for call in &ended {
            let mine = call.setup.gate.as_ref().unwrap();
            let gate = gates
                .iter()
                .find(|gate| std::ptr::addr_eq(Arc::as_ptr(*gate), Arc::as_ptr(&mine.gate)));
            let (_, finish) = call.finish.as_ref().unwrap();
            gate.unwrap()
                .check_end(&call.setup, &finish.outcome, call.record());
        }
        ended.len()
    });
}
