//! Keys: one of many gets one, and what became of it is told to the others.

use std::collections::BTreeSet;

use holdfast_core::time::Wall;
use holdfast_store::{Claimed, Error, KeyState, NewClaim, TicketKind, TicketState};
use tokio::task::JoinSet;

use crate::home::{HOUR, Home, NOW, answer, both, claim, fresh, id, key, later, ticket, until};

both!(
    a_key_is_run_once_and_replayed,
    another_request_is_a_mismatch,
    an_expired_key_is_new,
    a_completed_key_expires_as_it_was_claimed_to_or_as_told,
    of_64_claims_one_is_fresh,
    a_released_key_is_free,
    the_dead_lose_their_keys,
    a_call_in_review_comes_back,
    an_asynchronous_call_goes_on_elsewhere,
    an_accepted_call_stays_one,
    what_is_given_back_is_free,
    a_claim_that_nobody_heard_of_is_given_back,
    names_have_a_limit,
    a_claim_is_a_sign_of_its_run,
);

async fn a_key_is_run_once_and_replayed(home: Home) {
    let store = home.open().await;
    let first = claim("k");
    let fence = fresh(&store.claim_key(first.clone()).await.unwrap());
    let again = store.claim_key(claim("k")).await.unwrap();
    assert_eq!(
        again,
        Claimed::Running {
            owner: store.owner().to_owned(),
            fence,
            exchange: first.exchange.clone(),
        }
    );
    let row = store.key(&key("k")).await.unwrap().unwrap();
    assert!(matches!(row.state, KeyState::Running { alive: true, .. }));
    let stored = answer("whole \0 \u{1f980}");
    let wrong = store
        .complete_key(&key("k"), fence + 1, stored.clone(), NOW, later(HOUR))
        .await;
    assert_eq!(wrong, Ok(false));
    // Twice: the first time's answer may have got lost.
    for _ in 0..2 {
        let done = store
            .complete_key(&key("k"), fence, stored.clone(), NOW, later(HOUR))
            .await;
        assert_eq!(done, Ok(true));
    }
    let replayed = home.beside(&store).await.claim_key(claim("k")).await;
    assert_eq!(replayed, Ok(Claimed::Done(stored.clone())));
    let row = store.key(&key("k")).await.unwrap().unwrap();
    assert_eq!(row.state, KeyState::Done(stored));
    assert_eq!(row.expires, later(HOUR));
    assert_eq!(store.key(&key("other")).await, Ok(None));
    assert_eq!(store.release_key(&key("k"), fence).await, Ok(false));
}

async fn another_request_is_a_mismatch(home: Home) {
    let store = home.open().await;
    fresh(&store.claim_key(claim("k")).await.unwrap());
    let other = NewClaim {
        fingerprint: [8; 32],
        ..claim("k")
    };
    assert_eq!(store.claim_key(other.clone()).await, Ok(Claimed::Mismatch));
    // Another caller's key is another key.
    let mut foreign = other;
    foreign.id.scope = "ben".to_owned();
    fresh(&store.claim_key(foreign).await.unwrap());
}

async fn an_expired_key_is_new(home: Home) {
    let store = home.open().await;
    let fence = fresh(&store.claim_key(claim("k")).await.unwrap());
    // A living owner keeps its key, however the wall clock jumps.
    let jumped = NewClaim {
        now: later(25 * HOUR),
        ..claim("k")
    };
    let found = store.claim_key(jumped.clone()).await.unwrap();
    assert!(matches!(found, Claimed::Running { .. }));
    let done = store
        .complete_key(&key("k"), fence, answer("a"), NOW, later(24 * HOUR))
        .await;
    assert_eq!(done, Ok(true));
    let just_before = NewClaim {
        now: later(24 * HOUR - 1),
        ..claim("k")
    };
    let found = store.claim_key(just_before).await.unwrap();
    assert!(matches!(found, Claimed::Done(_)));
    let other = NewClaim {
        fingerprint: [8; 32],
        now: later(24 * HOUR),
        expires: later(48 * HOUR),
        ..claim("k")
    };
    let next = fresh(&store.claim_key(other).await.unwrap());
    assert_ne!(next, fence);
    let late = store
        .complete_key(&key("k"), fence, answer("a"), NOW, later(HOUR))
        .await;
    assert_eq!(late, Ok(false));
}

