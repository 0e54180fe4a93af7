//! The service against a real store (SQLite in a new directory for each test).

mod approvals;
mod documents;
mod events;
mod harness;
mod runs;
mod steps;
mod upkeep;
