//! What a caller asks for, checked whole before anything is kept.

use std::collections::BTreeMap;

use holdfast_api::Request;
use holdfast_core::fault::{Code, Fault};
use holdfast_core::idempotency;
use holdfast_core::run;
use http::{HeaderName, HeaderValue, Method};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::http::RESERVED;
use crate::outgoing::{Outgoing, fingerprint};
use crate::path;
use crate::smtp::Mail;
use crate::target::{Http, Kind, Target, Targets};

/// The most headers that a caller sets on one effect.
const HEADERS: usize = 32;
/// The longest value of such a header, in bytes.
const HEADER_BYTES: usize = 8 * 1024;
/// The most exchanges that one effect requires.
const REQUIRES: usize = 32;

/// The body of `POST /v1/effects`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    target: String,
    method: Option<String>,
    path: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    payload: Option<Box<RawValue>>,
    key: Option<String>,
    #[serde(default)]
    requires: Vec<String>,
}

/// An effect that may be recorded.
#[derive(Debug)]
pub(crate) struct Submission {
    pub target: String,
    /// `None`: neither a key nor run and step were named.
    pub key: Option<String>,
    pub outgoing: Outgoing,
    /// Names in lower case, sorted.
    pub headers: Vec<(String, String)>,
    pub requires: Vec<String>,
    pub run: Option<String>,
    pub step: Option<String>,
}

impl Submission {
    /// What a repetition under the same key must have in common with it.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.target, &self.outgoing, &self.headers, &self.requires)
    }
}

/// Reads and checks a request.
pub(crate) fn parse(request: &Request, targets: &Targets) -> Result<Submission, Fault> {
    let body: Body = request.json()?;
    let target = targets.of_callers(&body.target).ok_or_else(|| {
        let shown: String = body.target.chars().take(100).collect();
        invalid(format!("there is no effect target `{shown}`"))
    })?;
    let (run, step) = place(request)?;
    let key = match key(request, body.key.as_deref())? {
        Some(key) => Some(key),
        None => derived_key(run.as_deref(), step.as_deref(), &target.name),
    };
    let requires = requires(body.requires)?;
    let (content_type, text) = payload(body.payload.as_deref())?;
    if text.len() > target.payload_bytes {
        let message = format!(
            "the payload has {} bytes; the most for `{}` is {}",
            text.len(),
            target.name,
            target.payload_bytes
        );
        return Err(Fault::new(Code::BodyTooLarge, message));
    }
    let mut outgoing = Outgoing {
        content_type,
        body: text,
        ..Outgoing::default()
    };
    let headers = match &target.kind {
        Kind::Http(http) => {
            outgoing.method = method(body.method.as_deref(), http, target)?;
            outgoing.path = path_of(body.path, http, target)?;
            headers(body.headers, http, target)?
        }
        Kind::Smtp(smtp) => {
            if body.method.is_some() || body.path.is_some() || !body.headers.is_empty() {
                return Err(invalid("a mail has no `method`, `path` or `headers`"));
            }
            outgoing.content_type = None;
            Mail::parse(&outgoing.body, smtp).map_err(invalid)?;
            Vec::new()
        }
    };
    Ok(Submission {
        target: target.name.clone(),
        key,
        outgoing,
        headers,
        requires,
        run,
        step,
    })
}

/// Whether the target still allows what was recorded: the configuration may have changed since.
pub(crate) fn recheck(
    target: &Target,
    outgoing: &Outgoing,
    headers: &[(String, String)],
) -> Result<(), String> {
    let in_words = |fault: Fault| fault.message;
    match &target.kind {
        Kind::Http(http) => {
            method(Some(&outgoing.method), http, target).map_err(in_words)?;
            let path = Some(outgoing.path.clone()).filter(|path| !path.is_empty());
            path_of(path, http, target).map_err(in_words)?;
            let headers_again = headers.iter().cloned().collect();
            self::headers(headers_again, http, target).map_err(in_words)?;
            Ok(())
        }
        Kind::Smtp(smtp) => Mail::parse(&outgoing.body, smtp).map(drop),
    }
}

fn invalid(message: impl Into<String>) -> Fault {
    Fault::new(Code::InvalidRequest, message)
}

/// A string goes out as its text, any other JSON as the caller wrote it.
fn payload(payload: Option<&RawValue>) -> Result<(Option<String>, String), Fault> {
    let Some(raw) = payload.map(RawValue::get) else {
        return Ok((None, String::new()));
    };
    if raw.starts_with('"') {
        let text = serde_json::from_str(raw)
            .map_err(|error| invalid(format!("`payload` can't be read: {error}")))?;
        Ok((Some("text/plain; charset=utf-8".to_owned()), text))
    } else {
        Ok((Some("application/json".to_owned()), raw.to_owned()))
    }
}

