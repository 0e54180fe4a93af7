//! Good files: what is read from them, and the order in which settings override each other.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use holdfast_config::checked::{
    Auth, AuthStyle, Delivery, Http2, Kind, MaxTokensField, Policy, Prefill,
};
use holdfast_config::{Config, Files, KeyHash, Loaded, Secret, parse};
use holdfast_wire::turn::Dialect;

struct Memory(HashMap<PathBuf, String>);

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<String> {
        let found = self.0.get(path).cloned();
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }
}

fn env(name: &str) -> Option<String> {
    match name {
        "ANTHROPIC_API_KEY" => Some("sk-ant-canary-anthropic".to_owned()),
        "OPENAI_API_KEY" => Some("sk-canary-openai".to_owned()),
        "TEAM_KEY" => Some("team-key-of-24-characters".to_owned()),
        _ => None,
    }
}

fn read(text: &str) -> Loaded {
    let files = Memory(HashMap::from([(
        "secrets/mistral".into(),
        "mistral-key\n".to_owned(),
    )]));
    match parse("holdfast.yaml", text, &env, &files) {
        Ok(loaded) => loaded,
        Err(rejected) => panic!("{}", rejected.render(false)),
    }
}

fn config(text: &str) -> Config {
    read(text).config
}

const FULL: &str = r#"
listen: [127.0.0.1:4100, "[::1]:4100"]
workers: 2
drain: 5s
callers:
  - name: team
    key: ${TEAM_KEY}
    routes: [claude*]
  - name: other
    key_sha256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
providers:
  - name: anthropic
    key: ${ANTHROPIC_API_KEY}
    anthropic_version: 2023-06-01
    headers: { X-Team: blue }
  - name: pass
    kind: anthropic
    auth: caller
  - name: openai
    key: ${OPENAI_API_KEY}
    base_url: https://eu.api.openai.com/v1/
    http2: never
    connections: { h2_max_connections: 2 }
    timeouts: { first_token: 90s }
  - name: mistral
    key: !file secrets/mistral
  - name: local
    kind: vllm
    base_url: http://127.0.0.1:8000
    quirks: { stop_limit: 8 }
defaults:
  delivery: live
  deadline: 5m
  timeouts: { idle: 7s, attempt: 2m }
  breaker: { consecutive: 3 }
  budget: { share: 20% }
routes:
  - model: claude*
    delivery: whole
    timeouts: { connect: 1s, first_token: 11s }
    targets:
      - anthropic
      - provider: openai
        model: gpt-5.6
        max_output_tokens: 1000
        context_window: 400_000
        images: false
        timeouts: { idle: 9s }
      - local/meta-llama/Llama-3
      - mistral/mistral-large-latest
  - model: claude-opus-5-5
    targets: [pass]
limits: { body_bytes: 1MiB, in_flight: 7 }
log: { format: json, level: debug }
"#;

#[test]
fn a_full_file_is_read() {
    let config = config(FULL);
    assert_eq!(config.listen.len(), 2);
    assert_eq!(config.workers, Some(2));
    assert_eq!(config.drain, Duration::from_secs(5));
    assert_eq!(config.callers[1].key, KeyHash::of("abc"));
    let [anthropic, pass, openai, mistral, local] = config.providers.as_slice() else {
        panic!("five providers: {:?}", config.providers);
    };
    assert_eq!(
        anthropic.base_url.to_string(),
        "https://api.anthropic.com/v1"
    );
    assert_eq!(anthropic.base_url.join("/messages"), "/v1/messages");
    assert_eq!(
        anthropic.auth,
        Auth::Key(Secret::new("sk-ant-canary-anthropic"))
    );
    assert_eq!(anthropic.auth_style, AuthStyle::XApiKey);
    assert_eq!(
        anthropic.headers,
        [("x-team".to_owned(), Secret::new("blue"))]
    );
    assert_eq!(anthropic.domain, "anthropic.com");
    assert_eq!(
        (&pass.auth, &pass.domain),
        (&Auth::Caller, &anthropic.domain)
    );
    assert_eq!(openai.base_url.to_string(), "https://eu.api.openai.com/v1");
    assert_eq!(
        openai.quirks.max_tokens_field,
        MaxTokensField::MaxCompletionTokens
    );
    assert_eq!(
        (openai.http2, openai.connections.h2_max_connections),
        (Http2::Never, 2)
    );
    assert_eq!(mistral.auth, Auth::Key(Secret::new("mistral-key")));
    assert!(mistral.quirks.tool_id_alnum9);
    assert_eq!((local.kind, local.dialect), (Kind::Vllm, Dialect::OpenAi));
    assert_eq!(
        (local.domain.as_str(), &local.auth),
        ("127.0.0.1:8000", &Auth::None)
    );
    assert_eq!(local.quirks.stop_limit, Some(8));
    assert_eq!(
        local.base_url.join("/chat/completions"),
        "/v1/chat/completions"
    );
    assert_eq!(config.breaker.consecutive, 3);
    assert!((config.budget.share - 0.2).abs() < 1e-9);
    assert_eq!(
        (config.limits.body_bytes, config.limits.in_flight),
        (1 << 20, 7)
    );
}

