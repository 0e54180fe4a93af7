//! The load: the same calls at the same moments on both sides, whatever became of those before.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::client::{self, Answer};
use super::plan::{Ask, Plan};
use super::tally::Tally;
use super::verdict::{Outcome, judge};

/// How long a program waits for something new.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);
/// How often the progress is shown.
const SHOWN: Duration = Duration::from_millis(200);
/// As many answers that are not whole are kept for the report.
const EXAMPLES: usize = 20;

/// The two ways to ask.
pub(super) const SIDES: [&str; 2] = ["straight", "through Holdfast"];

/// What has become of all calls so far: straight, and through Holdfast.
#[derive(Debug)]
pub(super) struct Board {
    pub(super) tallies: [Tally; 2],
    /// The first answers through Holdfast that are not whole; broken promises push out told errors.
    pub(super) failed: Vec<Failed>,
    pub(super) elapsed: Duration,
}

/// An answer through Holdfast that is not whole.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) ask: Ask,
    pub(super) outcome: Outcome,
    pub(super) answer: Answer,
}

struct Ended {
    side: usize,
    ask: Ask,
    answer: Answer,
}

/// Plays the whole plan against both addresses and waits for the last answer.
pub(super) async fn play(
    plan: &Plan,
    sides: [SocketAddr; 2],
    mut show: impl FnMut(&Board),
) -> Board {
    let mut board = Board {
        tallies: [Tally::new(), Tally::new()],
        failed: Vec::new(),
        elapsed: Duration::ZERO,
    };
    let began = Instant::now();
    let mut ticks = interval(plan.pause());
    // Late calls are made up for: both sides get the same number in every run.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut shows = interval(SHOWN);
    shows.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut running = JoinSet::new();
    let mut next = 0;
    while next < plan.count() || !running.is_empty() {
        tokio::select! {
            _ = ticks.tick(), if next < plan.count() => {
                let ask = plan.ask(next);
                next += 1;
                for (side, address) in sides.into_iter().enumerate() {
                    board.tallies[side].asked += 1;
                    running.spawn(async move {
                        let answer = client::call(address, &ask, PATIENCE).await;
                        Ended { side, ask, answer }
                    });
                }
            }
            Some(ended) = running.join_next() => {
                let ended = ended.expect("invariant: a call neither panics nor is aborted");
                board.take(plan, ended);
            }
            _ = shows.tick() => {
                board.elapsed = began.elapsed();
                show(&board);
            }
        }
    }
    board.elapsed = began.elapsed();
    show(&board);
    board
}

impl Board {
    fn take(&mut self, plan: &Plan, ended: Ended) {
        let Ended { side, ask, answer } = ended;
        let outcome = judge(&ask, &answer.held, answer.end);
        let share = f64::from(ask.number) / f64::from(plan.count());
        self.tallies[side].count(share, outcome, answer.end, answer.took);
        if side == 1 && outcome != Outcome::Whole {
            self.failed.push(Failed {
                ask,
                outcome,
                answer,
            });
            self.failed
                .sort_by_key(|failed| !failed.outcome.is_broken_promise());
            self.failed.truncate(EXAMPLES);
        }
    }

    /// Holdfast was asked, and no program was left with half an answer, a wrong one or none.
    pub(super) fn is_kept(&self) -> bool {
        let through = &self.tallies[1];
        through.asked > 0 && through.broken_promises() == 0
    }
}
