//! `POST /v1/messages/count_tokens`: passed to the first Anthropic target that answers.
//!
//! A count has no effect and no stream: each target is asked once, and what it says is passed on as
//! it comes.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use holdfast_core::breaker::Report;
use holdfast_core::exchange::{Ask, Send};
use holdfast_core::fault::{Code, Fault};
use holdfast_core::plan::Leave;
use holdfast_upstream::Answer;
use holdfast_wire::turn::Dialect;
use http::{HeaderValue, Request, Response, StatusCode, header};

use crate::admit::{Call, admit};
use crate::asked::Asked;
use crate::emit::{self, Reply};
use crate::prepare;
use crate::worker::Worker;

/// The most of an answer that is read: a count is small.
const ANSWER: usize = 1 << 20;

pub(crate) async fn tokens(
    worker: &Rc<Worker>,
    request: Request<Asked>,
) -> Result<Response<Reply>, Fault> {
    let call = admit(worker, Dialect::Anthropic, request).await?;
    let route = &call.snapshot.routes[call.route];
    let now = worker.shared.clock.now();
    let mut last = None;
    for (place, target) in call.targets.iter().enumerate() {
        let facts = &route.targets[*target];
        if facts.dialect != Dialect::Anthropic {
            continue;
        }
        let health = &route.healths[*target];
        let Leave::Go { probe } = health.admit(now, false) else {
            continue;
        };
        let asked = ask(worker, &call, place, facts.timeouts.attempt).await;
        let failed = match &asked {
            Ok((status, ..)) => {
                status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS
            }
            Err(_) => true,
        };
        let report = if failed {
            Report::Failure
        } else {
            Report::Success
        };
        health.report(worker.shared.clock.now(), report, probe);
        if !failed {
            return asked.map(respond);
        }
        last = Some(asked);
    }
    match last {
        Some(asked) => asked.map(respond),
        None => Err(Fault::new(
            Code::NotTranslatable,
            format!(
                "no Anthropic target of the model `{}` can count tokens now",
                call.model
            ),
        )),
    }
}

fn respond((status, kind, body): Counted) -> Response<Reply> {
    let mut response = emit::json(status, body);
    if let Some(kind) = kind {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    response
}

type Counted = (StatusCode, Option<HeaderValue>, Bytes);

async fn ask(
    worker: &Rc<Worker>,
    call: &Call,
    place: usize,
    limit: std::time::Duration,
) -> Result<Counted, Fault> {
    let send = Send {
        attempt: 0,
        target: place,
        stream: false,
        ask: Ask::Original,
    };
    let prepared = prepare::prepare_at(call, &send, "/messages/count_tokens")
        .map_err(|why| Fault::new(Code::NotTranslatable, why))?;
    let snapshot = &call.snapshot;
    let provider = snapshot.config.routes[call.route].targets[call.targets[place]].provider;
    let pool = worker.pool(snapshot, provider);
    let asking = async {
        let unavailable = |error: holdfast_upstream::Error| {
            Fault::new(Code::UpstreamUnavailable, error.to_string())
        };
        let connection = pool.connect().await.map_err(unavailable)?;
        let response = connection
            .send(prepared.request)
            .await
            .map_err(unavailable)?;
        let kind = response.head.content_type;
        let kind = kind.and_then(|kind| HeaderValue::try_from(kind).ok());
        let body = read(response.answer).await?;
        Ok((response.head.status, kind, body))
    };
    match tokio::time::timeout(limit, asking).await {
        Ok(counted) => counted,
        Err(_) => Err(Fault::new(
            Code::UpstreamTimeout,
            "the vendor did not count in time",
        )),
    }
}

async fn read(mut answer: Answer) -> Result<Bytes, Fault> {
    let mut body = BytesMut::new();
    while let Some(data) = std::future::poll_fn(|cx| answer.poll_data(cx)).await {
        let data = data.map_err(|error| Fault::new(Code::UpstreamIncomplete, error.to_string()))?;
        body.extend_from_slice(&data);
        if body.len() > ANSWER {
            return Err(Fault::new(
                Code::UpstreamIncomplete,
                "the count is over 1 MiB long",
            ));
        }
    }
    Ok(body.freeze())
}
