//! A stream that is cut at any byte before its end is no answer, whatever the delivery.
//!
//! The end is found here by plain JSON: the frame with `message_stop`, or the one that brings the
//! last choice's finish reason. Behind it the outcome must be that of the whole stream.

use holdfast_core::exchange::{Outcome, Setup};
use holdfast_core::policy::Delivery;
use holdfast_wire::turn::Dialect;
use serde_json::Value;

use crate::dice::Dice;
use crate::drive::{DELIVERIES, DIALECTS, End, once, play, recorded};
use crate::script::{Look, Script};
use crate::sight::Sight;

/// Where the frame ends that makes the stream whole; `None` if none does.
fn terminal(dialect: Dialect, bytes: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(bytes).unwrap();
    let blank = if text.contains("\r\n") {
        "\r\n\r\n"
    } else {
        "\n\n"
    };
    let mut choices: Vec<(u64, bool)> = Vec::new();
    let mut at = 0;
    let mut last = None;
    for frame in text.split_inclusive(blank) {
        at += frame.len();
        let Some((_, data)) = frame.split_once("data: ") else {
            continue;
        };
        let Ok(json) = serde_json::from_str::<Value>(data.trim()) else {
            continue;
        };
        if dialect == Dialect::Anthropic && json["type"] == "message_stop" {
            return Some(at);
        }
        for choice in json["choices"].as_array().into_iter().flatten() {
            let index = choice["index"].as_u64().unwrap_or(0);
            let finished = choice["finish_reason"]
                .as_str()
                .is_some_and(|said| !said.is_empty());
            match choices.iter_mut().find(|(known, _)| *known == index) {
                Some((_, done)) => *done |= finished,
                None => choices.push((index, finished)),
            }
            if finished && choices.iter().all(|(_, done)| *done) {
                last.get_or_insert(at);
            }
        }
    }
    last
}

/// Every form in which the answer may reach a caller.
fn forms(vendor: Dialect) -> Vec<Setup> {
    let mut forms = Vec::new();
    for caller in DIALECTS {
        for delivery in DELIVERIES {
            forms.push(once(caller, true, vendor, delivery));
        }
        forms.push(once(caller, false, vendor, Delivery::Whole));
    }
    forms
}

/// Cuts `bytes` at every byte; each cut in one form, those around a frame's end in all. Gives the
/// number of cuts tried.
fn cut_everywhere(name: &str, dialect: Dialect, bytes: &[u8]) -> usize {
    let forms = forms(dialect);
    let wholes: Vec<End> = forms
        .iter()
        .map(|form| play(form.clone(), [bytes], Ok(())))
        .collect();
    let terminal = terminal(dialect, bytes);
    let mut tried = 0;
    for cut in 0..=bytes.len() {
        let edge = [&b"\n\n"[..], b"\n\r\n", b"\n\r"]
            .iter()
            .any(|end| bytes[..cut].ends_with(end));
        for (place, form) in forms.iter().enumerate() {
            if !edge && place != cut % forms.len() {
                continue;
            }
            tried += 1;
            let end = if cut % 3 == 0 {
                Err("reset".to_owned())
            } else {
                Ok(())
            };
            let cut_short = play(form.clone(), [&bytes[..cut]], end);
            let stream = form.wishes.stream;
            if terminal.is_none_or(|terminal| cut < terminal) {
                assert!(
                    matches!(cut_short.outcome, Outcome::Told(_)),
                    "{name} cut at {cut}, form {place}: {:?}",
                    cut_short.outcome
                );
                assert!(cut_short.body.is_none());
                let sight = Sight::of(form.wishes.dialect, &cut_short.shown);
                assert!(
                    !stream || !sight.is_whole(form.wishes.dialect),
                    "{name} cut at {cut}, form {place} looks whole"
                );
            } else if wholes[place].is_delivered() {
                assert_eq!(
                    cut_short.outcome, wholes[place].outcome,
                    "{name} cut at {cut}, form {place}"
                );
            }
        }
    }
    tried
}

#[test]
fn no_cut_of_a_recorded_stream_is_an_answer() {
    let tried: usize = recorded()
        .iter()
        .map(|stream| cut_everywhere(&stream.name, stream.dialect, &stream.bytes))
        .sum();
    assert!(tried > 50_000, "{tried}");
}

#[test]
fn no_cut_of_a_generated_stream_is_an_answer() {
    let mut tried = 0;
    for seed in 0..24 {
        let mut dice = Dice::new(seed);
        let dialect = dice.of(&DIALECTS);
        let script = Script::any(&mut dice, 3);
        let mut look = Look::any(&mut dice);
        // Every frame is read anew for every cut behind it: few of them.
        look.piece += 8;
        let bytes = script.frames(dialect, look, 0).concat().into_bytes();
        assert!(terminal(dialect, &bytes).is_some());
        for form in forms(dialect) {
            let whole = play(form, [&bytes[..]], Ok(()));
            assert!(whole.is_delivered(), "seed {seed}: {:?}", whole.outcome);
        }
        tried += cut_everywhere(&format!("seed {seed}"), dialect, &bytes);
    }
    assert!(tried > 10_000, "{tried}");
}
