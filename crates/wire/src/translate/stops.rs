//! Stop sequences that a target can't take, applied here: the text is cut before the first of them.
//!
//! The result is that of a search in the whole text, however it came in pieces: the match that begins
//! first wins, and of several that begin there the one that is listed first. Nothing here knows of
//! blocks; a stop sequence is looked for in one text block at a time.

/// Cuts a text that comes in pieces before the first of some stop strings.
///
/// Holds back at most one byte less than the longest of them: what may still become one.
#[derive(Clone, Debug, Default)]
pub struct Cutter {
    stops: Vec<String>,
    /// The bytes that begin a stop.
    begins: Vec<u8>,
    held: String,
    met: Option<usize>,
}

/// What is known of a text.
enum Seen {
    /// No stop begins before this byte; one may begin at it.
    Open(usize),
    /// A stop begins at this byte and none before it: which one.
    Stop(usize, usize),
}

impl Cutter {
    /// `stops` that are empty never match.
    pub fn new(mut stops: Vec<String>) -> Self {
        stops.retain(|stop| !stop.is_empty());
        let mut begins: Vec<u8> = stops.iter().map(|stop| stop.as_bytes()[0]).collect();
        begins.sort_unstable();
        begins.dedup();
        Self {
            stops,
            begins,
            held: String::new(),
            met: None,
        }
    }

    /// Takes the next piece; gives the text that can't be part of a stop string any more. Once one
    /// was met, nothing more comes.
    pub fn push(&mut self, piece: &str) -> String {
        if self.met.is_some() {
            return String::new();
        }
        self.held.push_str(piece);
        self.release(false)
    }

    /// The stop string that was met.
    pub fn met(&self) -> Option<&str> {
        self.met.map(|place| self.stops[place].as_str())
    }

    /// The text ended: gives what was held back, up to a stop string in it. Another text may begin.
    pub fn finish(&mut self) -> String {
        self.release(true)
    }

    fn release(&mut self, last: bool) -> String {
        match self.search(last) {
            Seen::Open(end) => {
                let rest = self.held.split_off(end);
                std::mem::replace(&mut self.held, rest)
            }
            Seen::Stop(end, place) => {
                self.met = Some(place);
                self.held.truncate(end);
                std::mem::take(&mut self.held)
            }
        }
    }

    /// At each place the stops are tried in their order: one that is listed earlier and may still
    /// come is waited for, even if a later one is there already.
    fn search(&self, last: bool) -> Seen {
        for (at, byte) in self.held.bytes().enumerate() {
            if !self.begins.contains(&byte) {
                continue;
            }
            // A byte that begins a stop begins a character, in the stop and here alike.
            let rest = &self.held[at..];
            for (place, stop) in self.stops.iter().enumerate() {
                if rest.starts_with(stop.as_str()) {
                    return Seen::Stop(at, place);
                }
                if !last && stop.starts_with(rest) {
                    return Seen::Open(at);
                }
            }
        }
        Seen::Open(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cutter(stops: &[&str]) -> Cutter {
        Cutter::new(stops.iter().map(|stop| (*stop).to_owned()).collect())
    }

    /// Stops, pieces, what is shown of them, the stop that is met.
    type Case = (
        &'static [&'static str],
        &'static [&'static str],
        &'static str,
        Option<&'static str>,
    );

    /// All that is shown of the pieces, and the stop that ended them.
    fn cut(stops: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let mut cutter = cutter(stops);
        let mut shown: String = pieces.iter().map(|piece| cutter.push(piece)).collect();
        shown += &cutter.finish();
        (shown, cutter.met().map(str::to_owned))
    }

    /// The same in one look at the whole text.
    fn naive(stops: &[&str], text: &str) -> (String, Option<String>) {
        for (at, _) in text.char_indices() {
            let here = |stop: &&&str| !stop.is_empty() && text[at..].starts_with(**stop);
            if let Some(stop) = stops.iter().find(here) {
                return (text[..at].to_owned(), Some((*stop).to_owned()));
            }
        }
        (text.to_owned(), None)
    }

    #[test]
    fn what_may_become_a_stop_waits() {
        let mut cutter = cutter(&["END"]);
        assert_eq!(cutter.push("the E"), "the ");
        assert_eq!(cutter.push("N"), "");
        assert_eq!(cutter.push("Y E"), "ENY ");
        assert_eq!(cutter.push("ND more"), "");
        assert_eq!(cutter.met(), Some("END"));
        assert_eq!(cutter.push("still more"), "");
        assert_eq!(cutter.finish(), "");
    }

    #[test]
    fn the_first_match_wins_and_then_the_first_listed() {
        let table: [Case; 9] = [
            (&["bc", "abcd"], &["xabcd"], "x", Some("abcd")),
            (&["bc", "abcd"], &["xabc", "e"], "xa", Some("bc")),
            (&["bc", "abcd"], &["xabc"], "xa", Some("bc")),
            (&["ab", "abc"], &["abc"], "", Some("ab")),
            (&["abc", "ab"], &["ab", "c"], "", Some("abc")),
            (&["abc", "ab"], &["ab", "d"], "", Some("ab")),
            (&["aab"], &["a", "a", "a", "b"], "a", Some("aab")),
            (&["", "x"], &["ax"], "a", Some("x")),
            (&[], &["a", "b"], "ab", None),
        ];
        for (stops, pieces, text, stop) in table {
            let expected = (text.to_owned(), stop.map(str::to_owned));
            assert_eq!(cut(stops, pieces), expected, "{stops:?} in {pieces:?}");
        }
    }

    #[test]
    fn characters_stay_whole() {
        // U+00E9 and U+00E8 share their first byte.
        assert_eq!(cut(&["é"], &["è", "è"]), ("èè".to_owned(), None));
        let expected = ("è🦊".to_owned(), Some("🦊é".to_owned()));
        assert_eq!(cut(&["🦊é"], &["è🦊", "🦊", "é"]), expected);
    }

    #[test]
    fn another_text_begins_anew() {
        let mut cutter = cutter(&["ab"]);
        assert_eq!(cutter.push("a"), "");
        assert_eq!(cutter.finish(), "a");
        assert_eq!(cutter.push("b"), "b");
        assert_eq!(cutter.met(), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            failure_persistence: None,
            ..ProptestConfig::with_cases(10_000)
        })]

        #[test]
        fn pieces_do_not_matter(
            stops in prop::collection::vec("[abé🦊]{0,4}", 0..4),
            pieces in prop::collection::vec("[abcé🦊]{0,5}", 0..8),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(cut(&stops, &pieces), naive(&stops, &pieces.concat()));
        }

        #[test]
        fn little_is_held_back(
            stops in prop::collection::vec("[ab]{1,5}", 1..4),
            pieces in prop::collection::vec("[abc]{0,5}", 0..8),
        ) {
            let longest = stops.iter().map(String::len).max().unwrap_or_default();
            let mut cutter = Cutter::new(stops);
            let (mut given, mut shown) = (0, 0);
            for piece in &pieces {
                given += piece.len();
                shown += cutter.push(piece).len();
                if cutter.met().is_some() {
                    break;
                }
                prop_assert!(given - shown < longest);
            }
        }
    }
}
