//! What a command prints: results on stdout, everything else on stderr.

use std::io::{self, Write};

/// Prints one line of a result. Who closes the pipe early, as `head` does, has seen enough.
pub(super) fn line(text: &str) {
    let _closed = writeln!(io::stdout(), "{text}");
}

/// Prints a line that cannot be asked for again.
///
/// # Errors
/// When it is not known to be out.
pub(super) fn line_once(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}

/// Prints a remark for a person.
pub(super) fn note(text: &str) {
    let _closed = writeln!(io::stderr(), "{text}");
}

/// Prints what went wrong, one line a problem.
pub(super) fn error(message: &str) {
    for problem in message.lines() {
        note(&format!("freellmapi: {problem}"));
    }
}

/// Prints rows under their headings, in columns as wide as they need.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(headings.get(column).map(|heading| heading.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let print = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        line(padded.collect::<Vec<_>>().join("  ").trim_end());
    };
    print(headings.to_vec());
    rows.iter().for_each(|row| print(row.iter().map(String::as_str).collect()));
}
