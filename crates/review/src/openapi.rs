//! The part of the `OpenAPI` document that describes these paths.

use serde_json::Value;

/// Its `tags`, `paths` and `components.schemas`, to be merged with those of the other services. What
/// all of them share (`Fault`, `Limit`, `After`, `Scope`) is referred to and defined elsewhere.
pub fn openapi() -> Value {
    serde_json::from_str(include_str!("openapi.json"))
        .expect("invariant: the document is JSON, which a test reads")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::service::PATHS;

    /// What the merged document defines for all.
    const SHARED: [&str; 4] = [
        "#/components/responses/Fault",
        "#/components/parameters/Limit",
        "#/components/parameters/After",
        "#/components/parameters/Scope",
    ];

    #[test]
    fn the_router_and_the_document_have_the_same_paths() {
        let document = openapi();
        let mut described = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                described.insert((method.to_uppercase(), path.clone()));
            }
        }
        let served = PATHS.iter();
        let served: BTreeSet<_> = served
            .map(|(method, path)| (method.to_string(), (*path).to_owned()))
            .collect();
        assert_eq!(described, served);
    }

    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::String(target)) = members.get("$ref") {
                    found.insert(target.clone());
                }
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_used() {
        let document = openapi();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for target in &found {
            let is_own = document.pointer(&target[1..]).is_some();
            assert!(is_own || SHARED.contains(&target.as_str()), "{target}");
        }
        for name in document["components"]["schemas"]
            .as_object()
            .unwrap()
            .keys()
        {
            assert!(
                found.contains(&format!("#/components/schemas/{name}")),
                "{name}"
            );
        }
    }
}
