//! The two stores: the trait's methods, each a checkout and a query of the store's own backend.

use std::time::Duration;

use diesel::connection::{Connection, SimpleConnection};
use diesel::result::Error as QueryError;
use diesel::{PgConnection, SqliteConnection};

use super::error::{StoreError, is_duplicate};
use super::events::{self, Totals};
use super::hold_rows::{BlockRow, CooldownRow, CoverageRow, HoldBatch, HoldRow, ServedSpan};
use super::holds;
use super::keys::{self, KeyRow, NewKey, Revocation};
use super::migrations;
use super::models;
use super::postgres::{self, PostgresStore};
use super::seals;
use super::sqlite::{self, SqliteStore};
use super::store::{Backend, Store};
use super::store_url::StoreUrl;
use super::tenant_use;
use super::tenants::{self, Tenant};
use crate::domain::clock::Moment;
use crate::domain::ids::{KeyId, ModelNumber, ProviderId, TenantId};
use crate::domain::tenant::{TenantChange, TenantPolicy, TenantUse};
use crate::domain::usage::UsageRecord;

/// The error of a failed insert: `taken` when its unique value is there already.
fn taken_or_failed(error: QueryError, taken: StoreError, url: &StoreUrl) -> StoreError {
    if is_duplicate(&error) { taken } else { StoreError::of_query(error, url) }
}

