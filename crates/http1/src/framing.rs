//! Where the body of an HTTP/1.1 message ends (RFC 9112, 6.3 and 7.1). Reads no socket.

/// Digits of a chunk's size that fit into 64 bits.
const SIZE_DIGITS: u8 = 16;
/// The longest chunk extension or trailer, in bytes. Both are passed over.
const LONGEST_LINE: usize = 16 << 10;

/// How a body is told from what follows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// So many bytes.
    Length(u64),
    Chunked,
    /// Until the connection is closed.
    Close,
}

/// What is wrong with a body's framing.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Flaw {
    #[error("invalid chunk size line")]
    Size,
    #[error("chunk size is too large")]
    SizeTooLarge,
    #[error("a chunk does not end where its size says")]
    ChunkEnd,
    #[error("chunk extension or trailer is too long")]
    LineTooLong,
    #[error("invalid trailer")]
    Trailer,
    #[error("end of file before message length reached")]
    Eof,
}

/// Takes the framing off a body as it comes.
#[derive(Clone, Copy, Debug)]
pub struct Decoder(State);

#[derive(Clone, Copy, Debug)]
enum State {
    /// So many bytes until the end.
    Length(u64),
    Close,
    Size {
        size: u64,
        digits: u8,
    },
    /// Between the size and the end of its line: spaces, then perhaps an extension.
    Extension {
        size: u64,
        length: usize,
        named: bool,
    },
    SizeEnd {
        size: u64,
    },
    Chunk {
        left: u64,
    },
    ChunkEnd {
        return_seen: bool,
    },
    Trailer {
        length: usize,
    },
    TrailerEnd {
        length: usize,
    },
    Done,
    Failed(Flaw),
}

// === impl Decoder ===

impl Decoder {
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::size(),
            Framing::Close => State::Close,
        })
    }

    /// Whether the last byte of the body was seen.
    pub fn is_done(&self) -> bool {
        matches!(self.0, State::Done)
    }

    /// How many bytes come next that are all content, if the framing tells it.
    pub fn content_to_come(&self) -> Option<u64> {
        match self.0 {
            State::Length(left) | State::Chunk { left } => Some(left),
            _ => None,
        }
    }

    /// What is wrong with what was seen.
    pub fn flaw(&self) -> Option<Flaw> {
        match self.0 {
            State::Failed(flaw) => Some(flaw),
            _ => None,
        }
    }

    /// Moves the body's own bytes to the front of `input`. Gives how many these are, and how many bytes
    /// of `input` belonged to the body: all, unless it ended or went wrong.
    pub fn decode(&mut self, input: &mut [u8]) -> (usize, usize) {
        let (mut kept, mut at) = (0, 0);
        while at < input.len() {
            let run = match self.0 {
                State::Done | State::Failed(_) => break,
                State::Length(left) | State::Chunk { left } => {
                    let rest = input.len() - at;
                    usize::try_from(left).map_or(rest, |left| left.min(rest))
                }
                State::Close => input.len() - at,
                _ => {
                    self.0 = self.0.step(input[at]);
                    at += 1;
                    continue;
                }
            };
            // Most bodies come without framing in between and lie where they should.
            if kept < at {
                input.copy_within(at..at + run, kept);
            }
            kept += run;
            at += run;
            self.0 = self.0.after(run as u64);
        }
        (kept, at)
    }

    /// The connection was closed.
    pub fn close(&mut self) {
        self.0 = match self.0 {
            State::Close | State::Done => State::Done,
            failed @ State::Failed(_) => failed,
            _ => State::Failed(Flaw::Eof),
        };
    }
}

// === impl State ===

impl State {
    const fn size() -> Self {
        Self::Size { size: 0, digits: 0 }
    }

    /// After so many bytes of content, at most those that were left.
    fn after(self, run: u64) -> Self {
        match self {
            Self::Length(left) if left == run => Self::Done,
            Self::Length(left) => Self::Length(left - run),
            Self::Chunk { left } if left == run => Self::ChunkEnd { return_seen: false },
            Self::Chunk { left } => Self::Chunk { left: left - run },
            other => other,
        }
    }

