//! One connection: reads requests, decides what to play, and plays it byte for byte.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use crate::ask::{self, Ask, Choice, Dialect, Refusal, Rules};
use crate::control;
use crate::fault::Fault;
use crate::http::{self, ReadError, Request};
use crate::play::{self, Ending, Plan, Step};
use crate::server::Shared;
use crate::stats::Open;

/// Serves a connection until either side ends it.
pub(crate) async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    converse(stream, &shared, false).await;
}

/// Serves a connection of the control listener.
pub(crate) async fn serve_control(stream: TcpStream, shared: Arc<Shared>) {
    converse(stream, &shared, true).await;
}

async fn converse(mut stream: TcpStream, shared: &Arc<Shared>, control_only: bool) {
    let _open = Open::new(&shared.recorder.open_connections);
    let mut buffer = BytesMut::with_capacity(4096);
    loop {
        let (plan, last) = match http::read(&mut stream, &mut buffer).await {
            Ok(request) => (
                respond(&request, shared, control_only),
                wants_close(&request),
            ),
            Err(ReadError::Refused(status, message)) => {
                let body = format!("{{\"error\":{{\"message\":\"{message}\"}}}}");
                (
                    play::simple(
                        Dialect::OpenAi,
                        status,
                        "application/json",
                        body.as_bytes(),
                        &[("connection", "close")],
                        0,
                    ),
                    true,
                )
            }
            Err(ReadError::Closed | ReadError::Io(_)) => return,
        };
        let played = {
            let _open = Open::new(&shared.recorder.open_streams);
            perform(&mut stream, &mut buffer, &plan.steps).await
        };
        if played.is_err() {
            shared.recorder.aborted();
            return;
        }
        match plan.ending {
            Ending::Keep if !last => {}
            Ending::Keep | Ending::Close => {
                let _ = stream.shutdown().await;
                return;
            }
            Ending::CloseListener(pause) => {
                let _ = stream.shutdown().await;
                shared.close_for(pause).await;
                return;
            }
            Ending::Reset => {
                let _ = stream.set_zero_linger();
                return;
            }
        }
    }
}

fn wants_close(request: &Request) -> bool {
    request
        .header("connection")
        .is_some_and(|value| value.eq_ignore_ascii_case("close"))
}

/// The client is gone.
struct Gone;

async fn perform(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    steps: &[Step],
) -> Result<(), Gone> {
    for step in steps {
        match step {
            Step::Send(bytes) => stream.write_all(bytes).await.map_err(|_| Gone)?,
            Step::Pause(pause) => wait(stream, buffer, Instant::now() + *pause).await?,
            Step::Hang => loop {
                hear(stream, buffer).await?;
            },
            Step::HangPinging(every, ping) => loop {
                wait(stream, buffer, Instant::now() + *every).await?;
                stream.write_all(ping).await.map_err(|_| Gone)?;
            },
        }
    }
    Ok(())
}

/// Waits, and notices when the client leaves meanwhile.
async fn wait(stream: &mut TcpStream, buffer: &mut BytesMut, until: Instant) -> Result<(), Gone> {
    loop {
        tokio::select! {
            () = sleep_until(until) => return Ok(()),
            heard = hear(stream, buffer) => heard?,
        }
    }
}

