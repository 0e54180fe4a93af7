//! Bad files: what a person is shown. Each case is the file and the snapshot of its diagnostics.
//!
//! The first lines of a case's snapshot show what stands in the file; no case may show a canary.

use std::fmt::Write as _;
use std::io;
use std::path::Path;

use holdfast_config::{Files, Severity, load, parse};
use proptest::prelude::*;

struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<String> {
        match path.to_str() {
            Some("empty") => Ok("\n".to_owned()),
            Some("no-pem") => Ok("hello".to_owned()),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, "no such file")),
        }
    }
}

fn env(name: &str) -> Option<String> {
    match name {
        "KEY" => Some("canary-0123456789abcdef".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

/// All diagnostics of a text, as shown in a terminal without colour.
fn shown(text: &str) -> String {
    let diagnostics = match parse("holdfast.yaml", text, &env, &Disk) {
        Ok(loaded) => loaded.warnings,
        Err(rejected) => {
            let is_error = |severity| severity == Severity::Error;
            assert!(rejected.diagnostics.iter().any(|d| is_error(d.severity)));
            rejected.diagnostics
        }
    };
    let mut all = String::new();
    for diagnostic in &diagnostics {
        let rendered = diagnostic.render(false);
        all.push_str(&rendered);
        all.push_str("\n\n");
        let shown = format!(
            "{rendered} {} {diagnostic} {diagnostic:?}",
            diagnostic.render(true)
        );
        assert!(!shown.contains("canary"), "a secret is shown: {shown}");
    }
    all
}

const GOOD: &str = "providers: [{ name: ollama }]\nroutes: [{ model: m, targets: [ollama] }]\n";

/// A good file with more lines.
fn with(lines: &str) -> String {
    format!("{GOOD}{lines}")
}

/// A good file with another provider, which a route uses.
fn provider(fields: &str) -> String {
    format!("providers:\n  - name: p\n{fields}\nroutes: [{{ model: m, targets: [p] }}]\n")
}

/// A good file with other routes.
fn routes(routes: &str) -> String {
    format!(
        "providers:\n  - {{ name: anthropic, key: \"${{KEY}}\" }}\n  \
         - {{ name: openai, key: \"${{KEY}}\" }}\n\
         routes:\n{routes}\n"
    )
}

macro_rules! cases {
    ($($name:ident: $text:expr;)*) => { $(
        #[test]
        fn $name() {
            insta::assert_snapshot!(shown(&$text));
        }
    )* };
}

cases! {
    not_yaml: "providers: [\n  - key: \"canary-in-a-broken-file\n";
    not_a_mapping: "- a\n- b\n";
    nothing_at_all: "";
    two_documents: with("---\nproviders: []\n");
    unknown_fields_get_the_nearest_name: with(
        "limts: { in_flight: 3 }\nlimits: { inflight: 3 }\ndefaults: { timeout: { idle: 3s } }\n\
         zebra: 1\n"
    );
    a_field_given_twice: with("drain: 3s\ndrain: 4s\n");
    wrong_kinds: with("limits: 3\nlog: [a]\ndrain: { a: b }\nworkers: [1, 2]\n");
    unknown_words: with("log: { level: warning, format: jsn }\ndefaults: { delivery: hole }\n");
    times_need_units: with("drain: 30\ndefaults: { timeouts: { idle: 0s, head: 5 min } }\n");
    limits_are_not_zero: with(
        "limits: { in_flight: 0, body_bytes: 0, headers: -1, answer_bytes: 10MB }\nworkers: 0\n"
    );
    limits_that_contradict: with(
        "limits: { header_bytes: 10, buffered_bytes: 1MiB, body_bytes: 2MiB }\n"
    );
    limits_over_what_can_be_stored: with("limits: { answer_bytes: 65MiB, body_bytes: 48MiB }\n");
    shares: with("defaults: { budget: { share: 110% }, breaker: { share: 0 } }\n");
    missing_variables: provider("    kind: openai\n    key: ${NOPE}\n    base_url: ${NOPE2:-x}");
    bad_expressions: provider("    kind: openai\n    key: ${KEY\n    domain: ${a b}");
    a_variable_is_not_quoted: with("log: { level: \"${KEY}\" }\ndrain: ${KEY}\n");
    no_providers: "routes: [{ model: m, targets: [openai] }]";
    no_routes: "providers: [{ name: ollama }]";
    a_variable_as_a_name: "providers: [{ name: \"${KEY}\" }, { name: \"${KEY}\" }]\n\
                           routes: [{ model: m, targets: [\"${KEY}x\"] }]\n";
    no_kind: provider("    key: ${KEY}");
    nearly_a_kind: "providers: [{ name: antropic, key: \"${KEY}\" }]\n\
                    routes: [{ model: m, targets: [antropic] }]\n";
    unknown_kind: provider("    kind: vlm");
    no_key: provider("    kind: anthropic");
    empty_keys: provider("    kind: anthropic\n    key: ${EMPTY}\n    headers: { x-a: \"\" }");
    secret_files: provider(
        "    kind: openai\n    key: !file missing\n    headers: { x-a: !file empty, x-b: { path: canary } }"
    );
    a_tag_elsewhere: with("drain: !file x\n");
    a_key_in_a_misspelt_field: provider("    kind: openai\n    api_key: canary-literal");
    a_key_as_a_list: provider("    kind: openai\n    key: [canary-literal]");
    a_key_beside_a_mistake: provider("    { kind: opena, key: canary-literal }");
    a_key_where_a_word_belongs: provider("    kind: openai\n    auth: sk-canary-literal");
    key_and_auth: provider("    kind: openai\n    auth: caller\n    key: ${KEY}");
    bad_urls: "providers:\n  \
               - { name: ollama, base_url: localhost:11434 }\n  \
               - { name: a, kind: vllm, base_url: \"http://user:canary@host/\" }\n  \
               - { name: b, kind: vllm, base_url: \"http://host:99999\" }\n  \
               - { name: c, kind: vllm, base_url: \"http:///v1\" }\n  \
               - { name: d, kind: vllm, base_url: \"http://host/v1?x=1\" }\n  \
               - { name: e, kind: vllm }\n\
               routes: [{ model: m, targets: [ollama, a, b, c, d, e] }]\n";
    bad_headers: provider(
        "    kind: ollama\n    headers: { Host: x, authorization: canary, \"a b\": x, x-a: 1, X-A: 2 }"
    );
    certificates: provider("    kind: vllm\n    base_url: https://h\n    tls: { ca_file: no-pem }");
    useless_settings: provider(
        "    kind: vllm\n    base_url: http://gpu.example.com/v1\n    key: ${KEY}\n    \
         tls: { ca_file: missing }\n    anthropic_version: 2023-06-01"
    );
    duplicate_names: "providers: [{ name: ollama }, { name: ollama }]\n\
                      routes: [{ model: m, targets: [ollama] }, { model: m, targets: [ollama, ollama] }]\n";
    unknown_providers: routes("  - { model: m, targets: [antropic/claude, { provider: zebra }] }");
    a_broken_provider_is_not_unknown: provider("    kind: openai");
    no_targets: routes("  - { model: m }\n  - { model: n, targets: [] }\n  - { targets: [openai] }");
    wildcards: routes("  - { model: \"*claude\", targets: [openai] }\n  - { model: \"a*b*\", targets: [zebra] }");
    unused_provider: routes("  - { model: m, targets: [openai] }");
    another_vendors_model_name: routes("  - { model: m, targets: [openai, anthropic] }");
    times_that_contradict: routes(
        "  - model: m\n    timeouts: { first_token: 20m }\n    deadline: 1m\n    \
         targets: [openai, { provider: anthropic, model: c, timeouts: { attempt: 5s, idle: 6s } }]"
    );
    attempt_over_deadline: routes(
        "  - { model: m, deadline: 1m, timeouts: { attempt: 2m }, targets: [openai, anthropic/c] }"
    );
    attempts_that_contradict: routes(
        "  - { model: m, max_attempts: 1, targets: [openai, anthropic/c] }\n  \
         - { model: n, max_attempts: 2, attempts_per_target: 3, targets: [openai, anthropic/c] }"
    );
    backoff_and_breaker: with(
        "defaults:\n  backoff: { base: 10s }\n  breaker: { open: 5m }\n"
    );
    prefill_and_join: routes(
        "  - { model: m, join: false, targets: [{ provider: anthropic, model: c, prefill: trailing }] }\n  \
         - { model: n, targets: [{ provider: openai, prefill: trailing }] }\n  \
         - { model: o, targets: [{ provider: anthropic, prefill: prefix }] }\n  \
         - { model: p, delivery: whole, join: true, targets: [anthropic] }"
    );
    output_over_window: routes(
        "  - model: m\n    targets:\n      - { provider: openai, max_output_tokens: 2, context_window: 1 }\n      \
         - anthropic/c"
    );
    bad_addresses: with("listen: [localhost:4000, 4000, \":80\", nonsense, 127.0.0.1:1, 127.0.0.1:1]\n");
    open_to_the_network: with("listen: 0.0.0.0:4000\n");
    open_to_the_network_by_pass_through: "listen: 0.0.0.0:4000\n\
        providers: [{ name: anthropic, auth: caller }]\n\
        routes: [{ model: m, targets: [anthropic] }]\n";
    callers: with(
        "callers:\n  - { name: a, key: short }\n  - { name: a, key: \"${KEY}\" }\n  \
         - { name: b, key: \"${KEY}\" }\n  - { name: c }\n  - { key: \"${KEY}\" }\n  \
         - { name: d, key_sha256: canary }\n  - { name: e, key: x, key_sha256: y }\n  \
         - { name: f, key: \"${EMPTY}\" }\n  - { name: g, key: canary-long-enough, routes: [n] }\n"
    );
    callers_with_a_strangers_name: with(
        "callers:\n  - { name: \"key:0123456789abcdef\", key: canary-long-enough }\n  \
         - { name: \"a key: of mine\", key: canary-also-long-enough }\n"
    );
    pass_through_without_a_fallback: "providers:\n  - { name: anthropic, auth: caller }\n  \
        - { name: openai, auth: caller }\n\
        routes: [{ model: m, targets: [anthropic, openai/gpt] }]\n";
    stores: with("store: { url: \"mysql://u:canary@h/d\", encryption_key: canary, lease: 0s }\n");
    a_store_in_memory: with("store: { url: \"sqlite::memory:\" }\n");
    nothing_is_kept: with(
        "store: { url: none }\ndefaults: { idempotency: { expiry: 1h }, tickets: all }\n\
         effects: { targets: [{ name: t, url: \"https://t.example\", honours_keys: true }] }\n"
    );
    gates: routes(
        "  - { model: m, targets: [anthropic], gate: { min_length: 1 } }\n  \
         - { model: n, targets: [openai], delivery: whole, gate: { asks: 2 } }\n  \
         - { model: o, targets: [openai], delivery: whole, gate: { json_schema: \"{\", on: jsn } }\n  \
         - { model: p, targets: [openai], delivery: whole, gate: { json_schema: { a: 1, a: 2 } } }\n  \
         - { model: q, targets: [openai], delivery: whole, gate: { json_schema: !file no-pem } }"
    );
    steps: with(
        "steps:\n  - { step: draft, gate: { min_length: 1 } }\n  \
         - { step: draft, gate: { on: jsn } }\n  \
         - { gate: { min_length: 1, asks: many } }\n  \
         - { step: check }\n  \
         - { step: \"page-*-end\", gate: { min_length: 1 } }\n  \
         - { step: \"*-end\", gate: { min_length: 1 } }\n  \
         - { step: \" b\", gate: { asks: 1 } }\n"
    );
    effect_targets: with(
        "effects:\n  targets:\n    - { name: a, url: \"https://a.example\" }\n    \
         - { name: a, url: a.example, honours_keys: true }\n    \
         - { name: \"b c\", honours_keys: true }\n    \
         - { name: d, honours_keys: true }\n    \
         - { name: e, honours_keys: yes, url: \"https://\" }\n    \
         - { name: f, honours_keys: true, url: \"http://10.0.0.1\", methods: [GET], paths: [x] }\n    \
         - { name: g, honours_keys: true, url: \"https://g.example\", headers: { Host: canary, \"a b\": canary }, key_header: \"\", sign: canary }\n"
    );
    mail_targets: with(
        "effects:\n  targets:\n    - { name: a, kind: smtp, honours_keys: false }\n    \
         - { name: b, kind: smtp, honours_keys: false, host: h, from: nobody, username: u, port: 70000 }\n    \
         - { name: c, kind: mail, honours_keys: false }\n"
    );
    webhooks: with(
        "webhooks:\n  - { name: a }\n  - { name: b, url: \"http://localhost\", secret: \"${KEY}\", events: [tickets] }\n  \
         - { name: b, url: \"https://b.example\", secret: canary }\n"
    );
    non_ascii_places: "providers: [{ name: ollama, domäne: ü }]\nroutes: [{ model: 模型, targets: [öllama] }]\n";
}

#[test]
fn every_mistake_is_reported_in_the_order_of_the_file() {
    let text = with("drain: soon\nlog: { level: loud }\nlimits: { headers: many }\n");
    let rejected = parse("f.yaml", &text, &env, &Disk).expect_err("three mistakes");
    let places: Vec<_> = rejected
        .diagnostics
        .iter()
        .map(|d| (d.line, d.column))
        .collect();
    assert_eq!(places, [(3, 8), (4, 15), (5, 20)]);
    let line = rejected.diagnostics[1].to_string();
    assert!(
        line.starts_with("f.yaml:4:15: error: `loud` is not a valid value"),
        "{line}"
    );
}

#[test]
fn a_missing_file_is_a_diagnostic() {
    let rejected = load(Path::new("/nonexistent/holdfast.yaml"), &env).expect_err("no file");
    let text = rejected.render(false);
    assert!(
        text.contains("/nonexistent/holdfast.yaml: cannot read the file"),
        "{text}"
    );
    assert!(text.contains("holdfast init"), "{text}");
}

#[test]
fn a_bomb_of_aliases_is_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(text, "a{level}: &a{level} [{aliases}]").unwrap();
    }
    assert!(shown(&text).contains("too many values"));
    let deep = "[".repeat(2_000);
    assert!(shown(&deep).contains("not valid YAML"), "{}", shown(&deep));
}

/// Pieces of which configuration-like texts are made.
fn piece() -> impl Strategy<Value = String> {
    let words = vec![
        "providers:",
        "routes:",
        "targets:",
        "- ",
        "  ",
        "\n",
        "name: ",
        "key: ",
        "!file ",
        "${",
        "}",
        "${KEY}",
        ":-",
        "{ ",
        " }",
        "[",
        "]",
        ", ",
        "\"",
        "'",
        "ollama",
        "openai",
        "model: ",
        "*",
        "&a ",
        "*a",
        "listen: ",
        "0.0.0.0:1",
        "defaults:",
        "timeouts: ",
        "idle: ",
        "5s",
        "limits: ",
        "---\n",
        "|",
        ">",
        "\t",
        "#",
        "? ",
        "ü",
        "base_url: ",
        "http://",
        "@",
        "headers: ",
        "callers: ",
        "null",
    ];
    prop_oneof![8 => proptest::sample::select(words).prop_map(str::to_owned), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics_or_shows_a_variable(pieces in proptest::collection::vec(piece(), 0..40)) {
        shown(&pieces.concat());
    }

    #[test]
    fn no_cut_or_changed_byte_panics(at in 0_usize..2_000, with in any::<char>()) {
        let text = include_str!("../../../examples/team.yaml");
        let mut at = at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        shown(&text[..at]);
        shown(&format!("{}{with}{}", &text[..at], &text[at..]));
    }
}
