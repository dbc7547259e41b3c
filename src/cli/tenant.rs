//! `freellmapi tenant …`.

use super::arguments::{Grants, TenantCommand};
use super::failure::Failure;
use super::{grants, label, output};
use crate::app::OpenStore;
use crate::config::{self, Settings, Sources};
use crate::db::{Store, StoreError, Tenant};
use crate::domain::clock::{Clock, Moment, SystemClock};
use crate::domain::tenant::TenantPolicy;

pub(super) fn run(sources: &Sources, command: TenantCommand) -> Result<(), Failure> {
    let settings = config::load(sources)?;
    let store = OpenStore::open(&settings)?.store;
    let now = SystemClock::start().now();
    match command {
        TenantCommand::Add { name, grants } => {
            add(&settings, &*store, label::check("--name", &name, 1)?, &grants, now)
        }
        TenantCommand::Set { name, grants } => set(&settings, &*store, &name, &grants, now),
        TenantCommand::Remove { name } => remove(&*store, &name),
        TenantCommand::List { json } => list(&*store, json, now),
    }
}

fn add(
    settings: &Settings,
    store: &dyn Store,
    name: &str,
    grants: &Grants,
    now: Moment,
) -> Result<(), Failure> {
    let change = grants::change(grants)?;
    let tenant = store.add_tenant_with(name, &change, now).map_err(|error| match error {
        StoreError::NameTaken(_) => Failure::usage(error),
        other => other.into(),
    })?;
    warn(settings, &tenant.policy);
    output::line(&format!("tenant {} has the id {}", tenant.name, tenant.id.0));
    output::note(&format!("next: freellmapi key create --tenant {}", tenant.name));
    Ok(())
}

fn set(
    settings: &Settings,
    store: &dyn Store,
    name: &str,
    grants: &Grants,
    now: Moment,
) -> Result<(), Failure> {
    let change = grants::change(grants)?;
    if change.is_empty() {
        return Err(Failure::usage("nothing to set: give at least one of the options that --help shows"));
    }
    if !store.change_tenant(name, &change)? {
        return Err(nobody(name));
    }
    if let Some(tenant) = store.tenant_named(name, now)? {
        warn(settings, &tenant.policy);
        output::line(&format!("tenant {} has now: {}", tenant.name, words(&tenant.policy)));
    }
    Ok(())
}

fn warn(settings: &Settings, policy: &TenantPolicy) {
    for warning in grants::warnings(policy, &settings.providers) {
        output::note(&format!("warning: {warning}"));
    }
}

fn remove(store: &dyn Store, name: &str) -> Result<(), Failure> {
    let keys = store.remove_tenant(name)?.ok_or_else(|| nobody(name))?;
    output::line(&format!("tenant {name} is removed, and its keys with it: {keys}"));
    output::note("a running server refuses them within 5 s; requests under way finish");
    Ok(())
}

fn nobody(name: &str) -> Failure {
    Failure::usage(format!("there is no tenant {name}; `freellmapi tenant list` shows them"))
}

fn list(store: &dyn Store, json: bool, now: Moment) -> Result<(), Failure> {
    let tenants = store.tenants(now)?;
    if json {
        let rows: Vec<_> = tenants.iter().map(as_json).collect();
        output::line(&serde_json::Value::from(rows).to_string());
        return Ok(());
    }
    let rows: Vec<_> = tenants
        .into_iter()
        .map(|tenant| {
            let (created, grants) = (format!("{:?}", tenant.created_at), words(&tenant.policy));
            vec![tenant.id.0.to_string(), tenant.name, tenant.active_keys.to_string(), created, grants]
        })
        .collect();
    output::table(&["ID", "NAME", "ACTIVE KEYS", "CREATED", "GRANTS"], &rows);
    Ok(())
}

fn as_json(tenant: &Tenant) -> serde_json::Value {
    let policy = &tenant.policy;
    serde_json::json!({
        "id": tenant.id,
        "name": tenant.name,
        "created_at": format!("{:?}", tenant.created_at),
        "active_keys": tenant.active_keys,
        "rpm": policy.limits.rpm,
        "rpd": policy.limits.rpd,
        "tpm": policy.limits.tpm,
        "tpd": policy.limits.tpd,
        "tpmonth": policy.limits.tpmonth,
        "parallel": policy.limits.parallel,
        "weight": policy.weight,
        "models": policy.models,
        "no_training": policy.no_training,
    })
}

/// What a policy says, without what it leaves open.
fn words(policy: &TenantPolicy) -> String {
    let limits = &policy.limits;
    let limits = [
        ("rpm", limits.rpm),
        ("rpd", limits.rpd),
        ("tpm", limits.tpm),
        ("tpd", limits.tpd),
        ("tpmonth", limits.tpmonth),
        ("parallel", limits.parallel),
    ];
    let limits = limits.iter().filter_map(|(name, limit)| Some(format!("{name} {}", (*limit)?)));
    let weight = format!("weight {}", policy.weight);
    let models = policy.models.as_ref().map(|names| format!("models {}", names.join(",")));
    let training = policy.no_training.then(|| "no-training".to_owned());
    let all: Vec<String> = limits.chain([weight]).chain(models).chain(training).collect();
    all.join(", ")
}
