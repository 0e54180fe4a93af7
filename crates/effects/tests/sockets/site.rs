//! A target that counts: it plays what it is told and remembers every request that it read whole.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Turns a hang into a failure; nothing is measured by it.
pub(crate) async fn in_time<T>(future: impl Future<Output = T>) -> T {
    let limit = std::time::Duration::from_mins(1);
    tokio::time::timeout(limit, future).await.expect("it hangs")
}

/// What it does after it has read a request.
#[derive(Clone, Debug)]
pub(crate) enum Play {
    Answer(u16, &'static str),
    /// These bytes, then the end of the connection.
    Raw(Vec<u8>),
    /// Nothing, with the connection open.
    Hang,
    /// The end of the connection.
    Close,
}

/// A request as it was read.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The server. Ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    plays: Arc<Mutex<VecDeque<Play>>>,
    count: watch::Sender<usize>,
}

impl Site {
    /// Plays `plays` one after the other, then answers 200.
    pub(crate) async fn start(plays: impl IntoIterator<Item = Play>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let site = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            plays: Arc::new(Mutex::new(plays.into_iter().collect())),
            count: watch::Sender::new(0),
        };
        let served = site.clone();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let site = served.clone();
                tokio::spawn(async move { site.serve(tcp).await });
            }
        });
        site
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().len()
    }

    /// Until that many requests were read.
    pub(crate) async fn reached(&self, count: usize) {
        self.until(|seen| seen.len() >= count).await;
    }

    /// Until what was read fits.
    pub(crate) async fn until(&self, fits: impl Fn(&[Seen]) -> bool) {
        let mut counted = self.count.subscribe();
        let fitting = async {
            while !fits(&self.seen()) {
                counted.changed().await.unwrap();
            }
        };
        in_time(fitting).await;
    }

    async fn serve(&self, mut tcp: TcpStream) {
        let Some(seen) = read(&mut tcp).await else {
            return;
        };
        let play = self.plays.lock().pop_front();
        let count = {
            let mut all = self.seen.lock();
            all.push(seen);
            all.len()
        };
        self.count.send_replace(count);
        let answer = match play {
            None => answer(200, r#"{"ok":true}"#),
            Some(Play::Answer(status, body)) => answer(status, body),
            Some(Play::Raw(bytes)) => bytes,
            Some(Play::Hang) => return std::future::pending().await,
            Some(Play::Close) => Vec::new(),
        };
        // Who asked may be gone.
        let _ = tcp.write_all(&answer).await;
        let _ = tcp.shutdown().await;
    }
}

fn answer(status: u16, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\nset-cookie: a=b\r\nlocation: /elsewhere\r\nretry-after: 0\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

async fn read(tcp: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if tcp.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let mut first = lines.next()?.split(' ');
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().unwrap());
    while bytes.len() < end + 4 + length {
        if tcp.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    Some(Seen {
        method: first.next()?.to_owned(),
        path: first.next()?.to_owned(),
        headers,
        body: String::from_utf8(bytes[end + 4..].to_vec()).ok()?,
    })
}
