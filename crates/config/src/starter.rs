//! The configuration that `holdfast init` writes, and the one that is made without any file.
//!
//! Both are YAML text read by the ordinary loader, so that what is made can always be written out,
//! read and changed by hand. The models named here are strong ones of each vendor at the time of the
//! release; they are a beginning, not a recommendation.

use std::fmt::Write as _;

use crate::checked::{BaseUrl, Config, Kind};
use crate::load::{Disk, Env, parse};

/// What is known of a vendor whose key may be in the environment.
struct Vendor {
    kind: Kind,
    key: &'static str,
    base_url: &'static str,
    /// What this vendor answers in place of another vendor's model.
    model: &'static str,
    /// The most tokens that it answers, where the vendor demands a limit (Anthropic's page of the
    /// model).
    max_output_tokens: Option<u64>,
    /// The beginnings of the names of its own models.
    own: &'static [&'static str],
}

/// In the order of preference as a fallback.
const VENDORS: [Vendor; 5] = [
    Vendor {
        kind: Kind::Anthropic,
        key: "ANTHROPIC_API_KEY",
        base_url: "ANTHROPIC_BASE_URL",
        model: "claude-opus-5-5",
        max_output_tokens: Some(128_000),
        own: &["claude"],
    },
    Vendor {
        kind: Kind::OpenAi,
        key: "OPENAI_API_KEY",
        base_url: "OPENAI_BASE_URL",
        model: "gpt-5.6",
        max_output_tokens: None,
        own: &["gpt", "o1", "o3", "o4", "chatgpt"],
    },
    Vendor {
        kind: Kind::OpenRouter,
        key: "OPENROUTER_API_KEY",
        base_url: "OPENROUTER_BASE_URL",
        model: "openrouter/auto",
        max_output_tokens: None,
        own: &[],
    },
    Vendor {
        kind: Kind::DeepSeek,
        key: "DEEPSEEK_API_KEY",
        base_url: "DEEPSEEK_BASE_URL",
        model: "deepseek-v4",
        max_output_tokens: None,
        own: &["deepseek"],
    },
    Vendor {
        kind: Kind::Mistral,
        key: "MISTRAL_API_KEY",
        base_url: "MISTRAL_BASE_URL",
        model: "mistral-large-latest",
        max_output_tokens: None,
        own: &["mistral", "codestral", "ministral"],
    },
];

/// Which vendors have something in the environment; never what.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DetectedKeys {
    found: Vec<Found>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Found {
    vendor: usize,
    /// The variable with another base address is to be used.
    base_url: bool,
    /// That variable points at Holdfast itself, as it does for its clients: left aside.
    points_here: bool,
}

/// A configuration made without a file.
#[derive(Clone, Debug)]
pub struct Made {
    pub config: Config,
    /// The same as YAML, with the variables' names and not their values.
    pub text: String,
    /// What was made, in a few lines for the terminal. Holds no secret.
    pub explanation: String,
}

/// Makes a configuration from the vendors' keys in the environment; `None` without any.
///
/// `Some(Err)` when a variable is there but cannot be used.
pub fn from_env(env: Env<'_>) -> Option<Result<Made, crate::Rejected>> {
    let keys = DetectedKeys::in_env(env);
    if keys.found.is_empty() {
        return None;
    }
    let text = keys.active();
    let disk = Disk {
        directory: ".".into(),
    };
    let loaded = match parse("<environment>", &text, env, &disk) {
        Ok(loaded) => loaded,
        Err(rejected) => return Some(Err(rejected)),
    };
    let explanation = explain(&loaded.config, &keys);
    Some(Ok(Made {
        config: loaded.config,
        text,
        explanation,
    }))
}

/// The commented configuration that `holdfast init` writes.
pub fn init_text(keys: &DetectedKeys) -> String {
    let mut text = INTRO.to_owned();
    text.push_str(&keys.active());
    let mut missing = String::new();
    for (index, vendor) in VENDORS.iter().enumerate() {
        if !keys.has(index) {
            provider(&mut missing, vendor, false);
        }
    }
    if !missing.is_empty() {
        text.push_str("\n# More providers, for the list above:\n");
        text.push_str(&commented(&missing));
    }
    text.push_str(OUTRO);
    text
}

// === impl DetectedKeys ===

impl DetectedKeys {
    /// Looks for the vendors' usual variables.
    pub fn in_env(env: Env<'_>) -> Self {
        let is_set = |name: &str| env(name).is_some_and(|value| !value.trim().is_empty());
        let mut found = Vec::new();
        for (index, vendor) in VENDORS.iter().enumerate() {
            if is_set(vendor.key) {
                let base_url = env(vendor.base_url).filter(|url| !url.trim().is_empty());
                let points_here = base_url
                    .as_ref()
                    .is_some_and(|url| points_here(url, vendor));
                found.push(Found {
                    vendor: index,
                    base_url: base_url.is_some() && !points_here,
                    points_here,
                });
            }
        }
        Self { found }
    }

    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    fn has(&self, vendor: usize) -> bool {
        self.found.iter().any(|found| found.vendor == vendor)
    }