async fn a_completed_key_expires_as_it_was_claimed_to_or_as_told(home: Home) {
    let store = home.open().await;
    let steps = |name: &str| NewClaim {
        step: Some("s".to_owned()),
        ..claim(name)
    };
    for (name, new, told, expires) in [
        ("as claimed", claim("as claimed"), None, later(24 * HOUR)),
        ("told", claim("told"), Some(later(HOUR)), later(HOUR)),
        ("a step", steps("a step"), None, later(24 * HOUR)),
    ] {
        let fence = fresh(&store.claim_key(new).await.unwrap());
        let (id, stored) = (key(name), answer(name));
        let complete = |fence| store.complete_key(&id, fence, stored.clone(), NOW, told);
        assert_eq!(complete(fence + 1).await, Ok(false), "{name}");
        assert_eq!(complete(fence).await, Ok(true), "{name}");
        assert_eq!(complete(fence).await, Ok(true), "{name}, once more");
        let row = store.key(&key(name)).await.unwrap().unwrap();
        assert_eq!(row.state, KeyState::Done(stored), "{name}");
        assert_eq!(row.expires, expires, "{name}");
        assert_eq!(row.step.is_some(), name == "a step");
    }
}

async fn of_64_claims_one_is_fresh(home: Home) {
    let one = home.open().await;
    let two = home.beside(&one).await;
    for round in 0..5 {
        let mut claims = JoinSet::new();
        for caller in 0..64 {
            let store = if caller % 2 == 0 { &one } else { &two }.clone();
            let name = format!("k{round}");
            claims.spawn(async move { store.claim_key(claim(&name)).await.unwrap() });
        }
        let all = claims.join_all().await;
        let won: Vec<_> = all
            .iter()
            .filter(|claimed| matches!(claimed, Claimed::Fresh { .. }))
            .collect();
        assert_eq!(won.len(), 1);
        let exchanges: BTreeSet<_> = all
            .iter()
            .filter_map(|claimed| match claimed {
                Claimed::Running { exchange, .. } => Some(exchange),
                _ => None,
            })
            .collect();
        assert_eq!(exchanges.len(), 1);
    }
}

async fn a_released_key_is_free(home: Home) {
    let store = home.open().await;
    let fence = fresh(&store.claim_key(claim("k")).await.unwrap());
    assert_eq!(store.release_key(&key("k"), fence + 1).await, Ok(false));
    assert_eq!(store.release_key(&key("k"), fence).await, Ok(true));
    let next = fresh(&store.claim_key(claim("k")).await.unwrap());
    // The fence of a key that is gone fits no later one.
    assert_ne!(fence, next);
    let late = store
        .complete_key(&key("k"), fence, answer("a"), NOW, later(HOUR))
        .await;
    assert_eq!(late, Ok(false));
}

async fn the_dead_lose_their_keys(home: Home) {
    let process = home.process().await;
    let fence = fresh(&process.store.claim_key(claim("k")).await.unwrap());
    let done = fresh(&process.store.claim_key(claim("done")).await.unwrap());
    process
        .store
        .complete_key(&key("done"), done, answer("a"), NOW, later(HOUR))
        .await
        .unwrap();
    process.kill();
    let store = home.reopen().await;
    // Known before its owner counts as dead, and taken over after.
    let next = until(async || match store.claim_key(claim("k")).await.unwrap() {
        Claimed::Fresh { fence } => Some(fence),
        Claimed::Running { .. } => None,
        other => panic!("{other:?}"),
    })
    .await;
    assert_eq!(next, fence + 1);
    let late = store
        .complete_key(&key("k"), fence, answer("old"), NOW, later(HOUR))
        .await;
    assert_eq!(late, Ok(false));
    let found = store.claim_key(claim("done")).await.unwrap();
    assert!(matches!(found, Claimed::Done(_)));
}

