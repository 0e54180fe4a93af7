//! A service of another room, with what it says of its paths.

use std::sync::Arc;

use holdfast_api::Service;
use serde_json::Value;

/// A family of paths that somebody else answers.
#[derive(Clone)]
pub struct Mount {
    pub(crate) service: Arc<dyn Service>,
    pub(crate) document: Value,
}

impl Mount {
    /// `document`: the `paths`, `components` and `tags` of an `OpenAPI` document.
    pub fn new(service: Arc<dyn Service>, document: Value) -> Self {
        Self { service, document }
    }
}

impl std::fmt::Debug for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mount")
    }
}
