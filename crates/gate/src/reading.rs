//! An answer read as JSON.
//!
//! Models like to put JSON into a code fence, whatever they are told. A fence around the whole answer
//! is passed over for the check; the caller gets the answer as it came.

use serde_json::Value;

/// What came of reading.
#[derive(Debug, PartialEq)]
pub(crate) enum Reading {
    Json(Value),
    NotJson(String),
}

impl Reading {
    pub(crate) fn of(text: &str) -> Self {
        let json = unfenced(text.trim_start_matches('\u{feff}').trim());
        match serde_json::from_str(json) {
            Ok(value) => Self::Json(value),
            Err(error) => Self::NotJson(error.to_string()),
        }
    }
}

/// The inside of a fence around the whole text, or the text.
fn unfenced(text: &str) -> &str {
    let inside = || {
        let rest = text.strip_prefix("```")?.strip_suffix("```")?;
        let (info, inside) = rest.split_once('\n')?;
        let info = info.trim();
        (info.is_empty() || info.eq_ignore_ascii_case("json")).then_some(inside)
    };
    inside().unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fence_around_all_of_it_is_passed_over() {
        for text in [
            r#"{"a":1}"#,
            "  {\"a\":1}\n",
            "```json\n{\"a\":1}\n```",
            "```JSON \r\n{\"a\":1}\r\n```\n",
            "```\n{\"a\":1}```",
            "\u{feff}{\"a\":1}",
        ] {
            assert_eq!(Reading::of(text), Reading::Json(json!({"a": 1})), "{text}");
        }
    }

    #[test]
    fn what_is_said_around_it_makes_it_no_json() {
        for text in [
            "",
            "```",
            "``````",
            "```json```",
            "Here you are:\n```json\n{\"a\":1}\n```",
            "```json\n{\"a\":1}\n```\nAnything else?",
            "```python\n{\"a\":1}\n```",
            "{\"a\":1} {\"b\":2}",
            "{\"a\":",
        ] {
            assert!(matches!(Reading::of(text), Reading::NotJson(_)), "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let Reading::NotJson(why) = Reading::of(&deep) else {
            panic!("read");
        };
        assert!(why.contains("recursion limit"), "{why}");
    }
}
