//! Simulated model vendors with scripted faults: what tests, drills and the demo are run against.
//!
//! A `Sim` serves Anthropic Messages and OpenAI Chat Completions on real sockets with raw control over bytes,
//! lengths and resets. Healthy answers are deterministic and carry a checksum (`check_text`), so that a client can
//! prove by itself that it holds a whole answer. It depends on no other crate of Holdfast: it is an independent
//! reading of the vendors' protocols, not a mirror of Holdfast's own. The manual is `docs/sim.md`.

mod answer;
mod ask;
mod catalogue;
mod control;
mod fault;
mod http;
mod options;
mod play;
mod render;
mod scenario;
mod schema;
mod script;
mod serve;
mod server;
mod stats;
mod text;
mod vendor;

pub use ask::Dialect;
pub use catalogue::{Case, Truth, faults, list};
pub use fault::{At, Fault, How, Junk, Quirk, Then, UnknownFault, Which};
pub use options::{Options, OptionsError};
pub use play::Timing;
pub use scenario::{Phase, Scenario, ScenarioHandle, UnknownScenario};
pub use script::{Rule, Script, ScriptError};
pub use server::{BindError, Builder, Sim};
pub use stats::Stats;
pub use text::{check_text, make_text, sum};
