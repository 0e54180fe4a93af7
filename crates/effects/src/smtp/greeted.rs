//! A connection to a mail server as lettre wants to find it: with the server's greeting in front.
//!
//! After `STARTTLS` a server does not greet again, and lettre's connection begins with a greeting; so
//! one is put in front of what is read. TLS itself is made with the same configuration as everywhere
//! else in Holdfast.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use lettre::transport::smtp::client::AsyncTokioStream;
use lettre::transport::smtp::extension::ClientId;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

use crate::connect::{self, Stream};

/// The longest reply before TLS, in bytes.
const LONGEST_REPLY: usize = 16 * 1024;

/// A connection, and what is read before its own bytes.
#[derive(Debug)]
pub(super) struct Greeted {
    before: &'static [u8],
    stream: Box<dyn Stream>,
    peer: Option<SocketAddr>,
}

impl Greeted {
    /// In the clear; the server greets itself.
    pub(super) fn by_server(tcp: TcpStream) -> Self {
        let peer = tcp.peer_addr().ok();
        Self {
            before: b"",
            stream: Box::new(tcp),
            peer,
        }
    }

    /// Over TLS from the first byte; the server greets itself.
    pub(super) fn secured(stream: Box<dyn Stream>, peer: SocketAddr) -> Self {
        Self {
            before: b"",
            stream,
            peer: Some(peer),
        }
    }
}

/// Asks for TLS. A server that does not offer it is an error: nothing is said in the clear after it.
pub(super) async fn start_tls(
    mut tcp: TcpStream,
    host: &str,
    config: &Arc<ClientConfig>,
    hello: &ClientId,
) -> io::Result<Greeted> {
    let peer = tcp.peer_addr().ok();
    expect(&read_reply(&mut tcp).await?, "220")?;
    tcp.write_all(format!("EHLO {hello}\r\n").as_bytes())
        .await?;
    let offered = read_reply(&mut tcp).await?;
    expect(&offered, "250")?;
    let offers_tls = offered.lines().any(|line| {
        line.get(4..)
            .is_some_and(|word| word.trim().eq_ignore_ascii_case("STARTTLS"))
    });
    if !offers_tls {
        return Err(io::Error::other("the server does not offer STARTTLS"));
    }
    tcp.write_all(b"STARTTLS\r\n").await?;
    expect(&read_reply(&mut tcp).await?, "220")?;
    let stream = connect::tls(tcp, host, config)
        .await
        .map_err(io::Error::other)?;
    Ok(Greeted {
        before: b"220 ready\r\n",
        stream,
        peer,
    })
}

/// One reply with all its lines. Read byte by byte: what a stranger on the wire puts behind it stays
/// in the socket, where TLS refuses it, and is never taken for a reply over TLS.
async fn read_reply(tcp: &mut TcpStream) -> io::Result<String> {
    let mut reply = Vec::new();
    let mut line = 0;
    loop {
        let byte = tcp.read_u8().await?;
        reply.push(byte);
        if byte == b'\n' {
            if reply.get(line + 3) != Some(&b'-') {
                return String::from_utf8(reply).map_err(io::Error::other);
            }
            line = reply.len();
        }
        if reply.len() > LONGEST_REPLY {
            return Err(io::Error::other("a reply is too long"));
        }
    }
}

fn expect(reply: &str, code: &str) -> io::Result<()> {
    if reply.starts_with(code) {
        return Ok(());
    }
    let first: String = reply
        .lines()
        .next()
        .unwrap_or("")
        .chars()
        .take(200)
        .collect();
    Err(io::Error::other(format!("the server said `{first}`")))
}

impl AsyncTokioStream for Greeted {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.peer
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))
    }
}

impl AsyncRead for Greeted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.before.is_empty() {
            return Pin::new(&mut self.stream).poll_read(cx, buf);
        }
        let (now, later) = self.before.split_at(self.before.len().min(buf.remaining()));
        buf.put_slice(now);
        self.before = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
