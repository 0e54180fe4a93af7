//! How soon a proxy answers after its start, what it holds when idle, and how large it is.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::process::{Server, pause};
use super::rows::{Kind, Place, Row, USUAL};
use super::table::{Samples, markdown};
use crate::Error;
use crate::script::{self, Asked, Dialect};

/// The longest that a start may take.
const PATIENCE: Duration = Duration::from_mins(5);
/// Memory is read so long after the first answer.
const SETTLED: Duration = Duration::from_secs(1);

#[derive(Clone, Default)]
pub(crate) struct Start {
    pub(crate) answer_ms: Samples,
    pub(crate) idle_mib: Samples,
    pub(crate) size_mib: Samples,
}

impl Start {
    /// Starts a proxy some times in the same directory: the first start makes what is made once
    /// (Holdfast's store) and reads the binary from the disk, the others count. `LiteLLM` counts at once.
    /// The last one is left running.
    pub(crate) fn measure(
        &mut self,
        row: Row,
        place: &Place,
        starts: usize,
    ) -> Result<Server, Error> {
        let directory = row.directory(place)?;
        let slow = row.kind == Kind::Litellm;
        if !slow {
            once(row, place, &directory)?.1.finish()?;
        }
        let mut answers = Samples::default();
        let (took, mut server) = once(row, place, &directory)?;
        answers.push(took.as_secs_f64() * 1e3);
        for _ in 1..if slow { 1 } else { starts } {
            server.finish()?;
            let (took, next) = once(row, place, &directory)?;
            answers.push(took.as_secs_f64() * 1e3);
            server = next;
        }
        pause(SETTLED);
        self.idle_mib.push(server.memory()? / 1024.0);
        self.answer_ms.push(answers.median().unwrap_or(f64::NAN));
        self.size_mib.push(size(row, place)?);
        Ok(server)
    }

    pub(crate) fn miss(&mut self) {
        for samples in [&mut self.answer_ms, &mut self.idle_mib, &mut self.size_mib] {
            samples.push(f64::NAN);
        }
    }
}

/// One start, and the time until a whole answer was there.
fn once(row: Row, place: &Place, directory: &Path) -> Result<(Duration, Server), Error> {
    let (mut command, port) = row.command(place, &USUAL, directory)?;
    let begun = Instant::now();
    let mut server = Server::spawn(&mut command, port, &directory.join("log"))?;
    while !answers(port)? {
        if begun.elapsed() > PATIENCE || server.ended()? {
            let said = fs::read_to_string(directory.join("log"))?;
            let end = said.lines().rev().take(5).collect::<Vec<_>>();
            return Err(format!("{} did not start: {end:?}", row.name).into());
        }
        pause(Duration::from_micros(200));
    }
    Ok((begun.elapsed(), server))
}

/// Whether a call is answered whole.
fn answers(port: u16) -> Result<bool, Error> {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return Ok(false);
    };
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let body = script::request(Dialect::Openai, "bench", &Asked::default());
    let head = format!(
        "POST {} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\nauthorization: Bearer bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        Dialect::Openai.path(),
        body.len()
    );
    let mut answer = Vec::new();
    let asked = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(&body))
        .and_then(|()| stream.read_to_end(&mut answer));
    match asked {
        Ok(_) => Ok(memchr::memmem::find(&answer, script::text().as_bytes()).is_some()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(error.into()),
        Err(_) => Ok(false),
    }
}

/// MiB of the binary, or of a Python environment with all that is in it.
fn size(row: Row, place: &Place) -> Result<f64, Error> {
    let path: PathBuf = match row.kind {
        Kind::Nginx => place.nginx.clone(),
        Kind::Haproxy => place.haproxy.clone(),
        Kind::Holdfast(_) => place.holdfast.clone(),
        Kind::Litellm => place.litellm.clone().ok_or("LiteLLM is not installed")?,
        Kind::Bare(_) | Kind::Direct => std::env::current_exe()?,
    };
    let bytes: f64 = if path.is_dir() {
        let said = Command::new("du").arg("-sb").arg(&path).output()?.stdout;
        let said = String::from_utf8(said)?;
        said.split_whitespace()
            .next()
            .ok_or("du is silent")?
            .parse()?
    } else {
        super::measure::count(fs::metadata(path)?.len())
    };
    Ok(bytes / f64::from(1 << 20))
}

pub(crate) fn table(rows: &[(Row, &Start)]) -> String {
    let lines: Vec<Vec<String>> = rows
        .iter()
        .map(|(row, start)| {
            vec![
                row.name.to_owned(),
                start.answer_ms.shown(1),
                start.idle_mib.shown(1),
                start.size_mib.middle(1),
            ]
        })
        .collect();
    markdown(
        &[
            "",
            "start to first answer, ms",
            "idle memory, MiB (PSS)",
            "binary, MiB",
        ],
        &lines,
    )
}
