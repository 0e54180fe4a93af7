//! Times as people write them in requests: `90s`, `10m`, `2h`.

use std::time::Duration;

/// Reads a whole number with a unit (`ms`, `s`, `m`, `h`); `None` if it is something else.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.find(|char: char| !char.is_ascii_digit())?;
    let (digits, unit) = text.split_at(unit_at);
    let number: u64 = digits.parse().ok()?;
    let millis_each = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return None,
    };
    number.checked_mul(millis_each).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_are_read() {
        let seconds = |text| parse(text).map(|span| span.as_secs_f64());
        assert_eq!(seconds("90s"), Some(90.0));
        assert_eq!(seconds("10m"), Some(600.0));
        assert_eq!(seconds("2h"), Some(7200.0));
        assert_eq!(seconds("500ms"), Some(0.5));
        for text in [
            "",
            "10",
            "m",
            "1.5h",
            "-1s",
            "10 m",
            "10d",
            "99999999999999999999h",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(parse("18446744073709551615h"), None);
    }
}
