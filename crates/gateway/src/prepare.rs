//! The request for one attempt: the caller's own bytes with the model and the credential changed, or
//! a translation where the target speaks another dialect.

use std::ops::Range;

use bytes::Bytes;
use holdfast_config::checked::{self, Auth};
use holdfast_core::exchange::{Ask, Send};
use holdfast_upstream::Pieces;
use holdfast_wire::translate::back::Back;
use holdfast_wire::turn::Dialect;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};

use crate::admit::{Call, Spans, credential};
use crate::names;

mod translated;

/// A request that is ready to be sent, and what had to be left out of it.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) request: Request<Pieces>,
    pub(crate) losses: Vec<String>,
    /// What the answer of a translated request needs on its way back.
    pub(crate) back: Option<Back>,
}

/// Makes the request of an attempt; the error says why this target can't carry it.
pub(crate) fn prepare(call: &Call, send: &Send) -> Result<Prepared, String> {
    let place = call.targets[send.target];
    let path = match call.snapshot.routes[call.route].targets[place].dialect {
        Dialect::Anthropic => "/messages",
        Dialect::OpenAi => "/chat/completions",
    };
    prepare_at(call, send, path)
}

/// As [`prepare`], for another endpoint of the target.
pub(crate) fn prepare_at(call: &Call, send: &Send, path: &str) -> Result<Prepared, String> {
    let route = &call.snapshot.config.routes[call.route];
    let target = &route.targets[call.targets[send.target]];
    let provider = call.snapshot.config.provider(target);
    let same = provider.dialect == call.wishes.dialect;
    check_parts(&call.body, target)?;
    let (pieces, losses, back) = if same {
        (own_bytes(call, target, provider, send)?, Vec::new(), None)
    } else {
        let made = translated::body(call, target, provider, send)?;
        (vec![made.body.into()], made.losses, made.back)
    };
    let body = Pieces::new(pieces);
    let request = head(call, provider, target.provider, path, same, send.stream)?
        .body(body)
        .map_err(|error| format!("the request can't be written: {error}"))?;
    Ok(Prepared {
        request,
        losses,
        back,
    })
}

/// A target that can't see what the caller shows would answer something else.
fn check_parts(body: &[u8], target: &checked::Target) -> Result<(), String> {
    let takes = [
        (target.images, "images", ["image", "image_url"]),
        (target.documents, "documents", ["document", "file"]),
    ];
    for (takes, what, kinds) in takes {
        if !takes && kinds.iter().any(|kind| has_part(body, kind)) {
            return Err(format!("the target takes no {what}"));
        }
    }
    Ok(())
}

/// Whether `"type":"<kind>"` stands somewhere. Inside a text it would stand with escaped quotes.
fn has_part(body: &[u8], kind: &str) -> bool {
    let token = format!("\"{kind}\"");
    memchr::memmem::find_iter(body, &token).any(|at| {
        let before = body[..at].trim_ascii_end();
        before
            .strip_suffix(b":")
            .is_some_and(|before| before.trim_ascii_end().ends_with(b"\"type\""))
    })
}

fn own_bytes(
    call: &Call,
    target: &checked::Target,
    provider: &checked::Provider,
    send: &Send,
) -> Result<Vec<Bytes>, String> {
    let edits = edits(
        &call.spans,
        target,
        provider,
        call.wishes.stream,
        send.stream,
    );
    match &send.ask {
        Ask::Original => Ok(splice(&call.body, edits)),
        ask => {
            let body = splice(&call.body, edits).concat();
            let depth = call.snapshot.config.limits.json_depth;
            let body = translated::continued(target.prefill, ask, &body, depth)?;
            Ok(vec![body.into()])
        }
    }
}

/// The members to change, in the order of the body.
fn edits(
    spans: &Spans,
    target: &checked::Target,
    provider: &checked::Provider,
    wished_stream: bool,
    stream: bool,
) -> Vec<(Range<usize>, Bytes)> {
    let mut edits = Vec::with_capacity(3);
    if let Some(model) = &target.model {
        edits.push((spans.model.clone(), json_string(model)));
    }
    if stream && !wished_stream {
        match &spans.stream {
            Some(span) => edits.push((span.clone(), Bytes::from_static(b"true"))),
            None => edits.push((
                spans.open..spans.open,
                Bytes::from_static(b"\"stream\":true,"),
            )),
        }
        if provider.dialect == Dialect::OpenAi && provider.quirks.stream_options {
            let usage = Bytes::from_static(b"{\"include_usage\":true}");
            match &spans.stream_options {
                Some(span) => edits.push((span.clone(), usage)),
                None => edits.push((
                    spans.open..spans.open,
                    Bytes::from_static(b"\"stream_options\":{\"include_usage\":true},"),
                )),
            }
        }
    }
    if let Some(most) = target.max_output_tokens {
        let over = spans.max_tokens.iter().filter(|(_, wish)| *wish > most);
        edits.extend(over.map(|(span, _)| (span.clone(), most.to_string().into())));
    }
    edits.sort_by_key(|(span, _)| span.start);
    edits
}

