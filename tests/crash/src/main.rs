//! `holdfast-crash`: what Holdfast promises, while it is killed, frozen and cut off.
//!
//! It runs the real binary against vendors and effect targets of its own that count what reaches them,
//! and prints the counts. The manual is `docs/crash-tests.md`. Nothing here depends on Holdfast's crates:
//! it is a second reading of the promises, from outside.

fn main() {}
