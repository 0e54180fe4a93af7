//! Forgetting, counting, checking; clocks that jump.

use std::time::Duration;

use holdfast_core::time::Wall;
use holdfast_store::{
    ApprovalState, Asked, BookedExchange, Claimed, Decided, Decision, EffectEnd, EffectState,
    NewApproval, NewClaim, NewRun, NewTicket, Retention, RunState, Store, TicketClaim, TicketKind,
    TicketState,
};

use crate::home::{
    HOUR, Home, LEASE, NOW, answer, both, claim, effect, fresh, id, id_at, key, later, result,
    ticket, until,
};

both!(
    what_is_over_is_forgotten,
    undecided_tickets_expire,
    the_only_way_on_does_not_expire,
    counts_are_told,
    jumps_of_the_wall_clock_kill_nobody,
    a_closed_store_refuses,
    the_living_are_seen,
);

const DAY: i64 = 24 * HOUR;

async fn settle(store: &Store, now: Wall) -> u64 {
    let mut all = 0;
    loop {
        match store.expire(now, &Retention::default(), 2).await.unwrap() {
            0 => return all,
            some => all += some,
        }
    }
}

async fn what_is_over_is_forgotten(home: Home) {
    let store = home.open().await;
    for name in ["a", "b", "c"] {
        let fence = fresh(&store.claim_key(claim(name)).await.unwrap());
        store
            .complete_key(&key(name), fence, answer("x"), NOW, later(DAY))
            .await
            .unwrap();
    }
    fresh(&store.claim_key(claim("runs on")).await.unwrap());
    store.record_effect(effect("k")).await.unwrap();
    let sent = store.claim_effects("mail", NOW, 1).await.unwrap().remove(0);
    let done = EffectEnd::Done(result("sent"));
    store
        .finish_effect(&sent.id, sent.fence, done, NOW)
        .await
        .unwrap();
    store
        .begin_step("ann", "r", "s", later(1), NOW)
        .await
        .unwrap();
    store
        .end_run("ann", "r", RunState::Done, NOW)
        .await
        .unwrap();
    let booked = BookedExchange {
        // It began before it was booked.
        id: id_at(Wall(NOW.0 - 1)),
        at: NOW,
        scope: String::new(),
        route: String::new(),
        run: None,
        step: None,
        outcome: "whole".to_owned(),
        json: "{}".to_owned(),
    };
    store.book(vec![booked.clone()]).await.unwrap();
    let ticket_id = store
        .open_ticket(ticket(TicketKind::Call, "e"))
        .await
        .unwrap();
    let close = Decision::Close {
        note: String::new(),
    };
    store
        .decide(&ticket_id, None, "ann", close, NOW)
        .await
        .unwrap();

    assert_eq!(settle(&store, later(DAY - 1)).await, 0);
    assert_eq!(settle(&store, later(DAY)).await, 3);
    assert!(store.key(&key("a")).await.unwrap().is_none());
    assert!(store.key(&key("runs on")).await.unwrap().is_some());
    assert!(!store.events(0, None, 10).await.unwrap().is_empty());
    settle(&store, later(7 * DAY)).await;
    assert!(store.events(0, None, 10).await.unwrap().is_empty());
    assert!(store.exchange(&booked.id).await.unwrap().is_some());
    settle(&store, later(30 * DAY)).await;
    assert!(store.exchange(&booked.id).await.unwrap().is_none());
    assert!(store.effect(&sent.id).await.unwrap().is_some());
    assert!(store.ticket(&ticket_id).await.unwrap().is_some());
    settle(&store, later(90 * DAY)).await;
    assert!(store.effect(&sent.id).await.unwrap().is_none());
    assert!(store.ticket(&ticket_id).await.unwrap().is_none());
    assert!(store.run("ann", "r").await.unwrap().is_none());
    assert!(store.steps("ann", "r").await.unwrap().is_empty());
    assert!(store.check().await.unwrap().is_empty());
}

async fn undecided_tickets_expire(home: Home) {
    let store = home.open().await;
    let call = claim("k");
    let fence = fresh(&store.claim_key(call.clone()).await.unwrap());
    let new = ticket(TicketKind::Call, &call.exchange);
    let expires = new.expires;
    let made = store
        .ticket_key(&key("k"), fence, new, expires)
        .await
        .unwrap()
        .unwrap();
    let asked = NewApproval {
        id: id(),
        scope: "ann".to_owned(),
        key: None,
        fingerprint: [0; 32],
        question: "well?".to_owned(),
        choices: vec!["yes".to_owned()],
        default: None,
        deadline: None,
        context: serde_json::Value::Null,
        run: None,
        step: None,
        expires: later(DAY),
        now: NOW,
    };
    let Asked::Fresh(approval) = store.ask_approval(asked).await.unwrap() else {
        panic!("fresh");
    };
    let claimed = store
        .claim_ticket(&made, "ann", None, later(HOUR), NOW)
        .await
        .unwrap();
    assert!(matches!(claimed, TicketClaim::Claimed { .. }));
    // A claim past its end is shown as open again.
    assert_eq!(settle(&store, later(HOUR)).await, 1);
    assert_eq!(
        store.ticket(&made).await.unwrap().unwrap().state,
        TicketState::Open
    );
    settle(&store, later(DAY)).await;
    let state = store.approval(&approval.id).await.unwrap().unwrap().state;
    assert_eq!(state, ApprovalState::Expired);
    settle(&store, later(7 * DAY)).await;
    assert_eq!(
        store.ticket(&made).await.unwrap().unwrap().state,
        TicketState::Expired
    );
    let close = Decision::Close {
        note: String::new(),
    };
    let late = store
        .decide(&made, None, "ann", close, later(7 * DAY))
        .await
        .unwrap();
    assert_eq!(late, Decided::Conflict("it has expired".to_owned()));
    // Its key is free.
    fresh(&store.claim_key(claim("k")).await.unwrap());
    let kinds: Vec<_> = store
        .events(0, None, 100)
        .await
        .unwrap()
        .into_iter()
        .map(|event| event.kind)
        .collect();
    let count = |wanted: &str| kinds.iter().filter(|kind| *kind == wanted).count();
    // Whoever waits for the question's answer hears of it.
    assert_eq!(
        (count("ticket.expired"), count("approval.expired")),
        (2, 1),
        "{kinds:?}"
    );
}

