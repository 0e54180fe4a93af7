//! The heads of HTTP/1.1 (RFC 9112): a request's as it is written, a response's as it is read.

use std::mem::MaybeUninit;

use http::{HeaderMap, Method, Request, StatusCode, header};

use holdfast_http1::{Framing, parse_decimal, push_decimal};

/// The largest response head that is read, in bytes.
pub(crate) const MAX_HEAD: usize = 256 << 10;
/// The most header lines of a response.
const MAX_FIELDS: usize = 128;

/// A response's status, and those of its headers that anybody asks for; each the first of its name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Head {
    pub status: StatusCode,
    pub content_type: Option<String>,
    pub content_encoding: Option<String>,
    pub retry_after: Option<String>,
    /// `OpenAI`'s, finer than the standard one.
    pub retry_after_ms: Option<String>,
}

/// What is wrong with a response head.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Flaw {
    #[error("invalid HTTP version parsed")]
    Version,
    #[error("invalid response head: {0}")]
    Syntax(httparse::Error),
    #[error("message head is too large")]
    TooLarge,
    #[error("invalid content-length parsed")]
    Length,
    #[error("unsupported transfer-encoding")]
    Encoding,
    #[error("switched to a protocol that was not asked for")]
    Switched,
}

/// A response head that was read, and what it says of its body and its connection.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) head: Head,
    pub(crate) framing: Framing,
    /// Whether another request may follow on the connection.
    pub(crate) keep: bool,
    /// Bytes of the head.
    pub(crate) length: usize,
}

/// Writes a request's head, with the length of its body.
pub(crate) fn write<B>(request: &Request<B>, length: u64, out: &mut Vec<u8>) {
    let path = request.uri().path_and_query();
    out.extend_from_slice(request.method().as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(path.map_or("/", |path| path.as_str()).as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in request.headers() {
        // The body's length is known here alone, and it is never chunked.
        if *name == header::CONTENT_LENGTH || *name == header::TRANSFER_ENCODING {
            continue;
        }
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if length > 0 || *request.method() == Method::POST {
        out.extend_from_slice(b"content-length: ");
        push_decimal(length, out);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Reads the head at the front of `input`; `None` = there is more to come.
pub(crate) fn read(input: &[u8]) -> Result<Option<Read>, Flaw> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut response,
        input,
        &mut fields,
    );
    let length = match parsed {
        Ok(httparse::Status::Complete(length)) if length <= MAX_HEAD => length,
        Ok(httparse::Status::Partial) if input.len() <= MAX_HEAD => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Flaw::TooLarge),
        Err(httparse::Error::Version) => return Err(Flaw::Version),
        Err(error) => return Err(Flaw::Syntax(error)),
    };
    let is_newest = response.version == Some(1);
    let status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok());
    let status = status.ok_or(Flaw::Syntax(httparse::Error::Status))?;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Flaw::Switched);
    }
    let says = Says::read(response.headers, is_newest)?;
    Ok(Some(Read {
        framing: says.framing(status),
        keep: says.keep(is_newest),
        length,
        head: Head {
            status,
            ..says.head
        },
    }))
}

/// What a head says, also of its body and its connection.
#[derive(Default)]
struct Says {
    head: Head,
    length: Option<u64>,
    encoded: bool,
    chunked: bool,
    close: bool,
    keep_alive: bool,
}

// === impl Says ===

impl Says {
    fn read(fields: &[httparse::Header<'_>], is_newest: bool) -> Result<Self, Flaw> {
        let mut says = Self::default();
        for field in fields {
            // Told apart by their length first: most are none of these.
            match field.name.len() {
                14 if field.name.eq_ignore_ascii_case("content-length") => {
                    // One who joins equal lines to a list says nothing new.
                    for text in field.value.split(|byte| *byte == b',') {
                        let length = parse_decimal(text.trim_ascii()).ok_or(Flaw::Length)?;
                        if says
                            .length
                            .replace(length)
                            .is_some_and(|other| other != length)
                        {
                            return Err(Flaw::Length);
                        }
                    }
                }
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    // Only chunked can be undone here, and only if it is the only one.
                    if says.encoded || !field.value.eq_ignore_ascii_case(b"chunked") || !is_newest {
                        return Err(Flaw::Encoding);
                    }
                    (says.encoded, says.chunked) = (true, true);
                }
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    for word in field.value.split(|byte| *byte == b',') {
                        let word = word.trim_ascii();
                        says.close |= word.eq_ignore_ascii_case(b"close");
                        says.keep_alive |= word.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                _ => says.head.note(field.name, field.value),
            }
        }
        Ok(says)
    }

    fn framing(&self, status: StatusCode) -> Framing {
        let is_bodiless = status.is_informational()
            || status == StatusCode::NO_CONTENT
            || status == StatusCode::NOT_MODIFIED;
        match self.length {
            _ if is_bodiless => Framing::Length(0),
            _ if self.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        }
    }

    /// A length beside chunks may be somebody's trick: such a connection is not used again (RFC 9112,
    /// 6.3).
    fn keep(&self, is_newest: bool) -> bool {
        let agrees = !(self.chunked && self.length.is_some());
        !self.close && (is_newest || self.keep_alive) && agrees
    }
}

// === impl Head ===

impl Head {
    pub(crate) fn of(status: StatusCode, headers: &HeaderMap) -> Self {
        let mut head = Self {
            status,
            ..Self::default()
        };
        for (name, value) in headers {
            head.note(name.as_str(), value.as_bytes());
        }
        head
    }

