//! The review queue: claimed and decided once, whoever wants to.

use holdfast_core::time::Wall;
use holdfast_store::{
    Claimed, Decided, Decision, NewTicket, Retried, RetryPolicy, Ticket, TicketClaim, TicketFilter,
    TicketKind, TicketState,
};
use tokio::task::JoinSet;

use crate::home::{HOUR, Home, NOW, answer, both, claim, fresh, id, key, later, ticket, until};

both!(
    a_ticket_goes_through_its_life,
    there_is_one_open_ticket_for_each_thing,
    of_two_people_one_decides,
    a_claim_keeps_others_out,
    an_answer_by_hand_is_the_keys_answer,
    a_rejected_call_is_told_so,
    a_closed_call_may_run_anew,
    a_call_without_a_key_keeps_its_answer_at_the_ticket,
    due_tickets_are_retried_by_one,
    each_route_is_waited_for_once,
    what_the_dead_were_retrying_comes_back,
    a_round_that_died_is_answered_by_hand,
    lists_are_filtered_and_paged,
);

fn done(decided: Decided) -> Ticket {
    match decided {
        Decided::Done(ticket) => ticket,
        other => panic!("not decided: {other:?}"),
    }
}

fn close() -> Decision {
    Decision::Close {
        note: "no".to_owned(),
    }
}

async fn a_ticket_goes_through_its_life(home: Home) {
    let store = home.open().await;
    let made = store
        .open_ticket(ticket(TicketKind::Call, "e1"))
        .await
        .unwrap();
    let kept = store.ticket(&made).await.unwrap().unwrap();
    assert_eq!((kept.state, kept.attempts), (TicketState::Open, 1));
    assert_eq!(kept.content.as_deref(), Some(b"the request".as_slice()));
    assert_eq!(kept.facts["attempts"], 3);
    let TicketClaim::Claimed { fence } = store
        .claim_ticket(&made, "ann", None, later(1000), NOW)
        .await
        .unwrap()
    else {
        panic!("free");
    };
    assert_eq!(store.release_ticket(&made, fence + 1).await, Ok(false));
    assert_eq!(store.release_ticket(&made, fence).await, Ok(true));
    assert_eq!(store.release_ticket(&made, fence).await, Ok(false));
    let ended = store
        .decide(&made, None, "ben", close(), NOW)
        .await
        .unwrap();
    let ended = done(ended);
    assert_eq!(
        (ended.state, ended.decided_at),
        (TicketState::Resolved, Some(NOW))
    );
    assert_eq!(ended.decision.unwrap()["decision"], "close");
    let again = store
        .decide(&made, None, "ann", close(), NOW)
        .await
        .unwrap();
    assert_eq!(again, Decided::Conflict("ben has decided it".to_owned()));
    let claimed = store.claim_ticket(&made, "ann", None, later(1), NOW).await;
    assert_eq!(claimed, Ok(TicketClaim::Decided));
    assert_eq!(
        store.claim_ticket("none", "ann", None, later(1), NOW).await,
        Ok(TicketClaim::Missing)
    );
    let missing = store.decide("none", None, "ann", close(), NOW).await;
    assert_eq!(missing, Ok(Decided::Missing));
    assert_eq!(store.ticket("none").await, Ok(None));
}

async fn there_is_one_open_ticket_for_each_thing(home: Home) {
    let store = home.open().await;
    let mut opening = JoinSet::new();
    for _ in 0..16 {
        let store = store.clone();
        opening.spawn(async move { store.open_ticket(ticket(TicketKind::Gate, "e1")).await });
    }
    let mut ids: Vec<_> = opening
        .join_all()
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
    let other = store
        .open_ticket(ticket(TicketKind::Call, "e1"))
        .await
        .unwrap();
    assert_ne!(other, ids[0]);
    done(
        store
            .decide(&ids[0], None, "ann", close(), NOW)
            .await
            .unwrap(),
    );
    let next = store
        .open_ticket(ticket(TicketKind::Gate, "e1"))
        .await
        .unwrap();
    assert_ne!(next, ids[0]);
}

