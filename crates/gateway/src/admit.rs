//! From an HTTP request to a call that may be driven: path, caller, body, route.

use std::cell::OnceCell;
use std::fmt::Write as _;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Bytes, BytesMut};
use holdfast_config::checked::{Auth, Limits, Policy, Provider, STRANGER};
use holdfast_core::fault::{Code, Fault};
use holdfast_core::idempotency;
use holdfast_core::policy::{Delivery, Wishes};
use holdfast_wire::envelope::{self, Envelope};
use holdfast_wire::turn::Dialect;
use http::{HeaderMap, HeaderName, HeaderValue, Request, header};
use sha2::{Digest as _, Sha256};

use crate::asked::Asked;
use crate::clock::exchange_id;
use crate::gates::Gates;
use crate::names;
use crate::snapshot::Snapshot;
use crate::worker::{Held, Permit, Worker};

/// A request that was understood and admitted.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) snapshot: Arc<Snapshot>,
    /// Index into the snapshot's routes.
    pub(crate) route: usize,
    /// The route's targets that this caller may use, as indices into the route's targets.
    pub(crate) targets: Vec<usize>,
    pub(crate) caller: Option<String>,
    /// What is kept for this call belongs to this scope.
    pub(crate) scope: String,
    pub(crate) run: Option<String>,
    pub(crate) step: Option<String>,
    pub(crate) wishes: Wishes,
    pub(crate) delivery: Delivery,
    /// The model name that the caller used.
    pub(crate) model: String,
    pub(crate) include_usage: bool,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) spans: Spans,
    pub(crate) debug: bool,
    /// The name of the target that was asked first, once it was put together.
    pub(crate) first_asked: OnceCell<(usize, Arc<str>)>,
    /// Whoever makes this call sees to what is kept of it: it has a key, or comes from the queue.
    pub(crate) kept_elsewhere: bool,
    pub(crate) _held: Held,
    pub(crate) _permit: Permit,
}

impl Call {
    /// The path of this dialect's calls.
    pub(crate) fn path(&self) -> &'static str {
        match self.wishes.dialect {
            Dialect::Anthropic => "/v1/messages",
            Dialect::OpenAi => "/v1/chat/completions",
        }
    }

    /// Lets go of the connection's read buffer, of which headers and a small body are slices: a long
    /// stream would hold all of it for the sake of a few hundred bytes.
    pub(crate) fn detach(&mut self) {
        if self.body.len() <= SMALL {
            self.body = Bytes::copy_from_slice(&self.body);
        }
        let length = self.headers.values().map(HeaderValue::len).sum();
        let mut all = BytesMut::with_capacity(length);
        for value in self.headers.values() {
            all.extend_from_slice(value.as_bytes());
        }
        let mut all = all.freeze();
        for value in self.headers.values_mut() {
            let copy = all.split_to(value.len());
            if let Ok(mut copy) = HeaderValue::from_maybe_shared(copy) {
                copy.set_sensitive(value.is_sensitive());
                *value = copy;
            }
        }
    }

    /// The policy of its route.
    pub(crate) fn policy(&self) -> &Policy {
        &self.snapshot.config.routes[self.route].policy
    }

    /// What its answer must pass.
    pub(crate) fn gates(&self) -> Gates<'_> {
        self.snapshot.gates(self.route, self.step.as_deref())
    }
}

/// Where the few members of the body lie that an attempt may have to change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans {
    /// Behind the opening brace.
    pub(crate) open: usize,
    pub(crate) model: Range<usize>,
    pub(crate) stream: Option<Range<usize>>,
    pub(crate) stream_options: Option<Range<usize>>,
    /// The caller's limits of the answer, and their values.
    pub(crate) max_tokens: Vec<(Range<usize>, u64)>,
}

/// A body of at most this size may lie in a buffer that is much larger; a larger one has memory of its own.
const SMALL: usize = 8 << 10;

/// Takes a call in; the fault is to be told in `dialect`.
pub(crate) async fn admit(
    worker: &Rc<Worker>,
    dialect: Dialect,
    request: Request<Asked>,
) -> Result<Box<Call>, Fault> {
    let shared = &worker.shared;
    let snapshot = shared.snapshot.load_full();
    let limits = &snapshot.config.limits;
    if shared.draining.load(Ordering::Relaxed) {
        return Err(Fault::new(
            Code::Draining,
            "the gateway is going down and takes no new calls",
        ));
    }
    // Before anything is held for a stranger.
    let who = identify(&snapshot, request.headers())?;
    let Some(permit) = Permit::take(shared, limits.in_flight) else {
        shared.metrics.shed.inc();
        let message = format!(
            "{} calls are under way, which is the limit `in_flight`",
            limits.in_flight
        );
        return Err(Fault::new(Code::Overloaded, message));
    };
    let (parts, asked) = request.into_parts();
    check_coding(&parts.headers)?;
    let mut held = Held::new(shared);
    let body = read_body(&snapshot, asked, &mut held).await?;
    let told = Told {
        dialect,
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
        body,
    };
    understand(&snapshot, who, told, held, permit)
}

