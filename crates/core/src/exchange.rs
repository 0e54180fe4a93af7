//! The exchange: one caller's request, over all its attempts, to exactly one outcome.
//!
//! A pure machine. `handle_*` tells it what happened, [`Exchange::poll_action`] says what to do next
//! (call it until it gives `None`), [`Exchange::poll_timeout`] says when to call
//! [`Exchange::handle_timeout`] at the latest. It gives exactly one [`Action::Finish`], and what it
//! releases is always a prefix of one coherent answer. Nothing else in Holdfast retries.

mod choose;
mod ending;
mod gates;
mod leg;
mod record;
mod show;
mod speech;

use std::collections::VecDeque;

use bytes::Bytes;
use holdfast_wire::translate::back::Back;

use crate::breaker::Report;
use crate::fault::Fault;
use crate::gate::Gated;
use crate::judge::Verdict;
use crate::plan::{Health, Plan};
use crate::policy::{Delivery, Policy, Target, Wishes};
use crate::time::Time;
use gates::Asking;
use leg::{Cause, Kept, Leg, Listener};
use show::Show;

pub use leg::Head;
pub use record::{AttemptRecord, Record};

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send the request to a target. Answer with `handle_*` calls that carry this attempt's number.
    Send(Send),
    /// Give up this attempt's connection at once.
    Abort { attempt: u32 },
    /// Hand these bytes to the (streaming) caller; the first of them sends the response head.
    Release(Bytes),
    /// The end. Nothing follows.
    Finish(Finish),
}

/// One call to one target.
#[derive(Clone, Debug, PartialEq)]
pub struct Send {
    pub attempt: u32,
    /// Index into the targets.
    pub target: usize,
    /// Ask for a stream.
    pub stream: bool,
    pub ask: Ask,
}

/// What is asked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Ask {
    /// The caller's own request.
    Original,
    /// To go on after this text, which the caller has already seen.
    Continue { shown: String },
    /// The caller's request with these assistant messages (JSON) behind it: a paused turn.
    Resume { messages: Vec<Bytes> },
}

/// The one end of an exchange.
#[derive(Clone, Debug, PartialEq)]
pub struct Finish {
    pub outcome: Outcome,
    /// The whole body for a caller that asked for no stream, where there is an answer.
    pub body: Option<Bytes>,
}

/// How it ended for the caller.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// An answer with this verdict (never `Broken`).
    Delivered(Verdict),
    /// An explicit error. If bytes were released before, it goes into the stream in its loud form
    /// and the transport is aborted after it.
    Told(Fault),
    /// The caller went away first.
    CallerGone,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Choosing,
    Waiting(Time),
    Running,
    Finished,
}

/// What an exchange is begun with.
#[derive(Clone, Debug)]
pub struct Setup {
    pub policy: Policy,
    /// In the route's order; never empty.
    pub targets: Vec<Target>,
    pub wishes: Wishes,
    /// The id to show where the answer is written anew (`msg_...`, `chatcmpl-...`).
    pub answer_id: String,
    /// The model name to show where the answer is written anew.
    pub model: String,
    /// Unix seconds, for the same.
    pub created: u64,
    /// The caller wants a usage chunk at the end (OpenAI `stream_options.include_usage`).
    pub include_usage: bool,
    /// What an answer must be beyond whole.
    pub gate: Option<Gated>,
}

/// One caller's request on its way to one outcome.
#[derive(Debug)]
pub struct Exchange {
    setup: Setup,
    plan: Plan,
    began: Time,
    state: State,
    /// The attempt under way. Boxed: an exchange is moved about before it has one.
    leg: Option<Box<Leg>>,
    show: Show,
    actions: VecDeque<Action>,
    reports: Vec<(usize, Report, bool)>,
    /// Paused legs of a plain answer, to be put together at the end.
    paused: Vec<Kept>,
    /// The paused turns as messages, to be sent back.
    paused_messages: Vec<Bytes>,
    resume_on: Option<usize>,
    asking: Asking,
    /// The text of the last answer that the gate held back.
    held_back: Option<String>,
    last_cause: Option<Cause>,
    joins: u32,
    /// Continuations that had nothing to say.
    empty_continuations: u32,
    last_release: Time,
    record: Record,
}

