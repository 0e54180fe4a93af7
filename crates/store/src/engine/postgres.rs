//! PostgreSQL: a pool; each operation is a transaction of its own.
//!
//! `READ COMMITTED` with locks of rows. What the database asks to be done again is done again, and what
//! failed on a broken connection before its commit too; a commit whose answer was lost is told as that.

use std::str::FromStr as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::health::{Health, Remedy, judge};
use super::job::Job;
use super::migrate::migrate;
use super::sql::{Conn, EVENT_CHANNEL, Tx, args};
use crate::error::{Error, Result};
use crate::options::Options;

/// How often an operation is begun.
const TRIES: u32 = 5;

/// Held while the schema is brought up to date.
const SCHEMA_LOCK: i64 = 0x0068_6f6c_6466_7363;

/// A connection that was idle for longer is asked for a sign of life before it is used.
const IDLE: Duration = Duration::from_secs(1);

/// The longest wait before listening again after a lost connection.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

pub(crate) struct Postgres {
    runtime: Handle,
    running: Arc<Running>,
    permits: Arc<Semaphore>,
    most: u32,
    listening: Mutex<Option<JoinHandle<()>>>,
}

struct Running {
    pool: PgPool,
    owner: Arc<str>,
    health: Arc<Health>,
    timeout: Duration,
}

// === impl Postgres ===

impl Postgres {
    pub(crate) async fn open(
        url: &str,
        options: &Options,
        runtime: &Handle,
        owner: Arc<str>,
        health: Arc<Health>,
    ) -> Result<Self> {
        let connect = connect_options(url, options.timeout)?;
        let pool = PgPoolOptions::new()
            .max_connections(options.connections.max(2))
            .acquire_timeout(options.timeout)
            .test_before_acquire(false)
            .before_acquire(|conn, meta| {
                Box::pin(async move {
                    if meta.idle_for > IDLE {
                        sqlx::Connection::ping(conn).await?;
                    }
                    Ok(true)
                })
            })
            .connect_with(connect)
            .await
            .map_err(|error| judge(&error).error)?;
        let running = Arc::new(Running {
            pool,
            owner,
            health,
            timeout: options.timeout,
        });
        running.migrate().await?;
        let listening = runtime.spawn(listen(running.pool.clone(), Arc::clone(&running.health)));
        let most = u32::try_from(options.queue.max(1)).unwrap_or(u32::MAX);
        Ok(Self {
            runtime: runtime.clone(),
            running,
            permits: Arc::new(Semaphore::new(options.queue.max(1))),
            most,
            listening: Mutex::new(Some(listening)),
        })
    }

    pub(crate) fn write(&self, job: Box<dyn Job>) -> Result<()> {
        self.hand_in(job)
    }

    /// The same: a transaction that only reads costs nothing at its commit.
    pub(crate) fn read(&self, job: Box<dyn Job>) -> Result<()> {
        self.hand_in(job)
    }

    fn hand_in(&self, job: Box<dyn Job>) -> Result<()> {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(tokio::sync::TryAcquireError::NoPermits) => return Err(Error::Busy),
            Err(tokio::sync::TryAcquireError::Closed) => {
                return Err(Error::Unavailable("it is closed".to_owned()));
            }
        };
        let running = Arc::clone(&self.running);
        self.runtime.spawn(async move {
            running.perform(job).await;
            drop(permit);
        });
        Ok(())
    }

    pub(crate) async fn close(&self) {
        // All that was handed in has its permit back when it is done.
        let all = self.permits.acquire_many(self.most).await;
        self.permits.close();
        drop(all);
        let listening = self.listening.lock().take();
        if let Some(listening) = listening {
            listening.abort();
            drop(listening.await);
        }
        self.running.pool.close().await;
    }
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Postgres")
    }
}

fn connect_options(url: &str, timeout: Duration) -> Result<PgConnectOptions> {
    let limit = timeout.as_millis().max(1).to_string();
    Ok(PgConnectOptions::from_str(url)
        .map_err(|_| Error::Unavailable("the URL is not one of PostgreSQL".to_owned()))?
        .application_name("holdfast")
        .options([
            ("statement_timeout", limit.as_str()),
            ("lock_timeout", limit.as_str()),
            // The locks of a process that was stopped come free.
            ("idle_in_transaction_session_timeout", limit.as_str()),
            ("tcp_keepalives_idle", "10"),
            ("tcp_keepalives_interval", "5"),
            ("tcp_keepalives_count", "3"),
            ("client_min_messages", "warning"),
        ])
        .disable_statement_logging())
}

