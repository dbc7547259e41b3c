//! Plain values of a configuration: booleans, counts, texts, names, choices and lists of them.

use toml::Value;

use super::reader::{Parsed, Refusal};

pub(super) fn boolean(value: &Value) -> Parsed<bool> {
    value.as_bool().ok_or_else(|| "expected true or false".into())
}

/// A whole number of at least 1 that fits `T`.
pub(super) fn count<T: TryFrom<i64>>(value: &Value) -> Parsed<T> {
    value
        .as_integer()
        .filter(|number| *number >= 1)
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| "expected a whole number of at least 1".into())
}

/// A text that is not empty and stands on one line.
pub(super) fn text(value: &Value) -> Parsed<String> {
    value
        .as_str()
        .filter(|text| !text.trim().is_empty() && !text.chars().any(char::is_control))
        .map(str::to_owned)
        .ok_or_else(|| "expected a text on one line".into())
}

pub(super) fn texts(value: &Value) -> Parsed<Vec<String>> {
    value
        .as_array()
        .and_then(|elements| elements.iter().map(|element| text(element).ok()).collect())
        .ok_or_else(|| "expected a list of texts, for example [\"a\", \"b\"]".into())
}

/// One of a few words, each of which stands for a value.
pub(super) fn choice<T: Copy>(choices: &[(&str, T)]) -> impl Fn(&Value) -> Parsed<T> {
    move |value| {
        let chosen = value.as_str().and_then(|text| choices.iter().find(|(word, _)| *word == text));
        chosen.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
            format!("expected {}", words.join(" or ")).into()
        })
    }
}

/// Names of environment variables: a list, or one text with commas between them.
///
/// A value that is none may be a key in the wrong place, so its problem does not repeat it.
pub(super) fn variables(value: &Value) -> Parsed<Vec<String>> {
    let names: Option<Vec<String>> = match value {
        Value::String(text) => Some(text.split(',').map(|name| name.trim().to_owned()).collect()),
        Value::Array(_) => texts(value).ok(),
        _ => None,
    };
    names.filter(|names| !names.is_empty() && names.iter().all(|name| is_variable(name))).ok_or_else(|| {
        Refusal::hiding_value(
            "expected names of environment variables (A-Z, 0-9 and _), for example \"GROQ_API_KEY\"; \
             the keys themselves belong into the environment",
        )
    })
}

fn is_variable(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
}

/// A provider's id, which stands in URLs, headers and metric labels.
pub(super) fn provider_id(value: &Value) -> Parsed<String> {
    /// Chosen: what a metric label and a table column show without being cut.
    const MAX_CHARS: usize = 64;
    value
        .as_str()
        .filter(|id| (1..=MAX_CHARS).contains(&id.len()))
        .filter(|id| id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'))
        .map(str::to_owned)
        .ok_or_else(|| "expected 1 to 64 of a-z, 0-9 and -".into())
}

/// A name that stands in a header and between other names: visible ASCII.
pub(super) fn name(value: &Value) -> Parsed<String> {
    /// Chosen: twice the longest model id seen at any provider.
    const MAX_CHARS: usize = 128;
    value
        .as_str()
        .filter(|name| (1..=MAX_CHARS).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic()))
        .map(str::to_owned)
        .ok_or_else(|| "expected 1 to 128 visible ASCII characters".into())
}
