//! What the clients of one piece of work have seen, and whether it fits together.
//!
//! Pure bookkeeping: a reply goes in with its moments, and what it means for the client comes out.
//! An answer counts as *accepted* when a caller could use it: the whole body came, or the terminal
//! event of its stream did, whatever became of the connection afterwards.

use std::time::Instant;

use serde_json::Value;

use crate::client::{Heard, Reply};
use crate::plan::Call;
use crate::words::{Reading, read_plain, read_stream};

/// What follows for the client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum After {
    /// It has its end.
    Settled,
    /// Not yet: repeat with the same key.
    Again(String),
    /// Nothing that the promises allow; in words.
    Wrong(String),
}

/// When a call was begun and heard.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) invoked: Instant,
    pub(crate) heard: Instant,
}

/// The first accepted answer of a key.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) at: Instant,
    pub(crate) call: u64,
    body: Vec<u8>,
    content_type: Option<String>,
    /// The transport's own end was seen as well.
    is_entire: bool,
}

/// All that was seen of a keyed call.
#[derive(Debug, Default)]
pub(crate) struct CallSeen {
    pub(crate) accepted: Option<Accepted>,
    pub(crate) accepts: u64,
    /// Accepted answers that are not the first one.
    pub(crate) differing: u64,
    /// Repeats of an accepted answer without `Idempotent-Replayed`.
    pub(crate) unmarked: u64,
    /// A transport that ended as if a part were the whole, or a whole that is none.
    pub(crate) halves: u64,
    /// Where the answer is to be fetched, once some caller was told that the call is sure to be made.
    pub(crate) promised: Option<String>,
    /// Looks at that place that found nothing.
    pub(crate) forgotten: u64,
    /// The call lies in the review queue: only a repeat begins a new round.
    pub(crate) is_in_review: bool,
}

/// How an effect ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum End {
    Done,
    Failed,
    Doubt,
}

#[derive(Clone, Debug)]
pub(crate) struct EffectEnd {
    pub(crate) end: End,
    pub(crate) at: Instant,
    pub(crate) id: String,
    pub(crate) result: Value,
    pub(crate) ticket: Option<String>,
}

/// All that was seen of an effect.
#[derive(Debug, Default)]
pub(crate) struct EffectSeen {
    pub(crate) first_asked: Option<Instant>,
    pub(crate) ended: Option<EffectEnd>,
    pub(crate) differing: u64,
    pub(crate) unmarked: u64,
}

/// All that was seen of a step.
#[derive(Debug, Default)]
pub(crate) struct StepSeen {
    /// Results whose completion was acknowledged, or that a later beginner was given.
    pub(crate) results: Vec<Value>,
    pub(crate) is_done: bool,
}

const IN_REVIEW: &str = "HF-030";

/// Codes that a repeat with the same key outlives.
const PASSING: [&str; 13] = [
    "HF-010", "HF-011", "HF-012", "HF-013", "HF-014", "HF-015", "HF-018", "HF-019", "HF-024",
    "HF-028", "HF-029", "HF-030", "HF-035",
];

/// What an answer other than the hoped-for one means.
pub(crate) fn passing(reply: &Reply) -> After {
    match reply.code() {
        Some(code) if PASSING.contains(&code.as_str()) => After::Again(reply.brief()),
        // Cut before the body that says why.
        _ if !reply.ended => After::Again(reply.brief()),
        _ => After::Wrong(reply.brief()),
    }
}

// === impl CallSeen ===

impl CallSeen {
    pub(crate) fn hear(&mut self, call: &Call, span: Span, heard: &Heard) -> After {
        let reply = match heard {
            Heard::Reply(reply) => reply,
            Heard::Refused | Heard::Lost => return After::Again(heard.brief()),
        };
        self.is_in_review = reply.code().as_deref() == Some(IN_REVIEW);
        if reply.status == 202 && call.is_async {
            return self.promise(reply);
        }
        if reply.status != 200 {
            return passing(reply);
        }
        let key = &call.marker.key;
        let reading = if call.stream {
            read_stream(call.dialect, key, &reply.body)
        } else if reply.ended {
            read_plain(call.dialect, key, &reply.body)
        } else {
            Reading::Unfinished
        };
        match reading {
            Reading::Whole { call } => self.accept(call, span, reply),
            Reading::Unfinished if !reply.ended => After::Again("cut".to_owned()),
            Reading::Unfinished | Reading::Wrong => {
                self.halves += 1;
                After::Wrong(format!("not a whole answer: {}", reply.brief()))
            }
        }
    }

    fn promise(&mut self, reply: &Reply) -> After {
        let Some(place) = reply.header("location") else {
            return After::Wrong(format!("accepted, and no place: {}", reply.brief()));
        };
        self.promised = Some(place.to_owned());
        After::Again(reply.brief())
    }

    /// A look at the promised place.
    pub(crate) fn look(&mut self, call: &Call, span: Span, heard: &Heard) -> After {
        if matches!(heard, Heard::Reply(reply) if reply.status == 404) {
            self.forgotten += 1;
            return After::Wrong(format!("accepted, and forgotten: {}", heard.brief()));
        }
        self.hear(call, span, heard)
    }

