//! Where mutations begin: recorded streams and bodies, requests, and inputs that once broke something.

use std::fs;
use std::path::{Path, PathBuf};

/// The seeds of a target, in the order of their names.
///
/// # Panics
/// When the files can't be read.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    let fixtures = here.join("../crates/wire/tests/fixtures");
    let recorded = match target {
        "sse" | "answer" => vec!["anthropic", "openai"],
        "http1" => vec![],
        _ => vec!["requests"],
    };
    for part in [target].iter().chain(&recorded) {
        collect(&here.join("seeds").join(part), &mut files);
    }
    for part in recorded {
        collect(&fixtures.join(part), &mut files);
    }
    files.sort();
    files
        .iter()
        .map(|file| fs::read(file).expect("a seed can be read"))
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries {
        let path = entry.expect("a folder can be listed").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}
