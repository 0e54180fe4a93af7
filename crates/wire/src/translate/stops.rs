//! Stop sequences that a target can't take, applied here: the text is cut before the first of them.

/// Cuts a text that comes in pieces before the first of some stop strings.
///
/// Holds back at most one byte less than the longest of them: what may still become one.
#[derive(Clone, Debug, Default)]
pub struct Cutter {
    stops: Vec<String>,
    held: String,
    met: Option<usize>,
}

impl Cutter {
    /// `stops` that are empty never match.
    pub fn new(mut stops: Vec<String>) -> Self {
        stops.retain(|stop| !stop.is_empty());
        Self {
            stops,
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
        let first = self.first();
        // A stop string that began earlier may still be completed: the first in the text counts.
        let open = self.open_from();
        match first {
            Some((at, place)) if at <= open => {
                self.met = Some(place);
                self.held.truncate(at);
                std::mem::take(&mut self.held)
            }
            _ => {
                let rest = self.held.split_off(open);
                std::mem::replace(&mut self.held, rest)
            }
        }
    }

    /// The stop string that was met.
    pub fn met(&self) -> Option<&str> {
        self.met.map(|place| self.stops[place].as_str())
    }

    /// The text ended: gives what was held back, up to a stop string in it.
    pub fn finish(&mut self) -> String {
        if let Some((at, place)) = self.first() {
            self.met = Some(place);
            self.held.truncate(at);
        }
        std::mem::take(&mut self.held)
    }

    /// Where the first stop string in the held text begins, and which it is.
    fn first(&self) -> Option<(usize, usize)> {
        let places = self.stops.iter().enumerate();
        places
            .filter_map(|(place, stop)| Some((self.held.find(stop.as_str())?, place)))
            .min()
    }

    /// From where on the held text is the start of a stop string.
    fn open_from(&self) -> usize {
        let open = |from: usize| {
            let tail = &self.held[from..];
            self.stops
                .iter()
                .any(|stop| stop.len() > tail.len() && stop.starts_with(tail))
        };
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = self.held.len().saturating_sub(longest.saturating_sub(1));
        (from..self.held.len())
            .filter(|&from| self.held.is_char_boundary(from))
            .find(|&from| open(from))
            .unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(stops: &[String], pieces: &[String]) -> (String, Option<String>) {
        let mut cutter = Cutter::new(stops.to_vec());
        let mut text: String = pieces.iter().map(|piece| cutter.push(piece)).collect();
        text += &cutter.finish();
        (text, cutter.met().map(str::to_owned))
    }

    #[test]
    fn what_may_become_a_stop_waits() {
        let mut cutter = Cutter::new(vec!["END".to_owned()]);
        assert_eq!(cutter.push("the E"), "the ");
        assert_eq!(cutter.push("N"), "");
        assert_eq!(cutter.push("Y E"), "ENY ");
        assert_eq!(cutter.push("ND more"), "");
        assert_eq!(cutter.met(), Some("END"));
        assert_eq!(cutter.finish(), "");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// Whatever the pieces, the text ends before the first stop string in it.
        #[test]
        fn pieces_do_not_matter(
            stops in prop::collection::vec("[abé]{1,4}", 0..4),
            text in "[abcé]{0,24}",
            size in 1_usize..6,
        ) {
            let chars: Vec<char> = text.chars().collect();
            let pieces: Vec<String> = chars.chunks(size).map(|piece| piece.iter().collect()).collect();
            let whole = stops.iter().enumerate()
                .filter_map(|(place, stop)| Some((text.find(stop.as_str())?, place)))
                .min();
            let (shown, met) = cut(&stops, &pieces);
            prop_assert_eq!(&shown, &text[..whole.map_or(text.len(), |(at, _)| at)]);
            prop_assert_eq!(met.is_some(), whole.is_some());
        }
    }
}
