//! The review queue on a real store: what people do through the API, and what happens without them.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed anyway"
)]

mod content;
mod kinds;
mod looks;
mod races;
mod retries;
mod stage;
