//! `/v1/runs/{run}/steps/{step}`: checkpoints that any orchestrator can use.
//!
//! Begin says go on, wait, or here is the result of the first time. What an end is worth is decided by
//! the fence that the beginning gave; see [`holdfast_core::run`]. A result that does not pass the
//! step's gate is refused, and the step goes on being done. The store answers the same end twice
//! alike, so that a lost answer can be asked for again.

use std::time::Duration;

use holdfast_api::{Answer, Request, json, not_found};
use holdfast_core::fault::{Code, Fault};
use holdfast_core::run::moment::{moment, parse_span};
use holdfast_core::run::{LONGEST_LEASE, SHORTEST_LEASE};
use holdfast_core::time::Wall;
use holdfast_store::{Begun, Step, StepState};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json, value::to_raw_value};

use crate::input::{self, conflict, invalid};
use crate::shared::Shared;

use super::timeline::failures;

/// The longest error text of a step, in characters.
const LONGEST_ERROR: usize = 10_000;
/// How soon somebody who found the step taken is told to come back, at most, in seconds.
const COME_BACK: u64 = 5;

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Move {
    Begin,
    Complete,
    Fail,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    #[serde(rename = "do")]
    what: Move,
    lease: Option<String>,
    fence: Option<i64>,
    /// As it was written: it is given back byte for byte.
    result: Option<Box<RawValue>>,
    error: Option<String>,
}

/// What a change comes to.
#[derive(Debug, Default, Serialize)]
struct Changed {
    state: &'static str,
    fence: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
}

/// A step as it is shown.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    run: &'a str,
    step: &'a str,
    state: StepState,
    fence: i64,
    until: i64,
    attempts: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
    failures: Vec<Value>,
    created: i64,
    updated: i64,
}

/// One step of one run, by its names.
struct Place<'a> {
    scope: &'a str,
    run: String,
    step: String,
}

pub(crate) async fn change(shared: &Shared, request: &Request, run: &str, step: &str) -> Answer {
    let place = Place {
        scope: &request.caller.scope,
        run: input::run_name(run)?,
        step: input::step_name(step)?,
    };
    let change: Change = request.json()?;
    match change.what {
        Move::Begin => begin(shared, &place, change.lease.as_deref()).await,
        Move::Complete => {
            let fence = change.fence.ok_or_else(no_fence)?;
            complete(shared, &place, fence, change.result).await
        }
        Move::Fail => {
            let fence = change.fence.ok_or_else(no_fence)?;
            let error = input::text("error", change.error.unwrap_or_default(), LONGEST_ERROR)?;
            fail(shared, &place, fence, &error).await
        }
    }
}

pub(crate) async fn show(shared: &Shared, request: &Request, run: &str, step: &str) -> Answer {
    let (run, step) = (input::run_name(run)?, input::step_name(step)?);
    let scope = input::scope(request).ok_or_else(|| not_found("step", &step))?;
    let found = shared.store.step(&scope, &run, &step).await?;
    let found = found.ok_or_else(|| not_found("step", &step))?;
    let shown = Shown {
        run: &found.run,
        step: &found.step,
        state: found.state,
        fence: found.fence,
        until: found.until.0,
        attempts: found.attempts,
        result: result(&found)?,
        error: found.error.as_deref(),
        failures: failures(&found),
        created: found.created.0,
        updated: found.updated.0,
    };
    json(StatusCode::OK, &shown)
}

async fn begin(shared: &Shared, place: &Place<'_>, lease: Option<&str>) -> Answer {
    let lease = match lease {
        None => shared.terms().lease,
        Some(text) => parse_lease(text)?,
    };
    let now = shared.now();
    let until = now + lease;
    let begun = shared
        .store
        .begin_step(place.scope, &place.run, &place.step, until, now)
        .await?;
    match begun {
        Begun::Begun { fence } => {
            let begun = Changed {
                state: "begun",
                fence,
                until: Some(until.0),
                result: None,
            };
            json(StatusCode::OK, &begun)
        }
        Begun::Running { until } => taken(until, now),
        Begun::Done(step) => {
            let done = Changed {
                state: "done",
                fence: step.fence,
                until: None,
                result: Some(result(&step)?.map_or_else(null, Ok)?),
            };
            json(StatusCode::OK, &done)
        }
    }
}

fn parse_lease(text: &str) -> Result<Duration, Fault> {
    parse_span(text)
        .ok()
        .filter(|lease| (SHORTEST_LEASE..=LONGEST_LEASE).contains(lease))
        .ok_or_else(|| invalid("`lease` is a time from `1s` to `24h`"))
}

