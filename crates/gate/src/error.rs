//! Why terms can't be made into a gate. Said to whoever writes the configuration.

/// Why [`crate::compile`] gave no gate.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    #[error("the JSON Schema is not JSON: {why}")]
    SchemaIsNotJson {
        /// With line and column.
        why: String,
    },
    #[error("the JSON Schema is wrong at {place}: {why}")]
    Schema {
        /// As a path: `$.properties.price.minimum`.
        place: String,
        why: String,
    },
    #[error(
        "the JSON Schema refers to {uri:?}, which is not in it; only `#...` can be referred to"
    )]
    RemoteSchema { uri: String },
    #[error("CEL expression {number} is wrong at line {line}, column {column}: {why}")]
    ExpressionSyntax {
        /// Which one, from 1.
        number: usize,
        line: usize,
        column: usize,
        why: String,
    },
    #[error("CEL expression {number} can't be used: {why}")]
    Expression { number: usize, why: String },
    #[error("{what} is longer than {limit} bytes")]
    TooLong { what: String, limit: usize },
    #[error("there are more than {limit} CEL expressions")]
    TooMany { limit: usize },
}
