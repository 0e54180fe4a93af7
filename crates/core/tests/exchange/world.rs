//! Whole outages in virtual time: many callers, shared breakers and budgets, vendors that fail.

use std::time::Duration;

use holdfast_core::breaker::{self, Breaker, Report};
use holdfast_core::budget::{self, Budget};
use holdfast_core::exchange::{Action, Exchange, Finish, Outcome, Record, Setup};
use holdfast_core::gate::Gated;
use holdfast_core::judge::Verdict;
use holdfast_core::plan::{Health, Leave};
use holdfast_core::policy::Delivery;
use holdfast_core::time::Time;
use holdfast_wire::turn::{Dialect, StopKind};
use serde_json::Value;

use crate::dice::Dice;
use crate::script::Script;
use crate::sight::{Sight, parses};
use crate::vendor::{Fault, Feed, Happening, answer};

/// What all callers share: breakers, budgets, and how often each target was asked.
#[derive(Debug)]
pub(crate) struct Healths {
    targets: Vec<(Breaker, Budget)>,
    /// Admitted and not yet reported.
    pub(crate) out: Vec<i64>,
    pub(crate) first_asks: u64,
    pub(crate) repeats: u64,
}

impl Healths {
    pub(crate) fn new(targets: usize) -> Self {
        let fresh = || {
            let budget = Budget::new(budget::Terms::default(), Time::default());
            (Breaker::new(breaker::Terms::default()), budget)
        };
        Self {
            targets: std::iter::repeat_with(fresh).take(targets).collect(),
            out: vec![0; targets],
            first_asks: 0,
            repeats: 0,
        }
    }
}

impl Health for Healths {
    fn admit(&mut self, target: usize, now: Time, again: bool) -> Leave {
        let (breaker, budget) = &mut self.targets[target];
        if again && !budget.withdraw(now) {
            return Leave::NoBudget;
        }
        let leave = Leave::from(breaker.admit(now));
        if matches!(leave, Leave::Go { .. }) {
            if !again {
                budget.deposit(now);
            }
            self.out[target] += 1;
            self.first_asks += u64::from(!again);
            self.repeats += u64::from(again);
        }
        leave
    }

    fn report(&mut self, target: usize, now: Time, report: Report, probe: bool) {
        self.out[target] -= 1;
        assert!(self.out[target] >= 0, "a report without an admission");
        self.targets[target].0.report(now, report, probe);
    }
}

/// How a target behaves towards one call.
pub(crate) type Mood<'a> = &'a dyn Fn(usize, Time, &mut Dice) -> (Fault, Duration);

/// One caller.
pub(crate) struct Call {
    pub(crate) setup: Setup,
    pub(crate) script: Script,
    pub(crate) began: Time,
    exchange: Exchange,
    feed: Feed,
    /// When the running attempt was sent, and its number.
    sent: Option<(Time, u32)>,
    /// How often each target was asked.
    pub(crate) asked: Vec<u32>,
    pub(crate) shown: Vec<u8>,
    pub(crate) finish: Option<(Time, Finish)>,
    gone: Option<Time>,
}

impl Call {
    pub(crate) fn new(setup: Setup, script: Script, now: Time, gone: Option<Time>) -> Self {
        Self {
            exchange: Exchange::new(setup.clone(), now),
            asked: vec![0; setup.targets.len()],
            setup,
            script,
            began: now,
            feed: Feed::new(),
            sent: None,
            shown: Vec::new(),
            finish: None,
            gone,
        }
    }

    /// Puts a gate before the caller. Before anything has happened.
    pub(crate) fn gate(&mut self, gated: Gated) {
        self.setup.gate = Some(gated);
        self.exchange = Exchange::new(self.setup.clone(), self.began);
    }

    pub(crate) fn record(&self) -> &Record {
        self.exchange.record()
    }

    /// Whether the caller hangs up at some time.
    pub(crate) fn may_leave(&self) -> bool {
        self.gone.is_some()
    }

    /// When something happens to this call next.
    pub(crate) fn next(&self) -> Option<Time> {
        let feed = self
            .feed
            .front()
            .zip(self.sent)
            .map(|((after, _), (sent, _))| sent + *after);
        let timeout = self.exchange.poll_timeout()?;
        Some(
            [feed, self.gone]
                .into_iter()
                .flatten()
                .fold(timeout, Time::min),
        )
    }