/// What a request says, once all of it is there.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) dialect: Dialect,
    pub(crate) query: Option<String>,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// From the bytes of a request to a call.
pub(crate) fn understand(
    snapshot: &Arc<Snapshot>,
    who: Who,
    told: Told,
    held: Held,
    permit: Permit,
) -> Result<Box<Call>, Fault> {
    let Told {
        dialect,
        query,
        headers,
        body,
    } = told;
    let terms = envelope::Limits {
        depth: snapshot.config.limits.json_depth,
        ..envelope::Limits::default()
    };
    let envelope = Envelope::read(&body, &terms).map_err(|error| {
        Fault::new(
            Code::InvalidRequest,
            format!("the body is not a request: {error}"),
        )
    })?;
    let Some(model) = envelope.model() else {
        return Err(Fault::new(Code::InvalidRequest, "the body has no `model`"));
    };
    let route = find_route(snapshot, &model, &who)?;
    let targets = usable_targets(snapshot, route, &who, dialect)?;
    let policy = &snapshot.routes[route].policy;
    let delivery = wished_delivery(&headers)?.unwrap_or(policy.delivery);
    let (run, step) = run_and_step(&headers)?;
    let wishes = wishes(dialect, &envelope);
    // Boxed: it is handed on several times until it is driven.
    Ok(Box::new(Call {
        id: exchange_id(),
        route,
        targets,
        scope: who.scope(&headers),
        caller: who.name,
        run,
        step,
        wishes,
        delivery,
        model: model.clone().into_owned(),
        include_usage: envelope.include_usage(),
        query,
        debug: headers.contains_key(&names::DEBUG),
        first_asked: OnceCell::new(),
        kept_elsewhere: false,
        spans: spans(&body, &envelope),
        headers,
        body: body.clone(),
        _held: held,
        _permit: permit,
        snapshot: snapshot.clone(),
    }))
}

/// The run and the step that a request names.
pub(crate) fn run_and_step(headers: &HeaderMap) -> Result<(Option<String>, Option<String>), Fault> {
    let name = |header: &HeaderName, shown: &str| {
        let Some(value) = headers.get(header) else {
            return Ok(None);
        };
        let value =
            std::str::from_utf8(value.as_bytes()).map_err(|_| format!("`{shown}` is not UTF-8"));
        value
            .and_then(|value| idempotency::parse_name(shown, value))
            .map(Some)
            .map_err(|why| Fault::new(Code::KeyInvalid, why))
    };
    let run = name(&names::RUN, "Holdfast-Run")?;
    let step = name(&names::STEP, "Holdfast-Step")?;
    if run.is_none() && step.is_some() {
        return Err(Fault::new(
            Code::KeyInvalid,
            "`Holdfast-Step` needs a `Holdfast-Run`",
        ));
    }
    Ok((run, step))
}

/// Who calls.
#[derive(Debug)]
pub(crate) struct Who {
    name: Option<String>,
    /// May use the gateway's own credentials: a caller of ours, or whoever sits at this machine.
    trusted: bool,
    /// Presented something that is not a key of ours: it may be the vendor's.
    has_credential: bool,
}

/// The hexadecimal digits of a credential's hash that stand for who owns it.
const SCOPE_DIGITS: usize = 16;

impl Who {
    /// The one whose kept request is asked again. Its credential was not kept, so it is asked with the
    /// gateway's own: for nobody who could not use those today.
    pub(crate) fn again(snapshot: &Snapshot, scope: &str) -> Result<Self, Fault> {
        let callers = &snapshot.config.callers;
        let trusted = if callers.is_empty() {
            !snapshot.open && !scope.starts_with(STRANGER)
        } else {
            callers.iter().any(|caller| caller.name == scope)
        };
        if !trusted {
            let message = "it was asked with a credential that was not kept, or by a caller that is not configured any more: nobody may ask it again for that caller";
            return Err(Fault::new(Code::Forbidden, message));
        }
        Ok(Self {
            name: Some(scope.to_owned()).filter(|name| !name.is_empty()),
            trusted,
            has_credential: false,
        })
    }

