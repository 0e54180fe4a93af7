//! The sections about what is kept: what is read from them, and that no secret of them is shown.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_config::checked::{
    EffectKind, GateOn, KeepTickets, Repeats, SmtpSecurity, StorePlace, TicketRetry,
};
use holdfast_config::{Config, Files, Loaded, diff, parse};

struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("schema.json") => Ok("{\"maximum\": 12345678901234567890123}\n".to_owned()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    fn resolve(&self, path: &Path) -> PathBuf {
        Path::new("/etc/holdfast").join(path)
    }
}

fn env(name: &str) -> Option<String> {
    match name {
        "STORE_KEY" => Some("c0ffee00".repeat(8)),
        "UNSET" => None,
        name => Some(format!("{name}-canary-0123456789")),
    }
}

fn read(text: &str) -> Loaded {
    let good = "providers: [{ name: ollama }]\n";
    let routes = "routes: [{ model: m, targets: [ollama] }]\n";
    let routes = if text.contains("routes:") { "" } else { routes };
    match parse(
        "holdfast.yaml",
        &format!("{good}{routes}{text}"),
        &env,
        &Disk,
    ) {
        Ok(loaded) => loaded,
        Err(rejected) => panic!("{}", rejected.render(false)),
    }
}

fn config(text: &str) -> Config {
    let loaded = read(text);
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    loaded.config
}

fn example() -> Config {
    let text = include_str!("../../../examples/durable.yaml");
    let text = text.replace("HOLDFAST_STORE_KEY", "STORE_KEY");
    match parse("durable.yaml", &text, &env, &Disk) {
        Ok(loaded) => loaded.config,
        Err(rejected) => panic!("{}", rejected.render(false)),
    }
}

#[test]
fn without_a_section_there_is_a_file_beside_the_configuration() {
    let store = config("").store.expect("a store");
    assert!(store.implied);
    let place = StorePlace::Sqlite("/etc/holdfast/holdfast.db".into());
    assert_eq!(store.place, place);
    assert!(config("store: { url: none }\n").store.is_none());
}

#[test]
fn without_a_store_sizes_have_no_cap() {
    let limits = "limits: { answer_bytes: 100MiB, body_bytes: 100MiB }\n";
    let config = config(&format!("store: {{ url: none }}\n{limits}"));
    assert_eq!(config.limits.body_bytes, 100 << 20);
    let most = "limits: { answer_bytes: 64MiB, body_bytes: 47MiB }\n";
    assert_eq!(self::config(most).limits.answer_bytes, 64 << 20);
}

#[test]
fn the_forms_of_a_store_url() {
    let place = |url: &str| {
        let config = config(&format!("store: {{ url: \"{url}\" }}\n"));
        config.store.expect("a store").place
    };
    for (url, file) in [
        ("sqlite:a.db", "/etc/holdfast/a.db"),
        ("sqlite://a.db", "/etc/holdfast/a.db"),
        ("sqlite:///var/lib/a.db", "/var/lib/a.db"),
        ("sqlite:/var/lib/a.db", "/var/lib/a.db"),
    ] {
        assert_eq!(place(url), StorePlace::Sqlite(file.into()), "{url}");
    }
    for url in ["postgres://u:p@h/d", "postgresql://h:5433/d"] {
        assert!(
            matches!(place(url), StorePlace::Postgres(kept) if kept.expose() == url),
            "{url}"
        );
    }
}

#[test]
fn the_example_says_what_it_means() {
    let config = example();
    assert!(config.callers[1].reviewer && !config.callers[0].reviewer);
    let store = config.store.expect("a store");
    assert_eq!(
        store.encryption_key.expect("a key").expose(),
        "c0ffee00".repeat(8)
    );
    assert_eq!(store.retention.exchanges, Duration::from_hours(30 * 24));
    let policy = &config.routes[0].policy;
    assert_eq!(policy.tickets, KeepTickets::All);
    assert_eq!(policy.ticket_retry, TicketRetry::WhenHealthy);
    assert_eq!(policy.idempotency.expiry, Duration::from_hours(7 * 24));
    assert_eq!(policy.idempotency.repeats, Repeats::Join);
    let gate = policy.gate.as_ref().expect("a gate");
    assert_eq!(
        (gate.asks, gate.on, gate.no_refusal),
        (2, GateOn::Json, true)
    );
    assert_eq!(gate.cel, ["json.total < 100000"]);
    let [billing, mail] = &config.effects.targets[..] else {
        panic!("two targets");
    };
    assert!(billing.honours_keys && !mail.honours_keys);
    let EffectKind::Http {
        url,
        paths,
        headers,
        ..
    } = &billing.kind
    else {
        panic!("an HTTP target");
    };
    assert_eq!(
        (url.host.as_str(), url.path.as_str()),
        ("billing.example.com", "/v1")
    );
    assert_eq!(paths, &["/charges", "/invoices/*"]);
    assert_eq!(headers[0].0, "authorization");
    let EffectKind::Smtp { port, security, .. } = &mail.kind else {
        panic!("a mail target");
    };
    assert_eq!((*port, *security), (587, SmtpSecurity::StartTls));
    assert_eq!(config.webhooks[0].events.len(), 3);
}