    /// Lets happen what is due, and acts on it.
    pub(crate) fn step(
        &mut self,
        now: Time,
        healths: &mut Healths,
        mood: Mood<'_>,
        dice: &mut Dice,
    ) {
        let due = self
            .feed
            .front()
            .zip(self.sent)
            .filter(|((after, _), (sent, _))| *sent + *after <= now);
        if self.gone.is_some_and(|gone| gone <= now) {
            self.exchange.handle_caller_gone(now);
            self.gone = None;
        } else if let Some((_, (_, attempt))) = due {
            let (_, what) = self.feed.pop_front().unwrap();
            self.happen(attempt, what, now);
        } else if self.exchange.poll_timeout().is_some_and(|due| due <= now) {
            self.exchange.handle_timeout(now);
        }
        self.act(now, healths, mood, dice);
    }

    fn happen(&mut self, attempt: u32, what: Happening, now: Time) {
        let exchange = &mut self.exchange;
        match what {
            Happening::Connected => exchange.handle_connected(attempt, now),
            Happening::SendFailed => exchange.handle_send_failed(attempt, "refused"),
            Happening::Untranslatable => exchange.handle_untranslatable(attempt, "a tool"),
            Happening::Head(head) => exchange.handle_head(attempt, head, now),
            Happening::Chunk(chunk) => exchange.handle_chunk(attempt, chunk, now),
            Happening::End(end) => exchange.handle_end(attempt, end, now),
        }
    }

    fn act(&mut self, now: Time, healths: &mut Healths, mood: Mood<'_>, dice: &mut Dice) {
        let mut turns = 0;
        loop {
            let mut roll = || dice.next();
            let Some(action) = self.exchange.poll_action(now, healths, &mut roll) else {
                break;
            };
            turns += 1;
            assert!(turns < 10_000, "the exchange never rests");
            assert!(self.finish.is_none(), "{action:?} after the finish");
            match action {
                Action::Send(send) => {
                    assert_eq!(self.sent, None, "two attempts at once");
                    self.asked[send.target] += 1;
                    let dialect = self.setup.targets[send.target].dialect;
                    let (fault, step) = mood(send.target, now, dice);
                    self.feed = answer(&self.script, dialect, &send, fault, step, dice);
                    self.sent = Some((now, send.attempt));
                }
                Action::Abort { attempt } => {
                    assert_eq!(self.sent.map(|(_, running)| running), Some(attempt));
                    self.sent = None;
                    self.feed.clear();
                }
                Action::Release(bytes) => {
                    assert!(self.setup.wishes.stream && !bytes.is_empty());
                    self.shown.extend_from_slice(&bytes);
                }
                Action::Finish(finish) => self.finish = Some((now, finish)),
            }
        }
    }

    fn caller(&self) -> Dialect {
        self.setup.wishes.dialect
    }

    /// Holds this call's end against the script, by what the caller saw alone.
    pub(crate) fn judge(&self) {
        let (at, finish) = self.finish.as_ref().expect("a finish");
        assert!(
            *at <= self.began + self.setup.policy.deadline,
            "late: {at:?}"
        );
        assert!(self.asked.iter().sum::<u32>() <= self.setup.policy.max_attempts);
        let asks = self.setup.gate.as_ref().map_or(0, |gated| gated.asks);
        for asked in &self.asked {
            assert!(*asked <= self.setup.policy.attempts_per_target + asks);
        }
        let sight = match &finish.body {
            None => Sight::of(self.caller(), &self.shown),
            Some(body) => Sight::of_body(self.caller(), body),
        };
        assert_eq!(sight.wrongs, Vec::<String>::new(), "{self:?}");
        let stream = self.setup.wishes.stream;
        match &finish.outcome {
            Outcome::Delivered(verdict) => {
                assert_eq!(finish.body.is_none(), stream);
                self.judge_whole(verdict, &sight);
            }
            Outcome::Told(_) | Outcome::CallerGone => {
                assert_eq!(finish.body, None);
                assert_eq!(self.sent, None, "a vendor works for nobody");
                self.judge_part(&sight);
            }
        }
    }

