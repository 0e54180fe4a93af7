//! Whether an answer is whole: its text, every token in its order, its end.

use std::time::Duration;

use memchr::memmem;
use memchr::memmem::Finder;

use crate::Error;
use crate::script::{self, DIGITS, Dialect, HELD, WORD};

/// What a whole answer was like.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) tokens: u64,
    pub(crate) first_token: Option<Duration>,
    /// How long the vendor held it back.
    pub(crate) held: Duration,
}

/// Reads the content of one answer after the other.
pub(crate) enum Check {
    Whole(Vec<u8>, Box<Finder<'static>>),
    Stream(Box<Tokens>),
}

impl Check {
    pub(crate) fn whole() -> Self {
        Self::Whole(Vec::new(), Box::new(Finder::new(script::text())))
    }

    pub(crate) fn stream(dialect: Dialect, tokens: u64) -> Self {
        Self::Stream(Box::new(Tokens::new(dialect, tokens)))
    }

    pub(crate) fn begin(&mut self) {
        match self {
            Self::Whole(content, _) => content.clear(),
            Self::Stream(tokens) => tokens.begin(),
        }
    }

    pub(crate) fn take(&mut self, piece: &[u8]) {
        match self {
            Self::Whole(content, _) => content.extend_from_slice(piece),
            Self::Stream(tokens) => tokens.take(piece),
        }
    }

    /// Whether a token has been seen.
    pub(crate) fn begun(&self) -> bool {
        match self {
            Self::Whole(..) => false,
            Self::Stream(tokens) => tokens.next > 0,
        }
    }

    pub(crate) fn end(&mut self, first_token: Option<Duration>) -> Result<Seen, Error> {
        match self {
            Self::Whole(content, text) => {
                if text.find(content).is_none() || !content.trim_ascii_end().ends_with(b"}") {
                    return Err("an answer without its text".into());
                }
                // An answer that was streamed to a gateway was not held.
                let held = script::number(content, HELD.as_bytes()).unwrap_or(0);
                Ok(Seen {
                    held: Duration::from_micros(held),
                    ..Seen::default()
                })
            }
            Self::Stream(tokens) => Ok(Seen {
                tokens: tokens.end()?,
                first_token,
                ..Seen::default()
            }),
        }
    }
}

/// Follows the numbers of the tokens through the pieces of a stream.
pub(crate) struct Tokens {
    word: Finder<'static>,
    terminal: Finder<'static>,
    wanted: u64,
    /// The number that is to come.
    next: u64,
    /// A number that came instead.
    odd: Option<u64>,
    ended: bool,
    /// The last bytes, where a mark may have begun.
    rest: Vec<u8>,
}

/// One less than the longest mark.
const REST: usize = WORD.len() + DIGITS + 1;

impl Tokens {
    fn new(dialect: Dialect, wanted: u64) -> Self {
        let terminal: &'static [u8] = match dialect {
            Dialect::Openai => b"data: [DONE]",
            Dialect::Anthropic => b"message_stop",
        };
        Self {
            word: Finder::new(WORD),
            terminal: Finder::new(terminal),
            wanted,
            next: 0,
            odd: None,
            ended: false,
            rest: Vec::new(),
        }
    }

    fn begin(&mut self) {
        self.next = 0;
        self.odd = None;
        self.ended = false;
        self.rest.clear();
    }

    fn take(&mut self, piece: &[u8]) {
        let mut seen = std::mem::take(&mut self.rest);
        seen.extend_from_slice(piece);
        let mut at = 0;
        while let Some(found) = self.word.find(&seen[at..]) {
            let digits = at + found + WORD.len();
            if seen.len() < digits + DIGITS {
                break;
            }
            let number =
                script::number(&seen[digits - WORD.len()..digits + DIGITS], WORD.as_bytes());
            if number != Some(self.next) || self.ended {
                self.odd = self.odd.or(number);
            }
            self.next += 1;
            at = digits + DIGITS;
        }
        self.ended |= self.terminal.find(&seen[at..]).is_some();
        // What was counted is not seen again.
        let keep = at.max(seen.len().saturating_sub(REST));
        seen.drain(..keep);
        self.rest = seen;
    }

    /// The number of tokens, if they are those that were asked for and the stream said its end.
    fn end(&self) -> Result<u64, Error> {
        let Self {
            next,
            wanted,
            odd,
            ended,
            ..
        } = self;
        if next == wanted && *ended && odd.is_none() {
            return Ok(*next);
        }
        let error = memmem::find(&self.rest, b"error").is_some();
        Err(format!(
            "{next} of {wanted} tokens, first out of order: {odd:?}, terminal event: {ended}, error: {error}"
        )
        .into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(numbers: &[u64]) -> String {
        let mut stream = script::opening(Dialect::Openai);
        for number in numbers {
            stream += &script::piece(Dialect::Openai, &format!(" word-{number:05}"));
        }
        stream + &script::ending(Dialect::Openai, true)
    }

    fn read(text: &str, size: usize, wanted: u64) -> Result<u64, Error> {
        let mut check = Check::stream(Dialect::Openai, wanted);
        for piece in text.as_bytes().chunks(size) {
            check.take(piece);
        }
        check.end(None).map(|seen| seen.tokens)
    }

    #[test]
    fn counts_the_same_in_any_pieces() {
        let text = stream(&[0, 1, 2]);
        for size in 1..text.len() {
            assert_eq!(read(&text, size, 3).unwrap(), 3, "in pieces of {size}");
        }
    }

    #[test]
    fn a_stream_that_is_cut_is_an_error() {
        let text = stream(&[0, 1]);
        let cut = text.find("[DONE]").unwrap();
        assert!(read(&text[..cut], 99, 2).is_err());
    }

    #[test]
    fn a_token_that_is_lost_doubled_or_swapped_is_an_error() {
        for numbers in [&[0, 2][..], &[0, 0, 1], &[1, 0], &[0, 1, 2]] {
            assert!(read(&stream(numbers), 50, 2).is_err(), "{numbers:?}");
        }
    }

    #[test]
    fn an_anthropic_stream_is_read_by_its_own_end() {
        let mut check = Check::stream(Dialect::Anthropic, 1);
        check.take(script::opening(Dialect::Anthropic).as_bytes());
        check.take(script::token(Dialect::Anthropic).as_bytes());
        assert!(check.end(None).is_err());
        check.take(script::ending(Dialect::Anthropic, false).as_bytes());
        assert_eq!(check.end(None).unwrap().tokens, 1);
    }

    #[test]
    fn a_whole_answer_has_its_text_and_says_how_long_it_was_held() {
        let mut check = Check::whole();
        check.take(
            script::whole(Dialect::Openai)
                .replace("held=00000000", "held=00060123")
                .as_bytes(),
        );
        let seen = check.end(None).unwrap();
        assert_eq!(seen.held, Duration::from_micros(60_123));
        check.begin();
        check.take(b"{}");
        assert!(check.end(None).is_err());
    }
}