    /// May use what is the gateway's own.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted
    }

    /// Whom kept things belong to. Strangers with a vendor's own key are told apart by its hash.
    pub(crate) fn scope(&self, headers: &HeaderMap) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let credential = (!self.trusted).then(|| presented(headers)).flatten();
        credential.map_or_else(String::new, |credential| {
            let hash = Sha256::digest(credential.as_bytes());
            let mut scope = String::from(STRANGER);
            for byte in &hash[..SCOPE_DIGITS / 2] {
                let _ = write!(scope, "{byte:02x}");
            }
            scope
        })
    }
}

/// What to say to whoever sends no key.
const SEND_A_KEY: &str = "send a key as `Authorization: Bearer` or `x-api-key`";

/// The credential of a request, in either of the ways that the vendors' clients send it.
pub(crate) fn presented(headers: &HeaderMap) -> Option<&str> {
    credential(headers).map(|(_, credential)| credential)
}

/// The credential with the header in which it stands.
pub(crate) fn credential(headers: &HeaderMap) -> Option<(&'static HeaderName, &str)> {
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
        .map(|(_, token)| (&header::AUTHORIZATION, token.trim()));
    let key = || {
        headers
            .get(&names::X_API_KEY)
            .and_then(|value| value.to_str().ok())
            .map(|key| (&names::X_API_KEY, key.trim()))
    };
    bearer
        .or_else(key)
        .filter(|(_, credential)| !credential.is_empty())
}

pub(crate) fn identify(snapshot: &Snapshot, headers: &HeaderMap) -> Result<Who, Fault> {
    let presented = presented(headers);
    let config = &snapshot.config;
    if config.callers.is_empty() && !snapshot.open {
        return Ok(Who {
            name: None,
            trusted: true,
            has_credential: presented.is_some(),
        });
    }
    let Some(credential) = presented else {
        return Err(unauthenticated(SEND_A_KEY));
    };
    if let Some(caller) = config.caller(credential) {
        return Ok(Who {
            name: Some(caller.name.clone()),
            trusted: true,
            has_credential: false,
        });
    }
    // It may still be the key of a vendor that takes the callers' own.
    let takes_own = |provider: &Provider| provider.auth == Auth::Caller;
    if !config.providers.iter().any(takes_own) {
        return Err(unauthenticated("the key is not known here"));
    }
    Ok(Who {
        name: None,
        trusted: false,
        has_credential: true,
    })
}

fn unauthenticated(message: &str) -> Fault {
    Fault::new(Code::Unauthenticated, message)
}

fn find_route(snapshot: &Snapshot, model: &str, who: &Who) -> Result<usize, Fault> {
    let Some(route) = snapshot.route(model) else {
        // An unknown caller learns nothing about the routes of known ones.
        if !who.trusted && !snapshot.config.callers.is_empty() {
            return Err(unauthenticated("the key is not known here"));
        }
        let shown: String = model.chars().take(100).collect();
        let message =
            format!("no route serves the model `{shown}`; `GET /v1/models` lists what is served");
        return Err(Fault::new(Code::UnknownModel, message));
    };
    let config = &snapshot.config;
    let caller = who
        .name
        .as_ref()
        .and_then(|name| config.callers.iter().find(|caller| caller.name == *name));
    if caller.is_some_and(|caller| !caller.may_use(&config.routes[route])) {
        return Err(Fault::new(
            Code::Forbidden,
            format!("this key may not use the model `{model}`"),
        ));
    }
    Ok(route)
}

/// The gateway's credentials are for its own callers; a caller's own credential goes to the first
/// vendor of its dialect that takes it, and to no other.
fn usable_targets(
    snapshot: &Snapshot,
    route: usize,
    who: &Who,
    dialect: Dialect,
) -> Result<Vec<usize>, Fault> {
    let config = &snapshot.config;
    let mut own_vendor = None;
    let usable: Vec<usize> = config.routes[route]
        .targets
        .iter()
        .enumerate()
        .filter(|(_, target)| {
            let provider = config.provider(target);
            if provider.auth != Auth::Caller {
                return who.trusted;
            }
            who.has_credential
                && provider.dialect == dialect
                && *own_vendor.get_or_insert(&provider.domain) == &provider.domain
        })
        .map(|(place, _)| place)
        .collect();
    if usable.is_empty() {
        return Err(unauthenticated(
            "the key is not known here, and no target of this route takes it as its own",
        ));
    }
    Ok(usable)
}

pub(crate) fn check_coding(headers: &HeaderMap) -> Result<(), Fault> {
    match headers
        .get(header::CONTENT_ENCODING)
        .map(HeaderValue::as_bytes)
    {
        None | Some(b"identity") => Ok(()),
        Some(coding) => Err(Fault::new(
            Code::UnsupportedEncoding,
            format!(
                "send the body without `Content-Encoding: {}`",
                String::from_utf8_lossy(coding)
            ),
        )),
    }
}

