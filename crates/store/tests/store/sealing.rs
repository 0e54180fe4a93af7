//! Content at rest: not readable without the key, readable with an old one.

use holdfast_store::{
    Claimed, Decision, EffectEnd, EffectResult, Error, NewApproval, NewClaim, NewEffect, NewTicket,
    Seal, Store, StoredAnswer, TicketKind,
};

use crate::home::{Home, NOW, answer, both, claim, effect, fresh, id, key, later, ticket};

both!(keys_are_rotated, without_its_key_content_is_refused);

const CANARY: &str = "canary-7f3a";

fn sealed(home: &Home, current: u8, old: &[u8]) -> Home {
    let old: Vec<_> = old.iter().map(|byte| [*byte; 32]).collect();
    Home {
        seal: Some(Seal::new([current; 32], &old)),
        ..home.clone()
    }
}

/// Something of every kind of content.
async fn fill(store: &Store) -> (String, String) {
    let fence = fresh(&store.claim_key(claim("k")).await.unwrap());
    store
        .complete_key(&key("k"), fence, answer(CANARY), NOW, later(1_000_000))
        .await
        .unwrap();
    let kept = NewClaim {
        request: Some(CANARY.as_bytes().to_vec()),
        ..claim("async")
    };
    fresh(&store.claim_key(kept).await.unwrap());
    let opened = NewTicket {
        content: Some(CANARY.as_bytes().to_vec()),
        ..ticket(TicketKind::Call, "e")
    };
    let opened = store.open_ticket(opened).await.unwrap();
    let by_hand = Decision::Answer(answer(CANARY));
    store
        .decide(&opened, None, "ann", by_hand, NOW)
        .await
        .unwrap();
    let recorded = NewEffect {
        payload: CANARY.as_bytes().to_vec(),
        ..effect("k")
    };
    store.record_effect(recorded).await.unwrap();
    let sent = store.claim_effects("mail", NOW, 1).await.unwrap().remove(0);
    let end = EffectEnd::Done(EffectResult {
        status: 200,
        headers: Vec::new(),
        body: CANARY.as_bytes().to_vec(),
    });
    store
        .finish_effect(&sent.id, sent.fence, end, NOW)
        .await
        .unwrap();
    store
        .begin_step("ann", "r", "s", later(1), NOW)
        .await
        .unwrap();
    let result = CANARY.as_bytes().to_vec();
    store
        .complete_step("ann", "r", "s", 1, result, NOW)
        .await
        .unwrap();
    let asked = NewApproval {
        id: id(),
        scope: "ann".to_owned(),
        key: Some("k".to_owned()),
        fingerprint: [0; 32],
        question: "well?".to_owned(),
        choices: Vec::new(),
        default: None,
        deadline: None,
        context: CANARY.into(),
        run: None,
        step: None,
        expires: later(1),
        now: NOW,
    };
    store.ask_approval(asked).await.unwrap();
    (opened, sent.id)
}

async fn read_all(store: &Store, ids: &(String, String)) {
    let is_canary = |bytes: &[u8]| assert_eq!(bytes, CANARY.as_bytes());
    let Claimed::Done(StoredAnswer { body, .. }) = store.claim_key(claim("k")).await.unwrap()
    else {
        panic!("done");
    };
    is_canary(&body);
    let kept = store.ticket(&ids.0).await.unwrap().unwrap();
    is_canary(&kept.content.unwrap());
    is_canary(&kept.answer.unwrap().body);
    let kept = store.effect(&ids.1).await.unwrap().unwrap();
    is_canary(&kept.payload);
    is_canary(&kept.result.unwrap().body);
    let step = store.step("ann", "r", "s").await.unwrap().unwrap();
    is_canary(&step.result.unwrap());
    let listed = store
        .approvals(&holdfast_store::ApprovalFilter::default())
        .await
        .unwrap();
    let approval = store.approval(&listed[0].id).await.unwrap().unwrap();
    assert_eq!(approval.context, CANARY);
}

async fn keys_are_rotated(home: Home) {
    let store = sealed(&home, 1, &[]).open().await;
    let ids = fill(&store).await;
    read_all(&store, &ids).await;
    store.close().await;
    if !home.is_postgres() {
        for name in ["holdfast.db", "holdfast.db-wal"] {
            let bytes = std::fs::read(home.file(name)).unwrap_or_default();
            assert!(
                !bytes
                    .windows(CANARY.len())
                    .any(|part| part == CANARY.as_bytes())
            );
        }
    }
    let store = sealed(&home, 2, &[1]).open().await;
    read_all(&store, &ids).await;
    let fence = fresh(&store.claim_key(claim("new")).await.unwrap());
    store
        .complete_key(&key("new"), fence, answer("x"), NOW, later(1_000_000))
        .await
        .unwrap();
    store.close().await;
    let store = sealed(&home, 2, &[]).open().await;
    let found = store.claim_key(claim("new")).await.unwrap();
    assert!(matches!(found, Claimed::Done(_)));
    assert!(store.claim_key(claim("k")).await.is_err());
    // That is a matter of one record, not of the store.
    assert!(store.is_healthy());
}

async fn without_its_key_content_is_refused(home: Home) {
    let store = sealed(&home, 1, &[]).open().await;
    let ids = fill(&store).await;
    store.close().await;
    let store = home.open().await;
    assert!(matches!(
        store.effect(&ids.1).await,
        Err(Error::Unavailable(_))
    ));
    let Err(Error::Unavailable(words)) = store.claim_key(claim("k")).await else {
        panic!("refused");
    };
    assert!(words.contains("store.old_keys"), "{words}");
}
