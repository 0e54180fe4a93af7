//! Reads a text delta by its likeness to the one before.
//!
//! The frames of a stream's tokens differ in their text alone. Once a frame was parsed and gave
//! nothing but a text, another one with the same bytes before and behind its text, and a text that
//! needs no unescaping, says the same with that text: JSON has no other reading of it. Whatever is
//! different in any byte is parsed. That this changes no reader's state is the reader's part: it
//! forgets the stencil with every frame that it parses.

use std::borrow::Cow;

use crate::envelope::plain;
use crate::turn::{Delta, Event};

/// The frame that was parsed last, around its text.
#[derive(Debug, Default)]
pub(crate) struct Stencil {
    /// The block that the text belongs to; `None` = there is nothing to compare with.
    index: Option<u32>,
    before: Vec<u8>,
    behind: Vec<u8>,
}

/// What a frame gave while it was parsed.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    events: usize,
    /// The block, and where in the data its text lies: from, to.
    text: Option<(u32, usize, usize)>,
}

// === impl Stencil ===

impl Stencil {
    /// The delta that `data` is, if it is the last one with another text.
    pub(crate) fn read<'a>(&self, data: &'a [u8]) -> Option<Event<'a>> {
        let index = self.index?;
        let text = data
            .strip_prefix(&*self.before)?
            .strip_suffix(&*self.behind)?;
        if text.is_empty() || plain(text) < text.len() {
            return None;
        }
        let text = Cow::Borrowed(std::str::from_utf8(text).ok()?);
        let delta = Delta::Text(text);
        Some(Event::Delta { index, delta })
    }

    /// Takes the measure of a frame that was parsed.
    pub(crate) fn learn(&mut self, data: &[u8], trace: &Trace) {
        self.index = None;
        let (1, Some((index, from, to))) = (trace.events, trace.text) else {
            return;
        };
        self.index = Some(index);
        self.before.clear();
        self.before.extend_from_slice(&data[..from]);
        self.behind.clear();
        self.behind.extend_from_slice(&data[to..]);
    }
}

// === impl Trace ===

