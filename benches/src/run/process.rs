//! Children that end with the run, and what the kernel says of their cost.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::Error;
use crate::load::Report;

/// `USER_HZ`: the unit of `/proc/PID/stat` is a hundredth of a second on every Linux of today.
const TICK: Duration = Duration::from_millis(10);
/// Ticks that the coarse clock may be ahead by: one each for user and system time of a few processes.
const GRAIN: u32 = 6;
/// How long a server may take until it accepts. `LiteLLM` takes a while.
const PATIENCE: Duration = Duration::from_mins(5);

/// A server in a process of its own, with all that it forked.
pub(crate) struct Server {
    /// None where the vendor itself is called.
    child: Option<Child>,
    pub(crate) port: u16,
}

impl Server {
    /// Nothing between the client and the vendor.
    pub(crate) fn nothing(vendor: u16) -> Self {
        Self {
            child: None,
            port: vendor,
        }
    }

    /// Starts a program that writes to `log`, and waits for nothing.
    pub(crate) fn spawn(command: &mut Command, port: u16, log: &Path) -> Result<Self, Error> {
        let file = fs::File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        let child = Some(child);
        Ok(Self { child, port })
    }

    /// Starts a program and waits until something accepts on `port`.
    pub(crate) fn start(command: &mut Command, port: u16, log: &Path) -> Result<Self, Error> {
        let mut server = Self::spawn(command, port, log)?;
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if server.ended()? || begun.elapsed() > PATIENCE {
                let said = fs::read_to_string(log)?;
                let end = said.lines().rev().take(5).collect::<Vec<_>>();
                return Err(format!("{command:?} does not accept: {end:?}").into());
            }
            pause(Duration::from_millis(20));
        }
        Ok(server)
    }

    pub(crate) fn ended(&mut self) -> Result<bool, Error> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_some()),
            None => Ok(false),
        }
    }

    /// Asks it to end, and waits until it did.
    pub(crate) fn finish(mut self) -> Result<(), Error> {
        if let Some(mut child) = self.child.take() {
            signal("-TERM", child.id());
            child.wait()?;
        }
        Ok(())
    }

    /// What CPU time its threads have had until now.
    pub(crate) fn cpu(&self) -> Result<Cpu, Error> {
        let mut cpu = Cpu::default();
        for pid in self.tree()? {
            cpu.ticks += ticks(pid)?;
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let task = task?;
                // A thread may end while it is looked at.
                let stat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                if let Some(nanos) = stat.split(' ').next().and_then(|nanos| nanos.parse().ok()) {
                    cpu.threads.insert(task.file_name(), nanos);
                }
            }
        }
        Ok(cpu)
    }

    /// KiB of memory of the whole tree, pages that are shared counted once (PSS).
    pub(crate) fn memory(&self) -> Result<f64, Error> {
        let mut kib = 0.0;
        for pid in self.tree()? {
            let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
            let amount = line.and_then(|line| line.split_whitespace().next());
            kib += amount.ok_or("no Pss line")?.parse::<f64>()?;
        }
        Ok(kib)
    }

    fn tree(&self) -> Result<Vec<u32>, Error> {
        let mut pids: Vec<u32> = self.child.iter().map(Child::id).collect();
        let mut next = 0;
        while let Some(pid) = pids.get(next) {
            // Whoever of its threads forked a child has it in its own list.
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let children = fs::read_to_string(task?.path().join("children"));
                for child in children.unwrap_or_default().split_whitespace() {
                    pids.push(child.parse()?);
                }
            }
            next += 1;
        }
        Ok(pids)
    }
}

/// CPU time, user and system, of a process tree.
#[derive(Default)]
pub(crate) struct Cpu {
    /// Of all, with threads that ended, in hundredths of a second.
    ticks: u32,
    /// Nanoseconds of each thread that runs, by its number.
    threads: HashMap<OsString, u64>,
}

impl Cpu {
    /// The time since an earlier moment. The clock of the threads is the finer one; where threads
    /// ended in the meantime, the coarse one knows more.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let spent = |(thread, nanos): (&OsString, &u64)| {
            let before = before.threads.get(thread).copied().unwrap_or(0);
            nanos.saturating_sub(before)
        };
        let fine = Duration::from_nanos(self.threads.iter().map(spent).sum());
        let coarse = TICK
            * self
                .ticks
                .saturating_sub(before.ticks)
                .saturating_sub(GRAIN);
        fine.max(coarse)
    }
}

