//! One HTTP/1.1 call over a connection of its own, told apart by how much of it was heard.
//!
//! A crash test lives from the difference between "no answer", "half an answer" and "a whole one", so
//! nothing is retried or repaired here. Dropping the future hangs up.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

/// The longest that one call may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

/// A call to be made.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Bytes,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) enum Heard {
    /// Nobody listens: nothing was sent.
    Refused,
    /// Sent, or perhaps sent; no head came back.
    Lost,
    /// A head, and as much of the body as came.
    Reply(Reply),
}

#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// The transport said that this was all.
    pub(crate) ended: bool,
}

// === impl Ask ===

impl Ask {
    pub(crate) fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            headers: Vec::new(),
            body: Bytes::new(),
        }
    }

    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path)
    }

    pub(crate) fn post(path: impl Into<String>, body: &impl Serialize) -> Self {
        Self::new(Method::POST, path).json(body)
    }

    pub(crate) fn put(path: impl Into<String>, body: &impl Serialize) -> Self {
        Self::new(Method::PUT, path).json(body)
    }

    fn json(mut self, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("invariant: test bodies are JSON");
        self.body = body.into();
        self.with("content-type", "application/json")
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Makes the call.
    pub(crate) async fn send(&self, to: SocketAddr) -> Heard {
        self.send_within(to, PATIENCE).await
    }

    /// Makes the call, for at most `patience`.
    pub(crate) async fn send_within(&self, to: SocketAddr, patience: Duration) -> Heard {
        tokio::time::timeout(patience, self.exchange(to))
            .await
            .unwrap_or(Heard::Lost)
    }

    async fn exchange(&self, to: SocketAddr) -> Heard {
        let Ok(stream) = TcpStream::connect(to).await else {
            return Heard::Refused;
        };
        // What is small and last must not wait for an acknowledgement.
        let _ = stream.set_nodelay(true);
        let Ok((mut sender, connection)) = http1::handshake(TokioIo::new(stream)).await else {
            return Heard::Lost;
        };
        let _connection = Ends(tokio::spawn(connection).abort_handle());
        let Ok(response) = sender.send_request(self.request(to)).await else {
            return Heard::Lost;
        };
        let (head, mut incoming) = response.into_parts();
        let mut body = Vec::new();
        let ended = loop {
            match incoming.frame().await {
                None => break true,
                Some(Err(_)) => break false,
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        body.extend_from_slice(data);
                    }
                }
            }
        };
        Heard::Reply(Reply {
            status: head.status,
            headers: head.headers,
            body,
            ended,
        })
    }

    fn request(&self, to: SocketAddr) -> Request<Full<Bytes>> {
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(&self.path)
            .header("host", to.to_string())
            .header("connection", "close");
        for (name, value) in &self.headers {
            request = request.header(*name, value);
        }
        request
            .body(Full::new(self.body.clone()))
            .expect("invariant: the harness's own heads are valid")
    }
}

/// The connection's task ends with the call.
struct Ends(AbortHandle);

impl Drop for Ends {
    fn drop(&mut self) {
        self.0.abort();
    }
}

// === impl Heard ===

impl Heard {
    /// The reply, if there is a whole one.
    pub(crate) fn whole(self) -> Option<Reply> {
        match self {
            Self::Reply(reply) if reply.ended => Some(reply),
            Self::Reply(_) | Self::Refused | Self::Lost => None,
        }
    }

    /// In few words, for reports.
    pub(crate) fn brief(&self) -> String {
        match self {
            Self::Refused => "no connection".to_owned(),
            Self::Lost => "no answer".to_owned(),
            Self::Reply(reply) => reply.brief(),
        }
    }
}

// === impl Reply ===

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub(crate) fn is_replayed(&self) -> bool {
        self.header("idempotent-replayed") == Some("true")
    }

    /// Holdfast's own code: from the header, or from the last words of a stream.
    pub(crate) fn code(&self) -> Option<String> {
        if let Some(code) = self.header("holdfast-code") {
            return Some(code.to_owned());
        }
        let text = String::from_utf8_lossy(&self.body);
        let at = text.rfind("HF-0")?;
        text.get(at..at + 6).map(str::to_owned)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub(crate) fn brief(&self) -> String {
        let text: String = String::from_utf8_lossy(&self.body)
            .chars()
            .take(400)
            .collect();
        let cut = if self.ended { "" } else { ", cut" };
        format!("{}{cut}: {}", self.status.as_u16(), text.trim())
    }
}
