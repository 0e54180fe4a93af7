//! Tables of what fits and what follows, and a queue in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use super::retries::{Pace, Retries};
use super::*;

const KINDS: [Kind; 5] = [
    Kind::Call,
    Kind::Effect,
    Kind::Gate,
    Kind::Approval,
    Kind::Run,
];
const STATES: [State; 5] = [
    State::Open,
    State::Claimed,
    State::Retrying,
    State::Resolved,
    State::Expired,
];

fn about(kind: Kind) -> About {
    About {
        kind,
        awaited: true,
    }
}

#[test]
fn each_kind_takes_its_own_decisions() {
    let table = [
        (Kind::Call, "answer retry reject"),
        (Kind::Gate, "answer retry reject"),
        (Kind::Effect, "effect"),
        (Kind::Approval, "choose"),
        (Kind::Run, "close choose"),
    ];
    for (kind, fits) in table {
        let names: Vec<_> = fitting(about(kind))
            .iter()
            .map(|deed| deed.name())
            .collect();
        assert_eq!(names.join(" "), fits, "{kind:?}");
    }
    let unawaited = About {
        kind: Kind::Call,
        awaited: false,
    };
    assert!(fitting(unawaited).contains(&Deed::Close));
}

#[test]
fn a_decision_needs_the_claim_or_nobodys() {
    let claim = Some(Claim {
        fence: 7,
        until: Wall(100),
    });
    let table = [
        (State::Open, None, None, 50, Standing::Free),
        (State::Open, None, Some(7), 50, Standing::Lapsed),
        (State::Claimed, claim, Some(7), 99, Standing::Mine),
        (State::Claimed, claim, Some(6), 99, Standing::Held),
        (State::Claimed, claim, None, 99, Standing::Held),
        (State::Claimed, claim, Some(7), 100, Standing::Lapsed),
        (State::Claimed, claim, None, 100, Standing::Free),
        (State::Claimed, None, None, 0, Standing::Free),
        (State::Retrying, claim, Some(7), 50, Standing::Retrying),
        (State::Resolved, claim, Some(7), 50, Standing::Decided),
        (State::Expired, None, None, 50, Standing::Expired),
    ];
    for (state, claim, fence, now, expected) in table {
        let stands = standing(state, claim, fence, Wall(now));
        assert_eq!(stands, expected, "{state:?} {fence:?} at {now}");
    }
}

#[test]
fn what_does_not_fit_is_named_before_who_was_faster() {
    for standing in [Standing::Free, Standing::Decided] {
        assert_eq!(
            check(about(Kind::Effect), Deed::Answer, standing),
            Err(Refusal::Unfit(&[Deed::Effect]))
        );
    }
    assert_eq!(
        check(about(Kind::Call), Deed::Answer, Standing::Decided),
        Err(Refusal::Conflict(Standing::Decided))
    );
    assert_eq!(
        check(about(Kind::Call), Deed::Answer, Standing::Mine),
        Ok(())
    );
}

/// The decisions that a deed can come to.
fn decisions(deed: Deed) -> Vec<Decision<'static>> {
    match deed {
        Deed::Answer | Deed::Retry => vec![Decision::Answer],
        Deed::Reject => vec![Decision::Reject],
        Deed::Choose => RUN_CHOICES.map(Decision::Choose).to_vec(),
        Deed::Effect => vec![Decision::Done, Decision::NotDone, Decision::SendAgain],
        Deed::Close => vec![Decision::Close],
    }
}

#[test]
fn every_fitting_deed_has_a_consequence_and_no_other_has() {
    for kind in KINDS {
        for awaited in [true, false] {
            let about = About { kind, awaited };
            for deed in Deed::ALL {
                let fits = fitting(about).contains(&deed);
                for decision in decisions(deed) {
                    let follows = consequence(about, decision);
                    assert_eq!(follows.is_some(), fits, "{about:?} {decision:?}");
                }
            }
        }
    }
    assert_eq!(
        consequence(about(Kind::Run), Decision::Choose("maybe")),
        None
    );
}

#[test]
fn words_are_their_own() {
    let deeds: BTreeSet<_> = Deed::ALL.iter().map(|deed| deed.name()).collect();
    assert_eq!(deeds.len(), Deed::ALL.len());
}

