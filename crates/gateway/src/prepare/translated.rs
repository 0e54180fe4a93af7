//! Bodies that are not the caller's own bytes: translations and continuations.

use bytes::Bytes;
use holdfast_config::checked;
use holdfast_core::exchange::{Ask, Send};
use serde_json::json;

use crate::admit::Call;

/// The request in the target's dialect, and what it lost.
pub(super) fn body(
    _call: &Call,
    _target: &checked::Target,
    provider: &checked::Provider,
    _send: &Send,
) -> Result<(Vec<Bytes>, Vec<String>), String> {
    Err(format!(
        "provider `{}` speaks another dialect",
        provider.name
    ))
}

/// The caller's own request with turns behind it.
pub(super) fn continued(
    _call: &Call,
    _target: &checked::Target,
    _provider: &checked::Provider,
    ask: &Ask,
    pieces: &[Bytes],
) -> Result<Vec<Bytes>, String> {
    let whole: Vec<u8> = pieces.concat();
    let messages = match ask {
        Ask::Original => return Ok(vec![whole.into()]),
        Ask::Resume { messages } => messages
            .iter()
            .map(|m| String::from_utf8_lossy(m).into_owned())
            .collect::<Vec<_>>()
            .join(","),
        Ask::Continue { shown } => format!(
            "{},{}",
            json!({"role": "assistant", "content": shown.trim_end()}),
            json!({"role": "user", "content": GO_ON}),
        ),
    };
    let envelope = holdfast_wire::envelope::Envelope::read(
        &whole,
        &holdfast_wire::envelope::Limits {
            depth: 1024,
            ..Default::default()
        },
    )
    .map_err(|error| error.to_string())?;
    let edit = holdfast_wire::envelope::Edit::AppendMessages {
        json_elements: messages.as_bytes(),
    };
    Ok(vec![envelope.splice(&[edit]).into()])
}

/// Asks for the rest of a cut text and for nothing else.
const GO_ON: &str = "Your response above was cut off by a broken connection. Continue it exactly where it \
     stops: no apology, no recap, no repetition of what is already there.";
