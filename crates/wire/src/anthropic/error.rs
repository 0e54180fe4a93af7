//! Writes errors in the Messages dialect: as a status's body, and inside a stream that has begun.

use bytes::{BufMut as _, BytesMut};

use crate::error::CallerError;
use crate::json;

/// The `error.type` of an HTTP status (wire facts, 4.1).
pub fn error_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        408 | 504 => "timeout_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// Appends the event that makes every client of a stream fail. The transport must be aborted after
/// it: some clients take a neat end for a whole answer.
pub fn error_frame(error: &CallerError, out: &mut BytesMut) {
    out.put_slice(b"event: error\ndata: ");
    object(error, out);
    out.put_slice(b"\n\n");
}

/// The JSON body of an error status.
pub fn error_body(error: &CallerError) -> Vec<u8> {
    let mut out = BytesMut::new();
    object(error, &mut out);
    out.into()
}

fn object(error: &CallerError, out: &mut BytesMut) {
    out.put_slice(br#"{"type":"error","error":{"type":"#);
    json::string(&error.kind, out);
    out.put_slice(br#","message":"#);
    json::string(&error.message, out);
    if !error.code.is_empty() {
        out.put_slice(br#","details":{"error_code":"#);
        json::string(&error.code, out);
        out.put_u8(b'}');
    }
    out.put_u8(b'}');
    if !error.request_id.is_empty() {
        out.put_slice(br#","request_id":"#);
        json::string(&error.request_id, out);
    }
    out.put_u8(b'}');
}
