//! Places where a test may let the process die, so that every crash window is shown and not guessed.
//!
//! The binary sets the name from `HOLDFAST_FAILPOINT` at its start; without it a place costs one load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

static SET: OnceLock<Set> = OnceLock::new();

#[derive(Debug)]
struct Set {
    name: String,
    /// Only the task is to die, and only the first one.
    panics: bool,
    is_over: AtomicBool,
}

/// Lets the process abort where `name` is reached; with `panic:` before it, the first task that
/// reaches it panics. Set once, before the gateway starts.
pub fn set(name: String) {
    let panics = name.strip_prefix("panic:").map(str::to_owned);
    // A second name is not taken: the first one counts.
    let _ = SET.set(Set {
        panics: panics.is_some(),
        name: panics.unwrap_or(name),
        is_over: AtomicBool::new(false),
    });
}

/// Aborts the process, or panics, if this is the place.
pub(crate) fn reached(name: &str) {
    let Some(set) = SET.get().filter(|set| set.name == name) else {
        return;
    };
    if !set.panics {
        std::process::abort();
    }
    assert!(
        set.is_over.swap(true, Ordering::Relaxed),
        "the failpoint `{name}` was reached"
    );
}
