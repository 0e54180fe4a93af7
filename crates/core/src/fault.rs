//! What a caller is told when there is no answer: stable codes, one documentation page each.

use std::time::Duration;

use bytes::Bytes;

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $slug:literal, $status:literal;)+) => {
        /// Every reason for which Holdfast answers with an error of its own.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Code {
            /// All codes, by number.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The number, as `holdfast explain` takes it.
            pub fn number(self) -> &'static str {
                match self { $(Self::$name => $number,)+ }
            }

            /// The stable word in error bodies.
            pub fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)+ }
            }

            /// The HTTP status, where no other is passed on from a vendor.
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)+ }
            }
        }
    };
}

codes! {
    /// The request's body or head is malformed.
    InvalidRequest = "HF-001", "invalid_request", 400;
    /// No such path.
    UnknownPath = "HF-002", "unknown_path", 404;
    /// No route has this model name.
    UnknownModel = "HF-003", "unknown_model", 404;
    /// The body is over the limit.
    BodyTooLarge = "HF-004", "body_too_large", 413;
    /// The caller's key is missing or wrong.
    Unauthenticated = "HF-005", "unauthenticated", 401;
    /// This caller may not use this route.
    Forbidden = "HF-006", "forbidden", 403;
    /// The path exists, the method does not.
    MethodNotAllowed = "HF-007", "method_not_allowed", 405;
    /// The request's body comes in a content coding.
    UnsupportedEncoding = "HF-008", "unsupported_encoding", 415;
    /// The caller was too slow to send its request.
    RequestTimeout = "HF-009", "request_timeout", 408;
    /// More calls at once than the limit.
    Overloaded = "HF-010", "overloaded", 503;
    /// The gateway is going down and takes no new calls.
    Draining = "HF-011", "draining", 503;
    /// The vendors' answers were not whole.
    UpstreamIncomplete = "HF-012", "upstream_incomplete", 502;
    /// The vendors could not be reached or failed.
    UpstreamUnavailable = "HF-013", "upstream_unavailable", 502;
    /// The vendors did not answer in time.
    UpstreamTimeout = "HF-014", "upstream_timeout", 504;
    /// The vendors asked to slow down.
    UpstreamRateLimited = "HF-015", "upstream_rate_limited", 429;
    /// The account at the vendor is out of money or over its spending limit.
    UpstreamMoney = "HF-016", "upstream_out_of_money", 503;
    /// The vendor refused the gateway's credential.
    UpstreamAuth = "HF-017", "upstream_auth", 502;
    /// Every target's breaker is open.
    BreakerOpen = "HF-018", "breaker_open", 503;
    /// The exchange's deadline passed.
    Deadline = "HF-019", "deadline", 504;
    /// No target can carry what the request asks for.
    NotTranslatable = "HF-020", "not_translatable", 400;
    /// The vendor rejected the request as the caller's fault.
    VendorRejected = "HF-021", "vendor_rejected", 400;
    /// The request does not fit any target's context window.
    ContextOverflow = "HF-022", "context_overflow", 400;
    /// Something in Holdfast itself went wrong.
    Internal = "HF-023", "internal", 500;
    /// Memory for held requests and answers is used up.
    OutOfBuffers = "HF-024", "out_of_buffers", 503;
    /// The request head is over the limit.
    HeadTooLarge = "HF-025", "head_too_large", 431;
    /// The idempotency key, run or step name can't be used.
    KeyInvalid = "HF-026", "key_invalid", 400;
    /// The key belongs to another request.
    KeyReused = "HF-027", "key_reused", 422;
    /// The key's first call still runs, and the route refuses repeats until it has ended.
    KeyInUse = "HF-028", "key_in_use", 409;
    /// What must be kept can't be kept: the store is down, full or read-only.
    StoreUnavailable = "HF-029", "store_unavailable", 503;
    /// The call lies in the review queue.
    InReview = "HF-030", "in_review", 503;
    /// No such thing, or it is another caller's.
    NotFound = "HF-031", "not_found", 404;
    /// Somebody else was faster: it is claimed, decided, or no longer in that state.
    Conflict = "HF-032", "conflict", 409;
    /// The answer did not pass the route's gate.
    GateFailed = "HF-033", "gate_failed", 502;
    /// An effect's requirement is not met.
    RequirementUnmet = "HF-034", "requirement_unmet", 424;
    /// Another process took the call over while this one was silent.
    TakenOver = "HF-035", "taken_over", 503;
    /// A person rejected the call.
    Rejected = "HF-036", "rejected", 403;
}

impl Code {
    /// The code with this number (`HF-012`, `hf-012`, `12`) or slug.
    pub fn find(text: &str) -> Option<Self> {
        let text = text.trim();
        let digits = text
            .strip_prefix("HF-")
            .or_else(|| text.strip_prefix("hf-"))
            .unwrap_or(text);
        let number = digits
            .parse::<u32>()
            .ok()
            .map(|number| format!("HF-{number:03}"));
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.slug() == text || number.as_deref() == Some(code.number()))
    }

    /// Whether the same request may succeed a moment later without anybody's doing.
    pub fn is_passing(self) -> bool {
        matches!(
            self,
            Self::Overloaded
                | Self::Draining
                | Self::OutOfBuffers
                | Self::RequestTimeout
                | Self::StoreUnavailable
                | Self::TakenOver
        )
    }
}

/// An error for the caller.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    pub code: Code,
    /// The HTTP status, where the head can still be sent.
    pub status: u16,
    pub message: String,
    /// When to come back, where that is known.
    pub retry_after: Option<Duration>,
    /// A vendor's own error body in the caller's dialect, passed on as it came.
    pub vendor: Option<VendorReply>,
}

/// A vendor's own error response.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct VendorReply {
    pub status: u16,
    pub content_type: Option<String>,
    pub body: Bytes,
}

impl Fault {
    /// A fault with its code's own status.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            status: code.status(),
            message: message.into(),
            retry_after: None,
            vendor: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_and_slugs_are_unique_and_found() {
        let numbers: BTreeSet<_> = Code::ALL.iter().map(|code| code.number()).collect();
        let slugs: BTreeSet<_> = Code::ALL.iter().map(|code| code.slug()).collect();
        assert_eq!(
            (numbers.len(), slugs.len()),
            (Code::ALL.len(), Code::ALL.len())
        );
        for code in Code::ALL {
            assert_eq!(Code::find(code.number()), Some(*code));
            assert_eq!(Code::find(code.slug()), Some(*code));
        }
        assert_eq!(Code::find("12"), Some(Code::UpstreamIncomplete));
        assert_eq!(Code::find("HF-999"), None);
    }
}
