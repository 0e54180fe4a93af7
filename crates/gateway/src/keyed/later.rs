//! Calls whose caller comes back for the answer: `Prefer: respond-async` (RFC 7240).
//!
//! The request itself is kept with its key, so that an accepted call is made even if this process
//! dies: another one (or this one's next life) takes it over. The rules of keys are the same.

use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use holdfast_core::fault::{Code, Fault};
use holdfast_core::idempotency::shown_key;
use holdfast_store::{Abandoned, KeptRequest, KeyId, KeyState, Store};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

use super::in_hand::InHand;
use super::kept::{self, recall};
use super::pursue::{Broken, run_claimed, unpack};
use super::recording::Recording;
use super::registry::Asked;
use crate::admit::{Call, identify};
use crate::emit::{self, Reply};
use crate::names;
use crate::worker::Worker;

/// How soon a caller should look again.
const COME_BACK: u64 = 1;

/// Whether the caller prefers to fetch the answer later.
pub(super) fn is_wished(headers: &HeaderMap) -> bool {
    headers
        .get_all(&names::PREFER)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|wish| wish.trim().eq_ignore_ascii_case("respond-async"))
}

/// 202 once the call is sure to be made; what is there already is given at once. `joined` = the call
/// of this caller, where another one began it.
pub(super) async fn accepted(
    worker: &Worker,
    recording: Arc<Recording>,
    asked: &Asked,
    joined: Option<Box<Call>>,
) -> Result<Response<Reply>, Fault> {
    if recording.is_run_here().await && is_kept(worker, asked, joined.as_deref()).await? {
        return Ok(running(&asked.0));
    }
    Ok(recording.respond(joined.is_some()).await)
}

/// Whether the request lies with its running key. Who began the call may have waited for it, and then
/// nothing was kept; `false` = it has just ended.
async fn is_kept(worker: &Worker, asked: &Asked, joined: Option<&Call>) -> Result<bool, Fault> {
    let Some(call) = joined else {
        return Ok(true);
    };
    let (id, fingerprint) = asked;
    let store = worker.shared.durable.store()?;
    let request = kept::request(call).to_bytes();
    Ok(store.keep_request(id, *fingerprint, &request).await?)
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
    let Some(store) = worker.shared.durable.mounted() else {
        return;
    };
    let asked = (abandoned.id.clone(), abandoned.fingerprint);
    let in_hand = InHand::new(&worker, &asked, &abandoned.exchange);
    let kept = KeptRequest::from_bytes(&abandoned.request);
    let called = worker.shared.durable.store().and_then(|_| {
        let kept = kept.clone();
        let kept = kept.ok_or_else(|| Fault::new(Code::Internal, "what was kept is no request"));
        recall(&worker, kept?, &abandoned.id.scope)
    });
    match called {
        Ok(call) => run_claimed(&worker, store, call, in_hand, abandoned).await,
        // It was accepted: given back, it is made by whoever looks next.
        Err(fault) if fault.code.is_passing() => {
            tracing::info!(
                exchange = abandoned.exchange,
                message = fault.message,
                "a call that was to be answered later can't be made now"
            );
        }
        Err(fault) => {
            if review(&worker, &store, &abandoned, kept.as_ref(), &fault).await {
                in_hand.settled();
            }
        }
    }
}

/// Puts a call that was accepted and can't be made any more before a person. `false` = not yet.
async fn review(
    worker: &Worker,
    store: &Store,
    abandoned: &Abandoned,
    kept: Option<&KeptRequest>,
    fault: &Fault,
) -> bool {
    tracing::warn!(
        exchange = abandoned.exchange,
        message = fault.message,
        "a call that was to be answered later can't be made any more"
    );
    let snapshot = worker.shared.snapshot.load_full();
    let model = kept.map_or("", |kept| &kept.route);
    let route = snapshot.config.route(model);
    let policy = route.map(|route| route.policy.clone()).unwrap_or_default();
    let broken = Broken {
        scope: abandoned.id.scope.clone(),
        exchange: abandoned.exchange.clone(),
        key: Some(abandoned.id.clone()),
        run: abandoned.run.clone(),
        step: abandoned.step.clone(),
        route: route.map_or(model, |route| &route.model).to_owned(),
        model: model.to_owned(),
        content: abandoned.request.clone(),
    };
    let ticket = broken.ticket(worker, &policy, fault);
    let expires = ticket.expires;
    let (id, fence) = (&abandoned.id, abandoned.fence);
    let kept = store.ticket_key(id, fence, ticket, expires).await;
    kept.inspect_err(|error| tracing::warn!(%error, "it can't be put into the review queue yet"))
        .is_ok()
}
