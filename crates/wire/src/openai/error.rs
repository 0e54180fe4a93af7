//! Writes errors in the Chat dialect: as a status's body, and inside a stream that has begun.

use bytes::{BufMut as _, BytesMut};

use crate::error::CallerError;
use crate::json;

/// The `error.type` of an HTTP status (wire facts, 4.2).
pub fn error_kind(status: u16) -> &'static str {
    match status {
        402 => "insufficient_quota",
        429 => "rate_limit_error",
        503 | 529 => "service_unavailable_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// Appends the chunk that makes every client of a stream fail. No `[DONE]` may follow, and the
/// transport must be aborted: some clients take a neat end for a whole answer.
pub fn error_frame(error: &CallerError, out: &mut BytesMut) {
    out.put_slice(b"data: ");
    object(error, out);
    out.put_slice(b"\n\n");
}

/// The JSON body of an error status.
pub fn error_body(error: &CallerError) -> Vec<u8> {
    let mut out = BytesMut::new();
    object(error, &mut out);
    out.into()
}

/// The dialect has no place for a request id; it goes by header.
fn object(error: &CallerError, out: &mut BytesMut) {
    out.put_slice(br#"{"error":{"message":"#);
    json::string(&error.message, out);
    out.put_slice(br#","type":"#);
    json::string(&error.kind, out);
    out.put_slice(br#","param":null,"code":"#);
    if error.code.is_empty() {
        out.put_slice(b"null");
    } else {
        json::string(&error.code, out);
    }
    out.put_slice(b"}}");
}
