//! Stars over the secrets of a configuration text, so that its lines can be shown.
//!
//! Where the file could be read, the reader says where its secrets stand. Where it could not, any
//! text that looks like a secret is starred: rather a star too many. Stars take as many bytes as
//! what they hide, so that every place keeps its offset.

use crate::yaml::Span;

/// Names of fields whose value is, or might be, a secret.
const SECRET_FIELDS: [&str; 7] = [
    "key",
    "api_key",
    "apikey",
    "token",
    "secret",
    "password",
    "authorization",
];

/// Stars out the given places, and everything with the prefix of a vendor's key.
pub(crate) fn mask_spans(text: &str, spans: &[Span]) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for span in spans {
        star_literals(text, span.clone(), &mut bytes);
    }
    star_words(text, &mut bytes, |word| {
        word.starts_with("sk-") && word.len() > 6
    });
    into_text(bytes)
}

/// Stars out whatever looks like a secret, in a text that is not YAML.
pub(crate) fn mask_blindly(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        if let Some(at) = after_secret_field(line) {
            star_literals(text, start + at..start + line.trim_end().len(), &mut bytes);
        }
        start += line.len();
    }
    star_words(text, &mut bytes, |word| {
        let digits = word.bytes().any(|byte| byte.is_ascii_digit());
        word.starts_with("sk-") || (word.len() >= 16 && digits)
    });
    into_text(bytes)
}

/// Whether a text should not be quoted in a message.
pub(crate) fn looks_secret(text: &str) -> bool {
    text.starts_with("sk-") || text.len() > 48
}

fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("invariant: only whole characters are starred, with ASCII")
}

/// Where a secret field's value begins on a line.
fn after_secret_field(line: &str) -> Option<usize> {
    let lower = line.to_ascii_lowercase();
    let starts = SECRET_FIELDS.iter().filter_map(|field| {
        let at = lower.find(field)? + field.len();
        let colon = lower[at..].find(':')?;
        Some(at + colon + 1)
    });
    starts.min()
}

/// Stars a place but for `${NAME}`, quotes, brackets, blanks and line ends.
fn star_literals(text: &str, span: Span, bytes: &mut [u8]) {
    let mut kept_until = span.start;
    let Some(slice) = text.get(span.clone()) else {
        return;
    };
    for (offset, char) in slice.char_indices() {
        let at = span.start + offset;
        if at < kept_until {
            continue;
        }
        let rest = &slice[offset..];
        if let Some(length) = expression_head(rest) {
            kept_until = at + length;
        } else if let Some(path) = rest.strip_prefix("!file ") {
            kept_until = at + rest.len() - path.len() + path.lines().next().map_or(0, str::len);
        } else if !char.is_whitespace() && !"\"'{}[]".contains(char) {
            bytes[at..at + char.len_utf8()].fill(b'*');
        }
    }
}

/// The length of `${NAME` or `${NAME}` at the beginning of a text: names are no secrets, defaults are.
fn expression_head(text: &str) -> Option<usize> {
    let name = text.strip_prefix("${")?;
    let length = name
        .bytes()
        .take_while(|b| b.is_ascii_alphanumeric() || *b == b'_')
        .count();
    Some(2 + length)
}

fn star_words(text: &str, bytes: &mut [u8], is_secret: impl Fn(&str) -> bool) {
    let fits = |char: char| char.is_ascii_alphanumeric() || char == '-' || char == '_';
    let mut start = 0;
    for word in text.split_inclusive(|char: char| !fits(char)) {
        let inner = word.trim_end_matches(|char: char| !fits(char));
        if is_secret(inner) {
            bytes[start..start + inner.len()].fill(b'*');
        }
        start += word.len();
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;

    #[test]
    fn literals_are_starred_and_expressions_stay() {
        let text = "key: \"ab${NAME:-cd}\"";
        assert_eq!(
            mask_spans(text, from_ref(&(5..text.len()))),
            "key: \"**${NAME****}\""
        );
        assert_eq!(mask_spans("name: sk-abcdef", &[]), "name: *********");
        assert_eq!(mask_spans("key: ä", from_ref(&(5..7))), "key: **");
    }

    #[test]
    fn a_broken_text_shows_no_key() {
        let masked = mask_blindly("a: [\n  - key: \"short\n  token=abcdefgh12345678\n  x: sk-1\n");
        assert_eq!(
            masked,
            "a: [\n  - key: \"*****\n  token=****************\n  x: ****\n"
        );
        assert_eq!(mask_blindly("key: !file a/b"), "key: !file a/b");
    }
}
