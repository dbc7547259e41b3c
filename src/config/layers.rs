//! Lays one source over another, key by key, before anything is checked.
//!
//! Shipped data is valid by test, so whatever is wrong after an operator's file was laid over it is that
//! file's fault: the origin of a merged table is its last layer.

use std::collections::HashSet;

use toml::{Table, Value};

use super::document::Document;
use super::problem::{Problem, Problems};
use super::reader::element_path;

/// The key of the main file that lists providers.
pub(super) const PROVIDERS: &str = "provider";

/// One provider's table with all layers merged.
#[derive(Debug)]
pub(super) struct ProviderLayer {
    pub(super) origin: String,
    /// How problems call it, for example `provider[groq]`.
    pub(super) path: String,
    pub(super) table: Table,
}

/// Lays `over` over the sections of `base`; the list of providers is not among them.
pub(super) fn lay_sections(base: &mut Document, over: Document, problems: &mut Problems) {
    for (key, value) in over.table {
        match (base.table.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => below.extend(above),
            (Some(Value::Table(_)), other) => problems.push(Problem {
                origin: over.origin.clone(),
                message: format!("expected a section [{key}], found a {}", other.type_str()),
                key,
                value: None,
            }),
            (_, value) => {
                base.table.insert(key, value);
            }
        }
    }
    base.origin = over.origin;
}

/// Lays a file's list of providers over those below it: an id that is known is overridden, others are added.
pub(super) fn lay_providers(
    below: &mut Vec<ProviderLayer>,
    origin: &str,
    list: Value,
    problems: &mut Problems,
) {
    let Value::Array(list) = list else {
        let message = format!("expected [[{PROVIDERS}]] tables, found a {}", list.type_str());
        return problems.push(problem(origin, PROVIDERS.to_owned(), message));
    };
    let mut seen = HashSet::new();
    for (index, element) in list.into_iter().enumerate() {
        let path = element_path(PROVIDERS, index, "id", &element);
        let Value::Table(table) = element else {
            let message = format!("expected a table, found a {}", element.type_str());
            problems.push(problem(origin, path, message));
            continue;
        };
        if seen.insert(path.clone()) {
            check_models(origin, &path, &table, problems);
            lay_provider(below, ProviderLayer { origin: origin.to_owned(), path, table });
        } else {
            problems.push(problem(origin, path, "this id is listed twice: merge the two".to_owned()));
        }
    }
}

fn lay_provider(below: &mut Vec<ProviderLayer>, above: ProviderLayer) {
    let Some(base) = below.iter_mut().find(|base| base.path == above.path) else {
        return below.push(above);
    };
    base.origin = above.origin;
    for (key, value) in above.table {
        match (base.table.get_mut(&key), value) {
            (Some(Value::Array(models)), Value::Array(over)) if key == "model" => lay_models(models, over),
            (_, value) => {
                base.table.insert(key, value);
            }
        }
    }
}

/// Overrides models by id, key by key; the others are added.
fn lay_models(below: &mut Vec<Value>, above: Vec<Value>) {
    for over in above {
        let same = |base: &&mut Value| over.get("id").is_some() && base.get("id") == over.get("id");
        match (below.iter_mut().find(same), over) {
            (Some(Value::Table(base)), Value::Table(over)) => base.extend(over),
            (_, over) => below.push(over),
        }
    }
}

/// Two models of one id in one file: merging them would hide which of the two counts.
fn check_models(origin: &str, provider: &str, table: &Table, problems: &mut Problems) {
    let models = table.get("model").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let mut seen = HashSet::new();
    for (index, model) in models.iter().enumerate() {
        let path = format!("{provider}.{}", element_path("model", index, "id", model));
        if !seen.insert(path.clone()) {
            problems.push(problem(origin, path, "this id is listed twice: merge the two".to_owned()));
        }
    }
}

fn problem(origin: &str, key: String, message: String) -> Problem {
    Problem { origin: origin.to_owned(), key, value: None, message }
}
