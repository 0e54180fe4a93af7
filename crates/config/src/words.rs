//! Enumerations whose values are words of the configuration file.
//!
//! One declaration gives the type, the word of each value (for the reader, the error messages and
//! the logs) and its place in the JSON Schema, so that the three cannot drift apart.

/// A closed set of words.
pub trait Words: Copy + 'static {
    /// Every word with its value, in the order of the documentation.
    const WORDS: &'static [(&'static str, Self)];
}

macro_rules! words {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $( $(#[$vmeta:meta])* $variant:ident = $word:literal, )+
        }
    ) => {
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        $(#[$meta])*
        $vis enum $name {
            $( $(#[$vmeta])* $variant, )+
        }

        impl $name {
            /// The word used in the configuration file, in logs and in metrics.
            $vis fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => $word, )+
                }
            }
        }

        impl $crate::words::Words for $name {
            const WORDS: &'static [(&'static str, Self)] = &[ $( ($word, Self::$variant), )+ ];
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

pub(crate) use words;