/// An effect in doubt and an orphaned run can be decided by their tickets and by nothing else.
async fn the_only_way_on_does_not_expire(home: Home) {
    let store = home.open().await;
    store.record_effect(effect("k")).await.unwrap();
    let sent = store.claim_effects("mail", NOW, 1).await.unwrap().remove(0);
    let short = |kind, subject: &str| NewTicket {
        expires: later(DAY),
        ..ticket(kind, subject)
    };
    let doubt = EffectEnd::Doubt(short(TicketKind::Effect, &sent.id), "cut off".to_owned());
    store
        .finish_effect(&sent.id, sent.fence, doubt, NOW)
        .await
        .unwrap();
    let run = NewRun {
        scope: "ann".to_owned(),
        id: "r".to_owned(),
        expect: Vec::new(),
        deadline: Some(later(HOUR)),
        heartbeat: None,
        labels: std::collections::BTreeMap::default(),
        now: NOW,
    };
    store.declare_run(run).await.unwrap();
    let orphan = short(TicketKind::Run, "ann/r");
    let of_run = store.orphan_run("ann", "r", orphan, later(HOUR)).await;
    let of_run = of_run.unwrap().unwrap();
    settle(&store, later(1000 * DAY)).await;
    let of_effect = store.effect(&sent.id).await.unwrap().unwrap().ticket;
    let done = Decision::EffectDone {
        note: String::new(),
    };
    let failed = Decision::Choose {
        choice: "failed".to_owned(),
        note: String::new(),
    };
    for (id, decision) in [(of_effect.unwrap(), done), (of_run, failed)] {
        let decided = store
            .decide(&id, None, "ann", decision, later(1000 * DAY))
            .await;
        assert!(matches!(decided, Ok(Decided::Done(_))), "{decided:?}");
    }
    assert_eq!(store.check().await, Ok(Vec::new()));
}

async fn counts_are_told(home: Home) {
    let store = home.open().await;
    fresh(&store.claim_key(claim("k")).await.unwrap());
    store
        .open_ticket(ticket(TicketKind::Gate, "e"))
        .await
        .unwrap();
    store.record_effect(effect("k")).await.unwrap();
    store.touch_run("ann", "r", NOW).await.unwrap();
    let counts = store.counts().await.unwrap();
    assert_eq!(
        (counts.keys, counts.open_runs, counts.owners),
        (1, 2 - 1, 1)
    );
    assert_eq!(counts.tickets.get(&TicketKind::Gate), Some(&1));
    assert_eq!(counts.oldest_ticket, Some(NOW));
    assert_eq!(counts.effects.get(&EffectState::Recorded), Some(&1));
    assert_eq!(counts.events, 2);
    let status = store.status();
    assert!(status.healthy && status.operations > 3 && status.commits > 3);
    assert_eq!((status.failures, status.schema), (0, 2));
}

async fn jumps_of_the_wall_clock_kill_nobody(home: Home) {
    let one = home.open().await;
    let two = home.beside(&one).await;
    fresh(&one.claim_key(claim("k")).await.unwrap());
    one.record_effect(effect("k")).await.unwrap();
    one.claim_effects("mail", NOW, 1).await.unwrap();
    let start = std::time::Instant::now();
    // Two leases long, every moment an hour ahead or behind.
    while start.elapsed() < LEASE * 2 {
        for now in [later(HOUR), later(-HOUR)] {
            let jumped = NewClaim { now, ..claim("k") };
            let found = two.claim_key(jumped).await.unwrap();
            assert!(matches!(found, Claimed::Running { .. }));
            assert!(two.stranded_effects(10).await.unwrap().is_empty());
            two.expire(now, &Retention::default(), 10).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn a_closed_store_refuses(home: Home) {
    let store = home.open().await;
    fresh(&store.claim_key(claim("k")).await.unwrap());
    store.close().await;
    assert!(store.claim_key(claim("other")).await.is_err());
    assert!(store.key(&key("k")).await.is_err());
    store.close().await;
    // It took itself out: nothing has to be waited for.
    let next = home.open().await;
    fresh(&next.claim_key(claim("k")).await.unwrap());
    next.close().await;
}

async fn the_living_are_seen(home: Home) {
    if !home.is_postgres() {
        return;
    }
    let one = home.open().await;
    let two = home.process().await;
    assert_eq!(one.counts().await.unwrap().owners, 2);
    two.kill();
    until(async || (one.counts().await.unwrap().owners == 1).then_some(())).await;
}
