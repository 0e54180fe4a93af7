//! The part of the `OpenAPI` document that describes these paths.

use serde_json::Value;

/// Its `tags`, `paths` and `components.schemas`, to be merged with those of the other services. What
/// all of them share (`Fault`, `Limit`, `After`, `Scope`, `Wait`, the headers) is referred to and
/// defined elsewhere.
pub fn openapi() -> Value {
    serde_json::from_str(include_str!("openapi.json"))
        .expect("invariant: the document is JSON, which a test reads")
}
