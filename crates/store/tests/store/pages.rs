//! The ledger's pages: whatever lies in which page, it is found as if each exchange had a row.

use std::collections::BTreeMap;
use std::time::Duration;

use holdfast_core::time::Wall;
use holdfast_store::{
    BookedExchange, Error, ExchangeFilter, LedgerAttempt, LedgerEntry, Pages, Place, Retention,
};
use sqlx::{ConnectOptions as _, Executor as _, Row as _};

use crate::home::{HOUR, Home, NOW, both, id_at, later};

both!(
    a_call_is_told_as_it_was_booked,
    pages_agree_with_rows,
    pages_of_a_busy_moment_are_all_read,
    whole_pages_are_forgotten,
    what_lay_in_rows_is_still_found,
    a_damaged_page_is_told,
    what_is_too_large_is_refused_alone,
    no_exchange_is_booked_by_halves,
);

fn entry(id: String) -> LedgerEntry {
    LedgerEntry {
        id,
        at: 1_700_000_000,
        caller: Some("ann".to_owned()),
        run: None,
        step: None,
        route: "good".into(),
        dialect: "anthropic".into(),
        stream: true,
        delivery: "guarded".into(),
        outcome: "whole".into(),
        code: None,
        joins: 0,
        millis: 812,
        flagged: None,
        losses: Vec::new(),
        input_tokens: Some(12),
        output_tokens: None,
        attempts: vec![LedgerAttempt {
            target: "one/model".into(),
            status: 200,
            verdict: "whole".into(),
            flaw: None,
            message: None,
            began_millis: 0,
            millis: 800,
            first_token_millis: Some(3),
        }],
    }
}

fn told(id: String, number: i64) -> BookedExchange {
    BookedExchange {
        id,
        at: later(number),
        scope: "ann".to_owned(),
        route: "good".to_owned(),
        run: None,
        step: None,
        outcome: "whole".to_owned(),
        json: format!("{{\"number\":{number}}}"),
    }
}

/// Runs statements beside the store, and gives the text in the first column of the last one's rows.
async fn raw(home: &Home, statements: &[&'static str]) -> Vec<String> {
    let mut found = Vec::new();
    match &home.place {
        Place::Sqlite(path) => {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path);
            let mut conn = options.connect().await.unwrap();
            for text in statements {
                let rows = conn.fetch_all(sqlx::query(*text)).await.unwrap();
                found = rows.iter().map(|row| row.get(0)).collect();
            }
        }
        Place::Postgres(url) => {
            let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
            let mut conn = options.connect().await.unwrap();
            for text in statements {
                let rows = conn.fetch_all(sqlx::query(*text)).await.unwrap();
                found = rows.iter().map(|row| row.get(0)).collect();
            }
        }
    }
    found
}

async fn count(home: &Home, table: &'static str) -> i64 {
    let text = match table {
        "ledger_pages" => "SELECT CAST(COUNT(*) AS TEXT) FROM ledger_pages",
        _ => "SELECT CAST(COUNT(*) AS TEXT) FROM ledger_runs",
    };
    raw(home, &[text]).await[0].parse().unwrap()
}

async fn a_call_is_told_as_it_was_booked(home: Home) {
    let store = home.open().await;
    let plain = entry(id_at(NOW));
    let full = LedgerEntry {
        id: id_at(later(1)),
        caller: Some("somebody \"else\"".to_owned()),
        run: Some("r".to_owned()),
        step: Some("s\0\n".to_owned()),
        code: Some("HF-012".into()),
        joins: 3,
        millis: u64::MAX,
        flagged: Some("words".to_owned()),
        losses: vec!["one".to_owned(), "two".to_owned()],
        input_tokens: None,
        output_tokens: Some(u64::MAX),
        attempts: vec![
            LedgerAttempt {
                status: 529,
                verdict: "error".into(),
                flaw: Some("status".into()),
                message: Some("überlastet".to_owned()),
                first_token_millis: None,
                ..plain.attempts[0].clone()
            },
            plain.attempts[0].clone(),
        ],
        ..plain.clone()
    };
    let nobody = LedgerEntry {
        id: id_at(later(2)),
        caller: None,
        attempts: Vec::new(),
        ..plain.clone()
    };
    let mut pages = Pages::default();
    for entry in [&plain, &full, &nobody] {
        pages.add(later(5), "ann", entry).unwrap();
    }
    assert_eq!(pages.len(), 3);
    store.book_pages(pages).await.unwrap();
    for entry in [plain, full, nobody] {
        let found = store.exchange(&entry.id).await.unwrap().unwrap();
        let expected = BookedExchange {
            id: entry.id.clone(),
            at: later(5),
            scope: "ann".to_owned(),
            route: "good".to_owned(),
            run: entry.run.clone(),
            step: entry.step.clone(),
            outcome: "whole".to_owned(),
            json: serde_json::to_string(&entry).unwrap(),
        };
        assert_eq!(found, expected);
        let outcome = store.outcome("ann", &entry.id).await.unwrap();
        assert_eq!(outcome.as_deref(), Some("whole"));
        assert_eq!(store.outcome("ben", &entry.id).await, Ok(None));
    }
    assert_eq!(store.check().await, Ok(Vec::new()));
}

