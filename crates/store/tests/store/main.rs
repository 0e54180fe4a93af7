//! What the store promises, on both databases, and what each does when it fails.
//!
//! The tests on PostgreSQL need `HOLDFAST_TEST_POSTGRES`: the URL of a server where databases may be
//! made (`tests/postgres start DIR PORT` prints one). Without it they say so and pass.

#[cfg(test)]
mod home;

#[cfg(test)]
mod approvals;
#[cfg(test)]
mod effects;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod later;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod runs;
#[cfg(test)]
mod sealing;
#[cfg(test)]
mod sqlite;
#[cfg(test)]
mod tickets;
#[cfg(test)]
mod upkeep;
