//! Spans and moments as text: `90s`, `10m`, `2026-11-24T02:20:38.123Z`.
//!
//! Two small functions each way instead of a date library: all that is needed is RFC 3339 to and from
//! milliseconds of UTC. No time zones by name, no locale, no calendar arithmetic; `jiff` would bring
//! a time-zone database for none of which there is a use here.

use std::time::Duration;

use crate::time::Wall;

/// The longest span that can be written.
pub const LONGEST: Duration = Duration::from_hours(24 * 366 * 10);

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1000;

/// Reads `500ms`, `30s`, `1.5m`, `2h`, `7d`: above zero, up to ten years. The error says what is wrong
/// with it.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let shown: String = text.chars().take(40).collect();
    let wrong =
        || format!("`{shown}` is not a span above zero like `500ms`, `30s`, `10m`, `2h` or `7d`");
    let unit_at = text
        .find(|letter: char| letter.is_ascii_alphabetic())
        .ok_or_else(wrong)?;
    let (number, unit) = text.split_at(unit_at);
    let millis_each: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        "d" => 24 * 60 * 60 * 1000,
        _ => return Err(wrong()),
    };
    let millis = decimal(number.trim_end(), millis_each).ok_or_else(wrong)?;
    let span = Duration::from_millis(millis);
    if span.is_zero() {
        return Err(wrong());
    }
    if span > LONGEST {
        return Err(format!("`{shown}` is longer than ten years"));
    }
    Ok(span)
}

/// Reads a moment: a span from `now` on, or RFC 3339 with any offset.
pub fn parse_deadline(text: &str, now: Wall) -> Result<Wall, String> {
    let shown: String = text.chars().take(40).collect();
    let deadline = match parse_span(text) {
        Ok(span) => now + span,
        Err(_) => parse_moment(text).ok_or_else(|| {
            format!(
                "`{shown}` is neither a span like `10m` nor a moment like `2026-11-24T02:20:38Z`"
            )
        })?,
    };
    if deadline <= now {
        return Err(format!("`{shown}` lies in the past"));
    }
    if deadline > now + LONGEST {
        return Err(format!("`{shown}` is more than ten years away"));
    }
    Ok(deadline)
}

/// Reads RFC 3339 (section 5.6). A leap second counts as the second after it, digits beyond the
/// millisecond are dropped.
pub fn parse_moment(text: &str) -> Option<Wall> {
    let bytes = text.trim().as_bytes();
    let (head, tail) = bytes.split_at_checked(19)?;
    let number = |from: usize, to: usize| digits(&head[from..to]);
    let marks_fit = head[4] == b'-'
        && head[7] == b'-'
        && matches!(head[10], b'T' | b't' | b' ')
        && head[13] == b':'
        && head[16] == b':';
    if !marks_fit {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    let date_fits = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    if !date_fits || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (millis, zone) = fraction(tail)?;
    let seconds = (hour * 60 + minute) * 60 + second - offset_minutes(zone)? * 60;
    Some(Wall(
        days_from_civil(year, month, day) * DAY_MILLIS + seconds * 1000 + millis,
    ))
}

/// Writes a moment: `2026-11-24T02:20:38.123Z`. Years beyond 0..=9999 are cut to these.
pub fn moment(wall: Wall) -> String {
    const FIRST: i64 = -62_167_219_200_000;
    const LAST: i64 = 253_402_300_799_999;
    let millis = wall.0.clamp(FIRST, LAST);
    let (year, month, day) = civil_from_days(millis.div_euclid(DAY_MILLIS));
    let rest = millis.rem_euclid(DAY_MILLIS);
    let (seconds, millis) = (rest / 1000, rest % 1000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Writes a span in the largest unit that leaves it whole: `90s`, `2h`.
pub fn span(span: Duration) -> String {
    let millis = span.as_millis();
    for (unit, each) in [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
    ] {
        if millis >= each && millis.is_multiple_of(each) {
            return format!("{}{unit}", millis / each);
        }
    }
    format!("{millis}ms")
}

/// `1`, `1.5`, `0.25` times `each`, rounded down.
fn decimal(text: &str, each: u64) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(part) || part.len() > 9 {
        return None;
    }
    let tenths = 10_u64.pow(u32::try_from(part.len()).ok()?);
    let of_part = part.parse::<u64>().ok()?.checked_mul(each)? / tenths;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(each)?
        .checked_add(of_part)
}

fn digits(bytes: &[u8]) -> Option<i64> {
    bytes.iter().try_fold(0, |number, byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + i64::from(byte - b'0'))
    })
}