proptest! {
    /// Of any two who want to decide one ticket with different fences, at most one may at any moment,
    /// and one who has a running claim always may.
    #[test]
    fn one_at_a_time(
        state in prop::sample::select(&STATES[..]),
        fence in 0_i64..3,
        until in 0_i64..10,
        said in prop::collection::btree_set(prop::option::of(0_i64..3), 2),
        now in 0_i64..10,
    ) {
        let claim = (state == State::Claimed).then_some(Claim { fence, until: Wall(until) });
        let may = |said: &Option<i64>| {
            matches!(standing(state, claim, *said, Wall(now)), Standing::Free | Standing::Mine)
        };
        prop_assert!(said.iter().filter(|said| may(said)).count() <= 1);
        if state == State::Claimed && until > now {
            prop_assert!(may(&Some(fence)) && !may(&None));
        }
    }

    /// A queue driven in virtual time: never two at once on a route, never more than `parallel`, each
    /// route in order of age, and rests at least as long as promised.
    #[test]
    fn a_queue_drains_slowly_and_in_order(
        calls in prop::collection::vec((0_u8..3, any::<bool>()), 1..40),
        parallel in 1_usize..4,
        takes in 1_u64..30,
    ) {
        let pace = Pace {
            interval: Duration::from_secs(10),
            cap: Duration::from_mins(1),
            parallel,
        };
        let names = ["a", "b", "c"];
        let mut retries = Retries::new(pace);
        let mut waiting: Vec<(usize, &str, bool)> = calls
            .iter()
            .enumerate()
            .map(|(id, (route, answered))| (id, names[usize::from(*route)], *answered))
            .collect();
        // (moment, route, Some(answered) = a call ends, None = a rest ends)
        let mut agenda: Vec<(u64, &str, Option<bool>)> = Vec::new();
        let mut ended: BTreeMap<&str, (u64, u32)> = BTreeMap::new();
        let mut last_of: BTreeMap<&str, usize> = BTreeMap::new();
        let mut now = 0;
        loop {
            while let Some(at) = waiting.iter().position(|(_, route, _)| retries.may_begin(route)) {
                let (id, route, answered) = waiting.remove(at);
                prop_assert!(last_of.insert(route, id).is_none_or(|last| last < id));
                if let Some((end, failures)) = ended.get(route) {
                    prop_assert!(now - end >= pace.rest(*failures).as_secs());
                }
                retries.begin(route);
                agenda.push((now + takes, route, Some(answered)));
            }
            let asking = agenda.iter().filter(|event| event.2.is_some()).count();
            prop_assert!(asking <= parallel);
            agenda.sort_unstable_by_key(|event| std::cmp::Reverse(event.0));
            let Some((at, route, what)) = agenda.pop() else { break };
            now = at;
            match what {
                Some(answered) => {
                    let failures = match ended.get(route) {
                        Some((_, failures)) if !answered => failures + 1,
                        _ => u32::from(!answered),
                    };
                    ended.insert(route, (now, failures));
                    let rest = retries.end(route, answered);
                    prop_assert_eq!(rest, pace.rest(failures));
                    agenda.push((now + rest.as_secs(), route, None));
                }
                None => retries.rested(route),
            }
        }
        prop_assert!(waiting.is_empty());
    }
}

#[test]
fn rests_double_up_to_the_cap() {
    let pace = Pace {
        interval: Duration::from_secs(10),
        cap: Duration::from_mins(1),
        parallel: 1,
    };
    let seconds: Vec<u64> = (0..6)
        .map(|failures| pace.rest(failures).as_secs())
        .collect();
    assert_eq!(seconds, [10, 20, 40, 60, 60, 60]);
    assert_eq!(pace.rest(u32::MAX).as_secs(), 60);
}

#[test]
fn a_route_that_rests_makes_room_for_another() {
    let mut retries = Retries::new(Pace {
        interval: Duration::from_secs(10),
        cap: Duration::from_mins(1),
        parallel: 0,
    });
    assert!(retries.may_begin("one"));
    retries.begin("one");
    assert!(!retries.may_begin("two"));
    retries.end("one", true);
    assert!(!retries.may_begin("one"));
    assert!(retries.may_begin("two"));
    retries.rested("one");
    assert!(retries.may_begin("one"));
}