/// What rows would give.
fn of_rows(
    rows: &BTreeMap<String, BookedExchange>,
    filter: &ExchangeFilter,
) -> Vec<BookedExchange> {
    let same =
        |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|one| one == found);
    let fits = |row: &&BookedExchange| {
        same(&filter.scope, &row.scope)
            && same(&filter.route, &row.route)
            && (filter.run.is_none() || filter.run == row.run)
            && same(&filter.outcome, &row.outcome)
            && filter.since.is_none_or(|since| row.at >= since)
            && filter.after.as_ref().is_none_or(|after| row.id < *after)
    };
    let limit = if filter.limit == 0 {
        1000
    } else {
        filter.limit
    };
    let newest = rows.values().rev().filter(fits);
    newest.take(limit).cloned().collect()
}

/// Groups in any order of time, from several processes, some exchanges more than once.
async fn pages_agree_with_rows(home: Home) {
    let one = home.open().await;
    let two = home.beside(&one).await;
    let mut dice = fastrand::Rng::with_seed(7);
    let mut rows = BTreeMap::new();
    for round in 0..40 {
        let mut group = Vec::new();
        for _ in 0..dice.usize(1..60) {
            // Half a minute is seven slots.
            let id = match rows.keys().nth(dice.usize(..200)) {
                Some(again) if dice.u8(..20) == 0 => String::clone(again),
                _ => id_at(later(dice.i64(..30_000))),
            };
            let run = rows.get(&id).map_or_else(
                || Some(format!("r{}", dice.u8(..4))).filter(|_| dice.bool()),
                |known: &BookedExchange| known.run.clone(),
            );
            let booked = BookedExchange {
                scope: ["ann", "ben"][dice.usize(..2)].to_owned(),
                route: ["fast", "good"][dice.usize(..2)].to_owned(),
                outcome: ["whole", "cut", "told"][dice.usize(..3)].to_owned(),
                run,
                ..told(id, dice.i64(..60_000))
            };
            rows.insert(booked.id.clone(), booked.clone());
            group.push(booked);
        }
        [&one, &two][round % 2].book(group).await.unwrap();
    }
    let ids: Vec<String> = rows.keys().cloned().collect();
    for _ in 0..200 {
        let mut some = |from: &[&str]| {
            let one = from[dice.usize(..from.len())].to_owned();
            Some(one).filter(|_| dice.u8(..3) == 0)
        };
        let (scope, route) = (some(&["ann", "ben", "eve"]), some(&["fast", "good"]));
        let run = some(&["r0", "r1", "r2", "r3", "r4"]);
        let outcome = some(&["whole", "cut", "none"]);
        let filter = ExchangeFilter {
            scope,
            route,
            run,
            outcome,
            since: Some(later(dice.i64(..60_000))).filter(|_| dice.u8(..3) == 0),
            after: Some(ids[dice.usize(..ids.len())].clone()).filter(|_| dice.u8(..3) == 0),
            limit: [0, 1, 7, 100][dice.usize(..4)],
        };
        let found = one.exchanges(&filter).await.unwrap();
        assert_eq!(found, of_rows(&rows, &filter), "{filter:?}");
    }
    for (id, row) in &rows {
        assert_eq!(two.exchange(id).await.as_ref(), Ok(&Some(row.clone())));
    }
    assert_eq!(one.check().await, Ok(Vec::new()));
}

