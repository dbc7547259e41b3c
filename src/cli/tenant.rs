//! `freellmapi tenant …`.

use super::arguments::TenantCommand;
use super::failure::Failure;
use super::label;
use super::output;
use crate::app::OpenStore;
use crate::config::{self, Sources};
use crate::db::{Store, StoreError};
use crate::domain::clock::{Clock, SystemClock};

pub(super) fn run(sources: &Sources, command: TenantCommand) -> Result<(), Failure> {
    let settings = config::load(sources)?;
    let store = OpenStore::open(&settings)?.store;
    match command {
        TenantCommand::Add { name } => add(&*store, label::check("--name", &name, 1)?),
        TenantCommand::List => list(&*store),
    }
}

fn add(store: &dyn Store, name: &str) -> Result<(), Failure> {
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
