//! SQLite alone: its file fills up, is damaged, is somebody else's; and it is copied while it works.

use std::future::Future;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use holdfast_store::{
    Claimed, Error, Options, Place, Store, StoredAnswer, TicketFilter, TicketKind,
};
use sqlx::{ConnectOptions as _, Executor as _};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::home::{Home, NOW, answer, claim, fresh, key, later, on_sqlite, ticket, until};

macro_rules! alone {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn sqlite() {
                crate::home::on_sqlite(super::$name);
            }
        }
    )+};
}

alone!(
    a_full_database_refuses_and_recovers,
    a_damaged_page_is_noticed_and_recovered_from,
    a_file_that_is_no_database_is_refused,
    a_second_process_is_refused,
    a_newer_schema_is_refused,
    a_copy_is_made_while_it_works,
    more_than_the_queue_is_refused,
    a_store_may_be_awaited_from_another_runtime,
);

fn big(text: &str) -> StoredAnswer {
    StoredAnswer {
        body: vec![b'x'; 20_000],
        ..answer(text)
    }
}

/// Calls with large answers until the store is full: the names of those that were accepted.
async fn fill_up(store: &Store) -> Vec<String> {
    let mut accepted = Vec::new();
    for round in 0.. {
        let mut calls = JoinSet::new();
        for caller in 0..16 {
            let (store, name) = (store.clone(), format!("k{round}-{caller}"));
            calls.spawn(async move {
                let fence = fresh(&store.claim_key(claim(&name)).await?);
                let done = store
                    .complete_key(&key(&name), fence, big(&name), NOW, later(1))
                    .await?;
                assert!(done);
                Ok::<_, Error>(name)
            });
        }
        let mut refused = false;
        for call in calls.join_all().await {
            match call {
                Ok(name) => accepted.push(name),
                Err(Error::Full(_)) => refused = true,
                Err(other) => panic!("{other}"),
            }
        }
        if refused {
            break;
        }
    }
    accepted
}

async fn all_there(store: &Store, accepted: &[String]) {
    for name in accepted {
        let found = store.claim_key(claim(name)).await.unwrap();
        let Claimed::Done(stored) = found else {
            panic!("{name} is lost: {found:?}");
        };
        assert_eq!(stored.body.len(), 20_000);
    }
}

async fn a_full_database_refuses_and_recovers(home: Home) {
    let store = home.open().await;
    store.cap_pages(400).await.unwrap();
    let mut health = store.health();
    let accepted = fill_up(&store).await;
    assert!(!accepted.is_empty());
    health.wait_for(|well| !well).await.unwrap();
    let trouble = store.status().trouble;
    assert!(trouble.is_none_or(|words| words.contains("full")));
    // What is kept can still be read.
    all_there(&store, &accepted).await;
    store.cap_pages(0).await.unwrap();
    health.wait_for(|well| *well).await.unwrap();
    fresh(&store.claim_key(claim("after")).await.unwrap());
    all_there(&store, &accepted).await;
    assert!(store.check().await.unwrap().is_empty());
}

fn mount(options: &[&str], at: &Path) -> bool {
    let done = Command::new("mount").args(options).arg(at).output();
    done.is_ok_and(|done| done.status.success())
}

/// Taken away in any case.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let ended = Command::new("umount").arg("-l").arg(&self.0).status();
        println!("unmounted: {ended:?}");
    }
}

/// A real disk that is full, and one that is read-only. Needs the right to mount.
#[test]
fn a_small_disk() {
    on_sqlite(|home| async move {
        let disk = home.file("disk");
        std::fs::create_dir(&disk).unwrap();
        if !mount(&["-t", "tmpfs", "-o", "size=12m", "tmpfs"], &disk) {
            println!("skipped: no right to mount");
            return;
        }
        let mounted = Mounted(disk.clone());
        on_a_small_disk(disk).await;
        drop(mounted);
    });
}

async fn on_a_small_disk(disk: PathBuf) {
    let options = || Options::new(Place::Sqlite(disk.join("holdfast.db")));
    let store = Store::open(options(), Handle::current()).await.unwrap();
    let mut health = store.health();
    let ballast = disk.join("ballast");
    std::fs::write(&ballast, vec![0; 8 << 20]).unwrap();
    let accepted = fill_up(&store).await;
    health.wait_for(|well| !well).await.unwrap();
    all_there(&store, &accepted).await;
    std::fs::remove_file(&ballast).unwrap();
    health.wait_for(|well| *well).await.unwrap();
    until(async || store.claim_key(claim("after")).await.ok()).await;
    store.close().await;

    assert!(mount(&["-o", "remount,ro"], &disk));
    let refused = Store::open(options(), Handle::current()).await;
    assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    assert!(mount(&["-o", "remount,rw"], &disk));
    let store = Store::open(options(), Handle::current()).await.unwrap();
    all_there(&store, &accepted).await;
    store.close().await;
}

