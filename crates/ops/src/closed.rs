//! In place of everything that needs a store, where none is configured.

use holdfast_api::{Answering, Request, Service, json};
use holdfast_core::fault::{Code, Fault};
use http::{Method, StatusCode};
use serde_json::Value;

use crate::document::{Directory, Known, merged};

/// Says that no store is configured, for each path that would need one.
pub struct NoStore {
    directory: Directory,
    document: Value,
}

impl NoStore {
    /// `documents`: of the services that would be mounted.
    pub fn new(documents: &[Value]) -> Self {
        let document = merged(documents);
        Self {
            directory: Directory::new(&document),
            document,
        }
    }
}

impl Service for NoStore {
    fn handle(&self, request: &Request) -> Option<Answering> {
        let answer = match self.directory.look(request) {
            Known::No => return None,
            Known::Refused(fault) => Err(fault),
            Known::Yes if request.method == Method::GET && request.path == "/v1/openapi.json" => {
                json(StatusCode::OK, &self.document)
            }
            Known::Yes => Err(Fault::new(
                Code::StoreUnavailable,
                "no store is configured: `store` in the configuration says where to keep what is promised",
            )),
        };
        Some(Box::pin(std::future::ready(answer)))
    }
}

impl std::fmt::Debug for NoStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NoStore")
    }
}
