//! Joining: may a cut text be continued on another target, and where does the new part begin?
//!
//! Only free text can be joined. At the seam the new target likes to repeat the last words of what
//! was shown; that overlap is taken out. What can't be joined safely is told instead.

/// Why a cut answer is not continued.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The cut lies inside a fenced code block: its continuation could not be checked.
    OpenFence,
    /// The text looks like JSON that is not closed.
    OpenJson,
}

/// Whether `shown` may be continued by another model.
pub fn check(shown: &str) -> Result<(), Refusal> {
    if is_fence_open(shown) {
        return Err(Refusal::OpenFence);
    }
    if shown.trim_start().starts_with(['{', '[']) {
        return Err(Refusal::OpenJson);
    }
    Ok(())
}

/// Whether a fence of backticks or tildes is open; a cut inside a fence's own marker counts.
fn is_fence_open(text: &str) -> bool {
    let mut open: Option<&str> = None;
    for line in text.lines() {
        let line = line.trim_start();
        for mark in ["```", "~~~"] {
            if line.starts_with(mark) {
                open = match open {
                    None => Some(mark),
                    Some(began) if began == mark => None,
                    other => other,
                };
            }
        }
    }
    let last = text.rsplit('\n').next().unwrap_or_default().trim_start();
    open.is_some() || matches!(last, "`" | "``" | "~" | "~~")
}

/// The longest overlap that is looked for, in bytes.
const LOOK_BACK: usize = 512;
/// A repetition that stands right at the cut, without a gap, is one from so many bytes on.
const MIN_OVERLAP: usize = 8;
/// After a gap it may be meant ("very, very"): it takes two words and so many bytes. What is said
/// twice is seen; what is missing is not.
const MIN_AFTER_GAP: usize = 16;

/// Removes the overlap at the start of a continuation.
///
/// Holds back what could still turn out to be a repetition of the shown tail, at most
/// `LOOK_BACK` bytes, and then passes everything through.
#[derive(Debug)]
pub struct Seam {
    tail: String,
    held: String,
    done: bool,
}

impl Seam {
    /// A seam after `shown`.
    pub fn new(shown: &str) -> Self {
        let mut from = shown.len().saturating_sub(LOOK_BACK);
        while !shown.is_char_boundary(from) {
            from += 1;
        }
        Self {
            tail: shown[from..].to_owned(),
            held: String::new(),
            done: shown.is_empty(),
        }
    }

    /// Whether the text passes through unchanged from here on.
    pub fn is_done(&self) -> bool {
        self.done
    }

    /// Takes the next piece of the continuation; gives what may be shown.
    pub fn push(&mut self, piece: &str) -> Option<String> {
        if self.done {
            return Some(piece.to_owned());
        }
        self.held.push_str(piece);
        // As long as the whole of what came could lie within the tail, more may complete it.
        if self.tail.contains(self.held.as_str()) {
            return None;
        }
        Some(self.finish())
    }

    /// The continuation ended, or the overlap is decided: what is left to show.
    pub fn finish(&mut self) -> String {
        self.done = true;
        let held = std::mem::take(&mut self.held);
        let cut = overlap(&self.tail, &held);
        held[cut..].to_owned()
    }
}

/// The length of the longest start of `next` with which `tail` ends: a repetition that is too long
/// to be chance, or the gap between two words.
fn overlap(tail: &str, next: &str) -> usize {
    let most = tail.len().min(next.len());
    let has_gap = tail.ends_with(char::is_whitespace) || next.starts_with(char::is_whitespace);
    let least = if has_gap { MIN_AFTER_GAP } else { MIN_OVERLAP };
    (least..=most)
        .rev()
        .find(|&length| {
            next.is_char_boundary(length)
                && tail.is_char_boundary(tail.len() - length)
                && begins_word(tail, tail.len() - length)
                && (!has_gap || next[..length].trim().contains(char::is_whitespace))
                && tail.ends_with(&next[..length])
        })
        .unwrap_or_else(|| gap(tail, next))
}

