//! The vendors' protocols as pure code: bytes in, values out, and back.
//!
//! Nothing here does I/O, reads a clock or rolls dice. `sse` cuts a byte stream into frames, a
//! dialect's `Reader` turns frames (or a whole body) into the neutral [`turn::Event`]s, its `Writer`
//! turns events back into bytes, `envelope` borrows the head of a request, `translate` moves a
//! request between dialects with a loss report, and `fold` makes one body of a stream.

pub mod answer;
pub mod anthropic;
mod borrowed;
pub mod envelope;
pub mod error;
pub mod fold;
mod json;
pub mod openai;
pub mod sse;
mod stencil;
pub mod translate;
pub mod turn;
mod vendor_error;
