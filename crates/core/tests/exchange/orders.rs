//! Any order of events, late and doubled ones among them: one finish, and nothing after it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_core::breaker::Report;
use holdfast_core::exchange::{Action, Exchange, Finish, Head, Outcome, Send, Setup};
use holdfast_core::gate::Gated;
use holdfast_core::plan::{Health, Leave};
use holdfast_core::policy::{Policy, Target};
use holdfast_core::time::Time;
use proptest::prelude::*;

use crate::dice::Dice;
use crate::drive::{DELIVERIES, DIALECTS, once, target};
use crate::gated::Whim;
use crate::script::{Look, Script};
use crate::sight::Sight;

/// One thing that happens to an exchange.
#[derive(Clone, Debug)]
enum Step {
    Connected,
    SendFailed,
    Untranslatable,
    /// A head, by place in [`heads`].
    Head(u8),
    /// The next bytes of the answer, this many.
    Next(u16),
    Junk(u8),
    End(bool),
    Timeout,
    /// Time passes, and nobody calls.
    Wait(u16),
    Gone,
    Poll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Connected),
        1 => Just(Step::SendFailed),
        1 => Just(Step::Untranslatable),
        6 => (0..10_u8).prop_map(Step::Head),
        12 => (0..900_u16).prop_map(Step::Next),
        1 => (0..5_u8).prop_map(Step::Junk),
        3 => prop::bool::weighted(0.7).prop_map(Step::End),
        2 => Just(Step::Timeout),
        1 => (0..20_000_u16).prop_map(Step::Wait),
        1 => prop::bool::weighted(0.05).prop_map(|gone| if gone { Step::Gone } else { Step::Poll }),
        10 => Just(Step::Poll),
    ]
}

fn head(place: u8) -> Head {
    let (status, kind) = match place {
        0..=4 => (200, Some("text/event-stream")),
        5 => (200, None),
        6 => (200, Some("application/json")),
        7 => (500, None),
        8 => (429, Some("application/json")),
        _ => (400, Some("application/json")),
    };
    Head {
        status,
        content_type: kind.map(str::to_owned),
        ..Head::default()
    }
}

const JUNK: [&str; 5] = [
    "data: {\"half\":\n\n",
    ": alive\n\n",
    "<html>\n\n",
    "data: {\"error\":{\"message\":\"x\"}}\n\n",
    "\n\n\n",
];

/// Admits at random; counts what is admitted and reported.
struct Moody {
    dice: Dice,
    out: i64,
}

impl Health for Moody {
    fn admit(&mut self, _: usize, now: Time, again: bool) -> Leave {
        match self.dice.below(8) {
            0 => Leave::Open(now + Duration::from_secs(3)),
            1 if again => Leave::NoBudget,
            chance => {
                self.out += 1;
                Leave::Go { probe: chance == 2 }
            }
        }
    }

    fn report(&mut self, _: usize, _: Time, _: Report, _: bool) {
        self.out -= 1;
        assert!(self.out >= 0, "a report without an admission");
    }
}

struct Stage {
    setup: Setup,
    script: Script,
    exchange: Exchange,
    health: Moody,
    now: Time,
    look: Look,
    running: Option<u32>,
    /// The running attempt's head came.
    has_head: bool,
    attempts: u32,
    /// What the running attempt still has to say.
    rest: Bytes,
    /// A frame has just ended, or none began.
    between_frames: bool,
    shown: Vec<u8>,
    finish: Option<Finish>,
    polls: u32,
}

impl Stage {
    fn new(seed: u64) -> Self {
        Self::gated(seed, None)
    }

    fn gated(seed: u64, gate: Option<Gated>) -> Self {
        let mut dice = Dice::new(seed);
        let (caller, stream) = (dice.of(&DIALECTS), dice.percent(75));
        let targets: Vec<Target> = (0..=dice.below(3))
            .map(|_| Target {
                streams_plain_calls: dice.percent(70),
                ..target(dice.of(&DIALECTS))
            })
            .collect();
        let mut setup = once(caller, stream, caller, dice.of(&DELIVERIES));
        setup.policy = Policy {
            delivery: setup.policy.delivery,
            deadline: Duration::from_mins(2),
            ..Policy::default()
        };
        setup.wishes.joinable = dice.percent(80);
        setup.targets = targets;
        setup.gate = gate;
        Self {
            script: Script::any(&mut dice, 6),
            look: Look::any(&mut dice),
            exchange: Exchange::new(setup.clone(), Time::default()),
            setup,
            health: Moody { dice, out: 0 },
            now: Time::default(),
            running: None,
            has_head: false,
            attempts: 0,
            rest: Bytes::new(),
            between_frames: true,
            shown: Vec::new(),
            finish: None,
            polls: 0,
        }
    }

