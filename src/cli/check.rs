//! `freellmapi check`.

use super::failure::Failure;
use super::output;
use crate::access::{MasterKey, Pepper};
use crate::config::{self, Settings, Sources};
use crate::db;
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
    let store = match db::open(&settings.store.url).and_then(|store| store.ping().map(|()| store)) {
        Ok(store) => store,
        Err(error) => return vec![ErrorChain(&error).to_string()],
    };
    match store.pending_migrations() {
        Ok(pending) if pending.is_empty() => pepper_problems(settings, &*store),
        // Nothing is sealed yet, or it will be looked at after the migration.
        Ok(pending) => {
            output::note(&format!(
                "{} migrations are pending; `freellmapi migrate` or `serve` runs them",
                pending.len()
            ));
            Vec::new()
        }
        Err(error) => vec![ErrorChain(&error).to_string()],
    }
}

fn pepper_problems(settings: &Settings, store: &dyn db::Store) -> Vec<String> {
    let master_key = match MasterKey::obtain(settings.master_key.as_ref(), &settings.store.url) {
        Ok(master_key) => master_key,
        Err(error) => return vec![ErrorChain(&error).to_string()],
    };
    Pepper::obtain(store, &master_key).err().map(|error| ErrorChain(&error).to_string()).into_iter().collect()
}
