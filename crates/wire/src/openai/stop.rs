//! What each OpenAI `finish_reason` means, those of compatible servers included.
//!
//! The word alone is not the whole story: servers say `stop` with tool calls in the answer, and a
//! model that declines says `stop` too. [`stop_kind`] reads the word, `judged_with` corrects it by
//! what the choice held. An unlisted word is [`StopKind::Unknown`] and never a finished turn.

use crate::turn::StopKind;

/// Our reading of the `finish_reason` that the server `said`.
pub fn stop_kind(said: &str) -> StopKind {
    match said {
        // TGI says `eos_token` (`eos` in older releases) for the model's own end.
        "stop" | "eos" | "eos_token" => StopKind::EndTurn,
        "tool_calls" | "function_call" => StopKind::ToolUse,
        // `model_length`: Mistral, the model's own limit.
        "length" | "model_length" => StopKind::MaxTokens,
        // `sensitive`: Zhipu.
        "content_filter" | "sensitive" => StopKind::Refusal,
        // OpenRouter and vLLM; vLLM and SGLang; vLLM; DeepSeek (two); Zhipu; Ollama (two).
        "error"
        | "abort"
        | "repetition"
        | "insufficient_system_resource"
        | "aborted"
        | "network_error"
        | "load"
        | "unload" => StopKind::VendorFault,
        _ => StopKind::Unknown,
    }
}

/// Corrects `kind` by what the choice held: a plain end with tool calls asks for the tools, a plain
/// end after a refusal is one. Every other kind stands as it was said.
pub(crate) fn judged_with(kind: StopKind, tools: bool, refusal: bool) -> StopKind {
    match kind {
        StopKind::EndTurn if tools => StopKind::ToolUse,
        StopKind::EndTurn if refusal => StopKind::Refusal,
        kind => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_word_has_its_meaning() {
        for (said, kind) in [
            ("stop", StopKind::EndTurn),
            ("eos", StopKind::EndTurn),
            ("eos_token", StopKind::EndTurn),
            ("length", StopKind::MaxTokens),
            ("model_length", StopKind::MaxTokens),
            ("tool_calls", StopKind::ToolUse),
            ("function_call", StopKind::ToolUse),
            ("content_filter", StopKind::Refusal),
            ("sensitive", StopKind::Refusal),
            ("error", StopKind::VendorFault),
            ("abort", StopKind::VendorFault),
            ("aborted", StopKind::VendorFault),
            ("repetition", StopKind::VendorFault),
            ("insufficient_system_resource", StopKind::VendorFault),
            ("network_error", StopKind::VendorFault),
            ("load", StopKind::VendorFault),
            ("unload", StopKind::VendorFault),
        ] {
            assert_eq!(stop_kind(said), kind, "{said}");
        }
    }

    #[test]
    fn an_unlisted_word_is_unknown() {
        for said in ["", "STOP", "end_turn", "stop ", "null", "finished"] {
            assert_eq!(stop_kind(said), StopKind::Unknown, "{said:?}");
        }
    }

    #[test]
    fn the_content_corrects_a_plain_end_only() {
        for (kind, tools, refusal, judged) in [
            (StopKind::EndTurn, false, false, StopKind::EndTurn),
            (StopKind::EndTurn, true, false, StopKind::ToolUse),
            (StopKind::EndTurn, false, true, StopKind::Refusal),
            (StopKind::MaxTokens, true, true, StopKind::MaxTokens),
            (StopKind::ToolUse, false, false, StopKind::ToolUse),
            (StopKind::Unknown, true, false, StopKind::Unknown),
        ] {
            assert_eq!(judged_with(kind, tools, refusal), judged, "{kind:?}");
        }
    }
}