async fn of_two_people_one_decides(home: Home) {
    let one = home.open().await;
    let two = home.beside(&one).await;
    for round in 0..10 {
        let subject = format!("e{round}");
        let made = one
            .open_ticket(ticket(TicketKind::Call, &subject))
            .await
            .unwrap();
        let (ann, ben) = tokio::join!(
            one.decide(&made, None, "ann", close(), NOW),
            two.decide(&made, None, "ben", close(), NOW)
        );
        let both = [ann.unwrap(), ben.unwrap()];
        let won = both
            .iter()
            .filter(|one| matches!(one, Decided::Done(_)))
            .count();
        let lost = both
            .iter()
            .filter(|one| matches!(one, Decided::Conflict(_)))
            .count();
        assert_eq!((won, lost), (1, 1), "{both:?}");
        let open = ticket(TicketKind::Gate, &subject);
        let made = one.open_ticket(open).await.unwrap();
        let (ann, ben) = tokio::join!(
            one.claim_ticket(&made, "ann", None, later(1000), NOW),
            two.claim_ticket(&made, "ben", None, later(1000), NOW)
        );
        let both = [ann.unwrap(), ben.unwrap()];
        let won = both
            .iter()
            .filter(|one| matches!(one, TicketClaim::Claimed { .. }))
            .count();
        let lost = both
            .iter()
            .filter(|one| matches!(one, TicketClaim::Held { .. }))
            .count();
        assert_eq!((won, lost), (1, 1), "{both:?}");
    }
}

async fn a_claim_keeps_others_out(home: Home) {
    let store = home.open().await;
    let made = store
        .open_ticket(ticket(TicketKind::Call, "e1"))
        .await
        .unwrap();
    let TicketClaim::Claimed { fence } = store
        .claim_ticket(&made, "ann", None, later(1000), NOW)
        .await
        .unwrap()
    else {
        panic!("free");
    };
    let held = store
        .claim_ticket(&made, "ben", None, later(2000), later(999))
        .await;
    assert_eq!(
        held,
        Ok(TicketClaim::Held {
            by: "ann".to_owned(),
            until: later(1000)
        })
    );
    // Its holder goes on, once; another person who guessed the fence does not.
    let renew = async |by: &str, fence: i64| {
        let renewed = store.claim_ticket(&made, by, Some(fence), later(1000), later(999));
        match renewed.await.unwrap() {
            TicketClaim::Claimed { fence } => Some(fence),
            _ => None,
        }
    };
    assert_eq!(renew("ben", fence).await, None);
    assert_eq!(renew("ann", fence).await, Some(fence + 1));
    assert_eq!(renew("ann", fence).await, None);
    let fence = fence + 1;
    let refused = store
        .decide(&made, None, "ben", close(), later(999))
        .await
        .unwrap();
    assert_eq!(refused, Decided::Conflict("ann has claimed it".to_owned()));
    let refused = store
        .decide(&made, Some(fence + 1), "ben", close(), NOW)
        .await
        .unwrap();
    assert_eq!(
        refused,
        Decided::Conflict("your claim has ended".to_owned())
    );
    // Past its end a claim is nobody's, until somebody else takes it.
    let TicketClaim::Claimed { fence: next } = store
        .claim_ticket(&made, "ben", None, later(2000), later(1000))
        .await
        .unwrap()
    else {
        panic!("free");
    };
    let refused = store
        .decide(&made, Some(fence), "ann", close(), later(1001))
        .await
        .unwrap();
    assert!(matches!(refused, Decided::Conflict(_)));
    done(
        store
            .decide(&made, Some(next), "ben", close(), later(1001))
            .await
            .unwrap(),
    );
}

