//! Two processes on one PostgreSQL, where `HOLDFAST_TEST_POSTGRES` names a server.

use std::sync::Arc;

use holdfast_core::time::Wall;
use holdfast_ops::{Ops, Terms};
use holdfast_store::{Options, Place, Store};
use sqlx::{ConnectOptions as _, Executor as _};
use tokio::runtime::Handle;

use crate::harness::{BEGIN, Bench, get, post, working};

async fn replica(url: &str, seconds: i64) -> (Arc<Ops>, Store) {
    let options = Options::new(Place::Postgres(url.to_owned()));
    let store = Store::open(options, Handle::current()).await.unwrap();
    let clock = Arc::new(move || Wall(BEGIN + seconds * 1000));
    (
        Ops::new(
            store.clone(),
            Vec::new(),
            Arc::new(()),
            Terms::default(),
            clock,
        ),
        store,
    )
}

async fn bench(url: &str) -> Bench {
    let (ops, store) = replica(url, 0).await;
    working(ops, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_make_each_orphan_once_and_wake_each_others_callers() {
    let Ok(server) = std::env::var("HOLDFAST_TEST_POSTGRES") else {
        println!("skipped: HOLDFAST_TEST_POSTGRES names no server");
        return;
    };
    let name = format!("holdfast_ops_{}", uuid::Uuid::now_v7().simple());
    let options: sqlx::postgres::PgConnectOptions = server.parse().unwrap();
    let mut admin = options.connect().await.unwrap();
    let sql = |text: String| sqlx::query(sqlx::AssertSqlSafe(text));
    admin
        .execute(sql(format!("CREATE DATABASE {name}")))
        .await
        .unwrap();
    let (base, _) = server.rsplit_once('/').unwrap();
    let url = format!("{base}/{name}");

    let (one, two) = (bench(&url).await, bench(&url).await);
    let asked = one.send(post("/v1/approvals", r#"{"question":"?"}"#)).await;
    let id = asked.json["id"].as_str().unwrap().to_owned();
    let mut stream = one.stream(get("/v1/events")).await;
    stream.block().await.unwrap();
    let waiting = get(&format!("/v1/approvals/{id}?wait=60s"));
    let deciding = post(
        &format!("/v1/approvals/{id}/decide"),
        r#"{"choice":"approve"}"#,
    );
    let (waited, _) = tokio::join!(one.ok(waiting), two.ok(deciding));
    assert_eq!(waited["choice"], "approve");
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        kinds.push(stream.event().await.unwrap().1["kind"].clone());
    }
    assert!(kinds.contains(&"approval.decided".into()), "{kinds:?}");
    drop(stream);

    for place in 0..30 {
        let body = format!(r#"{{"id":"run {place}","deadline":"1m"}}"#);
        one.ok(post("/v1/runs", &body)).await;
    }
    let mut looks = Vec::new();
    for _ in 0..3 {
        let (ops, store) = replica(&url, 3600).await;
        looks.push(tokio::spawn(async move {
            let checked = ops.check().await.unwrap();
            store.close().await;
            checked.orphans
        }));
    }
    let mut orphans = 0;
    for look in looks {
        orphans += look.await.unwrap();
    }
    assert_eq!(orphans, 30);
    let kinds = two.events().await;
    let orphaned = kinds.iter().filter(|kind| *kind == "run.orphaned");
    assert_eq!(orphaned.count(), 30);
    one.down().await;
    two.down().await;
    let drop = format!("DROP DATABASE {name} WITH (FORCE)");
    admin.execute(sql(drop)).await.unwrap();
}
