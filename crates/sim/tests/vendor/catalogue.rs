//! Every case of the catalogue, played over a real socket and read by a strict client of its own: the bytes must
//! hold a whole answer exactly where the catalogue says so.

use std::sync::Arc;

use crate::support::{Call, End, Heard, Made, make};
use holdfast_sim::{Case, Dialect, Sim, Truth, check_text, faults};

/// The stop reasons under which an answer is whole.
const WHOLE: [&str; 6] = [
    "end_turn",
    "tool_use",
    "stop",
    "tool_calls",
    "eos_token",
    "stop_sequence",
];

fn is_whole(made: &Made, heard: &Heard, framing_matters: bool) -> bool {
    let ended = !framing_matters || matches!(heard.end, End::Framed);
    let arguments = made.calls.iter().all(|(_, arguments)| {
        serde_json::from_str::<serde_json::Value>(arguments)
            .is_ok_and(|value| value["city"].as_str().is_some_and(check_text))
    });
    let content = if made.calls.is_empty() {
        check_text(&made.text)
    } else {
        arguments
    };
    let stop = made
        .stop
        .as_deref()
        .is_some_and(|stop| WHOLE.contains(&stop));
    heard.status == 200 && ended && content && stop && made.terminal && !made.error && !made.broken
}

fn verify(case: &Case, heard: &Heard) -> Result<(), String> {
    let packed = case.spec == "gzip";
    let unpacked;
    let heard = if packed {
        let mut body = Vec::new();
        std::io::copy(
            &mut flate2::read::GzDecoder::new(&heard.body[..]),
            &mut body,
        )
        .map_err(|error| error.to_string())?;
        unpacked = Heard {
            status: heard.status,
            head: heard.head.clone(),
            body,
            end: heard.end,
        };
        &unpacked
    } else {
        heard
    };
    if case.hangs != (heard.end == End::Silent) {
        return Err(format!(
            "hangs: {}, but the end was {:?}",
            case.hangs, heard.end
        ));
    }
    if case.truth == Truth::Error {
        let code: u16 = case
            .spec
            .split(':')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .unwrap_or(heard.status);
        let refused = heard.status >= 400 && heard.status == code && heard.end == End::Framed;
        return if refused {
            Ok(())
        } else {
            Err(format!("status {}", heard.status))
        };
    }
    let made = make(case.dialect, case.stream, heard);
    // A body without framing, and one that stays open after its end, are whole by their content alone.
    let framing_matters = !matches!(
        case.spec.as_str(),
        "eof-body" | "silent-after-finish" | "silent-after-terminal"
    );
    let whole = is_whole(&made, heard, framing_matters);
    if whole == (case.truth == Truth::Whole) {
        Ok(())
    } else {
        Err(format!("whole: {whole}, end {:?}, {made:?}", heard.end))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_is_what_it_says() {
    let sim = Sim::builder()
        .bind(([127, 0, 0, 1], 0).into())
        .await
        .unwrap();
    let address = sim.addr();
    let limit = Arc::new(tokio::sync::Semaphore::new(64));
    let mut tasks = tokio::task::JoinSet::new();
    for case in faults() {
        let limit = Arc::clone(&limit);
        tasks.spawn(async move {
            let _permit = limit.acquire_owned().await.unwrap();
            tokio::task::spawn_blocking(move || {
                // The padding of the oversized event is shortened: its length is not what is tested here.
                let spec = case.spec.replace("33554432", "65536");
                let call = Call::new(case.dialect, &format!("fault:{spec}"), case.stream);
                let call = if case.needs_tools { call.tools() } else { call };
                let heard = call.send(address);
                verify(&case, &heard).map_err(|why| {
                    format!(
                        "{} {} stream={}: {why}",
                        case.spec, case.dialect, case.stream
                    )
                })
            })
            .await
            .unwrap()
        });
    }
    let mut wrong = Vec::new();
    while let Some(result) = tasks.join_next().await {
        wrong.extend(result.unwrap().err());
    }
    wrong.sort();
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    sim.shutdown().await;
}

/// A cut anywhere before the stop reason is never a whole answer, and what came before it is a prefix of the whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_at_any_byte_is_a_prefix() {
    let sim = Sim::builder()
        .bind(([127, 0, 0, 1], 0).into())
        .await
        .unwrap();
    let address = sim.addr();
    tokio::task::spawn_blocking(move || {
        for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
            let whole = Call::new(dialect, "sim-ok", true).send(address).text();
            for bytes in (0..whole.len()).step_by(37) {
                let heard = Call::new(dialect, "sim-ok", true)
                    .ask(&format!(
                        "[[seed:11 words:30]] [[fault:cut-fin:bytes:{bytes}]]"
                    ))
                    .send(address);
                assert_eq!(heard.end, End::Fin);
                // Ids are numbered, so only the lengths of the prefixes are equal.
                assert!(heard.body.len() <= bytes);
                assert!(!is_whole(&make(dialect, true, &heard), &heard, false));
            }
        }
    })
    .await
    .unwrap();
    sim.shutdown().await;
}
