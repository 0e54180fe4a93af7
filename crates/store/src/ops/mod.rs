//! SQL: one text for both databases, one function for each thing done.
//!
//! Every function runs inside a transaction. It decides on rows that it has locked, or with conditions
//! in the statement itself; it never reads a clock, and leaves sealing to the calls.

pub(crate) mod approvals;
pub(crate) mod decide;
pub(crate) mod effects;
pub(crate) mod keys;
pub(crate) mod ledger;
mod list;
pub(crate) mod runs;
pub(crate) mod steps;
pub(crate) mod tickets;
pub(crate) mod upkeep;

use crate::error::{Error, Result};

/// Something that is kept as JSON.
pub(crate) fn to_json<T: serde::Serialize + ?Sized>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::Internal(error.to_string()))
}
