//! Known values (the tables and formulas of the sources, and Python's `statistics`), and what holds for
//! all figures.

use proptest::prelude::*;

use super::change::{needed, second_go, work};
use super::shared::{Unit, estimate};
use super::*;

fn p(value: f64) -> Probability {
    Probability::new(value).unwrap()
}

fn near(found: f64, wanted: f64, within: f64) {
    assert!((found - wanted).abs() <= within, "{found} is not {wanted}");
}

#[test]
fn z_is_the_normal_quantile() {
    for (confidence, z) in [
        (0.5, 0.674_489_750_196_081_7),
        (0.8, 1.281_551_565_544_600_4),
        (0.9, 1.644_853_626_951_472_7),
        (0.95, 1.959_963_984_540_054),
        (0.99, 2.575_829_303_548_900_4),
        (0.999, 3.290_526_731_491_689_8),
        (0.999_999, 4.891_638_475_698_993),
    ] {
        near(Confidence::new(confidence).unwrap().z(), z, 1e-9);
    }
}

/// R. G. Newcombe, "Two-sided confidence intervals for the single proportion", Stat. Med. 17 (1998),
/// table I, method 3.
#[test]
fn wilson_intervals_are_those_of_the_literature() {
    for (ok, total, low, high) in [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
    ] {
        let found = Tally::new(ok, total)
            .unwrap()
            .interval(Confidence::default());
        near(found.low, low, 5e-5);
        near(found.high, high, 5e-5);
    }
}

#[test]
fn six_steps_at_99_percent_are_94_percent() {
    let chained = chain(&[Known::Given(p(0.99)); 6], Confidence::default()).unwrap();
    near(chained.value, 0.941_480_149_401, 1e-12);
    assert_eq!(chained.interval, None);
    near(needed(p(0.99), 6).unwrap().get(), 0.998_326_346, 1e-9);
}

#[test]
fn one_counted_step_has_its_own_interval_as_a_chain() {
    let tally = Tally::new(95, 100).unwrap();
    let alone = tally.interval(Confidence::default());
    let exact = Known::Given(Probability::ONE);
    let chained = chain(&[Known::Counted(tally), exact], Confidence::default()).unwrap();
    let interval = chained.interval.unwrap();
    near(interval.low, alone.low, 1e-12);
    near(interval.high, alone.high, 1e-12);
}

#[test]
fn a_step_that_never_goes_well_leaves_a_chain_of_nothing() {
    let never = Known::Counted(Tally::new(0, 10).unwrap());
    let mostly = Known::Counted(Tally::new(9, 10).unwrap());
    let chained = chain(&[mostly, never], Confidence::default()).unwrap();
    let interval = chained.interval.unwrap();
    near(chained.value, 0.0, 0.0);
    near(interval.low, 0.0, 0.0);
    near(interval.high, 0.2775, 1e-4);
}

#[test]
fn a_gap_is_read_only_beyond_chance() {
    let confidence = Confidence::default();
    let steps = [Known::Counted(Tally::new(990, 1000).unwrap()); 6];
    let predicted = chain(&steps, confidence).unwrap();
    let read = |ok, total| gap(predicted, Tally::new(ok, total).unwrap(), confidence);
    assert_eq!(read(800, 1000).reading, Reading::Worse);
    assert_eq!(read(94, 100).reading, Reading::Within);
    assert_eq!(read(1000, 1000).reading, Reading::Better);
    near(read(800, 1000).gap, 0.1415, 1e-4);
}

#[test]
fn bad_figures_are_errors() {
    for value in [-0.1, 1.1, f64::NAN, f64::INFINITY, -0.0 - f64::EPSILON] {
        assert!(Probability::new(value).is_err(), "{value}");
    }
    for value in [0.49, 1.0, 95.0, f64::NAN] {
        assert!(Confidence::new(value).is_err(), "{value}");
    }
    assert_eq!(Tally::new(0, 0), Err(Error::NothingCounted));
    assert_eq!(
        Tally::new(2, 1),
        Err(Error::MoreThanAll { ok: 2, total: 1 })
    );
    assert_eq!(chain(&[], Confidence::default()), Err(Error::NoSteps));
    assert_eq!(needed(p(0.9), 0), Err(Error::NoSteps));
    assert_eq!(work(&[]), Err(Error::NoSteps));
    let text = Error::NotAProbability(f64::NAN).to_string();
    assert_eq!(text, "NaN is not a number from 0 to 1");
}

#[test]
fn rows_without_supervision_are_found() {
    let row = |from, length| Some(Stretch { from, length });
    for (steps, wanted) in [
        ("", None),
        ("g", None),
        ("...", row(0, 3)),
        ("..g...", row(3, 3)),
        ("...g..", row(0, 3)),
        ("..g..", row(0, 2)),
        ("ggg", None),
    ] {
        let steps: Vec<bool> = steps.chars().map(|step| step == 'g').collect();
        assert_eq!(longest_unsupervised(&steps), wanted, "{steps:?}");
    }
}