    fn accept(&mut self, call: u64, span: Span, reply: &Reply) -> After {
        self.accepts += 1;
        let Some(first) = &mut self.accepted else {
            self.accepted = Some(Accepted {
                at: span.heard,
                call,
                body: reply.body.clone(),
                content_type: reply.header("content-type").map(str::to_owned),
                is_entire: reply.ended,
            });
            return After::Settled;
        };
        if span.invoked > first.at && !reply.is_replayed() {
            self.unmarked += 1;
            return After::Wrong(format!("a repeat that is not marked: {}", reply.brief()));
        }
        let is_same_type = first.content_type.as_deref() == reply.header("content-type");
        if !is_same_type || !fit(first, reply) {
            self.differing += 1;
            let first = String::from_utf8_lossy(&first.body).into_owned();
            return After::Wrong(format!(
                "another answer than before: {}\nbefore: {first}",
                reply.brief()
            ));
        }
        if reply.ended && !first.is_entire {
            first.body.clone_from(&reply.body);
            first.is_entire = true;
        }
        // Who is heard first need not be who was answered first.
        first.at = first.at.min(span.heard);
        After::Settled
    }
}

/// Equal, or as equal as a cut behind the terminal event allows.
fn fit(first: &Accepted, reply: &Reply) -> bool {
    match (first.is_entire, reply.ended) {
        (true, true) => first.body == reply.body,
        (true, false) => first.body.starts_with(&reply.body),
        (false, true) => reply.body.starts_with(&first.body),
        (false, false) => {
            first.body.starts_with(&reply.body) || reply.body.starts_with(&first.body)
        }
    }
}

// === impl EffectSeen ===

impl EffectSeen {
    pub(crate) fn hear(&mut self, span: Span, heard: &Heard) -> After {
        self.first_asked.get_or_insert(span.invoked);
        let reply = match heard {
            Heard::Reply(reply) if reply.ended => reply,
            Heard::Reply(_) | Heard::Refused | Heard::Lost => return After::Again(heard.brief()),
        };
        if reply.status != 200 && reply.status != 202 {
            return passing(reply);
        }
        let shown = reply.json();
        let end = match shown["state"].as_str() {
            Some("recorded" | "sending") => return After::Again(reply.brief()),
            Some("done") => End::Done,
            Some("failed") => End::Failed,
            Some("doubt") => End::Doubt,
            _ => return After::Wrong(format!("not an effect: {}", reply.brief())),
        };
        let ended = EffectEnd {
            end,
            at: span.heard,
            id: shown["id"].as_str().unwrap_or_default().to_owned(),
            result: shown["result"].clone(),
            ticket: shown["ticket"].as_str().map(str::to_owned),
        };
        let Some(first) = &self.ended else {
            self.ended = Some(ended);
            return After::Settled;
        };
        if span.invoked > first.at && !reply.is_replayed() {
            self.unmarked += 1;
            return After::Wrong(format!("a repeat that is not marked: {}", reply.brief()));
        }
        let is_same = first.end == ended.end
            && first.id == ended.id
            && first.result == ended.result
            && first.ticket == ended.ticket;
        if !is_same {
            self.differing += 1;
            return After::Wrong(format!(
                "another end than before, {first:?}: {}",
                reply.brief()
            ));
        }
        After::Settled
    }
}

// === impl StepSeen ===

impl StepSeen {
    /// A result that counts as the step's.
    pub(crate) fn result(&mut self, result: &Value) {
        if !self.results.contains(result) {
            self.results.push(result.clone());
        }
        self.is_done = true;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderMap, HeaderValue, StatusCode};

    use super::*;
    use crate::words::{self, Dialect, Marker};

    fn call(stream: bool) -> Call {
        Call {
            dialect: Dialect::OpenAi,
            stream,
            delivery: "live",
            marker: Marker {
                key: "k".to_owned(),
                sick: 0,
                slow: 0,
            },
            is_derived: false,
            is_async: false,
        }
    }

    fn reply(status: u16, body: &str, is_replayed: bool) -> Reply {
        let mut headers = HeaderMap::new();
        if is_replayed {
            headers.insert("idempotent-replayed", HeaderValue::from_static("true"));
        }
        Reply {
            status: StatusCode::from_u16(status).unwrap(),
            headers,
            body: body.as_bytes().to_vec(),
            ended: true,
        }
    }

    /// Calls that follow each other.
    fn spans() -> impl Iterator<Item = Span> {
        let zero = Instant::now();
        (0..).map(move |n| Span {
            invoked: zero + Duration::from_millis(2 * n),
            heard: zero + Duration::from_millis(2 * n + 1),
        })
    }

    fn plain(call: u64) -> String {
        words::plain(Dialect::OpenAi, "k", call).to_string()
    }

