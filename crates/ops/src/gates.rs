//! The gates of steps, as this room sees them: built and kept elsewhere, asked here.

/// What is demanded of the results of steps.
pub trait Gates: Send + Sync {
    /// Whether a result, as a text, passes the gate of its step; the error says in words why not.
    fn check_step(&self, step: &str, result: &str) -> Result<(), String>;
}

/// Nothing is demanded.
impl Gates for () {
    fn check_step(&self, _: &str, _: &str) -> Result<(), String> {
        Ok(())
    }
}
