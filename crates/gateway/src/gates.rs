//! The gates of routes and steps: built with the snapshot, asked by exchanges, by who answers by hand
//! and by who completes a step.

use std::sync::Arc;

use holdfast_config::checked::{GateOn, GateTerms};
use holdfast_core::gate::{Answered, Gate, Gated, Refusal};
use holdfast_gate::{Compiled, On, Terms};
use holdfast_wire::answer::Answer;
use holdfast_wire::turn::Dialect;
use holdfast_wire::{anthropic, openai};

/// The gate of one route or step.
#[derive(Clone, Debug)]
pub(crate) struct ReadyGate {
    compiled: Arc<Compiled>,
    asks: u32,
}

/// What stands between an answer and its caller: the gate of its route, and that of its step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gates<'a> {
    pub(crate) route: Option<&'a ReadyGate>,
    pub(crate) step: Option<&'a ReadyGate>,
}

/// Both must be passed; the first that is not gives the reason.
#[derive(Debug)]
struct Both(Arc<Compiled>, Arc<Compiled>);

// === impl ReadyGate ===

impl ReadyGate {
    pub(crate) fn new(terms: &GateTerms) -> Result<Self, holdfast_gate::Error> {
        let compiled = holdfast_gate::compile(Terms {
            json_schema: terms.json_schema.clone(),
            cel: terms.cel.clone(),
            min_length: terms.min_length,
            must_contain: terms.must_contain.clone(),
            no_refusal: terms.no_refusal,
            on: match terms.on {
                GateOn::Text => On::Text,
                GateOn::Json => On::Json,
            },
        })?;
        Ok(Self {
            compiled: Arc::new(compiled),
            asks: terms.asks,
        })
    }

    /// Whether a text that no model wrote passes; the error says in words why not.
    pub(crate) fn check_text(&self, text: &str) -> Result<(), String> {
        self.compiled
            .check_text(text)
            .map_err(|refusal| refusal.to_string())
    }
}

// === impl Gates ===

impl Gates<'_> {
    /// For an exchange. Of two gates the one that asks again more often says how often.
    pub(crate) fn gated(&self) -> Option<Gated> {
        match (self.route, self.step) {
            (None, None) => None,
            (Some(one), None) | (None, Some(one)) => Some(Gated {
                gate: one.compiled.clone(),
                asks: one.asks,
            }),
            (Some(route), Some(step)) => Some(Gated {
                gate: Arc::new(Both(route.compiled.clone(), step.compiled.clone())),
                asks: route.asks.max(step.asks),
            }),
        }
    }

    /// Whether a whole body passes; the error says in words why not.
    pub(crate) fn check_body(&self, dialect: Dialect, body: &[u8]) -> Result<(), String> {
        let gates = [self.route, self.step];
        let mut gates = gates.into_iter().flatten().peekable();
        if gates.peek().is_none() {
            return Ok(());
        }
        let mut answer = Answer::default();
        let mut sink = |event: holdfast_wire::turn::Event<'_>| answer.push(&event);
        match dialect {
            Dialect::Anthropic => anthropic::reader::Reader::default().body(body, &mut sink),
            Dialect::OpenAi => openai::reader::Reader::default().body(body, &mut sink),
        }
        // As in an exchange: the final answer is still to come, and every choice must pass.
        if answer.has_call() {
            return Ok(());
        }
        let choices = answer.choices().into_iter();
        let texts: Vec<String> = choices.map(|choice| answer.text_of(choice)).collect();
        gates.try_for_each(|gate| texts.iter().try_for_each(|text| gate.check_text(text)))
    }
}

// === impl Both ===

impl Gate for Both {
    fn check(&self, answer: &Answered<'_>) -> Result<(), Refusal> {
        self.0.check(answer)?;
        self.1.check(answer)
    }
}
