//! The gateway itself: it listens, admits, drives exchanges over real connections, and settles.
//!
//! One single-threaded runtime for each worker, each with its own listener (`SO_REUSEPORT`), its own
//! vendor connections and its own calls: no lock and no store stand on the streaming path. What
//! workers share is small and read rarely: the configuration snapshot (`ArcSwap`), the targets'
//! health (asked once for each attempt), counters, the ledger. The path of one request:
//! `listen` -> `caller` (or hyper, for HTTP/2) -> `admit` -> `prepare` + `drive` -> `emit` -> `settle`.

mod admit;
mod asked;
mod books;
mod caller;
mod clock;
mod count;
mod drive;
mod durable;
mod emit;
pub mod failpoint;
mod gates;
mod health;
mod jobs;
mod keyed;
mod ledger;
mod listen;
mod meta;
mod names;
mod patience;
mod prepare;
mod redact;
mod room;
mod serve;
mod services;
mod settle;
mod signs;
mod snapshot;
mod worker;

pub use ledger::{Entry, Ledger};
pub use serve::{Error, Gateway, Handle, verify};
