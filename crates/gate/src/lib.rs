//! Gates: what a route demands of a whole answer, as JSON Schema, expressions, lengths and words.
//!
//! [`compile`] turns what the configuration says into a [`Compiled`] gate once; checking an answer is
//! then a pure function of its text. Whether and when a gate is asked, and what follows, is decided in
//! `holdfast_core::exchange`. Nothing here reads a file, fetches a schema, or looks at a clock.
//!
//! Everything has a limit: a model's answer is a stranger's input, and it is checked on the thread
//! that serves other callers.

mod error;
mod expression;
mod reading;
mod schema;

use holdfast_core::gate::{Answered, Gate, Refusal};

use expression::{Expression, Sight};
use reading::Reading;
use schema::Schema;

pub use error::Error;

/// The longest JSON Schema, in bytes.
pub const LONGEST_SCHEMA: usize = 256 << 10;
/// The longest expression, in bytes.
pub const LONGEST_EXPRESSION: usize = 4 << 10;
/// The most expressions of one gate.
pub const MOST_EXPRESSIONS: usize = 32;
/// The longest answer that is read as JSON or given to an expression, in bytes.
pub const LONGEST_ANSWER: usize = 4 << 20;

/// What an answer is read as.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum On {
    /// Any text; checks of JSON fail where it is none.
    #[default]
    Text,
    /// It must be JSON.
    Json,
}

/// What a gate demands. All of it must hold.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Terms {
    /// A JSON Schema, as JSON.
    pub json_schema: Option<String>,
    /// CEL expressions that must be true. They see `text`, `json`, `length` and `finish`.
    pub cel: Vec<String>,
    /// The least characters.
    pub min_length: usize,
    /// Texts that must occur, letter for letter.
    pub must_contain: Vec<String>,
    /// A refusal does not pass.
    pub no_refusal: bool,
    pub on: On,
}

/// A gate that is ready to check.
#[derive(Debug)]
pub struct Compiled {
    schema: Option<Schema>,
    expressions: Vec<Expression>,
    min_length: usize,
    must_contain: Vec<String>,
    no_refusal: bool,
    on: On,
}

/// Makes a gate of its terms.
///
/// # Errors
///
/// The first term that can't be used, with its place: a schema that is no JSON, no JSON Schema, or
/// refers to another document; an expression that can't be read, names an unknown variable, or can't
/// be true or false; anything over its limit.
pub fn compile(terms: Terms) -> Result<Compiled, Error> {
    if terms.cel.len() > MOST_EXPRESSIONS {
        return Err(Error::TooMany {
            limit: MOST_EXPRESSIONS,
        });
    }
    let schema = terms.json_schema.as_deref().map(Schema::compile);
    let expressions = terms.cel.iter().enumerate();
    Ok(Compiled {
        schema: schema.transpose()?,
        expressions: expressions
            .map(|(place, source)| Expression::compile(place + 1, source))
            .collect::<Result<_, _>>()?,
        min_length: terms.min_length,
        must_contain: terms.must_contain,
        no_refusal: terms.no_refusal,
        on: terms.on,
    })
}

impl Compiled {
    /// Checks a text that a person wrote in place of a model.
    ///
    /// # Errors
    ///
    /// The first check that it does not pass.
    pub fn check_text(&self, text: &str) -> Result<(), Refusal> {
        self.check(&Answered {
            text,
            refused: false,
            limited: false,
        })
    }

    fn check_words(&self, text: &str, length: usize) -> Result<(), Refusal> {
        if length < self.min_length {
            let least = self.min_length;
            let reason = format!("it has {length} characters and needs at least {least}");
            return Err(Refusal::new("min_length", reason));
        }
        match self.must_contain.iter().find(|word| !text.contains(*word)) {
            None => Ok(()),
            Some(word) => {
                let reason = format!("it must contain the text {word:?}");
                Err(Refusal::new("must_contain", reason))
            }
        }
    }

    fn check_values(&self, answer: &Answered<'_>, length: usize) -> Result<(), Refusal> {
        let wants_json = self.on == On::Json || self.schema.is_some();
        let reads_json = self.expressions.iter().any(Expression::reads_json);
        if !wants_json && self.expressions.is_empty() {
            return Ok(());
        }
        if answer.text.len() > LONGEST_ANSWER {
            let reason =
                format!("it is longer than {LONGEST_ANSWER} bytes, the most that is checked");
            return Err(Refusal::new("length", reason));
        }
        let json = (wants_json || reads_json).then(|| Reading::of(answer.text));
        let json = match (&json, wants_json) {
            (Some(Reading::Json(json)), _) => Some(json),
            (Some(Reading::NotJson(why)), true) => {
                let cut = if answer.limited {
                    "; the token limit cut it"
                } else {
                    ""
                };
                return Err(Refusal::new("json", format!("it is not JSON: {why}{cut}")));
            }
            _ => None,
        };
        if let (Some(schema), Some(json)) = (&self.schema, json) {
            schema.check(json)?;
        }
        let finish = if answer.limited { "limit" } else { "stop" };
        let sight = Sight {
            text: answer.text,
            json,
            length,
            finish,
        };
        self.expressions
            .iter()
            .try_for_each(|expression| expression.check(&sight))
    }
}

impl Gate for Compiled {
    fn check(&self, answer: &Answered<'_>) -> Result<(), Refusal> {
        if answer.refused {
            // What a refusal says is not the answer that the other checks are about.
            return if self.no_refusal {
                Err(Refusal::new("no_refusal", "it is a refusal"))
            } else {
                Ok(())
            };
        }
        let length = answer.text.chars().count();
        self.check_words(answer.text, length)?;
        self.check_values(answer, length)
    }
}
