//! Applying the embedded migrations; the caller holds the lock of its backend.

use std::error::Error;

use diesel::backend::Backend;
use diesel::migration::{Migration, MigrationSource};
use diesel::prelude::*;
use diesel::query_builder::SqlQuery;
use diesel::query_dsl::LoadQuery;
use diesel::sql_types::BigInt;
use diesel_migrations::MigrationHarness;

/// What the migration machinery answers.
pub(super) type MigrationResult<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Applies all of `source` that is pending, each in a transaction of its own; the names of what was applied.
/// What a newer release applied is left alone.
pub(super) fn apply<DB: Backend>(
    connection: &mut impl MigrationHarness<DB>,
    source: impl MigrationSource<DB>,
) -> MigrationResult<Vec<String>> {
    let pending = connection.pending_migrations(source)?;
    for migration in &pending {
        connection.run_migration(migration)?;
    }
    Ok(names(&pending))
}

/// The names of all of `source` that is pending. diesel makes its bookkeeping first, if there is none.
pub(super) fn pending<DB: Backend>(
    connection: &mut impl MigrationHarness<DB>,
    source: impl MigrationSource<DB>,
) -> MigrationResult<Vec<String>> {
    connection.pending_migrations(source).map(|pending| names(&pending))
}

/// The names of all of `source`, in order.
pub(super) fn all<DB: Backend>(source: impl MigrationSource<DB>) -> MigrationResult<Vec<String>> {
    let mut names = names(&source.migrations()?);
    names.sort();
    Ok(names)
}

/// What a query says that answers a number called `count`.
pub(super) fn count<C: Connection>(connection: &mut C, query: &'static str) -> QueryResult<i64>
where
    SqlQuery: for<'a> LoadQuery<'a, C, Count>,
{
    diesel::sql_query(query).get_result(connection).map(|Count { count }| count)
}

#[derive(QueryableByName)]
pub(super) struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

fn names<DB: Backend>(migrations: &[Box<dyn Migration<DB>>]) -> Vec<String> {
    migrations.iter().map(|migration| migration.name().to_string()).collect()
}
