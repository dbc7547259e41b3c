//! What is particular to Postgres: its connections' patience, its advisory lock.

use diesel::connection::SimpleConnection;
use diesel::r2d2::{CustomizeConnection, Error as PoolError};
use diesel::sql_types::BigInt;
use diesel::{Connection, PgConnection, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use super::error::StoreError;
use super::migrations::MigrationResult;
use super::pool::{PooledStore, unreachable};
use super::store_url::{PostgresUrl, StoreUrl};

pub(super) type PostgresStore = PooledStore<PgConnection>;

pub(super) const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/postgres");

/// Connection parameters that the URL may override. Without them a server that vanished without a word would hold
/// a thread for the kernel's default of many minutes. Chosen: seconds to connect as the pool waits; a silent peer
/// is given up after 10 + 3 × 5 s of idling, or 15 s with data unacknowledged.
/// Names: <https://www.postgresql.org/docs/15/libpq-connect.html#LIBPQ-PARAMKEYWORDS>, read 2026-11-22.
const PARAMETERS: [(&str, &str); 6] = [
    ("connect_timeout", "5"),
    ("keepalives_idle", "10"),
    ("keepalives_interval", "5"),
    ("keepalives_count", "3"),
    ("tcp_user_timeout", "15000"),
    ("application_name", "freellmapi"),
];

/// Run on every connection of the pool. Chosen: the largest statement is a step of the purge, well under a second;
/// what takes thirty waits for something that does not come.
const SETTINGS: &str = "SET statement_timeout = '30s'";

/// Names the lock around migrations; such locks are private to one database. Chosen: our name.
const MIGRATION_LOCK: i64 = i64::from_be_bytes(*b"freellma");

/// Counts the tables in which diesel keeps what was applied: one, or none before the first migration.
pub(super) const BOOKKEEPING: &str = "SELECT count(*) AS count FROM (SELECT to_regclass('__diesel_schema_migrations') AS name) found \
     WHERE name IS NOT NULL";

#[derive(Debug)]
struct Settings;

impl CustomizeConnection<PgConnection, PoolError> for Settings {
    fn on_acquire(&self, connection: &mut PgConnection) -> Result<(), PoolError> {
        connection.batch_execute(SETTINGS).map_err(PoolError::QueryError)
    }
}

/// Opens the database, which must exist.
pub(super) fn open(url: PostgresUrl) -> Result<PostgresStore, StoreError> {
    let address = url.with_defaults(&PARAMETERS);
    let url = StoreUrl::Postgres(url);
    connect(&url, &address)?;
    Ok(PooledStore::new(url, address, Box::new(Settings)))
}

fn connect(url: &StoreUrl, address: &str) -> Result<PgConnection, StoreError> {
    PgConnection::establish(address).map_err(|error| unreachable(url, &error.to_string()))
}

/// Runs `step` while no other process migrates this database. It gets a connection of its own, because a
/// migration may take longer than the pool's statements are allowed to; closing it gives the lock back.
pub(super) fn under_migration_lock<T>(
    store: &PostgresStore,
    step: impl FnOnce(&mut PgConnection) -> MigrationResult<T>,
) -> Result<T, StoreError> {
    let mut connection = connect(store.url(), store.address())?;
    diesel::sql_query("SELECT pg_advisory_lock($1)")
        .bind::<BigInt, _>(MIGRATION_LOCK)
        .execute(&mut connection)
        .map_err(|error| StoreError::of_query(error, store.url()))?;
    step(&mut connection).map_err(StoreError::Migration)
}
