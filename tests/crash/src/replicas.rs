//! `holdfast-crash replicas`: two gateways on one PostgreSQL, of which one dies, freezes or is cut off.

mod effects;
mod keys;
mod tickets;

use std::path::PathBuf;

use clap::Parser;

use crate::process::{self, Gateway};
use crate::proxy::{self, Proxy};
use crate::report::Report;
use crate::scene::{Scene, Stage, told};
use crate::stand::{Stand, Terms};
use crate::{binary, words::Dialect};

/// Two gateways on one PostgreSQL: kill, freeze and cut off one of them
#[derive(Debug, Parser)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// The database
    #[arg(long, value_name = "URL")]
    postgres: String,
    /// The gateway's binary [default: that of `HOLDFAST_BIN`, else the one beside this program]
    #[arg(long, value_name = "PATH")]
    bin: Option<PathBuf>,
    /// Only scenes with this in their name
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Print the counts as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  url=$(tests/postgres start /tmp/pg 55432)
  holdfast-crash replicas --postgres \"$url\"
  holdfast-crash replicas --postgres \"$url\" --only frozen

Exit code 1 if a scene broke.";

/// Two replicas that serve.
pub(crate) struct Pair {
    pub(crate) a: Gateway,
    pub(crate) b: Gateway,
}

/// A replica whose way to the database leads through a proxy, and one whose does not.
pub(crate) struct CutPair {
    pub(crate) straight: Gateway,
    pub(crate) far: Gateway,
    pub(crate) line: Proxy,
}

pub(crate) async fn run(args: Args) -> Result<bool, process::Error> {
    let stand = Stand::new(binary::find(args.bin)?).await?;
    let terms = Terms {
        postgres: Some(args.postgres),
        store_timeout: Some("1s"),
        ..Terms::default()
    };
    let stage = Stage::new(stand, terms);
    let mut report = Report::new("two replicas on one PostgreSQL");
    let mut scenes = all(&stage);
    if let Some(only) = &args.only {
        scenes.retain(|(name, _)| name.contains(only));
    }
    Stage::play(scenes, &mut report).await;
    let is_good = report.is_good();
    report.print(args.json);
    if !is_good {
        let kept = stage.stand.keep();
        crate::report::say(&format!("everything is kept in {}", kept.display()));
    }
    Ok(is_good)
}

fn all(stage: &Stage) -> Vec<Scene<'_>> {
    let mut scenes: Vec<Scene<'_>> = Vec::new();
    for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
        for stream in [false, true] {
            let shape = if stream { "stream" } else { "plain" };
            let name = |what: &str| format!("key: {what} ({dialect:?}, {shape})");
            scenes.push((
                name("twenty callers at once"),
                Box::pin(keys::twenty(stage, dialect, stream)),
            ));
            scenes.push((
                name("killed in the middle"),
                Box::pin(keys::killed(stage, dialect, stream)),
            ));
            scenes.push((
                name("frozen in the middle"),
                Box::pin(keys::frozen(stage, dialect, stream)),
            ));
        }
    }
    for line in [proxy::Line::Cut, proxy::Line::Swallows] {
        let name = |what: &str| format!("{what} ({line:?})");
        scenes.push((name("key: cut off"), Box::pin(keys::cut_off(stage, line))));
        scenes.push((
            name("key: cut off in the middle"),
            Box::pin(keys::cut_in_the_middle(stage, line)),
        ));
        scenes.push((
            name("effect: cut off"),
            Box::pin(effects::cut_off(stage, line)),
        ));
        scenes.push((
            name("effect: cut off in the middle"),
            Box::pin(effects::cut_in_the_middle(stage, line)),
        ));
    }
    scenes.push((
        "effect: two hundred at once".to_owned(),
        Box::pin(effects::many(stage)),
    ));
    for target in ["honours", "plain"] {
        let name = |what: &str| format!("effect: {what} ({target})");
        scenes.push((
            name("killed in the middle"),
            Box::pin(effects::killed(stage, target)),
        ));
        scenes.push((
            name("frozen in the middle"),
            Box::pin(effects::frozen(stage, target)),
        ));
    }
    scenes.push((
        "ticket: two deciders at once".to_owned(),
        Box::pin(tickets::deciders(stage)),
    ));
    scenes.push((
        "ticket: claimed on the other replica".to_owned(),
        Box::pin(tickets::claimed(stage)),
    ));
    scenes.push((
        "ticket: a claim that has ended".to_owned(),
        Box::pin(tickets::expired(stage)),
    ));
    scenes.push((
        "ticket: two approvers at once".to_owned(),
        Box::pin(tickets::approvers(stage)),
    ));
    scenes
}

impl Stage {
    pub(crate) async fn pair(&self) -> Result<Pair, String> {
        let (a, b) = tokio::try_join!(self.gateway(), self.gateway())?;
        Ok(Pair { a, b })
    }

    pub(crate) async fn cut_pair(&self) -> Result<CutPair, String> {
        let url = self.terms.postgres.as_deref().unwrap_or_default();
        let database = proxy::address(url).ok_or("the URL has no numeric address")?;
        let line = Proxy::start(database).await.map_err(told)?;
        let through = proxy::through(url, line.address).ok_or("the URL has no numeric address")?;
        let terms = Terms {
            postgres: Some(through),
            ..self.terms.clone()
        };
        let far = async { self.recipe(&terms)?.start().await.map_err(told) };
        let (straight, far) = tokio::try_join!(self.gateway(), far)?;
        Ok(CutPair {
            straight,
            far,
            line,
        })
    }
}
