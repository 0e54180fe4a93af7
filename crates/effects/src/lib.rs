//! Side effects that Holdfast performs on a caller's behalf, once.
//!
//! An effect is recorded before it is sent, goes to a [`Target`] of the configuration (never to a free
//! address), carries its key there, and is never sent again once its result is known. Where the
//! target does not honour keys, it is sent again only if it is certain that nothing happened; else it
//! is *in doubt* and a person decides. What follows from an attempt is decided in
//! [`holdfast_core::effect`]; what is promised in each crash window stands in `docs/effects.md`.

mod address;
mod bell;
mod connect;
mod dispatch;
mod doubt;
mod effects;
mod failpoint;
mod follow;
mod from_config;
mod http;
mod openapi;
mod outbox;
mod outgoing;
mod path;
mod send;
mod service;
mod shown;
mod sign;
mod smtp;
mod submit;
mod target;
mod verdicts;
mod webhooks;

pub use connect::{Resolve, Resolving, system_resolver};
pub use effects::{Effects, Limits, Parts};
pub use failpoint::{AFTER_ANSWER, AFTER_CLAIM, AFTER_SEND, BEFORE_FINISH, Failpoint, PLACES};
pub use from_config::{TargetError, Why, webhook_target};
pub use http::{ANSWER_BYTES, ANSWER_HEADER_BYTES, CUT_HEADER};
pub use openapi::openapi;
pub use outgoing::{Outgoing, target_key};
pub use service::EffectsApi;
pub use sign::{SHORTEST_SECRET, SecretError, Signer};
pub use target::{Http, Kind, Security, Smtp, Target, Targets};
pub use verdicts::{Judging, Verdicts};
pub use webhooks::{SCOPE as WEBHOOK_SCOPE, Subscription, target_name as webhook_target_name};
