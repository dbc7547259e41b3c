//! TOML text to a table; a syntax error names its line and column.

use toml::Table;

use super::problem::Problems;

/// A parsed file and how problems call it.
#[derive(Clone, Debug)]
pub(super) struct Document {
    pub(super) origin: String,
    pub(super) table: Table,
}

/// Parses `text`; `None` after a problem.
pub(super) fn parse(origin: String, text: &str, problems: &mut Problems) -> Option<Document> {
    match text.parse::<Table>() {
        Ok(table) => Some(Document { origin, table }),
        Err(error) => {
            // Only the parser's message: its full text repeats the line, which may hold a password.
            let place = error.span().map(|span| place(text, span.start)).unwrap_or_default();
            problems.push_source(&origin, format!("{place}not valid TOML: {}", one_line(error.message())));
            None
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The line and column, from 1, of a byte.
fn place(text: &str, byte: usize) -> String {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("line {line}, column {column}: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_syntax_error_names_its_place_and_not_its_line() {
        let mut problems = Problems::default();
        let text = "[store]\nurl = \"postgres://u:hunter2@h/d\" oops\n";
        assert!(parse("x.toml".to_owned(), text, &mut problems).is_none());
        let shown = problems.to_string();
        assert!(shown.starts_with("x.toml: line 2, column "), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
