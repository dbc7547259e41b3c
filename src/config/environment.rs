//! What the environment says: settings that win over the file, and all secrets.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use toml::{Table, Value};

use crate::domain::secret::Secret;

use super::problem::Problems;
use super::reader::{Parsed, Refusal, Section};
use super::{server, store};

/// How problems call the environment.
pub(super) const ORIGIN: &str = "environment";

/// The least that a key may have, so that it cannot be guessed: 24 characters of 6 bits are 144 bits.
pub(super) const KEY_MIN_CHARS: usize = 24;

/// 32 bytes in hex, the size of the cipher's key.
const MASTER_KEY_DIGITS: usize = 64;

/// The process's environment variables. A blank one counts as unset, as compose files write them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Environment<'a>(&'a HashMap<String, String>);

impl<'a> Environment<'a> {
    pub(super) fn new(variables: &'a HashMap<String, String>) -> Self {
        Self(variables)
    }

    pub(super) fn get(self, variable: &str) -> Option<&'a str> {
        self.0.get(variable).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    pub(super) fn config_file(self) -> Option<PathBuf> {
        self.get("FREELLMAPI_CONFIG").map(PathBuf::from)
    }
}

/// The gateway's own variables, read.
#[derive(Debug)]
pub(super) struct Overrides {
    pub(super) listen: Option<SocketAddr>,
    pub(super) store_url: Option<String>,
    pub(super) api_key: Option<Secret<String>>,
    pub(super) admin_key: Option<Secret<String>>,
    pub(super) master_key: Option<Secret<String>>,
}

/// Reads the gateway's own variables; the environment's others are none of its business.
pub(super) fn read(environment: Environment<'_>, problems: &mut Problems) -> Overrides {
    const OURS: [&str; 5] = [
        "FREELLMAPI_LISTEN",
        "DATABASE_URL",
        "FREELLMAPI_API_KEY",
        "FREELLMAPI_ADMIN_KEY",
        "FREELLMAPI_MASTER_KEY",
    ];
    let set = |name: &str| Some((name.to_owned(), Value::String(environment.get(name)?.to_owned())));
    let table: Table = OURS.into_iter().filter_map(set).collect();
    let mut section = Section::new(ORIGIN, "", table, problems);
    let overrides = Overrides {
        listen: section.optional("FREELLMAPI_LISTEN", server::listen),
        store_url: section.optional("DATABASE_URL", store::url),
        api_key: section.optional("FREELLMAPI_API_KEY", api_key),
        admin_key: section.optional("FREELLMAPI_ADMIN_KEY", admin_key),
        master_key: section.optional("FREELLMAPI_MASTER_KEY", master_key),
    };
    section.finish();
    overrides
}

fn api_key(value: &Value) -> Parsed<Secret<String>> {
    secret(value, |key| is_header_safe(key) && key.len() >= KEY_MIN_CHARS)
        .ok_or_else(|| Refusal::hiding_value("expected 24 or more visible ASCII characters"))
}

fn admin_key(value: &Value) -> Parsed<Secret<String>> {
    secret(value, is_header_safe).ok_or_else(|| Refusal::hiding_value("expected visible ASCII characters"))
}

fn master_key(value: &Value) -> Parsed<Secret<String>> {
    secret(value, |key| key.len() == MASTER_KEY_DIGITS && key.bytes().all(|b| b.is_ascii_hexdigit()))
        .ok_or_else(|| Refusal::hiding_value("expected 64 hex digits; `openssl rand -hex 32` makes them"))
}

fn secret(value: &Value, is_right: impl Fn(&str) -> bool) -> Option<Secret<String>> {
    value.as_str().filter(|text| is_right(text)).map(|text| Secret::new(text.to_owned()))
}

/// Whether a key can stand in an `authorization` header.
pub(super) fn is_header_safe(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_graphic())
}
