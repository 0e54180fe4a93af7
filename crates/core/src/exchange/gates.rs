//! The gate of an exchange: whole answers that are not good enough.
//!
//! Where nothing was shown yet, the target is asked again with the reason, then the next one, then the
//! caller is told. On a stream that is not held it is too late for that: the record is flagged. A tool
//! call is no final answer and passes.

use bytes::Bytes;
use holdfast_wire::answer::Answer;

use super::choose::plural;
use super::leg::{Kept, Leg};
use super::{Exchange, State};
use crate::fault::{Code, Fault};
use crate::gate::{Answered, LONGEST_HELD_BACK, Refusal};
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

    /// Whether the gate needs the frames of an answer again. Of one choice that is streamed, its text
    /// is known.
    pub(super) fn gate_reads_frames(&self) -> bool {
        self.is_gate_holding() || self.setup.gate.is_some() && self.setup.wishes.choices > 1
    }

    /// Why a good answer does not pass the gate. `None` = it does, or is none of the gate's business.
    pub(super) fn refused_by_gate(&self, leg: &mut Leg, verdict: &Verdict) -> Option<Rejected> {
        if !self.is_gate_holding() || is_for_tools(leg, verdict) {
            return None;
        }
        self.check_frames(leg, verdict)
    }

    /// Reads the answer again and checks each of its choices; gives the first that does not pass.
    fn check_frames(&self, leg: &mut Leg, verdict: &Verdict) -> Option<Rejected> {
        let gated = self.setup.gate.as_ref()?;
        let kept = leg.take_kept();
        let answer = self.answer_with(&kept);
        leg.put_back(kept);
        answer.choices().into_iter().find_map(|choice| {
            let text = answer.text_of(choice);
            let refusal = gated.gate.check(&answered(&text, leg, verdict)).err()?;
            Some(Rejected { refusal, text })
        })
    }

    /// Asks the same target again, or goes on to the next one.
    pub(super) fn reject(&mut self, leg: &Leg, verdict: &Verdict, rejected: &Rejected, now: Time) {
        // The vendor did its part: its breaker hears of a success.
        self.book(leg, Some(verdict), None, now);
        if let Some(attempt) = self.record.attempts.last_mut() {
            attempt.flaw = Some("gate");
            attempt.message = Some(rejected.refusal.to_string());
        }
        self.record.gate = Some(rejected.refusal.clone());
        self.held_back = Some(beginning(&rejected.text)).filter(|text| !text.is_empty());
        self.last_cause = None;
        self.abort(leg);
        self.show.drop_waiting();
        self.forget_pauses();
        if now >= self.deadline() {
            return self.give_up(now);
        }
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
        self.state = State::Choosing;
    }

    /// What the last answer said that the gate held back, for who is to decide about it: content, and
    /// no part of the record.
    pub fn held_back(&self) -> Option<&str> {
        self.held_back.as_deref()
    }

    /// What the caller is told when nobody is left, where an answer was held back. That weighs more
    /// than what went wrong with those who were asked after it.
    pub(super) fn gate_fault(&self) -> Option<Fault> {
        let refusal = self.record.gate.as_ref()?;
        let asked = self.plan.attempts();
        let mut message = format!(
            "no answer passed the gate in {asked} attempt{}; {refusal}",
            plural(asked)
        );
        if let Some(cause) = &self.last_cause {
            message = format!("{message}; last: {}", cause.message);
        }
        Some(Fault::new(Code::GateFailed, message))
    }

    /// What the gate has against an answer that is shown all the same.
    pub(super) fn flagged_by_gate(&self, leg: &mut Leg, verdict: &Verdict) -> Option<String> {
        let gated = self.setup.gate.as_ref()?;
        if self.is_gate_holding() || is_for_tools(leg, verdict) {
            return None;
        }
        let refusal = if self.gate_reads_frames() {
            self.check_frames(leg, verdict)
                .map(|rejected| rejected.refusal)
        } else if self.show.is_text_lost() {
            let limit = self.setup.policy.answer_limit;
            return Some(format!("its text is over the limit of {limit} bytes"));
        } else {
            let answered = answered(self.show.text(), leg, verdict);
            gated.gate.check(&answered).err()
        };
        refusal.map(|refusal| refusal.to_string())
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

/// Whether the answer asks its caller to run tools: the final answer is still to come. Some servers
/// say `stop` of a call that the caller had demanded.
fn is_for_tools(leg: &Leg, verdict: &Verdict) -> bool {
    *verdict == Verdict::Tools || *verdict == Verdict::Whole && leg.judge.has_call()
}

fn answered<'a>(text: &'a str, leg: &Leg, verdict: &Verdict) -> Answered<'a> {
    Answered {
        text,
        refused: *verdict == Verdict::Refused || leg.judge.has_refusal(),
        limited: *verdict == Verdict::Limit,
    }
}

/// At most the first [`LONGEST_HELD_BACK`] bytes.
fn beginning(text: &str) -> String {
    let end = text.floor_char_boundary(LONGEST_HELD_BACK);
    let mut kept = text[..end].to_owned();
    if end < text.len() {
        kept.push('…');
    }
    kept
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
