//! `freellmapi check`.

use std::sync::Arc;

use super::failure::Failure;
use super::output;
use crate::access::{MasterKey, Pepper};
use crate::config::{self, Settings, Sources};
use crate::db::{self, Store, StoreError, StoreUrl};
use crate::domain::error_chain::ErrorChain;

/// What `check` ends with when it has found something.
const FOUND: u8 = 1;

pub(super) fn run(sources: &Sources) -> Result<(), Failure> {
    let settings = config::load(sources).map_err(|problems| Failure::new(FOUND, problems))?;
    settings.warnings().iter().for_each(|warning| output::note(&format!("warning: {warning}")));
    let problems = store_problems(&settings);
    if !problems.is_empty() {
        return Err(Failure::new(FOUND, problems.join("\n")));
    }
    let usable = settings.providers.iter().filter(|provider| provider.is_usable()).count();
    output::line(&format!("ok: {usable} of {} providers can be used", settings.providers.len()));
    Ok(())
}

/// Looks without changing anything: a store that is not there yet is made by `serve`.
fn store_problems(settings: &Settings) -> Vec<String> {
    let url = match StoreUrl::parse(&settings.store.url) {
        Ok(url) => url,
        Err(error) => return vec![ErrorChain(&error).to_string()],
    };
    if matches!(&url, StoreUrl::Sqlite(path) if !path.exists()) {
        output::note(&format!("the store {url} is not there yet; `freellmapi serve` makes it"));
        return Vec::new();
    }
    let found = store_state(settings).and_then(|store| key_state(settings, store.as_deref()));
    found.err().into_iter().collect()
}

/// The store, if it is there and migrated.
fn store_state(settings: &Settings) -> Result<Option<Arc<dyn Store>>, String> {
    let words = |error: StoreError| ErrorChain(&error).to_string();
    let store = db::open(&settings.store.url).map_err(words)?;
    let pending = store.pending_migrations().map_err(words)?.len();
    if pending > 0 {
        output::note(&format!("{pending} migrations are pending; `freellmapi migrate` or `serve` runs them"));
        return Ok(None);
    }
    Ok(Some(store))
}

/// Whether the master key is there and opens the store; before the first migration there is nothing to open.
fn key_state(settings: &Settings, store: Option<&dyn Store>) -> Result<(), String> {
    let key = MasterKey::obtain(settings.master_key.as_ref(), &settings.store.url);
    let key = key.map_err(|error| ErrorChain(&error).to_string())?;
    let Some(store) = store else { return Ok(()) };
    Pepper::obtain(store, &key).map(|_| ()).map_err(|error| ErrorChain(&error).to_string())
}
