//! Members of the API's answers as people read them: moments, ages, texts.

use std::time::{SystemTime, UNIX_EPOCH};

use holdfast_core::run::moment::{moment, parse_moment};
use holdfast_core::time::Wall;
use serde_json::Value;

/// The text of a member; `None` where there is none.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(all) => {
            let all: Vec<String> = all.iter().filter_map(text).collect();
            (!all.is_empty()).then(|| all.join(", "))
        }
        Value::Object(members) => {
            let all: Vec<String> = members
                .iter()
                .filter_map(|(name, value)| Some(format!("{name}={}", text(value)?)))
                .collect();
            (!all.is_empty()).then(|| all.join(", "))
        }
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
    }
}

/// A cell of a table: the text, or `-`.
pub(crate) fn cell(value: &Value) -> String {
    text(value).unwrap_or_else(|| "-".to_owned())
}

/// A moment, whether it came as milliseconds or as text: `2026-11-24 02:20:38Z`.
pub(crate) fn when(value: &Value) -> Option<String> {
    let wall = wall(value)?;
    let text = moment(wall);
    // The date, the time to the second.
    Some(format!("{} {}Z", text.get(..10)?, text.get(11..19)?))
}

/// How long ago: `40s`, `5m`, `3h`, `12d`; `-` where that is not known.
pub(crate) fn age(value: &Value) -> String {
    let Some(wall) = wall(value) else {
        return "-".to_owned();
    };
    let seconds = now().since(wall).as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

fn wall(value: &Value) -> Option<Wall> {
    match value {
        Value::Number(millis) => millis.as_i64().map(Wall),
        Value::String(text) => parse_moment(text),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn now() -> Wall {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Wall(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn moments_are_read_in_both_forms() {
        let shown = Some("2026-11-24 02:20:38Z".to_owned());
        assert_eq!(when(&json!(1_795_486_838_123_i64)), shown);
        assert_eq!(when(&json!("2026-11-24T02:20:38.123Z")), shown);
        assert_eq!(when(&Value::Null), None);
        assert_eq!(when(&json!("soon")), None);
    }

    #[test]
    fn ages_are_short() {
        let ago = |seconds: i64| age(&json!(now().0 - seconds * 1000 - 100));
        let shown = [5, 119, 7300, 400_000].map(ago);
        assert_eq!(shown, ["5s", "1m", "2h", "4d"]);
        assert_eq!(age(&Value::Null), "-");
    }

    #[test]
    fn members_become_text() {
        assert_eq!(text(&json!(["a", "b"])).as_deref(), Some("a, b"));
        assert_eq!(text(&json!({"a": 1, "b": null})).as_deref(), Some("a=1"));
        assert_eq!(cell(&Value::Null), "-");
    }
}
