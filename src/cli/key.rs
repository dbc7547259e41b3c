//! `freellmapi key …`.

use std::io;
use std::time::Duration;

use super::arguments::KeyCommand;
use super::failure::{Failure, IO, SOFTWARE};
use super::{label, output};
use crate::access::ApiKey;
use crate::app::OpenStore;
use crate::config::{self, Sources, parse_duration};
use crate::db::{KeyRow, NewKey, Revocation, Store};
use crate::domain::clock::{Clock, Moment, SystemClock};
use crate::domain::error_chain::ErrorChain;
use crate::domain::ids::{KeyId, TenantId};

pub(super) fn run(sources: &Sources, command: KeyCommand) -> Result<(), Failure> {
    let settings = config::load(sources)?;
    let open = OpenStore::open(&settings)?;
    let now = SystemClock::start().now();
    match command {
        KeyCommand::Create { tenant, label, expires } => {
            create(&open, &tenant, &label, expires.as_deref(), now)
        }
        KeyCommand::List { tenant } => list(&*open.store, tenant.as_deref(), now),
        KeyCommand::Revoke { id } => revoke(&*open.store, KeyId(id), now),
    }
}

fn create(
    open: &OpenStore,
    tenant: &str,
    label: &str,
    expires: Option<&str>,
    now: Moment,
) -> Result<(), Failure> {
    let label = label::check("--label", label, 0)?.to_owned();
    let lifetime = expires.map(lifetime).transpose()?;
    let tenant = tenant_named(&*open.store, tenant, now)?;
    let key = ApiKey::mint().map_err(|error| Failure::new(SOFTWARE, error))?;
    let id = open.store.add_key(&NewKey {
        tenant,
        label,
        digest: open.pepper.digest(key.expose()),
        created_at: now,
        expires_at: lifetime.map(|lifetime| now + lifetime),
    })?;
    output::note(&format!("key {id}; it is shown only this once"));
    output::line_once(key.expose()).map_err(|error| withdraw(&*open.store, id, &error))
}

/// Revokes a key that could not be printed: nobody knows it, or somebody knows a part of it. How the command is to
/// end then.
pub(super) fn withdraw(store: &dyn Store, id: KeyId, error: &io::Error) -> Failure {
    let outcome = match store.revoke_key(id, SystemClock::start().now()) {
        Ok(_) => "it is revoked, `freellmapi key create` makes another".to_owned(),
        Err(error) => {
            format!(
                "revoke it with `freellmapi key revoke {id}`, as that failed too ({})",
                ErrorChain(&error)
            )
        }
    };
    Failure::new(IO, format!("key {id} could not be printed ({error}): {outcome}"))
}

fn lifetime(text: &str) -> Result<Duration, Failure> {
    let valid = parse_duration(text).filter(|lifetime| !lifetime.is_zero());
    valid.ok_or_else(|| Failure::usage("--expires must be a whole number with s, m, h or d, for example 30d"))
}

fn list(store: &dyn Store, tenant: Option<&str>, now: Moment) -> Result<(), Failure> {
    let tenant = tenant.map(|name| tenant_named(store, name, now)).transpose()?;
    let rows: Vec<_> = store.keys(tenant)?.into_iter().map(|key| row(key, now)).collect();
    output::table(&["ID", "TENANT", "LABEL", "CREATED", "STATE"], &rows);
    Ok(())
}

fn row(key: KeyRow, now: Moment) -> Vec<String> {
    let state = match (key.revoked_at, key.expires_at) {
        (Some(at), _) => format!("revoked {at:?}"),
        (None, Some(at)) if at <= now => format!("expired {at:?}"),
        (None, Some(at)) => format!("expires {at:?}"),
        (None, None) => "active".to_owned(),
    };
    vec![key.id.to_string(), key.tenant_name, key.label, format!("{:?}", key.created_at), state]
}

fn revoke(store: &dyn Store, id: KeyId, now: Moment) -> Result<(), Failure> {
    match store.revoke_key(id, now)? {
        Revocation::Revoked => output::line(&format!("key {id} is revoked")),
        Revocation::AlreadyRevoked => output::line(&format!("key {id} was revoked already")),
        Revocation::Unknown => {
            return Err(Failure::usage(format!("there is no key {id}; `freellmapi key list` shows them")));
        }
    }
    Ok(())
}

fn tenant_named(store: &dyn Store, name: &str, now: Moment) -> Result<TenantId, Failure> {
    match store.tenant_named(name, now)? {
        Some(tenant) => Ok(tenant.id),
        None => {
            Err(Failure::usage(format!("there is no tenant {name}; `freellmapi tenant list` shows them")))
        }
    }
}
