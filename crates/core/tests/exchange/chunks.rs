//! How a stream is chunked changes neither its verdict nor a byte of what is shown.

use std::sync::LazyLock;

use holdfast_core::policy::Delivery;
use holdfast_wire::turn::Dialect;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::dice::Dice;
use crate::drive::{DELIVERIES, DIALECTS, End, once, play, recorded};
use crate::script::{Look, Script};

struct Known {
    dialect: Dialect,
    bytes: Vec<u8>,
    /// By caller's dialect and delivery, when it comes in one chunk.
    ends: Vec<(Dialect, Delivery, End)>,
}

/// Recorded and generated streams, each played once in one chunk.
static KNOWN: LazyLock<Vec<Known>> = LazyLock::new(|| {
    let mut streams: Vec<(Dialect, Vec<u8>)> = recorded()
        .iter()
        .map(|stream| (stream.dialect, stream.bytes.clone()))
        .collect();
    for seed in 0..200 {
        let mut dice = Dice::new(seed);
        let dialect = dice.of(&DIALECTS);
        let script = Script::any(&mut dice, 6);
        let mut bytes = script
            .frames(dialect, Look::any(&mut dice), 0)
            .concat()
            .into_bytes();
        if dice.percent(40) {
            bytes.truncate(dice.below(bytes.len()));
        }
        streams.push((dialect, bytes));
    }
    let known = |(dialect, bytes): (Dialect, Vec<u8>)| {
        let mut ends = Vec::new();
        for caller in DIALECTS {
            for delivery in DELIVERIES {
                let end = play(once(caller, true, dialect, delivery), [&bytes[..]], Ok(()));
                ends.push((caller, delivery, end));
            }
        }
        Known {
            dialect,
            bytes,
            ends,
        }
    };
    streams.into_iter().map(known).collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn any_chunking_shows_the_same_bytes_under_the_same_verdict(
        which: Index,
        cross in 0..4_u8,
        cuts in prop::collection::vec(any::<Index>(), 0..24),
    ) {
        let Known { dialect, bytes, ends } = which.get(&KNOWN);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        for (caller, delivery, end) in ends {
            // The same dialect in all three deliveries, the other one now and then.
            if caller != dialect && cross != 0 {
                continue;
            }
            let chunks = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]);
            let chunked = play(once(*caller, true, *dialect, *delivery), chunks, Ok(()));
            prop_assert_eq!(&chunked, end);
        }
    }
}
