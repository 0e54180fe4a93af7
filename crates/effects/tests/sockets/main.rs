//! Effects over real sockets and a real store: what is sent, how often, and what is said of it.
//!
//! Nothing sleeps where something can be awaited; a process dies by dropping everything that it had.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed anyway"
)]

mod api;
mod house;
mod kinds;
mod mail;
mod private;
mod site;
mod webhooks;
mod windows;
