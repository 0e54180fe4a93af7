//! The pool on real sockets of this machine, against servers whose every byte the test decides.
//!
//! Each test has a runtime and a `LocalSet` of its own, as a worker has. Nothing sleeps and nothing
//! is timed: what happens is awaited, and a watchdog only turns a hang into a failure.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed anyway"
)]

mod bodies;
mod broken;
mod http1;
mod http2;
mod rig;
mod tls;
