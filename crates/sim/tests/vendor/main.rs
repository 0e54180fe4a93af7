//! The simulated vendor seen from outside, over real sockets.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod catalogue;
mod support;
mod wire;
