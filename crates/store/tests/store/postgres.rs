//! PostgreSQL alone: the server goes away and comes back, and processes that were stopped wake up.

use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;

use holdfast_store::{Claimed, Error, Options, Place, Store};
use sqlx::{ConnectOptions as _, Executor as _};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::home::{
    HOUR, Home, NOW, answer, claim, effect, fresh, key, later, on_postgres, result, until,
};

/// A server of this test's own.
struct Server {
    dir: tempfile::TempDir,
    port: u16,
    url: String,
}

impl Server {
    fn start() -> Self {
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .unwrap()
            .port();
        let dir = tempfile::Builder::new()
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir()
            .unwrap();
        let mut server = Self {
            dir,
            port,
            url: String::new(),
        };
        server.url = server.again();
        server
    }

    fn again(&self) -> String {
        let url = self.run(&["start"], &[&self.port.to_string()]);
        url.trim().to_owned()
    }

    fn run(&self, before: &[&str], after: &[&str]) -> String {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/postgres");
        let done = Command::new(script)
            .args(before)
            .arg(self.dir.path().join("server"))
            .args(after)
            .output()
            .unwrap();
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
        String::from_utf8(done.stdout).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.run(&["kill"], &[]);
    }
}

/// The server is killed under load and started again: what was accepted is there, and the store comes
/// back by itself.
#[test]
fn a_server_goes_and_comes() {
    if std::env::var_os("HOLDFAST_TEST_POSTGRES").is_none() {
        println!("skipped: HOLDFAST_TEST_POSTGRES names no server");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(goes_and_comes());
}

async fn goes_and_comes() {
    let server = tokio::task::spawn_blocking(Server::start).await.unwrap();
    let options = Options {
        timeout: std::time::Duration::from_secs(2),
        ..Options::new(Place::Postgres(server.url.clone()))
    };
    let store = Store::open(options.clone(), Handle::current())
        .await
        .unwrap();
    let mut health = store.health();
    let fence = fresh(&store.claim_key(claim("before")).await.unwrap());
    let mut calls = JoinSet::new();
    for caller in 0..8 {
        let store = store.clone();
        calls.spawn(async move {
            let mut accepted = Vec::new();
            for number in 0.. {
                let name = format!("k{caller}-{number}");
                let Ok(claimed) = store.claim_key(claim(&name)).await else {
                    break;
                };
                let fence = fresh(&claimed);
                let done = store
                    .complete_key(&key(&name), fence, answer(&name), NOW, later(HOUR))
                    .await;
                match done {
                    Ok(done) => assert!(done),
                    Err(_) => break,
                }
                accepted.push(name);
            }
            accepted
        });
    }
    until(async || (store.status().commits > 200).then_some(())).await;
    let server = tokio::task::spawn_blocking(move || {
        server.run(&["stop"], &[]);
        server
    })
    .await
    .unwrap();
    let accepted: Vec<_> = calls.join_all().await.into_iter().flatten().collect();
    assert!(accepted.len() > 50);
    health.wait_for(|well| !well).await.unwrap();
    let refused = store.claim_key(claim("during")).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    let server = tokio::task::spawn_blocking(move || {
        server.again();
        server
    })
    .await
    .unwrap();
    health.wait_for(|well| *well).await.unwrap();
    for name in accepted {
        let found = store.claim_key(claim(&name)).await.unwrap();
        assert!(matches!(found, Claimed::Done(_)), "{name}");
    }
    // Its own claim is still its own.
    let done = store
        .complete_key(&key("before"), fence, answer("x"), NOW, later(HOUR))
        .await;
    assert_eq!(done, Ok(true));
    // What may have been claimed during the fall is not stuck.
    until(async || match store.claim_key(claim("during")).await {
        Ok(Claimed::Fresh { .. }) => Some(()),
        _ => None,
    })
    .await;
    store.close().await;
    tokio::task::spawn_blocking(move || drop(server))
        .await
        .unwrap();
}

/// A process that is stopped for longer than its lease, and goes on: it can't write any more.
#[test]
fn a_process_that_was_stopped_is_fenced_off() {
    on_postgres(|home: Home| async move {
        let stopped = home.process().await;
        let store = home.open().await;
        let fence = fresh(&stopped.store.claim_key(claim("k")).await.unwrap());
        stopped.store.record_effect(effect("k")).await.unwrap();
        let sent = stopped
            .store
            .claim_effects("mail", NOW, 1)
            .await
            .unwrap()
            .remove(0);
        let mut held = Vec::new();
        for _ in 0..2 {
            let (go_on, waiting) = mpsc::channel::<()>();
            stopped
                .handle()
                .spawn(async move { waiting.recv().is_err() });
            held.push(go_on);
        }
        let next = until(async || match store.claim_key(claim("k")).await.unwrap() {
            Claimed::Fresh { fence } => Some(fence),
            _ => None,
        })
        .await;
        let stranded = until(async || store.stranded_effects(1).await.unwrap().pop()).await;
        held.clear();
        let late = stopped
            .store
            .complete_key(&key("k"), fence, answer("old"), NOW, later(HOUR))
            .await;
        assert_eq!(late, Ok(false));
        let end = holdfast_store::EffectEnd::Done(result("old"));
        let late = stopped
            .store
            .finish_effect(&sent.id, sent.fence, end.clone(), NOW)
            .await;
        assert_eq!(late, Ok(false));
        let done = store
            .complete_key(&key("k"), next, answer("new"), NOW, later(HOUR))
            .await;
        assert_eq!(done, Ok(true));
        let done = store
            .finish_effect(&stranded.id, stranded.fence, end, NOW)
            .await;
        assert_eq!(done, Ok(true));
        // It lives again, and others see it.
        until(async || (store.counts().await.unwrap().owners == 2).then_some(())).await;
        let found = stopped.store.claim_key(claim("k")).await.unwrap();
        assert!(matches!(found, Claimed::Done(stored) if stored.body == b"new"));
        tokio::task::spawn_blocking(move || drop(stopped))
            .await
            .unwrap();
    });
}

/// Lets the commits of what is called `stalled` wait for a lock, whatever limits there are.
const STALL: &str = "
    CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql SET lock_timeout = 0 AS $$ BEGIN
        LOOP
            BEGIN
                PERFORM pg_advisory_xact_lock(4711);
                RETURN NULL;
            EXCEPTION WHEN query_canceled THEN NULL;
            END;
        END LOOP;
    END $$;
    CREATE CONSTRAINT TRIGGER stall_keys AFTER INSERT OR UPDATE ON keys DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.key = 'stalled') EXECUTE FUNCTION stall();
    CREATE CONSTRAINT TRIGGER stall_effects AFTER UPDATE ON effects DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.key = 'stalled') EXECUTE FUNCTION stall();
