//! Forgetting, checking, copying, counting.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use holdfast_core::time::Wall;

use crate::engine::Engine;
use crate::engine::job::{Shape, call};
use crate::engine::sql::{Tx, args};
use crate::engine::sqlite::Sqlite;
use crate::engine::undo::Undos;
use crate::error::{Error, Result};
use crate::model::ledger::{Counts, Retention};
use crate::ops::upkeep::{self, Expiring};
use crate::store::{Inner, Store, list_limit};

/// The most lines of damage that are told.
const MOST_DAMAGE: usize = 100;

impl Store {
    /// Forgets what is over, at most `limit` rows of each kind, and expires what nobody decided. Gives
    /// the number of rows touched: call again until it is 0.
    pub async fn expire(&self, now: Wall, retention: &Retention, limit: usize) -> Result<u64> {
        let expiring = || Expiring {
            now,
            retention: *retention,
            limit: list_limit(limit),
        };
        let tickets = self
            .write(Shape::Many, expiring(), |tx, call| {
                Box::pin(upkeep::expire_tickets(tx, call))
            })
            .await?;
        let keys = self
            .write(Shape::Many, expiring(), |tx, call| {
                Box::pin(upkeep::expire_keys(tx, call))
            })
            .await?;
        let rest = self
            .write(Shape::Many, expiring(), |tx, call| {
                Box::pin(upkeep::forget(tx, call))
            })
            .await?;
        Ok(tickets + keys + rest)
    }

    /// Looks for damage, in the file and in what belongs together. Empty = sound. Reads everything.
    pub async fn check(&self) -> Result<Vec<String>> {
        let store = self.clone();
        self.on_runtime(async move {
            let mut found = damage(store.inner()).await?;
            if found.is_empty() {
                found = store
                    .read((), |tx, args| Box::pin(upkeep::misfits(tx, args)))
                    .await?;
                found.extend(store.damaged_pages(MOST_DAMAGE).await?);
            }
            Ok(found)
        })
        .await
    }

    /// Copies the database to a new file while it works, and gives the copy's size in bytes.
    /// `SQLite` only; refuses to overwrite.
    pub async fn backup(&self, to: PathBuf) -> Result<u64> {
        let store = self.clone();
        self.on_runtime(async move {
            match &store.inner().engine {
                Engine::Sqlite(engine) => copy(engine.patient().await?, &to).await,
                Engine::Postgres(_) => Err(Error::Unavailable(
                    "PostgreSQL is backed up with its own tools, such as `pg_dump`".to_owned(),
                )),
            }
        })
        .await
    }

    /// As [`Self::backup`], of a `SQLite` file that this process has not opened as its store: also while
    /// another one works with it.
    pub async fn copy_file(from: &Path, to: &Path) -> Result<u64> {
        copy(Sqlite::beside(from).await?, to).await
    }

    /// How much there is.
    pub async fn counts(&self) -> Result<Counts> {
        self.read((), |tx, args| Box::pin(upkeep::counts(tx, args)))
            .await
    }

    /// Caps the database's size until it is opened again; 0 = no cap. `SQLite` only. A store that
    /// reaches it is `Full`, as with a full disk.
    pub async fn cap_pages(&self, pages: u32) -> Result<()> {
        match &self.inner().engine {
            Engine::Sqlite(engine) => engine.cap(i64::from(pages)).await,
            Engine::Postgres(_) => Err(Error::Unavailable("PostgreSQL has no such cap".to_owned())),
        }
    }

    async fn on_runtime<T: Send + 'static>(
        &self,
        doing: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.inner()
            .runtime
            .spawn(doing)
            .await
            .unwrap_or_else(|_| Err(Error::Unavailable("the runtime ended".to_owned())))
    }
}

/// What is wrong with the file. PostgreSQL looks after its own.
pub(crate) async fn damage(inner: &Inner) -> Result<Vec<String>> {
    match &inner.engine {
        Engine::Sqlite(engine) => {
            let mut tx = engine.patient().await?;
            let rows = match tx.rows("PRAGMA integrity_check(100)", args![]).await {
                Ok(rows) => rows,
                // Too damaged for a list.
                Err(Error::Corrupt(words)) => return Ok(vec![words]),
                Err(error) => return Err(error),
            };
            let mut found = Vec::new();
            for mut row in rows.into_iter().take(MOST_DAMAGE) {
                let line = row.text()?;
                if line != "ok" {
                    found.push(line);
                }
            }
            Ok(found)
        }
        Engine::Postgres(_) => {
            // A connection and an answer are all that can be asked for.
            let (job, waiting) = call(
                Shape::One,
                (),
                |tx: &mut Tx, (): &()| {
                    Box::pin(async move { tx.execute("SELECT 1", args![]).await.map(drop) })
                },
                None,
                &Arc::new(Undos::default()),
            );
            inner.engine.read(job)?;
            waiting.done().await.map(|()| Vec::new())
        }
    }
}

/// `VACUUM INTO` reads one moment of the database, however long it takes.
async fn copy(mut tx: Tx, to: &Path) -> Result<u64> {
    let shown = |error: &std::io::Error| {
        Error::Unavailable(format!("the copy can't be written ({})", error.kind()))
    };
    if to.exists() {
        return Err(Error::Unavailable(
            "there is a file of the copy's name already".to_owned(),
        ));
    }
    let Some(name) = to.to_str() else {
        return Err(Error::Unavailable("the copy's name is not text".to_owned()));
    };
    if let Err(error) = tx.execute("VACUUM INTO $1", args![name]).await {
        drop(std::fs::remove_file(to));
        return Err(error);
    }
    let path = to.to_owned();
    let synced = tokio::task::spawn_blocking(move || {
        let file = std::fs::File::open(&path)?;
        file.sync_all()?;
        file.metadata().map(|meta| meta.len())
    });
    synced
        .await
        .map_err(|error| Error::Internal(error.to_string()))?
        .map_err(|error| shown(&error))
}
