//! `holdfast store`, on a file of its own.

use std::path::Path;

use holdfast_store::{Options, Place, Store};
use serde_json::Value;

use crate::holdfast;

const CONFIG: &str = "\
store: {url: 'sqlite:kept.db'}
providers:
  - {name: one, kind: anthropic, base_url: 'http://127.0.0.1:9', key: none-needed}
routes:
  - model: fast
    targets: [one]
";

fn configured() -> (tempfile::TempDir, String) {
    let home = tempfile::tempdir().unwrap();
    let config = home.path().join("holdfast.yaml");
    std::fs::write(&config, CONFIG).unwrap();
    let config = config.to_str().unwrap().to_owned();
    (home, config)
}

/// A runtime with an open store, as a gateway has it.
fn opened(path: &Path) -> (tokio::runtime::Runtime, Store) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let options = Options::new(Place::Sqlite(path.to_owned()));
    let store = runtime
        .block_on(Store::open(options, runtime.handle().clone()))
        .unwrap();
    (runtime, store)
}

#[test]
fn a_store_is_checked_copied_and_described() {
    let (home, config) = configured();
    let args = |verb: &'static str| vec!["store", verb, "--config", &config];
    let none = holdfast(&args("check"));
    assert_eq!(none.code, Some(1));
    assert!(none.err.contains("no store at"), "{}", none.err);
    assert!(
        !home.path().join("kept.db").exists(),
        "looking made a store"
    );

    let (runtime, store) = opened(&home.path().join("kept.db"));
    let busy = holdfast(&args("check"));
    assert_eq!(busy.code, Some(1));
    assert!(
        busy.err.contains("in use") && busy.err.contains("store backup"),
        "{}",
        busy.err
    );
    runtime.block_on(store.close());
    drop((store, runtime));

    assert_eq!(holdfast(&args("check")).told(), "sound\n");
    let mut status = args("status");
    status.push("--json");
    let told: Value = serde_json::from_str(&holdfast(&status).told()).unwrap();
    assert_eq!(
        (&told["kind"], &told["keys"]),
        (&"sqlite".into(), &0.into())
    );
    let copy = home.path().join("copy.db");
    let mut backup = args("backup");
    backup.push(copy.to_str().unwrap());
    assert!(holdfast(&backup).told().starts_with("wrote "));
    assert!(copy.exists());
    assert_eq!(
        holdfast(&backup).code,
        Some(1),
        "a copy is never written over"
    );
}

#[test]
fn a_damaged_store_is_told() {
    let (home, config) = configured();
    std::fs::write(home.path().join("kept.db"), vec![7; 64 * 1024]).unwrap();
    let outcome = holdfast(&["store", "check", "--config", &config]);
    assert_eq!(outcome.code, Some(1));
    assert!(outcome.err.contains("damaged"), "{}", outcome.err);
}
