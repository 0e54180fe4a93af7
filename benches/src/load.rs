//! A client that keeps its connections, checks every answer, and counts what is wrong.
//!
//! Closed loop: each connection makes one call after the other, for some seconds or for a number of
//! calls. Open loop (`--rate`): calls begin when they are due, whatever became of those before.
//!
//! Steered by lines: it says `ready` when everything is warm and begins when a line comes in. With
//! streams it says `open` when every one has shown its first token. Last it prints its report.

mod call;
mod check;
mod open_loop;
mod report;

use std::io::stdin;
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::call::{Connection, Template};
use self::check::Check;
pub(crate) use self::report::Report;
use crate::script::{Asked, Dialect};
use crate::{Error, listen};

/// After a call that failed, so that a proxy that refuses everything is not asked without end.
const REST: Duration = Duration::from_millis(10);

#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    #[arg(long)]
    port: u16,
    #[arg(long, value_enum, default_value = "call")]
    mode: Mode,
    #[arg(long, value_enum, default_value = "openai")]
    dialect: Dialect,
    #[arg(long, default_value = "bench")]
    model: String,
    /// Each with one call at a time.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Calls, or streams, on each connection.
    #[arg(long, default_value_t = 1)]
    calls: usize,
    /// Instead of a number of calls: for so many seconds.
    #[arg(long)]
    seconds: Option<f64>,
    /// Begin so many calls a second, for so many seconds.
    #[arg(long, requires = "seconds")]
    rate: Option<f64>,
    /// Tokens of each stream; without it the words of a whole answer.
    #[arg(long)]
    tokens: Option<u64>,
    /// Milliseconds between the tokens of a stream.
    #[arg(long, default_value_t = 0)]
    pace: u64,
    /// Milliseconds until a whole answer.
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// Bytes of text in each request.
    #[arg(long)]
    fill: Option<usize>,
    /// A new `Idempotency-Key` with each call.
    #[arg(long)]
    keyed: bool,
    /// Threads, each with its share of the connections.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Begin at once.
    #[arg(long)]
    unsteered: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Call,
    Stream,
}

impl Args {
    fn asked(&self) -> Asked {
        Asked {
            stream: self.mode == Mode::Stream,
            usage: false,
            tokens: self.tokens,
            pace: self.pace,
            delay: self.delay,
            fill: self.fill,
        }
    }

    fn check(&self) -> Check {
        match self.mode {
            Mode::Call => Check::whole(),
            Mode::Stream => Check::stream(self.dialect, self.tokens.unwrap_or(0)),
        }
    }

    /// Whether a connection has done what it shall.
    fn over(&self, calls: usize, begun: Instant) -> bool {
        match self.seconds {
            Some(seconds) => begun.elapsed().as_secs_f64() >= seconds,
            None => calls >= self.calls,
        }
    }
}

/// How the parts of a client wait for each other.
#[derive(Clone)]
struct Signs {
    /// Connections that may begin.
    warm: watch::Sender<usize>,
    start: watch::Receiver<bool>,
    /// Connections whose first stream has shown a token, or never will.
    open: watch::Sender<usize>,
}

pub(crate) fn main(args: Args) -> Result<(), Error> {
    let (start, started) = watch::channel(args.unsteered);
    let signs = Signs {
        warm: watch::Sender::new(0),
        start: started,
        open: watch::Sender::new(0),
    };
    let (mut warm, mut open) = (signs.warm.subscribe(), signs.open.subscribe());
    let (connections, streams) = (args.connections, args.mode == Mode::Stream);
    let steered = !args.unsteered;
    let clients = thread::spawn(move || clients(&args, &signs));
    if steered {
        let wait = listen::single()?;
        wait.block_on(warm.wait_for(|warm| *warm >= connections))?;
        println!("ready");
        stdin().read_line(&mut String::new())?;
        start.send(true)?;
        if streams {
            wait.block_on(open.wait_for(|open| *open >= connections))?;
            println!("open");
        }
    }
    let mut report = Report::default();
    for part in clients.join().map_err(|_| "a client panicked")?? {
        report.merge(part);
    }
    println!("{}", serde_json::to_string(&report.summed())?);
    Ok(())
}

fn clients(args: &Args, signs: &Signs) -> Result<Vec<Report>, Error> {
    if args.rate.is_some() {
        let report = listen::single()?.block_on(open_loop::run(args.clone(), signs.clone()))?;
        return Ok(vec![report]);
    }
    let (args, signs) = (args.clone(), signs.clone());
    let threads = args.threads;
    listen::per_core(threads, move |number, runtime| {
        runtime.block_on(async {
            let mut clients = JoinSet::new();
            for index in (number..args.connections).step_by(threads) {
                clients.spawn(client(args.clone(), index, signs.clone()));
            }
            let mut report = Report::default();
            while let Some(part) = clients.join_next().await {
                report.merge(part?);
            }
            Ok(report)
        })
    })
}

/// All calls of one connection.
async fn client(args: Args, index: usize, mut signs: Signs) -> Report {
    let mut report = Report::default();
    let mut template = Template::new(&args, index);
    let mut check = args.check();
    let mut connection = match warm(&args, &mut template).await {
        Ok(connection) => Some(connection),
        Err(error) => {
            report.wrong(&error);
            None
        }
    };
    signs.warm.send_modify(|warm| *warm += 1);
    // The other end is gone only when the whole run is.
    let _ = signs.start.wait_for(|start| *start).await;
    let begun = Instant::now();
    let mut open = Some(signs.open);
    let mut calls = 0;
    while !args.over(calls, begun) {
        calls += 1;
        check.begin();
        let shown = || open = open.take().and_then(counted);
        let asked = Instant::now();
        match call(&args, &mut connection, template.next(), &mut check, shown).await {
            Ok(seen) => report.right(&seen, asked.elapsed(), args.tokens, args.pace),
            Err(error) => {
                report.wrong(&error);
                open = open.take().and_then(counted);
                sleep(REST).await;
            }
        }
    }
    report.seconds = begun.elapsed().as_secs_f64();
    report
}

/// Counts a connection once.
#[expect(
    clippy::needless_pass_by_value,
    reason = "who counted has nothing to count with any more"
)]
fn counted(open: watch::Sender<usize>) -> Option<watch::Sender<usize>> {
    open.send_modify(|open| *open += 1);
    None
}

/// A connection, with a call made where that is what is measured.
async fn warm(args: &Args, template: &mut Template) -> Result<Connection, Error> {
    let mut connection = Connection::open(args.port).await?;
    if args.mode == Mode::Call {
        let mut check = args.check();
        connection.call(template.next(), &mut check, || ()).await?;
    }
    Ok(connection)
}

/// One call on a kept connection, or on a new one where there is none.
async fn call(
    args: &Args,
    kept: &mut Option<Connection>,
    request: &[u8],
    check: &mut Check,
    shown: impl FnMut(),
) -> Result<check::Seen, Error> {
    let mut connection = match kept.take() {
        Some(connection) => connection,
        None => Connection::open(args.port).await?,
    };
    let seen = connection.call(request, check, shown).await?;
    if connection.kept() {
        *kept = Some(connection);
    }
    Ok(seen)
}
