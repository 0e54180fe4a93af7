use proptest::prelude::*;

use super::*;

const LEASE: Duration = Duration::from_secs(10);

const fn step(state: State) -> Step {
    Step {
        state,
        fence: 3,
        until: Wall(10),
    }
}

#[test]
fn what_beginning_means_in_each_state() {
    let go = |fence| Begin::Go { fence };
    let busy = Begin::Busy { until: Wall(10) };
    // (the step, within the lease, at its end, after it)
    let table = [
        (None, [go(1), go(1), go(1)]),
        (Some(step(State::Running)), [busy, go(4), go(4)]),
        (Some(step(State::Failed)), [go(4), go(4), go(4)]),
        (Some(step(State::Done)), [Begin::Done; 3]),
    ];
    for (step, expected) in table {
        let found = [9, 10, 11].map(|now| begin(step, Wall(now)));
        assert_eq!(found, expected, "{step:?}");
    }
}

#[test]
fn what_ending_means_in_each_state() {
    use End::{Accepted, FencedOff, Known, Missing};
    // (the step, complete with an old fence, its own and a later one; the same for fail)
    let table = [
        (None, [Missing; 3], [Missing; 3]),
        (
            Some(step(State::Running)),
            [FencedOff, Accepted, FencedOff],
            [FencedOff, Accepted, FencedOff],
        ),
        (
            Some(step(State::Done)),
            [FencedOff, Known, FencedOff],
            [FencedOff; 3],
        ),
        (
            Some(step(State::Failed)),
            [FencedOff; 3],
            [FencedOff, Known, FencedOff],
        ),
    ];
    for (step, completed, failed) in table {
        assert_eq!(
            [2, 3, 4].map(|fence| complete(step, fence)),
            completed,
            "{step:?}"
        );
        assert_eq!([2, 3, 4].map(|fence| fail(step, fence)), failed, "{step:?}");
    }
}

#[test]
fn a_run_is_an_orphan_past_its_deadline_or_after_silence() {
    let life = |deadline: Option<i64>, heartbeat: Option<u64>| Life {
        deadline: deadline.map(Wall),
        heartbeat: heartbeat.map(Duration::from_millis),
        seen: Wall(100),
    };
    let late = |millis| {
        Some(Orphan::Overdue {
            late: Duration::from_millis(millis),
        })
    };
    let quiet = |millis| {
        Some(Orphan::Quiet {
            silence: Duration::from_millis(millis),
        })
    };
    let table = [
        (life(None, None), 1_000_000, None),
        (life(Some(200), None), 199, None),
        (life(Some(200), None), 200, late(0)),
        (life(Some(200), None), 250, late(50)),
        (life(None, Some(50)), 149, None),
        (life(None, Some(50)), 150, quiet(50)),
        (life(Some(200), Some(50)), 160, quiet(60)),
        (life(Some(200), Some(50)), 210, late(10)),
        // A clock that was turned back makes nobody an orphan.
        (life(None, Some(50)), 0, None),
    ];
    for (life, now, expected) in table {
        assert_eq!(orphan(life, Wall(now)), expected, "{life:?} at {now}");
    }
}

#[test]
fn what_is_missing_keeps_the_order_of_what_was_expected() {
    let expect = ["a", "b", "c"].map(str::to_owned);
    assert_eq!(missing(&expect, &["b", "x"]), ["a", "c"]);
    assert!(missing(&expect, &["c", "a", "b"]).is_empty());
}

#[test]
fn names_are_bounded() {
    assert_eq!(run_name("nightly 7"), Ok("nightly 7".to_owned()));
    assert!(run_name(&"é".repeat(128)).is_ok());
    for name in ["", " ", "a\nb", "a\u{7f}", &"x".repeat(129)] {
        assert!(step_name(name).is_err(), "{name:?}");
    }
}

/// What one of two workers does with the fence that it got last, or time passes.
#[derive(Clone, Copy, Debug)]
enum Move {
    Begin(usize),
    Complete(usize),
    Fail(usize),
    Pass(u64),
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        (0_usize..2).prop_map(Move::Begin),
        (0_usize..2).prop_map(Move::Complete),
        (0_usize..2).prop_map(Move::Fail),
        (1_u64..15).prop_map(Move::Pass),
    ]
}

proptest! {
    /// Two workers, leases that end, anything in any order: a result is accepted at most once, never
    /// changes, and only ever under the newest fence; never do two hold a living lease.
    #[test]
    fn a_result_is_accepted_once_and_stays(moves in prop::collection::vec(any_move(), 1..60)) {
        let mut kept: Option<Step> = None;
        let mut now = Wall(0);
        let mut fences = [0_i64; 2];
        let mut results: Vec<(usize, i64)> = Vec::new();
        let mut highest = 0;
        for made in moves {
            match made {
                Move::Pass(seconds) => now = now + Duration::from_secs(seconds),
                Move::Begin(worker) => match begin(kept, now) {
                    Begin::Go { fence } => {
                        prop_assert!(results.is_empty(), "a done step was begun again");
                        prop_assert!(fence > highest, "a fence was given twice");
                        let held = kept.is_some_and(|step| {
                            step.state == State::Running && now < step.until
                        });
                        prop_assert!(!held, "a living lease was taken");
                        highest = fence;
                        fences[worker] = fence;
                        let until = now + LEASE;
                        kept = Some(Step { state: State::Running, fence, until });
                    }
                    Begin::Busy { until } => prop_assert!(until > now),
                    Begin::Done => prop_assert_eq!(results.len(), 1),
                },
                Move::Complete(worker) => match complete(kept, fences[worker]) {
                    End::Accepted => {
                        prop_assert_eq!(fences[worker], highest);
                        results.push((worker, fences[worker]));
                        kept = kept.map(|step| Step { state: State::Done, ..step });
                    }
                    End::Known => prop_assert_eq!(&results, &[(worker, fences[worker])]),
                    End::FencedOff | End::Missing => {}
                },
                Move::Fail(worker) => {
                    if fail(kept, fences[worker]) == End::Accepted {
                        prop_assert!(results.is_empty(), "a result was undone");
                        kept = kept.map(|step| Step { state: State::Failed, ..step });
                    }
                }
            }
            prop_assert!(results.len() <= 1);
            let is_done = kept.is_some_and(|step| step.state == State::Done);
            prop_assert_eq!(is_done, results.len() == 1);
        }
    }
}
