//! The only way to the terminal: data on standard output, talk on standard error.

use std::io::{IsTerminal, Write};

/// Prints data to standard output. A reader that went away (`| head`) is no error.
pub(crate) fn data(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody is left to be told.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Says something to the person at the terminal.
pub(crate) fn say(text: &str) {
    let mut err = std::io::stderr().lock();
    // Nobody is left to be told.
    let _ = writeln!(err, "{text}");
}

/// Says what went wrong.
pub(crate) fn error(text: &str) {
    if color() {
        say(&format!("\x1b[1;31merror\x1b[0m: {text}"));
    } else {
        say(&format!("error: {text}"));
    }
}

/// Whether standard error takes colours (`NO_COLOR` is honoured, see no-color.org).
pub(crate) fn color() -> bool {
    std::io::stderr().is_terminal()
        && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
