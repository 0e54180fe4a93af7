//! A client that keeps its connections, checks every answer, and counts what is wrong.
//!
//! Steered by two lines: it says `ready` when everything is warm (with `--hold`: when every stream
//! has shown its first token) and begins, or ends, when a line comes in. Then it prints its report.

use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::ValueEnum;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use memchr::memmem;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader, stdin};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::{Error, listen, mock};

#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    #[arg(long)]
    port: u16,
    #[arg(long, value_enum, default_value = "call")]
    mode: Mode,
    #[arg(long, value_enum, default_value = "openai")]
    dialect: Dialect,
    /// Each with one call at a time.
    #[arg(long, default_value_t = 32)]
    connections: usize,
    /// Calls, or streams, on each connection.
    #[arg(long, default_value_t = 100)]
    calls: usize,
    /// Tokens of each stream.
    #[arg(long, default_value_t = 100)]
    tokens: usize,
    /// Milliseconds between the tokens of a stream.
    #[arg(long, default_value_t = 0)]
    pace: u64,
    /// Open one stream on each connection, and leave when a line comes in.
    #[arg(long)]
    hold: bool,
    /// Begin at once.
    #[arg(long)]
    unsteered: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Call,
    Stream,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dialect {
    Openai,
    Anthropic,
}

/// What the client saw.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Whole answers.
    pub(crate) whole: u64,
    /// Answers that were refused, cut, or not what the mock said.
    pub(crate) errors: u64,
    /// The first error in words.
    pub(crate) first_error: Option<String>,
    pub(crate) tokens: u64,
    /// Time to the first token of each stream, in milliseconds, sorted.
    pub(crate) first_token_ms: Vec<u64>,
}

