//! What people call their tenants and keys.

use super::failure::Failure;

/// The longest name or label. Chosen: it stands in a column of a list.
const MAX_CHARS: usize = 64;

/// What is kept of `text`, which the option of that name gave: without the space around it. Control characters are
/// refused, for a list is printed to a terminal.
pub(super) fn check<'a>(option: &str, text: &'a str, min_chars: usize) -> Result<&'a str, Failure> {
    let text = text.trim();
    let fits = (min_chars..=MAX_CHARS).contains(&text.chars().count());
    if !fits || text.chars().any(char::is_control) {
        return Err(Failure::usage(format!(
            "{option} must be {min_chars} to {MAX_CHARS} printable characters"
        )));
    }
    Ok(text)
}
