//! What the paths take. A member that is not known is an error: a misspelt fence must not be ignored.

use holdfast_api::Caller;
use holdfast_core::fault::{Code, Fault};
use holdfast_core::idempotency::parse_name;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The longest reason or note, in bytes.
const LONGEST_NOTE: usize = 16 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    pub(crate) by: Option<String>,
    #[serde(rename = "for")]
    pub(crate) span: Option<String>,
    /// Of the claim to renew.
    pub(crate) fence: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Release {
    pub(crate) fence: i64,
}

/// `text` or `body`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Answer {
    pub(crate) by: Option<String>,
    pub(crate) fence: Option<i64>,
    pub(crate) text: Option<String>,
    pub(crate) body: Option<Box<RawValue>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retry {
    pub(crate) by: Option<String>,
    pub(crate) fence: Option<i64>,
    pub(crate) target: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reject {
    pub(crate) by: Option<String>,
    pub(crate) fence: Option<i64>,
    pub(crate) reason: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Choose {
    pub(crate) by: Option<String>,
    pub(crate) fence: Option<i64>,
    pub(crate) choice: String,
    #[serde(default)]
    pub(crate) note: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Effect {
    pub(crate) by: Option<String>,
    pub(crate) fence: Option<i64>,
    pub(crate) outcome: Outcome,
    #[serde(default)]
    pub(crate) note: String,
}

/// What somebody found who looked whether an effect happened.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Done,
    NotDone,
    SendAgain,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Close {
    pub(crate) by: Option<String>,
    pub(crate) fence: Option<i64>,
    #[serde(default)]
    pub(crate) note: String,
}

/// Who is written down: the one that the caller names, and the caller. Without callers in the
/// configuration there is only a name, or none.
pub(crate) fn signature(caller: &Caller, by: Option<&str>) -> Result<String, Fault> {
    let Some(by) = by else {
        return Ok(match caller.scope.as_str() {
            "" => "somebody".to_owned(),
            scope => scope.to_owned(),
        });
    };
    let by = parse_name("by", by).map_err(|why| Fault::new(Code::InvalidRequest, why))?;
    Ok(match caller.scope.as_str() {
        "" => by,
        scope if scope == by => by,
        scope => format!("{by} ({scope})"),
    })
}

/// A note within its limit.
pub(crate) fn note(what: &str, note: String) -> Result<String, Fault> {
    if note.len() > LONGEST_NOTE {
        let message = format!(
            "`{what}` has {} bytes; the most is {LONGEST_NOTE}",
            note.len()
        );
        return Err(Fault::new(Code::InvalidRequest, message));
    }
    Ok(note)
}
