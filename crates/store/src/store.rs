//! The handle: opening, closing, how it is doing, and how calls reach the engine.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::engine::health::Health;
use crate::engine::job::{Quick, Run, Shape, call, quick_call};
use crate::engine::postgres::Postgres;
use crate::engine::sqlite::Sqlite;
use crate::engine::undo::{Undo, Undos};
use crate::engine::{Engine, migrate, owners};
use crate::error::{Error, Result};
use crate::model::ledger::Status;
use crate::options::{Options, Place};
use crate::seal::{self, Seal};
use crate::tend;
use crate::{MAX_CONTENT_BYTES, MAX_LIST, MAX_NAME_BYTES, MAX_TEXT_BYTES};

/// What Holdfast keeps. Cheap to clone; may be awaited from any runtime.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
    /// Ends the tending when the last handle is gone without a close.
    tended: Arc<Tended>,
}

/// What the calls and the tending share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) owner: Arc<str>,
    pub(crate) engine: Engine,
    pub(crate) health: Arc<Health>,
    pub(crate) undos: Arc<Undos>,
    pub(crate) runtime: Handle,
    seal: Option<Seal>,
}

#[derive(Debug)]
struct Tended {
    closing: watch::Sender<bool>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Store {
    /// Opens the database, makes and migrates it where needed, and enters this process into its
    /// owners. Its work runs on `runtime`.
    ///
    /// Fails with `Locked` where another process has the `SQLite` file, and with `NewerSchema` where
    /// a newer Holdfast wrote it.
    pub async fn open(options: Options, runtime: Handle) -> Result<Self> {
        let opening = runtime.spawn(Self::open_here(options, runtime.clone()));
        opening
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable("the runtime ended".to_owned())))
    }

    async fn open_here(options: Options, runtime: Handle) -> Result<Self> {
        let owner: Arc<str> = new_id().into();
        let health = Arc::new(Health::new());
        let (own, ill) = (Arc::clone(&owner), Arc::clone(&health));
        let engine = match &options.place {
            Place::Sqlite(path) => {
                Engine::Sqlite(Sqlite::open(path, &options, &runtime, own, ill).await?)
            }
            Place::Postgres(url) => {
                Engine::Postgres(Postgres::open(url, &options, &runtime, own, ill).await?)
            }
        };
        let inner = Arc::new(Inner {
            owner,
            engine,
            health,
            undos: Arc::new(Undos::default()),
            runtime: runtime.clone(),
            seal: options.seal,
        });
        if matches!(inner.engine, Engine::Sqlite(_)) {
            // The lock says that there is nobody else.
            inner
                .write(Shape::One, (), |tx, args| Box::pin(owners::alone(tx, args)))
                .await?;
        }
        inner
            .write(Shape::One, (), |tx, args| Box::pin(owners::beat(tx, args)))
            .await?;
        let (closing, closed) = watch::channel(false);
        let beating = runtime.spawn(tend::beat(
            Arc::clone(&inner),
            options.lease,
            closed.clone(),
        ));
        let probing = runtime.spawn(tend::probe(Arc::clone(&inner), closed));
        Ok(Self {
            inner,
            tended: Arc::new(Tended {
                closing,
                tasks: Mutex::new(vec![beating, probing]),
            }),
        })
    }

    /// Ends: what was handed in is done, this process is taken out of the owners, the files are put in
    /// order. Every call after it fails.
    pub async fn close(&self) {
        self.tended.closing.send_replace(true);
        let tasks = std::mem::take(&mut *self.tended.tasks.lock());
        let inner = Arc::clone(&self.inner);
        let closing = self.inner.runtime.spawn(async move {
            for task in tasks {
                drop(task.await);
            }
            // Where the database is away, the others find out by themselves.
            drop(
                inner
                    .write(Shape::One, (), |tx, args| Box::pin(owners::leave(tx, args)))
                    .await,
            );
            inner.engine.close().await;
        });
        drop(closing.await);
    }

    /// This process, as others see it.
    pub fn owner(&self) -> &str {
        &self.inner.owner
    }

    /// Whether the last operations worked. While it is `false`, what needs the store is refused
    /// before anything is done.
    pub fn is_healthy(&self) -> bool {
        self.inner.health.is_well()
    }

    /// Tells changes of [`Self::is_healthy`].
    pub fn health(&self) -> watch::Receiver<bool> {
        self.inner.health.watch()
    }

    /// How it is doing; for people and metrics.
    pub fn status(&self) -> Status {
        let health = &self.inner.health;
        Status {
            kind: self.inner.engine.kind(),
            owner: self.inner.owner.to_string(),
            healthy: health.is_well(),
            trouble: health.trouble().map(|error| error.to_string()),
            waiting: health.waiting.load(Ordering::Relaxed),
            operations: health.operations.load(Ordering::Relaxed),
            commits: health.commits.load(Ordering::Relaxed),
            failures: health.failures.load(Ordering::Relaxed),
            schema: migrate::known(),
        }
    }

    /// Rings when there may be new events: at once for this process's and, while the database is
    /// reached, for others'.
    pub fn event_signal(&self) -> watch::Receiver<u64> {
        self.inner.health.events.subscribe()
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.inner
    }

    pub(crate) async fn write<A, T>(&self, shape: Shape, args: A, run: Run<A, T>) -> Result<T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        self.inner.write(shape, args, run).await
    }

    /// Writes what is given back where nobody learns that it was taken.
    pub(crate) async fn take<A, T>(
        &self,
        shape: Shape,
        args: A,
        undo: Undo,
        run: Run<A, T>,
    ) -> Result<T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        let (job, waiting) = call(shape, args, run, Some(undo), &self.inner.undos);
        self.inner.engine.write(job)?;
        waiting.done_unless(&self.inner.health.stuck).await
    }

    /// Writes what many do at once, and gives back like [`Self::take`].
    pub(crate) async fn write_quickly<A, T>(
        &self,
        args: A,
        quick: Option<Quick<A, T>>,
        undo: Option<Undo>,
        run: Run<A, T>,
    ) -> Result<T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        let undos = &self.inner.undos;
        let (job, waiting) = quick_call(Shape::One, args, run, quick, undo, undos);
        self.inner.engine.write(job)?;
        waiting.done_unless(&self.inner.health.stuck).await
    }

    /// What was taken and can't be opened is nobody's again.
    pub(crate) fn or_give_back<T>(&self, opened: Result<T>, undo: Undo) -> Result<T> {
        if opened.is_err() {
            self.give_back(undo);
        }
        opened
    }

    /// What was taken is nobody's again, as soon as that can be written.
    pub(crate) fn give_back(&self, undo: Undo) {
        self.inner.undos.push(undo);
    }

    pub(crate) async fn read<A, T>(&self, args: A, run: Run<A, T>) -> Result<T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        let (job, waiting) = call(Shape::One, args, run, None, &self.inner.undos);
        self.inner.engine.read(job)?;
        waiting.done().await
    }

    /// What is written for content.
    pub(crate) fn seal(&self, table: &str, id: impl Display, content: &[u8]) -> Result<Vec<u8>> {
        at_most(content.len(), MAX_CONTENT_BYTES)?;
        let place = format_args!("{table}/{id}");
        seal::close(self.inner.seal.as_ref(), place, content)
    }

    /// The content of what was written.
    pub(crate) fn unseal(&self, table: &str, id: impl Display, kept: Vec<u8>) -> Result<Vec<u8>> {
        let place = format_args!("{table}/{id}");
        seal::open(self.inner.seal.as_ref(), place, kept)
    }
}

