//! The service against a real store (SQLite in a new directory for each test).

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; clippy allows it only inside of test functions"
)]

mod approvals;
mod documents;
mod events;
mod harness;
mod replicas;
mod runs;
mod scripts;
mod steps;
mod upkeep;
