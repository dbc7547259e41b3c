//! `freellmapi migrate`.

use super::failure::Failure;
use super::output;
use crate::config::{self, Sources};
use crate::db;

pub(super) fn run(sources: &Sources) -> Result<(), Failure> {
    let settings = config::load(sources)?;
    let applied = db::open(&settings.store.url)?.migrate()?;
    if applied.is_empty() {
        output::line("the store is up to date");
    }
    applied.iter().for_each(|name| output::line(&format!("applied {name}")));
    Ok(())
}
