//! Bodies that are not the caller's own bytes: translations and continuations.

use holdfast_config::checked::{self, MaxTokensField, Prefill};
use holdfast_core::exchange::{Ask, Send};
use holdfast_wire::envelope::{Edit, Envelope, Limits};
use holdfast_wire::translate::{self, back::Back};
use serde_json::json;

use crate::admit::Call;

/// A request in the target's dialect.
pub(super) struct Translation {
    pub(super) body: Vec<u8>,
    pub(super) losses: Vec<String>,
    /// What its answer needs on the way back.
    pub(super) back: Option<Back>,
}

/// The caller's request for a target of another dialect; the error says why it can't be.
pub(super) fn body(
    call: &Call,
    target: &checked::Target,
    provider: &checked::Provider,
    send: &Send,
) -> Result<Translation, String> {
    let quirks = provider.quirks;
    let facts = translate::Target {
        model: target.model.as_deref().unwrap_or(&call.model),
        stream: send.stream,
        max_output: target.max_output_tokens,
        stop_limit: quirks.stop_limit.map(|limit| limit as usize),
        tool_id_alnum9: quirks.tool_id_alnum9,
        max_completion_tokens: quirks.max_tokens_field == MaxTokensField::MaxCompletionTokens,
        stream_options: quirks.stream_options,
    };
    let translated = translate::request(call.wishes.dialect, &call.body, &facts)
        .map_err(|refusal| refusal.to_string())?;
    let back = Back::of(&translated);
    let losses = translated.losses.iter().map(ToString::to_string).collect();
    let depth = call.snapshot.config.limits.json_depth;
    let body = match &send.ask {
        Ask::Original => translated.body,
        ask => continued(target.prefill, ask, &translated.body, depth)?,
    };
    Ok(Translation { body, losses, back })
}

/// A request with turns behind it, in the target's dialect.
pub(super) fn continued(
    prefill: Prefill,
    ask: &Ask,
    body: &[u8],
    depth: usize,
) -> Result<Vec<u8>, String> {
    let limits = Limits {
        depth: depth + OWN_DEPTH,
        ..Limits::default()
    };
    let envelope = Envelope::read(body, &limits).map_err(|error| error.to_string())?;
    let turns = match ask {
        Ask::Original => return Ok(body.to_vec()),
        Ask::Resume { messages } => messages.join(&b","[..]),
        Ask::Continue { shown } => begun(prefill, shown).into_bytes(),
    };
    let mut edits = vec![Edit::AppendMessages {
        json_elements: &turns,
    }];
    if let (Prefill::ContinueFinalMessage, Ask::Continue { .. }) = (prefill, ask) {
        let set = |key, json| Edit::SetMember { key, json };
        edits.push(set("continue_final_message", b"true"));
        edits.push(set("add_generation_prompt", b"false"));
    }
    Ok(envelope.splice(&edits))
}

/// The begun answer as turns. A text that ends in white space is refused as a prefill, and the gap
/// comes again with the next word: the seam takes it out.
fn begun(prefill: Prefill, shown: &str) -> String {
    let shown = shown.trim_end();
    match prefill {
        Prefill::None => format!(
            "{},{}",
            json!({"role": "assistant", "content": shown}),
            json!({"role": "user", "content": GO_ON}),
        ),
        Prefill::Trailing | Prefill::ContinueFinalMessage => {
            json!({"role": "assistant", "content": shown}).to_string()
        }
        Prefill::Prefix => {
            json!({"role": "assistant", "content": shown, "prefix": true}).to_string()
        }
    }
}

/// What a translation may add to the depth that was admitted.
const OWN_DEPTH: usize = 16;

/// Asks for the rest of a cut text and for nothing else.
const GO_ON: &str = "Your response above was cut off by a broken connection. Continue it exactly where it \
     stops: no apology, no recap, no repetition of what is already there.";
