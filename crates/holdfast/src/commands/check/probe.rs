//! The probe: a real gateway on a free loopback port with one route for each target, asked once each.
//!
//! So the probe goes the very way of a real call: connection, TLS, credential, model name, judge.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holdfast_config::Config;
use holdfast_config::checked::{Auth, Route};
use holdfast_gateway::Gateway;
use holdfast_wire::turn::Dialect;
use serde_json::{Value, json};

use crate::commands::fail;
use crate::printer;

/// A probe takes no longer than this, whatever the route's deadline.
const PATIENCE: Duration = Duration::from_mins(1);

pub(super) fn run(config: &Config) -> ExitCode {
    let (probes, skipped) = probes(config);
    for (name, why) in skipped {
        printer::data(&format!("{name}: not asked: {why}\n"));
    }
    let gateway = match Gateway::start(Arc::new(probes.clone())) {
        Ok(gateway) => gateway,
        Err(error) => return fail(&error.to_string()),
    };
    let mut bad = 0;
    for route in &probes.routes {
        let target = &route.targets[0];
        let dialect = probes.provider(target).dialect;
        let began = Instant::now();
        let answer = ask(gateway.addresses()[0], dialect, &route.model);
        let name = route.model.strip_prefix(PREFIX).unwrap_or(&route.model);
        match answer {
            Ok(()) => printer::data(&format!(
                "{name}: answers whole, {} ms\n",
                began.elapsed().as_millis()
            )),
            Err(why) => {
                bad += 1;
                printer::data(&format!("{name}: {why}\n"));
            }
        }
    }
    gateway.drain(Duration::from_secs(1));
    if bad == 0 {
        ExitCode::SUCCESS
    } else {
        fail(&format!(
            "{bad} of {} targets did not answer",
            probes.routes.len()
        ))
    }
}

const PREFIX: &str = "probe:";

/// The same configuration with one route for each target, and no others.
fn probes(config: &Config) -> (Config, Vec<(String, &'static str)>) {
    let mut probes = config.clone();
    probes.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    probes.callers.clear();
    probes.workers = Some(1);
    probes.routes.clear();
    let mut skipped = Vec::new();
    for route in &config.routes {
        for target in &route.targets {
            let provider = config.provider(target);
            let wished = target.model.as_deref().unwrap_or(&route.model);
            let name = format!("{}/{wished}", provider.name);
            let model = format!("{PREFIX}{name}");
            if provider.auth == Auth::Caller {
                skipped.push((name, "it takes the caller's own credential"));
            } else if wished.ends_with('*') {
                skipped.push((
                    name,
                    "the route's name is a pattern, so there is no model to name",
                ));
            } else if !probes.routes.iter().any(|probe| probe.model == model) {
                let mut target = target.clone();
                target.model = Some(wished.to_owned());
                let mut policy = route.policy.clone();
                policy.deadline = policy.deadline.min(PATIENCE);
                policy.attempts_per_target = 1;
                probes.routes.push(Route {
                    model,
                    targets: vec![target],
                    policy,
                });
            }
        }
    }
    (probes, skipped)
}

fn ask(gateway: SocketAddr, dialect: Dialect, model: &str) -> Result<(), String> {
    let path = match dialect {
        Dialect::Anthropic => "/v1/messages",
        Dialect::OpenAi => "/v1/chat/completions",
    };
    let question = json!({
        "model": model,
        "max_tokens": 64,
        "messages": [{"role": "user", "content": "Answer with the one word: ready"}],
    });
    let (status, body) =
        post(gateway, path, &question.to_string()).map_err(|error| error.to_string())?;
    if status == 200 {
        return Ok(());
    }
    let told: Value = serde_json::from_str(&body).unwrap_or_default();
    Err(told["error"]["message"]
        .as_str()
        .map_or_else(|| format!("status {status}"), str::to_owned))
}

/// One plain request on a connection of its own.
fn post(address: SocketAddr, path: &str, body: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE + Duration::from_secs(5)))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    let status = response
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let body = response
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default();
    Ok((status, body))
}
