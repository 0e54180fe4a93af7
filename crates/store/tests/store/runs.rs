//! Runs and steps: what is done is not done again, and what went quiet is somebody's.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_store::{
    Begun, Decided, Decision, Failure, MAX_FAILURES, NewRun, Run, RunFilter, RunState, StepState,
    Store, TicketKind, TicketState,
};
use tokio::task::JoinSet;

use crate::home::{HOUR, Home, NOW, both, later, ticket};

both!(
    a_run_is_made_by_its_first_use,
    a_step_is_done_once,
    a_lease_that_ended_is_taken_over,
    of_many_who_begin_one_does,
    a_quiet_run_is_an_orphan,
    an_orphan_that_speaks_is_none,
    a_person_decides_about_an_orphan,
    a_resumed_run_is_watched_as_before,
    an_orphan_that_is_declared_anew_is_watched,
    attempts_that_came_to_nothing_are_remembered,
    runs_are_listed_newest_first,
);

async fn found(store: &Store, id: &str) -> Run {
    store.run("ann", id).await.unwrap().unwrap()
}

fn declared(id: &str) -> NewRun {
    NewRun {
        scope: "ann".to_owned(),
        id: id.to_owned(),
        expect: vec!["draft".to_owned(), "send".to_owned()],
        deadline: Some(later(HOUR)),
        heartbeat: Some(Duration::from_mins(1)),
        labels: BTreeMap::from([("team".to_owned(), "x".to_owned())]),
        now: NOW,
    }
}

async fn a_run_is_made_by_its_first_use(home: Home) {
    let store = home.open().await;
    store.touch_run("ann", "r", NOW).await.unwrap();
    let run = found(&store, "r").await;
    assert_eq!(
        (run.state, run.declared, run.seen),
        (RunState::Open, false, NOW)
    );
    store.touch_run("ann", "r", later(10)).await.unwrap();
    // The clock jumps back: what was seen was seen.
    store.touch_run("ann", "r", later(-HOUR)).await.unwrap();
    assert_eq!(found(&store, "r").await.seen, later(10));
    let run = store.declare_run(declared("r")).await.unwrap();
    assert_eq!((run.declared, run.created), (true, NOW));
    assert_eq!(
        (run.expect.len(), run.heartbeat),
        (2, Some(Duration::from_mins(1)))
    );
    assert_eq!(store.run("ben", "r").await, Ok(None));
    let signs = [("q", 1), ("r", 11)];
    let signs = signs.map(|(id, at)| ("ann".to_owned(), id.to_owned(), later(at)));
    store.touch_runs(signs.to_vec()).await.unwrap();
    assert_eq!(found(&store, "q").await.seen, later(1));
    assert_eq!(found(&store, "r").await.seen, later(11));
    assert_eq!(
        store.end_run("ann", "r", RunState::Orphaned, NOW).await,
        Ok(false)
    );
    assert_eq!(
        store.end_run("ann", "r", RunState::Done, later(20)).await,
        Ok(true)
    );
    assert_eq!(
        store.end_run("ann", "r", RunState::Failed, later(30)).await,
        Ok(false)
    );
    let run = found(&store, "r").await;
    assert_eq!((run.state, run.ended), (RunState::Done, Some(later(20))));
}

