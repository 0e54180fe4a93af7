//! `holdfast check`: what would fail at the start fails here.

use crate::holdfast;

const ROUTE: &str = "
providers: [{ name: openai, key: k }]
routes: [{ model: m, delivery: whole, gate: { cel: 'CEL' }, targets: [openai/x] }]
";

const STEP: &str = "
providers: [{ name: openai, key: k }]
routes: [{ model: m, delivery: whole, targets: [openai/x] }]
steps: [{ step: draft, gate: { cel: 'CEL' } }]
";

#[test]
fn a_gate_that_does_not_compile_is_found() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("holdfast.yaml");
    for (config, place) in [(ROUTE, "route `m`"), (STEP, "step `draft`")] {
        let check = |cel: &str| {
            std::fs::write(&path, config.replace("CEL", cel)).unwrap();
            holdfast(&["check", "--config", path.to_str().unwrap()])
        };
        let bad = check("size(text) <");
        assert_eq!(bad.code, Some(2));
        assert!(
            bad.err.contains(place) && bad.err.contains("column"),
            "{}",
            bad.err
        );
        assert_eq!(check("size(text) < 9").code, Some(0));
    }
}
