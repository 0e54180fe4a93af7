//! The configuration described: JSON Schema for editors, and the reference for people.
//!
//! Both are made of the declarations in `draft`, so they cannot say anything else than what is read.
//! Committed as `docs/config.schema.json` and `docs/configuration.md`; tests find them stale.

use std::fmt::Write as _;

use serde_json::{Map, Value as Json, json};

use crate::draft::Draft;
use crate::shape::{Read as _, Section, Sections};

const HEAD: &str = include_str!("reference.md");

/// Fields that a section cannot do without.
const REQUIRED: [(&str, &[&str]); 7] = [
    ("configuration", &["providers", "routes"]),
    ("caller", &["name"]),
    ("provider", &["name"]),
    ("route", &["model", "targets"]),
    ("target", &["provider"]),
    ("step", &["step", "gate"]),
    ("tls", &["ca_file"]),
];

/// The JSON Schema (draft 2020-12) of the configuration file, pretty-printed.
pub fn schema() -> String {
    let mut sections = Sections::default();
    let root = Draft::schema(&mut sections);
    let mut defs = Map::new();
    for section in &sections.list {
        let mut schema = section.schema();
        let required = required(section);
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        defs.insert(section.name.to_owned(), schema);
    }
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Holdfast configuration",
        "$ref": root["$ref"],
        "$defs": Json::Object(defs),
    });
    let text = serde_json::to_string_pretty(&schema);
    text.expect("invariant: a tree of JSON values can be written") + "\n"
}

/// The reference of every section and field, as Markdown.
pub fn reference() -> String {
    let mut sections = Sections::default();
    Draft::schema(&mut sections);
    let mut text = HEAD.to_owned();
    for section in &sections.list {
        let required = required(section);
        let written = write!(text, "\n## {}\n\n{}\n\n", section.name, section.about)
            .and_then(|()| text.write_str("| field | value | default | meaning |\n"))
            .and_then(|()| text.write_str("| --- | --- | --- | --- |\n"));
        written.expect("invariant: writing to a string does not fail");
        for field in &section.fields {
            let default = match field.default {
                Some(default) => format!("`{default}`"),
                None if required.contains(&field.name) => "required".to_owned(),
                None => String::new(),
            };
            let (name, word) = (field.name, &field.word);
            let about = field.about.replace('|', r"\|");
            writeln!(text, "| `{name}` | {word} | {default} | {about} |")
                .expect("invariant: writing to a string does not fail");
        }
    }
    text
}

fn required(section: &Section) -> &'static [&'static str] {
    let found = REQUIRED.iter().find(|(name, _)| *name == section.name);
    found.map_or(&[], |(_, fields)| fields)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;
    use crate::checked::Config;

    /// Set `HOLDFAST_BLESS=1` to write the file instead of comparing with it.
    fn compare(path: &str, fresh: &str) {
        let path = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("HOLDFAST_BLESS").is_some() {
            std::fs::write(&path, fresh).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        let help = "is stale: run `HOLDFAST_BLESS=1 cargo test -p holdfast-config`";
        assert!(committed == fresh, "{path} {help}");
    }

    #[test]
    fn the_committed_schema_is_fresh() {
        compare("docs/config.schema.json", &schema());
    }

    #[test]
    fn the_committed_reference_is_fresh() {
        compare("docs/configuration.md", &reference());
    }

    #[test]
    fn required_fields_exist() {
        let mut sections = Sections::default();
        Draft::schema(&mut sections);
        for (name, fields) in REQUIRED {
            let section = sections.list.iter().find(|section| section.name == name);
            let section = section.expect("a section of that name");
            for field in fields {
                assert!(
                    section.fields.iter().any(|known| known.name == *field),
                    "{field}"
                );
            }
        }
    }

    /// Writes every default of a section, as documented, under it.
    fn defaults_of(sections: &Sections, name: &str, indent: usize, text: &mut String) {
        let section = sections.list.iter().find(|section| section.name == name);
        for field in &section.expect("a section of that name").fields {
            if let Some(default) = field.default {
                let (pad, name) = (" ".repeat(indent), field.name);
                writeln!(text, "{pad}{name}: {default}").unwrap();
            }
        }
    }

    #[test]
    fn documented_defaults_are_the_real_ones() {
        let mut sections = Sections::default();
        Draft::schema(&mut sections);
        let mut text = String::new();
        defaults_of(&sections, "configuration", 0, &mut text);
        text.push_str("defaults:\n");
        defaults_of(&sections, "defaults", 2, &mut text);
        for part in ["timeouts", "backoff", "budget", "breaker"] {
            writeln!(text, "  {part}:").unwrap();
            defaults_of(&sections, part, 4, &mut text);
        }
        for part in ["limits", "log"] {
            writeln!(text, "{part}:").unwrap();
            defaults_of(&sections, part, 2, &mut text);
        }
        text.push_str("providers:\n  - name: ollama\n");
        defaults_of(&sections, "provider", 4, &mut text);
        text.push_str("    connections:\n");
        defaults_of(&sections, "connections", 6, &mut text);
        text.push_str("routes:\n  - model: m\n    targets:\n      - provider: ollama\n");
        defaults_of(&sections, "target", 8, &mut text);
        let bare = "providers: { name: ollama }\nroutes: { model: m, targets: ollama }\n";
        assert_eq!(config(&text), config(bare), "{text}");
        assert!(
            text.contains("open_max") && text.contains("max_h1_idle"),
            "{text}"
        );
    }

    fn config(text: &str) -> Config {
        let disk = crate::Disk {
            directory: ".".into(),
        };
        match crate::parse("defaults.yaml", text, &|_| None, &disk) {
            Ok(loaded) => loaded.config,
            Err(rejected) => panic!("{}", rejected.render(false)),
        }
    }
}