/// Somebody else is at it. Said as data, since it is what many callers wait on, and with the code of
/// a conflict.
fn taken(until: Wall, now: Wall) -> Answer {
    let body = json!({
        "state": "running",
        "until": until.0,
        "error": {
            "code": Code::Conflict.slug(),
            "message": format!(
                "another worker has this step until {} ({})",
                moment(until),
                Code::Conflict.number()
            ),
        },
    });
    let mut response = json(StatusCode::CONFLICT, &body)?;
    let wait = until.since(now).as_secs().clamp(1, COME_BACK);
    let headers = response.headers_mut();
    headers.insert(header::RETRY_AFTER, HeaderValue::from(wait));
    let code = HeaderValue::from_static(Code::Conflict.number());
    headers.insert("holdfast-code", code);
    Ok(response)
}

async fn complete(
    shared: &Shared,
    place: &Place<'_>,
    fence: i64,
    result: Option<Box<RawValue>>,
) -> Answer {
    let result = result.map_or_else(null, Ok)?;
    let limit = shared.terms().result_bytes;
    let bytes = result.get().len();
    if bytes > limit {
        let message = format!("the result has {bytes} bytes; the most is {limit}");
        return Err(Fault::new(Code::BodyTooLarge, message));
    }
    // What is done already stays as it is, whatever its gate demands by now.
    if begun(shared, place).await?.state != StepState::Done {
        check(shared, &place.step, &result)?;
    }
    let kept = result.get().as_bytes().to_vec();
    let is_kept = shared
        .store
        .complete_step(
            place.scope,
            &place.run,
            &place.step,
            fence,
            kept,
            shared.now(),
        )
        .await?;
    if !is_kept {
        return Err(replaced(&begun(shared, place).await?, fence));
    }
    // Taken may also mean: taken before, from another worker with this fence. What is kept stays.
    let after = begun(shared, place).await?;
    if after.result.as_deref() != Some(result.get().as_bytes()) {
        return Err(conflict(
            "the step is done already, with another result, which stays",
        ));
    }
    ended("done", fence)
}

/// Asks the step's gate. A result that is a text is looked at as a model's answer with these words
/// would be, any other as the JSON that it is.
fn check(shared: &Shared, step: &str, result: &RawValue) -> Result<(), Fault> {
    let written = result.get();
    let text: Option<String> = serde_json::from_str(written).ok();
    let text = text.as_deref().unwrap_or(written);
    shared.gates.check_step(step, text).map_err(|why| {
        let message = format!("the result does not pass the gate of its step: {why}");
        let mut fault = Fault::new(Code::GateFailed, message);
        // It is the result of the one who asks here that did not pass.
        fault.status = StatusCode::UNPROCESSABLE_ENTITY.as_u16();
        fault
    })
}

async fn fail(shared: &Shared, place: &Place<'_>, fence: i64, error: &str) -> Answer {
    begun(shared, place).await?;
    let is_kept = shared
        .store
        .fail_step(
            place.scope,
            &place.run,
            &place.step,
            fence,
            error,
            shared.now(),
        )
        .await?;
    if !is_kept {
        return Err(replaced(&begun(shared, place).await?, fence));
    }
    ended("failed", fence)
}

fn ended(state: &'static str, fence: i64) -> Answer {
    let ended = Changed {
        state,
        fence,
        ..Changed::default()
    };
    json(StatusCode::OK, &ended)
}

/// The step as it stands: nothing is ended that was not begun, and nothing is made by trying.
async fn begun(shared: &Shared, place: &Place<'_>) -> Result<Step, Fault> {
    let found = shared
        .store
        .step(place.scope, &place.run, &place.step)
        .await?;
    found.ok_or_else(|| not_found("step", &place.step))
}

/// Why an end was not taken.
fn replaced(step: &Step, fence: i64) -> Fault {
    let state = step.state;
    if step.fence == fence {
        return conflict(format!("the step has ended: it is {state}"));
    }
    if fence > step.fence {
        let last = step.fence;
        return conflict(format!(
            "nobody was given the fence {fence}; the last one is {last}"
        ));
    }
    conflict(format!(
        "the fence {fence} is over: the step was begun again, and is {state}"
    ))
}

/// A step's result as it was written.
fn result(step: &Step) -> Result<Option<Box<RawValue>>, Fault> {
    let unreadable = || Fault::new(Code::Internal, "the stored result is not JSON");
    let Some(bytes) = step.result.clone() else {
        return Ok(None);
    };
    let text = String::from_utf8(bytes).map_err(|_| unreadable())?;
    let raw = RawValue::from_string(text).map_err(|_| unreadable())?;
    Ok(Some(raw))
}

fn null() -> Result<Box<RawValue>, Fault> {
    to_raw_value(&()).map_err(|error| Fault::new(Code::Internal, error.to_string()))
}

fn no_fence() -> Fault {
    invalid("`fence` is missing: it is what beginning the step gave")
}
