//! The head of a response, as a server writes it, and the framing of its body (RFC 9112, 4 to 7).

use http::{HeaderMap, StatusCode, header};

use crate::number::{push_decimal, push_hexadecimal};

/// Sent before the head of a response to a client that waits for it with its body.
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Behind the last chunk.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";
/// Behind the content of a chunk.
pub const CHUNK_END: &[u8] = b"\r\n";
/// Both.
pub const CHUNK_END_AND_LAST: &[u8] = b"\r\n0\r\n\r\n";

/// How the end of a response's body is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ends {
    /// After so many bytes.
    Length(u64),
    /// By the last chunk.
    Chunked,
    /// By the close of the connection: for clients of HTTP/1.0.
    Close,
}

/// Writes the head of a response. What `headers` say of framing and connection is passed over: it is
/// known here alone.
pub fn write(
    status: StatusCode,
    headers: &HeaderMap,
    date: &[u8],
    ends: Ends,
    keep: bool,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    // A status without a name of its own has an empty one.
    out.extend_from_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    for (name, value) in headers {
        if *name == header::CONTENT_LENGTH
            || *name == header::TRANSFER_ENCODING
            || *name == header::CONNECTION
        {
            continue;
        }
        push_line(name.as_str().as_bytes(), value.as_bytes(), out);
    }
    push_line(b"date", date, out);
    match ends {
        Ends::Length(_) if is_bodiless(status) => {}
        Ends::Length(length) => {
            out.extend_from_slice(b"\r\ncontent-length: ");
            push_decimal(length, out);
        }
        Ends::Chunked => push_line(b"transfer-encoding", b"chunked", out),
        Ends::Close => {}
    }
    if !keep {
        push_line(b"connection", b"close", out);
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Writes what stands before the content of a chunk, which must not be empty: that would be the last.
pub fn begin_chunk(length: usize, out: &mut Vec<u8>) {
    push_hexadecimal(length as u64, out);
    out.extend_from_slice(b"\r\n");
}

/// Statuses whose responses have no body, and no length either (RFC 9110, 8.6).
pub fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
}

fn push_line(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn written(status: u16, ends: Ends, keep: bool) -> String {
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("1"));
        headers.append("x-a", HeaderValue::from_static("2"));
        headers.insert("content-length", HeaderValue::from_static("99"));
        headers.insert("connection", HeaderValue::from_static("keep-alive"));
        let status = StatusCode::from_u16(status).expect("a status");
        let mut out = Vec::new();
        write(status, &headers, b"now", ends, keep, &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn a_head_tells_where_its_body_ends_and_what_comes_of_the_connection() {
        assert_eq!(
            written(200, Ends::Length(12), true),
            "HTTP/1.1 200 OK\r\nx-a: 1\r\nx-a: 2\r\ndate: now\r\ncontent-length: 12\r\n\r\n"
        );
        assert_eq!(
            written(529, Ends::Chunked, false),
            "HTTP/1.1 529 \r\nx-a: 1\r\nx-a: 2\r\ndate: now\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(
            written(204, Ends::Length(0), true),
            "HTTP/1.1 204 No Content\r\nx-a: 1\r\nx-a: 2\r\ndate: now\r\n\r\n"
        );
    }

    #[test]
    fn a_chunk_begins_with_its_size() {
        let mut out = Vec::new();
        begin_chunk(4096, &mut out);
        assert_eq!(out, b"1000\r\n");
    }
}
