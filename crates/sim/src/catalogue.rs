//! Every fault as a list that people read and tests walk through.
//!
//! A case is one concrete fault in one dialect and one mode, with the truth about the answer: tests hold a
//! gateway's verdict against it. Faults that no protocol can show (a doubled text delta) are left out.

use std::fmt::Write as _;

use serde::Serialize;

use crate::ask::Dialect;

/// Whether what the vendor sends holds a whole answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Truth {
    /// A whole answer (or whole tool calls).
    Whole,
    /// Part of an answer, or nothing that counts as one; a client that shows it as finished is wrong.
    NotWhole,
    /// An error that says so by its status.
    Error,
}

/// One fault in one dialect and one mode.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a row of a table that goes out as JSON"
)]
pub struct Case {
    /// How the fault is written.
    pub spec: String,
    /// What happens.
    pub about: &'static str,
    pub dialect: Dialect,
    pub stream: bool,
    /// Shows only when the answer holds a tool call.
    pub needs_tools: bool,
    pub truth: Truth,
    /// What a judge should call it: `whole`, `limit`, `paused`, `refused`, `broken`, `unknown` or `error`.
    pub verdict: &'static str,
    /// Whether the bytes keep the dialect's rules. A whole and lawful answer must be accepted; a whole but unlawful
    /// one may be refused.
    pub lawful: bool,
    /// Whether the response never ends by itself.
    pub hangs: bool,
}

/// In which modes a row shows.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Modes {
    Both,
    Stream,
    Plain,
}

/// In which dialects a row shows.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Dialects {
    Both,
    Anthropic,
    OpenAi,
}

struct Row {
    spec: &'static str,
    about: &'static str,
    modes: Modes,
    dialects: Dialects,
    verdict: &'static str,
    flags: u8,
}

const TOOLS: u8 = 1;
const UNLAWFUL: u8 = 2;
const HANGS: u8 = 4;

const fn row(
    spec: &'static str,
    about: &'static str,
    modes: Modes,
    dialects: Dialects,
    verdict: &'static str,
    flags: u8,
) -> Row {
    Row {
        spec,
        about,
        modes,
        dialects,
        verdict,
        flags,
    }
}

use Dialects::{Anthropic, Both as Any, OpenAi};
use Modes::{Both, Plain, Stream};

