//! A database of its own for each test, on either backend.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_migrations::{FileBasedMigrations, MigrationHarness};
use freellmapi::db::{Store, open};
use tempfile::TempDir;

/// Where the databases of a test run are made: the URL of an administrator's database.
const ADMIN_URL_VARIABLE: &str = "FREELLMAPI_TEST_POSTGRES";

/// Names the lock under which a template is made, for several test processes may start together.
const TEMPLATE_LOCK: i64 = i64::from_be_bytes(*b"template");

/// A database that nobody else uses, gone when it is dropped.
#[derive(Debug)]
pub(crate) enum TestDatabase {
    Sqlite(TempDir),
    /// A database of this name on the server under test.
    Postgres(String),
}

impl TestDatabase {
    /// A migrated SQLite file.
    pub(crate) fn sqlite() -> Self {
        let database = Self::empty_sqlite();
        database.open().migrate().unwrap();
        database
    }

    /// A migrated Postgres database, copied from a template.
    ///
    /// # Panics
    /// When no server was named: a test that is skipped in silence proves nothing.
    pub(crate) fn postgres() -> Self {
        Self::create(&format!("TEMPLATE {}", template()))
    }

    /// An SQLite file without tables.
    pub(crate) fn empty_sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// A Postgres database without tables.
    pub(crate) fn empty_postgres() -> Self {
        Self::create("TEMPLATE template0")
    }

    fn create(options: &str) -> Self {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("freellmapi_test_{}_{number}", std::process::id());
        // The last run of a process of this number may have been killed.
        administer(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        administer(&format!("CREATE DATABASE {name} {options}"));
        Self::Postgres(name)
    }

    /// The URL by which the gateway opens it.
    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(folder) => format!("sqlite:{}", sqlite_file(folder)),
            Self::Postgres(name) => url_of(name),
        }
    }

    /// The store on it.
    pub(crate) fn open(&self) -> Arc<dyn Store> {
        open(&self.url()).unwrap()
    }

    /// Reverts all migrations, last one first.
    pub(crate) fn revert_migrations(&self) {
        match self {
            Self::Sqlite(folder) => {
                let mut connection = SqliteConnection::establish(&sqlite_file(folder)).unwrap();
                connection.revert_all_migrations(migrations("sqlite")).unwrap();
            }
            Self::Postgres(name) => {
                let mut connection = PgConnection::establish(&url_of(name)).unwrap();
                connection.revert_all_migrations(migrations("postgres")).unwrap();
            }
        }
    }

    /// The names of its tables, besides those that the backend or diesel keeps for itself.
    pub(crate) fn tables(&self) -> Vec<String> {
        let of_sqlite = "SELECT name AS value FROM sqlite_schema WHERE type = 'table' \
                         AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' AND name NOT LIKE '\\_\\_%' ESCAPE '\\' ORDER BY name";
        let of_postgres = "SELECT tablename::text AS value FROM pg_tables WHERE schemaname = 'public' \
                           AND tablename NOT LIKE '\\_\\_%' ORDER BY tablename";
        self.texts(of_sqlite, of_postgres)
    }

    /// The column `value` of a query, which each backend may spell its own way.
    pub(crate) fn texts(&self, of_sqlite: &str, of_postgres: &str) -> Vec<String> {
        let rows: Vec<TextRow> = match self {
            Self::Sqlite(folder) => {
                let mut connection = SqliteConnection::establish(&sqlite_file(folder)).unwrap();
                diesel::sql_query(of_sqlite).load(&mut connection).unwrap()
            }
            Self::Postgres(name) => return texts_at(&url_of(name), of_postgres),
        };
        rows.into_iter().map(|row| row.value).collect()
    }

    /// Runs a statement that both backends understand.
    pub(crate) fn execute(&self, statement: &str) {
        match self {
            Self::Sqlite(folder) => {
                SqliteConnection::establish(&sqlite_file(folder)).unwrap().batch_execute(statement).unwrap();
            }
            Self::Postgres(name) => execute_at(&url_of(name), statement),
        }
    }

    /// Keeps every other writer out of an SQLite file until what it answers is dropped.
    pub(crate) fn hold_write_lock(&self) -> SqliteConnection {
        let Self::Sqlite(folder) = self else { panic!("rows of Postgres are locked, not all of it") };
        let mut connection = SqliteConnection::establish(&sqlite_file(folder)).unwrap();
        connection.batch_execute("PRAGMA busy_timeout = 20000; BEGIN IMMEDIATE").unwrap();
        connection
    }

    /// Cuts all connections to a Postgres database and keeps it away until it is brought back.
    pub(crate) fn take_away(&self) {
        let Self::Postgres(name) = self else { panic!("a file cannot be taken away") };
        administer(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false"));
        administer(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        ));
    }

    /// Ends [`Self::take_away`].
    pub(crate) fn bring_back(&self) {
        let Self::Postgres(name) = self else { panic!("a file cannot be taken away") };
        administer(&format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true"));
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if let Self::Postgres(name) = self {
            administer(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"));
        }
    }
}

/// The column `value` of a query, asked of the Postgres at `url`.
pub(crate) fn texts_at(url: &str, query: &str) -> Vec<String> {
    let mut connection = PgConnection::establish(url).unwrap();
    let rows: Vec<TextRow> = diesel::sql_query(query).load(&mut connection).unwrap();
    rows.into_iter().map(|row| row.value).collect()
}

/// Runs statements on the Postgres at `url`.
pub(crate) fn execute_at(url: &str, statements: &str) {
    PgConnection::establish(url).unwrap().batch_execute(statements).unwrap();
}

#[derive(QueryableByName)]
struct TextRow {
    #[diesel(sql_type = Text)]
    value: String,
}

/// The migrated database that the tests' own are copied from. It stays on the server for the next run; its name
/// tells by which migrations it was made.
fn template() -> &'static str {
    static TEMPLATE: OnceLock<String> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let name = format!("freellmapi_template_{:016x}", fingerprint(&migrations_folder("postgres")));
        let mut admin = connect_as_admin();
        diesel::sql_query("SELECT pg_advisory_lock($1)")
            .bind::<BigInt, _>(TEMPLATE_LOCK)
            .execute(&mut admin)
            .unwrap();
        if !exists(&mut admin, &name) {
            // Made under another name, so that a killed run leaves no half-made template behind.
            let unfinished = format!("{name}_unfinished");
            admin.batch_execute(&format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)")).unwrap();
            admin.batch_execute(&format!("CREATE DATABASE {unfinished} TEMPLATE template0")).unwrap();
            PgConnection::establish(&url_of(&unfinished))
                .unwrap()
                .run_pending_migrations(migrations("postgres"))
                .unwrap();
            admin.batch_execute(&format!("ALTER DATABASE {unfinished} RENAME TO {name}")).unwrap();
        }
        name
    })
}