/// The body with the spans replaced, without copying what stays.
fn splice(body: &Bytes, edits: Vec<(Range<usize>, Bytes)>) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(edits.len() * 2 + 1);
    let mut from = 0;
    for (span, value) in edits {
        pieces.push(body.slice(from..span.start));
        pieces.push(value);
        from = span.end;
    }
    pieces.push(body.slice(from..));
    pieces
}

fn json_string(text: &str) -> Bytes {
    Bytes::from(serde_json::to_vec(text).expect("invariant: a string is always JSON"))
}

/// Headers that belong to one connection, to the gateway, or are set anew.
fn is_dropped(name: &HeaderName) -> bool {
    matches!(
        *name,
        header::CONNECTION
            | header::TRANSFER_ENCODING
            | header::CONTENT_LENGTH
            | header::CONTENT_TYPE
            | header::HOST
            | header::TE
            | header::TRAILER
            | header::UPGRADE
            | header::EXPECT
            | header::ACCEPT_ENCODING
            | header::AUTHORIZATION
            | header::PROXY_AUTHORIZATION
            | header::COOKIE
    ) || matches!(
        name.as_str(),
        "x-api-key" | "keep-alive" | "proxy-connection"
    ) || name.as_str().starts_with("holdfast-")
}

/// The head of a request to a vendor.
pub(crate) fn head(
    call: &Call,
    provider: &checked::Provider,
    place: usize,
    path: &str,
    same: bool,
    stream: bool,
) -> Result<http::request::Builder, String> {
    let ready = &call.snapshot.providers[place];
    let known = ready.uris.iter().find(|(known, _)| *known == path);
    let mut builder = Request::builder().method(Method::POST);
    builder = match (call.query.as_ref().filter(|_| same), known) {
        (None, Some((_, uri))) => builder.uri(uri.clone()),
        (query, _) => {
            let (mark, query) = query.map_or(("", ""), |query| ("?", query.as_str()));
            builder.uri([&provider.base_url.join(path), mark, query].concat())
        }
    };
    let headers = builder
        .headers_mut()
        .ok_or("the vendor's path is not a path")?;
    if same {
        pass_headers(&call.headers, headers);
    } else {
        let accept = if stream {
            "text/event-stream"
        } else {
            "application/json"
        };
        headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
    }
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    // The version that the request was written for; a translation is written for the oldest that all
    // models take.
    if provider.dialect == Dialect::Anthropic && !headers.contains_key(&names::ANTHROPIC_VERSION) {
        let oldest = HeaderValue::from_static("2023-06-01");
        headers.insert(names::ANTHROPIC_VERSION.clone(), oldest);
    }
    if provider.auth == Auth::Caller {
        pass_credential(&call.headers, headers);
    }
    for (name, value) in &ready.headers {
        headers.insert(name.clone(), value.clone());
    }
    Ok(builder)
}

/// What the caller sends beside its body and credential, as the vendor gets it.
pub(crate) fn pass_headers(from: &HeaderMap, to: &mut HeaderMap) {
    // What `Connection` names belongs to the caller's connection only (RFC 9110, 7.6.1).
    let named: Vec<String> = from
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|name| name.trim().to_ascii_lowercase())
        .collect();
    for (name, value) in from {
        if !is_dropped(name) && !named.iter().any(|named| named == name.as_str()) {
            to.append(name.clone(), value.clone());
        }
    }
}

/// The caller's own credential, in the very header in which it came: the vendors tell keys and tokens
/// apart by it.
fn pass_credential(from: &HeaderMap, to: &mut HeaderMap) {
    if let Some((name, _)) = credential(from)
        && let Some(value) = from.get(name)
    {
        let mut value = value.clone();
        value.set_sensitive(true);
        to.insert(name.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_from_words() {
        assert!(has_part(br#"{"type" : "image", "source": {}}"#, "image"));
        assert!(!has_part(
            br#"{"type":"text","text":"\"type\":\"image\""}"#,
            "image"
        ));
        assert!(!has_part(
            br#"{"kind":"image","file":{"type":"text"}}"#,
            "image"
        ));
        assert!(!has_part(br#"{"file":{"type":"text"}}"#, "file"));
    }
}
