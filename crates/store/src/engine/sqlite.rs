//! `SQLite`: one writer that commits in groups, several readers.
//!
//! Operations that wait are run in one transaction, synced once, and only then answered. One that
//! fails is undone alone; where the database itself gives up on the transaction, each is run again by
//! itself, so that one can't spoil the others'. A commit that fails is told to everyone in it.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use super::bulk;
use super::health::{Health, judge};
use super::job::{Job, Shape};
use super::migrate::migrate;
use super::sql::{Conn, Tx, args, assembled};
use crate::error::{Error, Result};
use crate::options::Options;

/// Prepared statements kept for each connection.
const STATEMENTS: usize = 256;

/// The log is folded into the database after this many pages (16 MiB).
const CHECKPOINT_PAGES: &str = "4000";

/// The log's file is cut to this after a checkpoint, in bytes.
const LOG_BYTES: &str = "67108864";

/// Memory for pages of one connection; negative = KiB.
const CACHE: &str = "-32000";

/// The longest that a group waits for its members; also the shortest commit that makes it wait.
const GATHER: Duration = Duration::from_millis(1);

pub(crate) struct Sqlite {
    runtime: Handle,
    queue: mpsc::Sender<Order>,
    /// Operations that wait for the writer or run.
    writes: Arc<AtomicUsize>,
    readers: SqlitePool,
    reading: Arc<Semaphore>,
    owner: Arc<str>,
    health: Arc<Health>,
    timeout: Duration,
    writer: Mutex<Option<JoinHandle<()>>>,
    /// Held while the process has the database.
    lock: Mutex<Option<File>>,
}

enum Order {
    Do(Box<dyn Job>),
    /// Caps the database's pages; for the writer's connection only.
    Cap(i64, oneshot::Sender<Result<()>>),
}

/// The writing end: a connection that is made anew where it broke.
struct Writer {
    options: SqliteConnectOptions,
    conn: Option<Box<SqliteConnection>>,
    owner: Arc<str>,
    health: Arc<Health>,
    /// The longest that a batch may take.
    timeout: Duration,
    cap: Option<i64>,
    /// Operations that wait or run.
    writes: Arc<AtomicUsize>,
    /// How many there were when the last group was about to be answered.
    present: usize,
}

// === impl Sqlite ===

