//! The whole gateway on real sockets of this machine, with simulated vendors behind it.
//!
//! Nothing sleeps where something can be awaited and nothing is timed: a watchdog only turns a hang
//! into a failure. What each test says of an answer is what stood on the wire.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed anyway"
)]

mod abort;
mod again;
mod auth;
mod crowd;
mod drain;
mod gates;
mod http1;
mod kept_limits;
mod keyed;
mod later;
mod ledger;
mod limits;
mod meta;
mod multiplexed;
mod reload;
mod rig;
mod signs;
mod strangers;
