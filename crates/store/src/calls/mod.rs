//! The calls, by noun.

mod approvals;
mod effects;
mod keys;
mod ledger;
mod runs;
mod tickets;
pub(crate) mod upkeep;
