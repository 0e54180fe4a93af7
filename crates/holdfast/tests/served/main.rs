//! The real binary, serving: simulated vendors behind it, callers and people before it, its store on disk.
//!
//! What one process alone can't show is elsewhere: crashes and replicas in `tests/crash`, the shapes of
//! answers in the crates' own tests.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod content;
mod gap;
mod house;
mod queue;
mod steps;