    /// After one byte of framing.
    fn step(self, byte: u8) -> Self {
        match self {
            Self::Size { size, digits } => Self::step_size(size, digits, byte),
            Self::Extension {
                size,
                length,
                named,
            } => match byte {
                b'\r' => Self::SizeEnd { size },
                // A bare line feed is where readers differ: the root of smuggled bodies.
                b'\n' => Self::Failed(Flaw::Size),
                _ if length >= LONGEST_LINE => Self::Failed(Flaw::LineTooLong),
                b' ' | b'\t' => Self::extension(size, length + 1, named),
                b';' => Self::extension(size, length + 1, true),
                _ if named => Self::extension(size, length + 1, true),
                _ => Self::Failed(Flaw::Size),
            },
            Self::SizeEnd { size } => match (byte, size) {
                (b'\n', 0) => Self::Trailer { length: 0 },
                (b'\n', left) => Self::Chunk { left },
                _ => Self::Failed(Flaw::Size),
            },
            Self::ChunkEnd { return_seen } => match (byte, return_seen) {
                (b'\r', false) => Self::ChunkEnd { return_seen: true },
                (b'\n', true) => Self::size(),
                _ => Self::Failed(Flaw::ChunkEnd),
            },
            Self::Trailer { length } => match byte {
                b'\r' => Self::TrailerEnd { length },
                b'\n' => Self::Failed(Flaw::Trailer),
                _ if length >= LONGEST_LINE => Self::Failed(Flaw::LineTooLong),
                _ => Self::Trailer { length: length + 1 },
            },
            Self::TrailerEnd { length } => match (byte, length) {
                (b'\n', 0) => Self::Done,
                (b'\n', _) => Self::Trailer { length: 0 },
                _ => Self::Failed(Flaw::Trailer),
            },
            Self::Length(_) | Self::Close | Self::Chunk { .. } | Self::Done | Self::Failed(_) => {
                self
            }
        }
    }

