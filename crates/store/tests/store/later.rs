//! Calls that are to be answered later: their requests are kept until they have ended.

use holdfast_store::{Abandoned, Claimed, NewClaim, Store, TicketKind};

use crate::home::{HOUR, Home, NOW, answer, both, claim, fresh, id, key, later, ticket, until};

both!(
    a_promise_to_answer_later_is_kept,
    a_call_that_can_not_be_made_now_is_made_later,
);

fn asynchronous(name: &str) -> NewClaim {
    NewClaim {
        request: Some(b"asked".to_vec()),
        ..claim(name)
    }
}

/// The calls of the dead, once there are so many.
async fn abandoned(store: &Store, count: usize) -> Vec<Abandoned> {
    let mut found = Vec::new();
    until(async || {
        found.extend(store.abandoned_calls(10).await.unwrap());
        (found.len() >= count).then_some(())
    })
    .await;
    found.sort_by(|one, other| one.id.cmp(&other.id));
    found
}

/// From the moment at which somebody is promised an answer, whoever else waits for the same call.
async fn a_promise_to_answer_later_is_kept(home: Home) {
    let store = home.open().await;
    let keep = async |name: &str, fingerprint| {
        let id = key(name);
        let kept = store.keep_request(&id, fingerprint, b"asked");
        kept.await.unwrap()
    };
    // The first caller waits, the second one does not.
    fresh(&store.claim_key(claim("joined")).await.unwrap());
    assert!(!keep("joined", [8; 32]).await, "it is another request");
    assert!(keep("joined", [7; 32]).await);
    assert!(keep("joined", [7; 32]).await);
    assert!(!keep("none", [7; 32]).await);
    let fence = fresh(&store.claim_key(claim("done")).await.unwrap());
    let done = store
        .complete_key(&key("done"), fence, answer("a"), NOW, later(HOUR))
        .await;
    assert_eq!(done, Ok(true));
    assert!(!keep("done", [7; 32]).await);
    // A new round of a call in the review queue.
    let fence = fresh(&store.claim_key(claim("again")).await.unwrap());
    let failed = ticket(TicketKind::Call, "again");
    let ticketed = store
        .ticket_key(&key("again"), fence, failed, later(HOUR))
        .await;
    assert!(matches!(ticketed, Ok(Some(_))), "{ticketed:?}");
    let request = Some(b"asked".to_vec());
    let reopened = store
        .reopen_key(&key("again"), &id(), request.as_deref(), NOW)
        .await
        .unwrap();
    fresh(&reopened);
    fresh(&store.claim_key(asynchronous("taken")).await.unwrap());
    let short = NewClaim {
        expires: later(1),
        ..asynchronous("expired")
    };
    fresh(&store.claim_key(short).await.unwrap());
    store.close().await;

    let store = home.open().await;
    // A repeat that waits takes over: the one before was promised the answer. Past its time it was not.
    fresh(&store.claim_key(claim("taken")).await.unwrap());
    let anew = NewClaim {
        now: later(2),
        ..claim("expired")
    };
    fresh(&store.claim_key(anew).await.unwrap());
    store.close().await;

    let store = home.open().await;
    let found = abandoned(&store, 3).await;
    let found: Vec<_> = found
        .iter()
        .map(|call| (call.id.key.as_str(), call.request.as_slice()))
        .collect();
    let asked = b"asked".as_slice();
    assert_eq!(
        found,
        [("again", asked), ("joined", asked), ("taken", asked)]
    );
}

async fn a_call_that_can_not_be_made_now_is_made_later(home: Home) {
    let store = home.open().await;
    for name in ["a", "b"] {
        fresh(&store.claim_key(asynchronous(name)).await.unwrap());
    }
    store.close().await;
    let store = home.open().await;
    let found = abandoned(&store, 2).await;
    store.give_back_key(&found[0].id, &found[0].exchange);
    let again = abandoned(&store, 1).await;
    assert_eq!(again.len(), 1, "the other one is being made");
    assert_eq!(
        (&again[0].id, &again[0].request),
        (&found[0].id, &found[0].request)
    );
    assert!(again[0].fence > found[0].fence);
    for (call, ours) in [(&found[0], false), (&found[1], true), (&again[0], true)] {
        let (id, fence) = (&call.id, call.fence);
        let done = store.complete_key(id, fence, answer("a"), NOW, later(HOUR));
        assert_eq!(done.await, Ok(ours));
    }
    let repeated = store.claim_key(claim("a")).await.unwrap();
    assert!(matches!(repeated, Claimed::Done(_)));
}