async fn a_step_is_done_once(home: Home) {
    let store = home.open().await;
    let begin = async |now| {
        let begun = store
            .begin_step("ann", "r", "draft", later(1000), now)
            .await;
        begun.unwrap()
    };
    let first = begin(NOW).await;
    assert_eq!(first, Begun::Begun { fence: 1 });
    assert_eq!(
        begin(later(999)).await,
        Begun::Running { until: later(1000) }
    );
    let fail = store
        .fail_step("ann", "r", "draft", 1, "no luck", NOW)
        .await;
    assert_eq!(fail, Ok(true));
    assert_eq!(begin(NOW).await, Begun::Begun { fence: 2 });
    let late = store
        .complete_step("ann", "r", "draft", 1, b"old".to_vec(), NOW)
        .await;
    assert_eq!(late, Ok(false));
    for _ in 0..2 {
        let done = store
            .complete_step("ann", "r", "draft", 2, b"text".to_vec(), NOW)
            .await;
        assert_eq!(done, Ok(true));
    }
    let Begun::Done(step) = begin(NOW).await else {
        panic!("done");
    };
    assert_eq!(
        (step.result.as_deref(), step.attempts),
        (Some(b"text".as_slice()), 2)
    );
    let kept = store.step("ann", "r", "draft").await.unwrap().unwrap();
    assert_eq!(kept, step);
    let steps = store.steps("ann", "r").await.unwrap();
    assert_eq!(
        (steps.len(), &steps[0].result, steps[0].state),
        (1, &None, StepState::Done)
    );
    assert_eq!(store.step("ann", "r", "none").await, Ok(None));
    assert_eq!(found(&store, "r").await.state, RunState::Open);
}

async fn a_lease_that_ended_is_taken_over(home: Home) {
    let store = home.open().await;
    store
        .begin_step("ann", "r", "s", later(1000), NOW)
        .await
        .unwrap();
    let next = store
        .begin_step("ann", "r", "s", later(2000), later(1000))
        .await;
    assert_eq!(next, Ok(Begun::Begun { fence: 2 }));
    let late = store
        .complete_step("ann", "r", "s", 1, Vec::new(), later(1001))
        .await;
    assert_eq!(late, Ok(false));
    let done = store
        .complete_step("ann", "r", "s", 2, Vec::new(), later(5000))
        .await;
    assert_eq!(done, Ok(true));
}

async fn of_many_who_begin_one_does(home: Home) {
    let one = home.open().await;
    let two = home.beside(&one).await;
    let mut beginning = JoinSet::new();
    for caller in 0..32 {
        let store = if caller % 2 == 0 { &one } else { &two }.clone();
        beginning.spawn(async move {
            store
                .begin_step("ann", "r", "s", later(1000), NOW)
                .await
                .unwrap()
        });
    }
    let all = beginning.join_all().await;
    let begun = all
        .iter()
        .filter(|one| matches!(one, Begun::Begun { .. }))
        .count();
    let running = all
        .iter()
        .filter(|one| matches!(one, Begun::Running { .. }))
        .count();
    assert_eq!((begun, running), (1, 31));
}

/// An orphan and its ticket.
async fn orphan(store: &Store, id: &str, now: holdfast_core::time::Wall) -> String {
    let made = store
        .orphan_run(
            "ann",
            id,
            ticket(TicketKind::Run, &format!("ann/{id}")),
            now,
        )
        .await;
    made.unwrap().unwrap()
}

async fn a_quiet_run_is_an_orphan(home: Home) {
    let store = home.open().await;
    store.declare_run(declared("r")).await.unwrap();
    store.touch_run("ann", "undeclared", NOW).await.unwrap();
    let quiet = async |now| {
        let runs = store.quiet_runs(now, 10).await.unwrap();
        runs.into_iter().map(|run| run.id).collect::<Vec<_>>()
    };
    assert!(quiet(later(59_999)).await.is_empty());
    assert_eq!(quiet(later(60_000)).await, ["r"]);
    store.touch_run("ann", "r", later(60_000)).await.unwrap();
    assert!(quiet(later(60_001)).await.is_empty());
    let early = ticket(TicketKind::Run, "ann/r");
    assert_eq!(
        store.orphan_run("ann", "r", early, later(60_001)).await,
        Ok(None)
    );
    let made = orphan(&store, "r", later(HOUR)).await;
    let run = found(&store, "r").await;
    assert_eq!(
        (run.state, run.ticket.as_deref()),
        (RunState::Orphaned, Some(made.as_str()))
    );
    assert!(quiet(later(2 * HOUR)).await.is_empty());
    // Its end is also its ticket's.
    assert_eq!(
        store
            .end_run("ann", "r", RunState::Done, later(2 * HOUR))
            .await,
        Ok(true)
    );
    let kept = store.ticket(&made).await.unwrap().unwrap();
    assert_eq!(kept.state, TicketState::Resolved);
}

