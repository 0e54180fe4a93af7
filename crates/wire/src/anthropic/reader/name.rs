//! Gives a frame the `event` line that it should have.
//!
//! The Messages dialect says the type of each event twice, and the vendor's Python SDK drops a frame
//! without an `event` line (wire facts, 2.1). Some imitators send `data` alone.

use bytes::{BufMut as _, Bytes, BytesMut};

use super::shape;
use crate::sse;

/// The bytes of `frame`, with the type of its data as its `event` where it has none. Nothing else is
/// changed, and frames without data or a type stay as they are.
pub fn with_event_name(frame: &sse::Frame) -> Bytes {
    let raw = frame.raw();
    if frame.event().is_some() {
        return raw.clone();
    }
    let Some(data) = frame.data() else {
        return raw.clone();
    };
    let kind = serde_json::from_slice::<shape::Kind<'_>>(&data).ok();
    let Some(kind) = kind.and_then(|kind| kind.kind) else {
        return raw.clone();
    };
    if kind.0.contains(['\r', '\n']) {
        return raw.clone();
    }
    // Only the first line of a stream may begin with a byte order mark.
    let rest = raw.strip_prefix("\u{feff}".as_bytes()).unwrap_or(raw);
    let mut named = BytesMut::with_capacity(rest.len() + kind.0.len() + 8);
    named.put_slice(b"event: ");
    named.put_slice(kind.0.as_bytes());
    named.put_slice(b"\n");
    named.put_slice(rest);
    named.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(frame: &str) -> String {
        let frame = sse::Frame::new(Bytes::copy_from_slice(frame.as_bytes())).unwrap();
        String::from_utf8(with_event_name(&frame).to_vec()).unwrap()
    }

    #[test]
    fn a_missing_name_is_put_in_and_nothing_else() {
        assert_eq!(
            named("data: {\"type\":\"ping\"}\r\n\r\n"),
            "event: ping\ndata: {\"type\":\"ping\"}\r\n\r\n"
        );
        assert_eq!(
            named("\u{feff}data: {\"type\":\"new\", \"x\": 1}\n\n"),
            "event: new\ndata: {\"type\":\"new\", \"x\": 1}\n\n"
        );
        for same in [
            "event: ping\ndata: {\"type\":\"ping\"}\n\n",
            ": comment\n\n",
            "data: {}\n\n",
            "data: [DONE]\n\n",
            "data: {\"type\":\"a\\nb\"}\n\n",
        ] {
            assert_eq!(named(same), same);
        }
    }
}
