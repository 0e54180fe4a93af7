//! The paths beside the model calls: effects, runs, approvals, tickets, events.
//!
//! Here the caller is known and the body is read; what answers is mounted by the binary and runs on
//! its own runtime, so that nothing of it can hold up a worker's streams.

use std::rc::Rc;
use std::sync::Arc;

use holdfast_api::{Caller, Service};
use holdfast_core::fault::{Code, Fault};
use http::{Method, Request, Response};
use tokio::runtime::Handle as Runtime;
use tokio::task::JoinHandle;

use crate::admit::{check_coding, identify, read_body};
use crate::asked::Asked;
use crate::emit::Reply;
use crate::snapshot::Snapshot;
use crate::worker::{Held, Permit, Worker};

/// What answers, and where it runs.
pub(crate) struct Services {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) runtime: Runtime,
}

impl std::fmt::Debug for Services {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Services")
    }
}

/// Answers a request for any path that the gateway itself does not serve.
pub(crate) async fn answer(
    worker: &Rc<Worker>,
    request: Request<Asked>,
) -> Result<Response<Reply>, Fault> {
    let (path, method) = (request.uri().path().to_owned(), request.method().clone());
    if !path.starts_with("/v1/") {
        return Err(unknown_path(&path, &method));
    }
    let shared = &worker.shared;
    let snapshot = shared.snapshot.load_full();
    let caller = known(&snapshot, &request)?;
    let limit = snapshot.config.limits.in_flight;
    // A long poll costs a connection, not a call's place.
    let permit = if method == Method::GET {
        None
    } else {
        let message = format!("{limit} calls are under way, which is the limit `in_flight`");
        let permit = Permit::take(shared, limit);
        Some(permit.ok_or_else(|| Fault::new(Code::Overloaded, message))?)
    };
    let (parts, asked) = request.into_parts();
    check_coding(&parts.headers)?;
    let mut held = Held::new(shared);
    let body = read_body(&snapshot, asked, &mut held).await?;
    let request = holdfast_api::Request {
        method: parts.method,
        path,
        query: parts.uri.query().map(str::to_owned),
        headers: parts.headers,
        body,
        caller,
    };
    let services = shared.services.load_full();
    let answering = services
        .as_ref()
        .and_then(|services| Some((services.service.handle(&request)?, &services.runtime)));
    let Some((answering, runtime)) = answering else {
        return Err(unknown_path(&request.path, &request.method));
    };
    let mut task = Task(runtime.spawn(answering));
    let answer = (&mut task.0).await;
    drop((held, permit));
    let response = answer.map_err(|error| Fault::new(Code::Internal, error.to_string()))??;
    Ok(response.map(Reply::Served))
}

/// A caller that hangs up waits for nothing any more.
struct Task(JoinHandle<holdfast_api::Answer>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Strangers with a vendor's own key make model calls and nothing else: here the gateway's own
/// credentials are used, and what is kept belongs to callers.
fn known(snapshot: &Snapshot, request: &Request<Asked>) -> Result<Caller, Fault> {
    let config = &snapshot.config;
    if config.callers.is_empty() && snapshot.open {
        let message = "other machines reach this gateway and it has no `callers`: without them nobody can be told from anybody else, so only model calls are taken";
        return Err(Fault::new(Code::Forbidden, message));
    }
    let who = identify(snapshot, request.headers())?;
    if !who.is_trusted() {
        return Err(Fault::new(
            Code::Unauthenticated,
            "the key is not known here",
        ));
    }
    let scope = who.scope(request.headers());
    let reviewer = config.callers.is_empty()
        || config
            .callers
            .iter()
            .any(|caller| caller.name == scope && caller.reviewer);
    Ok(Caller { scope, reviewer })
}

fn unknown_path(path: &str, method: &Method) -> Fault {
    let shown: String = path.chars().take(200).collect();
    let message = format!(
        "{method} `{shown}` is not served; model calls are `POST /v1/messages` and `POST /v1/chat/completions`"
    );
    Fault::new(Code::UnknownPath, message)
}