impl Report {
    fn add(&mut self, seen: Result<Seen, Error>) {
        match seen {
            Ok(seen) => {
                self.whole += 1;
                self.tokens += seen.tokens;
                if let Some(first) = seen.first_token {
                    let first = u64::try_from(first.as_millis()).unwrap_or(u64::MAX);
                    self.first_token_ms.push(first);
                }
            }
            Err(error) => {
                self.errors += 1;
                self.first_error.get_or_insert_with(|| error.to_string());
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.whole += other.whole;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.tokens += other.tokens;
        self.first_token_ms.extend(other.first_token_ms);
    }
}

/// One whole answer.
#[derive(Default)]
struct Seen {
    tokens: u64,
    first_token: Option<Duration>,
}

pub(crate) fn main(args: Args) -> Result<(), Error> {
    let mut report = listen::multi(2)?.block_on(work(args))?;
    report.first_token_ms.sort_unstable();
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn work(args: Args) -> Result<Report, Error> {
    let (start, started) = watch::channel(args.unsteered);
    let (warm, mut warmed) = watch::channel(0);
    let mut clients = JoinSet::new();
    for _ in 0..args.connections {
        let client = client(args.clone(), warm.clone(), started.clone());
        clients.spawn(client);
    }
    if !args.unsteered {
        warmed.wait_for(|warm| *warm >= args.connections).await?;
        println!("ready");
        BufReader::new(stdin()).lines().next_line().await?;
        start.send(true)?;
    }
    let mut report = Report::default();
    while let Some(part) = clients.join_next().await {
        report.merge(part?);
    }
    Ok(report)
}

/// All calls of one connection.
async fn client(
    args: Args,
    warm: watch::Sender<usize>,
    mut started: watch::Receiver<bool>,
) -> Report {
    let mut report = Report::default();
    let mut connection = None;
    if args.hold {
        let (tokens, pace) = (args.tokens, args.pace);
        let shown = || warm.send_modify(|warm| *warm += 1);
        let held = call(&args, &mut connection, tokens, pace, shown);
        tokio::select! {
            seen = held => {
                report.add(seen.and(Err("a held stream ended".into())));
                // Nobody must wait for it.
                warm.send_modify(|warm| *warm += 1);
            }
            _ = started.wait_for(|started| *started) => report.whole += 1,
        }
        return report;
    }
    if let Err(error) = call(&args, &mut connection, 2, 0, || ()).await {
        report.add(Err(error));
    }
    warm.send_modify(|warm| *warm += 1);
    // The other end is gone only when the whole run is.
    let _ = started.wait_for(|started| *started).await;
    for _ in 0..args.calls {
        let seen = call(&args, &mut connection, args.tokens, args.pace, || ()).await;
        report.add(seen);
    }
    report
}

/// One call on a kept connection, or on a new one where there is none.
async fn call(
    args: &Args,
    connection: &mut Option<SendRequest<Full<Bytes>>>,
    tokens: usize,
    pace: u64,
    shown: impl FnOnce(),
) -> Result<Seen, Error> {
    let mut sender = match connection.take() {
        Some(sender) => sender,
        None => connect(args.port).await?,
    };
    sender.ready().await?;
    let asked = Instant::now();
    let response = sender.send_request(request(args, tokens, pace)?).await?;
    let status = response.status();
    if !status.is_success() {
        let body = response.into_body().collect().await?.to_bytes();
        return Err(format!("{status}: {}", String::from_utf8_lossy(&body)).into());
    }
    let body = response.into_body();
    let seen = match args.mode {
        Mode::Call => whole(body).await?,
        Mode::Stream => stream(body, asked, args.dialect, tokens, shown).await?,
    };
    *connection = Some(sender);
    Ok(seen)
}

async fn connect(port: u16) -> Result<SendRequest<Full<Bytes>>, Error> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

fn request(args: &Args, tokens: usize, pace: u64) -> Result<Request<Full<Bytes>>, Error> {
    let stream = args.mode == Mode::Stream;
    // A prompt of a few hundred bytes; Anthropic demands `max_tokens`.
    let words = "Say something that is long enough to be a question. ".repeat(8);
    let (path, limit) = match args.dialect {
        Dialect::Openai => ("/v1/chat/completions", ""),
        Dialect::Anthropic => ("/v1/messages", r#""max_tokens":1024,"#),
    };
    let body = format!(
        r#"{{"model":"bench",{limit}"stream":{stream},"messages":[{{"role":"user","content":"{words} tokens={tokens} pace={pace}"}}]}}"#
    );
    let request = Request::post(path)
        .header(header::HOST, "127.0.0.1")
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::AUTHORIZATION, "Bearer bench")
        .header("anthropic-version", "2023-06-01")
        .body(Full::new(Bytes::from(body)))?;
    Ok(request)
}

async fn whole(body: Incoming) -> Result<Seen, Error> {
    let body = body.collect().await?.to_bytes();
    if memmem::find(&body, mock::MARK.as_bytes()).is_none() || !body.ends_with(b"}") {
        return Err("an answer without its text".into());
    }
    Ok(Seen::default())
}

/// Reads a stream to its end and demands every token and the terminal event.
async fn stream(
    mut body: Incoming,
    asked: Instant,
    dialect: Dialect,
    tokens: usize,
    shown: impl FnOnce(),
) -> Result<Seen, Error> {
    let mut reader = Reader::new(dialect);
    let mut first_token = None;
    let mut shown = Some(shown);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        reader.read(&data);
        if reader.tokens > 0
            && let Some(shown) = shown.take()
        {
            first_token = Some(asked.elapsed());
            shown();
        }
    }
    let tokens = reader.end(tokens)?;
    Ok(Seen {
        tokens,
        first_token,
    })
}

/// Counts the mock's tokens in the pieces of a stream.
struct Reader {
    token: &'static [u8],
    terminal: &'static [u8],
    /// The beginning of a line that is not whole yet.
    rest: Vec<u8>,
    tokens: u64,
    ended: bool,
}

impl Reader {
    fn new(dialect: Dialect) -> Self {
        let (token, terminal): (&[u8], &[u8]) = match dialect {
            Dialect::Openai => (br#"{"content":" token"}"#, b"data: [DONE]"),
            Dialect::Anthropic => (br#""text_delta","text":" token""#, br#""message_stop""#),
        };
        Self {
            token,
            terminal,
            rest: Vec::new(),
            tokens: 0,
            ended: false,
        }
    }

    fn read(&mut self, piece: &[u8]) {
        self.rest.extend_from_slice(piece);
        let lines = memchr::memrchr(b'\n', &self.rest).map_or(0, |end| end + 1);
        for line in self.rest[..lines].split(|byte| *byte == b'\n') {
            self.tokens += u64::from(memmem::find(line, self.token).is_some());
            self.ended |= memmem::find(line, self.terminal).is_some();
        }
        self.rest.drain(..lines);
    }

    /// The number of tokens, if that is what was asked for and the stream said that it is over.
    fn end(&self, asked: usize) -> Result<u64, Error> {
        if self.tokens == asked as u64 && self.ended {
            return Ok(self.tokens);
        }
        let (tokens, ended) = (self.tokens, self.ended);
        Err(format!("{tokens} of {asked} tokens, terminal event: {ended}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "data: {\"delta\":{\"content\":\" token\"}}\n\n\
        data: {\"delta\":{\"content\":\" token\"}}\n\ndata: [DONE]\n\n";

    #[test]
    fn counts_the_same_in_any_pieces() {
        for size in 1..STREAM.len() {
            let mut reader = Reader::new(Dialect::Openai);
            for piece in STREAM.as_bytes().chunks(size) {
                reader.read(piece);
            }
            assert_eq!(reader.end(2).unwrap(), 2, "in pieces of {size}");
        }
    }

    #[test]
    fn a_stream_that_is_cut_is_an_error() {
        let terminal = STREAM.find("[DONE]").unwrap();
        let mut reader = Reader::new(Dialect::Openai);
        reader.read(&STREAM.as_bytes()[..terminal]);
        assert!(reader.end(2).is_err());
    }

    #[test]
    fn a_stream_that_lacks_a_token_is_an_error() {
        let mut reader = Reader::new(Dialect::Openai);
        reader.read(STREAM.as_bytes());
        assert!(reader.end(3).is_err());
    }
}
