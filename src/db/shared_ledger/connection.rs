//! One connection to the shared ledger.

use std::fmt;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Jsonb, Nullable, Text};
use serde::de::DeserializeOwned;

use super::claim::{AccountPart, AttemptId, Budget, Claim, ReserveBatch};
use super::introduction::introduction;
use super::json::{Json, micros};
use super::reply::{Reserved, Settled, Why, read_reserved};
use super::settlement::{Settlement, settle_batch};
use super::snapshot::SharedSnapshot;
use crate::db::error::StoreError;
use crate::db::pool::unreachable;
use crate::db::store_url::StoreUrl;
use crate::domain::clock::Moment;
use crate::domain::ids::ProviderId;

/// Connection parameters that the URL may override. Chosen: the ledger is asked again after a second, so a server
/// that vanished without a word is given up after some three (1 s idle, then two probes a second apart), not after
/// the fifteen that the pool of the statistics has.
/// Names: <https://www.postgresql.org/docs/15/libpq-connect.html#LIBPQ-PARAMKEYWORDS>, read 2026-11-22.
const PARAMETERS: [(&str, &str); 6] = [
    ("connect_timeout", "2"),
    ("keepalives_idle", "1"),
    ("keepalives_interval", "1"),
    ("keepalives_count", "2"),
    ("tcp_user_timeout", "3000"),
    ("application_name", "freellmapi-ledger"),
];

/// Run on every connection. The time-outs are the contract's; an isolation level of the database's own would let a
/// reserve sum what was true before it waited for its locks; compiling takes longer than these statements run.
const SETTINGS: &str = "SET statement_timeout = '200ms'; SET lock_timeout = '100ms'; SET synchronous_commit = on; \
                        SET default_transaction_isolation = 'read committed'; SET jit = off";

/// Around the rare calls that read a window's statistics or every limit. Chosen: a month of events on a small server.
const PATIENT: &str = "SET statement_timeout = '20s'";
const IMPATIENT: &str = "SET statement_timeout = '200ms'";

diesel::define_sql_function!(fn ledger_ask(batch: Jsonb) -> Jsonb);
diesel::define_sql_function!(fn ledger_settle(batch: Jsonb) -> Jsonb);
diesel::define_sql_function!(fn ledger_introduce(batch: Jsonb) -> BigInt);
diesel::define_sql_function!(fn ledger_sweep(most: BigInt) -> BigInt);
diesel::define_sql_function!(fn ledger_block(of_provider: Nullable<Text>) -> BigInt);
diesel::define_sql_function!(fn ledger_snapshot() -> Jsonb);

/// A connection of its own, used by one thread. After any error its state, and whether the call was carried out, are
/// unknown: drop it, release the attempts of a reserve, send settlements again.
pub struct LedgerConnection {
    inner: PgConnection,
    url: StoreUrl,
}

impl LedgerConnection {
    /// Connects to the store at `url`, which must be Postgres and migrated. Blocks for at most 2 s an address.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`], [`StoreError::Unreachable`].
    pub fn open(url: &str) -> Result<Self, StoreError> {
        let url = StoreUrl::parse(url)?;
        let StoreUrl::Postgres(postgres) = &url else {
            return Err(StoreError::BadUrl("the shared ledger needs `postgres://`".to_owned()));
        };
        let mut inner = PgConnection::establish(&postgres.with_defaults(&PARAMETERS))
            .map_err(|error| unreachable(&url, &error.to_string()))?;
        inner.batch_execute(SETTINGS).map_err(|error| StoreError::of_query(error, &url))?;
        Ok(Self { inner, url })
    }

    /// Decides claims of one provider in their order, each whole or not at all: one autocommit statement.
    ///
    /// # Errors
    /// [`StoreError`]; the claims may have been granted all the same, or may yet be: see [`Self::release`].
    pub fn reserve(&mut self, provider: &ProviderId, claims: &[Claim]) -> Result<Reserved, StoreError> {
        let batch = ReserveBatch::new(provider, claims);
        let answer = diesel::select(ledger_ask(Json(batch.body))).get_result::<Json>(&mut self.inner);
        let reserved = read_reserved(self.checked(answer)?, &batch.budgets).map_err(misread)?;
        if reserved.decisions.len() == claims.len() {
            Ok(reserved)
        } else {
            Err(StoreError::Query("an answer too few".into()))
        }
    }

    /// Writes down what has become known of granted attempts; `now` is the clock of the settlements' instants.
    /// May be repeated.
    ///
    /// # Errors
    /// [`StoreError`]; it may have been written all the same.
    pub fn settle(&mut self, settlements: &[Settlement], now: Moment) -> Result<Settled, StoreError> {
        let batch = Json(settle_batch(settlements, now));
        let answer = diesel::select(ledger_settle(batch)).get_result::<Json>(&mut self.inner);
        self.read(answer)
    }

