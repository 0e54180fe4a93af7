//! Why the store did not do what it was asked.
//!
//! The words are for callers and operators: no paths, no addresses, no secrets.

use holdfast_core::fault::{Code, Fault};

/// Why the store did not do it. After every one of them but a lost commit (`Unavailable`, "outcome
/// unknown") nothing was kept.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// The database can't be reached, is read-only, or did not answer in time.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// The disk, or the size that the database may have, is used up.
    #[error("the store is full: {0}")]
    Full(String),
    /// Another process has the database open.
    #[error("the store is in use: {0}")]
    Locked(String),
    /// A newer Holdfast wrote this database.
    #[error(
        "the store was written by a newer Holdfast (schema {found}, this one knows {known}); use that one, or restore a backup"
    )]
    NewerSchema { found: i64, known: i64 },
    /// The database's file is damaged.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// More operations wait than `queue` allows.
    #[error("the store is busy: its queue is full")]
    Busy,
    /// Something to be kept is over its limit. In bytes.
    #[error("{bytes} bytes are over the store's limit of {limit}")]
    TooLarge { bytes: usize, limit: usize },
    /// A mistake in Holdfast.
    #[error("the store failed: {0}")]
    Internal(String),
}

impl Error {
    /// The disk does not answer.
    pub(crate) fn stuck() -> Self {
        Self::Unavailable("no answer in time".to_owned())
    }

    /// Whether the same call would fail in the same way for ever.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::TooLarge { .. } | Self::Internal(_) => true,
            Self::Unavailable(_)
            | Self::Full(_)
            | Self::Locked(_)
            | Self::NewerSchema { .. }
            | Self::Corrupt(_)
            | Self::Busy => false,
        }
    }
}

/// What the store's calls answer with.
pub type Result<T> = std::result::Result<T, Error>;

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let code = match &error {
            Error::Internal(_) => Code::Internal,
            Error::TooLarge { .. } => Code::BodyTooLarge,
            Error::Unavailable(_)
            | Error::Full(_)
            | Error::Locked(_)
            | Error::NewerSchema { .. }
            | Error::Corrupt(_)
            | Error::Busy => Code::StoreUnavailable,
        };
        Self::new(code, error.to_string())
    }
}
