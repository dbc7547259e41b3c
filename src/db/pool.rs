//! Connections, kept and lent out.

use std::fmt;
use std::time::Duration;

use diesel::QueryResult;
use diesel::r2d2::{
    ConnectionManager, CustomizeConnection, Error as PoolError, Pool, PooledConnection, R2D2Connection,
};
use r2d2::NopErrorHandler;

use super::error::{StoreError, first_line};
use super::store_url::StoreUrl;
use crate::domain::secret::Secret;

/// How long a call waits for a connection before it says that the store is away. Chosen: a replica's patience
/// with the store (callers wait up to 20 s for capacity), and Postgres' connect timeout.
const CHECKOUT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections a process keeps. Chosen: SQLite lets one writer through at a time, and on Postgres many replicas
/// share the server's default of 100.
const MAX_CONNECTIONS: u32 = 4;

/// A store over a pool of connections to one database.
pub(super) struct PooledStore<C: R2D2Connection + 'static> {
    pool: Pool<ConnectionManager<C>>,
    url: StoreUrl,
    /// What the driver is given to connect: carries the password.
    address: Secret<String>,
}

impl<C: R2D2Connection + 'static> PooledStore<C> {
    /// A pool that connects to `address` when first asked, and prepares each new connection by `setup`.
    pub(super) fn new(
        url: StoreUrl,
        address: String,
        setup: Box<dyn CustomizeConnection<C, PoolError>>,
    ) -> Self {
        let pool = Pool::builder()
            .max_size(MAX_CONNECTIONS)
            .min_idle(Some(1))
            .connection_timeout(CHECKOUT_TIMEOUT)
            // A server may have gone since; a file has not, and who asks it each time pays for it with each hold.
            .test_on_check_out(matches!(url, StoreUrl::Postgres(_)))
            .connection_customizer(setup)
            // Its reason is in the error of the call that waited; logging it here would repeat it at every try.
            .error_handler(Box::new(NopErrorHandler))
            .build_unchecked(ConnectionManager::new(address.as_str()));
        Self { pool, url, address: Secret::new(address) }
    }

    /// Where it is.
    pub(super) fn url(&self) -> &StoreUrl {
        &self.url
    }

    /// What the driver is given to connect; carries the password.
    pub(super) fn address(&self) -> &str {
        self.address.expose()
    }

    /// A connection that has just been seen to work.
    ///
    /// # Errors
    /// [`StoreError::Unreachable`], after at most 5 s.
    pub(super) fn checkout(&self) -> Result<PooledConnection<ConnectionManager<C>>, StoreError> {
        self.pool.get().map_err(|error| unreachable(&self.url, &error.to_string()))
    }

    /// What `query` answers on a connection of the pool.
    pub(super) fn ask<T>(&self, query: impl FnOnce(&mut C) -> QueryResult<T>) -> Result<T, StoreError> {
        query(&mut *self.checkout()?).map_err(|error| StoreError::of_query(error, &self.url))
    }
}

impl<C: R2D2Connection + 'static> fmt::Debug for PooledStore<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PooledStore").field("url", &self.url).finish_non_exhaustive()
    }
}

/// The error for a store that could not be connected to, for a reason in the driver's words.
pub(super) fn unreachable(url: &StoreUrl, reason: &str) -> StoreError {
    let reason = match url {
        StoreUrl::Sqlite(_) => reason.to_owned(),
        StoreUrl::Postgres(url) => url.scrub(reason),
    };
    StoreError::Unreachable { store: url.to_string(), reason: first_line(&reason) }
}