impl Sqlite {
    pub(crate) async fn open(
        path: &Path,
        options: &Options,
        runtime: &Handle,
        owner: Arc<str>,
        health: Arc<Health>,
    ) -> Result<Self> {
        let lock = lock(path)?;
        let connect = connect_options(path, options.timeout);
        let conn = connect
            .clone()
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .connect()
            .await
            .map_err(|error| judge(&error).error)?;
        let count = Arc::new(AtomicUsize::new(0));
        let mut writer = Writer {
            options: connect.clone(),
            conn: Some(Box::new(conn)),
            owner: Arc::clone(&owner),
            health: Arc::clone(&health),
            timeout: options.timeout,
            cap: None,
            writes: Arc::clone(&count),
            present: 0,
        };
        writer.migrate().await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers.max(1))
            .acquire_timeout(options.timeout)
            .test_before_acquire(false)
            .connect_with(connect.pragma("query_only", "on"))
            .await
            .map_err(|error| judge(&error).error)?;
        let (queue, orders) = mpsc::channel(options.queue.max(1));
        let batch = options.batch.max(1);
        let writing = runtime.spawn(writer.work(orders, batch));
        Ok(Self {
            runtime: runtime.clone(),
            queue,
            writes: count,
            readers,
            reading: Arc::new(Semaphore::new(options.queue.max(1))),
            owner,
            health,
            timeout: options.timeout,
            writer: Mutex::new(Some(writing)),
            lock: Mutex::new(Some(lock)),
        })
    }

    pub(crate) fn write(&self, job: Box<dyn Job>) -> Result<()> {
        self.health.waiting.fetch_add(1, Ordering::Relaxed);
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.queue.try_send(Order::Do(job)).map_err(|error| {
            self.health.waiting.fetch_sub(1, Ordering::Relaxed);
            self.writes.fetch_sub(1, Ordering::Relaxed);
            refused(&error)
        })
    }

    pub(crate) fn read(&self, mut job: Box<dyn Job>) -> Result<()> {
        let permit = Arc::clone(&self.reading)
            .try_acquire_owned()
            .map_err(|_| Error::Busy)?;
        let (readers, owner, health) = (
            self.readers.clone(),
            Arc::clone(&self.owner),
            Arc::clone(&self.health),
        );
        let timeout = self.timeout;
        self.runtime.spawn(async move {
            health.waiting.fetch_add(1, Ordering::Relaxed);
            let reading = async {
                let conn = readers
                    .acquire()
                    .await
                    .map_err(|error| judge(&error).error)?;
                let mut tx = Tx::new(Conn::Reader(conn), owner);
                job.run(&mut tx).await
            };
            let done = match tokio::time::timeout(timeout, reading).await {
                Ok(done) => done,
                Err(_) => Err(Error::Unavailable("no answer in time".to_owned())),
            };
            if let Err(error) = &done {
                health.note(error);
            }
            health.waiting.fetch_sub(1, Ordering::Relaxed);
            health.operations.fetch_add(1, Ordering::Relaxed);
            job.finish(done);
            drop(permit);
        });
        Ok(())
    }

    /// Caps the database's size. In pages; 0 = as far as `SQLite` goes.
    pub(crate) async fn cap(&self, pages: i64) -> Result<()> {
        let (answer, done) = oneshot::channel();
        self.queue
            .try_send(Order::Cap(pages, answer))
            .map_err(|error| refused(&error))?;
        done.await
            .unwrap_or_else(|_| Err(Error::Unavailable("it is closed".to_owned())))
    }

    /// A connection of its own that reads for as long as it likes: for checks and copies.
    pub(crate) async fn patient(&self) -> Result<Tx> {
        let options = (*self.readers.connect_options()).clone();
        // A copy writes to another file, which `query_only` would refuse.
        let conn = options
            .pragma("query_only", "off")
            .connect()
            .await
            .map_err(|error| judge(&error).error)?;
        Ok(Tx::new(
            Conn::Writer(Box::new(conn)),
            Arc::clone(&self.owner),
        ))
    }

    /// A connection to a file that another process may have open as its store: it takes no lock of
    /// ours, migrates nothing and is good for reading only.
    pub(crate) async fn beside(path: &Path) -> Result<Tx> {
        let conn = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .connect()
            .await
            .map_err(|error| judge(&error).error)?;
        let nobody = Arc::from("");
        Ok(Tx::new(Conn::Writer(Box::new(conn)), nobody))
    }

    pub(crate) async fn close(&self) {
        let writing = self.writer.lock().take();
        if let Some(writing) = writing {
            let (answer, done) = oneshot::channel();
            // A negative cap is the end: nothing behind it is run.
            if self.queue.send(Order::Cap(-1, answer)).await.is_ok() {
                drop(done.await);
            }
            drop(writing.await);
        }
        self.readers.close().await;
        drop(self.lock.lock().take());
    }
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sqlite")
    }
}

fn refused(error: &mpsc::error::TrySendError<Order>) -> Error {
    match error {
        mpsc::error::TrySendError::Full(_) => Error::Busy,
        mpsc::error::TrySendError::Closed(_) => Error::Unavailable("it is closed".to_owned()),
    }
}

/// One process for each database.
fn lock(path: &Path) -> Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(PathBuf::from(name))
        .map_err(|error| {
            Error::Unavailable(format!("its lock file can't be opened ({})", error.kind()))
        })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked(
            "another Holdfast has this database open; several need PostgreSQL".to_owned(),
        )),
        Err(TryLockError::Error(error)) => Err(Error::Unavailable(format!(
            "its lock file can't be locked ({})",
            error.kind()
        ))),
    }
}

fn connect_options(path: &Path, timeout: Duration) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(false)
        .busy_timeout(timeout)
        .statement_cache_capacity(STATEMENTS)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", LOG_BYTES)
        .pragma("cache_size", CACHE)
        .pragma("temp_store", "memory")
        .disable_statement_logging()
}

// === impl Writer ===

