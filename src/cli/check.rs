//! `freellmapi check`.

use std::error::Error;
use std::sync::Arc;

use super::failure::Failure;
use super::output;
use crate::access::{MasterKey, MasterKeyError, Pepper};
use crate::config::{self, Settings, Sources};
use crate::db::{self, Store, StoreError, StoreUrl};
use crate::domain::error_chain::ErrorChain;
use crate::stats;

/// What `check` ends with when it has found something.
const FOUND: u8 = 1;

pub(super) fn run(sources: &Sources) -> Result<(), Failure> {
    let settings = config::load(sources).map_err(|problems| Failure::new(FOUND, problems))?;
    settings.warnings().iter().for_each(|warning| output::note(&format!("warning: {warning}")));
    let spool = stats::check_spool(&settings.stats.spool).err();
    let spool = spool.map(|error| format!("stats.spool: {}", words(&error)));
    let problems: Vec<_> = store_problems(&settings).into_iter().chain(spool).collect();
    if !problems.is_empty() {
        return Err(Failure::new(FOUND, problems.join("\n")));
    }
    let usable = settings.providers.iter().filter(|provider| provider.is_usable()).count();
    output::line(&format!("ok: {usable} of {} providers can be used", settings.providers.len()));
    Ok(())
}

/// Looks without changing anything: what is not there yet is made by `serve`.
fn store_problems(settings: &Settings) -> Vec<String> {
    let url = match StoreUrl::parse(&settings.store.url) {
        Ok(url) => url,
        Err(error) => return vec![words(&error)],
    };
    let (store, unreachable) = match store_state(&url, settings) {
        Ok(store) => (store, None),
        Err(error) => (None, Some(words(&error))),
    };
    let sealed = key_state(settings, store.as_deref()).err();
    unreachable.into_iter().chain(sealed.map(|error| words(&*error))).collect()
}

/// The store, if it is there and migrated.
fn store_state(url: &StoreUrl, settings: &Settings) -> Result<Option<Arc<dyn Store>>, StoreError> {
    if matches!(url, StoreUrl::Sqlite(path) if !path.exists()) {
        output::note(&format!("the store {url} is not there yet; `freellmapi serve` makes it"));
        return Ok(None);
    }
    let store = db::open_as_it_is(&settings.store.url)?;
    let pending = store.pending_migrations()?.len();
    if pending > 0 {
        output::note(&format!("{pending} migrations are pending; `freellmapi migrate` or `serve` runs them"));
        return Ok(None);
    }
    Ok(Some(store))
}

/// Whether the master key is good and opens the store; before the first migration there is nothing to open.
fn key_state(settings: &Settings, store: Option<&dyn Store>) -> Result<(), Box<dyn Error>> {
    let url = &settings.store.url;
    let key = MasterKey::find(settings.master_key.as_ref(), url)?;
    let Some(store) = store else { return Ok(()) };
    match key {
        Some(key) => Pepper::find(store, &key).map(drop)?,
        None if Pepper::is_sealed(store)? => Err(MasterKeyError::FileMissing(MasterKey::file(url)?))?,
        None => {}
    }
    Ok(())
}

fn words(error: &dyn Error) -> String {
    ErrorChain(error).to_string()
}