impl Exchange {
    /// An exchange that has not asked anybody yet.
    pub fn new(setup: Setup, now: Time) -> Self {
        let show = Show::new(
            setup.wishes.dialect,
            setup.policy.delivery,
            text_limit(&setup),
        );
        Self {
            plan: Plan::new(setup.targets.len()),
            setup,
            began: now,
            state: State::Choosing,
            leg: None,
            show,
            actions: VecDeque::new(),
            reports: Vec::new(),
            paused: Vec::new(),
            paused_messages: Vec::new(),
            resume_on: None,
            asking: Asking::default(),
            held_back: None,
            last_cause: None,
            joins: 0,
            empty_continuations: 0,
            last_release: now,
            record: Record::default(),
        }
    }

    /// The attempt's connection is there and its request goes out.
    pub fn handle_connected(&mut self, attempt: u32, now: Time) {
        if let Some(leg) = self.leg_of(attempt) {
            leg.connected(now);
        }
    }

    /// The request could not be sent, or the connection broke before a response head.
    pub fn handle_send_failed(&mut self, attempt: u32, why: &str) {
        if let Some(leg) = self.leg_of(attempt) {
            leg.failed_to_send(why);
        }
    }

    /// The request is a translation, and its answer needs this on its way back.
    pub fn handle_translated(&mut self, attempt: u32, back: Back) {
        if let Some(leg) = self.leg_of(attempt) {
            leg.translated(back);
        }
    }

    /// The target can't carry the request: a loss would change its meaning. Nothing was sent.
    pub fn handle_untranslatable(&mut self, attempt: u32, why: &str) {
        if let Some(leg) = self.leg_of(attempt) {
            leg.untranslatable(why);
        }
    }

    /// The response head came.
    pub fn handle_head(&mut self, attempt: u32, head: Head, now: Time) {
        if let Some(leg) = self.leg_of(attempt) {
            leg.head(head, now);
        }
    }

    /// A piece of the response body came.
    pub fn handle_chunk(&mut self, attempt: u32, chunk: Bytes, now: Time) {
        let Some(leg) = self.leg_of(attempt).filter(|leg| leg.has_head()) else {
            return;
        };
        if leg.sniff(&chunk) {
            self.begin_show();
        }
        let Some(leg) = &mut self.leg else { return };
        if self.setup.wishes.stream {
            leg.chunk(chunk, now, &mut self.show);
        } else {
            leg.chunk(chunk, now, &mut Deaf);
        }
        self.take_released(now);
    }

    /// The response body ended, cleanly or (`Err`) by a broken transport.
    pub fn handle_end(&mut self, attempt: u32, end: Result<(), String>, now: Time) {
        let Some(leg) = self.leg.as_mut().filter(|leg| leg.attempt == attempt) else {
            return;
        };
        if self.setup.wishes.stream {
            leg.end(end, now, &mut self.show);
        } else {
            leg.end(end, now, &mut Deaf);
        }
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.state == State::Finished {
            return;
        }
        if let Some(leg) = &mut self.leg {
            leg.timeout(now);
        }
        if now >= self.deadline() {
            self.pass_deadline(now);
        } else if self.heartbeat_due().is_some_and(|due| now >= due) {
            self.show.ping();
            self.take_released(now);
        }
    }

    /// The caller hung up: the vendor's work is stopped at once.
    pub fn handle_caller_gone(&mut self, now: Time) {
        if self.state == State::Finished {
            return;
        }
        self.actions.clear();
        self.cancel_leg(now);
        self.finish(Outcome::CallerGone, None, now);
    }

