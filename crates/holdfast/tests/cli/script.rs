//! A gateway that answers from a script: one request for each connection, in order.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

/// A request that was made.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `GET /v1/tickets?limit=50`.
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Value,
}

pub(crate) struct Script {
    url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
    serving: Option<JoinHandle<()>>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

impl Script {
    /// Gives these answers, one after the other, and ends.
    pub(crate) fn new(answers: Vec<Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = asked.clone();
        let serving = std::thread::spawn(move || {
            for answer in answers {
                let (stream, _) = listener.accept().unwrap();
                let request = read(&stream);
                seen.lock().unwrap().push(request);
                // A client that has enough hangs up.
                let _ = (&stream).write_all(&answer);
            }
        });
        Self {
            url,
            asked,
            serving: Some(serving),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What was asked; every answer of the script must have been given.
    pub(crate) fn asked(mut self) -> Vec<Asked> {
        self.serving.take().unwrap().join().unwrap();
        self.asked.lock().unwrap().clone()
    }
}

fn read(stream: &TcpStream) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let headers: Vec<(String, String)> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Asked {
        line: lines[0].trim_end_matches(" HTTP/1.1").to_owned(),
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    }
}

pub(crate) fn raw(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

pub(crate) fn json(value: &Value) -> Vec<u8> {
    answer(200, "", &value.to_string())
}

pub(crate) fn refusal(status: u16, code: &str, message: &str) -> Vec<u8> {
    let body = serde_json::json!({"error": {"message": message, "type": "x", "code": "y"}});
    answer(
        status,
        &format!("holdfast-code: {code}\r\n"),
        &body.to_string(),
    )
}

/// Server-sent events, until the connection ends.
pub(crate) fn events(events: &[Value]) -> Vec<u8> {
    let mut text = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\nretry: 1000\nid: 0\n\n".to_owned();
    for event in events {
        let frame = format!("id: {0}\nevent: x\ndata: {event}\n\n", event["seq"]);
        text.push_str(&frame);
    }
    text.into_bytes()
}

fn answer(status: u16, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
