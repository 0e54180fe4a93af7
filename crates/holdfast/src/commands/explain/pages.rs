//! The documentation pages of the error codes, embedded: one file each in `docs/errors/`.

use holdfast_core::fault::Code;

/// The page of a code, as Markdown.
pub(super) fn of(code: Code) -> &'static str {
    match code.number() {
        "HF-001" => include_str!("../../../../../docs/errors/HF-001.md"),
        "HF-002" => include_str!("../../../../../docs/errors/HF-002.md"),
        "HF-003" => include_str!("../../../../../docs/errors/HF-003.md"),
        "HF-004" => include_str!("../../../../../docs/errors/HF-004.md"),
        "HF-005" => include_str!("../../../../../docs/errors/HF-005.md"),
        "HF-006" => include_str!("../../../../../docs/errors/HF-006.md"),
        "HF-007" => include_str!("../../../../../docs/errors/HF-007.md"),
        "HF-008" => include_str!("../../../../../docs/errors/HF-008.md"),
        "HF-009" => include_str!("../../../../../docs/errors/HF-009.md"),
        "HF-010" => include_str!("../../../../../docs/errors/HF-010.md"),
        "HF-011" => include_str!("../../../../../docs/errors/HF-011.md"),
        "HF-012" => include_str!("../../../../../docs/errors/HF-012.md"),
        "HF-013" => include_str!("../../../../../docs/errors/HF-013.md"),
        "HF-014" => include_str!("../../../../../docs/errors/HF-014.md"),
        "HF-015" => include_str!("../../../../../docs/errors/HF-015.md"),
        "HF-016" => include_str!("../../../../../docs/errors/HF-016.md"),
        "HF-017" => include_str!("../../../../../docs/errors/HF-017.md"),
        "HF-018" => include_str!("../../../../../docs/errors/HF-018.md"),
        "HF-019" => include_str!("../../../../../docs/errors/HF-019.md"),
        "HF-020" => include_str!("../../../../../docs/errors/HF-020.md"),
        "HF-021" => include_str!("../../../../../docs/errors/HF-021.md"),
        "HF-022" => include_str!("../../../../../docs/errors/HF-022.md"),
        "HF-023" => include_str!("../../../../../docs/errors/HF-023.md"),
        "HF-024" => include_str!("../../../../../docs/errors/HF-024.md"),
        "HF-025" => include_str!("../../../../../docs/errors/HF-025.md"),
        "HF-026" => include_str!("../../../../../docs/errors/HF-026.md"),
        "HF-027" => include_str!("../../../../../docs/errors/HF-027.md"),
        "HF-028" => include_str!("../../../../../docs/errors/HF-028.md"),
        "HF-029" => include_str!("../../../../../docs/errors/HF-029.md"),
        "HF-030" => include_str!("../../../../../docs/errors/HF-030.md"),
        "HF-031" => include_str!("../../../../../docs/errors/HF-031.md"),
        "HF-032" => include_str!("../../../../../docs/errors/HF-032.md"),
        "HF-033" => include_str!("../../../../../docs/errors/HF-033.md"),
        "HF-034" => include_str!("../../../../../docs/errors/HF-034.md"),
        "HF-035" => include_str!("../../../../../docs/errors/HF-035.md"),
        "HF-036" => include_str!("../../../../../docs/errors/HF-036.md"),
        _ => "this code has no page\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_page() {
        for code in Code::ALL {
            let page = of(*code);
            let title = format!("# {}: {}\n", code.number(), code.slug());
            assert!(page.starts_with(&title), "{}", code.number());
            assert!(page.contains("## What to do"), "{}", code.number());
        }
    }
}
