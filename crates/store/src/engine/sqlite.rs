//! `SQLite`: one writer on a thread of its own, several readers, and the file's lock.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};

use super::health::{Health, judge};
use super::job::Job;
use super::link::STATEMENTS;
use super::queue::{Order, Queue};
use super::sql::{Conn, Tx};
use super::writer::{PRAGMAS, Writer};
use crate::error::{Error, Result};
use crate::options::Options;

pub(crate) struct Sqlite {
    runtime: Handle,
    queue: Arc<Queue>,
    /// Operations that wait for the writer or run.
    writes: Arc<AtomicUsize>,
    readers: SqlitePool,
    reading: Arc<Semaphore>,
    owner: Arc<str>,
    health: Arc<Health>,
    timeout: Duration,
    /// Tells that the writer's thread has ended.
    writing: Mutex<Option<oneshot::Receiver<()>>>,
    /// Held while the process has the database.
    lock: Mutex<Option<File>>,
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
        let queue = Arc::new(Queue::new(options.queue));
        let count = Arc::new(AtomicUsize::new(0));
        let writer = Writer {
            path: path.to_owned(),
            timeout: options.timeout,
            owner: Arc::clone(&owner),
            health: Arc::clone(&health),
            writes: Arc::clone(&count),
            link: None,
            cap: None,
        };
        let writing = start(writer, Arc::clone(&queue), options.batch.max(1)).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers.max(1))
            .acquire_timeout(options.timeout)
            .test_before_acquire(false)
            .connect_with(connect_options(path, options.timeout).pragma("query_only", "on"))
            .await
            .map_err(|error| judge(&error).error)
            .inspect_err(|_| queue.close())?;
        runtime.spawn(tell_stuck(
            Arc::downgrade(&queue),
            Arc::clone(&health),
            options.timeout,
        ));
        Ok(Self {
            runtime: runtime.clone(),
            queue,
            writes: count,
            readers,
            reading: Arc::new(Semaphore::new(options.queue.max(1))),
            owner,
            health,
            timeout: options.timeout,
            writing: Mutex::new(Some(writing)),
            lock: Mutex::new(Some(lock)),
        })
    }

    pub(crate) fn write(&self, job: Box<dyn Job>) -> Result<()> {
        self.health.waiting.fetch_add(1, Ordering::Relaxed);
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.queue.put(Order::Do(job)).inspect_err(|_| {
            self.health.waiting.fetch_sub(1, Ordering::Relaxed);
            self.writes.fetch_sub(1, Ordering::Relaxed);
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
                Err(_) => Err(Error::stuck()),
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
        self.queue.put(Order::Cap(pages, answer))?;
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
            Conn::Patient(Box::new(conn)),
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
        Ok(Tx::new(Conn::Patient(Box::new(conn)), nobody))
    }

    /// What was handed in is done first, unless the disk does not answer.
    pub(crate) async fn close(&self) {
        self.queue.close();
        let writing = self.writing.lock().take();
        if let Some(writing) = writing {
            drop(tokio::time::timeout(self.timeout, writing).await);
        }
        self.readers.close().await;
        drop(self.lock.lock().take());
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sqlite")
    }
}

/// However the writer's thread ends, nobody waits for it any more.
struct Ending {
    queue: Arc<Queue>,
    _tells: oneshot::Sender<()>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.queue.end();
    }
}

/// Starts the writer's thread; ready when the file is. Gives what tells of its end.
async fn start(
    mut writer: Writer,
    queue: Arc<Queue>,
    most: usize,
) -> Result<oneshot::Receiver<()>> {
    let (ready, is_ready) = oneshot::channel();
    let (tells_end, has_ended) = oneshot::channel();
    let ending = Ending {
        queue,
        _tells: tells_end,
    };
    thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || {
            let prepared = writer.prepare();
            let works = prepared.is_ok();
            if ready.send(prepared).is_ok() && works {
                writer.work(&ending.queue, most);
            }
        })
        .map_err(|error| Error::Unavailable(format!("it has no thread ({})", error.kind())))?;
    is_ready
        .await
        .unwrap_or_else(|_| Err(Error::Unavailable("its thread broke".to_owned())))
        .map(|()| has_ended)
}

/// Tells those who wait for a disk that does not answer, until the store is gone.
async fn tell_stuck(queue: Weak<Queue>, health: Arc<Health>, timeout: Duration) {
    loop {
        tokio::time::sleep(timeout / 4).await;
        let Some(queue) = queue.upgrade() else { return };
        if queue.is_stuck(timeout) {
            health.note(&Error::stuck());
            health.stuck.notify_waiters();
        }
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
    let options = SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(timeout)
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging();
    PRAGMAS.into_iter().fold(options, |options, (name, value)| {
        options.pragma(name, value)
    })
}
