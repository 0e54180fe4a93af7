//! Gates from outside: what passes, what does not, what is said of it, and what is no gate at all.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod fuzz;
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

/// `check: reason` of an answer that does not pass.
fn said(gate: &Compiled, text: &str) -> String {
    let refusal: Refusal = gate.check(&whole(text)).unwrap_err();
    refusal.to_string()
}