    /// Providers and routes of what was found; a local Ollama where nothing was.
    fn active(&self) -> String {
        let mut text = "providers:\n".to_owned();
        for found in &self.found {
            provider(&mut text, &VENDORS[found.vendor], found.base_url);
        }
        if self.found.is_empty() {
            text.push_str("  - name: ollama # no vendor's key was found; this one needs none\n");
        }
        text.push_str("\nroutes:\n");
        for first in &self.found {
            for own in VENDORS[first.vendor].own {
                self.route(&mut text, &format!("{own}*"), Some(first));
            }
        }
        self.route(&mut text, "*", None);
        text
    }

    /// A route that asks `first` with the caller's model name, and then the others.
    fn route(&self, text: &mut String, model: &str, first: Option<&Found>) {
        let mut targets = Vec::new();
        if let Some(first) = first {
            targets.push(VENDORS[first.vendor].kind.name().to_owned());
        }
        for found in self.found.iter().filter(|found| Some(*found) != first) {
            let vendor = &VENDORS[found.vendor];
            targets.push(match vendor.max_output_tokens {
                None => format!("{}/{}", vendor.kind, vendor.model),
                Some(most) => format!(
                    "provider: {}\n        model: {}\n        max_output_tokens: {most}",
                    vendor.kind, vendor.model
                ),
            });
        }
        if self.found.is_empty() {
            targets.push("ollama".to_owned());
        }
        let targets: Vec<String> = targets.iter().map(|t| format!("      - {t}\n")).collect();
        let body = targets.concat();
        write!(text, "  - model: \"{model}\"\n    targets:\n{body}")
            .expect("invariant: writing to a string does not fail");
    }
}

fn provider(text: &mut String, vendor: &Vendor, base_url: bool) {
    let (name, key) = (vendor.kind, vendor.key);
    writeln!(text, "  - name: {name}\n    key: ${{{key}}}")
        .expect("invariant: writing to a string does not fail");
    if base_url {
        writeln!(text, "    base_url: ${{{}}}", vendor.base_url)
            .expect("invariant: writing to a string does not fail");
    }
}

/// Whether an address is Holdfast's own default one: a client's setting, not a vendor's address.
fn points_here(url: &str, vendor: &Vendor) -> bool {
    BaseUrl::parse(url.trim(), vendor.kind.dialect())
        .is_ok_and(|url| url.is_loopback() && url.port == crate::check::PORT)
}

fn commented(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| format!("# {line}\n")).collect();
    lines.concat()
}

fn explain(config: &Config, keys: &DetectedKeys) -> String {
    let mut lines =
        vec!["no configuration file; made one of the keys in the environment:".to_owned()];
    for (found, provider) in keys.found.iter().zip(&config.providers) {
        let vendor = &VENDORS[found.vendor];
        lines.push(format!(
            "  provider {}: {} ({})",
            provider.name, provider.base_url, vendor.key
        ));
        if found.points_here {
            let name = vendor.base_url;
            lines.push(format!(
                "    {name} points at Holdfast itself and was left aside"
            ));
        }
    }
    for route in &config.routes {
        let targets: Vec<String> = route
            .targets
            .iter()
            .map(|target| {
                let model = target.model.as_deref().unwrap_or("(same model)");
                format!("{} {model}", config.provider(target).name)
            })
            .collect();
        lines.push(format!(
            "  route {}: {}",
            route.model,
            targets.join(", then ")
        ));
    }
    if config.providers.len() == 1 {
        lines.push("  one provider only: when it fails, there is nobody else to ask".to_owned());
    }
    lines.push("`holdfast init` writes this to a file that you can change".to_owned());
    lines.join("\n")
}

const INTRO: &str = r"# The configuration of Holdfast. Every field: docs/configuration.md
# Check it with `holdfast check`. Changes are taken over while it runs.

# Where callers are served. Another address than loopback needs `callers`.
listen: 127.0.0.1:4000

# Who may call. Without any, everybody on this machine may.
# callers:
#   - name: my-team
#     key: ${HOLDFAST_TEAM_KEY}   # or `!file secrets/team`, or `key_sha256: <64 hex digits>`

# Who answers. A key is a variable of the environment or a file, best not a text in here. A name that
# is not a vendor's needs a `kind`. `auth: caller` instead of `key` passes on the caller's own
# credential. `routes` say which models callers may name and who is asked for each, in which order:
# `provider/model`, or `provider` alone for the same model.
";

const OUTRO: &str = r"
# A server of your own, for the same list:
#   - name: local
#     kind: vllm                  # or ollama, llama-cpp, openai-compatible
#     base_url: http://127.0.0.1:8000/v1

# What holds for every route that does not say otherwise. These are the built-in values.
defaults:
  delivery: guarded               # live | guarded | whole
  join: true                      # go on with a cut text on another target
  attempts_per_target: 2
  max_attempts: 6
  deadline: 10m
  timeouts:
    connect: 5s
    head: 30s
    first_token: 30s
    idle: 20s
    attempt: 10m

