//! The kinds of values that a configuration file holds: times, sizes, counts, secrets.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::diagnostic::Problem;
use crate::shape::{Read, Reader, Sections, Spanned};
use crate::yaml::{Node, Value};

/// `500ms`, `30s`, `10m`, `1h`; never zero, at most a week.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time(pub(crate) Duration);

/// `30s`, `10m`, `24h`, `7d`; never zero, at most a hundred years.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongTime(pub(crate) Duration);

/// Any JSON: written as YAML, as JSON text, or the name of a file that holds it.
#[derive(Clone, Debug)]
pub(crate) enum AnyJson {
    Inline(Json),
    File(PathBuf),
}

/// `65536`, `64KiB`, `32 MiB`, `1GiB`; never zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size(pub(crate) usize);

/// A whole number from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count(pub(crate) u32);

/// A whole number from 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CountOrZero(pub(crate) u32);

/// A number of tokens from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokens(pub(crate) u64);

/// `0.1` or `10%`, from 0 to 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share(pub(crate) f64);

/// A number from 0.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate(pub(crate) f64);

/// A secret: written out, from the environment, or the name of a file that holds it.
#[derive(Clone)]
pub(crate) enum SecretText {
    Inline(String),
    File(PathBuf),
}

/// A mapping of free names to values, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct Named<T>(pub(crate) Vec<(Spanned<String>, Spanned<T>)>);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("[redacted]"),
            Self::File(path) => write!(f, "!file {}", path.display()),
        }
    }
}

impl From<Time> for Duration {
    fn from(time: Time) -> Self {
        time.0
    }
}

impl From<LongTime> for Duration {
    fn from(time: LongTime) -> Self {
        time.0
    }
}

impl From<Size> for usize {
    fn from(size: Size) -> Self {
        size.0
    }
}

impl From<Count> for usize {
    fn from(count: Count) -> Self {
        Self::try_from(count.0).unwrap_or(Self::MAX)
    }
}

macro_rules! into_inner {
    ($($type:ident -> $inner:ty),*) => { $(
        impl From<$type> for $inner {
            fn from(value: $type) -> Self {
                value.0
            }
        }
    )* };
}
into_inner!(Count -> u32, CountOrZero -> u32, Tokens -> u64, Share -> f64, Rate -> f64);

impl From<Count> for Option<u32> {
    fn from(count: Count) -> Self {
        Some(count.0)
    }
}

impl From<Count> for Option<usize> {
    fn from(count: Count) -> Self {
        Some(count.into())
    }
}

impl From<Tokens> for Option<u64> {
    fn from(tokens: Tokens) -> Self {
        Some(tokens.0)
    }
}

/// Declares how a kind of value is read, described and named.
macro_rules! scalar {
    ($($type:ty, $word:literal, $expected:literal, $schema:tt, $parse:expr;)*) => { $(
        impl Read for $type {
            fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
                reader.parsed(node, $expected, $parse)
            }

            fn schema(_: &mut Sections) -> Json {
                json!($schema)
            }

            fn word() -> String {
                $word.to_owned()
            }
        }
    )* };
}

scalar! {
    String, "text", "a text", { "type": "string" }, |text| Some(text.to_owned());
    bool, "`true` or `false`", "`true` or `false`", { "type": ["boolean", "string"] }, |text| match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    };
    PathBuf, "path", "a path", { "type": "string" }, |text| (!text.is_empty()).then(|| Self::from(text));
    Time, "time", "a time above zero with a unit, like `500ms`, `30s`, `10m` or `1h`",
        { "type": "string", "pattern": r"^[0-9.]+ ?(ms|s|m|h)$|\$\{" }, parse_time;
    LongTime, "long time", "a time above zero with a unit, like `30s`, `10m`, `24h` or `7d`",
        { "type": "string", "pattern": r"^[0-9.]+ ?(ms|s|m|h|d)$|\$\{" }, parse_long_time;
    Size, "size", "a size above zero, like `65536`, `64KiB` or `32MiB`",
        { "type": ["integer", "string"], "pattern": r"^[0-9_]+ ?(B|KiB|MiB|GiB)?$|\$\{" }, parse_size;
    Count, "count", "a whole number from 1", { "type": ["integer", "string"], "minimum": 1 },
        |text| parse_whole(text).filter(|count| *count > 0).map(Self);
    CountOrZero, "count or 0", "a whole number from 0", { "type": ["integer", "string"], "minimum": 0 },
        |text| parse_whole(text).map(Self);
    Tokens, "tokens", "a whole number from 1", { "type": ["integer", "string"], "minimum": 1 },
        |text| parse_whole(text).filter(|tokens| *tokens > 0).map(Self);
    Share, "share", "a share, like `0.1` or `10%`",
        { "type": ["number", "string"], "minimum": 0, "maximum": 1 }, parse_share;
    Rate, "number", "a number from 0", { "type": ["number", "string"], "minimum": 0 },
        |text| parse_float(text).map(Self);
}