async fn a_call_in_review_comes_back(home: Home) {
    let store = home.open().await;
    let first = claim("k");
    let fence = fresh(&store.claim_key(first.clone()).await.unwrap());
    let mut new = ticket(TicketKind::Call, &first.exchange);
    new.not_before = later(1000);
    let expires = new.expires;
    let wrong = store
        .ticket_key(&key("k"), fence + 1, new.clone(), expires)
        .await;
    assert_eq!(wrong, Ok(None));
    let made = store
        .ticket_key(&key("k"), fence, new.clone(), expires)
        .await
        .unwrap()
        .unwrap();
    let found = store.claim_key(claim("k")).await.unwrap();
    let is_ticketed =
        |found: &Claimed| matches!(found, Claimed::Ticketed { ticket, .. } if *ticket == made);
    assert!(is_ticketed(&found));
    // Too early; and while somebody has it.
    assert!(is_ticketed(
        &store.reopen_key(&key("k"), &id(), None, NOW).await.unwrap()
    ));
    let next = store
        .reopen_key(&key("k"), "second", None, later(1000))
        .await
        .unwrap();
    let second = fresh(&next);
    assert!(second > fence);
    let state = store.ticket(&made).await.unwrap().unwrap().state;
    assert_eq!(state, TicketState::Retrying);
    let found = store
        .reopen_key(&key("k"), &id(), None, later(1000))
        .await
        .unwrap();
    assert!(matches!(found, Claimed::Running { exchange, .. } if exchange == "second"));
    // It fails again: the same ticket, one attempt more.
    new.subject = "second".to_owned();
    new.not_before = NOW;
    let again = store
        .ticket_key(&key("k"), second, new, expires)
        .await
        .unwrap();
    assert_eq!(again.as_deref(), Some(made.as_str()));
    let kept = store.ticket(&made).await.unwrap().unwrap();
    assert_eq!((kept.attempts, kept.state), (2, TicketState::Open));
    assert_eq!(kept.content.as_deref(), Some(b"the request".as_slice()));
    // And it is given up once, and answered in the end.
    let third = fresh(
        &store
            .reopen_key(&key("k"), "third", None, NOW)
            .await
            .unwrap(),
    );
    assert_eq!(store.release_key(&key("k"), third).await, Ok(true));
    assert!(is_ticketed(&store.claim_key(claim("k")).await.unwrap()));
    let last = fresh(
        &store
            .reopen_key(&key("k"), "last", None, NOW)
            .await
            .unwrap(),
    );
    let done = store
        .complete_key(&key("k"), last, answer("at last"), NOW, later(HOUR))
        .await;
    assert_eq!(done, Ok(true));
    let kept = store.ticket(&made).await.unwrap().unwrap();
    assert_eq!(kept.state, TicketState::Resolved);
    assert_eq!(kept.decided_by.as_deref(), Some("repeat"));
    let found = store.reopen_key(&key("k"), &id(), None, NOW).await.unwrap();
    assert!(matches!(found, Claimed::Done(stored) if stored.body == b"at last"));
}

async fn an_asynchronous_call_goes_on_elsewhere(home: Home) {
    let process = home.process().await;
    let kept = NewClaim {
        request: Some(b"{}".to_vec()),
        run: Some("r".to_owned()),
        ..claim("async")
    };
    let fence = fresh(&process.store.claim_key(kept.clone()).await.unwrap());
    fresh(&process.store.claim_key(claim("sync")).await.unwrap());
    assert_eq!(process.store.abandoned_calls(10).await, Ok(Vec::new()));
    process.kill();
    let store = home.reopen().await;
    let mut found = until(async || {
        let found = store.abandoned_calls(10).await.unwrap();
        (!found.is_empty()).then_some(found)
    })
    .await;
    assert_eq!(found.len(), 1);
    let call = found.remove(0);
    assert_eq!((&call.id, call.fence), (&kept.id, fence + 1));
    assert_eq!(
        (call.request.as_slice(), &call.exchange),
        (b"{}".as_slice(), &kept.exchange)
    );
    assert_eq!((call.fingerprint, call.run), (kept.fingerprint, kept.run));
    assert_eq!(store.abandoned_calls(10).await, Ok(Vec::new()));
    let done = store
        .complete_key(&call.id, call.fence, answer("a"), NOW, later(HOUR))
        .await;
    assert_eq!(done, Ok(true));
}

