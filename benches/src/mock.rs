//! A vendor that is cheap: fixed bytes, no parsing.
//!
//! `POST` to any path is answered in the OpenAI Chat dialect, under `/v1/messages` in Anthropic's.
//! What a prompt asks for (`script::Asked`) is what it gets: a whole answer, at once or held back, or
//! a stream at a pace. Every event is one chunk and one write, as vendors do it. A large text in a
//! request is compared byte by byte, and one that differs is refused. HTTP/2 is spoken on a port of
//! its own, by a general library: there only calls at one time are counted.

mod h2;

use std::mem;
use std::time::Duration;

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until};

use crate::script::{self, Asked, DIGITS, Dialect, HELD, HELD_DIGITS, WORD};
use crate::wire::{self, Body, Head, Length};
use crate::{Error, listen};

/// A buffer that grew beyond this is given back after its request.
const KEPT: usize = 64 << 10;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    port: u16,
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Speak HTTP/2, and nothing else.
    #[arg(long)]
    h2: bool,
    /// What is announced to HTTP/2 clients.
    #[arg(long, default_value_t = 100)]
    max_concurrent_streams: u32,
}

pub(crate) fn main(args: &Args) -> Result<(), Error> {
    let listener = listen::bind(args.port, false)?;
    if args.h2 {
        return h2::serve(listener, args.threads, args.max_concurrent_streams);
    }
    let known = &*Box::leak(Box::new([
        Answers::new(Dialect::Openai),
        Answers::new(Dialect::Anthropic),
    ]));
    listen::in_turn(listener, args.threads, move |stream| async move {
        // A client that leaves ends its connection with an error; that is no news here.
        let _ = Connection::new(stream).serve(known).await;
    })
}

/// The bytes of all answers in one dialect, ready to be sent.
struct Answers {
    /// With zeros where the time stands that it was held back.
    whole: Vec<u8>,
    held: usize,
    /// The head of a stream and its first events.
    opening: Vec<u8>,
    /// With zeros where its number stands.
    token: Vec<u8>,
    number: usize,
    /// The text of a whole answer as events.
    words: Vec<Vec<u8>>,
    ending: [Vec<u8>; 2],
}

impl Answers {
    fn new(dialect: Dialect) -> Self {
        let whole = script::whole(dialect);
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            whole.len()
        );
        let whole = (head + &whole).into_bytes();
        let token = chunk(&script::token(dialect));
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        let mut opening = head.as_bytes().to_vec();
        opening.extend(chunk(&script::opening(dialect)));
        let after = |name: &str, bytes: &[u8]| {
            let found = memmem::find(bytes, name.as_bytes());
            found.expect("invariant: the mark is in the script") + name.len()
        };
        let word = |word: &str| chunk(&script::piece(dialect, word));
        Self {
            held: after(HELD, &whole),
            number: after(WORD, &token),
            words: script::text().split_inclusive(' ').map(word).collect(),
            ending: [false, true].map(|usage| {
                let mut ending = chunk(&script::ending(dialect, usage));
                ending.extend_from_slice(b"0\r\n\r\n");
                ending
            }),
            whole,
            opening,
            token,
        }
    }
}

fn chunk(events: &str) -> Vec<u8> {
    format!("{:x}\r\n{events}\r\n", events.len()).into_bytes()
}