// === impl Running ===

impl Running {
    async fn perform(&self, mut job: Box<dyn Job>) {
        self.health.waiting.fetch_add(1, Ordering::Relaxed);
        // The server ends statements at `timeout`; this is for connections that answer nothing.
        let limit = self.timeout * 2;
        let done = match tokio::time::timeout(limit, self.attempts(&mut job)).await {
            Ok(done) => done,
            Err(_) => Err(Error::Unavailable("no answer in time".to_owned())),
        };
        self.health.waiting.fetch_sub(1, Ordering::Relaxed);
        self.health.operations.fetch_add(1, Ordering::Relaxed);
        let rang = match &done {
            Ok(rang) => {
                self.health.commits.fetch_add(1, Ordering::Relaxed);
                *rang
            }
            Err(error) => {
                self.health.note(error);
                false
            }
        };
        job.finish(done.map(drop));
        if rang {
            self.health.ring();
        }
    }

    /// Gives whether events were written.
    async fn attempts(&self, job: &mut Box<dyn Job>) -> Result<bool> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.attempt(job).await {
                Ok(rang) => return Ok(rang),
                Err((_, Remedy::Again | Remedy::Reconnect)) if tries < TRIES => {
                    // Two that stand in each other's way should not meet again at once.
                    let pause = fastrand::u64(0..=5 * u64::from(tries));
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    async fn attempt(&self, job: &mut Box<dyn Job>) -> std::result::Result<bool, (Error, Remedy)> {
        let begun = self.pool.begin().await.map_err(|error| {
            let trouble = judge(&error);
            (trouble.error, trouble.remedy)
        })?;
        let mut tx = Tx::new(Conn::Postgres(begun), Arc::clone(&self.owner));
        if let Err(error) = job.run(&mut tx).await {
            let remedy = tx.remedy;
            if let Conn::Postgres(begun) = tx.into_conn() {
                drop(begun.rollback().await);
            }
            return Err((error, remedy));
        }
        let rang = tx.rang;
        let Conn::Postgres(begun) = tx.into_conn() else {
            return Err((
                Error::Internal("another connection came back".to_owned()),
                Remedy::None,
            ));
        };
        match begun.commit().await {
            Ok(()) => Ok(rang),
            Err(error) => {
                let trouble = judge(&error);
                // Once more only where the server itself says that nothing happened.
                let (error, remedy) = match trouble.remedy {
                    Remedy::Again => (trouble.error, Remedy::Again),
                    Remedy::Reconnect => (
                        Error::Unavailable(
                            "the connection broke at the commit; the outcome is unknown".to_owned(),
                        ),
                        Remedy::None,
                    ),
                    Remedy::None => (trouble.error, Remedy::None),
                };
                Err((error, remedy))
            }
        }
    }

    async fn migrate(&self) -> Result<()> {
        let begun = self
            .pool
            .begin()
            .await
            .map_err(|error| judge(&error).error)?;
        let mut tx = Tx::new(Conn::Postgres(begun), Arc::clone(&self.owner));
        tx.execute("SET LOCAL lock_timeout = '60s'", args![])
            .await?;
        tx.execute("SET LOCAL statement_timeout = '600s'", args![])
            .await?;
        tx.execute("SELECT pg_advisory_xact_lock($1)", args![SCHEMA_LOCK])
            .await?;
        migrate(&mut tx, &()).await?;
        let Conn::Postgres(begun) = tx.into_conn() else {
            return Err(Error::Internal("another connection came back".to_owned()));
        };
        begun.commit().await.map_err(|error| judge(&error).error)
    }
}

/// Hears of the other processes' events, for as long as the store is open.
async fn listen(pool: PgPool, health: Arc<Health>) {
    loop {
        if let Ok(mut listener) = PgListener::connect_with(&pool).await
            && listener.listen(EVENT_CHANNEL).await.is_ok()
        {
            // Something may have happened while nobody listened.
            health.ring();
            while let Ok(Some(_)) = listener.try_recv().await {
                health.ring();
            }
        }
        if pool.is_closed() {
            return;
        }
        tokio::time::sleep(LISTEN_AGAIN).await;
    }
}
