//! `/v1/approvals`: a workflow asks a person, waits, and is told the choice.
//!
//! Each question is a ticket of the review queue as well; deciding either decides both, once. A
//! question whose deadline passes is decided by its default, or expires where it has none.

use holdfast_api::{Answer, Request, json, not_found};
use holdfast_core::fault::{Code, Fault};
use holdfast_core::idempotency::{derived_key, shown_key};
use holdfast_core::run::moment::{moment, parse_deadline};
use holdfast_core::time::Wall;
use holdfast_store::{
    Approval, ApprovalFilter, ApprovalState, Asked, Decided, Decision, NewApproval,
};
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::input::{self, Whose, conflict, invalid};
use crate::shared::Shared;
use crate::wait::{Waiting, Woken, end_of};

/// The longest question and the longest note, in characters.
const LONGEST_TEXT: usize = 10_000;
/// The most choices, and the longest of them, in characters.
const MOST_CHOICES: usize = 20;
const LONGEST_CHOICE: usize = 100;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ask {
    question: String,
    choices: Option<Vec<String>>,
    deadline: Option<String>,
    default: Option<String>,
    #[serde(default)]
    context: Value,
    key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Decide {
    choice: String,
    #[serde(default)]
    note: String,
    by: Option<String>,
    /// Of a claim on the approval's ticket.
    fence: Option<i64>,
}

/// Asks. The same question under the same key is asked once.
pub(crate) async fn ask(shared: &Shared, request: &Request) -> Answer {
    let new = read(shared, request)?;
    let run = new.run.clone();
    let (approval, is_known) = match shared.store.ask_approval(new).await? {
        Asked::Fresh(approval) => (approval, false),
        Asked::Known(approval) => (approval, true),
        Asked::Mismatch => {
            let message = "the key belongs to another question";
            return Err(Fault::new(Code::KeyReused, message));
        }
    };
    if let Some(run) = run {
        // The question is asked already: a sign of life that gets lost must not make it be asked twice.
        let touched = shared
            .store
            .touch_run(&approval.scope, &run, shared.now())
            .await;
        if let Err(error) = touched {
            tracing::warn!(%error, "a sign of life got lost");
        }
    }
    let status = if is_known {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let mut response = json(status, &shown(&approval, true))?;
    let headers = response.headers_mut();
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/approvals/{}", approval.id)) {
        headers.insert(header::LOCATION, place);
    }
    if is_known {
        let replayed = HeaderValue::from_static("true");
        headers.insert("idempotent-replayed", replayed);
    }
    Ok(response)
}

fn read(shared: &Shared, request: &Request) -> Result<NewApproval, Fault> {
    let terms = shared.terms();
    let bytes = request.body.len();
    if bytes > terms.result_bytes {
        let limit = terms.result_bytes;
        let message = format!("the question has {bytes} bytes; the most is {limit}");
        return Err(Fault::new(Code::BodyTooLarge, message));
    }
    let body: Ask = request.json()?;
    let now = shared.now();
    let (run, step) = input::place(request)?;
    let key = input::key(request, body.key.as_deref())?;
    // One question for each run and step, where nobody says more.
    let derived = || Some(derived_key(run.as_deref()?, step.as_deref()?));
    let key = key.or_else(derived);
    let question = input::text("question", body.question.trim().to_owned(), LONGEST_TEXT)?;
    if question.is_empty() {
        return Err(invalid("`question` is empty"));
    }
    let choices = choices(body.choices)?;
    if let Some(default) = &body.default {
        fitting(&choices, "default", default)?;
        if body.deadline.is_none() {
            return Err(invalid(
                "a `default` is chosen at the `deadline`, which is missing",
            ));
        }
    }
    let deadline = body.deadline.as_deref();
    let until = deadline.map(|text| parse_deadline(text, now));
    let until = until
        .transpose()
        .map_err(|why| invalid(format!("`deadline`: {why}")))?;
    let context = body.context.to_string();
    let mut parts: Vec<Option<&str>> = vec![
        Some(&question),
        deadline,
        body.default.as_deref(),
        Some(&context),
        run.as_deref(),
        step.as_deref(),
    ];
    parts.extend(choices.iter().map(|choice| Some(choice.as_str())));
    let fingerprint = fingerprint(&parts);
    Ok(NewApproval {
        id: Uuid::now_v7().simple().to_string(),
        scope: request.caller.scope.clone(),
        key,
        fingerprint,
        question,
        choices,
        default: body.default,
        deadline: until,
        context: body.context,
        run,
        step,
        // The ticket outlives the deadline, which is what decides.
        expires: until.unwrap_or(now) + terms.approval_expiry,
        now,
    })
}

fn choices(choices: Option<Vec<String>>) -> Result<Vec<String>, Fault> {
    let Some(choices) = choices else {
        return Ok(vec!["approve".to_owned(), "reject".to_owned()]);
    };
    if choices.is_empty() || choices.len() > MOST_CHOICES {
        return Err(invalid(format!(
            "`choices` has from 1 to {MOST_CHOICES} entries"
        )));
    }
    for (place, choice) in choices.iter().enumerate() {
        let is_plain = !choice.trim().is_empty() && !choice.chars().any(char::is_control);
        if !is_plain || choice.chars().count() > LONGEST_CHOICE {
            return Err(invalid(format!(
                "a choice has from 1 to {LONGEST_CHOICE} characters, and no control characters"
            )));
        }
        if choices[..place].contains(choice) {
            return Err(invalid(format!("`choices` has `{choice}` twice")));
        }
    }
    Ok(choices)
}

fn fitting(choices: &[String], what: &str, choice: &str) -> Result<(), Fault> {
    if choices.iter().any(|one| one == choice) {
        return Ok(());
    }
    let words = choices.join("`, `");
    Err(invalid(format!("`{what}` is one of `{words}`")))
}

/// Every part with its length, so that no two lists of parts look alike.
fn fingerprint(parts: &[Option<&str>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        match part {
            None => hash.update([0]),
            Some(text) => {
                hash.update([1]);
                hash.update((text.len() as u64).to_be_bytes());
                hash.update(text.as_bytes());
            }
        }
    }
    hash.finalize().into()
}

/// Newest first. `next` = what `after` takes to go on; `null` at the end.
pub(crate) async fn list(shared: &Shared, request: &Request) -> Answer {
    let limit = input::limit(request)?;
    let state = input::word(request, "state", ApprovalState::ALL, ApprovalState::as_str)?;
    let scope = match input::whose(request) {
        Whose::Nobody => return json(StatusCode::OK, &json!({"approvals": [], "next": null})),
        Whose::All => None,
        Whose::Of(scope) => Some(scope),
    };
    let filter = ApprovalFilter {
        scope,
        state,
        run: request.param("run"),
        after: request.param("after"),
        limit,
    };
    let found = shared.store.approvals(&filter).await?;
    let next = found.last().filter(|_| found.len() == limit);
    let next = next.map(|approval| approval.id.clone());
    let approvals: Vec<Value> = found.iter().map(|one| shown(one, false)).collect();
    json(
        StatusCode::OK,
        &json!({"approvals": approvals, "next": next}),
    )
}

/// The approval, as soon as it is decided or the caller's time is over.
pub(crate) async fn show(shared: &Shared, request: &Request, id: &str) -> Answer {
    let wait = input::wait(request, shared.terms().wait)?;
    let end = end_of(wait);
    let mut waiting = Waiting::for_approvals(shared);
    loop {
        waiting.listen();
        let approval = find(shared, request, id).await?;
        if approval.state != ApprovalState::Open || wait.is_zero() {
            return json(StatusCode::OK, &shown(&approval, true));
        }
        match waiting.until(end).await {
            Woken::News => {}
            Woken::TimeUp | Woken::Drain => return json(StatusCode::OK, &shown(&approval, true)),
        }
    }
}

/// Decides, if nobody has, nobody else is at it, and the deadline has not passed.
pub(crate) async fn decide(shared: &Shared, request: &Request, id: &str) -> Answer {
    let body: Decide = request.json()?;
    let by = input::signature(&request.caller, body.by.as_deref())?;
    let note = input::text("note", body.note, LONGEST_TEXT)?;
    let approval = find(shared, request, id).await?;
    let now = shared.now();
    refuse_over(&approval, now)?;
    fitting(&approval.choices, "choice", &body.choice)?;
    let decision = Decision::Choose {
        choice: body.choice,
        note,
    };
    let decided = shared
        .store
        .decide(&approval.ticket, body.fence, &by, decision, now)
        .await?;
    match decided {
        Decided::Done(_) => {
            let approval = find(shared, request, id).await?;
            json(StatusCode::OK, &shown(&approval, true))
        }
        Decided::Conflict(why) => Err(conflict(why)),
        Decided::Missing => Err(not_found("approval", id)),
    }
}

fn refuse_over(approval: &Approval, now: Wall) -> Result<(), Fault> {
    match approval.state {
        ApprovalState::Decided => Err(conflict(format!(
            "it is decided already: `{}`, by {}",
            approval.choice.as_deref().unwrap_or_default(),
            approval.decided_by.as_deref().unwrap_or("somebody")
        ))),
        ApprovalState::Expired => Err(conflict("nobody decided in time: it has expired")),
        // Between the deadline and the watch that acts on it, nothing can be decided either: the
        // default is promised from the deadline on.
        ApprovalState::Open => match approval.deadline.filter(|deadline| *deadline <= now) {
            Some(deadline) => Err(conflict(format!(
                "its deadline has passed, at {}",
                moment(deadline)
            ))),
            None => Ok(()),
        },
    }
}

/// The approval, if this caller may know of it.
async fn find(shared: &Shared, request: &Request, id: &str) -> Result<Approval, Fault> {
    let approval = shared.store.approval(id).await?;
    approval
        .filter(|approval| request.caller.may_see(&approval.scope))
        .ok_or_else(|| not_found("approval", id))
}

/// Moments are milliseconds since 1970.
fn shown(approval: &Approval, with_context: bool) -> Value {
    let mut shown = json!({
        "id": approval.id,
        "scope": approval.scope,
        "state": approval.state,
        "question": approval.question,
        "choices": approval.choices,
        "default": approval.default,
        "deadline": approval.deadline.map(|at| at.0),
        "key": approval.key.as_deref().map(shown_key),
        "run": approval.run,
        "step": approval.step,
        "choice": approval.choice,
        "note": approval.note,
        "decided_by": approval.decided_by,
        "decided_at": approval.decided_at.map(|at| at.0),
        "created": approval.created.0,
        "ticket": approval.ticket,
    });
    if with_context {
        shown["context"] = approval.context.clone();
    }
    shown
}
