//! Every target over its seeds and many mutations of them.

#![expect(
    clippy::print_stderr,
    reason = "the input that fails is what one wants to know"
)]

use std::panic;

use holdfast_fuzz::{mutate, seeds};

/// Mutations of each target; with the seeds' own number, some seconds.
const MUTATIONS: u64 = 20_000;

fn play(name: &str, target: fn(&[u8])) {
    let seeds = seeds(name);
    assert!(seeds.len() >= 2, "there are no seeds for {name}");
    for seed in &seeds {
        target(seed);
    }
    for number in 0..MUTATIONS {
        let place = usize::try_from(number).unwrap_or_default();
        let seed = &seeds[place % seeds.len()];
        let other = &seeds[place.wrapping_mul(7) % seeds.len()];
        let data = mutate(seed, other, number);
        if let Err(why) = panic::catch_unwind(|| target(&data)) {
            eprintln!(
                "{name}, mutation {number}: {:?}",
                String::from_utf8_lossy(&data)
            );
            panic::resume_unwind(why);
        }
    }
}

#[test]
fn sse() {
    play("sse", holdfast_fuzz::sse);
}

#[test]
fn http1() {
    play("http1", holdfast_fuzz::http1);
}

#[test]
fn envelope() {
    play("envelope", holdfast_fuzz::envelope);
}

#[test]
fn translate() {
    play("translate", holdfast_fuzz::translate);
}

#[test]
fn answer() {
    play("answer", holdfast_fuzz::answer);
}
