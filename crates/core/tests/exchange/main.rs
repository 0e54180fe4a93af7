//! The exchange from outside: cuts at every byte, every chunking, every order of events, and whole
//! outages in virtual time. What the caller was shown is read by `sight`, which knows nothing of the
//! judge and of the writers.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod chunks;
mod cuts;
mod dice;
mod drive;
mod gated;
mod gates;
mod orders;
mod outage;
mod regress;
mod script;
mod sight;
mod vendor;
mod world;