/// A call in the review queue: its ticket.
async fn ticketed(store: &holdfast_store::Store, name: &str, policy: RetryPolicy) -> String {
    let new = claim(name);
    let fence = fresh(&store.claim_key(new.clone()).await.unwrap());
    let opened = NewTicket {
        policy,
        ..ticket(TicketKind::Call, &new.exchange)
    };
    let expires = opened.expires;
    store
        .ticket_key(&key(name), fence, opened, expires)
        .await
        .unwrap()
        .unwrap()
}

async fn an_answer_by_hand_is_the_keys_answer(home: Home) {
    let store = home.open().await;
    let made = ticketed(&store, "k", RetryPolicy::OnRepeat).await;
    let given = answer("by hand");
    let wrong = Decision::EffectDone {
        note: String::new(),
    };
    let refused = store.decide(&made, None, "ann", wrong, NOW).await.unwrap();
    assert!(matches!(refused, Decided::Conflict(_)));
    let decision = Decision::Answer(given.clone());
    let ended = done(
        store
            .decide(&made, None, "ann", decision, NOW)
            .await
            .unwrap(),
    );
    assert_eq!((ended.answer, ended.key), (None, Some(key("k"))));
    let found = store.claim_key(claim("k")).await;
    assert_eq!(found, Ok(Claimed::Done(given)));
    // It stays for as long as the ticket would have.
    let row = store.key(&key("k")).await.unwrap().unwrap();
    assert_eq!(row.expires, later(7 * 24 * HOUR));
}

async fn a_rejected_call_is_told_so(home: Home) {
    let store = home.open().await;
    let made = ticketed(&store, "k", RetryPolicy::OnRepeat).await;
    let mut told = answer("rejected");
    told.status = 403;
    let decision = Decision::Reject {
        answer: told.clone(),
        reason: "too dear".to_owned(),
    };
    let ended = done(
        store
            .decide(&made, None, "ann", decision, NOW)
            .await
            .unwrap(),
    );
    assert_eq!(ended.decision.unwrap()["reason"], "too dear");
    assert_eq!(store.claim_key(claim("k")).await, Ok(Claimed::Done(told)));
}

async fn a_closed_call_may_run_anew(home: Home) {
    let store = home.open().await;
    let made = ticketed(&store, "k", RetryPolicy::OnRepeat).await;
    done(
        store
            .decide(&made, None, "ann", close(), NOW)
            .await
            .unwrap(),
    );
    fresh(&store.claim_key(claim("k")).await.unwrap());
}

async fn a_call_without_a_key_keeps_its_answer_at_the_ticket(home: Home) {
    let store = home.open().await;
    let made = store
        .open_ticket(ticket(TicketKind::Call, "e1"))
        .await
        .unwrap();
    let given = answer("by hand");
    let decision = Decision::Answer(given.clone());
    done(
        store
            .decide(&made, None, "ann", decision, NOW)
            .await
            .unwrap(),
    );
    let kept = store.ticket(&made).await.unwrap().unwrap();
    assert_eq!(kept.answer, Some(given));
}