// A table reads as a table: one row, one line.
#[rustfmt::skip]
const ROWS: &[Row] = &[
    row("ok", "no fault", Both, Any, "whole", 0),
    // Before an answer.
    row("refuse", "the connection is reset", Both, Any, "broken", 0),
    row("reset-before-headers", "RST after the request was read", Both, Any, "broken", 0),
    row("close-before-headers", "FIN after the request was read", Both, Any, "broken", 0),
    row("hang-before-headers", "nothing is ever answered", Both, Any, "broken", HANGS),
    row("reset-in-headers", "half a response head, then RST", Both, Any, "broken", 0),
    row("not-http", "the answer is no HTTP", Both, Any, "broken", 0),
    row("slow-headers:300", "the head comes late", Both, Any, "whole", 0),
    // Status 200, and no answer.
    row("empty-200", "status 200 and an empty body", Both, Any, "broken", 0),
    row("html-200", "status 200 and an HTML page", Both, Any, "broken", 0),
    row("json-error-200", "status 200 and the dialect's error as JSON", Both, Any, "broken", 0),
    row("empty-object-200", "status 200 and {}", Both, Any, "broken", 0),
    row("null-200", "status 200 and null", Both, Any, "broken", 0),
    // Bodies whose length lies.
    row("short-matching", "half the body under the length of that half", Both, Any, "broken", 0),
    row("short-mismatch", "half the body under the length of the whole, then FIN", Both, Any, "broken", 0),
    row("short-reset", "half the body under the length of the whole, then RST", Both, Any, "broken", 0),
    // Stop reasons.
    row("stop:null", "all the text, but the stop reason is null", Both, Any, "broken", 0),
    row("stop:vendor_novelty", "a stop reason that nobody knows", Both, Any, "unknown", 0),
    row("stop:max_tokens", "cut by the token limit", Both, Anthropic, "limit", 0),
    row("stop:model_context_window_exceeded", "cut by the window", Both, Anthropic, "limit", 0),
    row("stop:pause_turn", "the vendor paused its turn", Both, Anthropic, "paused", 0),
    row("stop:compaction", "the vendor compacted the context", Both, Anthropic, "paused", 0),
    row("stop:refusal", "a classifier stopped the answer", Both, Anthropic, "refused", 0),
    row("stop:length", "cut by the token limit", Both, OpenAi, "limit", 0),
    row("stop:model_length", "cut by the window (Mistral)", Both, OpenAi, "limit", 0),
    row("stop:content_filter", "cut by the filter", Both, OpenAi, "refused", 0),
    row("stop:sensitive", "cut by the filter (Zhipu)", Both, OpenAi, "refused", 0),
    row("stop:error", "the server failed (OpenRouter, vLLM)", Both, OpenAi, "broken", 0),
    row("stop:abort", "the server gave up (vLLM, SGLang)", Both, OpenAi, "broken", 0),
    row("stop:repetition", "the server stopped a loop (vLLM)", Both, OpenAi, "broken", 0),
    row("stop:insufficient_system_resource", "the server ran out (DeepSeek)", Both, OpenAi, "broken", 0),
    row("stop:aborted", "the server gave up (DeepSeek)", Both, OpenAi, "broken", 0),
    row("stop:network_error", "the server lost its line (Zhipu)", Both, OpenAi, "broken", 0),
    row("stop:load", "the model was only loaded (Ollama)", Both, OpenAi, "broken", 0),
    row("stop:unload", "the model was only unloaded (Ollama)", Both, OpenAi, "broken", 0),
    row("stop:eos_token", "a lawful end under another name (TGI)", Both, OpenAi, "whole", 0),
    // Cuts.
    row("cut-clean:after:0", "a stream without any event, ended neatly", Both, Any, "broken", 0),
    row("cut-clean:after:3", "ended neatly after three events", Both, Any, "broken", 0),
    row("cut-clean:bytes:200", "ended neatly after 200 bytes", Both, Any, "broken", 0),
    row("cut-clean:utf8", "ended neatly inside a character", Both, Any, "broken", 0),
    row("cut-clean:tool", "ended neatly inside tool arguments", Both, Any, "broken", TOOLS),
    row("cut-clean:half", "ended neatly in the middle", Both, Any, "broken", 0),
    row("cut-fin:after:3", "FIN without the last chunk after three events", Both, Any, "broken", 0),
    row("cut-fin:bytes:200", "FIN without the last chunk after 200 bytes", Both, Any, "broken", 0),
    row("cut-fin:utf8", "FIN without the last chunk inside a character", Both, Any, "broken", 0),
    row("cut-fin:tool", "FIN without the last chunk inside tool arguments", Both, Any, "broken", TOOLS),
    row("cut-rst:after:3", "RST after three events", Both, Any, "broken", 0),
    row("cut-rst:bytes:200", "RST after 200 bytes", Both, Any, "broken", 0),
    row("cut-rst:utf8", "RST inside a character", Both, Any, "broken", 0),
    row("cut-rst:tool", "RST inside tool arguments", Both, Any, "broken", TOOLS),
    row("cut-eof:after:3", "a body without framing ends after three events", Both, Any, "broken", 0),
    row("cut-eof:tool", "a body without framing ends inside tool arguments", Both, Any, "broken", TOOLS),
    row("bad-chunk:3", "a chunk header that is no number", Both, Any, "broken", 0),
    // Silence.
    row("stall:0", "a head, and then nothing for ever", Both, Any, "broken", HANGS),
    row("stall:3", "three events, and then nothing for ever", Both, Any, "broken", HANGS),
    row("stall-pings:0:100", "only pings, for ever", Both, Any, "broken", HANGS),
    row("stall-pings:3:100", "three events, and then only pings for ever", Both, Any, "broken", HANGS),
    row("trickle:5", "every event is late", Both, Any, "whole", 0),
    row("slow-first:300", "the first token is late", Stream, Any, "whole", 0),
    row("split:7", "the body comes seven bytes at a time", Both, Any, "whole", 0),
    row("silent-after-finish", "silent for ever after the finish reason: whole", Stream, OpenAi, "whole", HANGS),
    row("silent-after-finish", "silent for ever after the stop reason, no terminal event", Stream, Anthropic, "broken", HANGS),
    row("silent-after-terminal", "silent for ever after the terminal event: whole", Stream, Any, "whole", HANGS),
    // Errors inside a stream.
    row("error-in-band:0", "an error as the first event", Stream, Any, "broken", 0),
    row("error-in-band:3", "an error after three events, then the neat end", Stream, Any, "broken", 0),
    row("error-then-terminal:3", "an error after three events, then the terminal event", Stream, Any, "broken", 0),
    row("error-then-rest:3", "an error after three events, then the rest as if nothing had been", Stream, Any, "broken", UNLAWFUL),
    row("error-then-rst:3", "an error after three events, then RST", Stream, Any, "broken", 0),
    row("error-chunk:3", "an error with finish_reason:error in one chunk (OpenRouter)", Stream, OpenAi, "broken", 0),
    // The end is missing, or wrong.
    row("no-terminal", "message_stop is missing", Stream, Anthropic, "broken", 0),
    row("no-done", "[DONE] is missing after the finish reason: whole", Stream, OpenAi, "whole", 0),
    row("no-stop", "the terminal event without a stop reason", Stream, Any, "broken", 0),
    row("done-only", "the terminal event alone", Stream, Any, "broken", 0),
    row("block-open", "a block never closes", Stream, Anthropic, "broken", UNLAWFUL),
    row("no-open", "a block never opens", Stream, Anthropic, "broken", UNLAWFUL),
    row("no-start", "message_start is missing", Stream, Anthropic, "broken", UNLAWFUL),
    row("tool-args-cut", "cut tool arguments under a clean end", Stream, Any, "broken", TOOLS),
    row("tool-args-cut", "cut tool arguments under a clean end", Plain, OpenAi, "broken", TOOLS),
    row("text-after-finish", "words after the finish", Stream, Any, "broken", UNLAWFUL),
    row("empty-answer", "a lawful answer without any content", Both, Any, "broken", 0),
    row("refusal-field", "the model declined, in the field for that", Both, OpenAi, "refused", 0),
    // Events out of order, and bytes that are none.
    row("duplicate:start", "the first event comes twice", Stream, Anthropic, "broken", UNLAWFUL),
    row("duplicate:open", "a block opens twice", Stream, Anthropic, "broken", UNLAWFUL),
    row("duplicate:close", "a block closes twice", Stream, Anthropic, "broken", UNLAWFUL),
    row("duplicate:finish", "the stop reason comes twice", Stream, Any, "whole", UNLAWFUL),
    row("duplicate:terminal", "the terminal event comes twice", Stream, Any, "whole", UNLAWFUL),
    row("reorder:start", "the first event comes second", Stream, Anthropic, "broken", UNLAWFUL),
    row("reorder:close", "a block closes before its last words", Stream, Anthropic, "broken", UNLAWFUL),
    row("reorder:finish", "the stop reason comes before the last words", Stream, OpenAi, "broken", UNLAWFUL),
    row("oversized:33554432", "one event of 32 MiB", Stream, Any, "whole", UNLAWFUL),
    row("garbage:3", "an event that is no JSON", Both, Any, "broken", UNLAWFUL),
    row("invalid-utf8:3", "bytes that are no UTF-8", Both, Any, "broken", UNLAWFUL),
    row("nul:3", "NUL bytes in place of JSON", Both, Any, "broken", UNLAWFUL),
    row("gzip", "compressed though not asked for", Both, Any, "whole", UNLAWFUL),
    row("gzip-unlabelled", "compressed and not labelled", Both, Any, "broken", UNLAWFUL),
    // Lawful, and easily got wrong.
    row("unknown-event", "an event of a type that nobody knows", Stream, Any, "whole", 0),
    row("comments", "a comment before every event", Stream, Any, "whole", 0),
    row("crlf", "lines end in CRLF", Stream, Any, "whole", 0),
    row("no-space", "no space after the colon", Stream, Any, "whole", 0),
    row("eof-body", "a body without framing, whole", Both, Any, "whole", 0),
    row("tool-index-zero", "every call says index 0", Stream, OpenAi, "whole", TOOLS),
    row("tool-no-index", "no call has an index", Stream, OpenAi, "whole", TOOLS),
    row("tool-repeat-id", "id and name in every delta", Stream, OpenAi, "whole", TOOLS),
    row("tool-whole-delta", "each call in one delta", Stream, OpenAi, "whole", TOOLS),
    row("tool-stop-mismatch", "`stop` although there are tool calls", Both, OpenAi, "whole", TOOLS),
    row("finish-with-delta", "the finish reason on a chunk with a delta", Stream, OpenAi, "whole", 0),
    row("no-usage", "no usage though asked for", Both, OpenAi, "whole", 0),
    row("azure", "a first chunk without choices", Stream, OpenAi, "whole", 0),
];