#[test]
fn a_second_vendor_is_worth_what_is_not_shared() {
    let step = p(0.99);
    near(
        second_go(step, step, Probability::ZERO).get(),
        0.9999,
        1e-12,
    );
    near(second_go(step, step, Probability::ONE).get(), 0.99, 1e-12);
    // For rare failures: βq + ((1 - β)q)².
    near(
        second_go(step, step, p(0.1)).get(),
        1.0 - (0.001 + 0.009_f64.powi(2)),
        1e-6,
    );
    let never = Probability::ZERO;
    near(second_go(never, never, p(0.5)).get(), 0.0, 0.0);
    near(second_go(step, never, p(0.5)).get(), 0.99, 1e-12);
}

/// Heads three times in a row take 14 throws of a fair coin (Feller XIII.7).
#[test]
fn work_is_that_of_successes_in_a_row() {
    let coin = work(&[p(0.5); 3]).unwrap();
    near(coin.without, 14.0, 1e-12);
    near(coin.with_all, 6.0, 1e-12);
    let one = coin.with_one.unwrap();
    near(one.work, 8.0, 1e-12);
    assert_eq!(one.after, 0);
    assert_eq!(work(&[p(0.9)]).unwrap().with_one, None);
    assert!(work(&[p(0.0), p(0.5)]).unwrap().without.is_infinite());
}

#[test]
fn the_checkpoint_stands_behind_what_costs_most_to_repeat() {
    // Losing five sure steps to one that is not: the checkpoint belongs right before it.
    let steps = [p(1.0), p(1.0), p(1.0), p(1.0), p(1.0), p(0.5)];
    let one = work(&steps).unwrap().with_one.unwrap();
    assert_eq!(one.after, 4);
    near(one.work, 7.0, 1e-12);
}

fn units(seen: &[usize], failed: &[(&[usize], usize)]) -> Vec<Unit> {
    let unit = |failed: &[usize]| Unit {
        seen: seen.to_vec(),
        failed: failed.to_vec(),
    };
    failed
        .iter()
        .flat_map(|(failed, times)| std::iter::repeat_n(unit(failed), *times))
        .collect()
}

/// NUREG/CR-4780's estimator for two components: `2 n₂ / (n₁ + 2 n₂)`.
#[test]
fn the_beta_factor_is_counted_from_events() {
    let all = units(&[0, 1], &[(&[0], 4), (&[1], 4), (&[0, 1], 2), (&[], 990)]);
    let found = estimate(&all, Confidence::default()).unwrap().unwrap();
    assert_eq!((found.events, found.failures, found.together), (10, 12, 4));
    near(found.observed.get(), 4.0 / 12.0, 1e-12);
    near(found.by_chance.get(), 0.006, 1e-12);
    near(found.beta.get(), (4.0 / 12.0 - 0.006) / 0.994, 1e-12);
    assert!(found.interval.contains(found.beta.get()));
}

#[test]
fn what_chance_explains_is_no_shared_cause() {
    // Two components that fail half the time and independently: half of what fails falls together.
    let all = units(&[0, 1], &[(&[0], 25), (&[1], 25), (&[0, 1], 25), (&[], 25)]);
    let found = estimate(&all, Confidence::default()).unwrap().unwrap();
    near(found.by_chance.get(), 0.5, 1e-12);
    near(found.observed.get(), 0.5, 1e-12);
    near(found.beta.get(), 0.0, 1e-12);
}

#[test]
fn nothing_is_said_where_nothing_can_be() {
    let confidence = Confidence::default();
    assert_eq!(estimate(&[], confidence), Ok(None));
    let well = units(&[0, 1], &[(&[], 5)]);
    assert_eq!(estimate(&well, confidence), Ok(None));
    let lonely = units(&[0], &[(&[0], 5)]);
    assert_eq!(estimate(&lonely, confidence), Ok(None));
    for (seen, failed) in [
        (vec![0], vec![1]),
        (vec![0, 0], vec![]),
        (vec![0], vec![0, 0]),
    ] {
        let wrong = Unit { seen, failed };
        assert_eq!(estimate(&[wrong], confidence), Err(Error::Unit { unit: 0 }));
    }
}

/// Two components fail together with a known share; the estimate finds it.
#[test]
fn a_known_beta_is_found_again() {
    // q = 0.1, β = 0.3 of two components in 100,000 units, as exact expectations.
    let (common, alone) = (0.03, 0.07 / 0.97);
    let of = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a count within 100,000"
        )]
        let count = (share * 100_000.0).round() as usize;
        count
    };
    let both = of(common + (1.0 - common) * alone * alone);
    let one = of((1.0 - common) * alone * (1.0 - alone));
    let all = units(
        &[0, 1],
        &[
            (&[0], one),
            (&[1], one),
            (&[0, 1], both),
            (&[], 100_000 - 2 * one - both),
        ],
    );
    let found = estimate(&all, Confidence::default()).unwrap().unwrap();
    near(found.beta.get(), 0.3, 0.03);
}

fn tally() -> impl Strategy<Value = Tally> {
    (1_u64..1_000_000).prop_flat_map(|total| (0..=total).prop_map(move |ok| Tally { ok, total }))
}

fn probability() -> impl Strategy<Value = Probability> {
    (0.0..=1.0).prop_map(p)
}