/// A client may send its next request early; that is kept, up to a limit.
async fn hear(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<(), Gone> {
    const EARLY: usize = 1 << 20;
    if buffer.len() > EARLY {
        return std::future::pending().await;
    }
    match stream.read_buf(buffer).await {
        Ok(0) | Err(_) => Err(Gone),
        Ok(_) => Ok(()),
    }
}

fn respond(request: &Request, shared: &Arc<Shared>, control_only: bool) -> Plan {
    let path = request.path();
    if path.starts_with("/_sim/") {
        return control::respond(request, shared);
    }
    shared.recorder.path(path);
    if control_only {
        return not_found(path);
    }
    match (request.method.as_str(), path) {
        ("POST", "/v1/messages") => call(request, shared, Dialect::Anthropic, false),
        ("POST", "/v1/messages/count_tokens") => call(request, shared, Dialect::Anthropic, true),
        ("POST", "/v1/chat/completions") => call(request, shared, Dialect::OpenAi, false),
        ("GET", "/v1/models") => control::models(shared),
        ("HEAD", "/") => head_only(),
        ("GET" | "HEAD", "/api/hello") if request.method == "HEAD" => head_only(),
        ("GET", "/" | "/api/hello") => control::json(200, &serde_json::json!({"message": "hello"})),
        _ => path
            .strip_prefix("/v1/models/")
            .map_or_else(|| not_found(path), control::model),
    }
}

fn head_only() -> Plan {
    let steps = vec![Step::Send(bytes::Bytes::from_static(
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    ))];
    Plan {
        status: 200,
        steps,
        ending: Ending::Keep,
    }
}

fn not_found(path: &str) -> Plan {
    play::error(
        Dialect::OpenAi,
        404,
        "invalid_request_error",
        Some("unknown_url"),
        &format!("Unknown request URL: {path}"),
        None,
        0,
    )
}

fn call(request: &Request, shared: &Shared, dialect: Dialect, counting: bool) -> Plan {
    let serial = shared.serial();
    let refused = |refusal: &Refusal| {
        shared.recorder.call("", "invalid", refusal.status);
        shared.recorder.note(request, "invalid");
        play::error(
            dialect,
            refusal.status,
            refusal.kind,
            refusal.code,
            &refusal.message,
            None,
            serial,
        )
    };
    if let Err(refusal) = authorize(request, &shared.keys, dialect) {
        return refused(&refusal);
    }
    let rules = Rules {
        counting,
        refuse_prefill: shared.refuse_prefill,
    };
    let mut ask = match ask::read(
        dialect,
        request.header("anthropic-version"),
        &request.body,
        rules,
    ) {
        Ok(ask) => ask,
        Err(refusal) => return refused(&refusal),
    };
    if ask.model == "no-such-model" {
        return refused(&no_such_model(dialect, &ask.model));
    }
    if !shared.auto_tools && ask.choice == Choice::Auto {
        ask.choice = Choice::Forbidden;
    }
    let fault = choose(&ask, shared);
    let plan = if counting {
        play::without_answer(dialect, &fault, serial).unwrap_or_else(|| {
            control::json(200, &serde_json::json!({"input_tokens": ask.input_tokens}))
        })
    } else {
        play::play(&ask, &fault, shared.timing(), serial)
    };
    let word = fault.to_string();
    shared.recorder.call(&ask.model, &word, plan.status);
    shared.recorder.note(request, &word);
    plan
}

/// A marker of the question wins over the model's name, and that over the script.
fn choose(ask: &Ask, shared: &Shared) -> Fault {
    let marked = ask
        .markers
        .faults
        .iter()
        .find(|(name, _)| name.as_ref().is_none_or(|name| *name == shared.name));
    marked
        .and_then(|(_, spec)| spec.parse().ok())
        .or_else(|| Fault::from_model(&ask.model))
        .or_else(|| shared.draw(ask))
        .unwrap_or(Fault::Healthy)
}

fn authorize(request: &Request, keys: &[String], dialect: Dialect) -> Result<(), Refusal> {
    if keys.is_empty() {
        return Ok(());
    }
    let bearer = request
        .header("authorization")
        .and_then(|value| value.strip_prefix("Bearer "));
    let key = match dialect {
        Dialect::Anthropic => request.header("x-api-key").or(bearer),
        Dialect::OpenAi => bearer,
    };
    if key.is_some_and(|key| keys.iter().any(|known| known == key)) {
        return Ok(());
    }
    Err(match dialect {
        Dialect::Anthropic => Refusal {
            status: 401,
            kind: "authentication_error",
            code: None,
            message: "invalid x-api-key".to_owned(),
        },
        Dialect::OpenAi => Refusal {
            status: 401,
            kind: "invalid_request_error",
            code: Some("invalid_api_key"),
            message: "Incorrect API key provided.".to_owned(),
        },
    })
}

fn no_such_model(dialect: Dialect, model: &str) -> Refusal {
    match dialect {
        Dialect::Anthropic => Refusal {
            status: 404,
            kind: "not_found_error",
            code: None,
            message: format!("model: {model}"),
        },
        Dialect::OpenAi => Refusal {
            status: 404,
            kind: "invalid_request_error",
            code: Some("model_not_found"),
            message: format!("The model `{model}` does not exist or you do not have access to it."),
        },
    }
}
