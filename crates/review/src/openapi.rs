//! The part of the `OpenAPI` document that describes these paths.

use serde_json::Value;

/// Its `paths` and `components.schemas`, to be merged with those of the other services.
pub fn openapi() -> Value {
    serde_json::from_str(include_str!("openapi.json"))
        .expect("invariant: the document is JSON, which a test reads")
}
