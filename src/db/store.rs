//! What every store can do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::StoreError;
use super::events::Totals;
use super::hold_rows::{BlockRow, CooldownRow, CoverageRow, HoldBatch, HoldRow, ServedSpan};
use super::keys::{KeyRow, NewKey, Revocation};
use super::store_url::StoreUrl;
use super::tenants::Tenant;
use super::{postgres, sqlite};
use crate::domain::clock::Moment;
use crate::domain::ids::{KeyId, ModelNumber, ProviderId, TenantId};
use crate::domain::tenant::{TenantChange, TenantPolicy, TenantUse};
use crate::domain::usage::UsageRecord;

/// Which database a store runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// One file, one process that serves.
    Sqlite,
    /// Shared by any number of replicas.
    Postgres,
}

/// Opens the store at `url`: `sqlite:path` (made with its folder) or `postgres://…`. Does not migrate.
///
/// Connects once, so that a store that is away is told at once and not after the pool's patience.
///
/// # Errors
/// [`StoreError::BadUrl`], [`StoreError::Unreachable`].
pub fn open(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    open_waiting(url, sqlite::PATIENCE)
}

/// The same for one who would rather be refused than wait: a writer who keeps an embedded store's lock for longer than
/// `patience` makes the call fail. Has connections of its own.
///
/// # Errors
/// As [`open`].
pub fn open_impatient(url: &str, patience: Duration) -> Result<Arc<dyn Store>, StoreError> {
    open_waiting(url, patience)
}

/// The same for one who only looks: nothing is made, and a file stays as it is.
///
/// # Errors
/// As [`open`].
pub fn open_as_it_is(url: &str) -> Result<Arc<dyn Store>, StoreError> {
    match StoreUrl::parse(url)? {
        StoreUrl::Sqlite(path) => Ok(Arc::new(sqlite::open_as_it_is(path)?)),
        StoreUrl::Postgres(url) => Ok(Arc::new(postgres::open(url)?)),
    }
}

fn open_waiting(url: &str, patience: Duration) -> Result<Arc<dyn Store>, StoreError> {
    match StoreUrl::parse(url)? {
        StoreUrl::Sqlite(path) => Ok(Arc::new(sqlite::open(path, patience)?)),
        StoreUrl::Postgres(url) => Ok(Arc::new(postgres::open(url)?)),
    }
}

/// All that is kept on disk. Every call blocks, for up to 5 s while the store is away.
///
/// # Errors
/// Besides the ones named at a method, each answers [`StoreError::Unreachable`] while the store is away and
/// [`StoreError::Query`] when a statement fails otherwise.
pub trait Store: Send + Sync + fmt::Debug {
    /// Which database this is.
    fn backend(&self) -> Backend;

    /// Applies what is pending, under a lock that every process takes; the names of what was applied, in order.
    ///
    /// # Errors
    /// [`StoreError::Migration`]; of the one that failed nothing is kept, those before it may stay applied.
    fn migrate(&self) -> Result<Vec<String>, StoreError>;

    /// The names of the migrations that are not applied yet, in order. Changes nothing.
    fn pending_migrations(&self) -> Result<Vec<String>, StoreError>;

    /// Asks the least that proves the store answers.
    fn ping(&self) -> Result<(), StoreError>;

    /// Adds a tenant without keys.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`].
    fn add_tenant(&self, name: &str, now: Moment) -> Result<Tenant, StoreError>;

    /// Adds a tenant and its first key, both or neither, created at `now`; the key never expires.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`]: somebody was here first.
    fn add_tenant_with_key(
        &self,
        name: &str,
        label: &str,
        digest: &[u8; 32],
        now: Moment,
    ) -> Result<(Tenant, KeyId), StoreError>;

    /// All tenants by age, with the number of their keys that admit at `now`.
    fn tenants(&self, now: Moment) -> Result<Vec<Tenant>, StoreError>;

    /// The tenant of that exact name, with the number of its keys that admit at `now`.
    fn tenant_named(&self, name: &str, now: Moment) -> Result<Option<Tenant>, StoreError>;

    /// Adds a tenant without keys, granted what `change` says, both or neither.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`].
    fn add_tenant_with(&self, name: &str, change: &TenantChange, now: Moment) -> Result<Tenant, StoreError>;

