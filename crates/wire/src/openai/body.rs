//! Writes a gathered answer as a body of the Chat dialect.

use bytes::{BufMut as _, BytesMut};

use super::writer::chunks;
use crate::answer::{Answer, Content, NotWhole, Piece, WriterOptions, arguments};
use crate::json;
use crate::turn::Usage;

/// The answer as a non-streaming body. Text blocks are joined; what the dialect has no place for
/// (signatures, citations, blocks of server tools) is left out.
pub fn encode(answer: &Answer, options: &WriterOptions) -> Result<Vec<u8>, NotWhole> {
    let mut out = BytesMut::new();
    out.put_slice(br#"{"id":"#);
    json::string(&options.id, &mut out);
    out.put_slice(br#","object":"chat.completion","created":"#);
    json::number(options.created, &mut out);
    out.put_slice(br#","model":"#);
    json::string(&options.model, &mut out);
    out.put_slice(br#","choices":["#);
    let mut choices = answer.choices();
    if choices.is_empty() {
        choices.push(0);
    }
    for (at, choice) in choices.into_iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        put_choice(answer, choice, options, &mut out)?;
    }
    out.put_u8(b']');
    if answer.usage() != Usage::default() {
        out.put_slice(br#","usage":"#);
        chunks::put_usage(answer.usage(), &mut out);
    }
    out.put_u8(b'}');
    Ok(out.into())
}

fn put_choice(
    answer: &Answer,
    choice: u32,
    options: &WriterOptions,
    out: &mut BytesMut,
) -> Result<(), NotWhole> {
    let stop = answer.whole(choice)?;
    let pieces = || {
        answer
            .pieces()
            .iter()
            .filter(|piece| piece.choice == choice)
    };
    let refused = pieces().any(|piece| matches!(piece.content, Content::Refusal { .. }));
    out.put_slice(br#"{"index":"#);
    json::number(choice, out);
    out.put_slice(br#","message":{"role":"assistant","content":"#);
    joined(pieces(), out, |content| match content {
        Content::Text { text } => Some(text),
        _ => None,
    });
    out.put_slice(br#","refusal":"#);
    joined(pieces(), out, |content| match content {
        Content::Refusal { text } => Some(text),
        _ => None,
    });
    let thinks = |piece: &Piece| matches!(piece.content, Content::Thinking { .. });
    if !options.drop_thinking && pieces().any(thinks) {
        out.put_slice(br#","reasoning_content":"#);
        joined(pieces(), out, |content| match content {
            Content::Thinking { thinking, .. } => Some(thinking),
            _ => None,
        });
    }
    put_tools(pieces(), out);
    out.put_slice(br#"},"logprobs":null,"finish_reason":"#);
    json::string(chunks::word(stop.kind, refused), out);
    out.put_u8(b'}');
    Ok(())
}

/// The texts that `pick` finds, as one string; `null` if there is no such block.
fn joined<'a>(
    pieces: impl Iterator<Item = &'a Piece>,
    out: &mut BytesMut,
    pick: impl Fn(&'a Content) -> Option<&'a String>,
) {
    let mut opened = false;
    for text in pieces.filter_map(|piece| pick(&piece.content)) {
        if !opened {
            out.put_u8(b'"');
        }
        opened = true;
        json::inside(text, out);
    }
    out.put_slice(if opened { b"\"" } else { b"null" });
}

fn put_tools<'a>(pieces: impl Iterator<Item = &'a Piece>, out: &mut BytesMut) {
    let mut any = false;
    for piece in pieces {
        let Content::Tool { id, name, input } = &piece.content else {
            continue;
        };
        out.put_slice(if any { b"," } else { br#","tool_calls":["# });
        any = true;
        out.put_slice(br#"{"id":"#);
        json::string(id, out);
        out.put_slice(br#","type":"function","function":{"name":"#);
        json::string(name, out);
        out.put_slice(br#","arguments":"#);
        json::string(arguments(input), out);
        out.put_slice(b"}}");
    }
    if any {
        out.put_u8(b']');
    }
}