macro_rules! implement_store {
    ($store:ty, $connection:ty, $db:ty, $backend:ident, $name:expr) => {
        impl Store for $store {
            fn backend(&self) -> Backend {
                $name
            }

            fn migrate(&self) -> Result<Vec<String>, StoreError> {
                $backend::under_migration_lock(self, |connection| {
                    migrations::apply(connection, $backend::MIGRATIONS)
                })
            }

            fn pending_migrations(&self) -> Result<Vec<String>, StoreError> {
                // To take the lock is to write, and so to make a database of an empty file.
                if self.ask(|connection| migrations::count(connection, $backend::BOOKKEEPING))? == 0 {
                    return migrations::all::<$db>($backend::MIGRATIONS).map_err(StoreError::Migration);
                }
                $backend::under_migration_lock(self, |connection| {
                    migrations::pending(connection, $backend::MIGRATIONS)
                })
            }

            fn ping(&self) -> Result<(), StoreError> {
                self.ask(|connection| connection.batch_execute("SELECT 1"))
            }

            fn add_tenant(&self, name: &str, now: Moment) -> Result<Tenant, StoreError> {
                tenants::$backend::add(&mut *self.checkout()?, name, now).map_err(|error| {
                    taken_or_failed(error, StoreError::NameTaken(name.to_owned()), self.url())
                })
            }

            fn add_tenant_with_key(
                &self,
                name: &str,
                label: &str,
                digest: &[u8; 32],
                now: Moment,
            ) -> Result<(Tenant, KeyId), StoreError> {
                let add = |connection: &mut $connection| {
                    let mut tenant = tenants::$backend::add(connection, name, now)?;
                    let key = NewKey::without_end(tenant.id, label, *digest, now);
                    let key_id = keys::$backend::add(connection, &key)?;
                    tenant.active_keys += 1;
                    Ok((tenant, key_id))
                };
                (*self.checkout()?).transaction(add).map_err(|error| {
                    taken_or_failed(error, StoreError::NameTaken(name.to_owned()), self.url())
                })
            }

            fn tenants(&self, now: Moment) -> Result<Vec<Tenant>, StoreError> {
                self.ask(|connection| tenants::$backend::all(connection, now))
            }

            fn tenant_named(&self, name: &str, now: Moment) -> Result<Option<Tenant>, StoreError> {
                self.ask(|connection| tenants::$backend::named(connection, name, now))
            }

            fn add_tenant_with(
                &self,
                name: &str,
                change: &TenantChange,
                now: Moment,
            ) -> Result<Tenant, StoreError> {
                tenants::$backend::add_with(&mut *self.checkout()?, name, change, now).map_err(|error| {
                    taken_or_failed(error, StoreError::NameTaken(name.to_owned()), self.url())
                })
            }

            fn change_tenant(&self, name: &str, change: &TenantChange) -> Result<bool, StoreError> {
                self.ask(|connection| tenants::$backend::change(connection, name, change))
            }

            fn remove_tenant(&self, name: &str) -> Result<Option<usize>, StoreError> {
                self.ask(|connection| tenants::$backend::remove(connection, name))
            }

            fn tenant_policies(&self) -> Result<Vec<(TenantId, TenantPolicy)>, StoreError> {
                self.ask(|connection| tenants::$backend::policies(connection))
            }

            fn tenant_use(&self, tenant: TenantId, now: Moment) -> Result<TenantUse, StoreError> {
                self.ask(|connection| tenant_use::$backend::sum(connection, tenant, now))
            }

            fn add_key(&self, key: &NewKey) -> Result<KeyId, StoreError> {
                keys::$backend::add(&mut *self.checkout()?, key)
                    .map_err(|error| taken_or_failed(error, StoreError::DigestTaken, self.url()))
            }

            fn keys(&self, tenant: Option<TenantId>) -> Result<Vec<KeyRow>, StoreError> {
                self.ask(|connection| keys::$backend::list(connection, tenant))
            }

            fn revoke_key(&self, id: KeyId, now: Moment) -> Result<Revocation, StoreError> {
                self.ask(|connection| keys::$backend::revoke(connection, id, now))
            }

            fn number_models(&self, models: &[(ProviderId, String)]) -> Result<Vec<ModelNumber>, StoreError> {
                self.ask(|connection| models::$backend::number(connection, models))
            }

            fn seal(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
                self.ask(|connection| seals::$backend::find(connection, name))
            }

            fn put_seal_if_absent(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, StoreError> {
                self.ask(|connection| seals::$backend::put_if_absent(connection, name, value))
            }

            fn record(&self, events: &[UsageRecord]) -> Result<usize, StoreError> {
                self.ask(|connection| events::$backend::record(connection, events))
            }

            fn totals(
                &self,
                tenant: Option<TenantId>,
                from: Moment,
                to: Moment,
            ) -> Result<Totals, StoreError> {
                self.ask(|connection| events::$backend::totals(connection, tenant, from, to))
            }

            fn purge_events(&self, before: Moment) -> Result<usize, StoreError> {
                self.ask(|connection| events::$backend::purge(connection, before))
            }

            fn write_holds(&self, batch: &HoldBatch) -> Result<(), StoreError> {
                self.ask(|connection| holds::$backend::write(connection, batch))
            }

            fn holds_after(&self, id: i64, rows: i64) -> Result<Vec<HoldRow>, StoreError> {
                self.ask(|connection| holds::$backend::after(connection, id, rows))
            }

            fn abort_open_holds(&self, now: Moment) -> Result<usize, StoreError> {
                self.ask(|connection| holds::$backend::abort_open(connection, now))
            }

            fn delete_holds(&self, ids: &[i64]) -> Result<usize, StoreError> {
                self.ask(|connection| holds::$backend::delete(connection, ids))
            }

            fn cooldowns(&self) -> Result<Vec<CooldownRow>, StoreError> {
                self.ask(holds::$backend::cooldowns)
            }

            fn delete_cooldowns(&self, before: Moment) -> Result<usize, StoreError> {
                self.ask(|connection| holds::$backend::delete_cooldowns(connection, before))
            }

            fn hold_coverages(&self) -> Result<Vec<CoverageRow>, StoreError> {
                self.ask(holds::$backend::coverages)
            }

            fn put_hold_coverages(&self, rows: &[CoverageRow]) -> Result<(), StoreError> {
                self.ask(|connection| holds::$backend::put_coverages(connection, rows))
            }

            fn add_block(&self, provider: Option<&str>, since: Moment) -> Result<(), StoreError> {
                self.ask(|connection| holds::$backend::add_block(connection, provider, since))
            }

            fn blocks_after(&self, id: i64) -> Result<Vec<BlockRow>, StoreError> {
                self.ask(|connection| holds::$backend::blocks_after(connection, id))
            }

            fn is_fresh(&self) -> Result<bool, StoreError> {
                self.ask(holds::$backend::is_fresh)
            }

            fn served_within(
                &self,
                from: Moment,
                to: Moment,
                slot: Duration,
            ) -> Result<Vec<ServedSpan>, StoreError> {
                self.ask(|connection| holds::$backend::served_within(connection, from, to, slot))
            }
        }
    };
}

implement_store!(SqliteStore, SqliteConnection, diesel::sqlite::Sqlite, sqlite, Backend::Sqlite);
implement_store!(PostgresStore, PgConnection, diesel::pg::Pg, postgres, Backend::Postgres);
