//! The nouns: what is kept, and what is said about it. No SQL, no I/O.

pub(crate) mod approval;
pub(crate) mod effect;
pub(crate) mod entry;
pub(crate) mod key;
pub(crate) mod ledger;
pub(crate) mod run;
pub(crate) mod ticket;

/// A closed set of words: an enum that is kept and shown as text.
macro_rules! words {
    ($($(#[doc = $doc:literal])+ $name:ident { $($(#[doc = $what:literal])+ $variant:ident = $word:literal,)+ })+) => {$(
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, serde::Serialize, serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[doc = $what])+ $variant,)+ }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word that it is kept and shown as.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The one with this word.
            pub fn find(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.as_str() == word)
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+};
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use crate::{
        ApprovalState, EffectState, RetryPolicy, RunState, StepState, TicketKind, TicketState,
    };

    #[test]
    fn serde_and_the_kept_word_agree() {
        macro_rules! agree {
            ($($name:ident),+) => {$(
                for one in $name::ALL {
                    assert_eq!(serde_json::to_value(one).unwrap(), one.as_str());
                    assert_eq!($name::find(one.as_str()), Some(*one));
                }
            )+};
        }
        agree!(
            ApprovalState,
            EffectState,
            RetryPolicy,
            RunState,
            StepState,
            TicketKind,
            TicketState
        );
        assert_eq!(TicketKind::find("none"), None);
    }
}