pub(crate) async fn read_body(
    snapshot: &Snapshot,
    mut asked: Asked,
    held: &mut Held,
) -> Result<Bytes, Fault> {
    let limits = &snapshot.config.limits;
    if asked
        .told()
        .is_some_and(|told| told > limits.body_bytes as u64)
    {
        return Err(too_large(limits.body_bytes));
    }
    if let Some(body) = asked.take_whole() {
        take_in(body.len(), body.len(), limits, held)?;
        return Ok(body);
    }
    match tokio::time::timeout(limits.body_timeout, read_all(asked, limits, held)).await {
        Ok(body) => body,
        Err(_) => Err(Fault::new(
            Code::RequestTimeout,
            format!(
                "the body did not come within {} s",
                limits.body_timeout.as_secs_f64()
            ),
        )),
    }
}

async fn read_all(mut asked: Asked, limits: &Limits, held: &mut Held) -> Result<Bytes, Fault> {
    let mut all = BytesMut::new();
    loop {
        let before = all.len();
        let more = asked.more(&mut all).await.map_err(|why| {
            Fault::new(Code::InvalidRequest, format!("the body broke off: {why}"))
        })?;
        if !more {
            return Ok(all.freeze());
        }
        take_in(all.len() - before, all.len(), limits, held)?;
        if before == 0 {
            let told = asked.told().and_then(|told| usize::try_from(told).ok());
            all.reserve(told.unwrap_or_default().saturating_sub(all.len()));
        }
    }
}

/// `more` bytes have come, and are now `all`.
fn take_in(more: usize, all: usize, limits: &Limits, held: &mut Held) -> Result<(), Fault> {
    if all > limits.body_bytes {
        return Err(too_large(limits.body_bytes));
    }
    if !held.grow(more, limits.buffered_bytes) {
        return Err(Fault::new(
            Code::OutOfBuffers,
            "too much is held for other calls; try again in a moment",
        ));
    }
    Ok(())
}

fn too_large(limit: usize) -> Fault {
    Fault::new(
        Code::BodyTooLarge,
        format!("the body is over the limit `body_bytes` of {limit} bytes"),
    )
}

fn wished_delivery(headers: &HeaderMap) -> Result<Option<Delivery>, Fault> {
    let Some(value) = headers.get(&names::DELIVERY) else {
        return Ok(None);
    };
    value
        .to_str()
        .ok()
        .and_then(Delivery::from_name)
        .map(Some)
        .ok_or_else(|| {
            Fault::new(
                Code::InvalidRequest,
                "`Holdfast-Delivery` is one of `live`, `guarded` and `whole`",
            )
        })
}

fn wishes(dialect: Dialect, envelope: &Envelope<'_>) -> Wishes {
    let choices = u32::try_from(envelope.n().unwrap_or(1)).unwrap_or(u32::MAX);
    Wishes {
        dialect,
        stream: envelope.stream().unwrap_or(false),
        choices: choices.max(1),
        joinable: choices <= 1 && !envelope.wants_json() && !envelope.has_member("logprobs"),
        after_tools: envelope.last_message_has_tool_result(),
        pausable: dialect == Dialect::Anthropic && may_pause(envelope),
    }
}

/// Only server tools pause a turn; their types are dated (`web_search_20260209`). A false alarm costs
/// no more than keeping the frames.
fn may_pause(envelope: &Envelope<'_>) -> bool {
    let dated = |tools: &[u8]| tools.windows(3).any(|window| window == b"_20");
    envelope.has_member("mcp_servers") || envelope.member("tools").is_some_and(dated)
}

fn spans(body: &Bytes, envelope: &Envelope<'_>) -> Spans {
    let base = body.as_ptr() as usize;
    let span = |name| {
        envelope.member(name).map(|value: &[u8]| {
            let from = value.as_ptr() as usize - base;
            from..from + value.len()
        })
    };
    let open = body
        .iter()
        .position(|byte| *byte == b'{')
        .map_or(0, |brace| brace + 1);
    Spans {
        open,
        model: span("model").unwrap_or_default(),
        stream: span("stream"),
        stream_options: span("stream_options"),
        max_tokens: ["max_tokens", "max_completion_tokens"]
            .iter()
            .filter_map(|name| {
                let span = span(name)?;
                let value = std::str::from_utf8(&body[span.clone()])
                    .ok()?
                    .parse()
                    .ok()?;
                Some((span, value))
            })
            .collect(),
    }
}
