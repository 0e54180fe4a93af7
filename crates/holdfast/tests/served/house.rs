//! A gateway in a directory of its own, and what tests ask it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use holdfast_sim::{Script, Sim};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

/// Longer than anything takes: it ends a test that hangs, and is no measure of anything else.
const WATCHDOG: Duration = Duration::from_mins(1);

pub(crate) async fn vendor(name: &str) -> Sim {
    let sim = Sim::builder().name(name).keep_requests(1000);
    sim.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
        .await
        .unwrap()
}

/// From now on the vendor fails every call in this way; `None` = none.
pub(crate) fn fails(sim: &Sim, fault: Option<&str>) {
    match fault {
        Some(fault) => sim.set_fault(&fault.parse().unwrap()),
        None => sim.set_script(Script::default()).unwrap(),
    }
}

/// The two vendors, with no patience: each target is asked once, and what failed may be asked again at once.
pub(crate) fn two_vendors(one: &Sim, two: &Sim, more: &str) -> String {
    let (one, two) = (one.url(), two.url());
    format!(
        "listen: 127.0.0.1:0
workers: 1
store: {{url: 'sqlite:holdfast.db', encryption_key: '{key}'}}
review: {{retry_interval: 100ms}}
providers:
  - {{name: one, kind: anthropic, base_url: '{one}', key: key-of-one, domain: one}}
  - {{name: two, kind: anthropic, base_url: '{two}', key: key-of-two, domain: two}}
  - {{name: chat, kind: openai, base_url: '{one}', key: key-of-one, domain: one}}
defaults: {{attempts_per_target: 1, retry_after: 1ms, budget: {{floor_per_second: 1000}}}}
{more}
",
        key = "7f".repeat(32)
    )
}

/// A running gateway; dropped, it is killed.
pub(crate) struct House {
    process: Child,
    address: SocketAddr,
    directory: TempDir,
    /// What it says on standard error, line by line.
    lines: mpsc::Receiver<String>,
}

/// An answer as it stood on the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl House {
    /// Starts the binary, and waits until its store is open.
    pub(crate) async fn open(config: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("holdfast.yaml"), config).unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_holdfast"))
            .args(["serve", "--config", "holdfast.yaml", "--log", "trace"])
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (address, lines) = listening(process.stderr.take().unwrap());
        let house = Self {
            process,
            address,
            directory,
            lines,
        };
        let open = async {
            while house.get("/readyz").await["store"] != "up" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let opened = tokio::time::timeout(WATCHDOG, open).await;
        opened.expect("the store does not open");
        house
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let sending = async {
            let (head, body) = self.begin(method, path, headers, body).await.into_parts();
            let bytes = body.collect().await.unwrap().to_bytes();
            Answer {
                status: head.status.as_u16(),
                headers: head.headers,
                text: String::from_utf8(bytes.to_vec()).unwrap(),
            }
        };
        let sent = tokio::time::timeout(WATCHDOG, sending).await;
        sent.expect("the gateway does not answer")
    }

    async fn begin(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let (mut sender, driver) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        // Ends with the connection.
        tokio::spawn(driver);
        let mut request = Request::builder().method(method).uri(path);
        request = request.header("host", "gateway");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        sender.send_request(request).await.unwrap()
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        self.send(Method::GET, path, &[], &Value::Null).await.json()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, &[], body).await
    }

    /// A call of a model with a key.
    pub(crate) async fn call(&self, model: &str, key: &str) -> Answer {
        let key = [("idempotency-key", key)];
        let body = question(model);
        self.send(Method::POST, "/v1/messages", &key, &body).await
    }

    /// The path of the only ticket that waits.
    pub(crate) async fn ticket(&self) -> String {
        let open = self.get("/v1/tickets?state=open").await;
        let [ticket] = open["tickets"].as_array().unwrap().as_slice() else {
            panic!("not one ticket: {open}");
        };
        format!("/v1/tickets/{}", ticket["id"].as_str().unwrap())
    }

    /// The next event of this kind, from the beginning of all events.
    pub(crate) async fn event(&self, kind: &str) -> Value {
        let reading = async {
            let path = "/v1/events?after=0";
            let response = self.begin(Method::GET, path, &[], String::new()).await;
            let (mut body, mut text) = (response.into_body(), String::new());
            loop {
                let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
                let mut events = data.filter_map(|data| serde_json::from_str(data).ok());
                if let Some(event) = events.find(|event: &Value| event["kind"] == kind) {
                    return event;
                }
                let frame = body.frame().await.unwrap().unwrap();
                text += std::str::from_utf8(&frame.into_data().unwrap()).unwrap();
            }
        };
        let read = tokio::time::timeout(WATCHDOG, reading).await;
        read.unwrap_or_else(|_| panic!("no event `{kind}`"))
    }

    /// Runs a command of the binary against this gateway; its output, if it ended well.
    pub(crate) fn command(&self, args: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_holdfast"))
            .args(args)
            .env("HOLDFAST_URL", format!("http://{}", self.address))
            .env_remove("HOLDFAST_KEY")
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{args:?}: {said}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Ends it as an operator would, and gives all that it leaves: its log, and the store's files.
    pub(crate) fn leave(mut self) -> (String, Vec<u8>) {
        let pid = self.process.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(asked.unwrap().success());
        assert!(self.process.wait().unwrap().success());
        let log: Vec<String> = self.lines.iter().collect();
        let mut kept = Vec::new();
        for entry in std::fs::read_dir(self.directory.path()).unwrap() {
            let path = entry.unwrap().path();
            if path
                .file_name()
                .unwrap()
                .to_string_lossy()
                .starts_with("holdfast.db")
            {
                let mut file = std::fs::File::open(path).unwrap();
                file.read_to_end(&mut kept).unwrap();
            }
        }
        (log.join("\n"), kept)
    }
}

impl Drop for House {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn assert_code(&self, status: u16, code: &str) {
        let told = (self.status, self.header("holdfast-code"));
        assert_eq!(told, (status, code), "{self:?}");
    }

    /// What an answer says, after it was looked at that it is one.
    pub(crate) fn said(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()["content"][0]["text"]
            .as_str()
            .unwrap()
            .to_owned()
    }
}

pub(crate) fn question(model: &str) -> Value {
    json!({
        "model": model, "max_tokens": 4000,
        "messages": [{"role": "user", "content": "tell me"}],
    })
}

/// Waits for the line that says where it listens; the others come as they are said.
fn listening(stderr: ChildStderr) -> (SocketAddr, mpsc::Receiver<String>) {
    let (said, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            // The test may have ended.
            let _ = said.send(line);
        }
    });
    let mut before = Vec::new();
    while let Ok(line) = lines.recv_timeout(WATCHDOG) {
        if let Some((_, address)) = line.split_once("listens on http://") {
            return (address.parse().unwrap(), lines);
        }
        before.push(line);
    }
    panic!("it does not start: {}", before.join("\n"));
}