/// Neither a repeat that waits for the answer nor a new round makes an accepted call one that dies with
/// its process.
async fn an_accepted_call_stays_one(home: Home) {
    let process = home.process().await;
    let kept = NewClaim {
        request: Some(b"{}".to_vec()),
        ..claim("k")
    };
    fresh(&process.store.claim_key(kept).await.unwrap());
    process.kill();
    let process = home.process().await;
    let fence = until(async || match process.store.claim_key(claim("k")).await {
        Ok(Claimed::Fresh { fence }) => Some(fence),
        _ => None,
    })
    .await;
    process.kill();
    let process = home.process().await;
    let call = until(async || process.store.abandoned_calls(10).await.unwrap().pop()).await;
    assert_eq!(
        (call.request.as_slice(), call.fence),
        (b"{}".as_slice(), fence + 1)
    );
    let ticket = ticket(TicketKind::Call, "exchange");
    let ticketed = process
        .store
        .ticket_key(&key("k"), call.fence, ticket, later(HOUR))
        .await;
    assert!(ticketed.unwrap().is_some());
    let again = process
        .store
        .reopen_key(&key("k"), "again", Some(b"[]"), NOW)
        .await;
    fresh(&again.unwrap());
    process.kill();
    let store = home.reopen().await;
    let call = until(async || store.abandoned_calls(10).await.unwrap().pop()).await;
    assert_eq!(call.request, b"[]");
}

async fn what_is_given_back_is_free(home: Home) {
    let store = home.open().await;
    let first = claim("k");
    let fence = fresh(&store.claim_key(first.clone()).await.unwrap());
    store.give_back_key(&key("k"), "another exchange");
    store.give_back_key(&key("k"), &first.exchange);
    let next = until(async || match store.claim_key(claim("k")).await.unwrap() {
        Claimed::Fresh { fence } => Some(fence),
        _ => None,
    })
    .await;
    assert_eq!(next, fence + 1);
    let late = store
        .complete_key(&key("k"), fence, answer("a"), NOW, later(HOUR))
        .await;
    assert_eq!(late, Ok(false));
}

async fn a_claim_that_nobody_heard_of_is_given_back(home: Home) {
    let store = home.open().await;
    for round in 0..20 {
        let name = format!("k{round}");
        let claiming = store.claim_key(claim(&name));
        // Polled once: it is handed in, and then its caller goes away.
        tokio::select! {
            biased;
            _ = claiming => {}
            () = std::future::ready(()) => {}
        }
    }
    for round in 0..20 {
        let name = format!("k{round}");
        until(
            async || match store.claim_key(claim(&name)).await.unwrap() {
                Claimed::Fresh { .. } => Some(()),
                _ => None,
            },
        )
        .await;
    }
}

async fn names_have_a_limit(home: Home) {
    let store = home.open().await;
    let refused = store.claim_key(claim(&"k".repeat(1025))).await;
    assert_eq!(
        refused,
        Err(Error::TooLarge {
            bytes: 1025,
            limit: 1024
        })
    );
    fresh(&store.claim_key(claim(&"k".repeat(1024))).await.unwrap());
    let never = NewClaim {
        expires: Wall(i64::MAX),
        now: Wall(i64::MIN),
        ..claim("extremes")
    };
    fresh(&store.claim_key(never).await.unwrap());
}

async fn a_claim_is_a_sign_of_its_run(home: Home) {
    let store = home.open().await;
    let of_run = |now| NewClaim {
        run: Some("r".to_owned()),
        now,
        ..claim("k")
    };
    let seen = async || store.run("ann", "r").await.unwrap().map(|run| run.seen);
    // Many together are said in one statement where they may.
    let mut claims = JoinSet::new();
    for place in 0..32 {
        let (store, of_run) = (store.clone(), of_run(NOW));
        let claim = NewClaim {
            id: key(&format!("k{place}")),
            ..of_run
        };
        claims.spawn(async move { fresh(&store.claim_key(claim).await.unwrap()) });
    }
    claims.join_all().await;
    assert_eq!(seen().await, Some(NOW));
    fresh(&store.claim_key(of_run(later(999))).await.unwrap());
    assert_eq!(seen().await, Some(NOW), "it is recent");
    let known = store.claim_key(of_run(later(1000))).await;
    assert!(matches!(known, Ok(Claimed::Running { .. })));
    assert_eq!(seen().await, Some(later(1000)));
    let refused = NewClaim {
        fingerprint: [8; 32],
        ..of_run(later(HOUR))
    };
    assert_eq!(store.claim_key(refused).await, Ok(Claimed::Mismatch));
    assert_eq!(
        seen().await,
        Some(later(1000)),
        "what is refused keeps nothing"
    );
}
