//! The way to the vendors: connections, kept and reused, on one worker's own thread.
//!
//! A [`Pool`] belongs to one single-threaded runtime and is never shared between threads: no lock
//! stands between a call and its connection. HTTP/1.1 connections are reused when their answer was
//! read to its end; HTTP/2 opens several connections for each host, each with a cap on its streams,
//! because one connection stalls at the server's stream limit. Nothing here retries, and no call
//! times out: both are decided by the exchange, which drops what it no longer wants. Only connections
//! are given up, when they were idle for too long or do not answer a ping.

mod address;
mod body;
mod connect;
mod head;
mod line;
mod pool;

pub use body::{Answer, Cause, Pieces, Response};
pub use connect::{Endpoint, Http2, SystemRoots, TlsError, tls_config};
pub use head::Head;
pub use pool::{Connection, Error, Pool};
