//! The review queue on a real store: what people do through the API, and what happens without them.

mod content;
mod kinds;
mod races;
mod retries;
mod stage;