async fn an_orphan_that_speaks_is_none(home: Home) {
    let store = home.open().await;
    store.declare_run(declared("r")).await.unwrap();
    let made = orphan(&store, "r", later(60_000)).await;
    store.touch_run("ann", "r", later(61_000)).await.unwrap();
    assert_eq!(found(&store, "r").await.state, RunState::Open);
    let kept = store.ticket(&made).await.unwrap().unwrap();
    assert_eq!(
        (kept.state, kept.decided_by.as_deref()),
        (TicketState::Resolved, Some("run"))
    );
    // Past its deadline it stays one.
    orphan(&store, "r", later(HOUR)).await;
    store.touch_run("ann", "r", later(HOUR + 1)).await.unwrap();
    assert_eq!(found(&store, "r").await.state, RunState::Orphaned);
}

async fn a_person_decides_about_an_orphan(home: Home) {
    let store = home.open().await;
    for (choice, state) in [
        ("done", RunState::Done),
        ("failed", RunState::Failed),
        ("resume", RunState::Open),
    ] {
        store.declare_run(declared(choice)).await.unwrap();
        let made = orphan(&store, choice, later(HOUR)).await;
        let choose = |choice: &str| Decision::Choose {
            choice: choice.to_owned(),
            note: String::new(),
        };
        let refused = store
            .decide(&made, None, "ann", choose("dance"), later(HOUR))
            .await;
        assert!(matches!(refused, Ok(Decided::Conflict(_))));
        let decided = store
            .decide(&made, None, "ann", choose(choice), later(HOUR))
            .await;
        assert!(matches!(decided, Ok(Decided::Done(_))));
        assert_eq!(found(&store, choice).await.state, state);
    }
    assert!(
        store
            .quiet_runs(later(HOUR + 1), 10)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn runs_are_listed_newest_first(home: Home) {
    let store = home.open().await;
    for number in 0..10 {
        let scope = ["ann", "ben"][usize::try_from(number % 2).unwrap()];
        // Two of them at one moment each.
        store
            .touch_run(scope, &format!("r{number}"), later(number / 2))
            .await
            .unwrap();
    }
    let mut seen = Vec::new();
    let mut after = None;
    loop {
        let page = RunFilter {
            after: after.clone(),
            limit: 3,
            ..RunFilter::default()
        };
        let page = store.runs(&page).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.cursor());
        seen.extend(page.into_iter().map(|run| run.id));
    }
    assert_eq!(
        seen,
        ["r9", "r8", "r7", "r6", "r5", "r4", "r3", "r2", "r1", "r0"]
    );
    let of_ben = RunFilter {
        scope: Some("ben".to_owned()),
        state: Some(RunState::Open),
        ..RunFilter::default()
    };
    assert_eq!(store.runs(&of_ben).await.unwrap().len(), 5);
}

fn choose(choice: &str) -> Decision {
    Decision::Choose {
        choice: choice.to_owned(),
        note: String::new(),
    }
}

async fn a_resumed_run_is_watched_as_before(home: Home) {
    let store = home.open().await;
    let minute = 60_000;
    // An hour for the one; the other's deadline was over before it began.
    for (id, deadline, resumed) in [
        ("long", HOUR, 2 * HOUR + 5),
        ("late", -1, HOUR + 5 + minute),
    ] {
        let new = NewRun {
            deadline: Some(later(deadline)),
            heartbeat: None,
            ..declared(id)
        };
        store.declare_run(new).await.unwrap();
        let made = orphan(&store, id, later(HOUR)).await;
        let decided = store
            .decide(&made, None, "ann", choose("resume"), later(HOUR + 5))
            .await;
        assert!(matches!(decided, Ok(Decided::Done(_))));
        assert_eq!(found(&store, id).await.deadline, Some(later(resumed)));
        let quiet = store.quiet_runs(later(resumed), 10).await.unwrap();
        assert!(quiet.iter().any(|run| run.id == id), "{id}: {quiet:?}");
        orphan(&store, id, later(resumed)).await;
    }
}

async fn an_orphan_that_is_declared_anew_is_watched(home: Home) {
    let store = home.open().await;
    for (id, is_closed) in [("closed", true), ("open", false)] {
        store.declare_run(declared(id)).await.unwrap();
        let made = orphan(&store, id, later(HOUR)).await;
        if is_closed {
            let close = Decision::Close {
                note: String::new(),
            };
            let closed = store.decide(&made, None, "ann", close, later(HOUR)).await;
            assert!(matches!(closed, Ok(Decided::Done(_))));
            assert_eq!(found(&store, id).await.state, RunState::Orphaned);
        }
        let anew = NewRun {
            deadline: Some(later(3 * HOUR)),
            heartbeat: None,
            now: later(2 * HOUR),
            ..declared(id)
        };
        let run = store.declare_run(anew).await.unwrap();
        assert_eq!((run.state, &run.ticket), (RunState::Open, &None));
        assert_eq!(found(&store, id).await, run);
        let kept = store.ticket(&made).await.unwrap().unwrap();
        assert_eq!(kept.state, TicketState::Resolved);
        // It dies before its first step.
        let quiet = store.quiet_runs(later(3 * HOUR), 10).await.unwrap();
        assert_eq!(quiet, [run]);
        assert_ne!(orphan(&store, id, later(3 * HOUR)).await, made);
    }
}

async fn attempts_that_came_to_nothing_are_remembered(home: Home) {
    let store = home.open().await;
    let long = "é".repeat(300);
    for attempt in 0..i64::try_from(MAX_FAILURES).unwrap() + 3 {
        let (begun, at) = (later(attempt * 100), later(attempt * 100 + 50));
        let fresh = store.begin_step("ann", "r", "s", at, begun).await;
        assert_eq!(fresh, Ok(Begun::Begun { fence: attempt + 1 }));
        // Every other one is only silent.
        if attempt % 2 == 0 {
            let failed = store
                .fail_step("ann", "r", "s", attempt + 1, &long, at)
                .await;
            assert_eq!(failed, Ok(true));
        }
    }
    let step = store.step("ann", "r", "s").await.unwrap().unwrap();
    assert_eq!(step.failures.len(), MAX_FAILURES);
    let last = step.failures.last().unwrap();
    let count = i64::try_from(MAX_FAILURES).unwrap() + 3;
    let expected = Failure {
        attempt: count,
        begun: later((count - 1) * 100),
        at: later((count - 1) * 100 + 50),
        lapsed: false,
        error: "é".repeat(200),
    };
    assert_eq!(last, &expected);
    let silent = &step.failures[step.failures.len() - 2];
    assert_eq!(
        (silent.attempt, silent.lapsed, silent.error.as_str()),
        (count - 1, true, "")
    );
    assert_eq!(silent.at, later((count - 2) * 100 + 50));
    assert_eq!(step.error.as_deref(), Some(long.as_str()));
    assert_eq!(
        store.steps("ann", "r").await.unwrap()[0].failures,
        step.failures
    );
    let done = store.begin_step("ann", "r", "s", later(HOUR), NOW).await;
    assert_eq!(done, Ok(Begun::Begun { fence: count + 1 }));
    let done = store
        .complete_step("ann", "r", "s", count + 1, Vec::new(), NOW)
        .await;
    assert_eq!(done, Ok(true));
    let step = store.step("ann", "r", "s").await.unwrap().unwrap();
    assert_eq!(
        step.failures.last(),
        Some(&expected),
        "a result forgets none"
    );
}
