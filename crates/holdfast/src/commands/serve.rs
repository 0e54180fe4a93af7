//! `holdfast serve`: configuration, gateway, signals, drain.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use holdfast_config::checked::{LogFormat, StorePlace};
use holdfast_config::{Config, from_env, load};
use holdfast_gateway::{Gateway, Handle};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{USAGE, env, fail};
use crate::background::{self, Background};
use crate::printer;
use crate::reload::Watch;

/// Run the gateway.
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The configuration file [default: made from the vendor keys in the environment]
    #[arg(short, long, value_name = "FILE", env = "HOLDFAST_CONFIG")]
    config: Option<PathBuf>,
    /// Listen here instead of where the configuration says; may be repeated
    #[arg(short, long, value_name = "ADDRESS")]
    listen: Vec<std::net::SocketAddr>,
    /// What is logged: `error`, `warn`, `info`, `debug`, or a filter such as `info,hyper=debug`
    #[arg(long, value_name = "LEVEL", env = "HOLDFAST_LOG")]
    log: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  ANTHROPIC_API_KEY=... holdfast serve
  holdfast serve --config holdfast.yaml
  holdfast serve --config holdfast.yaml --listen 127.0.0.1:4001 --log debug

Point a client at it:
  ANTHROPIC_BASE_URL=http://127.0.0.1:4000 claude
  OPENAI_BASE_URL=http://127.0.0.1:4000/v1 python app.py

Signals:
  SIGHUP   read the configuration again (it is also read when the file changes)
  SIGTERM  take no new calls, let running answers finish within `drain`, end";

pub(crate) fn run(args: &Args) -> ExitCode {
    let (mut config, watched) = match read(args) {
        Ok(read) => read,
        Err(code) => return code,
    };
    if !args.listen.is_empty() {
        let open = args
            .listen
            .iter()
            .find(|address| !address.ip().is_loopback());
        let all_theirs = config
            .providers
            .iter()
            .all(|provider| provider.auth == holdfast_config::checked::Auth::Caller);
        if let (Some(address), true, false) = (open, config.callers.is_empty(), all_theirs) {
            return fail(&format!(
                "refusing to listen on {address} without `callers`: anybody could spend your vendor keys\n\
                 help: add `callers:` with a key to the configuration, or listen on 127.0.0.1"
            ));
        }
        config.listen.clone_from(&args.listen);
    }
    start_log(args, &config);
    if let Some(name) = env("HOLDFAST_FAILPOINT") {
        holdfast_gateway::failpoint::set(name);
    }
    let drain = config.drain;
    let config = Arc::new(config);
    // Before anybody can know the process: a signal that comes too early would end it.
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail(&format!("signals can't be received: {error}")),
    };
    let runtime = match background::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let prepare = |gateway: &Handle| background::prepare(&config, gateway, &runtime);
    let gateway = match Gateway::start_prepared(config.clone(), prepare) {
        Ok(gateway) => gateway,
        Err(error) => return fail(&error.to_string()),
    };
    let background = match Background::start(runtime, &config, &gateway.handle()) {
        Ok(background) => background,
        Err(error) => return fail(&error),
    };
    for address in gateway.addresses() {
        printer::say(&format!("holdfast listens on http://{address}"));
    }
    wait(signals, &gateway.handle(), &background, args, watched);
    finish(gateway, background, drain)
}

fn finish(gateway: Gateway, background: Background, drain: Duration) -> ExitCode {
    let running = gateway.handle().in_flight();
    let seconds = drain.as_secs();
    printer::say(&format!("draining: {running} running, at most {seconds} s"));
    background.drain();
    let drained = gateway.drain(drain);
    if !background.finish() {
        tracing::warn!("not all that was to be written behind is written");
    }
    if drained {
        printer::say("drained: every running answer has ended");
        ExitCode::SUCCESS
    } else {
        fail("the drain limit passed before every running answer had ended; the rest is cut")
    }
}

fn read(args: &Args) -> Result<(Config, Option<Watch>), ExitCode> {
    let Some(path) = &args.config else {
        return read_env().map(|mut config| {
            if let Some(store) = config.store.as_mut().filter(|store| store.implied) {
                store.place = StorePlace::Sqlite(background::state_file());
            }
            (config, None)
        });
    };
    match load(path, &env) {
        Ok(loaded) => {
            for warning in &loaded.warnings {
                printer::say(&warning.render(printer::color()));
            }
            Ok((loaded.config, Some(Watch::new(path.clone(), loaded.files))))
        }
        Err(rejected) => {
            printer::say(&rejected.render(printer::color()));
            Err(ExitCode::from(USAGE))
        }
    }
}

fn read_env() -> Result<Config, ExitCode> {
    match from_env(&env) {
        Some(Ok(made)) => {
            printer::say(made.explanation.trim_end());
            Ok(made.config)
        }
        Some(Err(rejected)) => {
            printer::say(&rejected.render(printer::color()));
            Err(ExitCode::from(USAGE))
        }
        None => {
            printer::error("no configuration and no vendor key in the environment");
            printer::say(
                "help: set ANTHROPIC_API_KEY or OPENAI_API_KEY, or write a configuration with `holdfast init` \
                 and start with `holdfast serve --config holdfast.yaml`",
            );
            Err(ExitCode::from(USAGE))
        }
    }
}

fn start_log(args: &Args, config: &Config) {
    let level = args
        .log
        .as_deref()
        .unwrap_or_else(|| config.log.level.name());
    holdfast_telemetry::log::start(
        level,
        config.log.format == LogFormat::Json,
        printer::color(),
    );
}

/// The signals that a running gateway listens to.
struct Signals {
    runtime: tokio::runtime::Runtime,
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let inside = runtime.enter();
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        let hangup = signal(SignalKind::hangup())?;
        drop(inside);
        Ok(Self {
            runtime,
            terminate,
            interrupt,
            hangup,
        })
    }
}

/// Serves until SIGTERM or SIGINT, reloading on SIGHUP and when a file changes.
fn wait(
    signals: Signals,
    handle: &Handle,
    background: &Background,
    args: &Args,
    watched: Option<Watch>,
) {
    let Signals {
        runtime,
        mut terminate,
        mut interrupt,
        mut hangup,
    } = signals;
    runtime.block_on(async {
        let mut watch = watched;
        loop {
            let changed = async {
                match &mut watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hangup.recv() => {}
                () = changed => {}
            }
            if let Some(watch) = &mut watch {
                watch.reload(handle, &args.listen);
                background.reload(handle.config());
            } else {
                tracing::info!(
                    "nothing to reload: the configuration was made from the environment"
                );
            }
        }
    });
}
