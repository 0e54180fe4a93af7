//! Where the store is and what it may use.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::seal::Seal;

/// Which database.
#[derive(Clone, Eq, PartialEq)]
pub enum Place {
    /// A file, made where there is none. One process at a time.
    Sqlite(PathBuf),
    /// A `postgres://` URL. Any number of processes.
    Postgres(String),
}

/// How the store works. Every number is a limit.
#[derive(Clone, Debug)]
pub struct Options {
    pub place: Place,
    /// `SQLite`: connections that read.
    pub readers: u32,
    /// PostgreSQL: connections.
    pub connections: u32,
    /// Operations that may wait; one more is refused with `Busy`.
    pub queue: usize,
    /// The longest that one operation may take.
    pub timeout: Duration,
    /// A process whose sign of life stood still for this long is dead.
    pub lease: Duration,
    /// `SQLite`: operations in one commit.
    pub batch: usize,
    /// What content is sealed with; `None` = kept as it is.
    pub seal: Option<Seal>,
}

impl Options {
    /// The defaults, for `place`.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            readers: 4,
            connections: 8,
            queue: 4096,
            timeout: Duration::from_secs(5),
            lease: Duration::from_secs(15),
            batch: 256,
            seal: None,
        }
    }
}

/// A URL may carry a password.
impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => f.debug_tuple("Sqlite").field(path).finish(),
            Self::Postgres(_) => f.write_str("Postgres(..)"),
        }
    }
}