fn method(asked: Option<&str>, http: &Http, target: &Target) -> Result<String, Fault> {
    let Some(asked) = asked else {
        return Ok(http.methods.first().unwrap_or(&Method::POST).to_string());
    };
    if http.methods.iter().any(|method| method.as_str() == asked) {
        return Ok(asked.to_owned());
    }
    let shown: String = asked.chars().take(20).collect();
    Err(invalid(format!(
        "the target `{}` does not allow the method `{shown}`",
        target.name
    )))
}

fn path_of(asked: Option<String>, http: &Http, target: &Target) -> Result<String, Fault> {
    let name = &target.name;
    let Some(path) = asked else {
        return match http.paths.as_slice() {
            [] => Ok(String::new()),
            [only] if !only.contains('*') => Ok(only.clone()),
            _ => Err(invalid(format!("the target `{name}` needs a `path`"))),
        };
    };
    path::check(&path).map_err(|why| invalid(format!("`path` {why}")))?;
    if http
        .paths
        .iter()
        .any(|pattern| path::matches(pattern, &path))
    {
        Ok(path)
    } else {
        Err(invalid(format!(
            "the target `{name}` does not allow the path `{path}`"
        )))
    }
}

fn headers(
    asked: BTreeMap<String, String>,
    http: &Http,
    target: &Target,
) -> Result<Vec<(String, String)>, Fault> {
    if asked.len() > HEADERS {
        return Err(invalid(format!("an effect has at most {HEADERS} headers")));
    }
    let mut headers = asked
        .into_iter()
        .map(|(name, value)| {
            let shown: String = name.chars().take(100).collect();
            let parsed = HeaderName::try_from(&name)
                .map_err(|_| invalid(format!("`{shown}` is no header's name")))?;
            if !may_set(&parsed, http) {
                return Err(invalid(format!(
                    "the target `{}` does not let callers set the header `{shown}`",
                    target.name
                )));
            }
            if value.len() > HEADER_BYTES || HeaderValue::from_str(&value).is_err() {
                return Err(invalid(format!(
                    "the header `{shown}` can't have this value: it has control characters, or more than {HEADER_BYTES} bytes"
                )));
            }
            Ok((parsed.as_str().to_owned(), value))
        })
        .collect::<Result<Vec<_>, _>>()?;
    headers.sort();
    if headers.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(invalid("two headers have the same name"));
    }
    Ok(headers)
}

/// What is allowed, and is neither the message's own framing nor something that Holdfast writes.
fn may_set(name: &HeaderName, http: &Http) -> bool {
    let is_ours = *name == http.key_header
        || name.as_str().starts_with("webhook-")
        || http.headers.iter().any(|(own, _)| own == name);
    http.allow_headers.contains(name) && !is_ours && !RESERVED.contains(&name.as_str())
}

fn requires(requires: Vec<String>) -> Result<Vec<String>, Fault> {
    let fits = |id: &String| {
        (1..=64).contains(&id.len())
            && id
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    if requires.len() > REQUIRES {
        return Err(invalid(format!(
            "an effect requires at most {REQUIRES} exchanges"
        )));
    }
    if requires.iter().all(fits) {
        Ok(requires)
    } else {
        Err(invalid(
            "`requires` holds ids of exchanges (`Holdfast-Exchange`)",
        ))
    }
}

/// The key that the header or the body names.
fn key(request: &Request, in_body: Option<&str>) -> Result<Option<String>, Fault> {
    let unfit = |why: String| Fault::new(Code::KeyInvalid, why);
    let in_header = header(request, "idempotency-key")?
        .map(|text| idempotency::parse_key(&text).map_err(unfit))
        .transpose()?;
    let in_body = in_body
        .map(|text| idempotency::parse_key(text).map_err(unfit))
        .transpose()?;
    match (in_header, in_body) {
        (Some(header), Some(body)) if header != body => Err(unfit(
            "`key` and the header `Idempotency-Key` differ".to_owned(),
        )),
        (header, body) => Ok(header.or(body)),
    }
}

/// One effect for each run, step and target, where nobody says more.
fn derived_key(run: Option<&str>, step: Option<&str>, target: &str) -> Option<String> {
    let derived = idempotency::derived_key(run?, step?);
    Some(idempotency::derived_key(&derived, target))
}

fn place(request: &Request) -> Result<(Option<String>, Option<String>), Fault> {
    let unfit = |why: String| Fault::new(Code::KeyInvalid, why);
    let run = header(request, "holdfast-run")?
        .map(|text| run::run_name(&text).map_err(unfit))
        .transpose()?;
    let step = header(request, "holdfast-step")?
        .map(|text| run::step_name(&text).map_err(unfit))
        .transpose()?;
    Ok((run, step))
}

/// A header's text, which may go beyond ASCII. Said twice, it has no one meaning.
fn header(request: &Request, name: &str) -> Result<Option<String>, Fault> {
    let mut values = request.headers.get_all(name).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    let unfit = |why| Err(Fault::new(Code::KeyInvalid, format!("`{name}` {why}")));
    if values.next().is_some() {
        return unfit("is given twice");
    }
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(_) => unfit("is not UTF-8"),
    }
}