impl Trace {
    /// Notes an event of the frame with this data.
    pub(crate) fn note(&mut self, event: &Event<'_>, data: &[u8]) {
        self.events += 1;
        if let Event::Delta {
            index,
            delta: Delta::Text(Cow::Borrowed(text)),
        } = event
        {
            let from = (text.as_ptr() as usize).wrapping_sub(data.as_ptr() as usize);
            let to = from.wrapping_add(text.len());
            // A text from elsewhere is not in the data, and an empty one may be anywhere.
            let is_inside = from > 0 && from < to && to < data.len();
            self.text = is_inside.then_some((*index, from, to));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAME: &str = r#"{"id":"a","delta":{"content":" token"},"n":null}"#;

    fn learnt() -> Stencil {
        let (mut stencil, mut trace) = (Stencil::default(), Trace::default());
        let from = FRAME.find(" token").unwrap();
        let text = Cow::Borrowed(&FRAME[from..from + " token".len()]);
        let delta = Delta::Text(text);
        trace.note(&Event::Delta { index: 3, delta }, FRAME.as_bytes());
        stencil.learn(FRAME.as_bytes(), &trace);
        stencil
    }

    fn read(stencil: &Stencil, frame: &str) -> Option<String> {
        match stencil.read(frame.as_bytes())? {
            Event::Delta {
                index: 3,
                delta: Delta::Text(text),
            } => Some(text.into_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_frame_that_differs_in_its_text_alone_is_read() {
        let stencil = learnt();
        for text in [" token", "x", "日本", "{}[]:,'"] {
            let frame = FRAME.replace(" token", text);
            assert_eq!(read(&stencil, &frame).as_deref(), Some(text));
        }
    }

    #[test]
    fn every_other_frame_is_left_to_be_parsed() {
        let stencil = learnt();
        for frame in [
            FRAME.replace(" token", ""),
            FRAME.replace(" token", r"a\n"),
            FRAME.replace(" token", r#"a","b":"c"#),
            FRAME.replace(" token", "a\u{1}"),
            FRAME.replace("null", "1"),
            FRAME.replace("\"a\"", "\"b\""),
            FRAME[..FRAME.len() - 1].to_owned(),
            format!("{FRAME} "),
            String::new(),
        ] {
            assert_eq!(read(&stencil, &frame), None, "{frame}");
        }
        let mut bad = FRAME.replace(" token", "x").into_bytes();
        let at = bad.iter().position(|byte| *byte == b'x').unwrap();
        bad[at] = 0xff;
        assert!(stencil.read(&bad).is_none());
    }

    #[test]
    fn what_gave_more_than_a_text_teaches_nothing() {
        let mut stencil = learnt();
        let mut trace = Trace::default();
        let delta = Delta::Text(Cow::Borrowed("elsewhere"));
        trace.note(&Event::Delta { index: 3, delta }, FRAME.as_bytes());
        stencil.learn(FRAME.as_bytes(), &trace);
        assert_eq!(read(&stencil, FRAME), None);
        let mut stencil = learnt();
        trace.note(&Event::Ping, FRAME.as_bytes());
        stencil.learn(FRAME.as_bytes(), &trace);
        assert_eq!(read(&stencil, FRAME), None);
    }

    /// Frames that are alike in most of their bytes, some of them broken.
    fn frames(shape: &'static str) -> impl Strategy<Value = Vec<String>> {
        let text = prop::sample::select(vec![
            "",
            " a",
            "b",
            "é",
            r"\n",
            r#"\""#,
            "\u{1}",
            r#"","content":""#,
            "[DONE]",
        ]);
        let rest = prop::sample::select(vec!["null", "\"stop\"", "1", "{", ""]);
        let index = prop::sample::select(vec!["0", "1", "-1"]);
        let frame = (
            text,
            prop_oneof![9 => Just("null"), 1 => rest],
            prop_oneof![9 => Just("0"), 1 => index],
        );
        let frame = frame.prop_map(move |(text, rest, index)| {
            shape
                .replace("TEXT", text)
                .replace("REST", rest)
                .replace("INDEX", index)
        });
        prop::collection::vec(frame, 1..12)
    }

    /// The events of all frames: as they are read, and as each is parsed.
    macro_rules! both {
        ($reader:ty, $frames:expr, $name:expr) => {{
            let (mut by_likeness, mut parsed) = (<$reader>::default(), <$reader>::default());
            let (mut seen, mut due) = (Vec::new(), Vec::new());
            for frame in $frames {
                let data = frame.as_bytes();
                let is_delta = !frame.contains("_start");
                let name: Option<&[u8]> = $name.filter(|_| is_delta);
                by_likeness.data(name, data, &mut |event| seen.push(format!("{event:?}")));
                parsed.parse(name, data, &mut |event| due.push(format!("{event:?}")));
            }
            (seen, due)
        }};
    }

    proptest! {
        #[test]
        fn chat_is_read_as_it_is_parsed(
            frames in frames(r#"{"id":"c","choices":[{"index":INDEX,"delta":{"content":"TEXT"},"finish_reason":REST}]}"#),
        ) {
            let (seen, due) = both!(crate::openai::reader::Reader, frames, None::<&[u8]>);
            prop_assert_eq!(seen, due);
        }

        #[test]
        fn messages_are_read_as_they_are_parsed(
            frames in frames(r#"{"type":"content_block_delta","index":INDEX,"delta":{"type":"text_delta","text":"TEXT"},"more":REST}"#),
        ) {
            let opening = [
                r#"{"type":"message_start","message":{"id":"m","type":"message","role":"assistant","model":"x","content":[],"usage":{}}}"#,
                r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            ];
            let opening = opening.map(str::to_owned).into_iter();
            let frames: Vec<String> = opening.chain(frames).collect();
            let named = both!(crate::anthropic::reader::Reader, &frames, Some(&b"content_block_delta"[..]));
            prop_assert_eq!(named.0, named.1);
            let nameless = both!(crate::anthropic::reader::Reader, &frames, None::<&[u8]>);
            prop_assert_eq!(nameless.0, nameless.1);
        }
    }
}
