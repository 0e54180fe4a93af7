//! Paths that callers ask for, and the patterns that allow them.
//!
//! Nothing is repaired: a path that two servers could read differently is refused, so that what was
//! checked is what the target sees.

/// The longest path with its query, in bytes.
pub(crate) const LONGEST: usize = 2048;

/// Checks a path (and query) as a caller sent it. The error says what is wrong.
pub(crate) fn check(path: &str) -> Result<(), &'static str> {
    if path.len() > LONGEST {
        return Err("is longer than 2048 bytes");
    }
    if !path.starts_with('/') {
        return Err("does not begin with `/`");
    }
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    check_letters(path, b"/-._~!$&'()*+,;=:@%")?;
    check_letters(query, b"/-._~!$&'()*+,;=:@%?")?;
    let last = path.matches('/').count();
    for (at, segment) in path.split('/').enumerate().skip(1) {
        check_segment(segment, at == last)?;
    }
    Ok(())
}

/// Whether `pattern` allows `path`. A `*` stands for any letters, also `/`, but not for `?`: a query
/// is allowed where the pattern has one.
pub(crate) fn matches(pattern: &str, path: &str) -> bool {
    glob(pattern.as_bytes(), path.as_bytes(), Some(b'?'))
}

/// Whether `pattern` allows `text`; letters' case does not count, a `*` stands for anything.
pub(crate) fn matches_ignoring_case(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    glob(pattern.as_bytes(), text.as_bytes(), None)
}

fn check_letters(text: &str, others: &[u8]) -> Result<(), &'static str> {
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        if byte == b'%' {
            check_escape(bytes.get(at + 1..at + 3))?;
        } else if !byte.is_ascii_alphanumeric() && !others.contains(&byte) {
            return Err("contains a letter that a path can't contain; percent-encode it");
        }
    }
    Ok(())
}

/// An escape that hides a letter with a meaning is a trick, or will be taken for one.
fn check_escape(digits: Option<&[u8]>) -> Result<(), &'static str> {
    let byte = digits
        .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        .ok_or("contains a `%` that is no escape")?;
    match byte {
        b'/' | b'\\' | b'.' | b'%' => Err("hides a `/`, `\\`, `.` or `%` in an escape"),
        0..=0x1f | 0x7f => Err("hides a control character in an escape"),
        _ => Ok(()),
    }
}

fn check_segment(segment: &str, last: bool) -> Result<(), &'static str> {
    // `..;x` is `..` to servers with path parameters.
    let name = segment.split(';').next().unwrap_or("");
    match name {
        "." | ".." => Err("contains `.` or `..` as a part"),
        "" if !last || !segment.is_empty() => Err("contains an empty part (`//`)"),
        _ => Ok(()),
    }
}

/// Iterative, so that no pattern takes longer than length times length.
fn glob(pattern: &[u8], text: &[u8], barrier: Option<u8>) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            star = Some((p, t));
            p += 1;
        } else if pattern.get(p) == Some(&text[t]) {
            p += 1;
            t += 1;
        } else {
            match star {
                Some((at, eaten)) if Some(text[eaten]) != barrier => {
                    star = Some((at, eaten + 1));
                    p = at + 1;
                    t = eaten + 1;
                }
                _ => return false,
            }
        }
    }
    pattern[p..].iter().all(|&letter| letter == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn plain_paths_pass() {
        for path in [
            "/",
            "/v1/charges",
            "/v1/charges/",
            "/a-b_c~d/(1)!$&'*+,;=:@",
            "/m%C3%BCller/x%20y",
            "/v1/x?limit=3&a=b/c?d",
            "/v1/..x/x..",
            "/...",
        ] {
            assert_eq!(check(path), Ok(()), "{path}");
        }
    }

    #[test]
    fn tricks_do_not() {
        for path in [
            "",
            "v1",
            "//evil.example/x",
            "/v1//x",
            "/v1/../admin",
            "/v1/./x",
            "/v1/..",
            "/v1/..;/admin",
            "/v1/;x/y",
            "/v1/%2e%2e/admin",
            "/v1/%2E./admin",
            "/v1/..%2fadmin",
            "/v1/%5cadmin",
            "/v1/%252e",
            "/v1/\\admin",
            "/v1/a b",
            "/v1/a\r\nHost: x",
            "/v1/a\u{0}",
            "/v1/%00",
            "/v1/%0d%0a",
            "/v1/%7f",
            "/v1/%",
            "/v1/%4",
            "/v1/%zz",
            "/v1/%+1",
            "/v1/#x",
            "/v1/ü",
            "/v1?a=#b",
            "/v1?a=%0a",
            "http://evil.example/",
        ] {
            assert!(check(path).is_err(), "{path:?}");
        }
        assert!(check(&format!("/{}", "a".repeat(2048))).is_err());
    }

    #[test]
    fn a_pattern_allows_what_it_says() {
        for (pattern, path, allowed) in [
            ("/v1/charges", "/v1/charges", true),
            ("/v1/charges", "/v1/charges/", false),
            ("/v1/charges", "/v1/charges?x=1", false),
            ("/v1/*", "/v1/a/b", true),
            ("/v1/*", "/v1/", true),
            ("/v1/*", "/v1", false),
            ("/v1/*", "/v1/a?x=1", false),
            ("/v1/*?*", "/v1/a?x=1", true),
            ("/v1/*?*", "/v1/a", false),
            ("/v1/*/refund", "/v1/a/b/refund", true),
            ("/v1/*/refund", "/v1/a/refunds", false),
            ("*", "/x", true),
            ("/a*a*a*a*b", "/aaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
            ("", "", true),
            ("", "/", false),
        ] {
            assert_eq!(matches(pattern, path), allowed, "{pattern} {path}");
        }
        assert!(matches_ignoring_case("*@Example.com", "Ann@example.COM"));
        assert!(!matches_ignoring_case(
            "*@example.com",
            "ann@example.com.evil"
        ));
    }

    proptest! {
        /// However often a server decodes it, an accepted path stays where it points.
        #[test]
        fn an_accepted_path_has_one_reading(path in "/[a-z./;%2efF5cC0?\\\\]{0,24}") {
            if check(&path).is_ok() {
                let mut decoded = path.split('?').next().unwrap_or("").to_owned();
                for _ in 0..3 {
                    let parts: Vec<&str> = decoded.split('/').skip(1).collect();
                    let (last, before) = parts.split_last().unwrap();
                    prop_assert!(before.iter().all(|part| !part.is_empty()));
                    for part in before.iter().chain([last]) {
                        let name = part.split(';').next().unwrap();
                        prop_assert!(name != "." && name != "..", "{}", decoded);
                    }
                    prop_assert!(!decoded.contains('\\'));
                    prop_assert!(!decoded.chars().any(char::is_control));
                    decoded = holdfast_api::decode(&decoded);
                }
            }
        }

        /// A pattern without `*` allows itself only.
        #[test]
        fn a_plain_pattern_is_exact(pattern in "[a-c/]{0,6}", path in "[a-c/]{0,6}") {
            prop_assert_eq!(matches(&pattern, &path), pattern == path);
        }
    }
}
