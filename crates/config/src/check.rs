//! Draft -> [`Config`]: names are looked up, defaults filled in, contradictions found.
//!
//! Like the reader, a check reports and goes on. A value that could not be made is left out, and
//! nothing is said about what depends on it.

mod access;
mod durable;
mod effects;
mod policy;
mod provider;
mod route;

pub(crate) use access::PORT;

use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::checked::{Config, Limits, Log};
use crate::diagnostic::Problem;
use crate::draft::{Draft, LimitsDraft, LogDraft};
use crate::load::Files;
use crate::secret::Secret;
use crate::shape::{Field, Placed as _, Reader, Spanned};
use crate::values::SecretText;
use crate::yaml::Span;

/// What every check needs: the files, and where to report.
pub(crate) struct Checker<'a> {
    files: &'a dyn Files,
    pub(crate) problems: Vec<Problem>,
    pub(crate) secrets: Vec<Span>,
    /// What came from the environment.
    pub(crate) filled: Vec<String>,
    /// The files that were read, as they are on disk.
    pub(crate) files_read: Vec<PathBuf>,
}

/// Makes the configuration, if enough of it is right; errors may have been reported all the same.
pub(crate) fn config(draft: &Draft, checker: &mut Checker<'_>) -> Option<Config> {
    let defaults = policy::defaults(&draft.defaults, checker);
    let providers = provider::all(draft, checker);
    let routes = route::all(draft, &providers, &defaults.policy, checker);
    let steps = durable::steps(draft, &routes, checker);
    let callers = access::callers(draft, &routes, checker);
    let listen = access::listen(draft, checker);
    let config = Config {
        listen,
        workers: draft.workers.get().copied().map(Into::into),
        callers,
        providers: providers
            .list
            .into_iter()
            .map(|named| named.provider)
            .collect(),
        routes: routes.into_iter().map(|route| route.value).collect(),
        steps,
        budget: defaults.budget,
        breaker: defaults.breaker,
        limits: limits(&draft.limits, checker),
        log: log(&draft.log),
        store: durable::store(&draft.store, checker),
        effects: effects::all(&draft.effects, checker),
        webhooks: effects::webhooks(&draft.webhooks, checker),
        review: durable::review(&draft.review),
        runs: durable::runs(&draft.runs),
        drain: draft.drain.get().map_or(DRAIN, |time| time.0),
    };
    access::exposure(draft, &config, checker);
    durable::without_store(draft, &config, checker);
    durable::storable(draft, &config, checker);
    checker.is_clean().then_some(config)
}

/// Beyond, what is held of a head would be more than what was sent.
const MOST_HEADERS: usize = 1024;

const DRAIN: std::time::Duration = std::time::Duration::from_secs(30);

fn limits(field: &Field<LimitsDraft>, checker: &mut Checker<'_>) -> Limits {
    let mut limits = Limits::default();
    let Some(draft) = field.get() else {
        return limits;
    };
    draft.body_bytes.put(&mut limits.body_bytes);
    draft.header_bytes.put(&mut limits.header_bytes);
    draft.headers.put(&mut limits.headers);
    draft.json_depth.put(&mut limits.json_depth);
    draft.header_timeout.put(&mut limits.header_timeout);
    draft.idle_timeout.put(&mut limits.idle_timeout);
    draft.write_timeout.put(&mut limits.write_timeout);
    draft.body_timeout.put(&mut limits.body_timeout);
    draft.answer_bytes.put(&mut limits.answer_bytes);
    draft.event_bytes.put(&mut limits.event_bytes);
    draft.buffered_bytes.put(&mut limits.buffered_bytes);
    draft.connections.put(&mut limits.connections);
    draft.in_flight.put(&mut limits.in_flight);
    draft.ledger_records.put(&mut limits.ledger_records);
    draft.queued_writes.put(&mut limits.queued_writes);
    draft.wait.put(&mut limits.wait);
    let at = |span: Option<Span>| span.or_else(|| Some(draft.at()));
    if limits.header_bytes < 1024 {
        let message = "`header_bytes` is below 1KiB: no real client's request would fit";
        checker.report(Problem::error(at(draft.header_bytes.span()), message));
    }
    if limits.headers > MOST_HEADERS {
        let message = format!("`headers` is over {MOST_HEADERS}: no real client sends so many");
        checker.report(Problem::error(at(draft.headers.span()), message));
    }
    if limits.buffered_bytes < limits.body_bytes {
        let message =
            "`buffered_bytes` is below `body_bytes`: the largest body could never be held";
        let span = draft
            .buffered_bytes
            .span()
            .or_else(|| draft.body_bytes.span());
        checker.report(Problem::error(at(span), message));
    }
    if limits.buffered_bytes < limits.answer_bytes {
        let message =
            "`buffered_bytes` is below `answer_bytes`: the largest answer could never be held";
        let span = draft
            .buffered_bytes
            .span()
            .or_else(|| draft.answer_bytes.span());
        checker.report(Problem::warning(at(span), message));
    }
    limits
}

fn log(field: &Field<LogDraft>) -> Log {
    let mut log = Log::default();
    if let Some(draft) = field.get() {
        draft.format.put(&mut log.format);
        draft.level.put(&mut log.level);
    }
    log
}

// === impl Checker ===

impl<'a> Checker<'a> {
    pub(crate) fn new(files: &'a dyn Files, reader: Reader<'_>) -> Self {
        Self {
            files,
            problems: reader.problems,
            secrets: reader.secrets,
            filled: reader.filled,
            files_read: Vec::new(),
        }
    }

    pub(crate) fn report(&mut self, problem: Problem) {
        if !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }

    fn is_clean(&self) -> bool {
        let warning = crate::diagnostic::Severity::Warning;
        self.problems
            .iter()
            .all(|problem| problem.severity == warning)
    }

    /// The secret itself, trimmed of one line end; reported when it is empty or can't be read.
    fn secret(&mut self, given: &Spanned<SecretText>, what: &str) -> Option<Secret> {
        let text = match &given.value {
            SecretText::Inline(text) => text.clone(),
            SecretText::File(path) => self.file(path, &given.span)?,
        };
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            let message = format!("the {what} is empty");
            self.report(Problem::error(given.span.clone(), message));
            return None;
        }
        if !text.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            let message = format!("the {what} holds a character that a header cannot carry");
            self.report(Problem::error(given.span.clone(), message));
            return None;
        }
        Some(Secret::new(text))
    }

    fn file(&mut self, path: &Path, span: &Span) -> Option<String> {
        self.files_read.push(self.files.resolve(path));
        match self.files.read(path) {
            Ok(text) => Some(text),
            Err(error) => {
                let message = format!("cannot read `{}`: {error}", path.display());
                self.report(Problem::error(span.clone(), message));
                None
            }
        }
    }

    /// A required text: reported when it is absent or empty.
    fn required<'f>(
        &mut self,
        field: &'f Field<String>,
        section: &Span,
        message: &str,
    ) -> Option<&'f Spanned<String>> {
        match field {
            Field::Given(given) if !given.value.is_empty() => Some(given),
            Field::Given(given) => {
                self.report(Problem::error(given.span.clone(), message));
                None
            }
            Field::Absent => {
                self.report(Problem::error(section.clone(), message));
                None
            }
            Field::Bad => None,
        }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}
