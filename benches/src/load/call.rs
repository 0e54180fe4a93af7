//! One connection, and one call on it.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Args;
use super::check::{Check, Seen};
use crate::Error;
use crate::script;
use crate::wire::{self, Body, Head};

/// A call that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(2);
/// What is read at once.
const PIECE: usize = 4096;
/// Digits of a key.
const KEY_DIGITS: usize = 16;

/// The bytes of a request, made once for all calls of a connection.
pub(super) struct Template {
    bytes: Vec<u8>,
    /// Where the digits of its key stand.
    key: Option<usize>,
    number: u64,
}

impl Template {
    pub(super) fn new(args: &Args, connection: usize) -> Self {
        let body = script::request(args.dialect, &args.model, &args.asked());
        let mut head = format!(
            "POST {} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\nauthorization: Bearer bench\r\nanthropic-version: 2023-06-01\r\ncontent-length: {}\r\n",
            args.dialect.path(),
            body.len()
        );
        let mut key = None;
        if args.keyed {
            // Another client of the same proxy has other keys.
            let client = fastrand::u32(..);
            let zeros = "0".repeat(KEY_DIGITS);
            let _ = write!(head, "idempotency-key: bench-{client:08x}-{zeros}\r\n");
            key = Some(head.len() - KEY_DIGITS - 2);
        }
        head += "\r\n";
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&body);
        Self {
            bytes,
            key,
            number: connection as u64 * 1_000_000_000,
        }
    }

    /// The next request.
    pub(super) fn next(&mut self) -> &[u8] {
        if let Some(key) = self.key {
            self.number += 1;
            script::put(&mut self.bytes[key..key + KEY_DIGITS], self.number);
        }
        &self.bytes
    }
}

pub(super) struct Connection {
    stream: TcpStream,
    /// What has come and is not used up.
    input: Vec<u8>,
    closed: bool,
}

impl Connection {
    pub(super) async fn open(port: u16) -> Result<Self, Error> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let input = Vec::new();
        Ok(Self {
            stream,
            input,
            closed: false,
        })
    }

    /// Whether another call can be made.
    pub(super) fn kept(&self) -> bool {
        !self.closed && self.input.is_empty()
    }

    /// Sends a request and reads its answer to the end; `shown` is called whenever a stream has
    /// shown something. An error of any kind leaves a connection that is of no use.
    pub(super) async fn call(
        &mut self,
        request: &[u8],
        check: &mut Check,
        shown: impl FnMut(),
    ) -> Result<Seen, Error> {
        // One timer for a call is cheap enough, and a proxy that hangs does not hang the run.
        tokio::time::timeout(PATIENCE, self.exchange(request, check, shown))
            .await
            .map_err(|_| "no whole answer in two minutes")?
    }

    async fn exchange(
        &mut self,
        request: &[u8],
        check: &mut Check,
        mut shown: impl FnMut(),
    ) -> Result<Seen, Error> {
        let asked = Instant::now();
        let mut first_token = None;
        self.stream.write_all(request).await?;
        let head = self.head().await?;
        let status = wire::status(&self.input).ok_or("an odd status line")?;
        self.closed = head.close;
        self.input.drain(..head.size);
        let (mut body, mut refusal) = (Body::new(head.length), Vec::new());
        loop {
            let used = body.take(&self.input, |piece| {
                if status == 200 {
                    check.take(piece);
                } else {
                    refusal.extend_from_slice(piece);
                }
            })?;
            self.input.drain(..used);
            if first_token.is_none() && check.begun() {
                first_token = Some(asked.elapsed());
                shown();
            }
            if body.done() {
                break;
            }
            if self.read().await? == 0 {
                self.closed = true;
                if body.may_close() {
                    break;
                }
                return Err("an answer that was cut".into());
            }
        }
        if status != 200 {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&refusal)).into());
        }
        check.end(first_token)
    }

    async fn head(&mut self) -> Result<Head, Error> {
        loop {
            if let Some(head) = wire::head(&self.input)? {
                return Ok(head);
            }
            if self.read().await? == 0 {
                return Err("a connection that was closed without an answer".into());
            }
        }
    }

    async fn read(&mut self) -> Result<usize, Error> {
        self.input.reserve(PIECE);
        Ok(self.stream.read_buf(&mut self.input).await?)
    }
}
