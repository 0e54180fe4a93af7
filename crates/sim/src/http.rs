//! Just enough of an HTTP/1.1 server's reading side to hear a client out, with every length limited.
//!
//! The writing side is raw bytes (`play`), because breaking it is what the simulated vendor is for.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const MAX_HEADERS: usize = 200;
const MAX_HEAD: usize = 256 << 10;
const MAX_BODY: usize = 64 << 20;

/// One request, wholly read.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// Path and query as sent.
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
}

impl Request {
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    pub(crate) fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// Why no request came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error("the client closed the connection")]
    Closed,
    #[error("{1}")]
    Refused(u16, &'static str),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Reads the next request; bytes after it stay in `buffer`.
pub(crate) async fn read(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
) -> Result<Request, ReadError> {
    let (mut request, length) = loop {
        if let Some(found) = head(buffer)? {
            break found;
        }
        if buffer.len() > MAX_HEAD {
            return Err(ReadError::Refused(431, "the request head is too large"));
        }
        more(stream, buffer).await?;
    };
    if request
        .header("expect")
        .is_some_and(|value| value.eq_ignore_ascii_case("100-continue"))
        && buffer.is_empty()
    {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
    }
    request.body = match length {
        Length::Known(length) if length > MAX_BODY => {
            return Err(ReadError::Refused(413, "the request body is too large"));
        }
        Length::Known(length) => {
            buffer.reserve(length.saturating_sub(buffer.len()));
            while buffer.len() < length {
                more(stream, buffer).await?;
            }
            buffer.split_to(length).freeze()
        }
        Length::Chunked => chunks(stream, buffer).await?,
    };
    Ok(request)
}

enum Length {
    Known(usize),
    Chunked,
}

fn head(buffer: &mut BytesMut) -> Result<Option<(Request, Length)>, ReadError> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let used = match parsed.parse(buffer) {
        Ok(httparse::Status::Complete(used)) => used,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(ReadError::Refused(400, "the request head is malformed")),
    };
    let request = Request {
        method: parsed.method.unwrap_or_default().to_owned(),
        target: parsed.path.unwrap_or_default().to_owned(),
        headers: parsed
            .headers
            .iter()
            .map(|header| {
                (
                    header.name.to_owned(),
                    String::from_utf8_lossy(header.value).into_owned(),
                )
            })
            .collect(),
        body: Bytes::new(),
    };
    buffer.advance(used);
    let chunked = request
        .header("transfer-encoding")
        .is_some_and(|value| value.to_ascii_lowercase().contains("chunked"));
    let length = match (chunked, request.header("content-length")) {
        (true, Some(_)) => {
            return Err(ReadError::Refused(
                400,
                "both content-length and transfer-encoding",
            ));
        }
        (true, None) => Length::Chunked,
        (false, None) => Length::Known(0),
        (false, Some(text)) => Length::Known(
            text.parse()
                .map_err(|_| ReadError::Refused(400, "content-length is no number"))?,
        ),
    };
    Ok(Some((request, length)))
}

async fn chunks(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<Bytes, ReadError> {
    let mut body = BytesMut::new();
    loop {
        let (used, size) = loop {
            match httparse::parse_chunk_size(buffer) {
                Ok(httparse::Status::Complete(found)) => break found,
                Ok(httparse::Status::Partial) => more(stream, buffer).await?,
                Err(_) => return Err(ReadError::Refused(400, "a chunk size is no number")),
            }
        };
        buffer.advance(used);
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        if size > MAX_BODY - body.len() {
            return Err(ReadError::Refused(413, "the request body is too large"));
        }
        while buffer.len() < size + 2 {
            more(stream, buffer).await?;
        }
        body.extend_from_slice(&buffer.split_to(size));
        // Trailers are not part of any vendor's protocol: what follows the last chunk must be the blank line.
        if &buffer[..2] != b"\r\n" {
            return Err(ReadError::Refused(
                400,
                "a chunk does not end in a line break",
            ));
        }
        buffer.advance(2);
        if size == 0 {
            return Ok(body.freeze());
        }
    }
}

async fn more(stream: &mut TcpStream, buffer: &mut BytesMut) -> Result<(), ReadError> {
    if stream.read_buf(buffer).await? == 0 {
        Err(ReadError::Closed)
    } else {
        Ok(())
    }
}