struct Connection {
    stream: TcpStream,
    /// What has come and is not used up.
    input: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        let input = Vec::new();
        Self { stream, input }
    }

    async fn serve(mut self, known: &[Answers; 2]) -> Result<(), Error> {
        while let Some(head) = self.head().await? {
            let came = Instant::now();
            let target = self.input.iter().position(|byte| *byte == b'/');
            let dialect = Dialect::of(&self.input[target.unwrap_or(0)..]);
            let answers = match dialect {
                Dialect::Openai => &known[0],
                Dialect::Anthropic => &known[1],
            };
            let asked = self.body(&head).await?;
            match asked {
                None => self.refuse().await?,
                Some(asked) if asked.stream => self.give(answers, &asked).await?,
                Some(asked) => self.answer(answers, &asked, came).await?,
            }
            if head.close {
                break;
            }
        }
        Ok(())
    }

    async fn head(&mut self) -> Result<Option<Head>, Error> {
        loop {
            if let Some(head) = wire::head(&self.input)? {
                return Ok(Some(head));
            }
            self.input.reserve(4096);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Ok(None);
            }
        }
    }

    /// What the body behind this head asks for; nothing if its text is not what it should be.
    async fn body(&mut self, head: &Head) -> Result<Option<Asked>, Error> {
        if head.length == Length::Chunked {
            return self.chunked(head.size).await;
        }
        let Length::Bytes(length) = head.length else {
            self.input.drain(..head.size);
            return Ok(Some(Asked::default()));
        };
        let end = head.size + length;
        self.input.reserve(end.saturating_sub(self.input.len()));
        while self.input.len() < end {
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err("a request that was cut".into());
            }
        }
        let body = &self.input[head.size..end];
        let asked = Asked::read(body);
        let good = script::filled(body, &asked);
        self.input.drain(..end);
        if self.input.is_empty() && self.input.capacity() > KEPT {
            self.input = Vec::new();
        }
        Ok(good.then_some(asked))
    }

    async fn chunked(&mut self, head: usize) -> Result<Option<Asked>, Error> {
        self.input.drain(..head);
        let (mut body, mut content) = (Body::new(Length::Chunked), Vec::new());
        loop {
            let used = body.take(&self.input, |piece| content.extend_from_slice(piece))?;
            self.input.drain(..used);
            if body.done() {
                break;
            }
            self.input.reserve(4096);
            if self.stream.read_buf(&mut self.input).await? == 0 {
                return Err("a request that was cut".into());
            }
        }
        let asked = Asked::read(&content);
        Ok(script::filled(&content, &asked).then_some(asked))
    }

    async fn refuse(&mut self) -> Result<(), Error> {
        let refusal = "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 38\r\n\r\nthe text of the request is not the one";
        self.stream.write_all(refusal.as_bytes()).await?;
        Ok(())
    }

    async fn answer(&mut self, known: &Answers, asked: &Asked, came: Instant) -> Result<(), Error> {
        if asked.delay == 0 {
            self.stream.write_all(&known.whole).await?;
            return Ok(());
        }
        sleep(Duration::from_millis(asked.delay)).await;
        let mut answer = known.whole.clone();
        let held = u64::try_from(came.elapsed().as_micros())?;
        script::put(&mut answer[known.held..known.held + HELD_DIGITS], held);
        self.stream.write_all(&answer).await?;
        Ok(())
    }

    async fn give(&mut self, known: &Answers, asked: &Asked) -> Result<(), Error> {
        // The buffer of a long stream is empty; thousands of them would be in the way.
        drop(mem::take(&mut self.input));
        self.stream.write_all(&known.opening).await?;
        match asked.tokens {
            None => {
                for word in &known.words {
                    self.stream.write_all(word).await?;
                }
            }
            Some(tokens) => self.tokens(known, tokens, asked.pace).await?,
        }
        let ending = &known.ending[usize::from(asked.usage)];
        self.stream.write_all(ending).await?;
        Ok(())
    }

    async fn tokens(&mut self, known: &Answers, tokens: u64, pace: u64) -> Result<(), Error> {
        let pace = Duration::from_millis(pace);
        // The first one is late by a random part of the pace, so that streams don't march in step.
        let mut due = Instant::now() + pace.mul_f64(fastrand::f64());
        let mut token = known.token.clone();
        for number in 0..tokens {
            if !pace.is_zero() {
                sleep_until(due).await;
                // From the last due time, not from now: the pace holds under load.
                due += pace;
            }
            script::put(&mut token[known.number..known.number + DIGITS], number);
            self.stream.write_all(&token).await?;
        }
        Ok(())
    }
}
