//! The decisions: what an answer is worth, what to try next, what the caller may see.
//!
//! No I/O, no clock, no randomness: time (a `Duration` since the process's own epoch) and random
//! numbers are arguments.
