//! The `OpenAPI` document: one part for each family of paths, merged into one.
//!
//! The parts are written by hand (JSON, beside the code that answers): an annotation for each handler
//! would say the same at greater length, and could be as wrong. Tests hold paths and document to each
//! other. The document also knows which paths there are, so it is what unknown ones are refused by.

use std::fmt::Write as _;

use holdfast_api::Request;
use holdfast_core::fault::{Code, Fault};
use serde_json::{Map, Value, json};

use crate::routes::fit;

/// What this room says of its paths: `tags`, `paths` and `components`.
pub fn openapi() -> Value {
    let parts = [
        include_str!("openapi/runs.json"),
        include_str!("openapi/approvals.json"),
        include_str!("openapi/events.json"),
    ];
    let mut whole = Value::Object(Map::new());
    for part in parts {
        let part = serde_json::from_str(part).expect("invariant: the parts are JSON");
        merge(&mut whole, part);
    }
    whole
}

/// The whole document, of this room and of `others`.
pub fn merged(others: &[Value]) -> Value {
    let mut whole: Value = serde_json::from_str(include_str!("openapi/base.json"))
        .expect("invariant: the base is JSON");
    whole["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    merge(&mut whole, openapi());
    for other in others {
        for part in ["tags", "paths", "components"] {
            if let Some(found) = other.get(part) {
                merge(&mut whole, json!({ part: found }));
            }
        }
    }
    let codes: Vec<&str> = Code::ALL.iter().map(|code| code.number()).collect();
    whole["components"]["headers"]["Holdfast-Code"]["schema"]["enum"] = json!(codes);
    whole["components"]["headers"]["Holdfast-Code"]["description"] = code_table().into();
    whole
}

/// Puts `part` into `whole`: objects are joined, lists are strung together, and what is there already
/// stays.
fn merge(whole: &mut Value, part: Value) {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            for (name, value) in part {
                match whole.get_mut(&name) {
                    Some(there) => merge(there, value),
                    None => {
                        whole.insert(name, value);
                    }
                }
            }
        }
        (Value::Array(whole), Value::Array(part)) => {
            for value in part {
                if !whole.contains(&value) {
                    whole.push(value);
                }
            }
        }
        (_, _) => {}
    }
}

fn code_table() -> String {
    let mut table =
        "What went wrong; `holdfast explain HF-012` says more.\n\n| code | status | word |\n|---|---|---|"
            .to_owned();
    for code in Code::ALL {
        let (number, status, slug) = (code.number(), code.status(), code.slug());
        write!(table, "\n| {number} | {status} | `{slug}` |")
            .expect("invariant: a string takes all that is written");
    }
    table
}

/// The paths of a document and their methods.
pub(crate) struct Directory(Vec<(String, Vec<String>)>);

/// What a directory says of a request.
pub(crate) enum Known {
    /// The path takes this method.
    Yes,
    /// It does not, or there is no such path in this family.
    Refused(Fault),
    /// No path of these families.
    No,
}

impl Directory {
    pub(crate) fn new(document: &Value) -> Self {
        const METHODS: [&str; 5] = ["get", "put", "post", "delete", "patch"];
        let paths = document["paths"].as_object().into_iter().flatten();
        let entry = |(path, item): (&String, &Value)| {
            let methods = METHODS
                .into_iter()
                .filter(|method| item.get(method).is_some());
            (path.clone(), methods.map(str::to_uppercase).collect())
        };
        Self(paths.map(entry).collect())
    }

    pub(crate) fn look(&self, request: &Request) -> Known {
        let segments = request.segments();
        let Some(family) = segments.first() else {
            return Known::No;
        };
        let fitting = self
            .0
            .iter()
            .find(|(path, _)| fit(path, &segments).is_some());
        if let Some((_, methods)) = fitting {
            if methods
                .iter()
                .any(|method| method == request.method.as_str())
            {
                return Known::Yes;
            }
            let message = format!(
                "`{}` takes {}, not {}",
                request.path,
                methods.join(" and "),
                request.method
            );
            return Known::Refused(Fault::new(Code::MethodNotAllowed, message));
        }
        let of_family = |path: &&String| {
            let first = path
                .strip_prefix("/v1/")
                .and_then(|rest| rest.split('/').next());
            first == Some(family)
        };
        let siblings: Vec<String> = self
            .0
            .iter()
            .map(|(path, _)| path)
            .filter(of_family)
            .map(|path| format!("`{path}`"))
            .collect();
        if siblings.is_empty() {
            return Known::No;
        }
        let shown: String = request.path.chars().take(200).collect();
        let message = format!("`{shown}` is not served; there is {}", siblings.join(", "));
        Known::Refused(Fault::new(Code::UnknownPath, message))
    }
}
