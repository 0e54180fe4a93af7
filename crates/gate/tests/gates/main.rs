//! Gates from outside: what passes, what does not, what is said of it, and what is no gate at all.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fuzz;
mod quotes;
mod refused;
mod words;

use holdfast_core::gate::{Answered, Gate, Refusal};
use holdfast_gate::{Compiled, Terms, compile};

/// A gate of a schema alone.
fn schema(schema: &str) -> Compiled {
    compile(Terms {
        json_schema: Some(schema.to_owned()),
        ..Terms::default()
    })
    .unwrap()
}

/// A gate of one expression.
fn cel(expression: &str) -> Compiled {
    compile(Terms {
        cel: vec![expression.to_owned()],
        ..Terms::default()
    })
    .unwrap()
}

fn whole(text: &str) -> Answered<'_> {
    Answered {
        text,
        refused: false,
        limited: false,
    }
}

fn refusal(gate: &Compiled, text: &str) -> Refusal {
    gate.check(&whole(text)).unwrap_err()
}

/// `check: reason` of an answer that does not pass, as the model hears it.
fn said(gate: &Compiled, text: &str) -> String {
    let refusal = refusal(gate, text);
    format!("{}: {}", refusal.check, refusal.reason)
}

/// The same, as everybody else hears it.
fn told(gate: &Compiled, text: &str) -> String {
    refusal(gate, text).to_string()
}
