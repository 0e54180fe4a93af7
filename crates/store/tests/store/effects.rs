//! Effects: recorded first, sent by one, and where nobody knows, a person's.

use holdfast_core::time::Wall;
use holdfast_store::{
    Decided, Decision, Effect, EffectEnd, EffectFilter, EffectState, NewEffect, Recorded,
    TicketKind,
};
use tokio::task::JoinSet;

use crate::home::{HOUR, Home, NOW, both, effect, later, result, ticket, until};

both!(
    an_effect_is_recorded_once,
    two_stores_never_send_one_twice,
    an_effect_ends_well,
    a_failed_sending_is_tried_again,
    what_the_dead_were_sending_is_stranded,
    doubt_is_decided_by_a_person,
    cancelling_races_with_sending,
    an_attempt_meanwhile_keeps_it_from_being_cancelled,
    a_claim_that_nobody_heard_of_is_given_back,
    effects_are_listed,
);

fn recorded(recorded: Recorded) -> Effect {
    match recorded {
        Recorded::Fresh(effect) => effect,
        other => panic!("not fresh: {other:?}"),
    }
}

async fn an_effect_is_recorded_once(home: Home) {
    let store = home.open().await;
    let new = effect("k");
    let first = recorded(store.record_effect(new.clone()).await.unwrap());
    assert_eq!((first.state, first.attempts), (EffectState::Recorded, 0));
    assert_eq!(
        (&first.payload, &first.headers),
        (&new.payload, &new.headers)
    );
    assert_eq!(first.requires, ["e1"]);
    let again = store.record_effect(effect("k")).await;
    assert_eq!(again, Ok(Recorded::Known(first.clone())));
    let other = NewEffect {
        fingerprint: [1; 32],
        ..effect("k")
    };
    assert_eq!(store.record_effect(other).await, Ok(Recorded::Mismatch));
    assert_eq!(store.effect(&first.id).await, Ok(Some(first.clone())));
    assert_eq!(store.effect("none").await, Ok(None));
    // A key is forgotten after its time, but never one that was not sent.
    let much_later = NewEffect {
        now: later(25 * HOUR),
        expires: later(48 * HOUR),
        ..effect("k")
    };
    let known = store.record_effect(much_later.clone()).await.unwrap();
    assert!(matches!(known, Recorded::Known(_)));
    store.cancel_effect(&first.id, 0, NOW).await.unwrap();
    recorded(store.record_effect(much_later).await.unwrap());
}

