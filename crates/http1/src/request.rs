//! The head of a request, as a server reads it (RFC 9112, 3 to 6).

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};

use crate::framing::Framing;
use crate::number::parse_decimal;

/// The most header lines that can be allowed.
pub const MAX_FIELDS: usize = 1024;
/// Header lines for which there is room without asking for more: what clients send.
const USUAL_FIELDS: usize = 32;

/// How much of a head is read.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of the whole head.
    pub bytes: usize,
    /// Header lines, at most [`MAX_FIELDS`].
    pub fields: usize,
}

/// What is wrong with a request's head.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Flaw {
    #[error("the head is not HTTP/1.1: {0}")]
    Syntax(httparse::Error),
    #[error("of HTTP, version 1 is spoken here, and version 2 from the first byte on")]
    Version,
    #[error("the request's target is not a URI")]
    Target,
    #[error("the head is over the limit `header_bytes` of {0} bytes")]
    TooLarge(usize),
    #[error("there are more headers than the limit `headers` of {0}")]
    TooMany(usize),
    #[error("`Content-Length` is not one number")]
    Length,
    #[error("`Content-Length` and `Transfer-Encoding` contradict")]
    Contradiction,
    #[error("of the transfer codings only `chunked` alone is understood, and none in version 1.0")]
    Encoding,
}

/// A head that was read, and what it says of its body and its connection.
#[derive(Debug)]
pub struct Read {
    pub method: Method,
    pub uri: Uri,
    pub version: Version,
    /// Values are slices of one piece of memory that holds this head and nothing else.
    pub headers: HeaderMap,
    pub framing: Framing,
    /// Whether the client lets another request follow on the connection.
    pub keep: bool,
    /// The body comes after `100 Continue`, or after a while.
    pub expects_continue: bool,
    /// Bytes of the head.
    pub length: usize,
}

/// Reads the head at the front of `input`; `None` = there is more to come.
pub fn read(input: &[u8], limits: Limits) -> Result<Option<Read>, Flaw> {
    // Most requests have few headers, and the room for all that may come is many kilobytes.
    let mut usual = [const { MaybeUninit::uninit() }; USUAL_FIELDS];
    match read_into(input, limits, &mut usual) {
        Err(Flaw::Syntax(httparse::Error::TooManyHeaders)) if limits.fields > USUAL_FIELDS => {
            let mut most = vec![MaybeUninit::uninit(); limits.fields.min(MAX_FIELDS)];
            read_into(input, limits, &mut most)
        }
        read => read,
    }
    .map_err(|flaw| match flaw {
        Flaw::Syntax(httparse::Error::TooManyHeaders) => Flaw::TooMany(limits.fields),
        flaw => flaw,
    })
}

fn read_into<'a>(
    input: &'a [u8],
    limits: Limits,
    fields: &mut [MaybeUninit<httparse::Header<'a>>],
) -> Result<Option<Read>, Flaw> {
    let most = limits.fields.min(fields.len());
    let mut request = httparse::Request::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_request_with_uninit_headers(
        &mut request,
        input,
        &mut fields[..most],
    );
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) if length <= limits.bytes => length,
        Ok(httparse::Status::Partial) if input.len() <= limits.bytes => return Ok(None),
        Ok(_) => return Err(Flaw::TooLarge(limits.bytes)),
        Err(httparse::Error::Version) => return Err(Flaw::Version),
        Err(error) => return Err(Flaw::Syntax(error)),
    };
    let version = match request.version {
        Some(1) => Version::HTTP_11,
        _ => Version::HTTP_10,
    };
    let method = request.method.unwrap_or_default().as_bytes();
    let method = Method::from_bytes(method).map_err(|_| Flaw::Syntax(httparse::Error::Token))?;
    let memory = Memory::new(&input[..length]);
    let uri = memory.slice(request.path.unwrap_or_default().as_bytes());
    let uri = Uri::from_maybe_shared(uri).map_err(|_| Flaw::Target)?;
    let mut says = Says::default();
    let headers = says.read(request.headers, &memory)?;
    Ok(Some(Read {
        framing: says.framing(version)?,
        keep: version == Version::HTTP_11 && !says.close,
        expects_continue: version == Version::HTTP_11 && says.expects_continue,
        method,
        uri,
        version,
        headers,
        length,
    }))
}

/// A copy of a head, of which its parts are slices.
struct Memory {
    copy: Bytes,
    /// Where the head was copied from.
    from: usize,
}