";

/// A commit that was given up for lost happens after it was undone: nobody works on what it took.
#[test]
fn a_commit_that_stalls_for_long_leaves_nothing_taken() {
    on_postgres(|home: Home| async move {
        let options = Options {
            timeout: std::time::Duration::from_millis(300),
            ..home.options()
        };
        let store = Store::open(options, Handle::current()).await.unwrap();
        store.record_effect(effect("stalled")).await.unwrap();
        let Place::Postgres(url) = &home.place else {
            panic!("on PostgreSQL");
        };
        let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
        let mut raw = options.connect().await.unwrap();
        raw.execute(STALL).await.unwrap();
        raw.execute("SELECT pg_advisory_lock(4711)").await.unwrap();
        let (claimed, taken) = tokio::join!(
            store.claim_key(claim("stalled")),
            store.claim_effects("mail", NOW, 1)
        );
        assert!(matches!(claimed, Err(Error::Unavailable(_))), "{claimed:?}");
        assert!(matches!(taken, Err(Error::Unavailable(_))), "{taken:?}");
        // Both undos have come and gone, and with them some signs of life.
        let done = store.status().operations;
        until(async || (store.status().operations > done + 8).then_some(())).await;
        raw.execute("SELECT pg_advisory_unlock(4711)")
            .await
            .unwrap();
        until(async || match store.claim_key(claim("stalled")).await {
            Ok(Claimed::Fresh { .. }) => Some(()),
            _ => None,
        })
        .await;
        let again = until(async || store.claim_effects("mail", NOW, 1).await.ok()?.pop()).await;
        assert_eq!(again.attempts, 1, "what was never begun is not counted");
        store.close().await;
    });
}

#[test]
fn a_newer_schema_is_refused() {
    on_postgres(|home: Home| async move {
        home.open().await.close().await;
        let Place::Postgres(url) = &home.place else {
            panic!("on PostgreSQL");
        };
        let options: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
        let mut raw = options.connect().await.unwrap();
        raw.execute("INSERT INTO holdfast_schema (version) VALUES (99)")
            .await
            .unwrap();
        let refused = Store::open(home.options(), Handle::current()).await;
        let newer = Error::NewerSchema {
            found: 99,
            known: 2,
        };
        assert_eq!(refused.unwrap_err(), newer);
    });
}

/// Several processes that start at once make the schema once.
#[test]
fn many_start_at_once() {
    on_postgres(|home: Home| async move {
        let mut opening = JoinSet::new();
        for _ in 0..6 {
            let options = home.options();
            opening.spawn(async move { Store::open(options, Handle::current()).await });
        }
        for opened in opening.join_all().await {
            opened.unwrap().close().await;
        }
    });
}

#[test]
fn a_wrong_place_is_told_without_its_secret() {
    on_postgres(|_home: Home| async move {
        let place = Place::Postgres("postgres://ann:canary-secret@127.0.0.1:1/none".to_owned());
        let options = Options {
            timeout: std::time::Duration::from_secs(1),
            ..Options::new(place)
        };
        assert!(!format!("{options:?}").contains("canary-secret"));
        let refused = Store::open(options, Handle::current()).await.unwrap_err();
        assert!(matches!(refused, Error::Unavailable(_)), "{refused:?}");
        assert!(!refused.to_string().contains("canary-secret"));
    });
}
