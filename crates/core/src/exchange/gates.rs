//! The gate of an exchange: whole answers that are not good enough.
//!
//! Where nothing was shown yet, the target is asked again with the reason, then the next one, then the
//! caller is told. On a stream that is not held it is too late for that: the record is flagged. A tool
//! call is no final answer and passes.

use bytes::Bytes;
use holdfast_wire::answer::Answer;

use super::leg::{Kept, Leg};
use super::{Exchange, State};
use crate::classify::Class;
use crate::exchange::leg::Cause;
use crate::fault::Code;
use crate::gate::{Answered, Refusal};
use crate::judge::Verdict;
use crate::policy::Delivery;
use crate::time::Time;

/// What was said to the target that is asked again.
#[derive(Debug, Default)]
pub(super) struct Asking {
    /// The target, while it is asked again.
    pub(super) target: Option<usize>,
    /// How often.
    times: u32,
    /// The failed answer and the reason, as messages.
    pub(super) messages: Vec<Bytes>,
}

impl Exchange {
    /// Whether the gate can still hold the answer back.
    pub(super) fn is_gate_holding(&self) -> bool {
        let held = !self.setup.wishes.stream || self.setup.policy.delivery == Delivery::Whole;
        self.setup.gate.is_some() && held
    }

    /// Why a good answer does not pass the gate. `None` = it does, or is none of the gate's business.
    pub(super) fn refused_by_gate(&self, leg: &mut Leg, verdict: &Verdict) -> Option<Rejected> {
        let gated = self.setup.gate.as_ref()?;
        if !self.is_gate_holding() || *verdict == Verdict::Tools {
            return None;
        }
        let kept = leg.take_kept();
        let answer = self.answer_with(&kept);
        let text = answer.text();
        leg.put_back(kept);
        let answered = answered(&text, verdict);
        let refusal = gated.gate.check(&answered).err()?;
        Some(Rejected { refusal, text })
    }

    /// Asks the same target again, or goes on to the next one.
    pub(super) fn reject(&mut self, leg: &Leg, verdict: &Verdict, rejected: &Rejected, now: Time) {
        self.book(leg, Some(verdict), None, now);
        if let Some(attempt) = self.record.attempts.last_mut() {
            attempt.flaw = Some("gate");
            attempt.message = Some(rejected.refusal.to_string());
        }
        self.abort(leg);
        self.show.drop_waiting();
        self.forget_pauses();
        let asks = self.setup.gate.as_ref().map_or(0, |gated| gated.asks);
        if self.asking.target != Some(leg.target) {
            self.asking = Asking::default();
        }
        if self.asking.times < asks && self.plan.may_ask(&self.setup.policy) {
            self.asking.target = Some(leg.target);
            self.asking.times += 1;
            self.asking.messages.extend(again(rejected));
            self.resume_on = Some(leg.target);
        } else {
            self.asking = Asking::default();
            self.plan.failed(leg.target, None);
        }
        self.last_cause = Some(Cause {
            class: Class::Unfit,
            code: Code::GateFailed,
            message: format!("the answer did not pass the gate ({})", rejected.refusal),
            flaw: None,
            vendor: None,
        });
        self.state = State::Choosing;
    }

    /// An answer that was shown as it came: whether it would have passed.
    pub(super) fn flag(&mut self, verdict: &Verdict) {
        let Some(gated) = &self.setup.gate else {
            return;
        };
        if self.is_gate_holding() || *verdict == Verdict::Tools {
            return;
        }
        let answered = answered(self.show.text(), verdict);
        self.record.flagged = gated
            .gate
            .check(&answered)
            .err()
            .map(|refusal| refusal.to_string());
    }

    fn answer_with(&self, last: &Kept) -> Answer {
        let legs: Vec<&Kept> = self.paused.iter().chain([last]).collect();
        super::ending::put_together(&legs, &[])
    }
}

/// An answer that did not pass.
pub(super) struct Rejected {
    refusal: Refusal,
    text: String,
}

fn answered<'a>(text: &'a str, verdict: &Verdict) -> Answered<'a> {
    Answered {
        text,
        refused: *verdict == Verdict::Refused,
        limited: *verdict == Verdict::Limit,
    }
}

/// What is said to a target whose answer did not pass. Both dialects have these messages in common.
fn again(rejected: &Rejected) -> Vec<Bytes> {
    let message = |role: &str, content: &str| {
        let message = serde_json::json!({"role": role, "content": content});
        Bytes::from(message.to_string())
    };
    let reason = format!(
        "Your answer was not accepted: {}. Give the whole answer again, corrected, and nothing else.",
        rejected.refusal.reason
    );
    // An empty message would be refused.
    let said = (!rejected.text.trim().is_empty()).then(|| message("assistant", &rejected.text));
    said.into_iter().chain([message("user", &reason)]).collect()
}