    /// Whoever drives it has no place for what it releases: all work stops and the caller is told
    /// `fault` instead of what was not handed out yet. Not after the `Finish`.
    pub fn handle_no_place(&mut self, fault: Fault, now: Time) {
        self.actions.clear();
        self.cancel_leg(now);
        self.show.drop_waiting();
        self.finish(Outcome::Told(fault), None, now);
    }

    /// When [`Self::handle_timeout`] must be called at the latest; `None` once it is finished.
    pub fn poll_timeout(&self) -> Option<Time> {
        if self.state == State::Finished {
            return None;
        }
        let mut due = self.deadline();
        if let Some(leg) = &self.leg {
            due = due.min(leg.due());
        }
        if let State::Waiting(until) = self.state {
            due = due.min(until);
        }
        Some(
            self.heartbeat_due()
                .map_or(due, |heartbeat| due.min(heartbeat)),
        )
    }

    /// What to do next; `None` = wait for something to happen. `dice` gives evenly spread numbers.
    pub fn poll_action(
        &mut self,
        now: Time,
        health: &mut impl Health,
        dice: &mut impl FnMut() -> u64,
    ) -> Option<Action> {
        loop {
            for (target, report, probe) in self.reports.drain(..) {
                health.report(target, now, report, probe);
            }
            if let Some(action) = self.actions.pop_front() {
                return Some(action);
            }
            match self.state {
                State::Running if self.leg.as_ref().is_some_and(|leg| leg.ended.is_some()) => {
                    self.settle_leg(now, dice);
                }
                State::Choosing => self.choose(now, health),
                State::Waiting(until) if now >= until => self.state = State::Choosing,
                State::Running | State::Waiting(_) => return None,
                // The last reports are told above.
                State::Finished => return None,
            }
        }
    }

    /// Whether the one `Finish` was given or waits to be.
    pub fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// What happened, for the ledger. Complete once it is finished.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The target that is being asked now.
    pub fn current_target(&self) -> Option<usize> {
        self.leg.as_ref().map(|leg| leg.target)
    }

    fn leg_of(&mut self, attempt: u32) -> Option<&mut Leg> {
        self.leg
            .as_deref_mut()
            .filter(|leg| leg.attempt == attempt && leg.ended.is_none())
    }

    fn deadline(&self) -> Time {
        self.began + self.setup.policy.deadline
    }

    /// A streaming caller that saw nothing for a while gets a sign of life.
    fn heartbeat_due(&self) -> Option<Time> {
        let due = self.last_release + self.setup.policy.heartbeat;
        self.setup.wishes.stream.then_some(due)
    }

    fn take_released(&mut self, now: Time) {
        while let Some(bytes) = self.show.pop() {
            self.last_release = now;
            self.actions.push_back(Action::Release(bytes));
        }
    }

    fn finish(&mut self, outcome: Outcome, body: Option<Bytes>, now: Time) {
        self.state = State::Finished;
        self.record.close(
            &outcome,
            self.joins,
            self.show.losses(),
            now.since(self.began),
        );
        self.actions
            .push_back(Action::Finish(Finish { outcome, body }));
    }
}

/// The longest text that is continued by another call, which has to be given all of it.
const LONGEST_JOINED: usize = 1 << 20;

/// How much of what a streaming caller was shown has to be known.
fn text_limit(setup: &Setup) -> usize {
    if setup.policy.delivery == Delivery::Whole {
        return 0;
    }
    if setup.gate.is_some() {
        return setup.policy.answer_limit;
    }
    if setup.policy.join && setup.wishes.joinable {
        return LONGEST_JOINED;
    }
    0
}

/// The listener of a caller who gets the whole body at the end.
struct Deaf;

impl Listener for Deaf {
    fn event(&mut self, _: &holdfast_wire::turn::Event<'_>) {}
    fn frame_end(&mut self, _: Option<&holdfast_wire::sse::Frame>) {}
    fn held(&self) -> usize {
        0
    }
    fn is_raw(&self) -> bool {
        false
    }
    fn write_from_here(&mut self) {}
}
