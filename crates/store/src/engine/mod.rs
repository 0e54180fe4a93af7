//! What runs the operations: one writer with group commit on `SQLite`, a pool on PostgreSQL.
//!
//! An operation is a [`Job`]: a function over a transaction, run again where the database asks for it,
//! and answered only after its commit. Nothing here knows what is kept.

pub(crate) mod bulk;
pub(crate) mod health;
pub(crate) mod job;
pub(crate) mod link;
pub(crate) mod migrate;
pub(crate) mod owners;
pub(crate) mod postgres;
pub(crate) mod queue;
pub(crate) mod sql;
pub(crate) mod sqlite;
pub(crate) mod undo;
pub(crate) mod writer;

use crate::error::Result;
use job::Job;
use postgres::Postgres;
use sqlite::Sqlite;

/// The database behind the store.
#[derive(Debug)]
pub(crate) enum Engine {
    Sqlite(Sqlite),
    Postgres(Postgres),
}

impl Engine {
    /// Hands in an operation that writes. `Busy` where too many wait.
    pub(crate) fn write(&self, job: Box<dyn Job>) -> Result<()> {
        match self {
            Self::Sqlite(engine) => engine.write(job),
            Self::Postgres(engine) => engine.write(job),
        }
    }

    /// Hands in an operation that only reads.
    pub(crate) fn read(&self, job: Box<dyn Job>) -> Result<()> {
        match self {
            Self::Sqlite(engine) => engine.read(job),
            Self::Postgres(engine) => engine.read(job),
        }
    }

    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgresql",
        }
    }

    /// Ends it. What was handed in before is done.
    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(engine) => engine.close().await,
            Self::Postgres(engine) => engine.close().await,
        }
    }
}
