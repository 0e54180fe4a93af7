//! HTTP/1.1 as bytes (RFC 9112): where a body ends, a request's head as it is read, a response's as it
//! is written. Reads no socket, no clock, and holds no memory.
//!
//! Few things are understood and all else is refused: where two readers could differ, somebody gets a
//! request past a proxy that the proxy has not seen.

mod framing;
mod number;
pub mod request;
pub mod response;

pub use framing::{Decoder, Flaw, Framing};
pub use number::{parse_decimal, push_decimal};