/// Every case, statuses and named errors included.
pub fn faults() -> Vec<Case> {
    let mut cases = Vec::new();
    for row in ROWS {
        for (dialect, only) in [(Dialect::Anthropic, Anthropic), (Dialect::OpenAi, OpenAi)] {
            for (stream, mode) in [(true, Stream), (false, Plain)] {
                let fits = (row.dialects == Any || row.dialects == only)
                    && (row.modes == Both || row.modes == mode);
                if fits {
                    cases.push(case(row, dialect, stream));
                }
            }
        }
    }
    cases.extend(errors());
    cases
}

/// The catalogue as text, one line for each fault: what `holdfast sim --list` prints.
pub fn list() -> String {
    let cases = faults();
    let same = |one: &Case, other: &Case| (&one.spec, one.about) == (&other.spec, other.about);
    let mut text = String::new();
    for (index, case) in cases.iter().enumerate() {
        if cases[..index].iter().any(|other| same(case, other)) {
            continue;
        }
        let has = |dialect| {
            cases
                .iter()
                .any(|other| same(case, other) && other.dialect == dialect)
        };
        let only = match (has(Dialect::Anthropic), has(Dialect::OpenAi)) {
            (true, false) => " (Messages only)",
            (false, true) => " (Chat only)",
            _ => "",
        };
        let _ = writeln!(
            text,
            "{:<42} {:<8} {}{only}",
            case.spec, case.verdict, case.about
        );
    }
    text
}

