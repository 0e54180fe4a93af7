//! `/v1/runs`: declaring, listing, showing, a sign of life, an end.

pub(crate) mod steps;
mod timeline;

use std::collections::BTreeMap;

use holdfast_api::{Answer, Request, json, not_found};
use holdfast_core::fault::Fault;
use holdfast_core::run::LONGEST_SILENCE;
use holdfast_core::run::moment::{parse_deadline, parse_span};
use holdfast_store::{
    ApprovalFilter, EffectFilter, ExchangeFilter, MAX_LIST, NewRun, Run, RunFilter, RunState,
    TicketFilter,
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::input::{self, Whose, conflict, invalid};
use crate::shared::Shared;

/// The most steps that a run can be expected to have.
const MOST_EXPECTED: usize = 1000;
/// The most labels of a run.
const MOST_LABELS: usize = 64;
/// The longest label, in characters.
const LONGEST_LABEL: usize = 1000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Declare {
    id: Option<String>,
    #[serde(default)]
    expect: Vec<String>,
    deadline: Option<String>,
    heartbeat: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ending {
    state: String,
}

/// Declares a run: new, or one that is there already, which then takes these terms.
pub(crate) async fn declare(shared: &Shared, request: &Request) -> Answer {
    let new = read(shared, request)?;
    let run = shared.store.declare_run(new).await?;
    json(StatusCode::OK, &timeline::run(&run))
}

fn read(shared: &Shared, request: &Request) -> Result<NewRun, Fault> {
    let body: Declare = request.json()?;
    let now = shared.now();
    let id = match (body.id, input::place(request)?.0) {
        (Some(id), _) => input::run_name(&id)?,
        (None, Some(id)) => id,
        (None, None) => Uuid::now_v7().simple().to_string(),
    };
    if body.expect.len() > MOST_EXPECTED {
        return Err(invalid(format!(
            "`expect` names more than {MOST_EXPECTED} steps"
        )));
    }
    let mut expect: Vec<String> = Vec::with_capacity(body.expect.len());
    for step in &body.expect {
        let step = input::step_name(step)?;
        if !expect.contains(&step) {
            expect.push(step);
        }
    }
    let deadline = body.deadline.map(|text| parse_deadline(&text, now));
    let heartbeat = body.heartbeat.map(|text| match parse_span(&text) {
        Ok(span) if span > LONGEST_SILENCE => Err("it is longer than 30 days".to_owned()),
        read => read,
    });
    let named = |what: &str, why: String| invalid(format!("`{what}`: {why}"));
    let heartbeat = heartbeat
        .transpose()
        .map_err(|why| named("heartbeat", why))?;
    Ok(NewRun {
        scope: request.caller.scope.clone(),
        id,
        expect,
        deadline: deadline.transpose().map_err(|why| named("deadline", why))?,
        heartbeat: heartbeat.or(shared.terms().heartbeat),
        labels: labels(body.labels)?,
        now,
    })
}

fn labels(labels: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, Fault> {
    if labels.len() > MOST_LABELS {
        return Err(invalid(format!(
            "`labels` has more than {MOST_LABELS} entries"
        )));
    }
    let read = |(name, value)| {
        let name = input::text("labels", name, LONGEST_LABEL)?;
        Ok((name, input::text("labels", value, LONGEST_LABEL)?))
    };
    labels.into_iter().map(read).collect()
}

/// Newest first. `next` = what `after` takes to go on; `null` at the end.
pub(crate) async fn list(shared: &Shared, request: &Request) -> Answer {
    let limit = input::limit(request)?;
    let state = input::word(request, "state", RunState::ALL, RunState::as_str)?;
    let scope = match input::whose(request) {
        Whose::Nobody => return json(StatusCode::OK, &json!({"runs": [], "next": null})),
        Whose::All => None,
        Whose::Of(scope) => Some(scope),
    };
    let filter = RunFilter {
        scope,
        state,
        after: request.param("after").map(cursor).transpose()?,
        limit,
    };
    let found = shared.store.runs(&filter).await?;
    let next = found
        .last()
        .filter(|_| found.len() == limit)
        .map(Run::cursor);
    let runs: Vec<Value> = found.iter().map(timeline::run).collect();
    json(StatusCode::OK, &json!({"runs": runs, "next": next}))
}

/// A cursor is what a list gave, not what somebody made up.
fn cursor(text: String) -> Result<String, Fault> {
    let is_cursor = text
        .split_once('/')
        .is_some_and(|(at, id)| at.parse::<i64>().is_ok() && !id.is_empty());
    if is_cursor {
        Ok(text)
    } else {
        Err(invalid("`after` is what a list of runs gave as `next`"))
    }
}

/// The run with everything that belongs to it.
pub(crate) async fn show(shared: &Shared, request: &Request, id: &str) -> Answer {
    let run = find(shared, request, id).await?;
    let (scope, name) = (Some(run.scope.clone()), Some(run.id.clone()));
    let store = &shared.store;
    let exchanges = ExchangeFilter {
        scope: scope.clone(),
        run: name.clone(),
        ..ExchangeFilter::default()
    };
    let effects = EffectFilter {
        scope: scope.clone(),
        run: name.clone(),
        ..EffectFilter::default()
    };
    let tickets = TicketFilter {
        scope: scope.clone(),
        run: name.clone(),
        ..TicketFilter::default()
    };
    let approvals = ApprovalFilter {
        scope,
        run: name,
        ..ApprovalFilter::default()
    };
    let parts = timeline::Parts {
        steps: store.steps(&run.scope, &run.id).await?,
        exchanges: store.exchanges(&exchanges).await?,
        effects: store.effects(&effects).await?,
        tickets: store.tickets(&tickets).await?,
        approvals: store.approvals(&approvals).await?,
        run,
    };
    json(StatusCode::OK, &timeline::whole(&parts, MAX_LIST))
}

/// A sign of life. An orphan whose deadline has not passed is none any more by it.
pub(crate) async fn heartbeat(shared: &Shared, request: &Request, id: &str) -> Answer {
    let run = find(shared, request, id).await?;
    refuse_ended(&run)?;
    shared
        .store
        .touch_run(&run.scope, &run.id, shared.now())
        .await?;
    let run = find(shared, request, id).await?;
    json(StatusCode::OK, &timeline::run(&run))
}

/// Ends a run. Saying the same once more is no mistake.
pub(crate) async fn end(shared: &Shared, request: &Request, id: &str) -> Answer {
    let body: Ending = request.json()?;
    let state = match body.state.as_str() {
        "done" => RunState::Done,
        "failed" => RunState::Failed,
        _ => return Err(invalid("`state` is `done` or `failed`")),
    };
    let run = find(shared, request, id).await?;
    let is_ended = shared
        .store
        .end_run(&run.scope, &run.id, state, shared.now())
        .await?;
    let run = find(shared, request, id).await?;
    if !is_ended && run.state != state {
        refuse_ended(&run)?;
    }
    json(StatusCode::OK, &timeline::run(&run))
}

/// The run, if this caller may know of it.
async fn find(shared: &Shared, request: &Request, id: &str) -> Result<Run, Fault> {
    let name = input::run_name(id)?;
    let scope = input::scope(request).ok_or_else(|| not_found("run", id))?;
    let run = shared.store.run(&scope, &name).await?;
    run.ok_or_else(|| not_found("run", id))
}

fn refuse_ended(run: &Run) -> Result<(), Fault> {
    match run.state {
        RunState::Open | RunState::Orphaned => Ok(()),
        RunState::Done | RunState::Failed => {
            Err(conflict(format!("the run has ended: it is {}", run.state)))
        }
    }
}