    fn judge_whole(&self, verdict: &Verdict, sight: &Sight) {
        assert!(sight.is_whole(self.caller()), "not whole: {self:?}");
        let expected = match self.script.stop {
            StopKind::EndTurn => Verdict::Whole,
            StopKind::ToolUse => Verdict::Tools,
            StopKind::MaxTokens => Verdict::Limit,
            _ => Verdict::Refused,
        };
        assert_eq!(*verdict, expected);
        assert_eq!(sight.text, self.script.text, "{self:?}");
        assert_eq!(
            calls(sight),
            self.script.calls.iter().map(call).collect::<Vec<_>>(),
            "{self:?}"
        );
        let word = match (self.caller(), self.script.stop) {
            (Dialect::Anthropic, StopKind::EndTurn) => "end_turn",
            (Dialect::Anthropic, StopKind::ToolUse) => "tool_use",
            (Dialect::Anthropic, StopKind::MaxTokens) => "max_tokens",
            (Dialect::Anthropic, _) => "refusal",
            (Dialect::OpenAi, StopKind::EndTurn) => "stop",
            (Dialect::OpenAi, StopKind::ToolUse) => "tool_calls",
            (Dialect::OpenAi, StopKind::MaxTokens) => "length",
            (Dialect::OpenAi, _) => "content_filter",
        };
        assert_eq!(sight.stop.as_deref(), Some(word));
    }

    fn judge_part(&self, sight: &Sight) {
        assert!(!sight.is_whole(self.caller()), "a silent half: {self:?}");
        assert!(
            sight.stop.is_none() && !sight.ended,
            "an end without an answer: {self:?}"
        );
        assert!(
            self.script.text.starts_with(&sight.text),
            "{:?}: {self:?}",
            sight.text
        );
        assert!(
            self.script.thinking.starts_with(&sight.thinking),
            "{self:?}"
        );
        match self.setup.policy.delivery {
            Delivery::Whole => assert_eq!(*sight, Sight::default(), "shown too early"),
            Delivery::Guarded => {
                let whole: Vec<_> = self.script.calls.iter().map(call).collect();
                for (_, _, json) in &sight.calls {
                    assert!(parses(json), "half a call: {self:?}");
                }
                assert!(whole.starts_with(&calls(sight)), "{self:?}");
            }
            Delivery::Live => {}
        }
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{:?} {:?}", self.setup.policy, self.setup.wishes)?;
        writeln!(f, "meant {:?}", self.script)?;
        writeln!(f, "asked {:?}, ended {:?}", self.asked, self.finish)?;
        writeln!(f, "record {:#?}", self.exchange.record())?;
        write!(f, "shown:\n{}", String::from_utf8_lossy(&self.shown))
    }
}

/// Name and arguments of a call; arguments by what they mean.
fn call((name, arguments): &(String, String)) -> (String, Value) {
    let arguments = if arguments.trim().is_empty() {
        "{}"
    } else {
        arguments
    };
    (
        name.clone(),
        serde_json::from_str(arguments).unwrap_or(Value::Null),
    )
}

fn calls(sight: &Sight) -> Vec<(String, Value)> {
    sight
        .calls
        .iter()
        .map(|(_, name, json)| call(&(name.clone(), json.clone())))
        .collect()
}

/// Runs calls that arrive at their own times until all have ended, and judges each.
pub(crate) fn run(
    calls: Vec<Call>,
    healths: &mut Healths,
    mood: Mood<'_>,
    dice: &mut Dice,
) -> Vec<Call> {
    let mut waiting = calls;
    waiting.sort_by_key(|call| std::cmp::Reverse(call.began));
    let mut live: Vec<Call> = Vec::new();
    let mut done = Vec::new();
    let mut turns = 0;
    loop {
        turns += 1;
        assert!(turns < 2_000_000, "the world never rests");
        let next = live
            .iter()
            .enumerate()
            .filter_map(|(place, call)| Some((call.next()?, place)))
            .min();
        let arrival = waiting.last().map(|call| call.began);
        let place = match (next, arrival) {
            (None, None) => break,
            (Some((at, place)), arrival) if arrival.is_none_or(|arrival| at < arrival) => {
                live[place].step(at, healths, mood, dice);
                place
            }
            _ => {
                let call = waiting.pop().unwrap();
                live.push(call);
                let now = arrival.unwrap();
                live.last_mut().unwrap().act(now, healths, mood, dice);
                live.len() - 1
            }
        };
        if live[place].finish.is_some() {
            let call = live.swap_remove(place);
            call.judge();
            done.push(call);
        }
    }
    assert!(live.is_empty(), "a call that never ends");
    assert!(
        healths.out.iter().all(|out| *out == 0),
        "an admission without its report"
    );
    done
}