/// As [`overlap`], for white space alone.
fn gap(tail: &str, next: &str) -> usize {
    let leading = next.len() - next.trim_start().len();
    (1..=leading)
        .rev()
        .find(|&length| next.is_char_boundary(length) && tail.ends_with(&next[..length]))
        .unwrap_or(0)
}

/// Whether a word (or a gap) begins at `at`: a model repeats words, not their halves.
fn begins_word(text: &str, at: usize) -> bool {
    let before = text[..at].chars().next_back();
    let after = text[at..].chars().next();
    before.is_none_or(|c| !c.is_alphanumeric()) || after.is_none_or(|c| !c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seam(shown: &str, pieces: &[&str]) -> String {
        let mut seam = Seam::new(shown);
        let mut out = shown.to_owned();
        for piece in pieces {
            out.push_str(&seam.push(piece).unwrap_or_default());
        }
        if !seam.is_done() {
            out.push_str(&seam.finish());
        }
        out
    }

    #[test]
    fn a_repeated_tail_is_shown_once() {
        let whole = "The quick brown fox jumps over the lazy dog.";
        assert_eq!(
            seam(
                "The quick brown fox",
                &["brown fox ", "jumps over the lazy dog."]
            ),
            whole
        );
        assert_eq!(
            seam(
                "The quick brown fox ",
                &["quick br", "own fox jumps", " over the lazy dog."]
            ),
            whole
        );
        assert_eq!(
            seam("The quick brown fox", &[" jumps over ", "the lazy dog."]),
            whole
        );
        assert_eq!(
            seam("", &["The quick brown fox jumps over the lazy dog."]),
            whole
        );
    }

    #[test]
    fn a_gap_is_shown_once() {
        assert_eq!(seam("one ", &[" two"]), "one two");
        assert_eq!(seam("one.\n\n", &["\n", "\nTwo"]), "one.\n\nTwo");
        assert_eq!(seam("one\n", &["    two"]), "one\n    two");
    }

    #[test]
    fn short_chances_are_kept() {
        assert_eq!(seam("go go ", &["go home"]), "go go go home");
    }

    #[test]
    fn a_word_said_twice_on_purpose_stays() {
        let doubled = r#"turns river {"a":1} {"a":1} saddle"#;
        for (cut, _) in doubled.match_indices(' ') {
            assert_eq!(seam(&doubled[..cut], &[&doubled[cut..]]), doubled);
        }
        assert_eq!(
            seam("it carries", &[" carries", " on"]),
            "it carries carries on"
        );
    }

    #[test]
    fn only_free_text_can_be_joined() {
        assert_eq!(check("plain words"), Ok(()));
        assert_eq!(check("a\n```rust\nfn x() {"), Err(Refusal::OpenFence));
        assert_eq!(check("a\n```\nx\n```\nb"), Ok(()));
        assert_eq!(check("a\n``"), Err(Refusal::OpenFence));
        assert_eq!(check(" {\"a\": 1"), Err(Refusal::OpenJson));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// However a text is cut, repeated and cut into pieces, the seam gives the text.
        #[test]
        fn any_cut_with_a_repetition_gives_the_text(
            words in prop::collection::vec("[a-z]{1,9}", 8..40),
            cut in 4_usize..7,
            // One word again, after a gap, may be meant.
            repeat in prop_oneof![Just(0_usize), 2_usize..5],
            size in 1_usize..9,
        ) {
            // Numbered words are unique, so that no repetition is chance.
            let words: Vec<String> =
                words.iter().enumerate().map(|(n, word)| format!("{word}é{n:04} ")).collect();
            let shown: String = words[..cut].concat();
            let from = cut - repeat;
            let rest: String = words[from..].concat();
            let chars: Vec<char> = rest.chars().collect();
            let pieces: Vec<String> = chars.chunks(size).map(|piece| piece.iter().collect()).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            prop_assert_eq!(seam(&shown, &pieces), words.concat());
        }
    }
}
