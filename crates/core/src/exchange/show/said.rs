//! The text that was shown, for whoever may have to know all of it: a join goes on after it, a gate
//! reads it when it has ended.
//!
//! A stream may go on for as long as its vendor likes, and what was shown is kept for each of them. So
//! there is a limit, and beyond it nothing is kept at all: half a text is of no use to anybody.

#[derive(Debug)]
pub(super) struct Said {
    text: String,
    limit: usize,
    lost: bool,
}

impl Said {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            text: String::new(),
            limit,
            lost: false,
        }
    }

    pub(super) fn push(&mut self, text: &str) {
        if self.lost {
            return;
        }
        if self.text.len() + text.len() > self.limit {
            self.lost = true;
            self.text = String::new();
            return;
        }
        self.text.push_str(text);
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Whether it went over the limit.
    pub(super) fn is_lost(&self) -> bool {
        self.lost
    }

    /// What came behind its first `length` bytes was not shown after all.
    pub(super) fn truncate(&mut self, length: usize) {
        self.text.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_over_the_limit_is_let_go_for_good() {
        let mut said = Said::new(5);
        said.push("hello");
        assert_eq!((said.text(), said.is_lost()), ("hello", false));
        said.truncate(2);
        said.push("lp");
        assert_eq!(said.text(), "help");
        said.push("!!");
        assert_eq!((said.text(), said.is_lost()), ("", true));
        said.push("x");
        assert_eq!((said.text(), said.is_lost()), ("", true));
    }
}
