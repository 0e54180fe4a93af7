//! Calls whose caller comes back for the answer: `Prefer: respond-async` (RFC 7240).
//!
//! The request itself is kept with its key, so that an accepted call is made even if this process
//! dies: another one (or this one's next life) takes it over. The rules of keys are the same.

use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdfast_config::checked::Policy;
use holdfast_core::fault::{Code, Fault};
use holdfast_core::idempotency::shown_key;
use holdfast_store::{Abandoned, KeptRequest, KeyId, KeyState, NewTicket, RetryPolicy, TicketKind};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::in_hand::InHand;
use super::pursue::{run_claimed, unpack};
use super::recording::Recording;
use crate::admit::{Call, Told, Who, identify, understand};
use crate::emit::{self, Reply};
use crate::worker::{Held, Permit, Worker};

/// How soon a caller should look again.
const COME_BACK: u64 = 1;

/// Whether the caller prefers to fetch the answer later.
pub(super) fn is_wished(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|wish| wish.trim().eq_ignore_ascii_case("respond-async"))
}

/// 202 once the call is sure to be made; what is there already is given at once. A call whose first
/// caller waits for it is not kept, and so is waited for.
pub(super) async fn accepted(
    recording: Arc<Recording>,
    id: &KeyId,
    joined: bool,
) -> Result<Response<Reply>, Fault> {
    if recording.is_run_here().await && recording.is_sure() {
        return Ok(running(id));
    }
    Ok(recording.respond(joined).await)
}

fn running(id: &KeyId) -> Response<Reply> {
    let place = place(&id.key);
    let body = serde_json::json!({"status": "running", "key": shown_key(&id.key), "url": place});
    let mut response = emit::json(StatusCode::ACCEPTED, body.to_string());
    let headers = response.headers_mut();
    if let Ok(place) = HeaderValue::from_str(&place) {
        headers.insert(header::LOCATION, place);
    }
    headers.insert(header::RETRY_AFTER, HeaderValue::from(COME_BACK));
    let applied = HeaderValue::from_static("respond-async");
    headers.insert("preference-applied", applied);
    response
}

/// Where the answer of a key is fetched.
fn place(key: &str) -> String {
    let mut place = String::from("/v1/calls/");
    for byte in key.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            place.push(char::from(byte));
        } else {
            let _ = write!(place, "%{byte:02X}");
        }
    }
    place
}

/// `GET /v1/calls/{key}`: the stored answer, or how it stands.
pub(crate) async fn fetch(
    worker: &Rc<Worker>,
    headers: &HeaderMap,
    path: &str,
) -> Result<Response<Reply>, Fault> {
    let key = &holdfast_api::decode(path.strip_prefix("/v1/calls/").unwrap_or_default());
    let snapshot = worker.shared.snapshot.load_full();
    let who = identify(&snapshot, headers)?;
    let store = worker.shared.durable.store()?;
    let id = KeyId {
        scope: who.scope(headers),
        key: key.to_owned(),
    };
    let missing = || holdfast_api::not_found("call with the key", &shown_key(key));
    let row = store.key(&id).await?.ok_or_else(missing)?;
    if row.expires <= worker.shared.clock.wall() {
        return Err(missing());
    }
    match row.state {
        KeyState::Running { .. } => Ok(running(&id)),
        KeyState::Done(answer) => {
            let (head, body) = unpack(answer);
            let mut response = Response::new(Reply::Full(Some(body)));
            *response.status_mut() = head.status;
            *response.headers_mut() = head.headers;
            let yes = HeaderValue::from_static("true");
            response.headers_mut().insert("idempotent-replayed", yes);
            Ok(response)
        }
        KeyState::Ticketed { ticket } => {
            let message = format!("the call is kept for review as ticket {ticket}");
            let mut fault = Fault::new(Code::InReview, message);
            fault.retry_after = Some(Duration::from_secs(COME_BACK));
            Err(fault)
        }
    }
}

/// Makes a call whose process died before it could answer. Its key is claimed already.
pub(crate) async fn resume(worker: Rc<Worker>, abandoned: Abandoned) {
    let asked = (abandoned.id.clone(), abandoned.fingerprint);
    let in_hand = InHand::new(&worker, &asked, &abandoned.exchange);
    let called = KeptRequest::from_bytes(&abandoned.request)
        .ok_or_else(|| Fault::new(Code::Internal, "what was kept is no request"))
        .and_then(|kept| recall(&worker, kept, &abandoned.id.scope));
    match called {
        Ok(call) => run_claimed(&worker, call, in_hand, abandoned).await,
        // It was accepted: given back, it is taken up again a lease later.
        Err(fault) if fault.code.is_passing() => {}
        Err(fault) => {
            if keep(&worker, &abandoned, &fault).await {
                in_hand.settled();
            }
        }
    }
}

/// The ticket of an accepted call that can't be made as the configuration is now.
async fn keep(worker: &Worker, abandoned: &Abandoned, fault: &Fault) -> bool {
    tracing::warn!(
        exchange = abandoned.exchange,
        message = fault.message,
        "a call that was to be answered later can't be made any more"
    );
    let kept = KeptRequest::from_bytes(&abandoned.request);
    let (now, policy) = (worker.shared.clock.wall(), Policy::default());
    let expires = now + policy.ticket_expiry;
    let ticket = NewTicket {
        kind: TicketKind::Call,
        scope: abandoned.id.scope.clone(),
        subject: abandoned.exchange.clone(),
        key: Some(abandoned.id.clone()),
        run: abandoned.run.clone(),
        step: abandoned.step.clone(),
        title: format!("accepted, and can't be made: {}", fault.message),
        facts: serde_json::json!({"code": fault.code.number(), "message": fault.message}),
        route: kept.map(|kept| kept.route),
        content: Some(abandoned.request.clone()),
        policy: RetryPolicy::OnRepeat,
        not_before: now,
        expires,
        now,
    };
    let Some(store) = worker.shared.durable.mounted() else {
        return false;
    };
    let kept = store.ticket_key(&abandoned.id, abandoned.fence, ticket, expires);
    kept.await
        .inspect_err(|error| tracing::warn!(%error, "its ticket can't be stored"))
        .is_ok()
}

/// A kept request as a call of today's configuration.
pub(crate) fn recall(worker: &Rc<Worker>, kept: KeptRequest, scope: &str) -> Result<Call, Fault> {
    let shared = &worker.shared;
    let snapshot = shared.snapshot.load_full();
    let limit = snapshot.config.limits.in_flight;
    let permit = Permit::take(shared, limit)
        .ok_or_else(|| Fault::new(Code::Overloaded, "too many calls are under way"))?;
    let dialect = crate::listen::dialect_of_path(&kept.path)
        .ok_or_else(|| Fault::new(Code::Internal, "a kept request has no known path"))?;
    let mut headers: HeaderMap = kept
        .headers
        .iter()
        .filter_map(|(name, value)| {
            let name = http::HeaderName::from_bytes(name.as_bytes()).ok()?;
            Some((name, HeaderValue::from_str(value).ok()?))
        })
        .collect();
    if let Ok(delivery) = HeaderValue::from_str(&kept.delivery) {
        headers.insert("holdfast-delivery", delivery);
    }
    let told = Told {
        dialect,
        query: None,
        headers,
        body: kept.body.into(),
    };
    let held = Held::new(shared);
    let mut call = understand(&snapshot, Who::again(scope), told, held, permit)?;
    call.kept_elsewhere = true;
    Ok(call)
}
