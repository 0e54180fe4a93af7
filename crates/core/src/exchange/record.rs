//! What an exchange leaves behind for the ledger and the metrics: who was asked, what came of it.

use std::time::Duration;

use holdfast_wire::turn::Usage;

use super::Outcome;
use crate::gate::Refusal;
use crate::judge::Verdict;

/// One attempt, as it ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AttemptRecord {
    /// Index into the targets.
    pub target: usize,
    /// The vendor's status; 0 = no head came.
    pub status: u16,
    /// The verdict's name, or `error`, or `cancelled`.
    pub verdict: &'static str,
    /// The flaw's label, where the answer was broken.
    pub flaw: Option<&'static str>,
    /// Why it failed, in words; may quote the vendor's error message.
    pub message: Option<String>,
    /// From the exchange's begin.
    pub began: Duration,
    pub lasted: Duration,
    /// From the attempt's begin to its first token.
    pub first_token: Option<Duration>,
    pub usage: Usage,
}

/// One exchange, as it ended.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Record {
    pub attempts: Vec<AttemptRecord>,
    /// The verdict's name, or `told`, or `caller_gone`; empty while it runs.
    pub outcome: &'static str,
    /// The code of the error that was told.
    pub code: Option<&'static str>,
    pub joins: u32,
    /// What the caller's dialect could not carry of the answer.
    pub losses: Vec<&'static str>,
    pub lasted: Duration,
    /// Why the last answer that the gate held back was held back; a later one may have passed.
    pub gate: Option<Refusal>,
    /// What the gate has against an answer that was streamed before it could be held.
    pub flagged: Option<String>,
}

impl Record {
    pub(super) fn close(
        &mut self,
        outcome: &Outcome,
        joins: u32,
        losses: &[&'static str],
        lasted: Duration,
    ) {
        self.outcome = match outcome {
            Outcome::Delivered(verdict) => verdict.name(),
            Outcome::Told(fault) => {
                self.code = Some(fault.code.number());
                "told"
            }
            Outcome::CallerGone => "caller_gone",
        };
        self.joins = joins;
        self.losses = losses.to_vec();
        self.lasted = lasted;
    }

    /// Token counts over all attempts: every one of them is billed.
    pub fn usage(&self) -> Usage {
        self.attempts
            .iter()
            .fold(Usage::default(), |sum, attempt| sum.plus(attempt.usage))
    }
}

/// The names that a record may use for a verdict.
pub(super) fn verdict_name(verdict: Option<&Verdict>) -> &'static str {
    verdict.map_or("error", Verdict::name)
}
