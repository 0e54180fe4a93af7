//! Places where a test may let the process die, so that every crash window is shown and not guessed.

use std::fmt;
use std::sync::Arc;

/// The places, in the order in which one effect passes them; `docs/effects.md` has the windows.
pub const PLACES: [&str; 4] = [AFTER_CLAIM, AFTER_SEND, AFTER_ANSWER, BEFORE_FINISH];

/// Claimed: `sending` is committed, nothing was sent (window W3).
pub const AFTER_CLAIM: &str = "effect.after_claim";
/// The request's bytes were handed to the system, nothing was heard (window W4).
pub const AFTER_SEND: &str = "effect.after_send";
/// The answer was read (window W5).
pub const AFTER_ANSWER: &str = "effect.after_answer";
/// It was decided what the answer means, nothing was stored (window W5, its end).
pub const BEFORE_FINISH: &str = "effect.before_finish";

type Hook = Arc<dyn Fn(&str) + Send + Sync>;

/// Called at each place with its name. Without one a place costs a comparison.
#[derive(Clone, Default)]
pub struct Failpoint(Option<Hook>);

impl fmt::Debug for Failpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Failpoint").field(&self.0.is_some()).finish()
    }
}

impl Failpoint {
    /// Calls `hook` wherever a place is reached.
    pub fn new(hook: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(hook)))
    }

    /// Aborts the process where the place `name` is reached.
    pub fn abort_at(name: String) -> Self {
        Self::new(move |place| {
            if place == name {
                std::process::abort();
            }
        })
    }

    pub(crate) fn reached(&self, place: &str) {
        if let Some(hook) = &self.0 {
            hook(place);
        }
    }
}
