//! The end of a leg: delivered, paused, or failed and what follows from that.

use std::borrow::Cow;

use bytes::Bytes;
use holdfast_wire::answer::Answer;
use holdfast_wire::fold::Fold;
use holdfast_wire::turn::{Dialect, Event, Stop, Usage};

use super::leg::{self, Cause, Ended, Kept, Leg, Listener as _, Said};
use super::record::{AttemptRecord, verdict_name};
use super::speech::{self, Reader};
use super::{Action, Exchange, Outcome, State};
use crate::breaker::Report;
use crate::classify::Class;
use crate::fault::{Code, Fault};
use crate::join;
use crate::judge::{Flaw, Judge, Verdict};
use crate::plan;
use crate::policy::OnRefusal;
use crate::time::Time;

impl Exchange {
    /// The running leg has ended: books it and goes on.
    pub(super) fn settle_leg(&mut self, now: Time, dice: &mut impl FnMut() -> u64) {
        let Some(mut leg) = self.leg.take() else {
            return;
        };
        let Some(ended) = leg.ended.take() else {
            return;
        };
        let settled = match ended {
            Ended::Judged(_) if self.loses_a_call(&leg) => Err(Box::new(leg::broken(Flaw::NoTool))),
            Ended::Judged(verdict) => self.judged(&mut leg, &verdict, now),
            Ended::Failed(cause) => Err(Box::new(cause)),
        };
        if let Err(cause) = settled {
            self.book(&leg, None, Some(&cause), now);
            self.abort(&leg);
            self.failed(&leg, *cause, now, dice());
        }
    }

    pub(super) fn abort(&mut self, leg: &Leg) {
        self.actions.push_back(Action::Abort {
            attempt: leg.attempt,
        });
    }

    /// Whether the answer calls a tool with free-text input, and is not passed on unchanged: nothing
    /// but its own bytes can carry the call.
    fn loses_a_call(&self, leg: &Leg) -> bool {
        let unchanged = if self.setup.wishes.stream {
            self.show.is_raw() && leg.is_stream()
        } else {
            self.paused.is_empty()
                && leg.judge.cut_tools().is_empty()
                && leg.facts.dialect == self.setup.wishes.dialect
        };
        leg.judge.has_free_text_call() && !unchanged
    }

    pub(super) fn book(
        &mut self,
        leg: &Leg,
        verdict: Option<&Verdict>,
        cause: Option<&Cause>,
        now: Time,
    ) {
        let report = match cause.map(|cause| cause.class) {
            None | Some(Class::Caller | Class::Overflow) if cause.is_none() => Report::Success,
            None | Some(Class::Caller | Class::Overflow | Class::Unfit) => Report::Neutral,
            Some(Class::Money) => Report::Money,
            Some(_) => Report::Failure,
        };
        self.reports.push((leg.target, report, leg.probe));
        let flaw = cause.and_then(|cause| cause.flaw.as_ref());
        self.record.attempts.push(AttemptRecord {
            target: leg.target,
            status: leg.head.status,
            verdict: match flaw {
                Some(Flaw::UnknownStop(_)) => "unknown",
                Some(_) => "broken",
                None => verdict_name(verdict),
            },
            flaw: flaw.map(Flaw::name),
            message: cause.map(|cause| cause.message.clone()),
            began: leg.began.since(self.began),
            lasted: now.since(leg.began),
            first_token: leg.first_token.map(|first| first.since(leg.began)),
            usage: leg.judge.usage(),
        });
    }

    /// Acts on a good answer; gives the cause where it turns out that it can't be shown as one.
    fn judged(&mut self, leg: &mut Leg, verdict: &Verdict, now: Time) -> Result<(), Box<Cause>> {
        if *verdict == Verdict::Paused {
            return self.paused(leg, now);
        }
        let asks_next =
            *verdict == Verdict::Refused && self.setup.policy.on_refusal == OnRefusal::Next;
        if asks_next && !self.show.is_content_shown() && self.plan.has_fresh(&self.setup.targets) {
            self.book(leg, Some(verdict), None, now);
            self.abort(leg);
            self.show.drop_waiting();
            self.plan.failed(leg.target, None);
            self.state = State::Choosing;
            return Ok(());
        }
        if let Some(rejected) = self.refused_by_gate(leg, verdict) {
            self.reject(leg, verdict, &rejected, now);
            return Ok(());
        }
        let flagged = self.flagged_by_gate(leg, verdict);
        let body = self.deliver(leg)?;
        self.record.flagged = flagged;
        self.book(leg, Some(verdict), None, now);
        if leg.is_cut() {
            self.abort(leg);
        }
        self.take_released(now);
        self.finish(Outcome::Delivered(verdict.clone()), body, now);
        Ok(())
    }

