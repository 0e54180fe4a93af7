//! The body of a request, over either version of HTTP.

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use crate::caller;

/// What a caller sends behind the head.
pub(crate) enum Asked {
    Http1(caller::Body),
    Http2(Incoming),
}

impl Asked {
    /// Its length in bytes, if the head tells it.
    pub(crate) fn told(&self) -> Option<u64> {
        match self {
            Self::Http1(body) => body.told(),
            Self::Http2(body) => body.size_hint().exact(),
        }
    }

    /// All of it, if it is there already.
    pub(crate) fn take_whole(&mut self) -> Option<Bytes> {
        match self {
            Self::Http1(body) => body.take_whole(),
            Self::Http2(body) => body.is_end_stream().then(Bytes::new),
        }
    }

    /// Appends what comes next to `all`; `false` = it has ended. The error says why it can't be read on.
    pub(crate) async fn more(&mut self, all: &mut BytesMut) -> Result<bool, String> {
        let body = match self {
            Self::Http1(body) => return body.more(all).await.map_err(|error| error.to_string()),
            Self::Http2(body) => body,
        };
        let Some(frame) = body.frame().await else {
            return Ok(false);
        };
        let frame = frame.map_err(|error| error.to_string())?;
        all.extend_from_slice(&frame.into_data().unwrap_or_default());
        Ok(true)
    }
}
