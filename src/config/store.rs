//! `[store]`: where everything durable lives.

use toml::Value;

use super::reader::{Parsed, Refusal, Section};

/// Where the store is.
#[derive(Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// `sqlite:PATH`, `postgres://…` or `postgresql://…`; it may hold a password.
    pub url: String,
}

impl std::fmt::Debug for StoreSettings {
    /// Shows which backend it is; the rest may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let backend = self.url.split(':').next().unwrap_or_default();
        f.debug_struct("StoreSettings").field("url", &format_args!("{backend}:…")).finish()
    }
}

pub(super) fn read(section: &mut Section<'_>) -> Option<StoreSettings> {
    Some(StoreSettings { url: section.required("url", url)? })
}

/// A URL of one of the two backends; a refused one is not repeated, because it may hold a password.
pub(super) fn url(value: &Value) -> Parsed<String> {
    value.as_str().filter(|url| is_store(url)).map(str::to_owned).ok_or_else(|| {
        Refusal::hiding_value(
            "expected \"sqlite:PATH\", for example \"sqlite:data/freellmapi.db\", or \
             \"postgres://USER:PASSWORD@HOST/DATABASE\" (the value is not shown, it may hold a password)",
        )
    })
}

fn is_store(url: &str) -> bool {
    ["sqlite:", "postgres://", "postgresql://"]
        .iter()
        .filter_map(|scheme| url.strip_prefix(scheme))
        .any(|rest| !rest.trim().is_empty() && !rest.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_backends_are_known() {
        for right in ["sqlite:data/x.db", "postgres://u:p@h/d", "postgresql:///d"] {
            assert!(is_store(right), "{right}");
        }
        for wrong in ["", "sqlite:", "mysql://h/d", "data/x.db", "postgres:", "postgres://"] {
            assert!(!is_store(wrong), "{wrong}");
        }
    }

    #[test]
    fn a_password_is_not_printed() {
        let settings = StoreSettings { url: "postgres://u:hunter2@h/d".to_owned() };
        assert_eq!(format!("{settings:?}"), "StoreSettings { url: postgres:… }");
    }
}
