//! The vendors' error tables: status, type and code of every error that the documents name.
//!
//! Source: the error pages of Anthropic (API versions 2023-06-01 and 2026-10-21) and `OpenAI` as of 2026-11.

use crate::ask::Dialect;

/// One row of a vendor's error table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) dialect: Dialect,
    pub(crate) status: u16,
    pub(crate) kind: &'static str,
    pub(crate) code: Option<&'static str>,
    pub(crate) message: &'static str,
}

const fn anthropic(
    status: u16,
    kind: &'static str,
    code: Option<&'static str>,
    message: &'static str,
) -> Row {
    Row {
        dialect: Dialect::Anthropic,
        status,
        kind,
        code,
        message,
    }
}

const fn openai(
    status: u16,
    kind: &'static str,
    code: Option<&'static str>,
    message: &'static str,
) -> Row {
    Row {
        dialect: Dialect::OpenAi,
        status,
        kind,
        code,
        message,
    }
}

/// The first row of a status is what a bare `status:<code>` answers.
// A table reads as a table: one row, one line.
#[rustfmt::skip]
pub(crate) const ROWS: &[Row] = &[
    anthropic(400, "invalid_request_error", None, "messages: the request is not valid"),
    anthropic(400, "invalid_request_error", Some("context_length_exceeded"), "prompt is too long: 1048577 tokens > 1000000 maximum"),
    anthropic(400, "invalid_request_error", Some("spend_limit_reached"), "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."),
    anthropic(401, "authentication_error", None, "invalid x-api-key"),
    anthropic(402, "billing_error", None, "Your credit balance is too low to access the Anthropic API."),
    anthropic(403, "permission_error", None, "Your API key does not have permission to use the specified resource."),
    anthropic(404, "not_found_error", None, "model: not found"),
    anthropic(408, "timeout_error", None, "Request timeout"),
    anthropic(409, "conflict_error", None, "The request conflicts with the current state of the resource."),
    anthropic(412, "invalid_request_error", None, "Precondition failed"),
    anthropic(413, "request_too_large", None, "Request exceeds the maximum size"),
    anthropic(422, "invalid_request_error", None, "Unprocessable entity"),
    anthropic(429, "rate_limit_error", None, "This request would exceed your organization's rate limit."),
    anthropic(429, "rate_limit_error", Some("ramp_limit_exceeded"), "Your usage grew too fast. Please ramp up gradually."),
    anthropic(429, "rate_limit_error", Some("enforced_spend_limit_reached"), "Your organization reached its spend limit."),
    anthropic(429, "rate_limit_error", Some("contract_spend_limit_reached"), "Your contract's spend limit is reached."),
    anthropic(429, "rate_limit_error", Some("linked_organization_spend_limit_reached"), "The linked organization's spend limit is reached."),
    anthropic(403, "permission_error", Some("organization_on_hold"), "This organization is on hold."),
    anthropic(431, "invalid_request_error", None, "Request header fields too large"),
    anthropic(499, "api_error", None, "Client closed request"),
    anthropic(500, "api_error", None, "Internal server error"),
    anthropic(501, "api_error", None, "Not implemented"),
    anthropic(502, "api_error", None, "Bad gateway"),
    anthropic(503, "api_error", None, "Service unavailable"),
    anthropic(504, "timeout_error", None, "The request timed out while processing. Consider streaming."),
    anthropic(529, "overloaded_error", None, "Overloaded"),
    openai(400, "invalid_request_error", None, "Invalid request."),
    openai(400, "invalid_request_error", Some("context_length_exceeded"), "This model's maximum context length is 1000000 tokens. However, your messages resulted in 1048577 tokens."),
    openai(400, "invalid_request_error", Some("invalid_prompt"), "Invalid prompt: your prompt was flagged as potentially violating our usage policy."),
    openai(400, "invalid_request_error", Some("content_policy_violation"), "Your request was rejected by the safety system."),
    openai(400, "invalid_request_error", Some("unsupported_parameter"), "Unsupported parameter: 'temperature' is not supported with this model."),
    openai(401, "invalid_request_error", Some("invalid_api_key"), "Incorrect API key provided."),
    openai(402, "insufficient_quota", Some("insufficient_credits"), "Insufficient credits."),
    openai(403, "invalid_request_error", Some("unsupported_country_region_territory"), "Country, region, or territory not supported."),
    openai(404, "invalid_request_error", Some("model_not_found"), "The model does not exist or you do not have access to it."),
    openai(408, "invalid_request_error", None, "Request timeout."),
    openai(409, "invalid_request_error", None, "Conflict."),
    openai(413, "invalid_request_error", None, "Request entity too large."),
    openai(422, "invalid_request_error", None, "Unprocessable entity."),
    openai(429, "requests", Some("rate_limit_exceeded"), "Rate limit reached for requests."),
    openai(429, "rate_limit_error", Some("slow_down"), "Your request rate grew too fast. Please slow down."),
    openai(429, "insufficient_quota", Some("insufficient_quota"), "You exceeded your current quota, please check your plan and billing details."),
    openai(429, "insufficient_quota", Some("credit_balance_exhausted"), "Your credit balance is exhausted."),
    openai(429, "insufficient_quota", Some("organization_spend_limit_exceeded"), "Your organization's spend limit is exceeded."),
    openai(429, "insufficient_quota", Some("project_spend_limit_exceeded"), "Your project's spend limit is exceeded."),
    openai(429, "insufficient_quota", Some("organization_usage_limit_exceeded"), "Your organization's usage limit is exceeded."),
    openai(500, "server_error", None, "The server had an error while processing your request."),
    openai(502, "server_error", None, "Bad gateway."),
    openai(503, "service_unavailable_error", Some("server_is_overloaded"), "The engine is currently overloaded, please try again later."),
    openai(504, "server_error", None, "Gateway timeout."),
    openai(529, "server_error", None, "Overloaded."),
];

/// Whether any vendor has an error of this code or type.
pub(crate) fn known(name: &str) -> bool {
    ROWS.iter()
        .any(|row| row.code == Some(name) || row.kind == name)
}

/// The row of a named error; of the other dialect when this one has none of the name.
pub(crate) fn named(dialect: Dialect, name: &str) -> Option<&'static Row> {
    let fits = |row: &&Row| row.code == Some(name) || row.kind == name;
    ROWS.iter()
        .filter(|row| row.dialect == dialect)
        .find(fits)
        .or_else(|| ROWS.iter().find(fits))
}

/// The row that a bare status answers with.
pub(crate) fn by_status(dialect: Dialect, status: u16) -> Option<&'static Row> {
    ROWS.iter()
        .find(|row| row.dialect == dialect && row.status == status)
}