impl Inner {
    pub(crate) async fn write<A, T>(&self, shape: Shape, args: A, run: Run<A, T>) -> Result<T>
    where
        A: Send + Sync + 'static,
        T: Send + 'static,
    {
        let (job, waiting) = call(shape, args, run, None, &self.undos);
        self.engine.write(job)?;
        waiting.done_unless(&self.health.stuck).await
    }
}

impl Drop for Tended {
    fn drop(&mut self) {
        self.closing.send_replace(true);
    }
}

/// An id that sorts by time.
pub(crate) fn new_id() -> String {
    uuid::Uuid::now_v7().simple().to_string()
}

/// How many rows a list gives.
pub(crate) fn list_limit(limit: usize) -> usize {
    if limit == 0 {
        MAX_LIST
    } else {
        limit.min(MAX_LIST)
    }
}

/// Names within their limit.
pub(crate) fn names(all: &[&str]) -> Result<()> {
    all.iter()
        .try_for_each(|name| at_most(name.len(), MAX_NAME_BYTES))
}

/// Texts within their limit.
pub(crate) fn texts(all: &[&str]) -> Result<()> {
    all.iter()
        .try_for_each(|text| at_most(text.len(), MAX_TEXT_BYTES))
}

fn at_most(bytes: usize, limit: usize) -> Result<()> {
    if bytes > limit {
        return Err(Error::TooLarge { bytes, limit });
    }
    Ok(())
}