async fn a_damaged_page_is_noticed_and_recovered_from(home: Home) {
    let store = home.open().await;
    for number in 0..400 {
        let mut new = ticket(TicketKind::Call, &format!("e{number}"));
        new.content = Some(vec![b'x'; 2000]);
        store.open_ticket(new).await.unwrap();
    }
    store.close().await;
    let store = home.open().await;
    let file = std::fs::File::options()
        .write(true)
        .read(true)
        .open(home.file("holdfast.db"))
        .unwrap();
    // The first pages hold what every start needs; the damage is in what was kept.
    let whole = std::fs::read(home.file("holdfast.db")).unwrap();
    let from = whole.len() / 3;
    file.write_all_at(&vec![0xa5; whole.len() - from], from as u64)
        .unwrap();
    let mut health = store.health();
    let all = TicketFilter {
        limit: 1000,
        ..TicketFilter::default()
    };
    let found = until(async || store.tickets(&all).await.err()).await;
    assert!(matches!(found, Error::Corrupt(_)), "{found:?}");
    health.wait_for(|well| !well).await.unwrap();
    assert!(!store.check().await.unwrap().is_empty());
    file.write_all_at(&whole[from..], from as u64).unwrap();
    health.wait_for(|well| *well).await.unwrap();
    assert_eq!(store.tickets(&all).await.unwrap().len(), 400);
    assert!(store.check().await.unwrap().is_empty());
}

async fn a_file_that_is_no_database_is_refused(home: Home) {
    std::fs::write(home.file("holdfast.db"), "not a database. ".repeat(1000)).unwrap();
    let refused = Store::open(home.options(), Handle::current()).await;
    assert!(matches!(refused, Err(Error::Corrupt(_))), "{refused:?}");
}

async fn a_second_process_is_refused(home: Home) {
    let store = home.open().await;
    let refused = Store::open(home.options(), Handle::current()).await;
    assert!(matches!(refused, Err(Error::Locked(_))), "{refused:?}");
    store.close().await;
    home.open().await.close().await;
}

async fn a_newer_schema_is_refused(home: Home) {
    home.open().await.close().await;
    let mut raw = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(home.file("holdfast.db"))
        .connect()
        .await
        .unwrap();
    raw.execute("INSERT INTO holdfast_schema (version) VALUES (99)")
        .await
        .unwrap();
    drop(raw);
    let refused = Store::open(home.options(), Handle::current()).await;
    let newer = Error::NewerSchema {
        found: 99,
        known: 2,
    };
    assert_eq!(refused.unwrap_err(), newer);
    // Nothing of it was touched, and nothing of it is held.
    let refused = Store::open(home.options(), Handle::current()).await;
    assert_eq!(refused.unwrap_err(), newer);
}

async fn a_copy_is_made_while_it_works(home: Home) {
    let store = home.open().await;
    let writing = {
        let store = store.clone();
        tokio::spawn(async move {
            for number in 0..300 {
                let name = format!("k{number}");
                let fence = fresh(&store.claim_key(claim(&name)).await.unwrap());
                let stored = big(&name);
                store
                    .complete_key(&key(&name), fence, stored, NOW, later(1))
                    .await
                    .unwrap();
            }
        })
    };
    until(async || (store.status().commits > 100).then_some(())).await;
    let bytes = store.backup(home.file("copy.db")).await.unwrap();
    assert_eq!(
        bytes,
        std::fs::metadata(home.file("copy.db")).unwrap().len()
    );
    writing.await.unwrap();
    let again = store.backup(home.file("copy.db")).await;
    assert!(matches!(again, Err(Error::Unavailable(_))));
    let place = Place::Sqlite(home.file("copy.db"));
    let copy = Store::open(Options::new(place), Handle::current())
        .await
        .unwrap();
    assert!(copy.check().await.unwrap().is_empty());
    let first = copy.claim_key(claim("k0")).await.unwrap();
    assert!(matches!(first, Claimed::Done(_)));
    copy.close().await;
}

async fn more_than_the_queue_is_refused(home: Home) {
    let options = Options {
        queue: 4,
        batch: 1,
        ..home.options()
    };
    let store = Store::open(options, Handle::current()).await.unwrap();
    let mut calls = JoinSet::new();
    for number in 0..200 {
        let store = store.clone();
        calls.spawn(async move { store.claim_key(claim(&format!("k{number}"))).await });
    }
    let all = calls.join_all().await;
    let refused = all.iter().filter(|one| **one == Err(Error::Busy)).count();
    let accepted = all.iter().filter(|one| one.is_ok()).count();
    assert!(refused > 0 && accepted > 0);
    assert_eq!(refused + accepted, 200);
    // Too much to do is no illness.
    assert!(store.is_healthy());
}

/// The runtimes of the workers are others than the store's.
async fn a_store_may_be_awaited_from_another_runtime(home: Home) {
    let store = home.open().await;
    let elsewhere = std::thread::spawn(move || {
        // Without a driver of its own, and without timers.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        runtime.block_on(all_calls(&store));
    });
    until(async || elsewhere.is_finished().then_some(())).await;
    elsewhere.join().unwrap();
}

fn all_calls(store: &Store) -> impl Future<Output = ()> + use<> {
    let store = store.clone();
    async move {
        fresh(&store.claim_key(claim("k")).await.unwrap());
        assert!(store.key(&key("k")).await.unwrap().is_some());
        assert!(store.check().await.unwrap().is_empty());
        store.close().await;
    }
}
