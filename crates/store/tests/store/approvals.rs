//! Approvals: asked once, chosen once.

use holdfast_store::{
    Approval, ApprovalFilter, ApprovalState, Asked, Decided, Decision, NewApproval, Store,
    TicketKind, TicketState,
};

use crate::home::{HOUR, Home, NOW, both, id, later};

both!(
    a_question_is_asked_once,
    a_choice_is_made_once,
    a_deadline_passes,
    approvals_are_listed,
);

fn question(key: Option<&str>) -> NewApproval {
    NewApproval {
        id: id(),
        scope: "ann".to_owned(),
        key: key.map(str::to_owned),
        fingerprint: [3; 32],
        question: "send it?".to_owned(),
        choices: vec!["approve".to_owned(), "reject".to_owned()],
        default: Some("reject".to_owned()),
        deadline: Some(later(1000)),
        context: serde_json::json!({ "amount": 7 }),
        run: Some("r".to_owned()),
        step: None,
        expires: later(HOUR),
        now: NOW,
    }
}

async fn asked(store: &Store, new: NewApproval) -> Approval {
    match store.ask_approval(new).await.unwrap() {
        Asked::Fresh(approval) => approval,
        other => panic!("not fresh: {other:?}"),
    }
}

fn choose(choice: &str) -> Decision {
    Decision::Choose {
        choice: choice.to_owned(),
        note: "fine".to_owned(),
    }
}

async fn a_question_is_asked_once(home: Home) {
    let store = home.open().await;
    let first = asked(&store, question(Some("k"))).await;
    assert_eq!(
        (first.state, &first.context["amount"]),
        (ApprovalState::Open, &7.into())
    );
    let ticket = store.ticket(&first.ticket).await.unwrap().unwrap();
    assert_eq!(
        (ticket.kind, &ticket.subject),
        (TicketKind::Approval, &first.id)
    );
    let again = store.ask_approval(question(Some("k"))).await;
    assert_eq!(again, Ok(Asked::Known(first.clone())));
    let other = NewApproval {
        fingerprint: [4; 32],
        ..question(Some("k"))
    };
    assert_eq!(store.ask_approval(other).await, Ok(Asked::Mismatch));
    assert_eq!(store.approval(&first.id).await, Ok(Some(first)));
    // Without a key each is a new one.
    assert_ne!(
        asked(&store, question(None)).await.id,
        asked(&store, question(None)).await.id
    );
    assert_eq!(store.approval("none").await, Ok(None));
}

async fn a_choice_is_made_once(home: Home) {
    let one = home.open().await;
    let two = home.beside(&one).await;
    for _ in 0..10 {
        let first = asked(&one, question(None)).await;
        let refused = one
            .decide(&first.ticket, None, "ann", choose("dance"), NOW)
            .await
            .unwrap();
        assert_eq!(
            refused,
            Decided::Conflict("the choices are `approve`, `reject`".to_owned())
        );
        let (ann, ben) = tokio::join!(
            one.decide(&first.ticket, None, "ann", choose("approve"), NOW),
            two.decide(&first.ticket, None, "ben", choose("reject"), NOW)
        );
        let winner = match (ann.unwrap(), ben.unwrap()) {
            (Decided::Done(_), Decided::Conflict(_)) => ("ann", "approve"),
            (Decided::Conflict(_), Decided::Done(_)) => ("ben", "reject"),
            both => panic!("{both:?}"),
        };
        let kept = one.approval(&first.id).await.unwrap().unwrap();
        assert_eq!(kept.state, ApprovalState::Decided);
        assert_eq!(
            (kept.decided_by.as_deref(), kept.choice.as_deref()),
            (Some(winner.0), Some(winner.1))
        );
        assert_eq!(kept.note.as_deref(), Some("fine"));
    }
}

async fn a_deadline_passes(home: Home) {
    let store = home.open().await;
    let first = asked(&store, question(None)).await;
    let patient = NewApproval {
        deadline: None,
        ..question(None)
    };
    asked(&store, patient).await;
    assert!(
        store
            .due_approvals(later(999), 10)
            .await
            .unwrap()
            .is_empty()
    );
    let due = store.due_approvals(later(1000), 10).await.unwrap();
    assert_eq!(
        due.iter().map(|due| &due.id).collect::<Vec<_>>(),
        [&first.id]
    );
    // The default is promised from here on: nobody's choice is taken any more, whoever says so.
    for by in ["ann", "timeout"] {
        let late = store
            .decide(&due[0].ticket, None, by, choose("approve"), later(1000))
            .await;
        let why = "its deadline has passed".to_owned();
        assert_eq!(late, Ok(Decided::Conflict(why)));
    }
    let decided = store.time_out(&due[0], later(1000)).await;
    assert!(matches!(decided, Ok(Decided::Done(_))));
    let kept = store.approval(&first.id).await.unwrap().unwrap();
    assert_eq!(
        (kept.choice.as_deref(), kept.decided_by.as_deref()),
        (Some("reject"), Some("timeout"))
    );
    let again = store.time_out(&due[0], later(1000)).await;
    assert!(matches!(again, Ok(Decided::Conflict(_))));
    assert!(
        store
            .due_approvals(later(1000), 10)
            .await
            .unwrap()
            .is_empty()
    );
    // One without a default expires.
    let second = NewApproval {
        default: None,
        ..question(None)
    };
    let second = asked(&store, second).await;
    store.time_out(&second, later(1000)).await.unwrap();
    let kept = store.approval(&second.id).await.unwrap().unwrap();
    assert_eq!((kept.state, kept.choice), (ApprovalState::Expired, None));
    let ticket = store.ticket(&second.ticket).await.unwrap().unwrap();
    assert_eq!(ticket.state, TicketState::Resolved);
}

async fn approvals_are_listed(home: Home) {
    let store = home.open().await;
    for number in 0..6 {
        let new = NewApproval {
            scope: ["ann", "ben"][number % 2].to_owned(),
            ..question(None)
        };
        asked(&store, new).await;
    }
    let of_ben = ApprovalFilter {
        scope: Some("ben".to_owned()),
        state: Some(ApprovalState::Open),
        ..ApprovalFilter::default()
    };
    let found = store.approvals(&of_ben).await.unwrap();
    assert_eq!(found.len(), 3);
    assert!(found.iter().all(|one| one.context.is_null()));
    let of_run = ApprovalFilter {
        run: Some("r".to_owned()),
        limit: 4,
        ..ApprovalFilter::default()
    };
    assert_eq!(store.approvals(&of_run).await.unwrap().len(), 4);
}
