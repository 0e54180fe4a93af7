//! Work that comes from inside: calls of the review queue, and calls whose process died.
//!
//! It runs on the workers like every other call, with the same connections, health and limits.

use std::rc::Rc;

use holdfast_core::exchange::Outcome;
use holdfast_core::fault::{Code, Fault};
use holdfast_store::{Abandoned, KeptRequest, MAX_CONTENT_BYTES, StoredAnswer};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use tokio::sync::{mpsc, oneshot};

use crate::drive::{Drive, Step};
use crate::emit;
use crate::keyed;
use crate::worker::Worker;

/// One piece of work.
#[derive(Debug)]
pub(crate) enum Job {
    /// Ask again for somebody, and give the answer back.
    Ask {
        kept: KeptRequest,
        scope: String,
        /// Only this target (`provider/model` or `provider`).
        target: Option<String>,
        reply: oneshot::Sender<Result<StoredAnswer, Fault>>,
    },
    /// Make a call that a dead process had accepted.
    Resume(Abandoned),
}

/// Takes jobs until nobody can send one any more.
pub(crate) async fn serve(worker: Rc<Worker>, mut jobs: mpsc::UnboundedReceiver<Job>) {
    while let Some(job) = jobs.recv().await {
        match job {
            Job::Ask {
                kept,
                scope,
                target,
                reply,
            } => {
                let asking = ask(worker.clone(), kept, scope, target);
                worker.spawn(async move {
                    // Who asked may have gone meanwhile.
                    let _ = reply.send(asking.await);
                });
            }
            Job::Resume(abandoned) => worker.spawn(keyed::resume(worker.clone(), abandoned)),
        }
    }
}

async fn ask(
    worker: Rc<Worker>,
    kept: KeptRequest,
    scope: String,
    target: Option<String>,
) -> Result<StoredAnswer, Fault> {
    let mut call = keyed::recall(&worker, kept, &scope)?;
    if let Some(wanted) = target {
        let config = &call.snapshot.config;
        let route = &config.routes[call.route];
        let is_wanted = |place: &usize| {
            let target = &route.targets[*place];
            let provider = &config.provider(target).name;
            let model = target.model.as_deref().unwrap_or("*");
            wanted == *provider || wanted == format!("{provider}/{model}")
        };
        let targets: Vec<usize> = call.targets.iter().copied().filter(is_wanted).collect();
        if targets.is_empty() {
            let message = format!("the route `{}` has no target `{wanted}`", route.model);
            return Err(Fault::new(Code::InvalidRequest, message));
        }
        call.targets = targets;
    }
    let mut drive = Box::new(Drive::new(worker, call));
    let mut body = Vec::new();
    let mut headers = None;
    loop {
        match std::future::poll_fn(|cx| drive.poll_step(cx)).await {
            Step::Release(bytes) if body.len() + bytes.len() > MAX_CONTENT_BYTES => {
                drive.give_up(keyed::too_large(MAX_CONTENT_BYTES));
            }
            Step::Release(bytes) => {
                headers.get_or_insert_with(|| emit::stream_headers(&drive));
                body.extend_from_slice(&bytes);
            }
            Step::Finish(finish) => {
                return match finish.outcome {
                    Outcome::Delivered(verdict) => {
                        body.extend_from_slice(&finish.body.unwrap_or_default());
                        let headers = headers.unwrap_or_else(|| json_headers(&drive));
                        Ok(StoredAnswer {
                            exchange: drive.call.id.clone(),
                            outcome: verdict.name().to_owned(),
                            status: StatusCode::OK.as_u16(),
                            headers: keyed::pairs(&headers),
                            body,
                        })
                    }
                    Outcome::Told(fault) => Err(fault),
                    Outcome::CallerGone => Err(Fault::new(Code::Internal, "the call was given up")),
                };
            }
        }
    }
}

fn json_headers(drive: &Drive) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    emit::mark_all(&mut headers, drive);
    headers
}
