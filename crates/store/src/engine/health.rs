//! Whether the store works, and what an error of a database means.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use sqlx::sqlite::SqliteError;
use tokio::sync::{Notify, watch};

use crate::error::Error;

/// A database's error, and what follows from it.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) error: Error,
    pub(crate) remedy: Remedy,
}

/// What may be done after an error.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Remedy {
    /// The whole transaction once more.
    Again,
    /// Once more, on another connection.
    Reconnect,
    /// Nothing.
    None,
}

/// What the rest of the process may know of the store.
#[derive(Debug)]
pub(crate) struct Health {
    well: watch::Sender<bool>,
    trouble: Mutex<Option<Error>>,
    /// Rings when it became ill, so that somebody looks for its recovery.
    pub(crate) ill: Notify,
    /// Rings while the writer does not come back from the disk.
    pub(crate) stuck: Notify,
    pub(crate) events: watch::Sender<u64>,
    pub(crate) waiting: AtomicUsize,
    pub(crate) operations: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) failures: AtomicU64,
}

impl Health {
    pub(crate) fn new() -> Self {
        Self {
            well: watch::Sender::new(true),
            trouble: Mutex::new(None),
            ill: Notify::new(),
            stuck: Notify::new(),
            events: watch::Sender::new(0),
            waiting: AtomicUsize::new(0),
            operations: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        }
    }

    pub(crate) fn is_well(&self) -> bool {
        *self.well.borrow()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<bool> {
        self.well.subscribe()
    }

    pub(crate) fn trouble(&self) -> Option<Error> {
        self.trouble.lock().clone()
    }

    /// An operation failed with `error`.
    pub(crate) fn note(&self, error: &Error) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        match error {
            Error::Unavailable(_) | Error::Full(_) | Error::Corrupt(_) | Error::Locked(_) => {
                *self.trouble.lock() = Some(error.clone());
                self.well
                    .send_if_modified(|well| std::mem::replace(well, false));
                self.ill.notify_one();
            }
            // These say nothing about the next operation.
            Error::NewerSchema { .. }
            | Error::Busy
            | Error::TooLarge { .. }
            | Error::Internal(_) => {}
        }
    }

    /// It works again.
    pub(crate) fn recover(&self) {
        *self.trouble.lock() = None;
        self.well
            .send_if_modified(|well| !std::mem::replace(well, true));
    }

    /// There may be new events.
    pub(crate) fn ring(&self) {
        self.events.send_modify(|count| *count += 1);
    }
}

/// What an error means.
pub(crate) fn judge(error: &sqlx::Error) -> Trouble {
    let trouble = |error, remedy| Trouble { error, remedy };
    match error {
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            if database.try_downcast_ref::<SqliteError>().is_some() {
                sqlite(code.parse().unwrap_or_default(), database.message())
            } else {
                postgres(&code, database.message())
            }
        }
        sqlx::Error::Io(io) => trouble(
            Error::Unavailable(format!("no connection ({})", io.kind())),
            Remedy::Reconnect,
        ),
        sqlx::Error::PoolTimedOut => trouble(
            Error::Unavailable("no connection in time".to_owned()),
            Remedy::None,
        ),
        sqlx::Error::PoolClosed => {
            trouble(Error::Unavailable("it is closed".to_owned()), Remedy::None)
        }
        sqlx::Error::Tls(_) => trouble(
            Error::Unavailable("no secure connection".to_owned()),
            Remedy::None,
        ),
        sqlx::Error::WorkerCrashed | sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => {
            trouble(
                Error::Unavailable("the connection broke".to_owned()),
                Remedy::Reconnect,
            )
        }
        other => trouble(Error::Internal(other.to_string()), Remedy::None),
    }
}

/// What an error of the writer's own connection means.
pub(crate) fn judge_link(error: &rusqlite::Error) -> Trouble {
    let error = match error {
        rusqlite::Error::SqliteFailure(code, message) => {
            let message = message.as_deref().unwrap_or("no words");
            return sqlite(code.extended_code.into(), message);
        }
        rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::Utf8Error(..) => {
            Error::Corrupt(error.to_string())
        }
        other => Error::Internal(other.to_string()),
    };
    Trouble {
        error,
        remedy: Remedy::None,
    }
}

