//! `--keep`: lines to try by hand while everything goes on running.

use std::fmt::Write;
use std::net::SocketAddr;

use super::plan::{Ask, Dialect};

/// Curl lines for a gateway and the vendors behind it, the failing one first.
pub(super) fn lines(holdfast: SocketAddr, behind: [SocketAddr; 2]) -> String {
    let [north, south] = behind;
    let stream = Ask::text(Dialect::Anthropic, true);
    let tools = Ask::tools(Dialect::OpenAi, true);
    let plain = Ask::text(Dialect::OpenAi, false);
    let cut = "sim-cut-clean-half";
    let mut text = format!(
        "Everything goes on running until Ctrl-C: Holdfast at http://{holdfast}, \
         the vendors behind it at http://{north} and http://{south}.\n"
    );
    let mut try_it = |about: &str, command: String| {
        // Writing into a string cannot fail.
        let _ = write!(text, "\n# {about}\n{command}\n");
    };
    try_it(
        "a stream that the first vendor cuts neatly in the middle: straight, it just ends",
        curl(north, &stream, cut),
    );
    try_it(
        "the same through Holdfast: the second vendor goes on where the first one stopped",
        curl(holdfast, &stream, cut),
    );
    try_it(
        "a tool call whose arguments are cut under a clean end (a fault by another name: `fault:SPEC`)",
        curl(holdfast, &tools, "fault:tool-args-cut"),
    );
    try_it(
        "a plain call that meets a 529",
        curl(holdfast, &plain, "fault:status:529"),
    );
    try_it(
        "a plain call without a fault",
        curl(holdfast, &plain, plain.model()),
    );
    try_it(
        "what Holdfast did for the last one (`holdfast sim --list` has every fault)",
        format!("curl -s http://{holdfast}/holdfast/exchanges | head -c 600"),
    );
    text
}

/// The call as a command for a shell.
fn curl(address: SocketAddr, ask: &Ask, model: &str) -> String {
    let mut line = format!("curl -sN http://{address}{}", ask.path());
    for (name, value) in ask.headers() {
        // `Authorization` is not needed on loopback, and the type is what the body is read as anyway.
        if ask.dialect == Dialect::Anthropic && name == "anthropic-version" {
            let value = value.to_str().unwrap_or_default();
            let _ = write!(line, " -H '{name}: {value}'");
        }
    }
    let _ = write!(
        line,
        " -H 'content-type: application/json' -d '{}'",
        ask.body(model)
    );
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_are_commands_for_a_shell() {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let text = lines(address(1), [address(2), address(3)]);
        let commands: Vec<_> = text
            .lines()
            .filter(|line| line.starts_with("curl"))
            .collect();
        assert_eq!(commands.len(), 6);
        assert!(commands[0].contains("http://127.0.0.1:2/v1/messages"));
        assert!(commands[1].contains("http://127.0.0.1:1/v1/messages"));
        for command in &commands[..5] {
            let (_, body) = command.split_once("-d '").unwrap();
            let body = body.strip_suffix('\'').unwrap();
            assert!(!body.contains('\''), "{body}");
            assert!(
                serde_json::from_str::<serde_json::Value>(body).is_ok(),
                "{body}"
            );
        }
    }
}
