//! Tool names and call ids in the form that a target takes.

use std::collections::{BTreeMap, BTreeSet};

/// The longest name that Chat Completions takes (wire facts 6, trap 9).
const CHAT_NAME: usize = 64;

/// Tool names as Chat Completions takes them, `[a-zA-Z0-9_-]{1,64}`, and the way back.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    /// The caller's name -> the target's.
    there: BTreeMap<String, String>,
    taken: BTreeSet<String>,
    /// The target's name -> the caller's, where they differ.
    pub(super) back: BTreeMap<String, String>,
}

impl Names {
    /// Names that need no change keep theirs, so they are to be known before the first is changed.
    pub(super) fn reserve(&mut self, name: &str) {
        if is_chat_name(name) {
            self.taken.insert(name.to_owned());
        }
    }

    /// The name at the target; the same for the same name, and different for different ones.
    pub(super) fn of(&mut self, name: &str) -> String {
        if is_chat_name(name) {
            return name.to_owned();
        }
        if let Some(there) = self.there.get(name) {
            return there.clone();
        }
        let plain: String = name
            .chars()
            .map(|c| if is_name_char(c) { c } else { '_' })
            .collect();
        let mut there: String = plain.chars().take(CHAT_NAME).collect();
        let mut number = 1_u32;
        while there.is_empty() || !self.taken.insert(there.clone()) {
            number += 1;
            let suffix = format!("_{number}");
            there = plain.chars().take(CHAT_NAME - suffix.len()).collect();
            there.push_str(&suffix);
        }
        self.there.insert(name.to_owned(), there.clone());
        self.back.insert(there.clone(), name.to_owned());
        there
    }
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '-'
}

fn is_chat_name(name: &str) -> bool {
    (1..=CHAT_NAME).contains(&name.len()) && name.chars().all(is_name_char)
}

/// Call ids as the target takes them. Calls and results of one request are mapped alike, and the
/// next request maps them alike again, so no way back is needed.
#[derive(Clone, Debug, Default)]
pub(super) struct Ids {
    form: Form,
    there: BTreeMap<String, String>,
    taken: BTreeSet<String>,
}

/// What a target takes as an id.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Form {
    #[default]
    Any,
    /// Nine characters of `[a-zA-Z0-9]` (Mistral).
    Alnum9,
    /// `[a-zA-Z0-9_-]+` (Anthropic).
    Word,
}

impl Form {
    fn fits(self, id: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Alnum9 => is_alnum9(id),
            Self::Word => !id.is_empty() && id.chars().all(is_name_char),
        }
    }
}

impl Ids {
    pub(super) fn new(alnum9: bool) -> Self {
        Self {
            form: if alnum9 { Form::Alnum9 } else { Form::Any },
            ..Self::default()
        }
    }

    /// Ids as Anthropic takes them.
    pub(super) fn words() -> Self {
        Self {
            form: Form::Word,
            ..Self::default()
        }
    }

    pub(super) fn of(&mut self, id: &str) -> String {
        if self.form == Form::Any {
            return id.to_owned();
        }
        if let Some(there) = self.there.get(id) {
            return there.clone();
        }
        let mut hash = fnv(id);
        let mut there = if self.form.fits(id) {
            id.to_owned()
        } else {
            alnum9(hash)
        };
        while !self.taken.insert(there.clone()) {
            hash = hash.wrapping_add(1);
            there = alnum9(hash);
        }
        self.there.insert(id.to_owned(), there.clone());
        there
    }
}

fn is_alnum9(id: &str) -> bool {
    id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn alnum9(mut hash: u64) -> String {
    const DIGITS: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..9)
        .map(|_| {
            let digit = DIGITS[usize::try_from(hash % 36).unwrap_or_default()];
            hash /= 36;
            char::from(digit)
        })
        .collect()
}

/// FNV-1a, 64 bit (RFC draft eastlake-fnv): the same id gives the same text in every process.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_never_meet() {
        let mut names = Names::default();
        names.reserve("a_b");
        let long = "x".repeat(90);
        let longer = "x".repeat(91);
        let all = ["a_b", "a.b", "a b", "", &long, &longer, "é"];
        let there: Vec<String> = all.iter().map(|name| names.of(name)).collect();
        assert!(there.iter().all(|name| is_chat_name(name)), "{there:?}");
        let set: BTreeSet<&String> = there.iter().collect();
        assert_eq!(set.len(), all.len());
        for (name, there) in all.iter().zip(&there) {
            assert_eq!(names.of(name), *there);
            assert_eq!(
                names.back.get(there).map_or(there.as_str(), String::as_str),
                *name
            );
        }
    }

    #[test]
    fn ids_have_nine_characters_and_stay() {
        let mut ids = Ids::new(true);
        let one = ids.of("toolu_01A");
        assert!(is_alnum9(&one) && ids.of("toolu_01A") == one && ids.of("toolu_01B") != one);
        assert_eq!(ids.of("abcdefgh1"), "abcdefgh1");
        // One that looks like a made one gets another.
        assert!(ids.of(&one) != one && is_alnum9(&ids.of(&one)));
        assert_eq!(ids.of("toolu_01A"), one);
        assert_eq!(Ids::default().of("toolu_01A"), "toolu_01A");
        assert_eq!(Ids::words().of("call_0-a"), "call_0-a");
        assert!(is_alnum9(&Ids::words().of("functions.f:0")));
    }
}
