//! The Anthropic Messages dialect (`POST /v1/messages`).
//!
//! `reader` turns frames and bodies into the neutral events of [`crate::turn`]; `stop` holds every
//! stop reason the dialect is known to use. The way back: `writer` for streams, `body` for bodies,
//! `error` for what went wrong.

pub mod body;
pub mod error;
pub mod reader;
pub mod stop;
pub mod writer;

pub use reader::error_body;
pub use stop::stop_kind;
