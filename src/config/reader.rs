//! Walks one table of a configuration: every key is taken once, and what nobody took is unknown.

use toml::{Table, Value};

use super::problem::{Problem, Problems};
use super::scalar;
use super::suggestion::closest;

/// The longest value that a problem repeats. Chosen: fills one terminal line.
const VALUE_MAX_CHARS: usize = 80;

/// Why a value was refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    message: String,
    value_may_be_secret: bool,
}

impl Refusal {
    /// A refusal whose problem must not repeat the value.
    pub(super) fn hiding_value(message: impl Into<String>) -> Self {
        Self { message: message.into(), value_may_be_secret: true }
    }
}

impl From<&str> for Refusal {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl From<String> for Refusal {
    fn from(message: String) -> Self {
        Self { message, value_may_be_secret: false }
    }
}

/// A value as the type that was wanted, or what would be right.
pub(super) type Parsed<T> = Result<T, Refusal>;

/// One table that is being read; the caller ends it with [`Section::finish`].
///
/// Readers take all keys before they give up on any, so that one run finds every problem.
#[derive(Debug)]
pub(super) struct Section<'a> {
    origin: &'a str,
    path: String,
    table: Table,
    known: Vec<&'static str>,
    problems: &'a mut Problems,
}

impl<'a> Section<'a> {
    /// Reads `table`, found at `path` (empty = the whole file) of `origin`.
    pub(super) fn new(origin: &'a str, path: &str, table: Table, problems: &'a mut Problems) -> Self {
        Self { origin, path: path.to_owned(), table, known: Vec::new(), problems }
    }

    /// The value of a key that may be absent; a value that is wrong is reported and counts as absent.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Value) -> Parsed<T>,
    ) -> Option<T> {
        let value = self.take(key)?;
        self.parsed(key, &value, parse)
    }

    /// As [`Section::optional`], but an absent key has a default; `None` only for a wrong value.
    pub(super) fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        parse: impl FnOnce(&Value) -> Parsed<T>,
    ) -> Option<T> {
        match self.take(key) {
            Some(value) => self.parsed(key, &value, parse),
            None => Some(default),
        }
    }

    /// As [`Section::optional`], but its absence is a problem.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&Value) -> Parsed<T>,
    ) -> Option<T> {
        match self.take(key) {
            Some(value) => self.parsed(key, &value, parse),
            None => {
                self.problem(key, "must be given");
                None
            }
        }
    }

    /// Reads the sub-table `key`; an absent one reads as empty.
    pub(super) fn section<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&mut Section<'_>) -> T,
    ) -> Option<T> {
        let table = match self.take(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                self.problem(key, format!("expected a section [{key}], found a {}", other.type_str()));
                return None;
            }
        };
        let path = self.path_of(key);
        Some(self.nested(&path, table, read))
    }

    /// Reads a list of tables, each called by its member `name` in the path of its problems, else numbered.
    ///
    /// `None` when any of them is wrong; an absent list reads as empty.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        name: &str,
        mut read: impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let elements = match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(elements)) => elements,
            Some(other) => {
                self.problem(key, format!("expected a list of tables, found a {}", other.type_str()));
                return None;
            }
        };
        let mut all = Some(Vec::with_capacity(elements.len()));
        for (index, element) in elements.into_iter().enumerate() {
            let path = self.path_of(&element_path(key, index, name, &element));
            let one = match element {
                Value::Table(table) => self.nested(&path, table, &mut read),
                other => {
                    self.problem_at(path, None, format!("expected a table, found a {}", other.type_str()));
                    None
                }
            };
            all = all.zip(one).map(|(mut all, one)| {
                all.push(one);
                all
            });
        }
        all
    }

    /// Counts a key as known here that somebody else reads.
    pub(super) fn also_known(&mut self, key: &'static str) {
        self.known.push(key);
    }

    /// Reports a key of this section, without its value.
    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.problem_at(self.path_of(key), None, message.into());
    }

    /// Reports a key of another source, without its value.
    pub(super) fn problem_of(&mut self, origin: &str, key: &str, message: String) {
        self.problems.push(Problem { origin: origin.to_owned(), key: key.to_owned(), value: None, message });
    }

    /// Reports every key that nobody asked for, without its value: it could be a secret in the wrong place.
    pub(super) fn finish(self) {
        for key in self.table.keys() {
            let message = match closest(key, &self.known) {
                Some(known) => format!("unknown key, did you mean {known:?}?"),
                None => format!("unknown key; known here: {}", sorted(&self.known).join(", ")),
            };
            let key = join(&self.path, key);
            self.problems.push(Problem { origin: self.origin.to_owned(), key, value: None, message });
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.push(key);
        self.table.remove(key)
    }

    fn parsed<T>(&mut self, key: &str, value: &Value, parse: impl FnOnce(&Value) -> Parsed<T>) -> Option<T> {
        match parse(value) {
            Ok(parsed) => Some(parsed),
            Err(refusal) => {
                let shown = (!refusal.value_may_be_secret).then(|| bounded(value));
                self.problem_at(self.path_of(key), shown, refusal.message);
                None
            }
        }
    }

    fn nested<T>(&mut self, path: &str, table: Table, read: impl FnOnce(&mut Section<'_>) -> T) -> T {
        let mut section = Section::new(self.origin, path, table, self.problems);
        let result = read(&mut section);
        section.finish();
        result
    }

    fn problem_at(&mut self, key: String, value: Option<String>, message: String) {
        self.problems.push(Problem { origin: self.origin.to_owned(), key, value, message });
    }

    fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }
}

/// How a list's element is called in paths: by its name, or by its place from 1 when it has none.
pub(super) fn element_path(list: &str, index: usize, name: &str, element: &Value) -> String {
    let name = element.get(name).map(scalar::name);
    match name {
        Some(Ok(name)) => format!("{list}[{name}]"),
        _ => format!("{list}[#{}]", index + 1),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn sorted(keys: &[&'static str]) -> Vec<&'static str> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys
}

/// A value as one line of TOML, cut when it is long.
fn bounded(value: &Value) -> String {
    let text = value.to_string().replace('\n', " ");
    match text.char_indices().nth(VALUE_MAX_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
