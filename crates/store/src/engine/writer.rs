//! The writing end of `SQLite`: a thread with a connection, that commits in groups.
//!
//! Operations that wait are run in one transaction, synced once, and only then answered. One that
//! fails is undone alone; where the database itself gives up on the transaction, each is run again by
//! itself, so that one can't spoil the others'. A commit that fails is told to everyone in it.
//!
//! Operations are futures, for they run on PostgreSQL as well; here they never wait.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::health::{Health, judge_link};
use super::job::{Job, Shape};
use super::link::Link;
use super::migrate::migrate;
use super::queue::{Order, Queue};
use super::sql::{Conn, Tx, args};
use crate::error::{Error, Result};

/// The log is folded into the database after this many pages (16 MiB).
const CHECKPOINT_PAGES: &str = "4000";

/// The log's file is cut to this after a checkpoint, in bytes.
const LOG_BYTES: &str = "67108864";

/// Memory for pages of one connection, in KiB (negative, as `SQLite` wants it). The writer walks over all
/// of them after each commit that split a page.
const CACHE: &str = "-8000";

/// What is set on every connection.
pub(crate) const PRAGMAS: [(&str, &str); 6] = [
    ("synchronous", "FULL"),
    ("foreign_keys", "OFF"),
    ("wal_autocheckpoint", CHECKPOINT_PAGES),
    ("journal_size_limit", LOG_BYTES),
    ("cache_size", CACHE),
    ("temp_store", "memory"),
];

/// A connection that is made anew where it broke, and what goes with it.
pub(crate) struct Writer {
    pub(crate) path: PathBuf,
    pub(crate) timeout: Duration,
    pub(crate) owner: Arc<str>,
    pub(crate) health: Arc<Health>,
    /// Operations that wait or run.
    pub(crate) writes: Arc<AtomicUsize>,
    pub(crate) link: Option<Link>,
    pub(crate) cap: Option<i64>,
}

/// How a transaction ended.
enum Fate {
    Committed,
    /// Nobody's operation happened (or, where the file failed, perhaps).
    Lost(Error),
    /// One operation brought the whole transaction down; nothing happened.
    Spoilt(Error),
}

impl Writer {
    /// Makes the file a store of this version.
    pub(crate) fn prepare(&mut self) -> Result<()> {
        let mut tx = self.begin()?;
        let done = now(async {
            tx.rows("PRAGMA journal_mode = WAL", args![]).await?;
            tx.execute("BEGIN IMMEDIATE", args![]).await?;
            migrate(&mut tx, &()).await?;
            tx.execute("COMMIT", args![]).await
        });
        self.keep(tx);
        done.map(drop)
    }

    /// Works until the queue is closed and empty. The last connection to close folds the log in.
    pub(crate) fn work(mut self, queue: &Queue, most: usize) {
        let mut group = Vec::with_capacity(most);
        let mut caps = Vec::new();
        let mut present = 0;
        while queue.take(&mut group, most, present) {
            let mut jobs = Vec::with_capacity(group.len());
            for order in group.drain(..) {
                match order {
                    Order::Do(job) => jobs.push(job),
                    Order::Cap(pages, answer) => caps.push((pages, answer)),
                }
            }
            if !jobs.is_empty() {
                present = self.batch(jobs);
            }
            for (pages, answer) in caps.drain(..) {
                drop(answer.send(self.cap(pages)));
            }
        }
    }

    /// Runs these together, and answers each. Gives how many waited or ran just before.
    fn batch(&mut self, mut jobs: Vec<Box<dyn Job>>) -> usize {
        let count = jobs.len();
        let (fate, rang) = self.together(&mut jobs);
        match fate {
            Fate::Committed => self.answer(jobs, &Ok(()), rang),
            Fate::Lost(error) => self.answer(jobs, &Err(error), false),
            Fate::Spoilt(error) if count == 1 => self.answer(jobs, &Err(error), false),
            Fate::Spoilt(_) => jobs.into_iter().fold(0, |_, job| {
                let mut alone = vec![job];
                let (fate, rang) = self.together(&mut alone);
                match fate {
                    Fate::Committed => self.answer(alone, &Ok(()), rang),
                    Fate::Lost(error) | Fate::Spoilt(error) => {
                        self.answer(alone, &Err(error), false)
                    }
                }
            }),
        }
    }