async fn due_tickets_are_retried_by_one(home: Home) {
    let one = home.open().await;
    let two = home.beside(&one).await;
    for name in ["a", "b", "c", "d", "e", "f"] {
        ticketed(&one, name, RetryPolicy::WhenHealthy).await;
    }
    ticketed(&one, "waits", RetryPolicy::OnRepeat).await;
    let early = NewTicket {
        policy: RetryPolicy::WhenHealthy,
        not_before: later(1000),
        ..ticket(TicketKind::Call, "early")
    };
    one.open_ticket(early).await.unwrap();
    let (first, second) = tokio::join!(
        one.due_tickets("model", NOW, 4),
        two.due_tickets("model", NOW, 4)
    );
    let mut all = first.unwrap();
    all.extend(second.unwrap());
    all.extend(one.due_tickets("model", NOW, 100).await.unwrap());
    let mut ids: Vec<_> = all.iter().map(|ticket| ticket.id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!((all.len(), ids.len()), (6, 6));
    let retrying = TicketFilter {
        state: Some(TicketState::Retrying),
        ..TicketFilter::default()
    };
    assert_eq!(one.tickets(&retrying).await.unwrap().len(), 6);
    // A person keeps out while it is being asked.
    let refused = one
        .decide(&ids[0], None, "ann", close(), NOW)
        .await
        .unwrap();
    assert!(matches!(refused, Decided::Conflict(_)));
    let held = one
        .claim_ticket(&ids[0], "ann", None, later(1), NOW)
        .await
        .unwrap();
    assert!(matches!(held, TicketClaim::Held { .. }));
    // And a repeat of the call too.
    let of_a = all
        .iter()
        .find(|ticket| ticket.key == Some(key("a")))
        .unwrap();
    let found = one.reopen_key(&key("a"), &id(), None, NOW).await.unwrap();
    assert!(matches!(found, Claimed::Ticketed { .. }));
    // By whoever took it: one answers, one fails.
    let by = async |ticket: &Ticket, outcome: Retried| {
        let first = one
            .ticket_retried(&ticket.id, ticket.fence, outcome.clone(), NOW)
            .await
            .unwrap();
        first
            || two
                .ticket_retried(&ticket.id, ticket.fence, outcome, NOW)
                .await
                .unwrap()
    };
    assert!(by(of_a, Retried::Answered(answer("back"))).await);
    assert!(!by(of_a, Retried::Answered(answer("twice"))).await);
    let found = one.claim_key(claim("a")).await.unwrap();
    assert!(matches!(found, Claimed::Done(stored) if stored.body == b"back"));
    let of_b = all
        .iter()
        .find(|ticket| ticket.key == Some(key("b")))
        .unwrap();
    let failed = Retried::Failed {
        reason: "still away".to_owned(),
        not_before: later(5000),
    };
    assert!(by(of_b, failed).await);
    let kept = one.ticket(&of_b.id).await.unwrap().unwrap();
    assert_eq!((kept.state, kept.attempts), (TicketState::Open, 2));
    assert_eq!(kept.reason.as_deref(), Some("still away"));
    assert_eq!(
        one.due_tickets("model", later(4999), 100)
            .await
            .unwrap()
            .len(),
        1
    );
    assert_eq!(
        one.due_tickets("model", later(5000), 100)
            .await
            .unwrap()
            .len(),
        1
    );
}

async fn each_route_is_waited_for_once(home: Home) {
    let store = home.open().await;
    let open = async |route: Option<&str>, policy: RetryPolicy, not_before: Wall| {
        let new = NewTicket {
            route: route.map(str::to_owned),
            policy,
            not_before,
            ..ticket(TicketKind::Call, &id())
        };
        store.open_ticket(new).await.unwrap()
    };
    for moment in [30, 10, 20] {
        open(Some("down"), RetryPolicy::WhenHealthy, later(moment)).await;
        open(Some("by-hand"), RetryPolicy::Never, later(moment)).await;
    }
    let up = open(Some("up"), RetryPolicy::WhenHealthy, later(25)).await;
    open(None, RetryPolicy::WhenHealthy, NOW).await;
    let down = || ("down".to_owned(), later(10));
    let both = vec![down(), ("up".to_owned(), later(25))];
    assert_eq!(store.waiting_routes(10).await, Ok(both));
    assert_eq!(store.waiting_routes(1).await, Ok(vec![down()]));
    // What is taken no longer waits, and other routes stay where they are.
    let taken = store.due_tickets("up", later(25), 10).await.unwrap();
    let taken: Vec<_> = taken.into_iter().map(|ticket| ticket.id).collect();
    assert_eq!(taken, [up]);
    assert_eq!(store.waiting_routes(10).await, Ok(vec![down()]));
}

async fn what_the_dead_were_retrying_comes_back(home: Home) {
    let process = home.process().await;
    let by_itself = ticketed(&process.store, "a", RetryPolicy::WhenHealthy).await;
    let by_repeat = ticketed(&process.store, "b", RetryPolicy::WhenHealthy).await;
    fresh(
        &process
            .store
            .reopen_key(&key("b"), &id(), None, NOW)
            .await
            .unwrap(),
    );
    assert_eq!(
        process
            .store
            .due_tickets("model", NOW, 10)
            .await
            .unwrap()
            .len(),
        1
    );
    process.kill();
    let store = home.reopen().await;
    let mut back = Vec::new();
    until(async || {
        store.recover_tickets(10).await.unwrap();
        back.extend(store.due_tickets("model", NOW, 10).await.unwrap());
        (back.len() == 2).then_some(())
    })
    .await;
    let mut ids: Vec<_> = back.iter().map(|ticket| ticket.id.clone()).collect();
    ids.sort();
    assert_eq!(ids, [by_itself, by_repeat]);
    for ticket in back {
        let told = Retried::Answered(answer("back"));
        assert_eq!(
            store
                .ticket_retried(&ticket.id, ticket.fence, told, NOW)
                .await,
            Ok(true)
        );
    }
    for name in ["a", "b"] {
        let found = store.claim_key(claim(name)).await.unwrap();
        assert!(matches!(found, Claimed::Done(_)), "{name}");
    }
}

async fn a_round_that_died_is_answered_by_hand(home: Home) {
    let process = home.process().await;
    let made = ticketed(&process.store, "k", RetryPolicy::OnRepeat).await;
    fresh(
        &process
            .store
            .reopen_key(&key("k"), &id(), None, NOW)
            .await
            .unwrap(),
    );
    process.kill();
    let store = home.reopen().await;
    let given = answer("by hand");
    until(async || {
        let decision = Decision::Answer(given.clone());
        match store
            .decide(&made, None, "ann", decision, NOW)
            .await
            .unwrap()
        {
            Decided::Done(_) => Some(()),
            Decided::Conflict(_) => None,
            Decided::Missing => panic!("it is there"),
        }
    })
    .await;
    let found = store.claim_key(claim("k")).await;
    assert_eq!(found, Ok(Claimed::Done(given)));
}

async fn lists_are_filtered_and_paged(home: Home) {
    let store = home.open().await;
    for number in 0..30 {
        let kind = [TicketKind::Call, TicketKind::Gate][number % 2];
        let mut new = ticket(kind, &format!("e{number}"));
        new.scope = ["ann", "ben", "cid"][number % 3].to_owned();
        new.run = Some(format!("r{}", number % 5));
        store.open_ticket(new).await.unwrap();
    }
    let count = async |filter: TicketFilter| store.tickets(&filter).await.unwrap().len();
    let all = TicketFilter::default;
    assert_eq!(count(all()).await, 30);
    let ann = Some("ann".to_owned());
    assert_eq!(
        count(TicketFilter {
            scope: ann.clone(),
            ..all()
        })
        .await,
        10
    );
    assert_eq!(
        count(TicketFilter {
            kind: Some(TicketKind::Gate),
            ..all()
        })
        .await,
        15
    );
    let both = TicketFilter {
        scope: ann,
        kind: Some(TicketKind::Gate),
        ..all()
    };
    assert_eq!(count(both).await, 5);
    assert_eq!(
        count(TicketFilter {
            run: Some("r1".to_owned()),
            ..all()
        })
        .await,
        6
    );
    assert_eq!(
        count(TicketFilter {
            state: Some(TicketState::Resolved),
            ..all()
        })
        .await,
        0
    );
    let mut seen = Vec::new();
    loop {
        let page = TicketFilter {
            after: seen.last().cloned(),
            limit: 7,
            ..all()
        };
        let page = store.tickets(&page).await.unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.iter().all(|ticket| ticket.content.is_none()));
        seen.extend(page.into_iter().map(|ticket| ticket.id));
    }
    assert_eq!(seen.len(), 30);
    assert!(seen.is_sorted_by(|one, other| one > other));
}
