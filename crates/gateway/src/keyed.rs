//! Keyed calls: each runs once, and whoever repeats it gets the same answer.
//!
//! A key's first call is pursued by a task of its own, so that it runs on when its caller hangs up. The
//! store decides who runs it (over all processes); the task records the answer, stores it, and only
//! then publishes its end. Callers only ever read recordings. Calls without a key never come here.

mod in_hand;
mod kept;
mod later;
mod pursue;
mod recording;
mod registry;

use std::rc::Rc;

use holdfast_config::checked::Repeats;
use holdfast_core::fault::{Code, Fault};
use holdfast_core::idempotency;
use holdfast_store::KeyId;
use http::Response;
use sha2::{Digest as _, Sha256};

use crate::admit::Call;
use crate::drive::Drive;
use crate::emit::{Reply, respond};
use crate::names;
use crate::signs;
use crate::worker::Worker;

pub(crate) use kept::recall;
pub(crate) use later::{fetch, resume};
pub(crate) use pursue::{keep_unkeyed, pairs, too_large};
pub(crate) use recording::Reader;
pub(crate) use registry::Registry;

use recording::Recording;
use registry::Entered;

/// Request headers that change the answer, and so belong to the fingerprint.
const POLICY_HEADERS: [&str; 3] = ["holdfast-delivery", "anthropic-beta", "anthropic-version"];

/// Answers a model call, once if it has a key.
pub(crate) async fn answer(worker: &Rc<Worker>, call: Box<Call>) -> Result<Response<Reply>, Fault> {
    let later = later::is_wished(&call.headers);
    let key = match key_of(&call)? {
        Some(key) => key,
        None if later => idempotency::own_key(&call.id),
        None => {
            signs::note(&worker.shared, &call);
            let drive = Box::new(Drive::new(worker.clone(), call));
            return Ok(respond(drive).await);
        }
    };
    // Boxed: the usual call has no key, and every connection holds this future.
    Box::pin(once(worker, call, key, later)).await
}

/// Answers a call with a key; `later` = its caller comes back for the answer.
async fn once(
    worker: &Rc<Worker>,
    mut call: Box<Call>,
    key: String,
    later: bool,
) -> Result<Response<Reply>, Fault> {
    call.kept_elsewhere = true;
    // Nothing is sent that could not be kept.
    worker.shared.durable.store()?;
    let id = KeyId {
        scope: call.scope.clone(),
        key,
    };
    let asked = (id, fingerprint(&call));
    let refuses = call.policy().idempotency.repeats == Repeats::Refuse;
    let fresh = || Recording::new(&worker.shared, call.wishes.dialect, &call.id);
    let entered = worker.shared.registry.enter(&asked, fresh);
    let (recording, call) = match entered {
        Entered::Joined(recording) => {
            signs::note(&worker.shared, &call);
            (recording, Some(call))
        }
        Entered::First(recording) => {
            pursue::spawn(worker, call, asked.clone(), recording.clone(), later);
            (recording, None)
        }
    };
    let joined = call.is_some();
    worker
        .shared
        .metrics
        .keyed(if joined { "joined" } else { "asked" });
    if later {
        return later::accepted(worker, recording, &asked, call).await;
    }
    if joined && refuses && recording.is_run_here().await {
        return Err(in_use(
            "this route refuses repeats while the first call runs",
        ));
    }
    Ok(recording.respond(joined).await)
}

fn in_use(why: &str) -> Fault {
    let mut fault = Fault::new(
        Code::KeyInUse,
        format!("a call with this key is under way: {why}"),
    );
    fault.retry_after = Some(std::time::Duration::from_secs(1));
    fault
}

/// The key that a call was sent with, or that follows from its run and step.
fn key_of(call: &Call) -> Result<Option<String>, Fault> {
    let bad = |why: String| Fault::new(Code::KeyInvalid, why);
    let mut values = call.headers.get_all(&names::IDEMPOTENCY_KEY).iter();
    if let Some(value) = values.next() {
        if values.next().is_some() {
            return Err(bad("`Idempotency-Key` is sent twice".to_owned()));
        }
        let text = std::str::from_utf8(value.as_bytes())
            .map_err(|_| bad("`Idempotency-Key` is not UTF-8".to_owned()))?;
        return idempotency::parse_key(text).map(Some).map_err(bad);
    }
    let derives = call.policy().idempotency.derive;
    Ok(match (&call.run, &call.step) {
        (Some(run), Some(step)) if derives => Some(idempotency::derived_key(run, step)),
        _ => None,
    })
}

/// What makes two requests the same: method, path, query, the headers that change the answer, and the
/// bytes of the body. A body whose members are ordered in another way is another one.
fn fingerprint(call: &Call) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(b"POST");
    part(call.path().as_bytes());
    part(call.query.as_deref().unwrap_or_default().as_bytes());
    for name in POLICY_HEADERS {
        let values = call.headers.get_all(name);
        part(&(values.iter().count() as u64).to_le_bytes());
        for value in values {
            part(value.as_bytes());
        }
    }
    part(&call.body);
    hash.finalize().into()
}
