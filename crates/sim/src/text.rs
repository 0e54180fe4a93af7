//! Deterministic words, and the checksum by which a client proves that it holds all of them.
//!
//! A healthy text is `count` words made from a seed, then one last word `#sum:xxxxxxxx`: the CRC-32 (IEEE) of
//! every UTF-8 byte before ` #sum:`, as eight lower-case hex digits. Words carry multi-byte characters, quotes,
//! newlines and look-alikes of the wire's own markers, so that a careless parser is caught by ordinary traffic.

/// What stands between the body and its checksum.
const SEAL: &str = " #sum:";

/// Every `RICH_EVERY`-th word comes from here; the third word of a text always does.
const RICH: [&str; 14] = [
    "naïve",
    "東京都",
    "🙂",
    "\"quoted\"",
    "end.\n\nThen",
    "C:\\path",
    "tab\there",
    "Ünïcödé",
    "👩‍👩‍👧",
    "[DONE]",
    "data:",
    "<b>&amp;</b>",
    "{\"a\":1}",
    "ﷺ",
];
const PLAIN: [&str; 40] = [
    "anchor", "bridge", "copper", "delta", "ember", "fathom", "gravel", "harbour", "island",
    "jetty", "kettle", "lantern", "meadow", "needle", "orchard", "pebble", "quarry", "river",
    "saddle", "timber", "umbra", "valley", "willow", "yonder", "zephyr", "a", "of", "the", "and",
    "over", "under", "while", "holds", "carries", "turns", "waits", "falls", "opens", "closes",
    "returns",
];
const RICH_EVERY: u64 = 5;

/// A small seeded generator (`SplitMix64`): the same seed gives the same answers on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; `bound` of 0 counts as 1.
    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        let bound = if bound == 0 { 1 } else { bound };
        self.next() % bound
    }

    /// A number in `0.0..1.0`.
    pub(crate) fn unit(&mut self) -> f64 {
        let bits = u32::try_from(self.next() >> 32).expect("invariant: 32 bits remain");
        f64::from(bits) / (f64::from(u32::MAX) + 1.0)
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        let index = self.below(items.len() as u64);
        items.get(usize::try_from(index).unwrap_or(0))
    }
}

/// CRC-32 (IEEE) as eight lower-case hex digits.
pub fn sum(text: &str) -> String {
    format!("{:08x}", crc32fast::hash(text.as_bytes()))
}

/// Whether `text` is a whole answer of a simulated vendor: it ends in ` #sum:` and the right checksum.
///
/// The same rule in Python:
///
/// ```python
/// body, seal, tail = text.rpartition(" #sum:")
/// whole = bool(seal) and tail == f"{zlib.crc32(body.encode()):08x}"
/// ```
pub fn check_text(text: &str) -> bool {
    text.rsplit_once(SEAL)
        .is_some_and(|(body, tail)| tail == sum(body))
}

/// The healthy text of a seed: `words` words and the checksum word.
pub fn make_text(seed: u64, words: usize) -> String {
    let mut dice = Dice::new(seed);
    let mut text = String::with_capacity(words * 8 + 16);
    for index in 0..words {
        if index > 0 {
            text.push(' ');
        }
        let roll = dice.next();
        let rich = index == 2 || (index > 2 && roll.is_multiple_of(RICH_EVERY));
        let word = if rich {
            dice.pick(&RICH)
        } else {
            dice.pick(&PLAIN)
        };
        text.push_str(word.expect("invariant: the word lists are not empty"));
    }
    let seal = sum(&text);
    text + SEAL + &seal
}

/// Cuts a text into tokens: a token is a run without space, with the one space before it. Joined again they are the text.
pub(crate) fn tokens(text: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let mut start = 0;
    for (index, _) in text.match_indices(' ') {
        if index > start {
            pieces.push(text[start..index].to_owned());
            start = index;
        }
    }
    if start < text.len() {
        pieces.push(text[start..].to_owned());
    }
    pieces
}

/// Cuts a text in pieces of about `size` bytes, never inside a character.
pub(crate) fn pieces(text: &str, size: usize) -> Vec<String> {
    let mut out = Vec::new();
    let mut piece = String::new();
    for character in text.chars() {
        piece.push(character);
        if piece.len() >= size {
            out.push(std::mem::take(&mut piece));
        }
    }
    if !piece.is_empty() {
        out.push(piece);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_text_checks_and_no_proper_prefix_does() {
        let text = make_text(7, 60);
        assert!(check_text(&text));
        for (index, _) in text.char_indices() {
            assert!(
                !check_text(&text[..index]),
                "prefix of {index} bytes passed"
            );
        }
        assert!(!check_text(&(text + " ")));
        assert!(!check_text(""));
    }

    #[test]
    fn the_same_seed_gives_the_same_text_and_another_seed_another() {
        assert_eq!(make_text(1, 20), make_text(1, 20));
        assert_ne!(make_text(1, 20), make_text(2, 20));
    }

    #[test]
    fn the_third_word_is_never_plain_ascii_prose() {
        for seed in 0..50 {
            let text = make_text(seed, 5);
            assert!(RICH.iter().any(|word| text.contains(word)), "{text}");
        }
    }

    #[test]
    fn tokens_and_pieces_join_to_the_text() {
        let text = make_text(3, 100);
        assert_eq!(tokens(&text).concat(), text);
        assert_eq!(tokens(&text).len(), 101);
        assert_eq!(pieces(&text, 4).concat(), text);
    }

    #[test]
    fn the_checksum_is_the_ieee_crc() {
        assert_eq!(sum("123456789"), "cbf43926");
    }
}