impl Writer {
    async fn work(mut self, mut orders: mpsc::Receiver<Order>, most: usize) {
        let mut batch = Vec::with_capacity(most);
        let mut caps = Vec::new();
        let mut open = true;
        let mut expected = 0;
        while open && orders.recv_many(&mut batch, most).await > 0 {
            gather(&mut orders, &mut batch, most.min(expected)).await;
            let started = Instant::now();
            let mut jobs = Vec::with_capacity(batch.len());
            for order in batch.drain(..) {
                match order {
                    Order::Do(job) => jobs.push(job),
                    Order::Cap(pages, answer) => caps.push((pages, answer)),
                }
            }
            // Who is answered now comes back soon, and who came meanwhile is there already. Where a
            // sync costs nothing, waiting for them gains nothing.
            if !jobs.is_empty() {
                self.batch(jobs).await;
            }
            expected = if started.elapsed() >= GATHER {
                self.present
            } else {
                0
            };
            for (pages, answer) in caps.drain(..) {
                open = pages >= 0;
                drop(answer.send(self.cap(pages).await));
            }
        }
        if let Some(conn) = self.conn.take() {
            // The last connection to close folds the log in.
            drop(conn.close().await);
        }
    }

    /// Runs these together, and answers each.
    async fn batch(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        let count = jobs.len();
        let (fate, rang) = self.together(&mut jobs).await;
        match fate {
            Fate::Committed => self.answer(jobs, &Ok(()), rang),
            Fate::Lost(error) => self.answer(jobs, &Err(error), false),
            Fate::Spoilt(error) if count == 1 => self.answer(jobs, &Err(error), false),
            Fate::Spoilt(_) => {
                for job in jobs {
                    let mut alone = vec![job];
                    let (fate, rang) = self.together(&mut alone).await;
                    match fate {
                        Fate::Committed => self.answer(alone, &Ok(()), rang),
                        Fate::Lost(error) | Fate::Spoilt(error) => {
                            self.answer(alone, &Err(error), false);
                        }
                    }
                }
            }
        }
    }