/// The codes are those of `sqlite3.h`; the low byte is the primary one.
fn sqlite(code: i64, message: &str) -> Trouble {
    const IOERR_SHMSIZE: i64 = 0x130a;
    let error = match (code, code & 0xff) {
        (_, 13) => {
            Error::Full("the disk, or the size that the database may have, is used up".to_owned())
        }
        // The index of the log could not grow: in practice a full disk.
        (IOERR_SHMSIZE, _) => Error::Full("the disk is used up".to_owned()),
        (_, 8) => Error::Unavailable("the database is read-only".to_owned()),
        (_, 11 | 26) => Error::Corrupt("the database's file is damaged".to_owned()),
        (_, 5 | 6) => Error::Unavailable("the database is locked by another program".to_owned()),
        (_, 10) => Error::Unavailable(format!("reading or writing failed (code {code})")),
        (_, 14) => Error::Unavailable("the database's file can't be opened".to_owned()),
        (_, 3 | 23) => Error::Unavailable("access to the database's file is denied".to_owned()),
        _ => Error::Internal(format!("{message} (code {code})")),
    };
    Trouble {
        error,
        remedy: Remedy::None,
    }
}

/// The codes are in PostgreSQL's manual, appendix A.
fn postgres(code: &str, message: &str) -> Trouble {
    let (error, remedy) = match code {
        "40001" | "40P01" => (
            Error::Unavailable("too many conflicts with other processes".to_owned()),
            Remedy::Again,
        ),
        "53100" => (
            Error::Full("the database server's disk is used up".to_owned()),
            Remedy::None,
        ),
        "25006" => (
            Error::Unavailable("the database is read-only".to_owned()),
            Remedy::None,
        ),
        "57014" | "55P03" => (
            Error::Unavailable("no answer in time".to_owned()),
            Remedy::None,
        ),
        "XX001" | "XX002" => (
            Error::Corrupt("the database is damaged".to_owned()),
            Remedy::None,
        ),
        // The server goes down, or ended this session.
        "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => (
            Error::Unavailable("the database server ended the connection".to_owned()),
            Remedy::Reconnect,
        ),
        code if code.starts_with("08") => (
            Error::Unavailable("no connection".to_owned()),
            Remedy::Reconnect,
        ),
        // A prepared statement is gone or its result has another shape: after a migration by others.
        "26000" | "0A000" => (
            Error::Unavailable("the database was changed".to_owned()),
            Remedy::Reconnect,
        ),
        code if code.starts_with("53") || code.starts_with("58") => (
            Error::Unavailable(format!(
                "the database server is short of something (code {code})"
            )),
            Remedy::None,
        ),
        code if code.starts_with("28") || code.starts_with("3D") || code == "42501" => (
            Error::Unavailable(format!("{message} (code {code})")),
            Remedy::None,
        ),
        _ => (
            Error::Internal(format!("{message} (code {code})")),
            Remedy::None,
        ),
    };
    Trouble { error, remedy }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_told_in_the_stores_words() {
        assert!(matches!(sqlite(13, "x").error, Error::Full(_)));
        assert!(matches!(sqlite(0x130a, "x").error, Error::Full(_)));
        assert!(matches!(
            sqlite(8 | (1 << 8), "x").error,
            Error::Unavailable(_)
        ));
        assert!(matches!(sqlite(11, "x").error, Error::Corrupt(_)));
        assert!(matches!(sqlite(26, "x").error, Error::Corrupt(_)));
        assert!(matches!(sqlite(1, "x").error, Error::Internal(_)));
        assert!(matches!(postgres("53100", "x").error, Error::Full(_)));
        assert_eq!(postgres("40P01", "x").remedy, Remedy::Again);
        assert_eq!(postgres("57P01", "x").remedy, Remedy::Reconnect);
        assert_eq!(postgres("08006", "x").remedy, Remedy::Reconnect);
        assert!(matches!(postgres("42P01", "x").error, Error::Internal(_)));
    }

    #[test]
    fn only_what_the_database_says_makes_it_ill() {
        let health = Health::new();
        health.note(&Error::Busy);
        health.note(&Error::Internal("x".to_owned()));
        assert!(health.is_well());
        health.note(&Error::Full("x".to_owned()));
        assert!(!health.is_well() && health.trouble().is_some());
        health.recover();
        assert!(health.is_well() && health.trouble().is_none());
    }
}
