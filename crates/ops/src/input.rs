//! What callers say: names, limits, states, times; and whom it concerns.

use std::time::Duration;

use holdfast_api::{Caller, Request};
use holdfast_core::fault::{Code, Fault};
use holdfast_core::idempotency::{parse_key, parse_name};
use holdfast_core::run;
use holdfast_core::run::moment::parse_span;
use http::HeaderName;

/// The most rows of one list, and how many there are where the caller does not say.
pub(crate) const MOST: usize = 500;
const USUAL: usize = 50;

/// The request is malformed.
pub(crate) fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(Code::InvalidRequest, message)
}

/// Somebody else was faster, or it is over.
pub(crate) fn conflict(message: impl Into<String>) -> Fault {
    Fault::new(Code::Conflict, message)
}

pub(crate) fn run_name(text: &str) -> Result<String, Fault> {
    run::run_name(text).map_err(|why| Fault::new(Code::KeyInvalid, why))
}

pub(crate) fn step_name(text: &str) -> Result<String, Fault> {
    run::step_name(text).map_err(|why| Fault::new(Code::KeyInvalid, why))
}

/// The run and the step that the headers name.
pub(crate) fn place(request: &Request) -> Result<(Option<String>, Option<String>), Fault> {
    let run = header(request, "holdfast-run")?.map(|text| run_name(&text));
    let step = header(request, "holdfast-step")?.map(|text| step_name(&text));
    let (run, step) = (run.transpose()?, step.transpose()?);
    if step.is_some() && run.is_none() {
        let message = "`Holdfast-Step` needs a `Holdfast-Run`";
        return Err(Fault::new(Code::KeyInvalid, message));
    }
    Ok((run, step))
}

/// The key that the header or the body names.
pub(crate) fn key(request: &Request, in_body: Option<&str>) -> Result<Option<String>, Fault> {
    let unfit = |why| Fault::new(Code::KeyInvalid, why);
    let in_header = header(request, "idempotency-key")?;
    let of_header = in_header.map(|text| parse_key(&text)).transpose();
    let of_body = in_body.map(parse_key).transpose();
    match (of_header.map_err(unfit)?, of_body.map_err(unfit)?) {
        (Some(header), Some(body)) if header != body => Err(unfit(
            "`key` and the header `Idempotency-Key` differ".to_owned(),
        )),
        (header, body) => Ok(header.or(body)),
    }
}

/// A header's text; bytes beyond ASCII are read as UTF-8, as clients send names.
fn header(request: &Request, name: &'static str) -> Result<Option<String>, Fault> {
    let Some(value) = request.headers.get(HeaderName::from_static(name)) else {
        return Ok(None);
    };
    std::str::from_utf8(value.as_bytes())
        .map(|text| Some(text.to_owned()))
        .map_err(|_| Fault::new(Code::KeyInvalid, format!("`{name}` is not text")))
}

/// `?limit=`.
pub(crate) fn limit(request: &Request) -> Result<usize, Fault> {
    let Some(text) = request.param("limit") else {
        return Ok(USUAL);
    };
    text.parse()
        .ok()
        .filter(|limit| (1..=MOST).contains(limit))
        .ok_or_else(|| invalid(format!("`limit` is a number from 1 to {MOST}")))
}

/// `?state=` and the like: one of a closed set of words.
pub(crate) fn word<T: Copy>(
    request: &Request,
    name: &str,
    all: &[T],
    as_str: fn(T) -> &'static str,
) -> Result<Option<T>, Fault> {
    let Some(text) = request.param(name) else {
        return Ok(None);
    };
    let found = all.iter().copied().find(|one| as_str(*one) == text);
    found.map(Some).ok_or_else(|| {
        let words: Vec<&str> = all.iter().map(|one| as_str(*one)).collect();
        invalid(format!("`{name}` is one of `{}`", words.join("`, `")))
    })
}

/// `?wait=`, cut to what a caller may wait; `0s` and nothing = not at all.
pub(crate) fn wait(request: &Request, longest: Duration) -> Result<Duration, Fault> {
    match request.param("wait").as_deref() {
        None | Some("" | "0" | "0s" | "0ms") => Ok(Duration::ZERO),
        Some(text) => parse_span(text)
            .map(|wait| wait.min(longest))
            .map_err(|why| invalid(format!("`wait`: {why}"))),
    }
}

/// Whose list is asked for: `?scope=`, or all that the caller may see.
pub(crate) enum Whose {
    All,
    Of(String),
    /// It is another caller's: nothing is to be seen there.
    Nobody,
}

pub(crate) fn whose(request: &Request) -> Whose {
    let caller = &request.caller;
    match request.param("scope") {
        Some(scope) if caller.may_see(&scope) => Whose::Of(scope),
        Some(_) => Whose::Nobody,
        None => match caller.limit() {
            Some(own) => Whose::Of(own.to_owned()),
            None => Whose::All,
        },
    }
}

/// The scope of one named thing: the caller's own, or `?scope=`. `None` = it is another caller's.
pub(crate) fn scope(request: &Request) -> Option<String> {
    match request.param("scope") {
        Some(scope) => request.caller.may_see(&scope).then_some(scope),
        None => Some(request.caller.scope.clone()),
    }
}

/// Who is written down as having done it: the one that the caller names, and the caller.
pub(crate) fn signature(caller: &Caller, by: Option<&str>) -> Result<String, Fault> {
    let Some(by) = by else {
        return Ok(match caller.scope.as_str() {
            "" => "somebody".to_owned(),
            scope => scope.to_owned(),
        });
    };
    let by = parse_name("by", by).map_err(invalid)?;
    Ok(match caller.scope.as_str() {
        "" => by,
        scope if scope == by => by,
        scope => format!("{by} ({scope})"),
    })
}

/// A text within its limit, in characters.
pub(crate) fn text(what: &str, text: String, longest: usize) -> Result<String, Fault> {
    let length = text.chars().count();
    if length > longest {
        return Err(invalid(format!(
            "`{what}` has {length} characters; the most is {longest}"
        )));
    }
    Ok(text)
}
