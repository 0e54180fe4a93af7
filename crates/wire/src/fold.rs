//! Makes one non-streaming body of the stream of the same answer, in the same dialect.
//!
//! A gateway that asks a vendor for a stream, so that it notices a stall, still owes its caller one
//! body. The fold is exact: every member that the vendor sent stays as it was written, pieces are
//! joined, and nothing is made up, so an answer that is not whole gives an [`Error`] and never a
//! body. It does not judge why an answer stopped. Trees are parsed one level at a time, numbers and
//! the order of members stay the vendor's.

mod anthropic;
mod members;
mod openai;

use crate::turn::Dialect;

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data is no event that may stand here.
    #[error("the stream holds what is no event of its dialect: {why}")]
    Garbage {
        /// What is wrong with it.
        why: &'static str,
    },
    /// The vendor reported an error inside the stream.
    #[error("the vendor reported an error: {message}")]
    Vendor {
        /// The vendor's words.
        message: String,
    },
    /// The stream ended before the answer did.
    #[error("the stream ended before the answer: {missing}")]
    Incomplete {
        /// What did not come.
        missing: &'static str,
    },
    /// A tool call's input is not JSON (cut by a token limit, or broken), and a body cannot hold that.
    #[error("the input of a tool call is not JSON")]
    ToolInput(#[source] serde_json::Error),
}

/// Folds one stream: [`push`](Self::push) the data of each frame in order, then
/// [`finish`](Self::finish).
#[derive(Debug)]
pub struct Fold {
    folder: Folder,
    failed: Option<Error>,
}

#[derive(Debug)]
enum Folder {
    Anthropic(Box<anthropic::Folder>),
    OpenAi(Box<openai::Folder>),
}

// === impl Fold ===

impl Fold {
    pub fn new(dialect: Dialect) -> Self {
        let folder = match dialect {
            Dialect::Anthropic => Folder::Anthropic(Box::default()),
            Dialect::OpenAi => Folder::OpenAi(Box::default()),
        };
        Self {
            folder,
            failed: None,
        }
    }

    /// Takes the joined data of the next frame. What is wrong with it is told by `finish`; nothing
    /// is read after that.
    pub fn push(&mut self, data: &[u8]) {
        if self.failed.is_some() {
            return;
        }
        let pushed = match std::str::from_utf8(data) {
            Err(_) => Err(Error::Garbage { why: "not UTF-8" }),
            Ok(text) => match &mut self.folder {
                Folder::Anthropic(folder) => folder.push(text),
                Folder::OpenAi(folder) => folder.push(text),
            },
        };
        self.failed = pushed.err();
    }

    /// The body, as UTF-8 JSON without spaces.
    pub fn finish(self) -> Result<Vec<u8>, Error> {
        match (self.failed, self.folder) {
            (Some(error), _) => Err(error),
            (None, Folder::Anthropic(folder)) => folder.finish(),
            (None, Folder::OpenAi(folder)) => folder.finish(),
        }
    }
}
