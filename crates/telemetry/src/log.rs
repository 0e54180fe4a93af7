//! Log lines on standard error.

use tracing_subscriber::EnvFilter;

/// Starts logging for the whole process. Later calls do nothing.
///
/// `level` is a level (`info`) or a filter (`info,holdfast_gateway=debug`); an unreadable one counts
/// as `info`.
pub fn start(level: &str, json: bool, color: bool) {
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(color)
        .with_target(false)
        .with_writer(std::io::stderr);
    // A second start in one process (tests) keeps the first.
    let _ = if json {
        builder.json().flatten_event(true).try_init()
    } else {
        builder.try_init()
    };
}