fn parse_time(text: &str) -> Option<Time> {
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let seconds_each = match &text[digits.len()..] {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return None,
    };
    let seconds = parse_float(digits.trim_end())? * seconds_each;
    let fits = (0.001..=7.0 * 86_400.0).contains(&seconds);
    fits.then(|| Time(Duration::from_secs_f64(seconds)))
}

/// Up to a hundred years.
fn parse_long_time(text: &str) -> Option<LongTime> {
    let Some(days) = text.strip_suffix('d') else {
        return parse_time(text).map(|time| LongTime(time.0));
    };
    let days = parse_float(days.trim_end())?;
    let fits = (0.001..=36_525.0).contains(&days);
    fits.then(|| LongTime(Duration::from_secs_f64(days * 86_400.0)))
}

fn parse_size(text: &str) -> Option<Size> {
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let shift = match &text[digits.len()..] {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        _ => return None,
    };
    let number: usize = parse_whole(digits.trim_end())?;
    let bytes = number.checked_mul(1 << shift)?;
    (bytes > 0).then_some(Size(bytes))
}

fn parse_share(text: &str) -> Option<Share> {
    let share = match text.strip_suffix('%') {
        Some(percent) => parse_float(percent.trim_end())? / 100.0,
        None => parse_float(text)?,
    };
    (0.0..=1.0).contains(&share).then_some(Share(share))
}

/// A number as people write it: no sign, no exponent, no `inf`.
fn parse_float(text: &str) -> Option<f64> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if !plain || text.len() > 18 {
        return None;
    }
    text.parse().ok()
}

fn parse_whole<N: std::str::FromStr>(text: &str) -> Option<N> {
    let plain = text
        .bytes()
        .all(|byte| byte.is_ascii_digit() || byte == b'_');
    if !plain || text.starts_with('_') {
        return None;
    }
    text.replace('_', "").parse().ok()
}

// === impl Read for SecretText ===

impl Read for SecretText {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match (&node.tag, &node.value) {
            (Some(tag), Value::Scalar(path)) if tag == "file" => file(path.clone(), node, reader),
            (None, Value::Map(entries)) => match entries.as_slice() {
                [(key, path)] if key.text == "file" => {
                    let path = reader.text(path, "a path")?;
                    file(path.value, node, reader)
                }
                _ => {
                    reader.wrong_kind(node, "a secret: `${NAME}`, `!file path` or a text");
                    None
                }
            },
            _ => {
                reader.hide(node);
                let text = reader.text(node, "a secret: `${NAME}`, `!file path` or a text")?;
                Some(Self::Inline(text.value))
            }
        }
    }

    fn schema(_: &mut Sections) -> Json {
        json!({ "anyOf": [
            { "type": "string" },
            {
                "type": "object",
                "properties": { "file": { "type": "string" } },
                "required": ["file"],
                "additionalProperties": false,
            },
        ] })
    }

    fn word() -> String {
        "[secret](#secrets-and-variables)".to_owned()
    }
}

// === impl Read for AnyJson ===

