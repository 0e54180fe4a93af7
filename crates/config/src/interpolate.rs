//! `${NAME}` and `${NAME:-default}` inside the texts of a configuration file.
//!
//! Values only, never field names, and never twice: what a variable holds is taken as it is. A
//! literal `${` is written `$${`. An empty variable counts as set; `:-` takes its default then.

/// A text after its variables were filled in.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Text {
    pub(crate) value: String,
    /// Some of it came from the environment; it must not be shown.
    pub(crate) filled: bool,
}

#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Error {
    #[error("the environment has no variable `{0}`")]
    Unset(String),
    #[error("`${{` has no closing `}}`")]
    Unclosed,
    #[error("`${{...}}` does not hold the name of a variable")]
    Name,
}

// === impl Error ===

impl Error {
    pub(crate) fn help(&self) -> String {
        match self {
            Self::Unset(name) => format!("set it, or give a default: `${{{name}:-...}}`"),
            Self::Unclosed => "a literal `${` is written `$${`".to_owned(),
            Self::Name => "write `${NAME}` or `${NAME:-default}`".to_owned(),
        }
    }
}

/// Fills in every variable.
pub(crate) fn fill(raw: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Text, Error> {
    let mut text = Text {
        value: String::with_capacity(raw.len()),
        filled: false,
    };
    let mut rest = raw;
    while let Some(at) = rest.find("${") {
        let (before, after) = rest.split_at(at);
        if let Some(kept) = before.strip_suffix('$') {
            text.value.push_str(kept);
            text.value.push_str("${");
            rest = &after[2..];
            continue;
        }
        text.value.push_str(before);
        let (inner, tail) = after[2..].split_once('}').ok_or(Error::Unclosed)?;
        text.value.push_str(&lookup(inner, env)?);
        text.filled = true;
        rest = tail;
    }
    text.value.push_str(rest);
    Ok(text)
}

fn lookup(inner: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<String, Error> {
    let (name, default) = match inner.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (inner, None),
    };
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let digit_first = name.as_bytes().first().is_none_or(u8::is_ascii_digit);
    if digit_first || !name.bytes().all(fits) {
        return Err(Error::Name);
    }
    match (env(name), default) {
        (Some(value), Some(default)) if value.is_empty() => Ok(default.to_owned()),
        (Some(value), _) => Ok(value),
        (None, Some(default)) => Ok(default.to_owned()),
        (None, None) => Err(Error::Unset(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "A" => Some("one".to_owned()),
            "EMPTY" => Some(String::new()),
            "NESTED" => Some("${A}".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_filled_in_once() {
        let cases = [
            ("plain", Ok("plain")),
            ("x${A}y${A}", Ok("xoneyone")),
            ("${NESTED}", Ok("${A}")),
            ("${B:-two}", Ok("two")),
            ("${A:-two}", Ok("one")),
            ("${EMPTY}", Ok("")),
            ("${EMPTY:-two}", Ok("two")),
            ("$${A} $5", Ok("${A} $5")),
            ("${B}", Err(Error::Unset("B".to_owned()))),
            ("${A", Err(Error::Unclosed)),
            ("${}", Err(Error::Name)),
            ("${1A}", Err(Error::Name)),
            ("${A-b}", Err(Error::Name)),
        ];
        for (raw, expected) in cases {
            let got = fill(raw, &env).map(|text| text.value);
            assert_eq!(got, expected.map(str::to_owned), "{raw}");
        }
    }
}