    /// Shows or makes the whole answer.
    fn deliver(&mut self, leg: &mut Leg) -> Result<Option<Bytes>, Box<Cause>> {
        let cut = leg.judge.cut_tools().to_vec();
        if self.setup.wishes.stream {
            if cut.is_empty() {
                self.show.finish();
                return Ok(None);
            }
            let options = self.writer_options(true);
            return if self.show.finish_without(&cut, &ending(&leg.judge), options) {
                Ok(None)
            } else {
                Err(Box::new(leg::broken(Flaw::BadArguments)))
            };
        }
        let same = leg.facts.dialect == self.setup.wishes.dialect;
        let kept = leg.take_kept();
        if same && cut.is_empty() && self.paused.is_empty() {
            return match kept.said {
                Said::Body(body) => Ok(Some(body)),
                Said::Frames(frames) => fold(leg.facts.dialect, &frames).map(Some),
            };
        }
        self.paused.push(kept);
        let answer = put_together(&self.paused.iter().collect::<Vec<_>>(), &cut);
        let options = self.writer_options(same);
        speech::encode_body(self.setup.wishes.dialect, &answer, &options)
            .map(|body| Some(body.into()))
            .map_err(|why| unfit(&why.to_string()))
    }

    /// Sends a paused turn back. One that can't be, or that never ends, is not an answer: callers
    /// take it for one.
    fn paused(&mut self, leg: &mut Leg, now: Time) -> Result<(), Box<Cause>> {
        let resumed = u32::try_from(self.paused_messages.len()).unwrap_or(u32::MAX);
        let can = leg.facts.dialect == Dialect::Anthropic
            && (self.setup.wishes.pausable || !self.setup.wishes.stream)
            && resumed < self.setup.policy.max_continuations;
        if !can {
            return Err(Box::new(leg::broken(Flaw::NeverFinished)));
        }
        self.book(leg, Some(&Verdict::Paused), None, now);
        self.abort(leg);
        let kept = leg.take_kept();
        let answer = put_together(&[&kept], &[]);
        self.paused_messages
            .push(holdfast_wire::anthropic::body::assistant_message(&answer).into());
        self.paused.push(kept);
        self.show.release_for_next_leg();
        self.take_released(now);
        self.resume_on = Some(leg.target);
        self.state = State::Choosing;
        Ok(())
    }

    /// Nothing of the paused turns was shown: the next ask is the first one again.
    pub(super) fn forget_pauses(&mut self) {
        self.paused.clear();
        self.paused_messages.clear();
    }

    fn failed(&mut self, leg: &Leg, cause: Cause, now: Time, dice: u64) {
        self.show.drop_waiting();
        if self.show.is_content_shown() && cause.flaw == Some(Flaw::NoContent) {
            self.empty_continuations += 1;
        }
        // Refused was what we made of the caller's request: its end of a paused or a cut turn.
        let is_asked_again = !self.asking.messages.is_empty();
        let is_ours =
            is_asked_again || !self.paused_messages.is_empty() || self.show.is_content_shown();
        if !self.show.is_content_shown() {
            self.forget_pauses();
        }
        let is_final = match cause.class {
            Class::Retry { after } | Class::Slow { after } => {
                let retry = self.plan.asked(leg.target).saturating_sub(1);
                let wait = self.setup.policy.backoff.wait(retry, dice);
                self.plan.failed(
                    leg.target,
                    plan::ready_at(now, wait, after, self.deadline()),
                );
                false
            }
            Class::Money | Class::Auth | Class::NoModel | Class::Unfit => {
                self.plan.failed(leg.target, None);
                false
            }
            // The question alone did fit.
            Class::Overflow if is_asked_again => {
                self.plan.failed(leg.target, None);
                false
            }
            Class::Overflow => {
                self.plan.overflowed(leg.target, leg.facts.context_window);
                !self.plan.has_fresh(&self.setup.targets)
            }
            // What another dialect's vendor refuses may be our translation's fault.
            Class::Caller if is_ours || leg.facts.dialect != self.setup.wishes.dialect => {
                self.plan.failed(leg.target, None);
                false
            }
            Class::Caller => true,
        };
        if is_final {
            let fault = caller_fault(cause, leg.facts.dialect == self.setup.wishes.dialect);
            return self.finish(Outcome::Told(fault), None, now);
        }
        let told = self.cannot_continue(&cause);
        self.last_cause = Some(cause);
        match told {
            Some(fault) => self.finish(Outcome::Told(fault), None, now),
            None => self.state = State::Choosing,
        }
    }

    /// Why what was shown can't be continued; `None` = nothing was shown, or it can.
    fn cannot_continue(&mut self, cause: &Cause) -> Option<Fault> {
        if !self.show.is_content_shown() {
            return None;
        }
        let why = if self.show.is_tool_shown() {
            "a tool call was already shown"
        } else if self.show.is_foreign_shown() {
            "a part of it can't be continued by another model"
        } else if !self.setup.policy.join {
            "joining is off on this route"
        } else if !self.setup.wishes.joinable || !self.paused_messages.is_empty() {
            "an answer of this form can't be joined"
        } else if self.show.is_text_lost() {
            "it is too long to be continued"
        } else {
            match join::check(self.show.text()) {
                Ok(()) => {
                    self.joins += 1;
                    return None;
                }
                Err(join::Refusal::OpenFence) => "the cut lies inside a code block",
                Err(join::Refusal::OpenJson) => "the text is JSON that was cut",
            }
        };
        Some(Fault::new(
            Code::UpstreamIncomplete,
            format!(
                "the answer was cut after a part of it was shown ({}); {why}",
                cause.message
            ),
        ))
    }

