//! The event-stream decoder: tables from the standard, and properties over any chunking.

use bytes::Bytes;
use holdfast_wire::sse::{Decoder, Error, Frame};
use proptest::prelude::*;

const LIMIT: usize = 1 << 20;

/// All frames and the tail, with the stream cut into `chunks`; each chunk is drained before the next.
fn decode(chunks: &[&[u8]], limit: usize) -> (Vec<Frame>, Result<Option<Bytes>, Error>) {
    let mut decoder = Decoder::new(limit);
    let mut frames = Vec::new();
    for chunk in chunks {
        decoder.push(Bytes::copy_from_slice(chunk));
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
    }
    (frames, Ok(decoder.finish()))
}

/// What a frame says: event, data, whether it is a comment.
type Said = (Option<String>, Option<String>, bool);

fn said(frame: &Frame) -> Said {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("the tables are text");
    (
        frame.event().map(text),
        frame.data().map(|data| text(&data)),
        frame.is_comment_only(),
    )
}

fn frame(event: Option<&str>, data: Option<&str>) -> Said {
    (event.map(Into::into), data.map(Into::into), false)
}

fn comment() -> Said {
    (None, None, true)
}

#[test]
fn frames_say_what_the_standard_says() {
    let table: Vec<(&str, Vec<Said>, Option<&str>)> = vec![
        ("", vec![], None),
        ("data: a\n\n", vec![frame(None, Some("a"))], None),
        ("data:a\n\n", vec![frame(None, Some("a"))], None),
        ("data:  a\n\n", vec![frame(None, Some(" a"))], None),
        ("data:\ta\n\n", vec![frame(None, Some("\ta"))], None),
        ("data\n\n", vec![frame(None, Some(""))], None),
        ("data:\n\n", vec![frame(None, Some(""))], None),
        ("data\ndata\n\n", vec![frame(None, Some("\n"))], None),
        (
            "data: a\ndata: b\ndata:\n\n",
            vec![frame(None, Some("a\nb\n"))],
            None,
        ),
        (
            "data: a\r\nid: 1\r\ndata: b\r\n: c\r\ndata: d\r\n\r\n",
            vec![frame(None, Some("a\nb\nd"))],
            None,
        ),
        (
            "data: a\rdata: b\r\r",
            vec![frame(None, Some("a\nb"))],
            None,
        ),
        (
            "event: ping\ndata: {}\n\n",
            vec![frame(Some("ping"), Some("{}"))],
            None,
        ),
        (
            "event: a\nevent: b\ndata: 1\n\n",
            vec![frame(Some("b"), Some("1"))],
            None,
        ),
        ("event\n\n", vec![frame(Some(""), None)], None),
        (": keep-alive\n\n", vec![comment()], None),
        (":\n\n", vec![comment()], None),
        ("\n\n", vec![comment(), comment()], None),
        ("\r\n\r\n\n", vec![comment(), comment(), comment()], None),
        (
            ": OPENROUTER PROCESSING\ndata: x\n\n",
            vec![frame(None, Some("x"))],
            None,
        ),
        ("Data: a\n\n", vec![frame(None, None)], None),
        (" data: a\n\n", vec![frame(None, None)], None),
        ("retry: 10\nid: 7\n\n", vec![frame(None, None)], None),
        ("<html>\n\n", vec![frame(None, None)], None),
        ("\u{feff}data: a\n\n", vec![frame(None, Some("a"))], None),
        ("\u{feff}\n", vec![comment()], None),
        ("\u{feff}\u{feff}data: a\n\n", vec![frame(None, None)], None),
        (
            "data: a\n\n\u{feff}data: b\n\n",
            vec![frame(None, Some("a")), frame(None, None)],
            None,
        ),
        ("data: a\n", vec![], Some("data: a\n")),
        ("data: a", vec![], Some("data: a")),
        (
            "data: a\n\ndata: b\n",
            vec![frame(None, Some("a"))],
            Some("data: b\n"),
        ),
        ("data: a\r\n\r", vec![], Some("data: a\r\n\r")),
        ("data: a\n\r\n", vec![frame(None, Some("a"))], None),
        ("data: a\r\n\n", vec![frame(None, Some("a"))], None),
        (
            "data: a\n\rdata: b\n\n",
            vec![frame(None, Some("a")), frame(None, Some("b"))],
            None,
        ),
        (
            "data: a\r\rdata: b\r\r",
            vec![frame(None, Some("a")), frame(None, Some("b"))],
            None,
        ),
        (
            "data: a\r\r\ndata: b\r\n\r\n",
            vec![frame(None, Some("a")), frame(None, Some("b"))],
            None,
        ),
        (
            "data: é\u{1f98a}\n\n",
            vec![frame(None, Some("é\u{1f98a}"))],
            None,
        ),
    ];
    for (stream, expected, tail) in table {
        let (frames, rest) = decode(&[stream.as_bytes()], LIMIT);
        let got: Vec<Said> = frames.iter().map(said).collect();
        assert_eq!(got, expected, "{stream:?}");
        assert_eq!(
            rest.unwrap().as_deref(),
            tail.map(str::as_bytes),
            "{stream:?}"
        );
    }
}