# What is kept: answers under their keys, effects, tickets, runs. Made at the first start, beside this
# file. `postgres://user:password@host/database` is for more than one process.
store:
  url: sqlite:holdfast.db
  # encryption_key: ${HOLDFAST_STORE_KEY}   # seals content at rest: `openssl rand -hex 32`

# Side effects that callers name and Holdfast performs once. `honours_keys: true` only where the target
# performs a repeated key once; otherwise what is lost on its way becomes a ticket.
# effects:
#   targets:
#     - name: billing
#       url: https://billing.example.com
#       paths: [/v1/charges]
#       headers:
#         Authorization: Bearer ${BILLING_KEY}
#       honours_keys: true
";

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "ANTHROPIC_API_KEY" | "OPENAI_API_KEY" | "MISTRAL_API_KEY" => {
                Some("sk-canary-0123456789".to_owned())
            }
            "ANTHROPIC_BASE_URL" => Some("http://localhost:4000".to_owned()),
            "OPENAI_BASE_URL" => Some("https://proxy.example.com/v1".to_owned()),
            _ => None,
        }
    }

    fn made() -> Made {
        from_env(&env).expect("keys").expect("a configuration")
    }

    #[test]
    fn each_vendor_is_first_for_its_own_models() {
        let made = made();
        let targets = |model: &str| {
            let route = made.config.route(model).expect("a route");
            let names = route.targets.iter().map(|target| {
                let provider = &made.config.provider(target).name;
                format!("{provider} {}", target.model.as_deref().unwrap_or("-"))
            });
            names.collect::<Vec<_>>()
        };
        assert_eq!(
            targets("claude-x"),
            [
                "anthropic -",
                "openai gpt-5.6",
                "mistral mistral-large-latest"
            ]
        );
        assert_eq!(
            targets("gpt-x")[..2],
            ["openai -", "anthropic claude-opus-5-5"]
        );
        assert_eq!(targets("codestral-x")[0], "mistral -");
        assert_eq!(targets("whatever")[0], "anthropic claude-opus-5-5");
    }

    #[test]
    fn a_base_url_that_points_here_is_no_vendor() {
        let made = made();
        let hosts: Vec<&str> = made
            .config
            .providers
            .iter()
            .map(|p| p.base_url.host.as_str())
            .collect();
        assert_eq!(
            hosts,
            ["api.anthropic.com", "proxy.example.com", "api.mistral.ai"]
        );
        assert!(
            made.explanation
                .contains("ANTHROPIC_BASE_URL points at Holdfast itself")
        );
    }

    #[test]
    fn what_was_made_shows_no_key() {
        let made = made();
        let shown = format!("{made:?}");
        assert!(!shown.contains("canary"), "{shown}");
        assert!(from_env(&|_| None).is_none());
    }

    #[test]
    fn the_written_file_loads_without_a_warning_whatever_was_found() {
        let disk = Disk {
            directory: ".".into(),
        };
        for mask in 0..1 << VENDORS.len() {
            let env = |name: &str| {
                let vendor = VENDORS.iter().position(|vendor| vendor.key == name)?;
                (mask & 1 << vendor != 0).then(|| "sk-0123456789abcdef".to_owned())
            };
            let text = init_text(&DetectedKeys::in_env(&env));
            match parse("holdfast.yaml", &text, &env, &disk) {
                Ok(loaded) => assert!(loaded.warnings.is_empty(), "{:?}\n{text}", loaded.warnings),
                Err(rejected) => panic!("{}", rejected.render(false)),
            }
        }
    }

    #[test]
    fn the_written_file_keeps_things_and_its_commented_effect_is_right() {
        let env = |name: &str| name.ends_with("_KEY").then(|| format!("{name}-0123456789"));
        let disk = Disk {
            directory: "/etc/holdfast".into(),
        };
        let text = init_text(&DetectedKeys::in_env(&env));
        let (before, effects) = text.split_once("# effects:\n").expect("commented effects");
        let effects = effects.replace("\n# ", "\n").replacen("# ", "", 1);
        let text = format!("{before}effects:\n{effects}");
        let config = match parse("holdfast.yaml", &text, &env, &disk) {
            Ok(loaded) => loaded.config,
            Err(rejected) => panic!("{}", rejected.render(false)),
        };
        let store = config.store.expect("a store");
        assert!(!store.implied);
        let place = crate::checked::StorePlace::Sqlite("/etc/holdfast/holdfast.db".into());
        assert_eq!(store.place, place);
        assert_eq!(config.effects.targets[0].name, "billing");
        assert!(config.effects.targets[0].honours_keys);
    }

    #[test]
    fn an_unusable_base_url_is_an_error() {
        let env = |name: &str| match name {
            "OPENAI_API_KEY" => Some("sk-0123456789".to_owned()),
            "OPENAI_BASE_URL" => Some("proxy.example.com".to_owned()),
            _ => None,
        };
        let rejected = from_env(&env).expect("a key").expect_err("no scheme");
        assert!(rejected.to_string().contains("http://"), "{rejected}");
    }
}