    /// Keeps a header that is asked for. One that is no text is none.
    fn note(&mut self, name: &str, value: &[u8]) {
        let (place, known) = match name.len() {
            11 => (&mut self.retry_after, "retry-after"),
            12 => (&mut self.content_type, "content-type"),
            14 => (&mut self.retry_after_ms, "retry-after-ms"),
            16 => (&mut self.content_encoding, "content-encoding"),
            _ => return,
        };
        if place.is_none() && name.eq_ignore_ascii_case(known) {
            *place = std::str::from_utf8(value).ok().map(str::to_owned);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framing(lines: &str) -> Result<(Framing, bool), Flaw> {
        let read = read(format!("{lines}\r\n\r\n").as_bytes())?.expect("it is whole");
        Ok((read.framing, read.keep))
    }

    #[test]
    fn a_request_is_written_with_its_length() {
        let request = Request::post("/v1/messages?beta=true")
            .header("host", "vendor.test")
            .header("content-length", "7")
            .header("x-a", "b")
            .body(())
            .expect("a request");
        let mut out = Vec::new();
        write(&request, 1_048_576, &mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            "POST /v1/messages?beta=true HTTP/1.1\r\nhost: vendor.test\r\nx-a: b\r\n\
             content-length: 1048576\r\n\r\n"
        );
        out.clear();
        write(
            &Request::get("http://vendor.test")
                .body(())
                .expect("a request"),
            0,
            &mut out,
        );
        assert_eq!(out, b"GET / HTTP/1.1\r\n\r\n");
        out.clear();
        push_decimal(u64::MAX, &mut out);
        assert_eq!(out, u64::MAX.to_string().as_bytes());
    }

    #[test]
    fn headers_are_found_by_name() {
        let text = "HTTP/1.1 200 OK\r\nContent-Type:  text/event-stream \r\nX-Content-Type: no\r\n\
                    retry-after:1\r\nRetry-After: 2\r\nRetry-After-Ms: 5\r\n\r\nhello";
        let read = read(text.as_bytes()).expect("valid").expect("whole");
        assert_eq!(&text[read.length..], "hello");
        let expected = Head {
            status: StatusCode::OK,
            content_type: Some("text/event-stream".to_owned()),
            content_encoding: None,
            retry_after: Some("1".to_owned()),
            retry_after_ms: Some("5".to_owned()),
        };
        assert_eq!(read.head, expected);
        let headers = [
            ("content-type", "text/event-stream"),
            ("retry-after", "1"),
            ("retry-after", "2"),
            ("retry-after-ms", "5"),
        ];
        let headers = headers.map(|(name, value)| {
            let value = http::HeaderValue::from_static(value);
            (http::HeaderName::from_static(name), value)
        });
        let map = headers
            .into_iter()
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            });
        assert_eq!(Head::of(StatusCode::OK, &map), expected);
    }

    #[test]
    fn framing_follows_the_specification() {
        use Framing::{Chunked, Close, Length};
        for (lines, expected) in [
            ("HTTP/1.1 200 OK", (Close, true)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5", (Length(5), true)),
            (
                "HTTP/1.1 200\r\ncontent-length: 5\r\ncontent-length: 5, 5",
                (Length(5), true),
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked",
                (Chunked, true),
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 5",
                (Length(5), false),
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 5", (Length(5), false)),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: Keep-Alive",
                (Length(5), true),
            ),
            ("HTTP/1.1 204 No\r\nContent-Length: 5", (Length(0), true)),
            (
                "HTTP/1.1 304 No\r\nTransfer-Encoding: chunked",
                (Length(0), true),
            ),
            ("HTTP/1.1 100 Continue", (Length(0), true)),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked",
                (Chunked, false),
            ),
        ] {
            assert_eq!(framing(lines), Ok(expected), "{lines}");
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        for (lines, flaw) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6",
                Flaw::Length,
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: +5", Flaw::Length),
            ("HTTP/1.1 200 OK\r\nContent-Length: 5, 6", Flaw::Length),
            ("HTTP/1.1 200 OK\r\nContent-Length:", Flaw::Length),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999",
                Flaw::Length,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
                Flaw::Encoding,
            ),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                Flaw::Encoding,
            ),
            (
                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked",
                Flaw::Encoding,
            ),
            ("HTTP/1.1 101 Switching\r\nUpgrade: x", Flaw::Switched),
            ("HTTP/2 200 OK", Flaw::Version),
            ("SSH-2.0-OpenSSH_9.6", Flaw::Version),
        ] {
            assert_eq!(framing(lines), Err(flaw), "{lines}");
        }
        for lines in [
            "HTTP/1.1 200 OK\r\na : b",
            "HTTP/1.1 200 OK\r\n b: c",
            "HTTP/1.1 20 OK",
        ] {
            assert!(matches!(framing(lines), Err(Flaw::Syntax(_))), "{lines}");
        }
        let many = format!("HTTP/1.1 200 OK{}", "\r\na: b".repeat(MAX_FIELDS + 1));
        assert_eq!(framing(&many), Err(Flaw::TooLarge));
    }

    #[test]
    fn a_head_that_has_not_come_wholly_is_waited_for() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        for end in 0..text.len() {
            assert!(read(&text[..end]).expect("valid so far").is_none());
        }
    }

    proptest! {
        /// Any bytes are a head, the beginning of one, or refused; and a head that was read is read from
        /// no less than itself.
        #[test]
        fn hostile_bytes_are_read_or_refused(
            tail in prop::collection::vec(prop::sample::select(b"Content-Length: Transfer-Encoding\r\n\r\nchunked 0159,".to_vec()), 0..120),
            any in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let _ = read(&any);
            let text = [b"HTTP/1.1 200 OK\r\n".as_slice(), &tail].concat();
            if let Ok(Some(found)) = read(&text) {
                prop_assert!(found.length <= text.len());
                prop_assert!(matches!(read(&text[..found.length - 1]), Ok(None)));
            }
        }
    }
}