#[test]
fn a_split_crlf_stays_in_its_frame() {
    let (frames, rest) = decode(&[b"data: a\r\n\r", b"\ndata: b\r", b"\n\r\n"], LIMIT);
    let raws: Vec<&[u8]> = frames.iter().map(|frame| &frame.raw()[..]).collect();
    assert_eq!(raws, [&b"data: a\r\n\r\n"[..], b"data: b\r\n\r\n"]);
    assert_eq!(rest, Ok(None));
}

#[test]
fn whole_frames_are_slices_of_their_chunk() {
    let chunk = Bytes::from_static(b"data: a\n\nevent: x\ndata: b\n\ndata: c");
    let mut decoder = Decoder::new(LIMIT);
    decoder.push(chunk.clone());
    let first = decoder.next_frame().unwrap().unwrap();
    let second = decoder.next_frame().unwrap().unwrap();
    assert_eq!(first.raw().as_ptr(), chunk.as_ptr());
    assert_eq!(second.raw().as_ptr(), chunk[9..].as_ptr());

    let rest = Bytes::from_static(b"c\n\ndata: d\n\n");
    decoder.push(rest.clone());
    assert_eq!(decoder.next_frame().unwrap().unwrap().raw(), "data: cc\n\n");
    let fourth = decoder.next_frame().unwrap().unwrap();
    assert_eq!(fourth.raw().as_ptr(), rest[3..].as_ptr());
    assert_eq!(decoder.next_frame(), Ok(None));
}

#[test]
fn a_frame_at_the_limit_passes_and_one_beyond_never_does() {
    let at = b"data: 12\n\n";
    assert_eq!(decode(&[at], at.len()).0.len(), 1);
    let beyond = Err(Error::FrameTooLong { limit: 9 });
    assert_eq!(decode(&[at], 9), (vec![], beyond.clone()));
    assert_eq!(decode(&[b"data: ", b"12\n\n"], 9), (vec![], beyond.clone()));
    assert_eq!(decode(&[b"no end, no end"], 9), (vec![], beyond));
}

#[test]
fn an_error_stays_and_frees_what_was_held() {
    let mut decoder = Decoder::new(4);
    let error = Err(Error::FrameTooLong { limit: 4 });
    decoder.push(Bytes::from_static(b"\ndata: long\n\n"));
    assert!(decoder.next_frame().unwrap().is_some());
    assert_eq!(decoder.next_frame(), error);
    decoder.push(Bytes::from_static(b"\n\n"));
    assert_eq!(decoder.next_frame(), error);
    assert_eq!(decoder.finish(), None);
}

#[test]
fn a_frame_can_be_made_of_its_bytes() {
    for raw in ["data: a\n\n", ": c\r\n\r\n", "data: a\r\r", "\n", "\r"] {
        let frame = Frame::new(Bytes::from(raw)).unwrap();
        assert_eq!(frame.raw(), raw);
    }
    for raw in ["", "data: a\n", "data: a\n\ndata", "data: a\r", "\n\n"] {
        assert_eq!(Frame::new(Bytes::from(raw)), None, "{raw:?}");
    }
}

#[test]
fn a_long_frame_in_single_bytes_is_one_frame() {
    let mut stream = b"data: ".to_vec();
    stream.resize(300_000, b'x');
    stream.extend_from_slice(b"\n\n");
    let bytes: Vec<&[u8]> = stream.chunks(1).collect();
    let (frames, _) = decode(&bytes, LIMIT);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].raw(), &stream);
}

