//! The result as JSON, and what is needed to find out why an answer through Holdfast failed.

use serde_json::{Value, json};

use super::load::{Board, Failed};
use super::plan::Plan;
use super::stage::{SCENARIO, Stage};
use super::tally::{SLOTS, Slot, Tally};
use super::verdict::{Outcome, Told};

/// The whole result.
pub(super) fn report(plan: &Plan, stage: &Stage, board: &Board) -> Value {
    let failed = board.failed.iter().map(|failed| example(stage, failed));
    json!({
        "scenario": SCENARIO,
        "seed": plan.seed,
        "rate": plan.rate,
        "seconds": plan.length.as_secs_f64(),
        "took_ms": millis(board.elapsed),
        "slot_ms": millis(plan.length) / SLOTS as u64,
        "straight": side(&board.tallies[0]),
        "holdfast": side(&board.tallies[1]),
        "kept": board.is_kept(),
        "failed": failed.collect::<Vec<_>>(),
    })
}

/// An answer through Holdfast that is not whole: the call, what came, and the ledger.
pub(super) fn example(stage: &Stage, failed: &Failed) -> Value {
    let Failed {
        ask,
        outcome,
        answer,
    } = failed;
    let ledger = answer.exchange.as_deref().and_then(|id| stage.ledger(id));
    let calls: Vec<_> = answer
        .held
        .calls
        .iter()
        .map(|call| json!({"name": call.name, "arguments": call.arguments}))
        .collect();
    json!({
        "outcome": outcome.word(),
        "path": ask.path(),
        "request": ask.body(ask.model()),
        "text": answer.held.text,
        "calls": calls,
        "finish": answer.held.finish,
        "took_ms": millis(answer.took),
        "ledger": ledger,
    })
}

fn side(tally: &Tally) -> Value {
    let told: serde_json::Map<_, _> = tally
        .told
        .iter()
        .map(|(told, count)| (how(*told), (*count).into()))
        .collect();
    let timeline: Vec<_> = tally.slots().iter().map(|slot| word(*slot)).collect();
    let mut side = json!({
        "asked": tally.asked,
        "told_by": told,
        "p50_ms": tally.latency(50).map(millis),
        "p99_ms": tally.latency(99).map(millis),
        "vendor_calls": tally.vendor_calls,
        "vendor_calls_per_call": tally.calls_per_call(),
        "timeline": timeline,
    });
    for outcome in Outcome::ALL {
        side[outcome.word()] = tally.of(outcome).into();
    }
    side
}

fn how(told: Told) -> String {
    match told {
        Told::NoResponse => "no response".to_owned(),
        Told::Status(status) => format!("status {status}"),
        Told::ErrorEvent => "error event".to_owned(),
        Told::Aborted => "cut transport".to_owned(),
        Told::Unreadable => "unreadable".to_owned(),
    }
}

const fn word(slot: Slot) -> &'static str {
    match slot {
        Slot::Empty => "empty",
        Slot::Healthy => "healthy",
        Slot::Told => "told",
        Slot::Failed => "failed",
    }
}

fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::commands::demo::verdict::End;

    #[test]
    fn a_side_carries_every_number() {
        let mut tally = Tally::new();
        tally.asked = 2;
        tally.vendor_calls = 3;
        tally.count(0.0, Outcome::Whole, End::Ended, Duration::from_millis(9));
        let told = End::Told(Told::Status(529));
        tally.count(0.5, Outcome::Told, told, Duration::from_millis(1));
        let side = side(&tally);
        assert_eq!(side["whole"], 1);
        assert_eq!(side["half"], 0);
        assert_eq!(side["told_by"]["status 529"], 1);
        assert_eq!(side["p99_ms"], 9);
        assert_eq!(side["timeline"][0], "healthy");
        assert_eq!(side["timeline"][SLOTS / 2], "told");
    }
}
