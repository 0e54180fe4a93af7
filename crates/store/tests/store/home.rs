//! Where a test's store lives, and processes that can be killed.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::time::Wall;
use holdfast_store::{
    Claimed, EffectResult, KeyId, NewClaim, NewEffect, NewTicket, Options, Place, RetryPolicy,
    Seal, Store, StoredAnswer, TicketKind,
};
use sqlx::{ConnectOptions as _, Executor as _};
use tempfile::TempDir;
use tokio::runtime::{Builder, Handle, Runtime};

/// The moment at which tests begin.
pub(crate) const NOW: Wall = Wall(1_700_000_000_000);

/// An hour, in milliseconds.
pub(crate) const HOUR: i64 = 3_600_000;

/// How long a process may be silent in tests.
pub(crate) const LEASE: Duration = Duration::from_millis(600);

/// The longest that something awaited may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A place for one test.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) place: Place,
    pub(crate) seal: Option<Seal>,
    pub(crate) dir: Option<Arc<TempDir>>,
}

/// A process of its own: a store on its own runtime.
pub(crate) struct Process {
    runtime: Option<Runtime>,
    pub(crate) store: Store,
}

/// Every test, once for each database.
macro_rules! both {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn sqlite() {
                crate::home::on_sqlite(super::$name);
            }

            #[test]
            fn postgres() {
                crate::home::on_postgres(super::$name);
            }
        }
    )+};
}
pub(crate) use both;

pub(crate) fn on_sqlite<F: Future<Output = ()>>(test: fn(Home) -> F) {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let home = Home {
        place: Place::Sqlite(dir.path().join("holdfast.db")),
        seal: None,
        dir: Some(dir),
    };
    runtime().block_on(test(home));
}

pub(crate) fn on_postgres<F: Future<Output = ()>>(test: fn(Home) -> F) {
    let Ok(server) = std::env::var("HOLDFAST_TEST_POSTGRES") else {
        println!("skipped: HOLDFAST_TEST_POSTGRES names no server");
        return;
    };
    runtime().block_on(async {
        let name = format!("holdfast_{}", uuid::Uuid::now_v7().simple());
        let options: sqlx::postgres::PgConnectOptions = server.parse().unwrap();
        let mut admin = options.connect().await.unwrap();
        let sql = |sql: String| sqlx::AssertSqlSafe(sql);
        admin
            .execute(sqlx::query(sql(format!("CREATE DATABASE {name}"))))
            .await
            .unwrap();
        let (base, _) = server.rsplit_once('/').unwrap();
        let home = Home {
            place: Place::Postgres(format!("{base}/{name}")),
            seal: None,
            dir: None,
        };
        test(home).await;
        admin
            .execute(sqlx::query(sql(format!(
                "DROP DATABASE {name} WITH (FORCE)"
            ))))
            .await
            .unwrap();
    });
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

// === impl Home ===

impl Home {
    pub(crate) fn options(&self) -> Options {
        Options {
            lease: LEASE,
            connections: 6,
            seal: self.seal.clone(),
            ..Options::new(self.place.clone())
        }
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(self.options(), Handle::current())
            .await
            .unwrap()
    }

    /// A store that can be killed.
    pub(crate) async fn process(&self) -> Process {
        // The lock of one that was killed comes free a moment later.
        until(async || {
            let runtime = runtime();
            let opening = Store::open(self.options(), runtime.handle().clone());
            let Ok(store) = opening.await else {
                runtime.shutdown_background();
                return None;
            };
            Some(Process {
                runtime: Some(runtime),
                store,
            })
        })
        .await
    }

    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self.place, Place::Postgres(_))
    }

    /// Another process beside `store`; on `SQLite`, where there can be none, the same one.
    pub(crate) async fn beside(&self, store: &Store) -> Store {
        if self.is_postgres() {
            self.open().await
        } else {
            store.clone()
        }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.as_ref().unwrap().path().join(name)
    }

    /// Opens the database again after its only process was killed: its lock comes free a moment
    /// later.
    pub(crate) async fn reopen(&self) -> Store {
        until(async || Store::open(self.options(), Handle::current()).await.ok()).await
    }
}

// === impl Process ===

impl Process {
    /// As `kill -9`: nothing is said to anybody.
    pub(crate) fn kill(mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }

    pub(crate) fn handle(&self) -> Handle {
        self.runtime.as_ref().unwrap().handle().clone()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Asks until there is an answer.
pub(crate) async fn until<T>(mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking)
        .await
        .expect("it never happened")
}

// === Things to keep ===

pub(crate) fn later(millis: i64) -> Wall {
    Wall(NOW.0 + millis)
}

pub(crate) fn id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// An id that was made at this moment.
pub(crate) fn id_at(moment: Wall) -> String {
    format!("{:012x}{}", moment.0, &id()[12..])
}

pub(crate) fn key(name: &str) -> KeyId {
    KeyId {
        scope: "ann".to_owned(),
        key: name.to_owned(),
    }
}

pub(crate) fn claim(name: &str) -> NewClaim {
    NewClaim {
        id: key(name),
        fingerprint: [7; 32],
        exchange: id(),
        request: None,
        run: None,
        step: None,
        now: NOW,
        expires: later(24 * HOUR),
    }
}

pub(crate) fn answer(text: &str) -> StoredAnswer {
    StoredAnswer {
        exchange: id(),
        outcome: "whole".to_owned(),
        status: 200,
        headers: vec![("content-type".to_owned(), "text/plain".to_owned())],
        body: text.as_bytes().to_vec(),
    }
}

pub(crate) fn ticket(kind: TicketKind, subject: &str) -> NewTicket {
    NewTicket {
        kind,
        scope: "ann".to_owned(),
        subject: subject.to_owned(),
        key: None,
        run: None,
        step: None,
        route: Some("model".to_owned()),
        title: "every target failed".to_owned(),
        facts: serde_json::json!({ "attempts": 3 }),
        content: Some(b"the request".to_vec()),
        policy: RetryPolicy::OnRepeat,
        not_before: NOW,
        expires: later(7 * 24 * HOUR),
        now: NOW,
    }
}

pub(crate) fn effect(key: &str) -> NewEffect {
    NewEffect {
        id: id(),
        scope: "ann".to_owned(),
        key: key.to_owned(),
        fingerprint: [9; 32],
        target: "mail".to_owned(),
        payload: b"dear".to_vec(),
        headers: vec![("a".to_owned(), "b".to_owned())],
        run: Some("r1".to_owned()),
        step: Some("send".to_owned()),
        requires: vec!["e1".to_owned()],
        due: NOW,
        expires: later(24 * HOUR),
        now: NOW,
    }
}

pub(crate) fn result(text: &str) -> EffectResult {
    EffectResult {
        status: 201,
        headers: Vec::new(),
        body: text.as_bytes().to_vec(),
    }
}

/// The fence of a claim that must be fresh.
pub(crate) fn fresh(claimed: &Claimed) -> i64 {
    match claimed {
        Claimed::Fresh { fence } => *fence,
        other => panic!("not fresh: {other:?}"),
    }
}