proptest! {
    #[test]
    fn intervals_hold_their_share_and_stay_within_bounds(tally in tally(), level in 0.5..=0.999) {
        let found = tally.interval(Confidence::new(level).unwrap());
        prop_assert!(0.0 <= found.low && found.high <= 1.0);
        prop_assert!(found.low <= tally.share().get() + 1e-12);
        prop_assert!(found.high >= tally.share().get() - 1e-12);
    }

    #[test]
    fn more_confidence_is_wider_and_more_counts_are_narrower(tally in tally()) {
        let [wide, narrow] = [0.99, 0.9].map(|level| tally.interval(Confidence::new(level).unwrap()));
        prop_assert!(wide.low <= narrow.low && narrow.high <= wide.high);
        let more = Tally { ok: tally.ok * 10, total: tally.total * 10 };
        let less = tally.interval(Confidence::default());
        let more = more.interval(Confidence::default());
        prop_assert!(more.high - more.low <= less.high - less.low + 1e-12);
    }

    #[test]
    fn wilson_bounds_solve_their_equation(tally in tally()) {
        // Each bound is the share from which the observed one lies exactly z standard errors away.
        let found = tally.interval(Confidence::default());
        let z = Confidence::default().z();
        let (seen, n) = (tally.share().get(), count(tally.total));
        for bound in [found.low, found.high] {
            if bound > 0.0 && bound < 1.0 {
                let error = (bound * (1.0 - bound) / n).sqrt();
                prop_assert!(((seen - bound).abs() - z * error).abs() < 1e-6, "{bound}");
            }
        }
    }

    #[test]
    fn a_chain_is_no_better_than_its_worst_step(tallies in prop::collection::vec(tally(), 1..20)) {
        let steps: Vec<Known> = tallies.into_iter().map(Known::Counted).collect();
        let chained = chain(&steps, Confidence::default()).unwrap();
        let worst = steps.iter().map(|step| step.share().get()).fold(1.0, f64::min);
        prop_assert!(chained.value <= worst + 1e-12);
        let interval = chained.interval.unwrap();
        prop_assert!(0.0 <= interval.low && interval.high <= 1.0);
        prop_assert!(interval.low <= chained.value && chained.value <= interval.high + 1e-12);
    }

    #[test]
    fn a_gap_lies_in_its_interval(steps in prop::collection::vec(tally(), 1..8), runs in tally()) {
        let steps: Vec<Known> = steps.into_iter().map(Known::Counted).collect();
        let predicted = chain(&steps, Confidence::default()).unwrap();
        let found = gap(predicted, runs, Confidence::default());
        prop_assert!(found.interval.low <= found.gap + 1e-12);
        prop_assert!(found.gap - 1e-12 <= found.interval.high);
    }

    #[test]
    fn a_second_go_never_harms_and_sharing_never_helps(
        step in probability(), second in probability(), one in probability(), other in probability(),
    ) {
        let (less, more) = if one.get() < other.get() { (one, other) } else { (other, one) };
        let loose = second_go(step, second, less).get();
        let tied = second_go(step, second, more).get();
        prop_assert!(loose >= step.get().max(second.get()) - 1e-12);
        prop_assert!(tied <= loose + 1e-9);
    }

    #[test]
    fn needed_steps_make_the_chain(wanted in 0.01..=1.0, steps in 1_usize..50) {
        let each = needed(p(wanted), steps).unwrap();
        let chained = chain(&vec![Known::Given(each); steps], Confidence::default()).unwrap();
        prop_assert!((chained.value - wanted).abs() < 1e-9);
    }

    #[test]
    fn checkpoints_only_save(shares in prop::collection::vec(0.05..=1.0, 1..12)) {
        let steps: Vec<Probability> = shares.into_iter().map(p).collect();
        let work = work(&steps).unwrap();
        let slack = 1e-9 * work.without;
        prop_assert!(work.least <= work.with_all + slack);
        prop_assert!(work.with_all <= work.without + slack);
        if let Some(one) = work.with_one {
            prop_assert!(work.with_all <= one.work + slack && one.work <= work.without + slack);
        }
    }

    #[test]
    fn a_beta_factor_is_a_share(
        seen in prop::collection::vec(prop::collection::vec(0_u8..3, 4), 1..60),
    ) {
        // For each of four components: not used, went well, failed.
        let pick = |unit: &[u8], wanted: fn(u8) -> bool| -> Vec<usize> {
            let found = unit.iter().enumerate().filter(|(_, state)| wanted(**state));
            found.map(|(component, _)| component).collect()
        };
        let units: Vec<Unit> = seen
            .iter()
            .map(|unit| Unit {
                seen: pick(unit, |state| state > 0),
                failed: pick(unit, |state| state > 1),
            })
            .collect();
        if let Some(found) = estimate(&units, Confidence::default()).unwrap() {
            prop_assert!(found.beta.get() <= found.observed.get() + 1e-12);
            prop_assert!(found.interval.low <= found.beta.get() + 1e-12);
            prop_assert!(found.beta.get() <= found.interval.high + 1e-12);
        }
    }
}
