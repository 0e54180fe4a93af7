//! Side effects that Holdfast performs on a caller's behalf, once.
//!
//! An effect is recorded before it is sent, goes to a [`Target`] of the configuration (never to a free
//! address), carries its key there, and is never sent again once its result is known. Where the
//! target does not honour keys, it is sent again only if it is certain that nothing happened; else it
//! is *in doubt* and a person decides. What follows from an attempt is decided in
//! [`holdfast_core::effect`]; what is promised in each crash window stands in `docs/effects.md`.

mod address;
mod connect;
mod failpoint;
mod http;
mod outgoing;
mod path;
mod send;
mod sign;
mod smtp;
mod target;

pub use connect::{Resolve, Resolving, system_resolver};
pub use failpoint::{AFTER_ANSWER, AFTER_CLAIM, AFTER_SEND, BEFORE_FINISH, Failpoint, PLACES};
pub use http::{ANSWER_BYTES, ANSWER_HEADER_BYTES, CUT_HEADER};
pub use outgoing::{Outgoing, target_key};
pub use sign::{SecretError, Signer};
pub use target::{Http, Kind, Security, Smtp, Target, Targets};
