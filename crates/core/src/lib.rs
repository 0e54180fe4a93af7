//! The decisions: what an answer is worth, what to try next, what the caller may see.
//!
//! No I/O, no clock, no randomness: time (a `Duration` since the process's own epoch) and random
//! numbers are arguments.

pub mod backoff;
pub mod breaker;
pub mod budget;
pub mod classify;
pub mod effect;
pub mod exchange;
pub mod fault;
pub mod gate;
pub mod idempotency;
pub mod join;
pub mod judge;
pub mod plan;
pub mod policy;
pub mod reliability;
pub mod review;
pub mod run;
pub mod time;
