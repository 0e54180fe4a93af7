//! Server-sent events as the vendors' SDKs read them: the data of each event, nothing more.
//!
//! Holdfast's own reader is not used here on purpose: the demo must not judge Holdfast by Holdfast.

/// The bytes that are not an event yet.
#[derive(Debug, Default)]
pub(super) struct Events {
    pending: Vec<u8>,
    data: Vec<Vec<u8>>,
}

/// An event whose data is no UTF-8.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct NotText;

impl Events {
    /// Takes bytes as they arrive; gives the data of every event that they complete. An event that
    /// the end of the body cuts off is dropped, as the SDKs do.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<Vec<String>, NotText> {
        self.pending.extend_from_slice(bytes);
        let mut events = Vec::new();
        while let Some(end) = self.pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.pending.drain(..=end).collect();
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                if !self.data.is_empty() {
                    let data = std::mem::take(&mut self.data).join(&b'\n');
                    events.push(String::from_utf8(data).map_err(|_| NotText)?);
                }
            } else if let Some(value) = line.strip_prefix(b"data:") {
                let value = value.strip_prefix(b" ").unwrap_or(value);
                self.data.push(value.to_vec());
            }
        }
        Ok(events)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": hello\r\n\r\nevent: a\r\ndata: {\"é\":1}\r\n\r\ndata:x\ndata: y\n\ndata: [DONE]\n\ndata: cut";

    #[test]
    fn any_chunking_gives_the_same_events() {
        let expected = ["{\"é\":1}", "x\ny", "[DONE]"];
        for size in 1..STREAM.len() {
            let mut reader = Events::default();
            let mut events = Vec::new();
            for chunk in STREAM.as_bytes().chunks(size) {
                events.extend(reader.push(chunk).unwrap());
            }
            assert_eq!(events, expected, "chunks of {size}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_told() {
        assert_eq!(Events::default().push(b"data: \xff\n\n"), Err(NotText));
    }
}