    fn answer(&self, jobs: Vec<Box<dyn Job>>, told: &Result<()>, rang: bool) -> usize {
        let count = jobs.len();
        let present = self.writes.fetch_sub(count, Ordering::Relaxed);
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
        present
    }

    /// One transaction with all of them.
    fn together(&mut self, jobs: &mut [Box<dyn Job>]) -> (Fate, bool) {
        let mut tx = match self.begin() {
            Ok(tx) => tx,
            Err(error) => return (Fate::Lost(error), false),
        };
        let fate = now(async { Ok(transact(&mut tx, jobs, &self.health).await) })
            .unwrap_or_else(Fate::Lost);
        let rang = tx.rang;
        // After an error on the file the connection's idea of it may be wrong.
        let keep = match &fate {
            Fate::Committed => true,
            Fate::Lost(error) | Fate::Spoilt(error) => {
                !matches!(error, Error::Unavailable(_) | Error::Corrupt(_))
            }
        };
        if keep {
            self.keep(tx);
        }
        (fate, rang)
    }

    /// The connection, to work with and [`Self::keep`].
    fn begin(&mut self) -> Result<Tx> {
        let link = match self.link.take() {
            Some(link) => link,
            None => self.connect()?,
        };
        Ok(Tx::new(Conn::Writer(link), Arc::clone(&self.owner)))
    }

    fn keep(&mut self, tx: Tx) {
        if let Conn::Writer(link) = tx.into_conn() {
            self.link = Some(link);
        }
    }

    fn connect(&self) -> Result<Link> {
        let link = Link::open(&self.path, self.timeout, &PRAGMAS)
            .map_err(|error| judge_link(&error).error)?;
        match self.cap {
            Some(pages) => set_cap(&link, pages).map(|()| link),
            None => Ok(link),
        }
    }

    fn cap(&mut self, pages: i64) -> Result<()> {
        self.cap = (pages > 0).then_some(pages);
        let link = match self.link.take() {
            Some(link) => link,
            None => self.connect()?,
        };
        let done = set_cap(&link, pages);
        self.link = Some(link);
        done
    }
}

/// What an operation gives that never waits.
fn now<T>(operation: impl Future<Output = Result<T>>) -> Result<T> {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(operation).poll(&mut context) {
        Poll::Ready(done) => done,
        Poll::Pending => Err(Error::Internal("an operation waits".to_owned())),
    }
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
    for job in quickly(tx, jobs)? {
        step(tx, job, health).await?;
    }
    Ok(())
}

/// Runs what one statement may do, each statement for all that it may fit. Gives the operations that are
/// left.
fn quickly<'a>(tx: &mut Tx, jobs: &'a mut [Box<dyn Job>]) -> Result<Vec<&'a mut Box<dyn Job>>> {
    let mut left = Vec::new();
    let mut groups: Vec<(&'static str, Vec<&'a mut Box<dyn Job>>)> = Vec::new();
    for job in jobs {
        let Some(statement) = job.quick() else {
            left.push(job);
            continue;
        };
        match groups.iter_mut().find(|(known, _)| *known == statement) {
            Some((_, group)) => group.push(job),
            None => groups.push((statement, vec![job])),
        }
    }
    let owner = Arc::clone(&tx.owner);
    for (statement, group) in groups {
        let fit = tx.each(statement, group.iter().map(|job| job.quick_values(&owner)))?;
        for (job, fits) in group.into_iter().zip(fit) {
            if fits {
                job.quick_done();
            } else {
                left.push(job);
            }
        }
    }
    Ok(left)
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

/// 0 = as far as `SQLite` goes.
fn set_cap(link: &Link, pages: i64) -> Result<()> {
    let pages = if pages == 0 {
        i64::from(u32::MAX) - 1
    } else {
        pages
    };
    link.rows(&format!("PRAGMA max_page_count = {pages}"), &[])
        .map(drop)
        .map_err(|error| judge_link(&error).error)
}