    #[test]
    fn the_same_answer_again_is_fine_if_it_is_marked() {
        let (mut seen, mut spans) = (CallSeen::default(), spans());
        let mut hear = |reply: Reply| {
            let after = seen.hear(&call(false), spans.next().unwrap(), &Heard::Reply(reply));
            (after, seen.differing, seen.unmarked, seen.halves)
        };
        assert_eq!(hear(reply(200, &plain(4), false)).0, After::Settled);
        assert_eq!(hear(reply(200, &plain(4), true)).0, After::Settled);
        assert!(matches!(
            hear(reply(200, &plain(4), false)),
            (After::Wrong(_), 0, 1, 0)
        ));
        assert!(matches!(
            hear(reply(200, &plain(5), true)),
            (After::Wrong(_), 1, 1, 0)
        ));
        let spaced = format!("{} ", plain(4));
        assert!(matches!(
            hear(reply(200, &spaced, true)),
            (After::Wrong(_), 2, 1, 0)
        ));
        assert!(matches!(
            hear(reply(200, &plain(4)[..40], true)),
            (After::Wrong(_), 2, 1, 1)
        ));
    }

    #[test]
    fn an_accepted_call_is_looked_for_and_must_be_there() {
        let (mut seen, mut spans) = (CallSeen::default(), spans());
        let call = Call {
            is_async: true,
            ..call(false)
        };
        let mut accepted = reply(202, "{}", false);
        let place = HeaderValue::from_static("/v1/calls/k");
        accepted.headers.insert("location", place);
        let mut look = |reply| {
            let after = seen.look(&call, spans.next().unwrap(), &Heard::Reply(reply));
            (after, seen.forgotten, seen.is_in_review)
        };
        assert!(matches!(look(accepted), (After::Again(_), 0, false)));
        let mut in_review = reply(503, "{}", false);
        let code = HeaderValue::from_static(IN_REVIEW);
        in_review.headers.insert("holdfast-code", code);
        assert!(matches!(look(in_review), (After::Again(_), 0, true)));
        assert!(matches!(
            look(reply(404, "{}", false)),
            (After::Wrong(_), 1, true)
        ));
        let last = look(reply(200, &plain(4), true));
        assert_eq!(last, (After::Settled, 1, false));
        assert_eq!(seen.promised.as_deref(), Some("/v1/calls/k"));
    }

    #[test]
    fn a_stream_is_accepted_with_its_terminal_event_even_if_it_is_cut_then() {
        let (mut seen, mut spans) = (CallSeen::default(), spans());
        let body = words::events(Dialect::OpenAi, "k", 9).concat();
        let cut = |body: &str| Reply {
            ended: false,
            ..reply(200, body, true)
        };
        let mut hear =
            |reply: Reply| seen.hear(&call(true), spans.next().unwrap(), &Heard::Reply(reply));
        assert!(matches!(
            hear(cut(&body[..body.len() - 5])),
            After::Again(_)
        ));
        assert_eq!(hear(cut(&body)), After::Settled);
        assert_eq!(
            hear(reply(200, &format!("{body}: more\n\n"), true)),
            After::Settled
        );
        // Now all of it is known.
        assert!(matches!(hear(reply(200, &body, true)), After::Wrong(_)));
    }

    #[test]
    fn a_stream_that_ends_neatly_without_its_terminal_event_is_half() {
        let (mut seen, mut spans) = (CallSeen::default(), spans());
        let events = words::events(Dialect::OpenAi, "k", 9);
        let half = reply(200, &events[..4].concat(), false);
        let after = seen.hear(&call(true), spans.next().unwrap(), &Heard::Reply(half));
        assert!(matches!(after, After::Wrong(_)));
        assert_eq!(seen.halves, 1);
    }

    #[test]
    fn only_known_codes_are_waited_out() {
        let coded = |status, code| {
            let mut reply = reply(status, "{}", false);
            let code = HeaderValue::from_static(code);
            reply.headers.insert("holdfast-code", code);
            passing(&reply)
        };
        assert!(matches!(coded(503, "HF-030"), After::Again(_)));
        assert!(matches!(coded(422, "HF-027"), After::Wrong(_)));
        assert!(matches!(coded(500, "HF-023"), After::Wrong(_)));
    }

    #[test]
    fn an_effect_has_one_end() {
        let (mut seen, mut spans) = (EffectSeen::default(), spans());
        let mut hear = |body: &str, is_replayed| {
            seen.hear(
                spans.next().unwrap(),
                &Heard::Reply(reply(200, body, is_replayed)),
            )
        };
        let done = r#"{"id":"a","state":"done","result":{"status":201}}"#;
        assert!(matches!(
            hear(r#"{"id":"a","state":"sending"}"#, false),
            After::Again(_)
        ));
        assert_eq!(hear(done, true), After::Settled);
        assert_eq!(hear(done, true), After::Settled);
        assert!(matches!(
            hear(r#"{"id":"a","state":"doubt","ticket":"t"}"#, true),
            After::Wrong(_)
        ));
        assert_eq!(seen.differing, 1);
    }
}
