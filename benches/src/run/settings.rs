//! On what and with what was measured.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::rows::{Place, WORKERS};

pub(crate) fn said(place: &Place, rounds: usize, quick: bool) -> String {
    let litellm = match &place.litellm {
        Some(venv) => first_line(&venv.join("bin/python"), &["-c", LITELLM_VERSION]),
        None => "not installed, so without its rows".to_owned(),
    };
    let nginx = first_line(&place.nginx, &["-v"]).replace("nginx version: nginx/", "");
    let haproxy = first_line(&place.haproxy, &["-v"]);
    let haproxy = haproxy.split_whitespace().nth(2).unwrap_or_default();
    let holdfast = first_line(&place.holdfast, &["--version"]);
    let length = if quick {
        "short rounds, rough numbers"
    } else {
        "whole rounds"
    };
    format!(
        "{}, {rounds} x {length}. {} cores ({}), Linux {}. nginx {nginx}, haproxy {haproxy}, LiteLLM {litellm}, \
         {holdfast}; {WORKERS} workers each.\n",
        first_line(Path::new("date"), &["-u", "+%Y-%m-%d %H:%M UTC"]),
        std::thread::available_parallelism().map_or(0, usize::from),
        cpu(),
        first_line(Path::new("uname"), &["-r"])
            .split('-')
            .next()
            .unwrap_or_default(),
    )
}

const LITELLM_VERSION: &str = "from importlib.metadata import version; print(version('litellm'))";

/// What a program says first, wherever it says it.
fn first_line(program: &Path, args: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(args).output() else {
        return "unknown".to_owned();
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    said.lines().next().unwrap_or_default().trim().to_owned()
}

fn cpu() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find(|line| line.starts_with("model name"));
    let name = name.and_then(|line| line.split_once(": "));
    name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.to_owned())
}
