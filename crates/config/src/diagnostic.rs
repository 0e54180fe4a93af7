//! What is wrong with a configuration file, where, and what would be right.
//!
//! A [`Diagnostic`] carries all that is needed to show it: the file, the place, the line with its
//! part underlined, and a help. Secrets that stand in the file are starred out of the shown lines
//! before the diagnostic is made (`mask`).

use std::fmt;
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

use crate::yaml::Span;

/// One mistake, or one thing that is probably not meant.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    pub severity: Severity,
    /// The file as it was named by the user.
    pub file: Arc<str>,
    /// From 1; 0 where the diagnostic is about the whole file.
    pub line: usize,
    /// In characters, from 1; 0 where the diagnostic is about the whole file.
    pub column: usize,
    /// One sentence without a full stop.
    pub message: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The file's text without its secrets.
    text: Arc<str>,
    span: Option<Span>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Severity {
    /// The file is not used.
    Error,
    /// The file is used; somebody should look.
    Warning,
}

/// A diagnostic before it knows its file.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Problem {
    pub(crate) severity: Severity,
    pub(crate) span: Option<Span>,
    pub(crate) message: String,
    pub(crate) help: Option<String>,
}

// === impl Diagnostic ===

impl Diagnostic {
    pub(crate) fn new(problem: Problem, file: &Arc<str>, text: &Arc<str>) -> Self {
        let (line, column) = match &problem.span {
            Some(span) => place(text, span.start),
            None => (0, 0),
        };
        Self {
            severity: problem.severity,
            file: Arc::clone(file),
            line,
            column,
            message: problem.message,
            help: problem.help,
            text: Arc::clone(text),
            span: problem.span,
        }
    }

    /// The message with the lines that it is about, for a terminal.
    pub fn render(&self, color: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = if let Some(span) = &self.span {
            let at = AnnotationKind::Primary.span(span.clone());
            let snippet = Snippet::source(&*self.text)
                .path(&*self.file)
                .annotation(at);
            level.primary_title(self.message.as_str()).element(snippet)
        } else {
            let title = format!("{}: {}", self.file, self.message);
            Group::with_title(level.primary_title(title))
        };
        if let Some(help) = &self.help {
            group = group.element(Level::HELP.message(help.as_str()));
        }
        let renderer = if color {
            Renderer::styled()
        } else {
            Renderer::plain()
        };
        renderer.render(&[group])
    }
}

/// One line, for a log: `holdfast.yaml:3:5: error: ...`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {}: {}", self.severity.name(), self.message)?;
        match &self.help {
            Some(help) => write!(f, " (help: {help})"),
            None => Ok(()),
        }
    }
}

// === impl Severity ===

impl Severity {
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

// === impl Problem ===

impl Problem {
    pub(crate) fn error(span: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, span.into(), message.into())
    }

    pub(crate) fn warning(span: impl Into<Option<Span>>, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, span.into(), message.into())
    }

    fn new(severity: Severity, span: Option<Span>, message: String) -> Self {
        Self {
            severity,
            span,
            message,
            help: None,
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The nearest of the valid names, if one is near enough to be what was meant.
pub(crate) fn nearest<'a>(
    given: &str,
    valid: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let given = given.to_lowercase();
    let reach = (given.chars().count() / 3).max(1);
    let near = valid.into_iter().filter_map(|name| {
        let lower = name.to_lowercase();
        let distance = strsim::damerau_levenshtein(&given, &lower);
        let part = (given.len() >= 4 && lower.contains(&given))
            || (name.len() >= 3 && given.contains(&lower));
        (distance <= reach || part).then_some((distance, name))
    });
    near.min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// A help sentence for a name that is not valid.
pub(crate) fn suggest(given: &str, valid: &[&str]) -> String {
    match nearest(given, valid.iter().copied()) {
        Some(name) => format!("did you mean `{name}`?"),
        None if valid.is_empty() => "there is none to choose from".to_owned(),
        None => format!("known here: {}", list(valid)),
    }
}

/// `a`, `b`, `c`
pub(crate) fn list(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    quoted.join(", ")
}

fn place(text: &str, at: usize) -> (usize, usize) {
    let before = &text[..at.min(text.len())];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() + 1;
    (line, before[line_start..].chars().count() + 1)
}
