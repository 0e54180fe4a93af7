//! The `/_sim/*` endpoints by which a running vendor is steered and asked, and its list of models.

use std::time::Duration;

use serde_json::{Value, json};

use crate::ask::Dialect;
use crate::catalogue;
use crate::http::Request;
use crate::play::{self, Ending, Plan};
use crate::script::{Ruleset, Script};
use crate::server::Shared;

/// The longest time for which the control endpoint closes its own listener.
const MAX_CLOSED: Duration = Duration::from_mins(10);

/// A JSON response.
pub(crate) fn json(status: u16, value: &Value) -> Plan {
    play::simple(
        Dialect::OpenAi,
        status,
        "application/json",
        value.to_string().as_bytes(),
        &[],
        0,
    )
}

fn refuse(status: u16, message: &str) -> Plan {
    json(status, &json!({"error": message}))
}

pub(crate) fn respond(request: &Request, shared: &Shared) -> Plan {
    match (request.method.as_str(), request.path()) {
        ("GET", "/_sim/faults") => json(
            200,
            &json!({"name": shared.name, "script": shared.script(), "phase": shared.phase()}),
        ),
        ("PUT", "/_sim/faults") => set_script(request, shared),
        ("DELETE", "/_sim/faults") => {
            shared
                .set_script(Script::default())
                .expect("invariant: the empty script is valid");
            json(200, &json!({"ok": true}))
        }
        ("GET", "/_sim/stats") => json(200, &json!(shared.recorder.stats())),
        ("GET", "/_sim/requests") => requests(request, shared),
        ("GET", "/_sim/catalogue") => json(200, &json!(catalogue::faults())),
        ("POST", "/_sim/reset") => {
            shared.recorder.reset();
            shared
                .set_script(Script::default())
                .expect("invariant: the empty script is valid");
            json(200, &json!({"ok": true}))
        }
        ("POST", "/_sim/listener") => close_for(request),
        _ => refuse(
            404,
            "there are /_sim/{faults,stats,requests,catalogue,reset,listener}",
        ),
    }
}

fn set_script(request: &Request, shared: &Shared) -> Plan {
    let script = match Script::parse(&String::from_utf8_lossy(&request.body)) {
        Ok(script) => script,
        Err(error) => return refuse(400, &error.to_string()),
    };
    let locks_out = Ruleset::new(&script.faults, script.seed).is_ok_and(|rules| rules.locks_out());
    if locks_out && !shared.has_control {
        return refuse(
            409,
            "`refuse` for ever would shut this endpoint too: give it `times`, or start the vendor with a control listener",
        );
    }
    match shared.set_script(script) {
        Ok(()) => json(200, &json!({"ok": true})),
        Err(error) => refuse(400, &error.to_string()),
    }
}

fn requests(request: &Request, shared: &Shared) -> Plan {
    let mut seen = shared.recorder.seen();
    if let Some(last) = request
        .query("last")
        .and_then(|last| last.parse::<usize>().ok())
    {
        seen.drain(..seen.len().saturating_sub(last));
    }
    json(200, &json!(seen))
}

/// Closes the listener and every connection for `closed_ms`, this one included: the client sees the end of it.
fn close_for(request: &Request) -> Plan {
    let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let Some(millis) = body.get("closed_ms").and_then(Value::as_u64) else {
        return refuse(400, "give `closed_ms`, the milliseconds to stay closed");
    };
    let pause = Duration::from_millis(millis).min(MAX_CLOSED);
    Plan {
        ending: Ending::CloseListener(pause),
        ..json(202, &json!({"ok": true, "closed_ms": millis}))
    }
}

fn model_value(id: &str) -> Value {
    json!({"id": id, "object": "model", "type": "model", "display_name": id, "created": 1_781_999_999, "created_at": "2026-06-21T00:00:00Z", "owned_by": "sim"})
}

/// The list of models, in a shape that is right for both dialects.
pub(crate) fn models(_shared: &Shared) -> Plan {
    let data: Vec<Value> = ["sim-ok", "sim-cut-after-3", "fault:cut-rst:utf8"]
        .into_iter()
        .map(model_value)
        .collect();
    json(
        200,
        &json!({"object": "list", "data": data, "has_more": false, "first_id": "sim-ok", "last_id": "fault:cut-rst:utf8"}),
    )
}

pub(crate) fn model(id: &str) -> Plan {
    json(200, &model_value(id))
}
