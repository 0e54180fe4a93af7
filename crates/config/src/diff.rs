//! What changed between two configurations, for the log line of a reload.
//!
//! Says which parts changed, never their values: a secret may have changed.

use crate::checked::Config;

/// One changed part.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Change {
    /// `provider anthropic`, `route claude*`, `limits`, ...
    pub part: String,
    pub what: What,
    /// The running process keeps the old value until it is restarted.
    pub needs_restart: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    Added,
    Removed,
    Changed,
}

/// Every part that differs, in the order of the documentation.
pub fn diff(old: &Config, new: &Config) -> Vec<Change> {
    let mut changes = Vec::new();
    whole(&mut changes, "listen", old.listen != new.listen, true);
    whole(&mut changes, "workers", old.workers != new.workers, true);
    whole(&mut changes, "drain", old.drain != new.drain, false);
    named(
        &mut changes,
        "caller",
        &old.callers,
        &new.callers,
        |caller| &caller.name,
    );
    named(
        &mut changes,
        "provider",
        &old.providers,
        &new.providers,
        |provider| &provider.name,
    );
    routes(&mut changes, old, new);
    named(&mut changes, "step", &old.steps, &new.steps, |step| {
        &step.step
    });
    whole(&mut changes, "budget", old.budget != new.budget, false);
    whole(&mut changes, "breaker", old.breaker != new.breaker, false);
    whole(&mut changes, "limits", old.limits != new.limits, false);
    whole(&mut changes, "log", old.log != new.log, false);
    whole(&mut changes, "store", old.store != new.store, true);
    named(
        &mut changes,
        "effect target",
        &old.effects.targets,
        &new.effects.targets,
        |target| &target.name,
    );
    let rest = |effects: &crate::checked::Effects| (effects.parallel, effects.expiry);
    let differs = rest(&old.effects) != rest(&new.effects);
    whole(&mut changes, "effects", differs, true);
    named(
        &mut changes,
        "webhook",
        &old.webhooks,
        &new.webhooks,
        |webhook| &webhook.name,
    );
    whole(&mut changes, "review", old.review != new.review, true);
    whole(&mut changes, "runs", old.runs != new.runs, true);
    changes
}

fn whole(changes: &mut Vec<Change>, part: &str, differs: bool, needs_restart: bool) {
    if differs {
        changes.push(Change {
            part: part.to_owned(),
            what: What::Changed,
            needs_restart,
        });
    }
}

fn named<T: PartialEq>(
    changes: &mut Vec<Change>,
    kind: &str,
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &String,
) {
    let mut note = |item: &T, what| {
        changes.push(Change {
            part: format!("{kind} {}", name(item)),
            what,
            needs_restart: false,
        });
    };
    for item in old {
        match new.iter().find(|other| name(other) == name(item)) {
            None => note(item, What::Removed),
            Some(other) if other != item => note(item, What::Changed),
            Some(_) => {}
        }
    }
    for item in new {
        if !old.iter().any(|other| name(other) == name(item)) {
            note(item, What::Added);
        }
    }
}

/// Routes name providers by index; two routes are the same when they name the same providers.
fn routes(changes: &mut Vec<Change>, old: &Config, new: &Config) {
    let by_name = |config: &Config| {
        let routes = config.routes.iter().map(|route| {
            let names: Vec<String> = route
                .targets
                .iter()
                .map(|target| config.provider(target).name.clone())
                .collect();
            let mut route = route.clone();
            route
                .targets
                .iter_mut()
                .for_each(|target| target.provider = 0);
            (route, names)
        });
        routes.collect::<Vec<_>>()
    };
    named(
        changes,
        "route",
        &by_name(old),
        &by_name(new),
        |(route, _)| &route.model,
    );
}

// === impl Change ===

impl std::fmt::Display for Change {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.what {
            What::Added => "added",
            What::Removed => "removed",
            What::Changed => "changed",
        };
        write!(f, "{} {what}", self.part)?;
        if self.needs_restart {
            f.write_str(" (needs a restart)")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let disk = crate::Disk {
            directory: ".".into(),
        };
        match crate::parse("diff.yaml", text, &|_| None, &disk) {
            Ok(loaded) => loaded.config,
            Err(rejected) => panic!("{}", rejected.render(false)),
        }
    }

    const BASE: &str = "providers: [{ name: ollama }, { name: deepseek, key: canary-one }]\n\
                        routes: [{ model: a, targets: ollama }, { model: b, targets: deepseek }]\n";

    #[test]
    fn nothing_changed() {
        assert_eq!(diff(&config(BASE), &config(BASE)), []);
    }

    #[test]
    fn moving_a_provider_in_the_file_is_no_change() {
        let moved = BASE.replace(
            "{ name: ollama }, { name: deepseek, key: canary-one }",
            "{ name: deepseek, key: canary-one }, { name: ollama }",
        );
        assert_eq!(diff(&config(BASE), &config(&moved)), []);
    }

    #[test]
    fn every_change_is_named_and_no_value_is() {
        let new = BASE
            .replace("canary-one", "canary-two")
            .replace("model: b, targets: deepseek", "model: c, targets: ollama")
            .replace("model: a, targets: ollama", "model: a, targets: deepseek")
            + "listen: 127.0.0.1:4001\nlimits: { in_flight: 5 }\n";
        let changes = diff(&config(BASE), &config(&new));
        let lines: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "listen changed (needs a restart)",
                "provider deepseek changed",
                "route a changed",
                "route b removed",
                "route c added",
                "limits changed",
            ]
        );
    }
}
