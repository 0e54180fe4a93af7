//! What the store promises, on both databases, and what each does when it fails.
//!
//! The tests on PostgreSQL need `HOLDFAST_TEST_POSTGRES`: the URL of a server where databases may be
//! made (`tests/postgres start DIR PORT` prints one). Without it they say so and pass.

mod home;

mod approvals;
mod effects;
mod keys;
mod ledger;
mod postgres;
mod runs;
mod sealing;
mod sqlite;
mod tickets;
mod upkeep;
