//! What is asked and what is answered: fixed bytes that vendor and client both know.
//!
//! Each token has its number, so that a lost, doubled or swapped one is seen; a large request is of
//! a text that the vendor compares byte by byte; a whole answer is of a text that the client looks
//! for, and says how long the vendor held it back, so that its clock's grain is in no latency.

use std::fmt::Write as _;
use std::sync::OnceLock;

use memchr::memmem;

/// Before a token's number.
pub(crate) const WORD: &str = "word-";
/// Digits of a token's number.
pub(crate) const DIGITS: usize = 5;
/// Before the microseconds that an answer was held back.
pub(crate) const HELD: &str = "held=";
/// Digits behind `HELD`.
pub(crate) const HELD_DIGITS: usize = 8;
/// Behind the large text of a request.
const FILL_END: &[u8] = b" end=fill";
/// The largest text of a request.
const FILL_MOST: usize = 32 << 20;
/// How much of a request is searched from its beginning and from its end. What says how to answer
/// stands there, in front of the large text or, where a proxy writes it anew, behind it.
const MARGIN: usize = 2048;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Dialect {
    Openai,
    Anthropic,
}

impl Dialect {
    pub(crate) fn of(path: &[u8]) -> Self {
        if path.starts_with(b"/v1/messages") {
            Self::Anthropic
        } else {
            Self::Openai
        }
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Openai => "/v1/chat/completions",
            Self::Anthropic => "/v1/messages",
        }
    }
}

/// What a request asks of the vendor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    pub(crate) stream: bool,
    /// A stream tells its usage before its end.
    pub(crate) usage: bool,
    /// Tokens of a stream; without it a stream gives the text of a whole answer, word by word.
    pub(crate) tokens: Option<u64>,
    /// Milliseconds between tokens.
    pub(crate) pace: u64,
    /// Milliseconds until a whole answer.
    pub(crate) delay: u64,
    /// Bytes of text behind all this.
    pub(crate) fill: Option<usize>,
}

impl Asked {
    pub(crate) fn read(body: &[u8]) -> Self {
        let front = &body[..body.len().min(MARGIN)];
        let back = &body[body.len().saturating_sub(MARGIN).max(front.len())..];
        let said =
            |word: &[u8]| memmem::find(front, word).is_some() || memmem::find(back, word).is_some();
        Self {
            stream: said(b"\"stream\":true") || said(b"\"stream\": true"),
            usage: said(b"\"include_usage\":true") || said(b"\"include_usage\": true"),
            tokens: number(front, b"tokens="),
            pace: number(front, b"pace=").unwrap_or(0),
            delay: number(front, b"delay=").unwrap_or(0),
            fill: number(front, b"fill=").and_then(|fill| usize::try_from(fill).ok()),
        }
    }

    /// The same as words of a prompt.
    pub(crate) fn words(&self) -> String {
        let mut words = String::new();
        if let Some(tokens) = self.tokens {
            let _ = write!(words, "tokens={tokens} pace={} ", self.pace);
        }
        if self.delay > 0 {
            let _ = write!(words, "delay={} ", self.delay);
        }
        if let Some(fill) = self.fill {
            let _ = write!(words, "fill={fill} ");
        }
        words
    }
}