/// The milliseconds of `.123456`, and what stands behind it.
fn fraction(tail: &[u8]) -> Option<(i64, &[u8])> {
    let Some(rest) = tail.strip_prefix(b".") else {
        return Some((0, tail));
    };
    let length = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if length == 0 {
        return None;
    }
    let millis = (0..3).fold(0, |millis, place| {
        let digit = if place < length {
            rest[place] - b'0'
        } else {
            0
        };
        millis * 10 + i64::from(digit)
    });
    Some((millis, &rest[length..]))
}

/// `Z`, `+01:00`, `-05:30`.
fn offset_minutes(zone: &[u8]) -> Option<i64> {
    let (sign, rest) = match zone {
        b"Z" | b"z" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    if rest.len() != 5 || rest[2] != b':' {
        return None;
    }
    let (hours, minutes) = (digits(&rest[..2])?, digits(&rest[3..])?);
    (hours <= 23 && minutes <= 59).then_some(sign * (hours * 60 + minutes))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar: years begin in March, so that the leap
/// day is the last, and come in eras of 400 (Howard Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spans_are_read_in_their_units() {
        for (text, millis) in [
            ("500ms", 500),
            ("30s", 30_000),
            ("1.5m", 90_000),
            ("2h", 7_200_000),
            (" 7d ", 604_800_000),
            ("0.25 s", 250),
        ] {
            assert_eq!(
                parse_span(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "10",
            "-1s",
            "0s",
            "0.0001ms",
            "1 week",
            "1e3s",
            "1.s",
            ".5s",
            "1s1",
            "4000d",
            "99999999999999999999h",
            "1.0000000000s",
            "1٣s",
        ] {
            assert!(parse_span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn spans_are_written_whole() {
        for text in ["500ms", "90s", "61m", "3h", "7d", "1001ms"] {
            assert_eq!(span(parse_span(text).unwrap()), text);
        }
    }

    #[test]
    fn moments_are_read_with_any_offset() {
        for (text, millis) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t00:00:00.5z", 500),
            ("1970-01-01 01:00:00+01:00", 0),
            ("1969-12-31T18:30:00.123456-05:30", 123),
            ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2026-11-24T02:20:38.123Z", 1_795_486_838_123),
            ("1990-12-31T23:59:60Z", 662_688_000_000),
        ] {
            assert_eq!(parse_moment(text), Some(Wall(millis)), "{text}");
        }
        for text in [
            "",
            "2026-11-24",
            "2026-11-24T02:20:38",
            "2026-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z",
            "2026-01-01T00:00:61Z",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00+1:00",
            "2026-01-01T00:00:00+24:00",
            "2026/01/01T00:00:00Z",
            "2026-01-01T00:00:00ZZ",
            "２026-01-01T00:00:00Z",
        ] {
            assert_eq!(parse_moment(text), None, "{text}");
        }
    }

    #[test]
    fn a_deadline_lies_ahead_and_not_beyond_all_bounds() {
        let now = Wall(1_795_486_838_000);
        assert_eq!(parse_deadline("10m", now), Ok(Wall(now.0 + 600_000)));
        let written = parse_deadline("2026-11-24T03:20:38+01:00", now);
        assert!(written.unwrap_err().contains("in the past"));
        let later = parse_deadline("2026-11-24T02:20:39Z", now);
        assert_eq!(later, Ok(Wall(now.0 + 1000)));
        assert!(parse_deadline("9999-01-01T00:00:00Z", now).is_err());
        assert!(
            parse_deadline("tomorrow", now)
                .unwrap_err()
                .contains("neither")
        );
    }

    #[test]
    fn what_lies_beyond_the_years_is_cut() {
        assert_eq!(moment(Wall(i64::MIN)), "0000-01-01T00:00:00.000Z");
        assert_eq!(moment(Wall(i64::MAX)), "9999-12-31T23:59:59.999Z");
    }

    proptest! {
        #[test]
        fn a_written_moment_is_read_as_itself(millis in -62_167_219_200_000_i64..253_402_300_800_000) {
            prop_assert_eq!(parse_moment(&moment(Wall(millis))), Some(Wall(millis)));
        }

        #[test]
        fn moments_sort_as_text(one in 0_i64..253_402_300_800_000, other in 0_i64..253_402_300_800_000) {
            prop_assert_eq!(moment(Wall(one)).cmp(&moment(Wall(other))), one.cmp(&other));
        }

        #[test]
        fn nothing_that_is_read_panics(text in "\\PC{0,40}") {
            let _ = (parse_span(&text), parse_moment(&text), parse_deadline(&text, Wall(0)));
        }
    }
}
