//! The client on real sockets: for each way in which a vendor fails, what a program is left with.

use std::net::Ipv4Addr;

use holdfast_sim::Sim;

use super::*;
use crate::commands::demo::plan::Dialect;
use crate::commands::demo::verdict::{Outcome, judge};

/// Longer than any answer takes here.
const LONG: Duration = Duration::from_mins(1);
const STREAM: bool = true;
const PLAIN: bool = false;
const DIALECTS: [Dialect; 2] = [Dialect::Anthropic, Dialect::OpenAi];

async fn outcome(fault: &str, ask: &Ask, patience: Duration) -> Outcome {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let sim = Sim::builder().bind(address).await.unwrap();
    sim.set_fault(&fault.parse().unwrap());
    let answer = call(sim.addr(), ask, patience).await;
    sim.shutdown().await;
    judge(ask, &answer.held, answer.end)
}

#[tokio::test]
async fn texts_are_classified_by_what_a_program_holds() {
    let table = [
        ("ok", STREAM, Outcome::Whole),
        ("ok", PLAIN, Outcome::Whole),
        ("comments", STREAM, Outcome::Whole),
        ("crlf", STREAM, Outcome::Whole),
        ("split:3", STREAM, Outcome::Whole),
        ("cut-clean:half", STREAM, Outcome::Half),
        ("cut-eof:half", STREAM, Outcome::Half),
        ("cut-fin:half", STREAM, Outcome::Told),
        ("cut-rst:half", STREAM, Outcome::Told),
        ("error-in-band:6", STREAM, Outcome::Told),
        ("status:529", STREAM, Outcome::Told),
        ("status:500", PLAIN, Outcome::Told),
        ("reset-before-headers", STREAM, Outcome::Told),
        ("short-mismatch", PLAIN, Outcome::Told),
        ("short-matching", PLAIN, Outcome::Told),
        ("empty-200", STREAM, Outcome::Silent),
        ("html-200", PLAIN, Outcome::Silent),
        ("json-error-200", PLAIN, Outcome::Silent),
        ("no-stop", STREAM, Outcome::Half),
    ];
    for dialect in DIALECTS {
        for (fault, stream, expected) in table {
            let ask = Ask::text(dialect, stream);
            let found = outcome(fault, &ask, LONG).await;
            assert_eq!(found, expected, "{fault}, {dialect:?}, stream: {stream}");
        }
    }
}

#[tokio::test]
async fn tool_calls_are_classified_by_what_would_be_run() {
    let table = [
        ("ok", STREAM, Outcome::Whole),
        ("ok", PLAIN, Outcome::Whole),
        ("tool-args-cut", STREAM, Outcome::Half),
        ("cut-clean:tool", STREAM, Outcome::Half),
        ("cut-rst:tool", STREAM, Outcome::Told),
    ];
    for dialect in DIALECTS {
        for (fault, stream, expected) in table {
            let ask = Ask::tools(dialect, stream);
            let found = outcome(fault, &ask, LONG).await;
            assert_eq!(found, expected, "{fault}, {dialect:?}, stream: {stream}");
        }
    }
}

#[tokio::test]
async fn silence_and_mere_pings_are_hung() {
    let faults = [
        ("stall:8", STREAM),
        ("stall-pings:8:10", STREAM),
        ("hang-before-headers", PLAIN),
    ];
    for dialect in DIALECTS {
        for (fault, stream) in faults {
            let ask = Ask::text(dialect, stream);
            let found = outcome(fault, &ask, Duration::from_millis(300)).await;
            assert_eq!(found, Outcome::Hung, "{fault}, {dialect:?}");
        }
    }
}