/// Pieces that meet in the ways that matter: line ends, field names, marks, long and odd bytes.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => Just(b"\n".to_vec()),
        3 => Just(b"\r".to_vec()),
        4 => Just(b"\r\n".to_vec()),
        2 => Just(b"\n\n".to_vec()),
        2 => Just(b"\r\n\r\n".to_vec()),
        3 => Just(b"data: ".to_vec()),
        2 => Just(b"data:".to_vec()),
        1 => Just(b"data".to_vec()),
        2 => Just(b"event: ping".to_vec()),
        1 => Just(b": comment".to_vec()),
        1 => Just(b"\xEF\xBB\xBF".to_vec()),
        2 => prop::collection::vec(any::<u8>(), 0..12),
        1 => Just("{\"text\":\"é\"}".repeat(20).into_bytes()),
    ]
}

/// A stream, and the sizes of the chunks to cut it into.
fn chunked() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    (
        prop::collection::vec(piece(), 0..40).prop_map(|pieces| pieces.concat()),
        prop::collection::vec(prop_oneof![1_usize..4, 1_usize..64], 1..40),
    )
}

fn cut<'a>(stream: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = stream;
    let mut chunks = Vec::new();
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, after) = rest.split_at((*size).min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks
}

/// The lines of the standard's grammar, by the book: the plain reading to compare with.
fn lines(stream: &[u8]) -> Vec<Vec<u8>> {
    let stream = stream.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(stream);
    let mut lines = vec![Vec::new()];
    let mut bytes = stream.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' => {
                bytes.next_if_eq(&b'\n');
                lines.push(Vec::new());
            }
            b'\n' => lines.push(Vec::new()),
            _ => lines.last_mut().expect("one line at least").push(byte),
        }
    }
    // What follows the last line end is no line.
    lines.pop();
    lines
}

/// The `event` and the `data` of a frame.
type Fields = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Event and data of every blank line, by the book.
fn by_the_book(stream: &[u8]) -> Vec<Fields> {
    let mut events = Vec::new();
    let (mut event, mut data) = (None, None::<Vec<u8>>);
    for line in lines(stream) {
        if line.is_empty() {
            events.push((event.take(), data.take()));
            continue;
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (&line[..], &b""[..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value).to_vec();
        match name {
            b"event" => event = Some(value),
            b"data" => match &mut data {
                Some(data) => {
                    data.push(b'\n');
                    data.extend_from_slice(&value);
                }
                None => data = Some(value),
            },
            _ => {}
        }
    }
    events
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn chunking_changes_nothing((stream, sizes) in chunked()) {
        let (whole, tail) = decode(&[&stream], LIMIT);
        let (frames, rest) = decode(&cut(&stream, &sizes), LIMIT);
        prop_assert_eq!(&frames, &whole);
        prop_assert_eq!(&rest, &tail);

        let mut all: Vec<u8> = frames.iter().flat_map(|frame| frame.raw().to_vec()).collect();
        all.extend_from_slice(&rest.unwrap().unwrap_or_default());
        prop_assert_eq!(all, stream);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn chunking_never_moves_the_limit((stream, sizes) in chunked(), limit in 0_usize..200) {
        prop_assert_eq!(decode(&cut(&stream, &sizes), limit), decode(&[&stream], limit));
    }

    #[test]
    fn pushing_without_draining_changes_nothing((stream, sizes) in chunked()) {
        let mut decoder = Decoder::new(LIMIT);
        let mut frames = Vec::new();
        for (at, chunk) in cut(&stream, &sizes).into_iter().enumerate() {
            decoder.push(Bytes::copy_from_slice(chunk));
            if at % 3 == 0 && let Some(frame) = decoder.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        while let Some(frame) = decoder.next_frame().unwrap() {
            frames.push(frame);
        }
        prop_assert_eq!((frames, Ok(decoder.finish())), decode(&[&stream], LIMIT));
    }

    #[test]
    fn frames_are_the_standards_events((stream, sizes) in chunked()) {
        let (frames, _) = decode(&cut(&stream, &sizes), LIMIT);
        let mut said: Vec<_> = frames
            .iter()
            .map(|frame| (
                frame.event().map(<[u8]>::to_vec),
                frame.data().map(std::borrow::Cow::into_owned),
            ))
            .collect();
        let book = by_the_book(&stream);
        // A CR at the very end may be half of a CRLF: that frame waits in the tail.
        if stream.ends_with(b"\r") && said.len() + 1 == book.len() {
            said.push(book[said.len()].clone());
        }
        prop_assert_eq!(said, book);
    }
}
