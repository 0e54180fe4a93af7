//! From a file or a text to a checked configuration, with everything that is wrong on the way.
//!
//! The environment is an argument; files are read through [`Files`], so that a test needs neither.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::check::{self, Checker};
use crate::checked::Config;
use crate::diagnostic::{Diagnostic, Problem, Severity};
use crate::draft::Draft;
use crate::mask;
use crate::shape::{Read as _, Reader};
use crate::yaml;

/// The largest configuration or secret file that is read, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// A shorter value of a variable is no secret and may be quoted.
const SHORTEST_SECRET: usize = 8;

/// Looks up a variable of the environment.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the files that a configuration names.
pub trait Files {
    /// The content of a file; a relative path is relative to the configuration file.
    fn read(&self, path: &Path) -> io::Result<String>;

    /// The path as it is on disk, for watching.
    fn resolve(&self, path: &Path) -> PathBuf {
        path.to_owned()
    }
}

/// The real files, relative paths beginning at a directory.
#[derive(Clone, Debug)]
pub struct Disk {
    pub directory: PathBuf,
}

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub config: Config,
    /// What is probably not meant.
    pub warnings: Vec<Diagnostic>,
    /// Files besides the configuration whose change asks for a reload: secrets, certificates.
    pub files: Vec<PathBuf>,
}

/// A configuration that can't be used: at least one error, and the warnings.
#[derive(Clone, Debug)]
pub struct Rejected {
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads and checks a configuration file.
pub fn load(path: &Path, env: Env<'_>) -> Result<Loaded, Rejected> {
    let name = path.display().to_string();
    let directory = path.parent().unwrap_or_else(|| Path::new("")).to_owned();
    match read_bounded(path) {
        Ok(text) => parse(&name, &text, env, &Disk { directory }),
        Err(error) => {
            let problem = Problem::error(None, format!("cannot read the file: {error}"));
            let problem = match error.kind() {
                io::ErrorKind::NotFound => problem.help("`holdfast init` writes one to begin with"),
                _ => problem,
            };
            let diagnostic = Diagnostic::new(problem, &Arc::from(name), &Arc::from(""));
            Err(Rejected {
                diagnostics: vec![diagnostic],
            })
        }
    }
}

/// Checks a configuration text. `name` is shown as the file's name.
pub fn parse(name: &str, text: &str, env: Env<'_>, files: &dyn Files) -> Result<Loaded, Rejected> {
    let name: Arc<str> = Arc::from(name);
    let node = match yaml::parse(text) {
        Ok(node) => node,
        Err(error) => {
            let shown = Arc::from(mask::mask_blindly(text));
            let problem = Problem::error(error.span, format!("not valid YAML: {}", error.message));
            return Err(Rejected {
                diagnostics: vec![Diagnostic::new(problem, &name, &shown)],
            });
        }
    };
    let mut reader = Reader {
        env,
        problems: Vec::new(),
        secrets: Vec::new(),
        filled: Vec::new(),
    };
    let draft = match node.value {
        yaml::Value::Null => Some(Draft::default()),
        _ => Draft::read(&node, &mut reader),
    };
    let mut checker = Checker::new(files, reader);
    let config = draft.and_then(|draft| check::config(&draft, &mut checker));
    let shown = Arc::from(mask::mask_spans(text, &checker.secrets));
    let diagnostics = in_order(checker.problems, &checker.filled, &name, &shown);
    match config {
        Some(config) if diagnostics.iter().all(|d| d.severity == Severity::Warning) => Ok(Loaded {
            config,
            warnings: diagnostics,
            files: checker.files_read,
        }),
        _ => Err(Rejected { diagnostics }),
    }
}

fn in_order(
    problems: Vec<Problem>,
    filled: &[String],
    name: &Arc<str>,
    shown: &Arc<str>,
) -> Vec<Diagnostic> {
    let mut list: Vec<Diagnostic> = Vec::with_capacity(problems.len());
    for mut problem in problems {
        // A variable may hold a secret even where a name belongs.
        for value in filled.iter().filter(|value| value.len() >= SHORTEST_SECRET) {
            problem.message = problem.message.replace(value, "[from the environment]");
            problem.help = problem
                .help
                .map(|help| help.replace(value, "[from the environment]"));
        }
        list.push(Diagnostic::new(problem, name, shown));
    }
    list.sort_by_key(|diagnostic| (diagnostic.line, diagnostic.column));
    list
}

fn read_bounded(path: &Path) -> io::Result<String> {
    use io::Read as _;
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "the file is larger than 4 MiB",
        ));
    }
    Ok(text)
}

// === impl Disk ===

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        read_bounded(&self.resolve(path))
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        self.directory.join(path)
    }
}

// === impl Rejected ===

impl Rejected {
    /// Every diagnostic with its lines, for a terminal.
    pub fn render(&self, color: bool) -> String {
        let rendered: Vec<String> = self.diagnostics.iter().map(|d| d.render(color)).collect();
        rendered.join("\n\n")
    }
}

impl std::fmt::Display for Rejected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<String> = self.diagnostics.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Rejected {}
