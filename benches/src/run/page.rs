//! Where results go: to standard output, and between the marks of a page.

use std::fs;
use std::path::Path;

use crate::Error;

/// Sections of results, by the names of their marks.
#[derive(Default)]
pub(crate) struct Page(Vec<(&'static str, String)>);

impl Page {
    pub(crate) fn section(&mut self, name: &'static str, text: String) {
        println!("{text}");
        self.0.push((name, text));
    }

    /// Puts each section between its marks in a file.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let mut page = fs::read_to_string(path)?;
        for (name, text) in &self.0 {
            page = between(&page, name, text)?;
        }
        fs::write(path, page)?;
        Ok(())
    }
}

/// A page with other text between the marks of this name.
fn between(page: &str, name: &str, text: &str) -> Result<String, Error> {
    let (begin, end) = (
        format!("<!-- {name} -->\n"),
        format!("<!-- end of {name} -->"),
    );
    let missing = || format!("the page has no marks for {name}");
    let (before, rest) = page.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    let text = text.trim_end();
    Ok(format!("{before}{begin}\n{text}\n\n{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_what_is_between_the_marks() {
        let page = "a\n<!-- x -->\n\nold\n\n<!-- end of x -->\nb\n";
        let new = between(page, "x", "new\n\n").unwrap();
        assert_eq!(new, "a\n<!-- x -->\n\nnew\n\n<!-- end of x -->\nb\n");
        assert_eq!(between(&new, "x", "new").unwrap(), new);
    }

    #[test]
    fn a_page_without_marks_is_an_error() {
        assert!(between("a\n", "x", "new").is_err());
    }
}
