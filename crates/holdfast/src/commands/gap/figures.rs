//! Figures: what was given on the command line, or counted in a ledger, before anything is reckoned.

use holdfast_core::reliability::shared::Shared;
use holdfast_core::reliability::{self, Confidence, Known, Probability, Tally};

use super::Args;
use crate::client::Error;

/// A step of the chain.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) known: Known,
    /// A gate, a checkpoint or an approval stands behind it.
    pub(super) supervised: bool,
}

/// All that is known before it is reckoned with.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Figures {
    pub(super) steps: Vec<Step>,
    /// Whole runs of the chain.
    pub(super) runs: Option<Tally>,
    /// Whole runs by how many steps they had.
    pub(super) by_length: Vec<(usize, Tally)>,
    /// What failures of steps have in common.
    pub(super) of_steps: Option<Shared>,
    /// What failures of vendors have in common.
    pub(super) of_vendors: Option<Shared>,
    /// Failures that the next attempt at the same target met again, of those with such an attempt.
    pub(super) again: Option<Tally>,
}

/// What is asked of the figures.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    pub(super) confidence: Confidence,
    pub(super) wanted: Probability,
    pub(super) beta: Option<Probability>,
    pub(super) sticky: Option<Probability>,
}

/// `NAME=OK/TOTAL`.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    name: String,
    tally: Tally,
}

/// A share: `0.99` or `99%`.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let (number, divisor) = match text.trim().strip_suffix('%') {
        Some(percent) => (percent.trim(), 100.0),
        None => (text.trim(), 1.0),
    };
    let value: f64 = number
        .parse()
        .map_err(|_| "a share is written `0.99` or `99%`".to_owned())?;
    Probability::new(value / divisor)
        .map(Probability::get)
        .map_err(|_| "a share is from 0 to 1, or from 0% to 100%".to_owned())
}

pub(super) fn step(text: &str) -> Result<Counted, String> {
    let wrong = || "a step is written `NAME=OK/TOTAL`, such as `plan=198/200`".to_owned();
    let (name, counts) = text.rsplit_once('=').ok_or_else(wrong)?;
    let (ok, total) = counts.split_once('/').ok_or_else(wrong)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| wrong());
    let tally = Tally::new(number(ok)?, number(total)?).map_err(|error| error.to_string())?;
    let name = name.trim();
    if name.is_empty() {
        return Err(wrong());
    }
    Ok(Counted {
        name: name.to_owned(),
        tally,
    })
}

pub(super) fn wrong(error: reliability::Error) -> Error {
    Error::Usage(error.to_string())
}

pub(super) fn terms(args: &Args) -> Result<Terms, Error> {
    let confidence = Confidence::new(args.confidence / 100.0).map_err(|_| {
        Error::Usage(format!(
            "`--confidence` is from 50 to 99.9999 percent, not {}",
            args.confidence
        ))
    })?;
    let probability = |value: Option<f64>| value.map(Probability::new).transpose().map_err(wrong);
    Ok(Terms {
        confidence,
        wanted: Probability::new(args.wanted).map_err(wrong)?,
        beta: probability(args.beta)?,
        sticky: probability(args.sticky)?,
    })
}

/// The figures of the command line.
pub(super) fn given(args: &Args) -> Result<Figures, Error> {
    let mut steps: Vec<Step> = if let (Some(count), Some(share)) = (args.steps, args.reliability) {
        let known = Known::Given(Probability::new(share).map_err(wrong)?);
        let step = |number: u16| Step {
            name: number.to_string(),
            known,
            supervised: false,
        };
        (1..=count).map(step).collect()
    } else {
        let counted = args.step.iter();
        counted
            .map(|step| Step {
                name: step.name.clone(),
                known: Known::Counted(step.tally),
                supervised: false,
            })
            .collect()
    };
    supervise(&mut steps, &args.supervised)?;
    let runs = args.runs_ok.zip(args.runs_total);
    let runs = runs
        .map(|(ok, total)| Tally::new(ok, total))
        .transpose()
        .map_err(|error| Error::Usage(format!("runs: {error}")))?;
    Ok(Figures {
        by_length: runs.map(|runs| (steps.len(), runs)).into_iter().collect(),
        steps,
        runs,
        of_steps: None,
        of_vendors: None,
        again: None,
    })
}

/// Marks the steps that are named as supervised.
pub(super) fn supervise(steps: &mut [Step], named: &[String]) -> Result<(), Error> {
    for name in named {
        let place = steps.iter().position(|step| step.name == *name);
        let number = || {
            let number: usize = name.parse().ok()?;
            number.checked_sub(1).filter(|place| *place < steps.len())
        };
        let Some(place) = place.or_else(number) else {
            let known: Vec<&str> = steps.iter().map(|step| step.name.as_str()).collect();
            return Err(Error::Usage(format!(
                "`--supervised {name}`: there is no such step\nhelp: the steps are {}",
                known.join(", ")
            )));
        };
        steps[place].supervised = true;
    }
    Ok(())
}
