//! The gates of routes: built with the snapshot, asked by exchanges and by who answers by hand.

use std::sync::Arc;

use holdfast_config::checked::{GateOn, GateTerms};
use holdfast_core::gate::Gated;
use holdfast_gate::{Compiled, On, Terms};
use holdfast_wire::answer::Answer;
use holdfast_wire::turn::Dialect;
use holdfast_wire::{anthropic, openai};

/// One route's gate.
#[derive(Clone, Debug)]
pub(crate) struct RouteGate {
    compiled: Arc<Compiled>,
    asks: u32,
}

impl RouteGate {
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

    /// For an exchange.
    pub(crate) fn gated(&self) -> Gated {
        Gated {
            gate: self.compiled.clone(),
            asks: self.asks,
        }
    }

    /// Whether a whole body passes; the error says in words why not.
    pub(crate) fn check_body(&self, dialect: Dialect, body: &[u8]) -> Result<(), String> {
        let mut answer = Answer::default();
        let mut sink = |event: holdfast_wire::turn::Event<'_>| answer.push(&event);
        match dialect {
            Dialect::Anthropic => anthropic::reader::Reader::default().body(body, &mut sink),
            Dialect::OpenAi => openai::reader::Reader::default().body(body, &mut sink),
        }
        self.compiled
            .check_text(&answer.text())
            .map_err(|refusal| refusal.to_string())
    }
}