    fn step_size(size: u64, digits: u8, byte: u8) -> Self {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            b'\r' if digits > 0 => return Self::SizeEnd { size },
            b' ' | b'\t' if digits > 0 => return Self::extension(size, 1, false),
            b';' if digits > 0 => return Self::extension(size, 1, true),
            _ => return Self::Failed(Flaw::Size),
        };
        if digits >= SIZE_DIGITS {
            return Self::Failed(Flaw::SizeTooLarge);
        }
        Self::Size {
            size: size << 4 | u64::from(digit),
            digits: digits + 1,
        }
    }

    fn extension(size: u64, length: usize, named: bool) -> Self {
        Self::Extension {
            size,
            length,
            named,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The content, and how many bytes were the body's, fed in pieces of `step` bytes.
    fn decoded(framing: Framing, input: &[u8], step: usize) -> (Vec<u8>, usize, Decoder) {
        let mut decoder = Decoder::new(framing);
        let (mut content, mut used) = (Vec::new(), 0);
        for piece in input.chunks(step) {
            let mut piece = piece.to_vec();
            let (kept, own) = decoder.decode(&mut piece);
            content.extend_from_slice(&piece[..kept]);
            used += own;
        }
        (content, used, decoder)
    }

    #[test]
    fn a_chunked_body_is_the_same_however_it_is_cut() {
        let body =
            b"5\r\nhello\r\nA ;a=\"b\"\r\n, world!!!\r\n0\r\nX-Sum: 1\r\nY: 2\r\n\r\nHTTP/1.1";
        for step in 1..=body.len() {
            let (content, used, decoder) = decoded(Framing::Chunked, body, step);
            assert_eq!(content, b"hello, world!!!", "in steps of {step}");
            assert_eq!(used, body.len() - "HTTP/1.1".len());
            assert!(decoder.is_done());
        }
    }

    #[test]
    fn a_body_of_a_length_ends_there() {
        let (content, used, decoder) = decoded(Framing::Length(5), b"hello!", 4);
        assert_eq!((content.as_slice(), used), (b"hello".as_slice(), 5));
        assert!(decoder.is_done());
        assert!(Decoder::new(Framing::Length(0)).is_done());
    }

    #[test]
    fn content_that_is_sure_to_come_is_told() {
        for (framing, input, told) in [
            (Framing::Length(9), "hello", Some(4)),
            (Framing::Length(5), "hello", None),
            (Framing::Chunked, "", None),
            (Framing::Chunked, "5\r\nhe", Some(3)),
            (Framing::Chunked, "5\r\nhello", None),
            (Framing::Close, "hello", None),
        ] {
            let (_, _, decoder) = decoded(framing, input.as_bytes(), 100);
            assert_eq!(decoder.content_to_come(), told, "{input:?}");
        }
    }

    #[test]
    fn only_a_body_without_framing_may_end_by_the_close() {
        for (framing, input) in [
            (Framing::Length(9), "hello"),
            (Framing::Chunked, ""),
            (Framing::Chunked, "5\r\nhel"),
            (Framing::Chunked, "5\r\nhello\r\n"),
            (Framing::Chunked, "5\r\nhello\r\n0\r\n"),
            (Framing::Chunked, "5\r\nhello\r\n0\r\n\r"),
        ] {
            let (_, _, mut decoder) = decoded(framing, input.as_bytes(), 100);
            decoder.close();
            assert_eq!(decoder.flaw(), Some(Flaw::Eof), "{input:?}");
        }
        let (content, _, mut decoder) = decoded(Framing::Close, b"hello", 2);
        decoder.close();
        assert!(decoder.is_done());
        assert_eq!(content, b"hello");
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        for (input, flaw) in [
            ("\r\n", Flaw::Size),
            ("zz\r\n", Flaw::Size),
            ("-5\r\n", Flaw::Size),
            ("0x5\r\n", Flaw::Size),
            (" 5\r\n", Flaw::Size),
            ("5\nhello", Flaw::Size),
            ("5 5\r\nhello", Flaw::Size),
            ("5;a\nhello", Flaw::Size),
            ("5\rhello", Flaw::Size),
            ("5\r\nhelloX\r\n", Flaw::ChunkEnd),
            ("5\r\nhello\n", Flaw::ChunkEnd),
            ("00000000000000005\r\n", Flaw::SizeTooLarge),
            ("0\r\n\n", Flaw::Trailer),
            ("0\r\na: b\n\r\n", Flaw::Trailer),
            ("0\r\na: b\rX", Flaw::Trailer),
        ] {
            let (_, _, decoder) = decoded(Framing::Chunked, input.as_bytes(), 100);
            assert_eq!(decoder.flaw(), Some(flaw), "{input:?}");
        }
        for before in ["5;", "0\r\n"] {
            let long = format!("{before}{}", "a".repeat(LONGEST_LINE + 1));
            let (_, _, decoder) = decoded(Framing::Chunked, long.as_bytes(), 1000);
            assert_eq!(decoder.flaw(), Some(Flaw::LineTooLong));
        }
    }

    proptest! {
        /// Whatever is sent in whatever pieces comes out, and what follows it is left alone.
        #[test]
        fn content_comes_through_chunks_and_cuts(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..8),
            behind in prop::collection::vec(any::<u8>(), 0..9),
            step in 1_usize..64,
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:X};x\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\na: b\r\n\r\n");
            let length = wire.len();
            wire.extend_from_slice(&behind);
            let (content, used, decoder) = decoded(Framing::Chunked, &wire, step);
            prop_assert_eq!(content, chunks.concat());
            prop_assert_eq!(used, length);
            prop_assert!(decoder.is_done());
        }

        /// Nothing is made up, however hostile: what comes out came in, and cuts change nothing.
        #[test]
        fn hostile_bytes_give_the_same_in_any_pieces(
            wire in prop::collection::vec(prop::sample::select(b"0123afAF;\r\n \tx".to_vec()), 0..80),
            step in 1_usize..80,
        ) {
            let (whole, used, end) = decoded(Framing::Chunked, &wire, wire.len().max(1));
            let (cut, used_cut, end_cut) = decoded(Framing::Chunked, &wire, step);
            prop_assert_eq!((whole, used), (cut, used_cut));
            prop_assert_eq!((end.is_done(), end.flaw()), (end_cut.is_done(), end_cut.flaw()));
        }
    }
}