/// More pages than one reading has, all of the same four seconds.
async fn pages_of_a_busy_moment_are_all_read(home: Home) {
    let store = home.open().await;
    let first = id_at(NOW);
    let last = id_at(later(100));
    let mut ids = vec![first.clone()];
    for number in 0..100 {
        // Each page has the whole span of time.
        let some = [id_at(NOW), id_at(later(number)), id_at(later(101))];
        ids.extend(some.iter().take(2).cloned());
        let group = some.map(|id| BookedExchange {
            run: Some("r".to_owned()),
            ..told(id, number)
        });
        store.book(group.to_vec()).await.unwrap();
        if number == 0 {
            store.book(vec![told(first.clone(), 0)]).await.unwrap();
        }
    }
    assert_eq!(count(&home, "ledger_pages").await, 101);
    for id in ids {
        assert_eq!(store.exchange(&id).await.unwrap().unwrap().id, id);
    }
    assert_eq!(store.exchange(&last).await, Ok(None));
    let of_run = ExchangeFilter {
        run: Some("r".to_owned()),
        ..ExchangeFilter::default()
    };
    assert_eq!(store.exchanges(&of_run).await.unwrap().len(), 300);
    let all = ExchangeFilter::default();
    assert_eq!(store.exchanges(&all).await.unwrap().len(), 301);
}

async fn whole_pages_are_forgotten(home: Home) {
    let store = home.open().await;
    let group: Vec<_> = (0..300)
        .map(|number| BookedExchange {
            run: Some(format!("r{}", number % 3)),
            ..told(id_at(later(number)), number)
        })
        .collect();
    for some in group.chunks(100) {
        store.book(some.to_vec()).await.unwrap();
    }
    assert_eq!(count(&home, "ledger_pages").await, 3);
    assert_eq!(count(&home, "ledger_runs").await, 9);
    let retention = Retention {
        exchanges: Duration::from_hours(1),
        ..Retention::default()
    };
    // What is half old is kept: a page goes whole.
    let forget = async |now: Wall, limit| {
        while store.expire(now, &retention, limit).await.unwrap() > 0 {}
    };
    forget(later(HOUR + 250), 2).await;
    assert_eq!(store.exchange(&group[199].id).await, Ok(None));
    assert!(store.exchange(&group[200].id).await.unwrap().is_some());
    assert_eq!(count(&home, "ledger_pages").await, 1);
    assert_eq!(count(&home, "ledger_runs").await, 3);
    let of_run = ExchangeFilter {
        run: Some("r1".to_owned()),
        ..ExchangeFilter::default()
    };
    assert_eq!(store.exchanges(&of_run).await.unwrap().len(), 33);
    forget(later(HOUR + 300), 2).await;
    assert_eq!(count(&home, "ledger_pages").await, 0);
    assert_eq!(count(&home, "ledger_runs").await, 0);
}

/// Schema 1 had a row for each exchange. Its rows stay, and a process of that version may still write.
async fn what_lay_in_rows_is_still_found(home: Home) {
    home.open().await.close().await;
    let first_schema = [
        "DROP TABLE ledger_pages",
        "DROP TABLE ledger_runs",
        "DELETE FROM holdfast_schema WHERE version > 1",
        "INSERT INTO exchanges VALUES ('018bcfe56800aa', 1700000000000, 'ann', 'good', 'r', 's', 'whole', '{\"old\":1}')",
    ];
    raw(&home, &first_schema).await;
    let store = home.open().await;
    let late = "INSERT INTO exchanges VALUES ('018bcfe56802aa', 1700000000002, 'ann', 'good', NULL, NULL, 'cut', '{\"old\":2}')";
    raw(&home, &[late]).await;
    let group = [1, 3].map(|number| BookedExchange {
        run: Some("r".to_owned()),
        ..told(id_at(later(number)), number)
    });
    store.book(group.to_vec()).await.unwrap();
    let ids = async |filter: ExchangeFilter| {
        let found = store.exchanges(&filter).await.unwrap();
        found.iter().map(|one| one.id.clone()).collect::<Vec<_>>()
    };
    let all = ExchangeFilter::default;
    let [one, three] = [&group[0].id, &group[1].id].map(String::as_str);
    assert_eq!(
        ids(all()).await,
        [three, "018bcfe56802aa", one, "018bcfe56800aa"]
    );
    let limit = 2;
    assert_eq!(
        ids(ExchangeFilter { limit, ..all() }).await,
        [three, "018bcfe56802aa"]
    );
    let run = Some("r".to_owned());
    assert_eq!(
        ids(ExchangeFilter { run, ..all() }).await,
        [three, one, "018bcfe56800aa"]
    );
    let outcome = Some("cut".to_owned());
    assert_eq!(
        ids(ExchangeFilter { outcome, ..all() }).await,
        ["018bcfe56802aa"]
    );
    let old = store.exchange("018bcfe56800aa").await.unwrap().unwrap();
    assert_eq!(
        (&*old.json, old.step.as_deref()),
        ("{\"old\":1}", Some("s"))
    );
    let outcome = store.outcome("ann", "018bcfe56802aa").await.unwrap();
    assert_eq!(outcome.as_deref(), Some("cut"));
    let retention = Retention::default();
    while store
        .expire(later(31 * 24 * HOUR), &retention, 1)
        .await
        .unwrap()
        > 0
    {}
    assert_eq!(ids(all()).await, [""; 0]);
}

