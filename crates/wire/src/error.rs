//! An error as a caller is told it, before it is written in the caller's dialect.

/// What is told. The dialects' `error` modules write it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct CallerError {
    /// The HTTP status, where the head can still be sent.
    pub status: u16,
    /// The dialect's `error.type`; see `error_kind` of the dialect.
    pub kind: String,
    /// A stable code that programs can branch on; empty if there is none.
    pub code: String,
    pub message: String,
    /// The id under which the request can be found again; empty if there is none.
    pub request_id: String,
}
