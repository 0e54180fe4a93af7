//! Writes a gathered answer as a body of the Messages dialect, or as the assistant's message of the
//! next request.

use bytes::{BufMut as _, BytesMut};
use serde_json::value::RawValue;

use super::writer::frames;
use crate::answer::{Answer, Content, NotWhole, Piece, WriterOptions, arguments};
use crate::borrowed::Text;
use crate::json;

/// The answer's first choice as a non-streaming body.
pub fn encode(answer: &Answer, options: &WriterOptions) -> Result<Vec<u8>, NotWhole> {
    let stop = answer.whole(0)?;
    let mut out = BytesMut::new();
    frames::head(options, &mut out);
    out.put_slice(br#""content":["#);
    let shown = |piece: &&Piece| piece.choice == 0 && is_shown(piece, options);
    let mut separator: &[u8] = b"";
    for piece in answer.pieces().iter().filter(shown) {
        out.put_slice(separator);
        separator = b",";
        put_block(piece, options.signatures, &mut out);
    }
    out.put_slice(b"],");
    frames::put_stop(stop, &mut out);
    out.put_slice(br#","usage":"#);
    frames::put_usage(answer.usage(), &mut out);
    out.put_u8(b'}');
    Ok(out.into())
}

/// The assistant's message that sends a paused turn back (`pause_turn`), every block unchanged.
///
/// Only the vendor that gave the answer takes it. Empty text blocks are left out: the vendor gives
/// them in streams and refuses them in requests. So is a block that never closed.
pub fn assistant_message(answer: &Answer) -> Vec<u8> {
    let mut out = BytesMut::from(&br#"{"role":"assistant","content":["#[..]);
    let sent = |piece: &&Piece| {
        let empty = matches!(&piece.content, Content::Text { text } if text.is_empty());
        piece.choice == 0 && piece.check().is_ok() && !empty
    };
    let mut separator: &[u8] = b"";
    for piece in answer.pieces().iter().filter(sent) {
        out.put_slice(separator);
        separator = b",";
        put_block(piece, true, &mut out);
    }
    out.put_slice(b"]}");
    out.into()
}

fn is_shown(piece: &Piece, options: &WriterOptions) -> bool {
    match &piece.content {
        Content::Thinking { .. } => !options.drop_thinking,
        Content::Redacted { .. } => !options.drop_thinking && options.signatures,
        Content::Opaque { kind, raw, .. } => json::is_object_of(raw, kind),
        Content::Text { .. } | Content::Tool { .. } | Content::Refusal { .. } => true,
    }
}

fn put_block(piece: &Piece, signatures: bool, out: &mut BytesMut) {
    match &piece.content {
        Content::Text { text } | Content::Refusal { text } => {
            out.put_slice(br#"{"type":"text","text":"#);
            json::string(text, out);
            put_citations(piece, out);
        }
        Content::Thinking {
            thinking,
            signature,
        } => {
            out.put_slice(br#"{"type":"thinking","thinking":"#);
            json::string(thinking, out);
            out.put_slice(br#","signature":"#);
            json::string(if signatures { signature } else { "" }, out);
        }
        Content::Redacted { data } => {
            out.put_slice(br#"{"type":"redacted_thinking","data":"#);
            json::string(data, out);
        }
        Content::Tool { id, name, input } => {
            out.put_slice(br#"{"type":"tool_use","id":"#);
            json::string(id, out);
            out.put_slice(br#","name":"#);
            json::string(name, out);
            out.put_slice(br#","input":"#);
            json::raw(arguments(input), out);
        }
        Content::Opaque { raw, input, .. } => return put_opaque(piece, raw, input, out),
    }
    out.put_u8(b'}');
}

/// The citations that came as deltas, as the list that a whole block has.
fn put_citations(piece: &Piece, out: &mut BytesMut) {
    let mut separator: &[u8] = br#","citations":["#;
    for citation in piece.opaque.iter().filter_map(|(_, raw)| citation(raw)) {
        out.put_slice(separator);
        separator = b",";
        json::raw(citation.get(), out);
    }
    if separator == b"," {
        out.put_u8(b']');
    }
}

fn citation(raw: &str) -> Option<&RawValue> {
    let members = json::members(raw)?;
    let found = members.into_iter().find(|(name, _)| name.0 == "citation");
    found.map(|(_, value)| value)
}

/// A block of a kind that is passed on: as it opened, with what its deltas brought in its place.
fn put_opaque(piece: &Piece, raw: &str, input: &str, out: &mut BytesMut) {
    let mut new: Vec<(Text<'_>, &str)> = Vec::new();
    if !json::is_no_argument(input) {
        new.push((Text("input".into()), input));
    }
    for (_, delta) in &piece.opaque {
        let members = json::members(delta).unwrap_or_default();
        let news = members.into_iter().filter(|(name, _)| name.0 != "type");
        new.extend(news.map(|(name, value)| (name, value.get())));
    }
    let old = json::members(raw).filter(|_| !new.is_empty());
    let Some(old) = old else {
        return json::raw(raw, out);
    };
    let kept = old.into_iter().map(|(name, value)| (name, value.get()));
    let mut members: Vec<(Text<'_>, &str)> = kept.collect();
    for (name, value) in new {
        match members.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => members.push((name, value)),
        }
    }
    for (at, (name, value)) in members.iter().enumerate() {
        out.put_u8(if at == 0 { b'{' } else { b',' });
        json::string(&name.0, out);
        out.put_u8(b':');
        json::raw(value, out);
    }
    out.put_u8(b'}');
}