    /// The exchange's time is over.
    pub(super) fn pass_deadline(&mut self, now: Time) {
        // An answer that became whole in this very moment is an answer.
        if self
            .leg
            .as_ref()
            .is_some_and(|leg| matches!(leg.ended, Some(Ended::Judged(_))))
        {
            return;
        }
        self.cancel_leg(now);
        self.show.drop_waiting();
        let seconds = self.setup.policy.deadline.as_secs_f64();
        let mut message = format!("no whole answer within the deadline of {seconds} s");
        if let Some(refusal) = &self.record.gate {
            message = format!("{message}; one did not pass the gate: {refusal}");
        }
        let fault = Fault::new(Code::Deadline, message);
        self.finish(Outcome::Told(fault), None, now);
    }

    /// Takes the running leg down, without blame for what had not failed by itself.
    pub(super) fn cancel_leg(&mut self, now: Time) {
        let Some(mut leg) = self.leg.take() else {
            return;
        };
        self.abort(&leg);
        if let Some(Ended::Failed(cause)) = leg.ended.take() {
            return self.book(&leg, None, Some(&cause), now);
        }
        self.book(&leg, None, None, now);
        if let Some((_, report, _)) = self.reports.last_mut() {
            *report = Report::Neutral;
        }
        if let Some(attempt) = self.record.attempts.last_mut() {
            attempt.verdict = "cancelled";
        }
    }
}

/// The vendor's own words where the dialects agree, ours where they don't.
fn caller_fault(cause: Cause, same_dialect: bool) -> Fault {
    let mut fault = Fault::new(cause.code, cause.message);
    if let Some(vendor) = cause.vendor {
        fault.status = vendor.status;
        fault.vendor = same_dialect.then_some(vendor);
    }
    fault
}

/// The stops and counts of an answer whose own end is not shown.
fn ending(judge: &Judge) -> Vec<Event<'static>> {
    let stops = judge.stops().iter().map(|stop| Event::Stop {
        choice: stop.choice,
        stop: Stop {
            kind: stop.kind,
            said: Cow::Owned(stop.said.clone()),
            sequence: None,
            details: None,
        },
    });
    stops.chain([Event::Usage(judge.usage())]).collect()
}

fn fold(dialect: Dialect, frames: &[holdfast_wire::sse::Frame]) -> Result<Bytes, Box<Cause>> {
    let mut fold = Fold::new(dialect);
    for data in frames.iter().filter_map(holdfast_wire::sse::Frame::data) {
        fold.push(&data);
    }
    fold.finish()
        .map(Bytes::from)
        .map_err(|why| unfit(&why.to_string()))
}

/// An answer that can't be written as a body is no answer.
fn unfit(why: &str) -> Box<Cause> {
    let mut cause = leg::broken(Flaw::NotTheDialect("no body can be made of it"));
    cause.message = format!("{}: {why}", cause.message);
    Box::new(cause)
}

/// Reads the kept legs again into one answer: blocks numbered through, usage summed, the last
/// stop reason; without the blocks `cut` of the last leg.
pub(super) fn put_together(legs: &[&Kept], cut: &[u32]) -> Answer {
    let mut answer = Answer::default();
    let mut base = 0;
    let mut spent = Usage::default();
    for (place, kept) in legs.iter().enumerate() {
        let mut next = base;
        let mut usage = Usage::default();
        let last = place + 1 == legs.len();
        let mut sink = |event: Event<'_>| match event {
            Event::Start { .. } if place > 0 => {}
            Event::Stop { .. } | Event::End if !last => {}
            Event::Usage(newer) => usage.overwrite(newer),
            event => {
                if let Event::BlockStart { index, .. } = &event {
                    next = next.max(base + index + 1);
                }
                answer.push(&renumber(event, base));
            }
        };
        let mut reader = Reader::new(kept.dialect, kept.back.clone());
        match &kept.said {
            Said::Body(body) => reader.body(body, &mut sink),
            Said::Frames(frames) => frames
                .iter()
                .for_each(|frame| reader.frame(frame, &mut sink)),
        }
        spent = spent.plus(usage);
        if last {
            for index in cut {
                answer.drop_block(base + index);
            }
        }
        base = next;
    }
    answer.push(&Event::Usage(spent));
    answer
}

fn renumber(event: Event<'_>, base: u32) -> Event<'_> {
    match event {
        Event::BlockStart {
            index,
            choice,
            block,
        } => Event::BlockStart {
            index: index + base,
            choice,
            block,
        },
        Event::Delta { index, delta } => Event::Delta {
            index: index + base,
            delta,
        },
        Event::BlockStop { index } => Event::BlockStop {
            index: index + base,
        },
        other => other,
    }
}
