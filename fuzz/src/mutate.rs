//! Changes to seeds, by a seeded generator: the same number gives the same bytes.

use fastrand::Rng;

/// Bytes that mean something to one of the parsers.
const TOKENS: [&[u8]; 22] = [
    b"\n",
    b"\r",
    b"\n\n",
    b"data:",
    b"event:",
    b": ",
    b"[DONE]",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\u",
    b"\\ud800",
    b"null",
    b"\"type\"",
    b"\"index\":0",
    b"\"content\":",
    b"\xff",
    b"\xc3",
    b"-1",
    b"1e999",
];

/// A mutation of `seed`, with pieces of `other`.
pub fn mutate(seed: &[u8], other: &[u8], number: u64) -> Vec<u8> {
    let mut dice = Rng::with_seed(number);
    let mut data = seed.to_vec();
    for _ in 0..dice.usize(1..6) {
        let at = dice.usize(0..=data.len());
        let length = dice.usize(0..=(data.len() - at).min(24));
        match dice.u8(0..6) {
            0 => drop(data.drain(at..at + length)),
            1 => {
                let again = data[at..at + length].to_vec();
                data.splice(at..at, again);
            }
            2 => {
                let token = TOKENS[dice.usize(0..TOKENS.len())];
                data.splice(at..at, token.iter().copied());
            }
            3 if !other.is_empty() => {
                let from = dice.usize(0..other.len());
                let to = (from + dice.usize(0..64)).min(other.len());
                data.splice(at..at, other[from..to].iter().copied());
            }
            4 => data.truncate(at),
            _ => {
                if let Some(byte) = data.get_mut(at) {
                    *byte = dice.u8(..);
                }
            }
        }
    }
    data
}