fn exists(admin: &mut PgConnection, name: &str) -> bool {
    let found: Vec<TextRow> =
        diesel::sql_query("SELECT datname::text AS value FROM pg_database WHERE datname = $1")
            .bind::<Text, _>(name)
            .load(admin)
            .unwrap();
    !found.is_empty()
}

fn administer(statement: &str) {
    connect_as_admin().batch_execute(statement).unwrap();
}

fn connect_as_admin() -> PgConnection {
    PgConnection::establish(&admin_url()).unwrap()
}

#[expect(clippy::disallowed_methods, reason = "where the test server is, is the runner's to say")]
fn admin_url() -> String {
    std::env::var(ADMIN_URL_VARIABLE).unwrap_or_else(|_| {
        panic!(
            "{ADMIN_URL_VARIABLE} is not set: run `scripts/test`, which starts a server, or set it to an \
             administrator's URL such as postgres://postgres@127.0.0.1:5432/postgres"
        )
    })
}

/// The administrator's URL, pointed at another database.
fn url_of(name: &str) -> String {
    let admin = admin_url();
    let (address, query) = admin.split_once('?').unwrap_or((&admin, ""));
    let (server, _) = address.rsplit_once('/').unwrap();
    if query.is_empty() { format!("{server}/{name}") } else { format!("{server}/{name}?{query}") }
}

fn sqlite_file(folder: &TempDir) -> String {
    folder.path().join("data/freellmapi.db").display().to_string()
}

fn migrations(backend: &str) -> FileBasedMigrations {
    FileBasedMigrations::from_path(migrations_folder(backend)).unwrap()
}

fn migrations_folder(backend: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations").join(backend)
}

/// Tells two states of a folder apart.
fn fingerprint(folder: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    let mut steps: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    steps.sort();
    for step in steps {
        step.file_name().hash(&mut hasher);
        fs::read(step.join("up.sql")).unwrap().hash(&mut hasher);
    }
    hasher.finish()
}