impl Memory {
    fn new(head: &[u8]) -> Self {
        Self {
            copy: Bytes::copy_from_slice(head),
            from: head.as_ptr() as usize,
        }
    }

    /// The part that was `part` of what was copied.
    fn slice(&self, part: &[u8]) -> Bytes {
        let start = part.as_ptr() as usize - self.from;
        self.copy.slice(start..start + part.len())
    }
}

/// What a head says of its body and its connection.
#[derive(Default)]
struct Says {
    length: Option<u64>,
    encodings: usize,
    chunked: bool,
    close: bool,
    expects_continue: bool,
}

impl Says {
    fn read(
        &mut self,
        fields: &[httparse::Header<'_>],
        memory: &Memory,
    ) -> Result<HeaderMap, Flaw> {
        let mut headers = HeaderMap::with_capacity(fields.len());
        for field in fields {
            self.note(field)?;
            let name = HeaderName::from_bytes(field.name.as_bytes())
                .map_err(|_| Flaw::Syntax(httparse::Error::HeaderName))?;
            let value = HeaderValue::from_maybe_shared(memory.slice(field.value))
                .map_err(|_| Flaw::Syntax(httparse::Error::HeaderValue))?;
            headers.append(name, value);
        }
        Ok(headers)
    }

    fn note(&mut self, field: &httparse::Header<'_>) -> Result<(), Flaw> {
        let is = |name| field.name.eq_ignore_ascii_case(name);
        // Told apart by their length first: most are none of these.
        match field.name.len() {
            6 if is("expect") => {
                self.expects_continue = field.value.eq_ignore_ascii_case(b"100-continue");
            }
            10 if is("connection") => {
                let mut words = field.value.split(|byte| *byte == b',');
                self.close |= words.any(|word| word.trim_ascii().eq_ignore_ascii_case(b"close"));
            }
            14 if is("content-length") => {
                let length = parse_decimal(field.value).ok_or(Flaw::Length)?;
                let before = self.length.replace(length);
                if before.is_some_and(|before| before != length) {
                    return Err(Flaw::Length);
                }
            }
            17 if is("transfer-encoding") => {
                self.encodings += 1;
                self.chunked = field.value.eq_ignore_ascii_case(b"chunked");
            }
            _ => {}
        }
        Ok(())
    }

    /// A length and a coding together are how requests are smuggled past a proxy: refused, never
    /// repaired (RFC 9112, 6.1).
    fn framing(&self, version: Version) -> Result<Framing, Flaw> {
        match (self.encodings, self.length) {
            (0, length) => Ok(Framing::Length(length.unwrap_or(0))),
            (_, Some(_)) => Err(Flaw::Contradiction),
            (1, None) if self.chunked && version == Version::HTTP_11 => Ok(Framing::Chunked),
            (_, None) => Err(Flaw::Encoding),
        }
    }
}

// === impl Flaw ===

impl Flaw {
    /// The status that says it.
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge(_) | Self::TooMany(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Encoding => StatusCode::NOT_IMPLEMENTED,
            Self::Syntax(_) | Self::Target | Self::Length | Self::Contradiction => {
                StatusCode::BAD_REQUEST
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits {
        bytes: 4096,
        fields: 50,
    };

    fn told(lines: &str) -> Result<(Framing, bool), Flaw> {
        let head = format!("POST /v1/messages HTTP/1.1\r\nHost: h\r\n{lines}\r\n");
        let read = read(head.as_bytes(), LIMITS)?.expect("it is whole");
        assert_eq!(read.length, head.len());
        Ok((read.framing, read.keep))
    }

    #[test]
    fn a_head_is_read_whole() {
        let text =
            b"POST /v1/messages?beta=true HTTP/1.1\r\nHost: h\r\nX-A: 1\r\nx-a: \xc3\xa9 2\r\n\
                     Content-Length: 2\r\nExpect: 100-Continue\r\n\r\n{}";
        let read = read(text, LIMITS).expect("valid").expect("whole");
        assert_eq!(read.method, Method::POST);
        assert_eq!(read.uri, "/v1/messages?beta=true");
        assert_eq!(read.version, Version::HTTP_11);
        let values: Vec<_> = read.headers.get_all("x-a").iter().collect();
        assert_eq!(values, [b"1".as_slice(), b"\xc3\xa9 2".as_slice()]);
        assert_eq!(read.framing, Framing::Length(2));
        assert!(read.keep && read.expects_continue);
        assert_eq!(&text[read.length..], b"{}");
    }

    #[test]
    fn a_head_that_has_not_come_wholly_is_waited_for() {
        let text = b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n";
        for end in 0..text.len() {
            assert!(read(&text[..end], LIMITS).expect("valid so far").is_none());
        }
        assert!(read(text, LIMITS).expect("valid").is_some());
    }

    #[test]
    fn a_body_ends_where_the_head_says() {
        assert_eq!(told(""), Ok((Framing::Length(0), true)));
        assert_eq!(
            told("Content-Length: 5\r\nContent-Length: 5\r\n"),
            Ok((Framing::Length(5), true))
        );
        assert_eq!(
            told("Transfer-Encoding: Chunked\r\nConnection: te, Close\r\n"),
            Ok((Framing::Chunked, false))
        );
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        for (lines, flaw) in [
            ("Content-Length: 5\r\nContent-Length: 6\r\n", Flaw::Length),
            ("Content-Length: 5, 5\r\n", Flaw::Length),
            ("Content-Length: +5\r\n", Flaw::Length),
            ("Content-Length: 0x5\r\n", Flaw::Length),
            ("Content-Length:\r\n", Flaw::Length),
            ("Content-Length: 99999999999999999999\r\n", Flaw::Length),
            (
                "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
                Flaw::Contradiction,
            ),
            (
                "Transfer-Encoding: identity\r\ncontent-length: 5\r\n",
                Flaw::Contradiction,
            ),
            ("Transfer-Encoding: gzip, chunked\r\n", Flaw::Encoding),
            ("Transfer-Encoding: chunked, chunked\r\n", Flaw::Encoding),
            ("Transfer-Encoding: xchunked\r\n", Flaw::Encoding),
            ("Transfer-Encoding: identity\r\n", Flaw::Encoding),
            (
                "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n",
                Flaw::Encoding,
            ),
        ] {
            assert_eq!(told(lines), Err(flaw), "{lines}");
        }
        for lines in ["A : b\r\n", " A: b\r\n", "A: b\r\n c\r\n", "A: b\0c\r\n"] {
            assert!(matches!(told(lines), Err(Flaw::Syntax(_))), "{lines:?}");
        }
        let old = b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(read(old, LIMITS).err(), Some(Flaw::Encoding));
    }

    #[test]
    fn the_oldest_version_has_one_request_a_connection() {
        let text = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        let read = read(text, LIMITS).expect("valid").expect("whole");
        assert_eq!((read.version, read.keep), (Version::HTTP_10, false));
    }

    #[test]
    fn limits_and_versions_have_their_own_status() {
        for (head, status) in [
            ("GET / HTTP/2.0\r\n\r\n".to_owned(), 505),
            ("NOT HTTP\r\n\r\n".to_owned(), 400),
            ("GET /a b HTTP/1.1\r\n\r\n".to_owned(), 505),
            ("\x16\x03\x01\x02".to_owned(), 400),
            (
                format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(51)),
                431,
            ),
            (format!("GET /{}", "a".repeat(4096)), 431),
            (
                format!("GET / HTTP/1.1\r\nA: {}\r\n\r\n", "a".repeat(4096)),
                431,
            ),
        ] {
            let flaw = read(head.as_bytes(), LIMITS).expect_err("it is wrong");
            assert_eq!(flaw.status(), status, "{flaw} for {head:.40}");
        }
        let most = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(50));
        let read = read(most.as_bytes(), LIMITS)
            .expect("valid")
            .expect("whole");
        assert_eq!(read.headers.len(), 50);
    }

    proptest! {
        /// Any bytes are a head, the beginning of one, or refused; and what was read as a head is one
        /// in any pieces.
        #[test]
        fn hostile_bytes_are_read_or_refused(
            tail in prop::collection::vec(prop::sample::select(b"Content-Length: Transfer-Encoding\r\n\r\nchunked 0159,\0\xff".to_vec()), 0..120),
            any in prop::collection::vec(any::<u8>(), 0..60),
        ) {
            let _ = read(&any, LIMITS);
            let text = [b"POST / HTTP/1.1\r\n".as_slice(), &tail].concat();
            if let Ok(Some(found)) = read(&text, LIMITS) {
                prop_assert!(found.length <= text.len());
                prop_assert!(matches!(read(&text[..found.length - 1], LIMITS), Ok(None)));
                let shorter = read(&text[..found.length], LIMITS);
                prop_assert_eq!(shorter.expect("read").expect("whole").framing, found.framing);
            }
        }
    }
}