async fn a_damaged_page_is_told(home: Home) {
    let store = home.open().await;
    let damage = [
        (
            "UPDATE ledger_pages SET body = substr(body, 1, 20)",
            "ends too soon",
        ),
        (
            "UPDATE ledger_pages SET body = CAST('\u{2}' AS BLOB)",
            "is of version 2; this Holdfast knows 1",
        ),
        (
            "UPDATE ledger_pages SET body = substr(body, 1, 0)",
            "ends too soon",
        ),
    ];
    for (number, (text, words)) in (0..).zip(damage) {
        let at = later(number * 60_000);
        let booked = told(id_at(at), 0);
        store.book(vec![booked.clone()]).await.unwrap();
        let text = if home.is_postgres() && text.contains("CAST") {
            "UPDATE ledger_pages SET body = '\\x02'::bytea"
        } else {
            text
        };
        raw(&home, &[text]).await;
        let sound = told(id_at(later(600_000)), 0);
        store.book(vec![sound.clone()]).await.unwrap();
        let told = store.exchange(&booked.id).await.unwrap_err();
        assert!(
            matches!(&told, Error::Corrupt(why) if why.contains(words)),
            "{told}"
        );
        let told = store
            .exchanges(&ExchangeFilter::default())
            .await
            .unwrap_err();
        assert!(matches!(told, Error::Corrupt(_)), "{told}");
        // The others are there, and the store works.
        assert_eq!(store.exchange(&sound.id).await, Ok(Some(sound)));
        assert!(store.is_healthy());
        let found = store.check().await.unwrap();
        assert!(found[0].contains("a page of the ledger"), "{found:?}");
        raw(&home, &["DELETE FROM ledger_pages"]).await;
        assert_eq!(store.check().await, Ok(Vec::new()));
    }
}

async fn what_is_too_large_is_refused_alone(home: Home) {
    let store = home.open().await;
    let mut pages = Pages::default();
    let sound = entry(id_at(NOW));
    let large = LedgerEntry {
        id: id_at(NOW),
        flagged: Some("x".repeat(2 << 20)),
        ..sound.clone()
    };
    let refused = pages.add(NOW, "ann", &large);
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
    assert!(pages.is_empty());
    store.book_pages(pages.clone()).await.unwrap();
    pages.add(NOW, "ann", &sound).unwrap();
    pages.add(NOW, "ann", &large).unwrap_err();
    store.book_pages(pages).await.unwrap();
    assert!(store.exchange(&sound.id).await.unwrap().is_some());
    assert_eq!(store.exchange(&large.id).await, Ok(None));
    let json = "x".repeat(2 << 20);
    let large = BookedExchange {
        json,
        ..told(id_at(NOW), 0)
    };
    let refused = store.book(vec![large]).await;
    assert!(matches!(refused, Err(Error::TooLarge { .. })));
    let large = BookedExchange {
        json: "x".repeat(1 << 20),
        ..told(id_at(NOW), 0)
    };
    store.book(vec![large.clone()]).await.unwrap();
    assert_eq!(store.exchange(&large.id).await, Ok(Some(large)));
}

/// A page is bounded, and a group of several is written together.
async fn no_exchange_is_booked_by_halves(home: Home) {
    let store = home.open().await;
    let group: Vec<_> = (0..5000)
        .map(|number| told(id_at(later(number)), number))
        .collect();
    store.book(group.clone()).await.unwrap();
    assert!(count(&home, "ledger_pages").await >= 5000 / 128);
    let longest = "SELECT CAST(MAX(LENGTH(body)) AS TEXT) FROM ledger_pages";
    let longest: i64 = raw(&home, &[longest]).await[0].parse().unwrap();
    assert!(longest < 20_000, "{longest}");
    let mut after = None;
    let mut found = Vec::new();
    loop {
        let filter = ExchangeFilter {
            after: after.take(),
            limit: 700,
            ..ExchangeFilter::default()
        };
        let some: Vec<_> = store.exchanges(&filter).await.unwrap();
        let Some(last) = some.last() else { break };
        after = Some(last.id.clone());
        found.extend(some);
    }
    found.reverse();
    assert!(found == group);
}
