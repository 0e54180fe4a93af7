//! A TCP proxy between a replica and its database, that can be cut and mended.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Line {
    Whole,
    /// Connections are ended, new ones at once: the database is gone.
    Cut,
    /// Connections stay and carry nothing: the network swallows everything.
    Swallows,
}

/// A running proxy. Ends with its handle.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    line: Arc<watch::Sender<Line>>,
    accepts: AbortHandle,
}

// === impl Proxy ===

impl Proxy {
    pub(crate) async fn start(to: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let line = Arc::new(watch::channel(Line::Whole).0);
        let shared = line.clone();
        let accepts = tokio::spawn(async move {
            loop {
                // A connection that failed before it was taken is nobody's.
                if let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(carry(stream, to, shared.subscribe()));
                }
            }
        });
        Ok(Self {
            address,
            line,
            accepts: accepts.abort_handle(),
        })
    }

    pub(crate) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepts.abort();
    }
}

async fn carry(mut near: TcpStream, to: SocketAddr, mut line: watch::Receiver<Line>) {
    let mut far = None;
    loop {
        let now = *line.borrow_and_update();
        match now {
            Line::Cut => return,
            Line::Swallows => {
                if line.changed().await.is_err() {
                    return;
                }
                // What was swallowed is gone: the connection can't be mended.
                if far.is_some() {
                    return;
                }
            }
            Line::Whole => {
                let far = match &mut far {
                    Some(far) => far,
                    None => match TcpStream::connect(to).await {
                        Ok(stream) => far.insert(stream),
                        Err(_) => return,
                    },
                };
                tokio::select! {
                    // Ended by either side, in peace or not.
                    _ = copy_bidirectional(&mut near, far) => return,
                    changed = line.changed() => if changed.is_err() { return },
                }
            }
        }
    }
}

/// `url` with another address in it, and the address that was there.
pub(crate) fn through(url: &str, proxy: SocketAddr) -> Option<String> {
    let (before, address, after) = split(url)?;
    let _: SocketAddr = address.parse().ok()?;
    Some(format!("{before}{proxy}{after}"))
}

/// The database's own address.
pub(crate) fn address(url: &str) -> Option<SocketAddr> {
    split(url)?.1.replace("localhost", "127.0.0.1").parse().ok()
}

fn split(url: &str) -> Option<(&str, &str, &str)> {
    let start = url.find("://")? + 3;
    let end = url[start..].find('/').map_or(url.len(), |at| start + at);
    let start = url[start..end]
        .rfind('@')
        .map_or(start, |at| start + at + 1);
    Some((&url[..start], &url[start..end], &url[end..]))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[test]
    fn a_url_is_led_through_the_proxy() {
        let proxy: SocketAddr = "127.0.0.1:9".parse().unwrap();
        let url = "postgres://me:pa@ss@127.0.0.1:5432/db?x=1";
        assert_eq!(
            through(url, proxy).unwrap(),
            "postgres://me:pa@ss@127.0.0.1:9/db?x=1"
        );
        assert_eq!(address(url).unwrap().port(), 5432);
        assert_eq!(address("postgres://a@localhost:1/x").unwrap().port(), 1);
    }

    #[tokio::test]
    async fn a_cut_line_carries_nothing_and_a_mended_one_does() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let echo = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut read, mut write) = stream.split();
                    tokio::io::copy(&mut read, &mut write).await.unwrap();
                });
            }
        });
        let proxy = Proxy::start(echo).await.unwrap();
        let mut first = TcpStream::connect(proxy.address).await.unwrap();
        first.write_all(b"a").await.unwrap();
        assert_eq!(first.read_u8().await.unwrap(), b'a');
        proxy.set(Line::Cut);
        assert!(first.read_u8().await.is_err());
        let mut second = TcpStream::connect(proxy.address).await.unwrap();
        assert!(second.read_u8().await.is_err());
        proxy.set(Line::Whole);
        let mut third = TcpStream::connect(proxy.address).await.unwrap();
        third.write_all(b"b").await.unwrap();
        assert_eq!(third.read_u8().await.unwrap(), b'b');
    }
}