    /// Changes what is granted to the tenant of that exact name, at once and only what is given; whether there
    /// is such a tenant.
    fn change_tenant(&self, name: &str, change: &TenantChange) -> Result<bool, StoreError>;

    /// Removes the tenant of that exact name with all of its keys, both or neither; how many keys those were,
    /// `None` without such a tenant. Its completion events stay, and no other tenant ever gets its id.
    fn remove_tenant(&self, name: &str) -> Result<Option<usize>, StoreError>;

    /// What is granted to whom.
    fn tenant_policies(&self) -> Result<Vec<(TenantId, TenantPolicy)>, StoreError>;

    /// What a tenant has used of its own limits' windows by `now`, as far as the events are written.
    fn tenant_use(&self, tenant: TenantId, now: Moment) -> Result<TenantUse, StoreError>;

    /// Adds a key to a tenant that exists.
    ///
    /// # Errors
    /// [`StoreError::DigestTaken`].
    fn add_key(&self, key: &NewKey) -> Result<KeyId, StoreError>;

    /// All keys by age, revoked and expired ones too; of one tenant, or of all.
    fn keys(&self, tenant: Option<TenantId>) -> Result<Vec<KeyRow>, StoreError>;

    /// Ends a key for good; the instant of the first revocation stays.
    fn revoke_key(&self, id: KeyId, now: Moment) -> Result<Revocation, StoreError>;

    /// The numbers of these models, in argument order. A model seen for the first time gets the next number, and
    /// keeps it for as long as the store exists.
    fn number_models(&self, models: &[(ProviderId, String)]) -> Result<Vec<ModelNumber>, StoreError>;

    /// The sealed value of that name.
    fn seal(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Stores a sealed value unless there is one; answers the one that is stored then, so that replicas that
    /// start together agree.
    fn put_seal_if_absent(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, StoreError>;

    /// Stores completion events, all or none; events that are there already are left as they are. The number of
    /// events that were new.
    fn record(&self, events: &[UsageRecord]) -> Result<usize, StoreError>;

    /// Sums over the events that ended from `from` (included) to `to` (excluded), of one tenant or of all.
    fn totals(&self, tenant: Option<TenantId>, from: Moment, to: Moment) -> Result<Totals, StoreError>;

    /// Deletes the events that ended before `before`; their number. Works in small steps, so that writers get
    /// their turn in between; what was deleted before a failure stays deleted.
    fn purge_events(&self, before: Moment) -> Result<usize, StoreError>;

    /// Writes what a local ledger has to write, all or none of it.
    fn write_holds(&self, batch: &HoldBatch) -> Result<(), StoreError>;

    /// The next `rows` holds behind that id, by id.
    fn holds_after(&self, id: i64, rows: i64) -> Result<Vec<HoldRow>, StoreError>;

    /// Ends every hold that has no end, as aborted at `now`; their number. For one who knows that the process that
    /// wrote them is dead.
    fn abort_open_holds(&self, now: Moment) -> Result<usize, StoreError>;

    /// Deletes these holds; how many there were.
    fn delete_holds(&self, ids: &[i64]) -> Result<usize, StoreError>;

    /// All cooldowns, those that are over too.
    fn cooldowns(&self) -> Result<Vec<CooldownRow>, StoreError>;

    /// Deletes the cooldowns that end before `before`; their number.
    fn delete_cooldowns(&self, before: Moment) -> Result<usize, StoreError>;

    /// What the ledger knows every attempt of.
    fn hold_coverages(&self) -> Result<Vec<CoverageRow>, StoreError>;

    /// Writes or replaces these, all or none.
    fn put_hold_coverages(&self, rows: &[CoverageRow]) -> Result<(), StoreError>;

    /// Asks whoever serves from this store to hold every limit of the provider, or of all, for one window from `since`.
    fn add_block(&self, provider: Option<&str>, since: Moment) -> Result<(), StoreError>;

    /// The blocks behind that id, by id.
    fn blocks_after(&self, id: i64) -> Result<Vec<BlockRow>, StoreError>;

    /// Whether nothing was ever sent, as far as this store knows: no event, and no ledger has begun.
    fn is_fresh(&self) -> Result<bool, StoreError>;

    /// Sums over the events that ended from `from` up to `to` (both included) and made an upstream call, by spans of
    /// `slot` and by who served.
    fn served_within(&self, from: Moment, to: Moment, slot: Duration) -> Result<Vec<ServedSpan>, StoreError>;
}
