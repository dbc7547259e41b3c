//! What is particular to SQLite: its file, its pragmas, its locks.

use std::path::PathBuf;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::r2d2::{CustomizeConnection, Error as PoolError};
use diesel::{Connection, SqliteConnection};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use super::error::StoreError;
use super::migrations::MigrationResult;
use super::pool::{PooledStore, unreachable};
use super::store_url::StoreUrl;

pub(super) type SqliteStore = PooledStore<SqliteConnection>;

pub(super) const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations/sqlite");

/// How long a writer waits for another one. Chosen: as long as the pool for a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// Run on every connection, behind `busy_timeout`, because switching to WAL may itself have to wait.
/// WAL lets commands read while the server writes; with it, NORMAL survives a crash of the process, and a power
/// cut loses at most the last commits. Source: <https://www.sqlite.org/pragma.html#pragma_synchronous>, read
/// 2026-11-22.
/// The log is copied back every 4,000 pages (16 MiB) instead of 1,000: each time it is synced and every page that has
/// changed is copied once, and with a ledger the same few pages change all the time.
/// What a statement of several rows would have to undo is kept in memory, where SQLite by itself writes what is more
/// than 64 KiB into a temporary file: nine tenths of all pages that were written (strace, 2026-11-23).
/// Source: <https://www.sqlite.org/tempfiles.html>, sections 2.3 and 3, read 2026-11-23.
const PRAGMAS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA foreign_keys = ON; \
                       PRAGMA wal_autocheckpoint = 4000; PRAGMA temp_store = MEMORY;";

/// Counts the tables in which diesel keeps what was applied: one, or none before the first migration.
pub(super) const BOOKKEEPING: &str =
    "SELECT count(*) AS count FROM sqlite_schema WHERE name = '__diesel_schema_migrations'";

#[derive(Debug)]
struct Pragmas {
    patience: Duration,
    /// What follows the patience.
    others: &'static str,
}

impl Pragmas {
    fn text(&self) -> String {
        format!("PRAGMA busy_timeout = {}; {}", self.patience.as_millis(), self.others)
    }
}

impl CustomizeConnection<SqliteConnection, PoolError> for Pragmas {
    fn on_acquire(&self, connection: &mut SqliteConnection) -> Result<(), PoolError> {
        connection.batch_execute(&self.text()).map_err(PoolError::QueryError)
    }
}

/// Opens the file, made with its folder if need be. Its connections wait for other writers up to `patience`.
pub(super) fn open(path: PathBuf, patience: Duration) -> Result<SqliteStore, StoreError> {
    StoreUrl::Sqlite(path.clone()).create_folder()?;
    open_with(path, Pragmas { patience, others: PRAGMAS })
}

/// Opens a file that is there, and leaves it in the journal mode that it is in: that is kept in the file.
pub(super) fn open_as_it_is(path: PathBuf) -> Result<SqliteStore, StoreError> {
    open_with(path, Pragmas { patience: PATIENCE, others: "PRAGMA foreign_keys = ON;" })
}

fn open_with(path: PathBuf, pragmas: Pragmas) -> Result<SqliteStore, StoreError> {
    let url = StoreUrl::Sqlite(path.clone());
    let Some(address) = path.to_str() else {
        return Err(StoreError::BadUrl(format!("{} is not UTF-8", path.display())));
    };
    probe(address, &pragmas.text()).map_err(|reason| unreachable(&url, &reason))?;
    Ok(PooledStore::new(url, address.to_owned(), Box::new(pragmas)))
}

fn probe(address: &str, pragmas: &str) -> Result<(), String> {
    let mut connection = SqliteConnection::establish(address).map_err(|error| error.to_string())?;
    connection.batch_execute(pragmas).map_err(|error| error.to_string())
}

/// Runs `step` with the database's write lock held, so that of several processes one migrates and the others
/// find it done. A step that fails leaves nothing.
pub(super) fn under_migration_lock<T>(
    store: &SqliteStore,
    step: impl FnOnce(&mut SqliteConnection) -> MigrationResult<T>,
) -> Result<T, StoreError> {
    store.checkout()?.immediate_transaction(step).map_err(StoreError::Migration)
}
