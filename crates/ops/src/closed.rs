//! In place of everything that needs a store, where there is none (yet).

use holdfast_api::{Answering, Request, Service, json};
use holdfast_core::fault::{Code, Fault};
use http::{Method, StatusCode};
use serde_json::Value;

use crate::document::{Directory, Known, merged};

/// Says why there is no store, for each path that would need one.
pub struct NoStore {
    directory: Directory,
    document: Value,
    why: String,
}

impl NoStore {
    /// `documents`: of the services that would be mounted.
    pub fn new(documents: &[Value]) -> Self {
        let why = "no store is configured: `store` in the configuration says where to keep what is promised";
        Self::because(documents, why)
    }

    /// There is a store, and it can't be used: `why`, in words for callers.
    pub fn because(documents: &[Value], why: impl Into<String>) -> Self {
        let document = merged(documents);
        Self {
            directory: Directory::new(&document),
            document,
            why: why.into(),
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
            Known::Yes => Err(Fault::new(Code::StoreUnavailable, self.why.clone())),
        };
        Some(Box::pin(std::future::ready(answer)))
    }
}

impl std::fmt::Debug for NoStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NoStore")
    }
}
