//! The configuration: YAML text -> `draft` -> [`checked::Config`], with every mistake shown at once.
//!
//! This crate does not read the environment: variables come through a function argument.

pub mod checked;
pub mod secret;
pub mod words;

pub use checked::Config;
pub use secret::{KeyHash, Secret};
