//! What a failed attempt means: whose fault it is and what may be tried next.
//!
//! Statuses and codes: Anthropic and OpenAI error pages, and what their SDKs treat as retryable
//! (wire-facts 4.1, 4.2, 4.5). Unknown codes are read by their status alone.

use std::time::Duration;

use holdfast_wire::turn::VendorError;

/// What may be done after a failure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// The target is in trouble; it may be asked again, not before the time that it named.
    Retry { after: Option<Duration> },
    /// As `Retry`, and the target said that it is asked too often.
    Slow { after: Option<Duration> },
    /// The account is out of money: not this target until somebody pays.
    Money,
    /// Our credential or our model name is wrong there: not this target.
    Auth,
    /// This model does not exist there.
    NoModel,
    /// The request itself is at fault: final.
    Caller,
    /// The request is larger than the model's window: final but for a larger one.
    Overflow,
    /// The target can't carry the request; nothing was sent.
    Unfit,
}

/// Words in a code or a type that mean "out of money".
const MONEY: [&str; 8] = [
    "insufficient_quota",
    "billing_error",
    "credit_balance_exhausted",
    "spend_limit",
    "usage_limit_exceeded",
    "billing_hard_limit_reached",
    "organization_on_hold",
    "insufficient_balance",
];

/// Phrases of messages that mean "does not fit the window", where no code says so.
const OVERFLOW: [&str; 5] = [
    "prompt is too long",
    "exceed context limit",
    "maximum context length",
    "context window",
    "input is too long",
];

/// Reads an error status. `after` is the parsed `retry-after-ms` / `retry-after`.
pub fn status(status: u16, error: &VendorError<'_>, after: Option<Duration>) -> Class {
    if is_money(error) || status == 402 {
        return Class::Money;
    }
    match status {
        400 | 413 | 422 if is_overflow(error) => Class::Overflow,
        401 | 403 => Class::Auth,
        404 => Class::NoModel,
        429 => Class::Slow { after },
        408 | 409 | 425 | 499 | 500.. => Class::Retry { after },
        // A redirect or another odd success: nothing of the request is known to be wrong.
        ..400 => Class::Retry { after },
        _ => Class::Caller,
    }
}

/// Reads an error that came inside an answer, where there is no status.
pub fn in_band(error: &VendorError<'_>) -> Class {
    if let Ok(code @ 400..=599) = error.code.parse::<u16>() {
        return status(code, error, None);
    }
    if is_money(error) {
        return Class::Money;
    }
    if is_overflow(error) {
        return Class::Overflow;
    }
    match error.kind.as_ref() {
        "invalid_request_error" | "request_too_large" => Class::Caller,
        "authentication_error" | "permission_error" => Class::Auth,
        "not_found_error" => Class::NoModel,
        "rate_limit_error" | "rate_limit_exceeded" => Class::Slow { after: None },
        _ => Class::Retry { after: None },
    }
}

fn is_money(error: &VendorError<'_>) -> bool {
    MONEY.iter().any(|word| error.code.contains(word) || error.kind.contains(word))
        // Anthropic tells a reached spend limit as a 400 in words.
        || error.message.contains("spend limit")
        || error.message.contains("credit balance is too low")
}

fn is_overflow(error: &VendorError<'_>) -> bool {
    let message = error.message.to_ascii_lowercase();
    error.code == "context_length_exceeded"
        || OVERFLOW.iter().any(|phrase| message.contains(phrase))
}

/// Parses `retry-after-ms`, then `retry-after` in seconds. Dates are not used by the vendors here
/// and give `None`: the backoff then decides.
pub fn retry_after(millis: Option<&str>, seconds: Option<&str>) -> Option<Duration> {
    let number = |text: Option<&str>, unit: f64| {
        let value: f64 = text?.trim().parse().ok()?;
        Duration::try_from_secs_f64(value * unit).ok()
    };
    number(millis, 0.001).or_else(|| number(seconds, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(
        kind: &'static str,
        code: &'static str,
        message: &'static str,
    ) -> VendorError<'static> {
        VendorError {
            kind: kind.into(),
            code: code.into(),
            message: message.into(),
        }
    }

    #[test]
    fn every_status_of_both_vendors_has_its_class() {
        let none = error("", "", "");
        let after = Some(Duration::from_secs(3));
        for (code, expected) in [
            (400, Class::Caller),
            (401, Class::Auth),
            (402, Class::Money),
            (403, Class::Auth),
            (404, Class::NoModel),
            (405, Class::Caller),
            (408, Class::Retry { after }),
            (409, Class::Retry { after }),
            (412, Class::Caller),
            (413, Class::Caller),
            (422, Class::Caller),
            (429, Class::Slow { after }),
            (431, Class::Caller),
            (499, Class::Retry { after }),
            (500, Class::Retry { after }),
            (501, Class::Retry { after }),
            (502, Class::Retry { after }),
            (503, Class::Retry { after }),
            (504, Class::Retry { after }),
            (529, Class::Retry { after }),
            (302, Class::Retry { after }),
        ] {
            assert_eq!(status(code, &none, after), expected, "{code}");
        }
    }

    #[test]
    fn money_is_never_retried_whatever_its_status() {
        for (code, error) in [
            (429, error("insufficient_quota", "insufficient_quota", "")),
            (
                429,
                error("insufficient_quota", "project_spend_limit_exceeded", ""),
            ),
            (429, error("", "organization_usage_limit_exceeded", "")),
            (
                429,
                error("rate_limit_error", "enforced_spend_limit_reached", ""),
            ),
            (
                400,
                error(
                    "invalid_request_error",
                    "",
                    "You have reached your spend limit",
                ),
            ),
            (402, error("billing_error", "", "")),
        ] {
            assert_eq!(status(code, &error, None), Class::Money, "{error:?}");
        }
    }

    #[test]
    fn a_window_that_is_too_small_is_told_apart() {
        for overflow in [
            error("invalid_request_error", "context_length_exceeded", ""),
            error(
                "invalid_request_error",
                "",
                "prompt is too long: 210000 tokens > 200000 maximum",
            ),
            error("", "", "This model's maximum context length is 8192 tokens"),
        ] {
            assert_eq!(
                status(400, &overflow, None),
                Class::Overflow,
                "{overflow:?}"
            );
        }
    }

    #[test]
    fn in_band_errors_are_read_by_their_type() {
        assert_eq!(
            in_band(&error("overloaded_error", "", "")),
            Class::Retry { after: None }
        );
        assert_eq!(
            in_band(&error("invalid_request_error", "", "")),
            Class::Caller
        );
        assert_eq!(in_band(&error("", "502", "")), Class::Retry { after: None });
        assert_eq!(in_band(&error("", "", "")), Class::Retry { after: None });
    }

    #[test]
    fn retry_after_is_read_in_both_units_and_never_negative() {
        assert_eq!(
            retry_after(Some("1500"), Some("9")),
            Some(Duration::from_millis(1500))
        );
        assert_eq!(retry_after(None, Some("2")), Some(Duration::from_secs(2)));
        for bad in ["-1", "soon", "", "1e400", "NaN"] {
            assert_eq!(retry_after(None, Some(bad)), None, "{bad}");
        }
    }
}