#[test]
fn a_schema_in_yaml_becomes_the_same_json() {
    let schema = |lines: &str| {
        let config = config(&format!(
            "routes:\n  - model: m\n    targets: [ollama]\n    delivery: whole\n    gate:\n      json_schema: {lines}\n"
        ));
        let gate = config.routes[0].policy.gate.clone().expect("a gate");
        gate.json_schema.expect("a schema")
    };
    let json =
        |lines: &str| -> serde_json::Value { serde_json::from_str(&schema(lines)).expect("JSON") };
    let values =
        "{ enum: [1, -2.5, 1e3, 0, true, \"true\", 'null', \"5\", null, ~, [], {}, a b, 007] }";
    let expected = serde_json::json!({ "enum": [
        1, -2.5, 1e3, 0, true, "true", "null", "5", null, null, [], {}, "a b", "007"
    ]});
    assert_eq!(json(values), expected);
    let nested = "\n        properties:\n          a: { const: \"1.0\" }\n          b: { $ref: '#/$defs/x' }";
    let expected = serde_json::json!({ "properties": {
        "a": { "const": "1.0" }, "b": { "$ref": "#/$defs/x" }
    }});
    assert_eq!(json(nested), expected);
    assert_eq!(
        json("'{\"type\": \"object\"}'"),
        serde_json::json!({ "type": "object" })
    );
    let file = schema("!file schema.json");
    assert!(file.contains("12345678901234567890123"), "{file}");
}

#[test]
fn a_route_inherits_what_it_does_not_say() {
    let config = config(
        "defaults: { idempotency: { expiry: 2h }, tickets: never, retry_after: 1s }\n\
         routes:\n  - { model: a, targets: [ollama] }\n  \
         - { model: b, targets: [ollama], tickets: all, idempotency: { repeats: refuse } }\n",
    );
    let [a, b] = [&config.routes[0].policy, &config.routes[1].policy];
    assert_eq!(
        (a.tickets, b.tickets),
        (KeepTickets::Never, KeepTickets::All)
    );
    assert_eq!(b.idempotency.expiry, Duration::from_hours(2));
    assert_eq!(b.idempotency.repeats, Repeats::Refuse);
    assert_eq!(a.idempotency.repeats, Repeats::Join);
    assert_eq!(b.retry_after, Duration::from_secs(1));
}

#[test]
fn nothing_printable_shows_a_secret() {
    let postgres = config("store: { url: \"postgres://u:${PG}@h/d\" }\n");
    for config in [example(), postgres] {
        let shown = format!("{config:?}");
        for canary in ["canary", "c0ffee"] {
            assert!(!shown.contains(canary), "{canary} in {shown}");
        }
    }
}

#[test]
fn a_reload_names_what_changed_and_what_needs_a_restart() {
    let old = config("store: { url: \"postgres://u:canary@h/d\" }\n");
    let new = config(
        "store: { url: \"postgres://u:canary-two@h/d\" }\nreview: { claim: 5m }\n\
         effects: { targets: [{ name: t, url: \"https://t.example\", honours_keys: true }] }\n",
    );
    let lines: Vec<String> = diff(&old, &new).iter().map(ToString::to_string).collect();
    assert_eq!(
        lines,
        [
            "store changed (needs a restart)",
            "effect target t added",
            "review changed (needs a restart)"
        ]
    );
}

#[test]
fn a_step_is_found_by_its_name_and_then_by_its_longest_beginning() {
    let config = config(
        "routes: [{ model: m, targets: [ollama], delivery: whole }]
steps:
  - { step: page-*, gate: { min_length: 1 } }
  - { step: page-1*, gate: { min_length: 2, asks: 3 } }
  - { step: page-17, gate: { on: json } }
",
    );
    let step = |name: &str| config.step(name).map(|step| step.step.as_str());
    for (name, found) in [
        ("page-17", Some("page-17")),
        ("page-170", Some("page-1*")),
        ("page-2", Some("page-*")),
        ("page-", Some("page-*")),
        ("page", None),
        ("draft", None),
    ] {
        assert_eq!(step(name), found, "{name}");
    }
    let gates: Vec<_> = config.steps.iter().map(|step| &step.gate).collect();
    assert_eq!((gates[1].min_length, gates[1].asks), (2, 3));
    assert_eq!((gates[2].on, gates[2].asks), (GateOn::Json, 1));
}

#[test]
fn a_changed_step_is_told_by_its_name() {
    let of = |least: u32| {
        let text = format!("steps: [{{ step: draft, gate: {{ min_length: {least} }} }}]\n");
        read(&text).config
    };
    let changes = diff(&of(1), &of(2));
    let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(lines, ["step draft changed"]);
}
