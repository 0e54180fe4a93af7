//! What the figures come to.

use holdfast_core::reliability::change::{Work, needed, second_go, work};
use holdfast_core::reliability::shared::Shared;
use holdfast_core::reliability::{
    Error, Estimate, Gap, Known, LONG_CHAIN, Probability, Stretch, Tally, chain, gap,
    longest_unsupervised,
};

use super::figures::{Figures, Step, Terms};

/// All that is shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Report {
    pub(super) confidence: f64,
    pub(super) steps: Vec<(Step, Estimate)>,
    /// The chain of the first step, of the first two, and so on.
    pub(super) prefixes: Vec<Estimate>,
    /// The step that as many equal ones would make the same chain of.
    pub(super) mean: f64,
    pub(super) gap: Option<Gap>,
    pub(super) runs: Option<Tally>,
    /// Whole runs by their length.
    pub(super) points: Vec<(usize, Tally, Estimate)>,
    pub(super) of_steps: Option<Shared>,
    pub(super) of_vendors: Option<Shared>,
    pub(super) beta: (f64, Source),
    pub(super) sticky: (f64, Source),
    pub(super) changes: Vec<Change>,
    pub(super) wanted: f64,
    pub(super) work: Work,
    /// A row of unsupervised steps that is too long.
    pub(super) warning: Option<Stretch>,
}

/// Where a share comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Source {
    Given,
    /// Counted in the ledger: of vendors, of steps, of retries.
    Vendors,
    Steps,
    Retries,
    /// The same as beta.
    Beta,
    /// Nothing is known: independent failures, the best case.
    Assumed,
}

/// What one change to every step would make of the chain.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    pub(super) kind: Kind,
    /// How reliable the chain would be.
    pub(super) chain: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// One retry.
    Retry,
    /// A second vendor that shares no cause of failure.
    Independent,
    /// A second vendor that shares what was found.
    Vendor,
    /// Each step as reliable as this.
    Better(f64),
}

pub(super) fn report(figures: &Figures, terms: &Terms) -> Result<Report, Error> {
    let known: Vec<Known> = figures.steps.iter().map(|step| step.known).collect();
    let shares: Vec<Probability> = known.iter().map(|known| known.share()).collect();
    let prefixes: Vec<Estimate> = (1..=known.len())
        .map(|length| chain(&known[..length], terms.confidence))
        .collect::<Result<_, _>>()?;
    let whole = *prefixes.last().ok_or(Error::NoSteps)?;
    let supervised: Vec<bool> = figures.steps.iter().map(|step| step.supervised).collect();
    let beta = beta(figures, terms);
    let sticky = sticky(figures, terms, beta.0);
    let points = figures.by_length.iter();
    Ok(Report {
        confidence: terms.confidence.get(),
        steps: figures
            .steps
            .iter()
            .map(|step| (step.clone(), step.known.estimate(terms.confidence)))
            .collect(),
        mean: needed(Probability::new(whole.value)?, known.len())?.get(),
        gap: figures.runs.map(|runs| gap(whole, runs, terms.confidence)),
        runs: figures.runs,
        points: points
            .map(|(length, runs)| (*length, *runs, runs.estimate(terms.confidence)))
            .collect(),
        of_steps: figures.of_steps,
        of_vendors: figures.of_vendors,
        changes: changes(
            &shares,
            Probability::new(beta.0)?,
            Probability::new(sticky.0)?,
            terms,
        )?,
        beta,
        sticky,
        wanted: terms.wanted.get(),
        work: work(&shares)?,
        warning: longest_unsupervised(&supervised).filter(|row| row.length >= LONG_CHAIN),
        prefixes,
    })
}

/// What was given counts more than what was found, vendors more than steps.
fn beta(figures: &Figures, terms: &Terms) -> (f64, Source) {
    if let Some(beta) = terms.beta {
        (beta.get(), Source::Given)
    } else if let Some(shared) = &figures.of_vendors {
        (shared.beta.get(), Source::Vendors)
    } else if let Some(shared) = &figures.of_steps {
        (shared.beta.get(), Source::Steps)
    } else {
        (0.0, Source::Assumed)
    }
}

fn sticky(figures: &Figures, terms: &Terms, beta: f64) -> (f64, Source) {
    if let Some(sticky) = terms.sticky {
        (sticky.get(), Source::Given)
    } else if let Some(again) = figures.again {
        (again.share().get(), Source::Retries)
    } else if terms.beta.is_some() || beta > 0.0 {
        (beta, Source::Beta)
    } else {
        (0.0, Source::Assumed)
    }
}

fn changes(
    shares: &[Probability],
    beta: Probability,
    sticky: Probability,
    terms: &Terms,
) -> Result<Vec<Change>, Error> {
    let twice = |shared: Probability| -> f64 {
        let steps = shares.iter();
        steps
            .map(|step| second_go(*step, *step, shared).get())
            .product()
    };
    let change = |kind, chain| Change { kind, chain };
    let mut changes = vec![
        change(Kind::Retry, twice(sticky)),
        change(Kind::Independent, twice(Probability::ZERO)),
        change(Kind::Vendor, twice(beta)),
    ];
    let now: f64 = shares.iter().map(|step| step.get()).product();
    if now < terms.wanted.get() {
        let better = needed(terms.wanted, shares.len())?;
        changes.push(change(Kind::Better(better.get()), terms.wanted.get()));
    }
    Ok(changes)
}
