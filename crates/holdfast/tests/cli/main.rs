//! The commands that speak to a gateway, as the real binary against a scripted one on a real socket.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod approvals;
mod check;
mod effects;
mod gap;
mod review;
mod runs;
mod script;
mod store;

use std::io::Write as _;
use std::process::{Command, Stdio};

use script::Script;

/// What came of a command.
struct Outcome {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs the binary with nothing of this process's environment that it would read.
fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.args(args);
    for name in [
        "HOLDFAST_URL",
        "HOLDFAST_KEY",
        "HOLDFAST_BY",
        "HOLDFAST_CA_FILE",
        "HOLDFAST_CONFIG",
    ] {
        command.env_remove(name);
    }
    command
}

fn run_with(mut command: Command, input: &str) -> Outcome {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that reads nothing may be gone before all is written.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Outcome {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn holdfast(args: &[&str]) -> Outcome {
    run_with(command(args), "")
}

/// Runs the binary against a script.
fn against(script: &Script, args: &[&str]) -> Outcome {
    let mut command = command(args);
    command.env("HOLDFAST_URL", script.url());
    run_with(command, "")
}

impl Outcome {
    /// Its output, if it ended well.
    fn told(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }
}

#[test]
fn a_gateway_that_is_not_there_is_told_with_help() {
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", free.local_addr().unwrap());
    drop(free);
    let outcome = holdfast(&["review", "list", "--url", &url]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("no connection to"), "{}", outcome.err);
    assert!(
        outcome.err.contains("help: is it running?"),
        "{}",
        outcome.err
    );
    assert_eq!(outcome.out, "");
}

#[test]
fn wrong_command_lines_end_with_two() {
    for args in [
        &["review", "list", "--url", "127.0.0.1:4000"][..],
        &["review", "list", "--limit", "0"],
        &["review", "answer", "id"],
        &["review", "answer", "id", "--text", "a", "--file", "b"],
        &["review", "answer", "id", "--file", "/there/is/none"],
        &["review", "effect", "id", "perhaps"],
        &["runs", "end", "run", "open"],
        &["effects", "send"],
        &["effects", "send", "crm", "--header", "none"],
        &["approvals", "ask", "?", "--wait", "soon"],
        &["gap", "--steps", "6"],
        &["gap", "--runs-ok", "1", "--runs-total", "2"],
        &["store"],
    ] {
        let outcome = holdfast(args);
        assert_eq!(outcome.code, Some(2), "{args:?}: {}", outcome.err);
        assert_eq!(outcome.out, "", "{args:?}");
    }
}

#[test]
fn every_command_has_help_with_examples() {
    for name in ["review", "runs", "effects", "approvals", "gap", "store"] {
        let told = holdfast(&[name, "--help"]).told();
        assert!(told.contains("Examples:"), "{name}: {told}");
    }
}

#[test]
fn refusals_are_the_gateways_words() {
    let script = Script::new(vec![script::refusal(
        404,
        "HF-031",
        "there is no ticket `x` (HF-031)",
    )]);
    let outcome = against(&script, &["review", "show", "x"]);
    assert_eq!(outcome.code, Some(1));
    assert_eq!(
        outcome.err,
        "error: there is no ticket `x` (HF-031)\nhelp: `holdfast explain HF-031`\n"
    );
}

#[test]
fn a_key_is_sent_and_never_shown() {
    let script = Script::new(vec![script::refusal(
        401,
        "HF-005",
        "the key is not known here (HF-005)",
    )]);
    let mut command = command(&["runs", "list"]);
    command.env("HOLDFAST_URL", script.url());
    command.env("HOLDFAST_KEY", "hf-canary-4711");
    let outcome = run_with(command, "");
    assert_eq!(outcome.code, Some(1));
    assert!(!outcome.err.contains("canary"), "{}", outcome.err);
    assert!(outcome.err.contains("HOLDFAST_KEY"), "{}", outcome.err);
    let asked = script.asked();
    assert_eq!(
        asked[0].header("authorization"),
        Some("Bearer hf-canary-4711")
    );
}

#[test]
fn something_else_that_listens_is_no_gateway() {
    for answer in [
        script::raw("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 4\r\n\r\noops"),
        script::raw("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>"),
    ] {
        let script = Script::new(vec![answer]);
        let outcome = against(&script, &["runs", "list"]);
        assert_eq!(outcome.code, Some(1));
        assert!(
            outcome.err.contains("does not answer like"),
            "{}",
            outcome.err
        );
    }
    // Cut off in the middle: nobody knows.
    let script = Script::new(vec![script::raw(
        "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{",
    )]);
    let outcome = against(&script, &["runs", "list"]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("is not known"), "{}", outcome.err);
}