impl Read for AnyJson {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        match (&node.tag, &node.value) {
            (Some(tag), Value::Scalar(path)) if tag == "file" => {
                match file(path.clone(), node, reader)? {
                    SecretText::File(path) => Some(Self::File(path)),
                    SecretText::Inline(_) => None,
                }
            }
            (None, Value::Scalar(_)) => {
                let text = reader.text(node, "JSON")?.value;
                match serde_json::from_str(&text) {
                    Ok(value) => Some(Self::Inline(value)),
                    Err(error) => {
                        let message = format!("this is not JSON: {error}");
                        let help = "write it as YAML, as a JSON text, or as `!file NAME`";
                        let problem = Problem::error(node.span.clone(), message);
                        reader.report(problem.help(help.to_owned()));
                        None
                    }
                }
            }
            _ => json_of(node, reader).map(Self::Inline),
        }
    }

    fn schema(_: &mut Sections) -> Json {
        json!({ "type": ["object", "boolean", "string"] })
    }

    fn word() -> String {
        "JSON".to_owned()
    }
}

/// YAML's own idea of a value: in quotes a text, else a number, `true`, `false` or nothing where it
/// looks like one. A field that is given twice is reported.
fn json_of(node: &Node, reader: &mut Reader<'_>) -> Option<Json> {
    Some(match &node.value {
        Value::Null => Json::Null,
        Value::Scalar(_) => {
            let text = reader.text(node, "a value")?.value;
            if node.quoted {
                Json::String(text)
            } else {
                plain_json(text)
            }
        }
        Value::List(items) => {
            let items = items.iter().map(|item| json_of(item, reader));
            Json::Array(items.collect::<Option<_>>()?)
        }
        Value::Map(entries) => {
            let mut fields = serde_json::Map::new();
            for (key, value) in entries {
                let value = json_of(value, reader)?;
                if fields.insert(key.text.clone(), value).is_some() {
                    let message = format!("`{}` is given twice", key.text);
                    reader.report(Problem::error(key.span.clone(), message));
                    return None;
                }
            }
            Json::Object(fields)
        }
    })
}

/// A value without quotes.
fn plain_json(text: String) -> Json {
    match text.as_str() {
        "true" => Json::Bool(true),
        "false" => Json::Bool(false),
        number if number.starts_with(|first: char| first == '-' || first.is_ascii_digit()) => {
            serde_json::from_str(number).unwrap_or(Json::String(text))
        }
        _ => Json::String(text),
    }
}

fn file(path: String, node: &Node, reader: &mut Reader<'_>) -> Option<SecretText> {
    if path.is_empty() {
        let message = "`!file` names no file";
        reader.report(Problem::error(node.span.clone(), message));
        return None;
    }
    Some(SecretText::File(PathBuf::from(path)))
}

// === impl Read for Named ===

impl<T: Read> Read for Named<T> {
    fn read(node: &Node, reader: &mut Reader<'_>) -> Option<Self> {
        let mut list = Vec::new();
        for (key, value) in reader.entries(node, "mapping")? {
            if let Some(value) = Spanned::<T>::read(value, reader) {
                let key = Spanned {
                    value: key.text.clone(),
                    span: key.span.clone(),
                };
                list.push((key, value));
            }
        }
        Some(Self(list))
    }

    fn schema(sections: &mut Sections) -> Json {
        json!({ "type": "object", "additionalProperties": T::schema(sections) })
    }

    fn word() -> String {
        format!("mapping of names to {}", T::word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_need_a_unit_and_are_never_zero() {
        let read = |text| parse_time(text).map(|time| time.0);
        assert_eq!(read("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(read("0.5s"), Some(Duration::from_millis(500)));
        assert_eq!(read("10 m"), Some(Duration::from_mins(10)));
        assert_eq!(read("1h"), Some(Duration::from_hours(1)));
        for bad in [
            "30", "0s", "-1s", "1e3s", "infs", "nans", "s", "1d", "9999h", ".s", "1.2.3s",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn sizes_and_shares_and_counts() {
        assert_eq!(parse_size("64KiB").map(|size| size.0), Some(65_536));
        assert_eq!(parse_size("1_000").map(|size| size.0), Some(1_000));
        for bad in ["0", "0MiB", "64KB", "-1", "", "KiB", "99999999999999999GiB"] {
            assert!(parse_size(bad).is_none(), "{bad}");
        }
        assert_eq!(parse_share("10%").map(|share| share.0), Some(0.1));
        for bad in ["1.1", "101%", "-0.1", "%", "x"] {
            assert!(parse_share(bad).is_none(), "{bad}");
        }
        assert_eq!(parse_whole::<u32>("4294967296"), None);
        assert_eq!(parse_whole::<u32>("+1"), None);
    }
}
