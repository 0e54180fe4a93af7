//! The ledger, and the events in their order.

use std::collections::BTreeSet;

use holdfast_store::{BookedExchange, Decision, ExchangeFilter, TicketKind};
use tokio::task::JoinSet;

use crate::home::{
    HOUR, Home, NOW, answer, both, claim, effect, fresh, id, key, later, ticket, until,
};

both!(
    an_answer_under_its_key_tells_how_its_exchange_ended,
    exchanges_are_booked,
    many_are_booked_together,
    events_come_in_order,
    a_failed_operation_tells_nothing,
    others_are_woken,
);

async fn exchanges_are_booked(home: Home) {
    let store = home.open().await;
    let entries: Vec<_> = (0..20)
        .map(|number| BookedExchange {
            id: id(),
            at: later(number),
            scope: "ann".to_owned(),
            route: ["fast", "good"][usize::try_from(number % 2).unwrap()].to_owned(),
            run: (number < 5).then(|| "r".to_owned()),
            step: None,
            outcome: "whole".to_owned(),
            json: format!("{{\"number\":{number}}}"),
        })
        .collect();
    store.book(entries.clone()).await.unwrap();
    let again = BookedExchange {
        outcome: "cut".to_owned(),
        ..entries[3].clone()
    };
    store.book(vec![again.clone()]).await.unwrap();
    assert_eq!(store.exchange(&again.id).await, Ok(Some(again)));
    assert_eq!(store.exchange("none").await, Ok(None));
    let count = async |filter: ExchangeFilter| store.exchanges(&filter).await.unwrap().len();
    let all = ExchangeFilter::default;
    let route = Some("good".to_owned());
    assert_eq!(count(ExchangeFilter { route, ..all() }).await, 10);
    let run = Some("r".to_owned());
    assert_eq!(count(ExchangeFilter { run, ..all() }).await, 5);
    let outcome = Some("cut".to_owned());
    assert_eq!(count(ExchangeFilter { outcome, ..all() }).await, 1);
    let since = Some(later(15));
    assert_eq!(count(ExchangeFilter { since, ..all() }).await, 5);
    let newest = store
        .exchanges(&ExchangeFilter { limit: 1, ..all() })
        .await
        .unwrap();
    assert_eq!(newest, entries[19..]);
}

async fn many_are_booked_together(home: Home) {
    let store = home.open().await;
    let entry = |number: usize, outcome: &str| BookedExchange {
        id: format!("x{number:03}"),
        at: NOW,
        scope: "ann".to_owned(),
        route: "good".to_owned(),
        run: None,
        step: None,
        outcome: outcome.to_owned(),
        json: "{}".to_owned(),
    };
    let mut entries: Vec<_> = (0..70).map(|number| entry(number, "whole")).collect();
    entries.push(entry(5, "cut"));
    store.book(entries).await.unwrap();
    let filter = ExchangeFilter {
        limit: 100,
        ..ExchangeFilter::default()
    };
    let kept = store.exchanges(&filter).await.unwrap();
    assert_eq!(kept.len(), 70);
    assert_eq!(kept[0], entry(69, "whole"));
    assert_eq!(kept[64], entry(5, "cut"));
}

/// Somebody who reads along misses none, whoever writes.
async fn events_come_in_order(home: Home) {
    let one = home.open().await;
    let two = home.beside(&one).await;
    let mut writing = JoinSet::new();
    for writer in 0..8 {
        let store = if writer % 2 == 0 { &one } else { &two }.clone();
        writing.spawn(async move {
            for number in 0..25 {
                let subject = format!("e{writer}-{number}");
                let opened = store.open_ticket(ticket(TicketKind::Call, &subject)).await;
                opened.unwrap();
            }
        });
    }
    let mut seen = BTreeSet::new();
    let mut last = 0;
    until(async || {
        for event in one.events(last, None, 7).await.unwrap() {
            assert!(event.seq > last);
            last = event.seq;
            assert_eq!(event.kind, "ticket.opened");
            seen.insert(event.subject);
        }
        (seen.len() == 200).then_some(())
    })
    .await;
    writing.join_all().await;
    assert!(one.events(last, None, 10).await.unwrap().is_empty());
}

async fn a_failed_operation_tells_nothing(home: Home) {
    let store = home.open().await;
    let made = store
        .open_ticket(ticket(TicketKind::Call, "e"))
        .await
        .unwrap();
    store
        .open_ticket(ticket(TicketKind::Call, "e"))
        .await
        .unwrap();
    let close = || Decision::Close {
        note: String::new(),
    };
    store
        .decide(&made, Some(99), "ann", close(), NOW)
        .await
        .unwrap();
    store
        .decide(&made, None, "ann", close(), NOW)
        .await
        .unwrap();
    store
        .decide(&made, None, "ann", close(), NOW)
        .await
        .unwrap();
    store.record_effect(effect("k")).await.unwrap();
    let kinds = async |scope| {
        let events = store.events(0, scope, 100).await.unwrap();
        events
            .into_iter()
            .map(|event| event.kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        kinds(None).await,
        ["ticket.opened", "ticket.decided", "effect.recorded"]
    );
    assert_eq!(kinds(Some("ann")).await.len(), 3);
    assert!(kinds(Some("ben")).await.is_empty());
}

async fn others_are_woken(home: Home) {
    let one = home.open().await;
    let two = home.beside(&one).await;
    let mut signal = two.event_signal();
    // What rings at the start, because something may have been missed, is not meant here.
    until(async || {
        signal.mark_unchanged();
        one.open_ticket(ticket(TicketKind::Call, &id()))
            .await
            .unwrap();
        let woken = tokio::time::timeout(std::time::Duration::from_secs(1), signal.changed()).await;
        woken.ok().map(Result::unwrap)
    })
    .await;
    assert!(!two.events(0, None, 10).await.unwrap().is_empty());
}

async fn an_answer_under_its_key_tells_how_its_exchange_ended(home: Home) {
    let store = home.open().await;
    let fence = fresh(&store.claim_key(claim("k")).await.unwrap());
    let stored = answer("whole");
    let exchange = stored.exchange.clone();
    assert_eq!(store.outcome("ann", &exchange).await, Ok(None));
    let done = store
        .complete_key(&key("k"), fence, stored, NOW, later(HOUR))
        .await;
    assert_eq!(done, Ok(true));
    // Nobody has booked it: the process died before that.
    assert_eq!(store.exchange(&exchange).await, Ok(None));
    let told = store.outcome("ann", &exchange).await;
    assert_eq!(told.unwrap().as_deref(), Some("whole"));
    assert_eq!(store.outcome("ben", &exchange).await, Ok(None));
}
