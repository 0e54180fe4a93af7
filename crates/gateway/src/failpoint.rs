//! Places where a test may let the process die, so that every crash window is shown and not guessed.
//!
//! The binary sets the name from `HOLDFAST_FAILPOINT` at its start; without it a place costs one load.

use std::sync::OnceLock;

static SET: OnceLock<String> = OnceLock::new();

/// Lets the process abort where `name` is reached. Set once, before the gateway starts.
pub fn set(name: String) {
    // A second name is not taken: the first one counts.
    let _ = SET.set(name);
}

/// Aborts the process if this is the place.
pub(crate) fn reached(name: &str) {
    if SET.get().is_some_and(|set| set == name) {
        std::process::abort();
    }
}