async fn two_stores_never_send_one_twice(home: Home) {
    let one = home.open().await;
    let two = home.beside(&one).await;
    for number in 0..100 {
        one.record_effect(effect(&format!("k{number}")))
            .await
            .unwrap();
    }
    assert_eq!(
        one.waiting_targets(10).await,
        Ok(vec![("mail".to_owned(), NOW)])
    );
    let mut claims = JoinSet::new();
    for caller in 0..40 {
        let store = if caller % 2 == 0 { &one } else { &two }.clone();
        claims.spawn(async move { store.claim_effects("mail", NOW, 7).await.unwrap() });
    }
    let mut sent: Vec<_> = claims.join_all().await.into_iter().flatten().collect();
    // A lock in another's hands is passed over: the rest comes with the next round.
    sent.extend(one.claim_effects("mail", NOW, 100).await.unwrap());
    assert!(
        sent.iter()
            .all(|effect| effect.state == EffectState::Sending && effect.attempts == 1)
    );
    let mut ids: Vec<_> = sent.iter().map(|effect| effect.id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!((sent.len(), ids.len()), (100, 100));
    assert_eq!(one.waiting_targets(10).await, Ok(Vec::new()));
    assert_eq!(one.stranded_effects(100).await, Ok(Vec::new()));
}

/// The one effect that is due.
async fn taken(store: &holdfast_store::Store, now: Wall) -> Effect {
    let mut claimed = store.claim_effects("mail", now, 10).await.unwrap();
    assert_eq!(claimed.len(), 1);
    claimed.remove(0)
}

async fn an_effect_ends_well(home: Home) {
    let store = home.open().await;
    recorded(store.record_effect(effect("k")).await.unwrap());
    let sent = taken(&store, NOW).await;
    assert_eq!(sent.payload, b"dear");
    let end = EffectEnd::Done(result("sent"));
    let wrong = store
        .finish_effect(&sent.id, sent.fence + 1, end.clone(), NOW)
        .await;
    assert_eq!(wrong, Ok(false));
    // Twice: the first time's answer may have got lost.
    for _ in 0..2 {
        let ended = store
            .finish_effect(&sent.id, sent.fence, end.clone(), NOW)
            .await;
        assert_eq!(ended, Ok(true));
    }
    let other = EffectEnd::Failed {
        error: "no".to_owned(),
        result: None,
    };
    assert_eq!(
        store.finish_effect(&sent.id, sent.fence, other, NOW).await,
        Ok(false)
    );
    let kept = store.effect(&sent.id).await.unwrap().unwrap();
    assert_eq!(
        (kept.state, kept.result),
        (EffectState::Done, Some(result("sent")))
    );
    assert_eq!(
        store.claim_effects("mail", later(HOUR), 10).await,
        Ok(Vec::new())
    );
    let cancelled = store
        .cancel_effect(&sent.id, 1, NOW)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(cancelled.state, EffectState::Done);
}

async fn a_failed_sending_is_tried_again(home: Home) {
    let store = home.open().await;
    recorded(store.record_effect(effect("k")).await.unwrap());
    let sent = taken(&store, NOW).await;
    let retry = EffectEnd::Retry {
        due: later(5000),
        error: "refused".to_owned(),
    };
    assert_eq!(
        store.finish_effect(&sent.id, sent.fence, retry, NOW).await,
        Ok(true)
    );
    assert_eq!(
        store.waiting_targets(10).await,
        Ok(vec![("mail".to_owned(), later(5000))])
    );
    assert_eq!(
        store.claim_effects("mail", later(4999), 10).await,
        Ok(Vec::new())
    );
    let again = taken(&store, later(5000)).await;
    assert_eq!((again.attempts, again.fence), (2, sent.fence + 1));
    let late = EffectEnd::Done(result("late"));
    assert_eq!(
        store.finish_effect(&sent.id, sent.fence, late, NOW).await,
        Ok(false)
    );
    let failed = EffectEnd::Failed {
        error: "gone".to_owned(),
        result: Some(result("410")),
    };
    assert_eq!(
        store
            .finish_effect(&again.id, again.fence, failed, NOW)
            .await,
        Ok(true)
    );
    let kept = store.effect(&sent.id).await.unwrap().unwrap();
    assert_eq!(
        (kept.state, kept.error.as_deref()),
        (EffectState::Failed, Some("gone"))
    );
    assert_eq!(kept.result, Some(result("410")));
}

async fn what_the_dead_were_sending_is_stranded(home: Home) {
    let process = home.process().await;
    recorded(process.store.record_effect(effect("k")).await.unwrap());
    let sent = taken(&process.store, NOW).await;
    process.kill();
    let store = home.reopen().await;
    let mut stranded = until(async || {
        let stranded = store.stranded_effects(10).await.unwrap();
        (!stranded.is_empty()).then_some(stranded)
    })
    .await;
    let found = stranded.remove(0);
    assert_eq!((&found.id, found.fence), (&sent.id, sent.fence + 1));
    assert_eq!(found.state, EffectState::Sending);
    assert_eq!(store.stranded_effects(10).await, Ok(Vec::new()));
    assert_eq!(
        store.claim_effects("mail", later(HOUR), 10).await,
        Ok(Vec::new())
    );
    let again = EffectEnd::Retry {
        due: NOW,
        error: "its sender died".to_owned(),
    };
    assert_eq!(
        store
            .finish_effect(&found.id, found.fence, again, NOW)
            .await,
        Ok(true)
    );
    assert_eq!(taken(&store, NOW).await.attempts, 2);
}

async fn doubt_is_decided_by_a_person(home: Home) {
    let store = home.open().await;
    let decisions = [
        (
            Decision::EffectDone {
                note: "seen".to_owned(),
            },
            EffectState::Done,
        ),
        (
            Decision::EffectNotDone {
                note: "not there".to_owned(),
            },
            EffectState::Failed,
        ),
        (
            Decision::EffectSendAgain {
                note: "once more".to_owned(),
            },
            EffectState::Recorded,
        ),
    ];
    for (decision, state) in decisions {
        recorded(store.record_effect(effect(state.as_str())).await.unwrap());
        let sent = taken(&store, NOW).await;
        let doubt = EffectEnd::Doubt(ticket(TicketKind::Effect, &sent.id), "cut off".to_owned());
        assert_eq!(
            store.finish_effect(&sent.id, sent.fence, doubt, NOW).await,
            Ok(true)
        );
        let kept = store.effect(&sent.id).await.unwrap().unwrap();
        assert_eq!(kept.state, EffectState::Doubt);
        let id = kept.ticket.unwrap();
        assert_eq!(
            store.claim_effects("mail", later(HOUR), 10).await,
            Ok(Vec::new())
        );
        let close = Decision::Close {
            note: String::new(),
        };
        let refused = store.decide(&id, None, "ann", close, NOW).await.unwrap();
        assert!(matches!(refused, Decided::Conflict(_)));
        let decided = store.decide(&id, None, "ann", decision, NOW).await.unwrap();
        assert!(matches!(decided, Decided::Done(_)), "{decided:?}");
        assert_eq!(store.effect(&sent.id).await.unwrap().unwrap().state, state);
    }
    let again = taken(&store, NOW).await;
    assert_eq!(again.attempts, 2);
}

async fn an_attempt_meanwhile_keeps_it_from_being_cancelled(home: Home) {
    let store = home.open().await;
    let seen = recorded(store.record_effect(effect("k")).await.unwrap());
    let sent = taken(&store, NOW).await;
    let retry = EffectEnd::Retry {
        due: NOW,
        error: "lost".to_owned(),
    };
    let ended = store.finish_effect(&sent.id, sent.fence, retry, NOW).await;
    assert_eq!(ended, Ok(true));
    let state = async |attempts| {
        let found = store.cancel_effect(&seen.id, attempts, NOW).await;
        found.unwrap().unwrap().state
    };
    assert_eq!(state(seen.attempts).await, EffectState::Recorded);
    assert_eq!(state(1).await, EffectState::Cancelled);
}

async fn cancelling_races_with_sending(home: Home) {
    let one = home.open().await;
    let two = home.beside(&one).await;
    for round in 0..30 {
        let new = recorded(
            one.record_effect(effect(&format!("k{round}")))
                .await
                .unwrap(),
        );
        let (cancelled, sent) = tokio::join!(
            one.cancel_effect(&new.id, 0, NOW),
            two.claim_effects("mail", NOW, 10)
        );
        let state = cancelled.unwrap().unwrap().state;
        let sent = sent.unwrap();
        match state {
            EffectState::Cancelled => assert!(sent.is_empty()),
            EffectState::Sending => assert_eq!(sent.len(), 1),
            other => panic!("{other}"),
        }
    }
    assert_eq!(one.cancel_effect("none", 0, NOW).await, Ok(None));
}

async fn a_claim_that_nobody_heard_of_is_given_back(home: Home) {
    let store = home.open().await;
    recorded(store.record_effect(effect("k")).await.unwrap());
    tokio::select! {
        biased;
        _ = store.claim_effects("mail", NOW, 10) => {}
        () = std::future::ready(()) => {}
    }
    let mut sent = until(async || {
        let sent = store.claim_effects("mail", NOW, 10).await.unwrap();
        (!sent.is_empty()).then_some(sent)
    })
    .await;
    // Nothing had been sent.
    assert_eq!(sent.remove(0).attempts, 1);
}

async fn effects_are_listed(home: Home) {
    let store = home.open().await;
    for number in 0..12 {
        let new = NewEffect {
            scope: ["ann", "ben"][number % 2].to_owned(),
            target: ["mail", "shop", "bank"][number % 3].to_owned(),
            run: Some(format!("r{}", number % 4)),
            ..effect(&format!("k{number}"))
        };
        recorded(store.record_effect(new).await.unwrap());
    }
    let count = async |filter: EffectFilter| {
        let found = store.effects(&filter).await.unwrap();
        assert!(found.iter().all(|effect| effect.payload.is_empty()));
        assert!(found.is_sorted_by(|one, other| one.id > other.id));
        found.len()
    };
    let all = EffectFilter::default;
    assert_eq!(count(all()).await, 12);
    let scope = Some("ann".to_owned());
    assert_eq!(count(EffectFilter { scope, ..all() }).await, 6);
    let target = Some("shop".to_owned());
    assert_eq!(count(EffectFilter { target, ..all() }).await, 4);
    let run = Some("r1".to_owned());
    assert_eq!(
        count(EffectFilter {
            run,
            limit: 2,
            ..all()
        })
        .await,
        2
    );
    let state = Some(EffectState::Done);
    assert_eq!(count(EffectFilter { state, ..all() }).await, 0);
}
