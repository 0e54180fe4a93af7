//! The endpoints beside the model calls: health, models, metrics, the ledger's last exchanges.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use holdfast_config::checked::Config;
use holdfast_core::fault::{Code, Fault};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::json;

use crate::admit::presented;
use crate::emit::{self, Reply};
use crate::health::Standing;
use crate::worker::Worker;

/// `GET /healthz`: the process lives.
pub(crate) fn alive() -> Response<Reply> {
    emit::json(StatusCode::OK, Bytes::from_static(b"{\"status\":\"ok\"}"))
}

/// `HEAD /` and `GET /api/hello`: what Claude Code asks before its first call.
pub(crate) fn hello() -> Response<Reply> {
    emit::json(
        StatusCode::OK,
        Bytes::from_static(b"{\"message\":\"hello\"}"),
    )
}

/// `GET /readyz`: new calls are taken, and for every route some target may be asked.
pub(crate) fn ready(worker: &Rc<Worker>) -> Response<Reply> {
    let shared = &worker.shared;
    let now = shared.clock.now();
    let snapshot = shared.snapshot.load();
    let draining = shared.draining.load(Ordering::Relaxed);
    let mut targets = serde_json::Map::new();
    let mut dark = Vec::new();
    for (route, checked) in snapshot.routes.iter().zip(&snapshot.config.routes) {
        let mut open = true;
        for health in &route.healths {
            let standing = health.standing(now);
            open &= standing == Standing::Open;
            let word = match standing {
                Standing::Closed => "healthy",
                Standing::HalfOpen => "probing",
                Standing::Open => "shut",
            };
            targets.insert(health.name.to_string(), word.into());
        }
        if open {
            dark.push(checked.model.clone());
        }
    }
    // A vendor's outage is no reason to take the gateway out of service: every replica sees it, and
    // it alone gives callers an explicit answer. It is shown, and `status` stays what it is.
    let status = if draining {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    let word = if draining { "draining" } else { "ready" };
    let store = match (&shared.durable.store(), shared.durable.mounted()) {
        (Ok(_), _) => "up".to_owned(),
        (Err(_), None) => "none".to_owned(),
        (Err(fault), Some(_)) => fault.message.clone(),
    };
    let body = json!({
        "status": word,
        "targets": targets,
        "routes_without_a_target": dark,
        "store": store,
    });
    emit::json(status, body.to_string())
}

/// `GET /metrics`: `OpenMetrics` text.
pub(crate) fn metrics(worker: &Rc<Worker>) -> Response<Reply> {
    let shared = &worker.shared;
    let now = shared.clock.now();
    let up = i64::from(shared.durable.store().is_ok());
    shared.metrics.store_up.set(up);
    for health in shared
        .snapshot
        .load()
        .routes
        .iter()
        .flat_map(|route| &route.healths)
    {
        let labels = holdfast_telemetry::metrics::TargetLabels {
            target: health.name.clone(),
        };
        let open = i64::from(health.standing(now) == Standing::Open);
        shared.metrics.breaker_open.get_or_create(&labels).set(open);
    }
    let mut response = emit::json(StatusCode::OK, shared.metrics.encode());
    let kind =
        HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// `GET /holdfast/exchanges` and `GET /holdfast/exchanges/{id}`: the ledger, for the caller's own
/// key; without keys, for everybody on this machine.
pub(crate) fn exchanges(
    worker: &Rc<Worker>,
    headers: &HeaderMap,
    id: Option<&str>,
) -> Result<Response<Reply>, Fault> {
    let shared = &worker.shared;
    let snapshot = shared.snapshot.load_full();
    let caller = known_caller(&snapshot.config, headers)?;
    if id.is_none() && caller.is_none() && snapshot.open {
        return Err(Fault::new(
            Code::Forbidden,
            "without `callers` nobody's exchanges can be told from another's: ask for one by its id",
        ));
    }
    let is_own =
        |entry: &std::sync::Arc<crate::ledger::Entry>| caller.is_none() || entry.caller == caller;
    let body = if let Some(id) = id {
        let entry = shared.ledger.find(id).filter(is_own);
        let entry = entry.ok_or_else(|| {
            Fault::new(
                Code::UnknownPath,
                format!("no exchange `{id}` is remembered"),
            )
        })?;
        serde_json::to_vec(&*entry)
    } else {
        let last: Vec<_> = shared.ledger.last(100).into_iter().filter(is_own).collect();
        let last: Vec<&crate::ledger::Entry> = last.iter().map(AsRef::as_ref).collect();
        serde_json::to_vec(&json!({"data": last}))
    };
    let body = body.map_err(|error| Fault::new(Code::Internal, error.to_string()))?;
    Ok(emit::json(StatusCode::OK, body))
}

fn known_caller(config: &Config, headers: &HeaderMap) -> Result<Option<String>, Fault> {
    if config.callers.is_empty() {
        return Ok(None);
    }
    let caller = presented(headers).and_then(|key| config.caller(key));
    let caller =
        caller.ok_or_else(|| Fault::new(Code::Unauthenticated, "the key is not known here"))?;
    Ok(Some(caller.name.clone()))
}

/// `GET /v1/models` (and `/v1/models/{id}`), in the shape of both dialects at once: each client reads
/// its own fields.
pub(crate) fn models(
    worker: &Rc<Worker>,
    headers: &HeaderMap,
    id: Option<&str>,
) -> Result<Response<Reply>, Fault> {
    let snapshot = worker.shared.snapshot.load();
    let config = &snapshot.config;
    let pass_through = config
        .providers
        .iter()
        .any(|provider| provider.auth == holdfast_config::checked::Auth::Caller);
    let caller = match known_caller(config, headers) {
        Ok(caller) => caller,
        Err(_) if pass_through => None,
        Err(fault) => return Err(fault),
    };
    let caller = caller.and_then(|name| config.callers.iter().find(|caller| caller.name == name));
    let served = |model: &str| {
        config
            .route(model)
            .is_some_and(|route| caller.is_none_or(|caller| caller.may_use(route)))
    };
    if let Some(id) = id {
        if !served(id) {
            return Err(Fault::new(
                Code::UnknownModel,
                format!("no route serves the model `{id}`"),
            ));
        }
        return Ok(emit::json(StatusCode::OK, model(id).to_string()));
    }
    let models: Vec<_> = config
        .routes
        .iter()
        .map(|route| route.model.as_str())
        .filter(|name| !name.ends_with('*') && served(name))
        .collect();
    let body = json!({
        "object": "list",
        "data": models.iter().map(|name| model(name)).collect::<Vec<_>>(),
        "has_more": false,
        "first_id": models.first(),
        "last_id": models.last(),
    });
    Ok(emit::json(StatusCode::OK, body.to_string()))
}

fn model(name: &str) -> serde_json::Value {
    json!({
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "holdfast",
        "type": "model",
        "display_name": name,
        "created_at": "1970-01-01T00:00:00Z",
    })
}
