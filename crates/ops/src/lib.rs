//! Runs and steps, approvals and events, and the one service that the gateway mounts.
//!
//! [`Ops`] answers `/v1/runs`, `/v1/approvals`, `/v1/events` and `/v1/openapi.json` itself and asks the
//! services that it was given ([`Mount`]) for the rest; what none of them knows is refused in words
//! that name what there is. [`Ops::run`] watches over quiet runs, deadlines of approvals and retention.
//! Where no store is configured, [`NoStore`] stands in its place.
//!
//! What a step's end is worth and when a run is an orphan is decided in [`holdfast_core::run`]; who is
//! first is decided by the store. No task is left behind: all that is begun here ends with
//! [`Ops::run`].

mod approvals;
mod closed;
mod document;
mod events;
mod gates;
mod input;
mod mount;
mod ops;
mod routes;
mod runs;
mod shared;
mod terms;
mod upkeep;
mod wait;

pub use closed::NoStore;
pub use document::{merged, openapi};
pub use gates::Gates;
pub use mount::Mount;
pub use ops::Ops;
pub use terms::Terms;
pub use upkeep::Checked;
