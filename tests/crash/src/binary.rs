//! Where the gateway's binary is.

use std::path::PathBuf;

/// The given one, `$HOLDFAST_BIN`, or `holdfast` beside this program.
pub(crate) fn find(given: Option<PathBuf>) -> std::io::Result<PathBuf> {
    let named = given.or_else(|| std::env::var_os("HOLDFAST_BIN").map(PathBuf::from));
    let path = match named {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("holdfast"),
    };
    if path.is_file() {
        return std::path::absolute(path);
    }
    Err(std::io::Error::new(
        std::io::ErrorKind::NotFound,
        format!(
            "there is no binary at {}; build it with `cargo build -p holdfast`, or name it with --bin",
            path.display()
        ),
    ))
}
