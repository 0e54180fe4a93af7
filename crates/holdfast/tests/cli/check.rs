//! `holdfast check`: what would fail at the start fails here.

use crate::holdfast;

const ROUTE: &str = "
providers: [{ name: openai, key: k }]
routes: [{ model: m, delivery: whole, gate: { cel: 'CEL' }, targets: [openai/x] }]
";

#[test]
fn a_gate_that_does_not_compile_is_found() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("holdfast.yaml");
    let check = |cel: &str| {
        std::fs::write(&path, ROUTE.replace("CEL", cel)).unwrap();
        holdfast(&["check", "--config", path.to_str().unwrap()])
    };
    let bad = check("size(text) <");
    assert_eq!(bad.code, Some(2));
    assert!(
        bad.err.contains("route `m`") && bad.err.contains("column"),
        "{}",
        bad.err
    );
    assert_eq!(check("size(text) < 9").code, Some(0));
}