fn case(row: &Row, dialect: Dialect, stream: bool) -> Case {
    Case {
        spec: row.spec.to_owned(),
        about: row.about,
        dialect,
        stream,
        needs_tools: row.flags & TOOLS != 0,
        truth: if row.verdict == "whole" {
            Truth::Whole
        } else {
            Truth::NotWhole
        },
        verdict: row.verdict,
        lawful: row.flags & UNLAWFUL == 0,
        hangs: row.flags & HANGS != 0,
    }
}

/// Every row of the vendors' error tables: bare, with a short and with a silly Retry-After; and the edge's HTML pages.
fn errors() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |spec: String, about, dialect| {
        for stream in [true, false] {
            cases.push(Case {
                spec: spec.clone(),
                about,
                dialect,
                stream,
                needs_tools: false,
                truth: Truth::Error,
                verdict: "error",
                lawful: true,
                hangs: false,
            });
        }
    };
    for (index, row) in crate::vendor::ROWS.iter().enumerate() {
        let first = crate::vendor::ROWS[..index]
            .iter()
            .all(|other| other.dialect != row.dialect || other.status != row.status);
        let spec = match row.code {
            _ if first => format!("status:{}", row.status),
            Some(code) => format!("error:{code}"),
            None => continue,
        };
        add(spec.clone(), row.message, row.dialect);
        if matches!(row.status, 429 | 503 | 529) {
            add(format!("{spec}:1"), row.message, row.dialect);
        }
        if row.status == 429 && first {
            add(format!("{spec}:86400"), row.message, row.dialect);
        }
    }
    for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
        for code in [413, 502, 503, 504] {
            add(
                format!("status-html:{code}"),
                "an HTML page of the edge",
                dialect,
            );
        }
    }
    cases
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Fault;

    #[test]
    fn the_list_names_every_fault_once() {
        let list = list();
        assert!(faults().iter().all(|case| list.contains(&case.spec)));
        assert_eq!(list.matches("no-terminal ").count(), 1);
        assert_eq!(list.matches("silent-after-finish ").count(), 2);
    }

    #[test]
    fn every_spec_is_a_fault_and_no_case_comes_twice() {
        let cases = faults();
        for (index, case) in cases.iter().enumerate() {
            assert!(case.spec.parse::<Fault>().is_ok(), "{}", case.spec);
            let again = cases[..index].iter().any(|other| {
                (&other.spec, other.dialect, other.stream)
                    == (&case.spec, case.dialect, case.stream)
            });
            assert!(!again, "{} twice", case.spec);
        }
        assert!(cases.len() > 300, "{}", cases.len());
    }
}
