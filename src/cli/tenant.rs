//! `freellmapi tenant …`.

use super::arguments::TenantCommand;
use super::failure::Failure;
use super::output;
use crate::app::OpenStore;
use crate::config::{self, Sources};
use crate::db::{Store, StoreError};
use crate::domain::clock::{Clock, SystemClock};

pub(super) fn run(sources: &Sources, command: TenantCommand) -> Result<(), Failure> {
    let settings = config::load(sources)?;
    let store = OpenStore::open(&settings)?.store;
    match command {
        TenantCommand::Add { name } => add(&*store, name.trim()),
        TenantCommand::List => list(&*store),
    }
}

/// The longest name of a tenant.
const NAME_MAX_CHARS: usize = 64;

fn add(store: &dyn Store, name: &str) -> Result<(), Failure> {
    if name.is_empty() || name.chars().count() > NAME_MAX_CHARS || name.chars().any(char::is_control) {
        return Err(Failure::usage(format!("--name must be 1 to {NAME_MAX_CHARS} printable characters")));
    }
    let tenant = store.add_tenant(name, SystemClock::start().now()).map_err(|error| match error {
        StoreError::NameTaken(_) => Failure::usage(error),
        other => other.into(),
    })?;
    output::line(&format!("tenant {} has the id {}", tenant.name, tenant.id.0));
    output::note(&format!("next: freellmapi key create --tenant {}", tenant.name));
    Ok(())
}

fn list(store: &dyn Store) -> Result<(), Failure> {
    let tenants = store.tenants(SystemClock::start().now())?;
    let rows: Vec<_> = tenants
        .into_iter()
        .map(|tenant| {
            let created = format!("{:?}", tenant.created_at);
            vec![tenant.id.0.to_string(), tenant.name, tenant.active_keys.to_string(), created]
        })
        .collect();
    output::table(&["ID", "NAME", "ACTIVE KEYS", "CREATED"], &rows);
    Ok(())
}