    /// Takes back attempts of a reserve whose outcome is unknown, also when it commits only after this. May be
    /// repeated.
    ///
    /// # Errors
    /// [`StoreError`]; the attempts may still hold.
    pub fn release(&mut self, attempts: &[AttemptId]) -> Result<(), StoreError> {
        let ids: Vec<String> = attempts.iter().map(|id| id.uuid().to_string()).collect();
        let done = diesel::sql_query("SELECT ledger_release($1::text[]::uuid[])")
            .bind::<Array<Text>, _>(ids)
            .execute(&mut self.inner);
        self.checked(done).map(|_| ())
    }

    /// Makes the limits of these budgets known, filled as their definitions say; the number that were not.
    ///
    /// # Errors
    /// [`StoreError`]; repeating is harmless.
    pub fn introduce(&mut self, provider: &ProviderId, budgets: &[&Budget]) -> Result<i64, StoreError> {
        let batch = Json(introduction(provider, budgets.iter().copied()));
        self.patiently(|connection| diesel::select(ledger_introduce(batch)).get_result(connection))
    }

    /// Leaves a part of an account alone for that long, for good when `None`; never shortens.
    ///
    /// # Errors
    /// [`StoreError`]; repeating is harmless.
    pub fn cool_down(
        &mut self,
        provider: &ProviderId,
        part: &AccountPart,
        duration: Option<Duration>,
        why: Why,
    ) -> Result<(), StoreError> {
        let done = diesel::sql_query("SELECT ledger_leave_alone($1, $2, $3, $4, $5, $6)")
            .bind::<Text, _>(provider.as_str())
            .bind::<Text, _>(&part.account)
            .bind::<Text, _>(&part.scope)
            .bind::<Nullable<BigInt>, _>(duration.map(micros))
            .bind::<Text, _>(why.reason.as_str())
            .bind::<BigInt, _>(i64::from(why.level))
            .execute(&mut self.inner);
        self.checked(done).map(|_| ())
    }

    /// Ends a cooldown, for instance because the account got another key.
    ///
    /// # Errors
    /// [`StoreError`]; repeating is harmless.
    pub fn reopen(&mut self, provider: &ProviderId, part: &AccountPart) -> Result<(), StoreError> {
        let done = diesel::sql_query("SELECT ledger_reopen($1, $2, $3)")
            .bind::<Text, _>(provider.as_str())
            .bind::<Text, _>(&part.account)
            .bind::<Text, _>(&part.scope)
            .execute(&mut self.inner);
        self.checked(done).map(|_| ())
    }

    /// Holds every limit for one window, of that provider or of all; their number.
    ///
    /// # Errors
    /// [`StoreError`]; repeating blocks from then.
    pub fn block(&mut self, provider: Option<&str>) -> Result<i64, StoreError> {
        self.patiently(|connection| diesel::select(ledger_block(provider)).get_result(connection))
    }

    /// Deletes what has expired, at most `most` rows of each kind; the number of rows deleted.
    ///
    /// # Errors
    /// [`StoreError`]; repeating is harmless.
    pub fn sweep(&mut self, most: i64) -> Result<i64, StoreError> {
        let swept = diesel::select(ledger_sweep(most)).get_result(&mut self.inner);
        self.checked(swept)
    }

    /// What is held and what cools.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn snapshot(&mut self) -> Result<SharedSnapshot, StoreError> {
        let answer =
            self.patiently(|connection| diesel::select(ledger_snapshot()).get_result::<Json>(connection))?;
        answer.read().map_err(misread)
    }

    fn patiently<T>(
        &mut self,
        call: impl FnOnce(&mut PgConnection) -> QueryResult<T>,
    ) -> Result<T, StoreError> {
        let patient = self.inner.batch_execute(PATIENT);
        self.checked(patient)?;
        let answer = call(&mut self.inner);
        let answer = self.checked(answer)?;
        let impatient = self.inner.batch_execute(IMPATIENT);
        self.checked(impatient).map(|()| answer)
    }

    fn read<T: DeserializeOwned>(&self, answer: QueryResult<Json>) -> Result<T, StoreError> {
        self.checked(answer)?.read().map_err(misread)
    }

    fn checked<T>(&self, answer: QueryResult<T>) -> Result<T, StoreError> {
        answer.map_err(|error| StoreError::of_query(error, &self.url))
    }
}

fn misread(error: serde_json::Error) -> StoreError {
    StoreError::Query(Box::new(error))
}

impl fmt::Debug for LedgerConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerConnection").field("url", &self.url).finish_non_exhaustive()
    }
}
