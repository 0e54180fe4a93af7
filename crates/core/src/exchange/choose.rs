//! The exchange's next ask: which target, with what body, and when nobody is left.

use holdfast_wire::answer::WriterOptions;

use super::gates::Asking;
use super::leg::{Begin, Leg};
use super::{Action, Ask, Exchange, Outcome, Send, State};
use crate::classify::Class;
use crate::fault::{Code, Fault};
use crate::plan::{Health, Leave, Next};
use crate::time::Time;

impl Exchange {
    pub(super) fn choose(&mut self, now: Time, health: &mut impl Health) {
        if let Some(target) = self.resume_on.take() {
            // A paused turn goes on; an answer that the gate refused is asked for once more, which is
            // load like every other retry.
            let again = self.asking.target == Some(target) && self.paused_messages.is_empty();
            if let Leave::Go { probe } = health.admit(target, now, again) {
                if again {
                    self.plan.ask_again(target);
                }
                return self.send(target, probe, now);
            }
            if again {
                self.plan.failed(target, None);
            }
            if self.show.is_content_shown() {
                let fault = Fault::new(
                    Code::BreakerOpen,
                    "the target of a paused turn failed meanwhile and is not asked for now",
                );
                return self.finish(Outcome::Told(fault), None, now);
            }
            self.forget_pauses();
        }
        let next = self
            .plan
            .next(now, &self.setup.targets, &self.setup.policy, health);
        match next {
            Next::Ask { target, probe } => {
                if self.asking.target != Some(target) {
                    self.asking = Asking::default();
                }
                self.send(target, probe, now);
            }
            Next::Wait(until) if until < self.deadline() => self.state = State::Waiting(until),
            Next::Wait(_) | Next::Exhausted => self.give_up(now),
        }
    }

    fn send(&mut self, target: usize, probe: bool, now: Time) {
        let facts = self.setup.targets[target];
        let wishes = self.setup.wishes;
        let policy = &self.setup.policy;
        let ask = self.ask();
        let attempt = u32::try_from(self.record.attempts.len()).unwrap_or(u32::MAX);
        let stream = wishes.stream || facts.streams_plain_calls;
        let begin = Begin {
            attempt,
            target,
            probe,
            facts,
            asked_stream: stream,
            // A plain caller's body is made of the frames; a paused turn is read again.
            keep: !wishes.stream || wishes.pausable || self.gate_reads_frames(),
            choices: wishes.choices,
            // What was cut may have been complete but for its end. That nothing is left to say is
            // believed when it is said twice: a vendor's empty answer may be a fault as well.
            empty_is_whole: policy.empty_is_whole
                || wishes.after_tools
                || (matches!(ask, Ask::Continue { .. }) && self.empty_continuations > 0),
            answer_limit: policy.answer_limit,
            event_limit: policy.event_limit,
        };
        self.leg = Some(Box::new(Leg::new(&begin, now)));
        self.state = State::Running;
        self.actions.push_back(Action::Send(Send {
            attempt,
            target,
            stream,
            ask,
        }));
    }

    fn ask(&self) -> Ask {
        if !self.paused_messages.is_empty() || !self.asking.messages.is_empty() {
            let asking = &self.asking.messages;
            Ask::Resume {
                messages: asking
                    .iter()
                    .chain(&self.paused_messages)
                    .cloned()
                    .collect(),
            }
        } else if self.show.is_content_shown() && !self.show.text().is_empty() {
            Ask::Continue {
                shown: self.show.text().to_owned(),
            }
        } else {
            Ask::Original
        }
    }

    /// The form of the vendor's answer is known: decides how it reaches a streaming caller.
    pub(super) fn begin_show(&mut self) {
        let Some(leg) = self.leg.as_ref().filter(|_| self.setup.wishes.stream) else {
            return;
        };
        let first = self.paused_messages.is_empty() && !self.show.is_content_shown();
        let same = leg.facts.dialect == self.setup.wishes.dialect;
        if first && same && leg.is_stream() {
            self.show.begin_raw(self.writer_options(true));
        } else {
            let continues = self.paused_messages.is_empty() && !self.show.text().is_empty();
            if continues {
                self.show
                    .comment("holdfast: joined; the vendor broke off and another call goes on");
            }
            self.show
                .begin_written(self.writer_options(same && first), continues);
        }
    }

    pub(super) fn writer_options(&self, signatures: bool) -> WriterOptions {
        WriterOptions {
            id: self.setup.answer_id.clone(),
            model: self.setup.model.clone(),
            created: self.setup.created,
            include_usage: self.setup.include_usage,
            signatures: signatures || !self.paused_messages.is_empty(),
            drop_thinking: self.show.is_content_shown() && self.paused_messages.is_empty(),
        }
    }

    /// Nobody is left to ask.
    pub(super) fn give_up(&mut self, now: Time) {
        let fault = self.final_fault(now);
        self.finish(Outcome::Told(fault), None, now);
    }

    fn final_fault(&self, now: Time) -> Fault {
        if let Some(fault) = self.gate_fault() {
            return fault;
        }
        let retry_after = self.plan.opens().map(|opens| opens.since(now));
        let Some(cause) = &self.last_cause else {
            let mut fault = Fault::new(
                Code::BreakerOpen,
                "every target of this route failed lately and is not asked for now",
            );
            fault.retry_after = retry_after;
            return fault;
        };
        let asked = self.plan.attempts();
        let mut fault = Fault::new(
            cause.code,
            format!(
                "no target gave a whole answer in {asked} attempt{}; last: {}",
                plural(asked),
                cause.message
            ),
        );
        if let Class::Retry { after } | Class::Slow { after } = cause.class {
            fault.retry_after = after.or(retry_after);
        }
        fault
    }
}

pub(super) fn plural(count: u32) -> &'static str {
    if count == 1 { "" } else { "s" }
}