    fn answer(&mut self, jobs: Vec<Box<dyn Job>>, told: &Result<()>, rang: bool) {
        let count = jobs.len();
        self.present = self.writes.fetch_sub(count, Ordering::Relaxed);
        self.health.waiting.fetch_sub(count, Ordering::Relaxed);
        self.health
            .operations
            .fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
        match told {
            Ok(()) => {
                self.health.commits.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => self.health.note(error),
        }
        for job in jobs {
            job.finish(told.clone());
        }
        if rang {
            self.health.ring();
        }
    }

    /// One transaction with all of them, within the time that it may take.
    async fn together(&mut self, jobs: &mut [Box<dyn Job>]) -> (Fate, bool) {
        let conn = match self.connected().await {
            Ok(conn) => conn,
            Err(error) => return (Fate::Lost(error), false),
        };
        let mut tx = Tx::new(Conn::Writer(conn), Arc::clone(&self.owner));
        let fate = tokio::time::timeout(self.timeout, transact(&mut tx, jobs, &self.health)).await;
        let rang = tx.rang;
        match fate {
            Ok(fate) => {
                // After an error on the file the connection's idea of it may be wrong.
                let keep = match &fate {
                    Fate::Committed => true,
                    Fate::Lost(error) | Fate::Spoilt(error) => {
                        !matches!(error, Error::Unavailable(_) | Error::Corrupt(_))
                    }
                };
                if keep && let Conn::Writer(conn) = tx.into_conn() {
                    self.conn = Some(conn);
                }
                (fate, rang)
            }
            Err(_) => (
                Fate::Lost(Error::Unavailable("no answer in time".to_owned())),
                false,
            ),
        }
    }

    async fn connected(&mut self) -> Result<Box<SqliteConnection>> {
        if let Some(conn) = self.conn.take() {
            return Ok(conn);
        }
        let connecting = tokio::time::timeout(self.timeout, self.options.connect()).await;
        let conn = connecting
            .map_err(|_| Error::Unavailable("no connection in time".to_owned()))?
            .map_err(|error| judge(&error).error)?;
        let mut tx = Tx::new(Conn::Writer(Box::new(conn)), Arc::clone(&self.owner));
        if let Some(pages) = self.cap {
            set_cap(&mut tx, pages).await?;
        }
        match tx.into_conn() {
            Conn::Writer(conn) => Ok(conn),
            Conn::Reader(_) | Conn::Postgres(_) => {
                Err(Error::Internal("another connection came back".to_owned()))
            }
        }
    }

    async fn cap(&mut self, pages: i64) -> Result<()> {
        if pages < 0 {
            return Ok(());
        }
        self.cap = (pages > 0).then_some(pages);
        let conn = self.connected().await?;
        let mut tx = Tx::new(Conn::Writer(conn), Arc::clone(&self.owner));
        let done = set_cap(&mut tx, pages).await;
        if let Conn::Writer(conn) = tx.into_conn() {
            self.conn = Some(conn);
        }
        done
    }

    async fn migrate(&mut self) -> Result<()> {
        let conn = self.connected().await?;
        let mut tx = Tx::new(Conn::Writer(conn), Arc::clone(&self.owner));
        tx.execute("BEGIN IMMEDIATE", args![]).await?;
        migrate(&mut tx, &()).await?;
        tx.execute("COMMIT", args![]).await?;
        if let Conn::Writer(conn) = tx.into_conn() {
            self.conn = Some(conn);
        }
        Ok(())
    }
}

/// Waits a moment for as many as are expected. Without it, callers fall into two groups, each of which
/// waits for the other's sync.
async fn gather(orders: &mut mpsc::Receiver<Order>, batch: &mut Vec<Order>, expected: usize) {
    let limit = Instant::now() + GATHER;
    while batch.len() < expected {
        let more = orders.recv_many(batch, expected - batch.len());
        match timeout_at(limit, more).await {
            Ok(some) if some > 0 => {}
            _ => return,
        }
    }
}

/// How a transaction ended.
enum Fate {
    Committed,
    /// Nobody's operation happened (or, where the file failed, perhaps).
    Lost(Error),
    /// One operation brought the whole transaction down; nothing happened.
    Spoilt(Error),
}

async fn transact(tx: &mut Tx, jobs: &mut [Box<dyn Job>], health: &Health) -> Fate {
    if let Err(error) = tx.execute("BEGIN IMMEDIATE", args![]).await {
        return Fate::Lost(error);
    }
    if let Err(error) = all(tx, jobs, health).await {
        // It may be over already: then this fails, and that is right.
        drop(tx.execute("ROLLBACK", args![]).await);
        tx.rang = false;
        return Fate::Spoilt(error);
    }
    match tx.execute("COMMIT", args![]).await {
        Ok(_) => Fate::Committed,
        Err(error) => {
            drop(tx.execute("ROLLBACK", args![]).await);
            tx.rang = false;
            match error {
                // Surely nothing happened, and what needs no room can still be done.
                Error::Full(_) => Fate::Spoilt(error),
                _ => Fate::Lost(error),
            }
        }
    }
}

async fn all(tx: &mut Tx, jobs: &mut [Box<dyn Job>], health: &Health) -> Result<()> {
    for job in bulk::together(tx, jobs).await? {
        step(tx, job, health).await?;
    }
    Ok(())
}

/// Runs one operation. An error says that the whole transaction is spoilt.
async fn step(tx: &mut Tx, job: &mut Box<dyn Job>, health: &Health) -> Result<()> {
    if job.shape() == Shape::One {
        return job.run(tx).await;
    }
    tx.execute("SAVEPOINT operation", args![]).await?;
    if let Err(error) = job.run(tx).await {
        if !matches!(error, Error::Internal(_) | Error::TooLarge { .. }) {
            return Err(error);
        }
        health.note(&error);
        tx.execute("ROLLBACK TO operation", args![]).await?;
    }
    tx.execute("RELEASE operation", args![]).await?;
    Ok(())
}

async fn set_cap(tx: &mut Tx, pages: i64) -> Result<()> {
    let pages = if pages == 0 {
        i64::from(u32::MAX) - 1
    } else {
        pages
    };
    tx.rows_text(
        assembled(format!("PRAGMA max_page_count = {pages}")),
        args![],
    )
    .await
    .map(drop)
}