#[test]
fn the_nearest_setting_wins() {
    let config = config(FULL);
    let route = config.route("claude-sonnet-5-5").expect("a wildcard");
    assert_eq!(route.policy.delivery, Delivery::Whole);
    assert_eq!(route.policy.deadline, Duration::from_mins(5));
    let times = route.targets[1].timeouts;
    assert_eq!(times.head, Duration::from_secs(30), "built in");
    assert_eq!(times.attempt, Duration::from_mins(2), "of the defaults");
    assert_eq!(times.connect, Duration::from_secs(1), "of the route");
    assert_eq!(
        times.first_token,
        Duration::from_secs(90),
        "of the provider"
    );
    assert_eq!(times.idle, Duration::from_secs(9), "of the target");
    assert_eq!(
        route.targets[0].timeouts.first_token,
        Duration::from_secs(11)
    );
    assert_eq!(route.targets[1].context_window, Some(400_000));
    assert!(!route.targets[1].images && route.targets[0].images);
    assert_eq!(
        route.targets[2].model.as_deref(),
        Some("meta-llama/Llama-3")
    );
    assert_eq!(route.targets[2].prefill, Prefill::ContinueFinalMessage);
}

#[test]
fn inherited_times_are_cut_to_a_shorter_attempt() {
    let config = config(
        "providers: [{ name: ollama, timeouts: { first_token: 2m } }]\n\
         routes: [{ model: m, targets: ollama, timeouts: { attempt: 7s, connect: 1s } }]\n",
    );
    let times = config.routes[0].targets[0].timeouts;
    let seven = Duration::from_secs(7);
    assert_eq!(
        (times.attempt, times.head, times.first_token, times.idle),
        (seven, seven, seven, seven)
    );
    assert_eq!(times.connect, Duration::from_secs(1));
}

#[test]
fn the_exact_name_wins_then_the_longest_wildcard() {
    let config = config(
        "providers: [{ name: ollama }]\nroutes:\n  - { model: '*', targets: ollama }\n  \
         - { model: 'claude*', targets: ollama }\n  - { model: 'claude-o*', targets: ollama }\n  \
         - { model: claude-opus, targets: ollama }\n",
    );
    let found = |model| config.route(model).map(|route| route.model.as_str());
    assert_eq!(found("claude-opus"), Some("claude-opus"));
    assert_eq!(found("claude-opus-5"), Some("claude-o*"));
    assert_eq!(found("claude"), Some("claude*"));
    assert_eq!(found("gpt"), Some("*"));
}

#[test]
fn callers_are_known_by_their_key_and_kept_to_their_routes() {
    let config = config(FULL);
    let team = config.caller("team-key-of-24-characters").expect("known");
    assert_eq!(team.name, "team");
    assert_eq!(config.caller("team-key-of-24-character"), None);
    assert_eq!(config.caller(""), None);
    let route = |model| config.route(model).expect("a route");
    assert!(team.may_use(route("claude-x")));
    assert!(!team.may_use(route("claude-opus-5-5")));
    assert!(
        config
            .caller("abc")
            .expect("known")
            .may_use(route("claude-opus-5-5"))
    );
}

#[test]
fn a_small_file_has_the_defaults() {
    let loaded = read("providers: { name: ollama }\nroutes: { model: '*', targets: ollama }\n");
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let config = loaded.config;
    assert_eq!(config.routes[0].policy, Policy::default());
    assert_eq!(config.listen, ["127.0.0.1:4000".parse().unwrap()]);
    assert_eq!(config.workers, None);
}

#[test]
fn anchors_serve_for_repeated_settings() {
    let config = config(
        "providers: [{ name: ollama }]\nroutes:\n  \
         - { model: a, targets: ollama, timeouts: &slow { idle: 1m } }\n  \
         - { model: b, targets: ollama, timeouts: *slow }\n",
    );
    assert_eq!(
        config.routes[1].targets[0].timeouts.idle,
        Duration::from_mins(1)
    );
}

#[test]
fn a_secret_file_is_trimmed_of_one_line_end_and_watched() {
    let loaded = read(
        "providers: [{ name: mistral, key: { file: secrets/mistral } }]\n\
         routes: [{ model: m, targets: mistral }]\n",
    );
    assert_eq!(
        loaded.config.providers[0].auth,
        Auth::Key(Secret::new("mistral-key"))
    );
    assert_eq!(loaded.files, [PathBuf::from("secrets/mistral")]);
}

#[test]
fn nothing_printable_shows_a_secret() {
    let loaded = read(FULL);
    let shown = format!("{loaded:?}");
    for canary in ["canary", "mistral-key", "team-key", "blue"] {
        assert!(!shown.contains(canary), "{canary} in {shown}");
    }
}

#[test]
fn every_example_loads_without_a_warning() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let env = |name: &str| match name {
        "HOLDFAST_STORE_KEY" => Some("0123456789abcdef".repeat(4)),
        _ => Some(format!("{name}-0123456789abcdef")),
    };
    let secrets = ["anthropic", "openai", "nightly-reports"];
    let secrets = secrets.map(|name| {
        (
            PathBuf::from("secrets").join(name),
            format!("{name}-0123456789abcdef\n"),
        )
    });
    let files = Memory(HashMap::from(secrets));
    let mut seen = 0;
    for entry in std::fs::read_dir(directory).expect("examples") {
        let path = entry.expect("an entry").path();
        if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            let text = std::fs::read_to_string(&path).expect("readable");
            match parse(&path.display().to_string(), &text, &env, &files) {
                Ok(loaded) => assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings),
                Err(rejected) => panic!("{}", rejected.render(false)),
            }
            seen += 1;
        }
    }
    assert!(seen >= 5, "{seen} examples");
}
