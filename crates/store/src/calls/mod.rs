//! The calls, by noun.

mod approvals;
mod effects;
mod keys;
mod ledger;
mod runs;
mod tickets;
mod upkeep;
