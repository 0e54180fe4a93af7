//! The OpenAI Chat Completions dialect (`POST /v1/chat/completions`) and its compatible servers.
//!
//! `reader` turns chunks and bodies into the neutral events of [`crate::turn`]; `stop` holds every
//! finish reason that the dialect and its imitators are known to use. The way back: `writer` for
//! streams, `body` for bodies, `error` for what went wrong.

pub mod body;
pub mod error;
pub mod reader;
pub mod stop;
pub mod writer;

pub use reader::error_body;
pub use stop::stop_kind;
