//! What each Anthropic `stop_reason` means.
//!
//! The vendor promises to add values within an API version, so an unlisted word is
//! [`StopKind::Unknown`] and never a finished turn. `null` is no word: the reader makes no stop of it.

use crate::turn::StopKind;

/// Our reading of the `stop_reason` that the vendor `said`.
pub fn stop_kind(said: &str) -> StopKind {
    match said {
        "end_turn" => StopKind::EndTurn,
        "stop_sequence" => StopKind::StopSequence,
        "tool_use" => StopKind::ToolUse,
        "max_tokens" => StopKind::MaxTokens,
        "model_context_window_exceeded" => StopKind::ContextWindow,
        "pause_turn" | "compaction" => StopKind::Pause,
        "refusal" => StopKind::Refusal,
        _ => StopKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_word_has_its_meaning() {
        for (said, kind) in [
            ("end_turn", StopKind::EndTurn),
            ("stop_sequence", StopKind::StopSequence),
            ("tool_use", StopKind::ToolUse),
            ("max_tokens", StopKind::MaxTokens),
            ("model_context_window_exceeded", StopKind::ContextWindow),
            ("pause_turn", StopKind::Pause),
            ("compaction", StopKind::Pause),
            ("refusal", StopKind::Refusal),
        ] {
            assert_eq!(stop_kind(said), kind, "{said}");
        }
    }

    #[test]
    fn an_unlisted_word_is_unknown() {
        for said in ["", "stop", "END_TURN", "end_turn ", "error", "null", "done"] {
            assert_eq!(stop_kind(said), StopKind::Unknown, "{said:?}");
        }
    }
}