/// User and system time of one process.
fn ticks(pid: u32) -> Result<u32, Error> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in brackets, which may hold blanks.
    let rest = stat.rsplit_once(") ").ok_or("an odd stat line")?.1;
    let fields: Vec<&str> = rest.split(' ').collect();
    Ok(fields[11].parse::<u32>()? + fields[12].parse::<u32>()?)
}

impl Drop for Server {
    fn drop(&mut self) {
        let tree = self.tree().unwrap_or_default();
        let Some(child) = &mut self.child else {
            return;
        };
        // A master that sees a worker die makes another one: it is halted before they go.
        signal("-STOP", child.id());
        for pid in tree.into_iter().rev() {
            signal("-KILL", pid);
        }
        let _ = child.wait();
    }
}

/// A process that is gone already is no error.
fn signal(name: &str, pid: u32) {
    let _ = Command::new("kill")
        .arg(name)
        .arg(pid.to_string())
        .stderr(Stdio::null())
        .status();
}

/// The load client, warm and waiting for its sign.
pub(crate) struct Client {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Client {
    pub(crate) fn ready(port: u16, args: &str) -> Result<Self, Error> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["load", "--port", &port.to_string()])
            .args(args.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().ok_or("no stdin")?;
        let output = BufReader::new(child.stdout.take().ok_or("no stdout")?);
        let mut client = Self {
            child,
            input,
            output,
        };
        let line = client.line()?;
        if line != "ready\n" {
            return Err(format!("the client is not ready: {line}").into());
        }
        Ok(client)
    }

    /// Gives the sign and waits for the report; `open` is called when all streams are open.
    pub(crate) fn go(self, open: impl FnOnce() -> Result<(), Error>) -> Result<Report, Error> {
        let report = self.quietly(open)?;
        if report.errors > 0 {
            eprintln!(
                "    {} of {} answers wrong, the first: {}",
                report.errors,
                report.errors + report.whole,
                report.first_error.as_deref().unwrap_or_default()
            );
        }
        Ok(report)
    }

    /// The same, where wrong answers are expected.
    pub(crate) fn quietly(
        mut self,
        open: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Report, Error> {
        self.input.write_all(b"\n")?;
        let mut line = self.line()?;
        if line == "open\n" {
            open()?;
            line = self.line()?;
        }
        let report: Report = serde_json::from_str(&line)?;
        self.child.wait()?;
        Ok(report)
    }

    fn line(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        Ok(line)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // After its report it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody has now.
pub(crate) fn free_port() -> Result<u16, Error> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Open connections from here to a port of this computer.
pub(crate) fn connections_to(port: u16) -> Result<u64, Error> {
    const ESTABLISHED: &str = "01";
    let remote = format!(":{port:04X}");
    let table = fs::read_to_string("/proc/net/tcp")?;
    let open = table.lines().skip(1).filter(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[2].ends_with(&remote) && fields[3] == ESTABLISHED
    });
    Ok(open.count() as u64)
}

/// Lets a server run; this thread has nothing else to do.
#[expect(
    clippy::disallowed_methods,
    reason = "memory is read at a moment, and a start in another process gives no event"
)]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpu(ticks: u32, threads: &[(&str, u64)]) -> Cpu {
        let threads = threads.iter().map(|(name, nanos)| ((*name).into(), *nanos));
        let threads = threads.collect();
        Cpu { ticks, threads }
    }

    #[test]
    fn counts_threads_by_the_finer_clock() {
        let (before, after) = (cpu(3, &[("1", 500)]), cpu(4, &[("1", 800), ("2", 50)]));
        assert_eq!(after.since(&before), Duration::from_nanos(350));
    }

    #[test]
    fn what_threads_did_that_ended_is_not_lost() {
        let (before, after) = (cpu(0, &[("1", 500)]), cpu(100, &[]));
        assert_eq!(after.since(&before), TICK * (100 - GRAIN));
    }
}
