//! `[access]`: what may be seen without a key.

use toml::Value;

use super::reader::{Parsed, Section};
use super::scalar::boolean;

/// What is open to everybody, and to which web pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessSettings {
    /// Whether the list of models needs no key.
    pub public_models: bool,
    /// Whether the statistics need no key.
    pub public_stats: bool,
    /// Whether `/metrics` needs no admin key.
    pub public_metrics: bool,
    /// Origins (`https://host[:port]`, or `*` for all) whose pages may call the API from a browser.
    pub cors_origins: Vec<String>,
}

pub(super) fn read(section: &mut Section<'_>) -> Option<AccessSettings> {
    let public_models = section.required("public_models", boolean);
    let public_stats = section.required("public_stats", boolean);
    let public_metrics = section.required("public_metrics", boolean);
    let cors_origins = section.required("cors_origins", origins);
    Some(AccessSettings {
        public_models: public_models?,
        public_stats: public_stats?,
        public_metrics: public_metrics?,
        cors_origins: cors_origins?,
    })
}

fn origins(value: &Value) -> Parsed<Vec<String>> {
    let origins = value.as_array().and_then(|all| all.iter().map(origin).collect::<Option<Vec<_>>>());
    origins.ok_or_else(|| {
        "expected a list of origins without a path, for example [\"https://app.example.org\"], or [\"*\"]"
            .into()
    })
}

/// An origin as browsers send it: scheme and host, in lower case, no path, not even a slash.
fn origin(value: &Value) -> Option<String> {
    let origin = value.as_str()?;
    let host = origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"));
    let is_host = |host: &str| {
        !host.is_empty()
            && host.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-:[]".contains(&b))
    };
    (origin == "*" || host.is_some_and(is_host)).then(|| origin.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_has_no_path() {
        for right in ["*", "https://app.example.org", "http://localhost:5173", "http://[::1]:80"] {
            assert!(origin(&Value::String(right.to_owned())).is_some(), "{right}");
        }
        for wrong in ["", "app.example.org", "https://", "https://x/", "https://x/y", "https://X", "ftp://x"]
        {
            assert!(origin(&Value::String(wrong.to_owned())).is_none(), "{wrong}");
        }
    }
}