    fn step(&mut self, step: &Step, stale: bool) {
        // What is late speaks for an attempt that is over, or for one that never was.
        let attempt = match self.running {
            Some(running) if stale => running.wrapping_sub(1),
            running => running.unwrap_or(self.attempts),
        };
        let (exchange, now) = (&mut self.exchange, self.now);
        match step {
            Step::Connected => exchange.handle_connected(attempt, now),
            Step::SendFailed => exchange.handle_send_failed(attempt, "reset"),
            Step::Untranslatable => exchange.handle_untranslatable(attempt, "a tool"),
            Step::Head(place) => {
                self.has_head |= self.running == Some(attempt);
                exchange.handle_head(attempt, head(*place), now);
            }
            Step::Next(size) => {
                let size = usize::from(*size).min(self.rest.len());
                // Bytes that are late, or come before the head, are no part of this answer.
                let lost = stale || !self.has_head;
                let chunk = if lost {
                    self.rest.slice(..size)
                } else {
                    self.rest.split_to(size)
                };
                if !lost && size > 0 {
                    self.between_frames = chunk.ends_with(b"\n\n") || chunk.ends_with(b"\n\r\n");
                }
                exchange.handle_chunk(attempt, chunk, now);
            }
            // Within a frame it may make the next line one of an unknown field, which says nothing.
            Step::Junk(_) if !self.between_frames => self.poll(),
            Step::Junk(place) => {
                exchange.handle_chunk(attempt, JUNK[usize::from(*place)].into(), now);
            }
            Step::End(clean) => {
                let end = if *clean {
                    Ok(())
                } else {
                    Err("reset".to_owned())
                };
                exchange.handle_end(attempt, end, now);
            }
            Step::Timeout => {
                if let Some(due) = exchange.poll_timeout() {
                    self.now = now.max(due);
                }
                exchange.handle_timeout(self.now);
            }
            Step::Wait(millis) => self.now = now + Duration::from_millis((*millis).into()),
            Step::Gone => exchange.handle_caller_gone(now),
            Step::Poll => self.poll(),
        }
    }

    fn poll(&mut self) {
        let mut turns = 0;
        loop {
            let dice = &mut Dice::new(u64::from(self.polls));
            self.polls += 1;
            let Some(action) = self
                .exchange
                .poll_action(self.now, &mut self.health, &mut || dice.next())
            else {
                return;
            };
            turns += 1;
            assert!(turns < 10_000, "the exchange never rests");
            assert!(self.finish.is_none(), "{action:?} after the finish");
            match action {
                Action::Send(send) => self.send(&send),
                Action::Abort { attempt } => assert_eq!(self.running.take(), Some(attempt)),
                Action::Release(bytes) => self.shown.extend_from_slice(&bytes),
                Action::Finish(finish) => self.finish = Some(finish),
            }
        }
    }

    fn send(&mut self, send: &Send) {
        assert_eq!(self.running, None, "two attempts at once");
        self.running = Some(send.attempt);
        self.has_head = false;
        self.between_frames = true;
        self.attempts += 1;
        let dialect = self.setup.targets[send.target].dialect;
        let from = match &send.ask {
            holdfast_core::exchange::Ask::Continue { shown } => {
                assert!(self.script.text.starts_with(shown.as_str()));
                shown.len()
            }
            _ => 0,
        };
        self.rest = if send.stream {
            self.script.frames(dialect, self.look, from).concat().into()
        } else {
            self.script.body(dialect, from).into()
        };
    }

    /// Everything in turn, and what comes after the end, which moves nothing.
    fn play(mut self, steps: &[(Step, bool)], after: &[Step]) -> Self {
        for (step, stale) in steps {
            self.step(step, *stale);
        }
        self.wait_for_the_end();
        self.check();
        let shown = self.shown.len();
        for step in after {
            self.step(step, false);
            self.poll();
        }
        assert_eq!(self.shown.len(), shown);
        assert_eq!(self.exchange.poll_timeout(), None);
        self
    }

    /// Time runs on until the exchange has ended.
    fn wait_for_the_end(&mut self) {
        let mut turns = 0;
        self.poll();
        while let Some(due) = self.exchange.poll_timeout() {
            turns += 1;
            assert!(turns < 1000, "the exchange never ends");
            self.now = self.now.max(due);
            self.exchange.handle_timeout(self.now);
            self.poll();
        }
    }

    fn check(&self) {
        let finish = self.finish.as_ref().expect("a finish");
        assert!(self.exchange.is_finished());
        assert_eq!(self.health.out, 0, "an admission without its report");
        let caller = self.setup.wishes.dialect;
        let sight = match &finish.body {
            Some(body) => Sight::of_body(caller, body),
            None => Sight::of(caller, &self.shown),
        };
        assert_eq!(sight.wrongs, Vec::<String>::new());
        assert!(
            self.script.text.starts_with(&sight.text),
            "{:?}",
            sight.text
        );
        let delivered = matches!(finish.outcome, Outcome::Delivered(_));
        assert_eq!(sight.is_whole(caller), delivered);
        if delivered {
            assert_eq!(sight.text, self.script.text);
            assert_eq!(sight.calls.len(), self.script.calls.len());
        } else {
            assert_eq!(self.running, None, "a vendor works for nobody");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn every_order_of_events_gives_one_finish_and_one_coherent_answer(
        seed: u64,
        steps in prop::collection::vec((step(), prop::bool::weighted(0.05)), 0..36),
        after in prop::collection::vec(step(), 0..6),
    ) {
        Stage::new(seed).play(&steps, &after);
    }

    #[test]
    fn every_order_of_events_under_a_gate_of_many_minds(
        seed: u64,
        asks in 0..3_u32,
        steps in prop::collection::vec((step(), prop::bool::weighted(0.05)), 0..60),
        after in prop::collection::vec(step(), 0..6),
    ) {
        let gate = Arc::new(Whim::new(seed, 50));
        let gated = Gated { gate: gate.clone(), asks };
        let stage = Stage::gated(seed, Some(gated));
        let stage = stage.play(&steps, &after);
        gate.check_end(&stage.setup, &stage.finish.as_ref().unwrap().outcome, stage.exchange.record());
    }
}