/// The number that follows `name` in `text`.
pub(crate) fn number(text: &[u8], name: &[u8]) -> Option<u64> {
    let start = memmem::find(text, name)? + name.len();
    let digits = text[start..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    let mut any = false;
    let number = digits.fold(0_u64, |number, digit| {
        any = true;
        number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    any.then_some(number)
}

/// Writes a number over the zeros that stand for it.
pub(crate) fn put(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

// === Requests ===

/// The body of a request: a prompt of a few hundred bytes, or one that is filled up.
pub(crate) fn request(dialect: Dialect, model: &str, asked: &Asked) -> Vec<u8> {
    // Anthropic demands `max_tokens`.
    let limit = match dialect {
        Dialect::Openai => "",
        Dialect::Anthropic => r#""max_tokens":1024,"#,
    };
    let stream = asked.stream;
    let words = asked.words();
    let mut body = format!(
        r#"{{"model":"{model}",{limit}"stream":{stream},"messages":[{{"role":"user","content":"{words}"#
    )
    .into_bytes();
    if let Some(size) = asked.fill {
        body.extend_from_slice(&fill()[..size]);
        body.extend_from_slice(FILL_END);
    } else {
        let prompt = "Say something that is long enough to be a question. ".repeat(8);
        body.extend_from_slice(prompt.as_bytes());
    }
    body.extend_from_slice(br#""}]}"#);
    body
}

/// Whether the large text of a request is there, byte by byte, where one is announced.
pub(crate) fn filled(body: &[u8], asked: &Asked) -> bool {
    let Some(size) = asked.fill else {
        return true;
    };
    let name = format!("fill={size} ");
    memmem::find(body, name.as_bytes())
        .and_then(|start| body[start + name.len()..].strip_prefix(fill().get(..size)?))
        .is_some_and(|rest| rest.starts_with(FILL_END))
}

fn fill() -> &'static [u8] {
    static FILL: OnceLock<Vec<u8>> = OnceLock::new();
    FILL.get_or_init(|| {
        // Sentences with their numbers, so that a piece in a wrong place is seen.
        let mut fill = Vec::with_capacity(FILL_MOST + 64);
        while fill.len() < FILL_MOST {
            let sentence = format!("Sentence at {} of what was read before. ", fill.len());
            fill.extend_from_slice(sentence.as_bytes());
        }
        fill
    })
}

// === Whole answers ===

/// What every whole answer says: about 700 bytes.
pub(crate) fn text() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        let more = "Nothing of it is missing. ".repeat(24);
        format!("The whole answer of the mock vendor. {more}")
    })
}

/// The body of a whole answer, about a kilobyte, held back for zero microseconds.
pub(crate) fn whole(dialect: Dialect) -> String {
    let said = format!("{}{HELD}{}us", text(), "0".repeat(HELD_DIGITS));
    match dialect {
        Dialect::Openai => format!(
            r#"{{"id":"chatcmpl-Bench0000000000000000000000001","object":"chat.completion","created":1700000000,"model":"bench","choices":[{{"index":0,"message":{{"role":"assistant","content":"{said}","refusal":null,"annotations":[]}},"logprobs":null,"finish_reason":"stop"}}],"usage":{{"prompt_tokens":20,"completion_tokens":150,"total_tokens":170}},"system_fingerprint":"fp_bench"}}"#
        ),
        Dialect::Anthropic => format!(
            r#"{{"id":"msg_Bench0000000000000001","type":"message","role":"assistant","model":"bench","content":[{{"type":"text","text":"{said}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":20,"output_tokens":150}}}}"#
        ),
    }
}

// === Streams ===

/// What comes before the tokens of a stream.
pub(crate) fn opening(dialect: Dialect) -> String {
    match dialect {
        Dialect::Openai => chunk(r#"{"role":"assistant","content":""}"#, "null"),
        Dialect::Anthropic => {
            event(
                "message_start",
                r#""message":{"id":"msg_Bench0000000000000001","type":"message","role":"assistant","model":"bench","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":20,"output_tokens":1}}"#,
            ) + &event(
                "content_block_start",
                r#""index":0,"content_block":{"type":"text","text":""}"#,
            )
        }
    }
}

/// One piece of a stream's text.
pub(crate) fn piece(dialect: Dialect, text: &str) -> String {
    match dialect {
        Dialect::Openai => chunk(&format!(r#"{{"content":"{text}"}}"#), "null"),
        Dialect::Anthropic => event(
            "content_block_delta",
            &format!(r#""index":0,"delta":{{"type":"text_delta","text":"{text}"}}"#),
        ),
    }
}

/// A token whose number is zero.
pub(crate) fn token(dialect: Dialect) -> String {
    piece(dialect, &format!(" {WORD}{}", "0".repeat(DIGITS)))
}

/// What comes after the tokens.
pub(crate) fn ending(dialect: Dialect, usage: bool) -> String {
    match dialect {
        Dialect::Openai => {
            let mut ending = chunk("{}", r#""stop""#);
            if usage {
                ending += concat!(
                    r#"data: {"id":"chatcmpl-Bench0000000000000000000000001","object":"chat.completion.chunk","created":1700000000,"model":"bench","system_fingerprint":"fp_bench","choices":[],"usage":{"prompt_tokens":20,"completion_tokens":150,"total_tokens":170}}"#,
                    "\n\n"
                );
            }
            ending + "data: [DONE]\n\n"
        }
        Dialect::Anthropic => {
            event("content_block_stop", r#""index":0"#)
                + &event(
                    "message_delta",
                    r#""delta":{"stop_reason":"end_turn","stop_sequence":null},"usage":{"output_tokens":150}"#,
                )
                + "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
        }
    }
}

fn chunk(delta: &str, finish: &str) -> String {
    format!(
        r#"data: {{"id":"chatcmpl-Bench0000000000000000000000001","object":"chat.completion.chunk","created":1700000000,"model":"bench","system_fingerprint":"fp_bench","choices":[{{"index":0,"delta":{delta},"logprobs":null,"finish_reason":{finish}}}]}}"#
    ) + "\n\n"
}

fn event(name: &str, members: &str) -> String {
    format!("event: {name}\ndata: {{\"type\":\"{name}\",{members}}}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKED: Asked = Asked {
        stream: true,
        usage: false,
        tokens: Some(200),
        pace: 20,
        delay: 60,
        fill: None,
    };

    #[test]
    fn the_vendor_reads_what_the_client_asks() {
        for dialect in [Dialect::Openai, Dialect::Anthropic] {
            assert_eq!(Asked::read(&request(dialect, "m", &ASKED)), ASKED);
        }
        let plain = Asked::default();
        assert_eq!(Asked::read(&request(Dialect::Openai, "m", &plain)), plain);
    }

    #[test]
    fn what_a_proxy_adds_behind_a_large_text_is_read() {
        let asked = Asked {
            fill: Some(100_000),
            ..Asked::default()
        };
        let mut body = request(Dialect::Openai, "m", &asked);
        body.pop();
        body.extend_from_slice(br#","stream":true}"#);
        assert!(Asked::read(&body).stream);
    }

    #[test]
    fn one_wrong_byte_of_a_large_text_is_seen() {
        let asked = Asked {
            fill: Some(100_000),
            ..Asked::default()
        };
        let mut body = request(Dialect::Openai, "m", &asked);
        assert!(filled(&body, &asked));
        body[77_777] ^= 1;
        assert!(!filled(&body, &asked));
        assert!(!filled(&body[..50_000], &asked));
    }

    #[test]
    fn puts_and_finds_numbers() {
        let mut digits = *b"00000";
        put(&mut digits, 1234);
        assert_eq!(&digits, b"01234");
        assert_eq!(number(b"a=7 b=012x", b"b="), Some(12));
        assert_eq!(number(b"a=", b"a="), None);
    }
}
