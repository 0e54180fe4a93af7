//! What the tests stand on: a configured gateway, clients that see the wire, and patience.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_config::{Config, Disk};
use holdfast_gateway::{Gateway, Handle};
use holdfast_sim::Sim;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than anything takes: it ends a test that hangs, and is no measure of anything else.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(30);

/// Waits until something that nobody announces has become true.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(
        tokio::time::timeout(WATCHDOG, waiting).await.is_ok(),
        "never came true: {what}"
    );
}

pub(crate) fn parse(text: &str) -> Arc<Config> {
    let nowhere = Disk {
        directory: PathBuf::new(),
    };
    match holdfast_config::parse("test.yaml", text, &|_| None, &nowhere) {
        Ok(loaded) => Arc::new(loaded.config),
        Err(rejected) => panic!("{}", rejected.render(false)),
    }
}

pub(crate) async fn vendor(name: &str) -> Sim {
    let sim = Sim::builder().name(name).keep_requests(5000);
    sim.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .await
        .unwrap()
}

/// Two vendors behind `claude*` and `gpt*` and any model name that is a fault; `more` is added as
/// it stands.
pub(crate) fn two_vendors(one: &Sim, two: &Sim, more: &str) -> String {
    let (one, two) = (one.url(), two.url());
    format!(
        "listen: 127.0.0.1:0
workers: 2
providers:
  - {{name: one, kind: anthropic, base_url: '{one}', key: key-of-one, domain: one}}
  - {{name: two, kind: anthropic, base_url: '{two}', key: key-of-two, domain: two}}
  - {{name: chat-one, kind: openai, base_url: '{one}', key: key-of-one, domain: one}}
  - {{name: chat-two, kind: openai, base_url: '{two}', key: key-of-two, domain: two}}
routes:
  - {{model: claude*, targets: [one, two]}}
  - {{model: gpt*, targets: [chat-one, chat-two]}}
  - {{model: alone, targets: [one/sim-ok], join: false, attempts_per_target: 1}}
{more}
"
    )
}

/// A running gateway; dropped, it is drained.
pub(crate) struct Running {
    gateway: Option<Gateway>,
    pub(crate) address: SocketAddr,
    pub(crate) handle: Handle,
}

impl Running {
    pub(crate) fn start(config: &str) -> Self {
        let gateway = Gateway::start(parse(config)).unwrap();
        Self {
            address: gateway.addresses()[0],
            handle: gateway.handle(),
            gateway: Some(gateway),
        }
    }

    /// Begins to drain on a thread of its own; `true` comes when all calls have ended.
    pub(crate) fn drain(&mut self) -> tokio::task::JoinHandle<bool> {
        let gateway = self.gateway.take().unwrap();
        tokio::task::spawn_blocking(move || gateway.drain(WATCHDOG))
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        send(self.address, Method::POST, path, &[], body.to_string()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        send(self.address, Method::GET, path, &[], String::new()).await
    }

    /// The value of one metric without labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let metrics = self.handle.metrics();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no `{name}` in {metrics}"))
            .parse()
            .unwrap()
    }

    /// Nothing is under way and nobody is connected.
    pub(crate) async fn at_rest(&self) {
        until("no call is under way", || self.handle.in_flight() == 0).await;
        until("no caller is connected", || {
            self.metric("holdfast_connections") == 0
        })
        .await;
        assert!(self.metric("holdfast_in_flight") == 0);
    }
}

/// An answer as it stood on the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    /// Why the body did not end as it should.
    pub(crate) cut: Option<hyper::Error>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The text of the answer, stream or not, in either dialect.
    pub(crate) fn said(&self) -> String {
        if !self.header("content-type").starts_with("text/event-stream") {
            let body = self.json();
            let text = body
                .pointer("/content/0/text")
                .or_else(|| body.pointer("/choices/0/message/content"));
            return text.and_then(Value::as_str).unwrap_or_default().to_owned();
        }
        let data = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("data: "));
        let events = data.filter_map(|data| serde_json::from_str::<Value>(data).ok());
        events
            .filter_map(|event| {
                let text = event
                    .pointer("/delta/text")
                    .or_else(|| event.pointer("/choices/0/delta/content"));
                text.and_then(Value::as_str).map(str::to_owned)
            })
            .collect()
    }

    pub(crate) fn assert_whole(&self) {
        assert_eq!(self.status, 200, "{self:?}");
        assert!(self.cut.is_none(), "{self:?}");
        assert!(holdfast_sim::check_text(&self.said()), "{self:?}");
    }

    /// An error of Holdfast's own in the dialect of the request.
    pub(crate) fn assert_fault(&self, status: u16, code: &str) {
        assert_eq!(
            (self.status, self.header("holdfast-code")),
            (status, code),
            "{self:?}"
        );
        let error = &self.json()["error"];
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(code), "{message}");
        assert!(error["type"].is_string(), "{self:?}");
    }
}

pub(crate) async fn send(
    address: SocketAddr,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let asking = async {
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        let driver = tokio::spawn(driver);
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "gateway");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let answer = read(sender.send_request(request).await.unwrap()).await;
        drop(sender);
        // A cut transport is an error here as well; the answer has it already.
        let _ = driver.await;
        answer
    };
    tokio::time::timeout(WATCHDOG, asking)
        .await
        .expect("the gateway does not answer")
}

pub(crate) async fn read(response: http::Response<hyper::body::Incoming>) -> Answer {
    let (head, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    let mut cut = None;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => bytes.extend_from_slice(frame.data_ref().unwrap_or(&Bytes::new())),
            Err(error) => {
                cut = Some(error);
                break;
            }
        }
    }
    Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        text: String::from_utf8(bytes).unwrap(),
        cut,
    }
}

pub(crate) fn messages(model: &str, stream: bool, text: &str) -> Value {
    json!({
        "model": model, "stream": stream, "max_tokens": 4000,
        "messages": [{"role": "user", "content": text}],
    })
}

pub(crate) fn chat(model: &str, stream: bool, text: &str) -> Value {
    json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]})
}

/// A bare connection on which a test writes the bytes itself.
pub(crate) async fn raw(address: SocketAddr, bytes: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

/// A POST as bytes; the connection ends with its answer.
pub(crate) fn raw_post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// All that comes until the connection ends, in whichever way.
pub(crate) async fn read_raw(mut stream: TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is as good an end as a close.
    let reading = tokio::time::timeout(WATCHDOG, stream.read_to_end(&mut bytes)).await;
    assert!(reading.is_ok(), "the connection does not end");
    String::from_utf8(bytes).unwrap()
}
