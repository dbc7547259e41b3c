//! The customary limiter on a database: a transaction per request that locks the limit's row, counts, and adds.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use freellmapi::db;
use freellmapi::domain::clock::SharedClock;
use tokio::sync::oneshot;

use crate::{Limit, Outcome};

/// Connections of a replica: as many as the contract allows the ledger.
const CONNECTIONS: usize = 4;

/// Requests that wait for a connection. Chosen: more than a run can have waiting.
const WAITING: usize = 65_536;

/// What the row lock needs; the gateway knows nothing of it.
const TABLES: &str = "\
CREATE TABLE bench_limits (name TEXT PRIMARY KEY, max BIGINT NOT NULL);
CREATE TABLE bench_admissions (limit_name TEXT NOT NULL, admitted_us BIGINT NOT NULL,
                               id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY);
CREATE INDEX bench_admissions_by_time ON bench_admissions (limit_name, admitted_us);";

diesel::table! {
    bench_limits (name) {
        name -> Text,
        max -> BigInt,
    }
}

diesel::table! {
    bench_admissions (id) {
        limit_name -> Text,
        admitted_us -> BigInt,
        id -> BigInt,
    }
}

/// Whether there was room, or what went wrong.
type Verdict = Result<bool, String>;

/// One limit, and threads with a connection each that ask for it.
pub(super) struct RowLockLimiter {
    give: SyncSender<oneshot::Sender<Verdict>>,
    url: String,
    asked: Asked,
}

/// What is asked for.
#[derive(Clone)]
struct Asked {
    name: String,
    window: Duration,
    clock: SharedClock,
}

/// A new database on the server of `admin_url`, with the gateway's tables and ours.
pub(super) fn create_database(admin_url: &str, database: &str) -> Outcome<()> {
    let (server, _) = admin_url.rsplit_once('/').ok_or("a URL ends with the name of a database")?;
    PgConnection::establish(admin_url)?.batch_execute(&format!("CREATE DATABASE {database}"))?;
    let url = format!("{server}/{database}");
    db::open(&url)?.migrate()?;
    PgConnection::establish(&url)?.batch_execute(TABLES)?;
    Ok(())
}

impl RowLockLimiter {
    pub(super) fn open(limit: &Limit, clock: &SharedClock) -> Outcome<Self> {
        let (give, requests) = sync_channel(WAITING);
        let requests = Arc::new(Mutex::new(requests));
        let asked = Asked { name: limit.name.clone(), window: limit.window(), clock: Arc::clone(clock) };
        let row = (bench_limits::name.eq(&limit.name), bench_limits::max.eq(i64::try_from(limit.max)?));
        diesel::insert_into(bench_limits::table)
            .values(row)
            .on_conflict_do_nothing()
            .execute(&mut PgConnection::establish(&limit.to)?)?;
        for number in 0..CONNECTIONS {
            let connection = PgConnection::establish(&limit.to)?;
            let (requests, asked) = (Arc::clone(&requests), asked.clone());
            let thread = std::thread::Builder::new().name(format!("connection-{number}"));
            thread.spawn(move || asked.answer(&requests, connection))?;
        }
        Ok(Self { give, url: limit.to.clone(), asked })
    }

    pub(super) async fn admit(&self) -> Result<(), String> {
        let (tell, verdict) = oneshot::channel();
        self.give.try_send(tell).map_err(|error| match error {
            TrySendError::Full(_) => "too many wait for a connection".to_owned(),
            TrySendError::Disconnected(_) => "all connections are gone".to_owned(),
        })?;
        match verdict.await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err("refused".to_owned()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err("a connection is gone".to_owned()),
        }
    }

    pub(super) fn fill(&self, units: u32) -> Outcome<()> {
        let Asked { name, window, clock } = &self.asked;
        let step = window.as_micros() / u128::from(units.max(1) + 1);
        let now = clock.now().unix_micros();
        PgConnection::establish(&self.url)?.batch_execute(&format!(
            "INSERT INTO bench_admissions (limit_name, admitted_us) \
             SELECT '{name}', {now} - number::BIGINT * {step} FROM generate_series(1, {units}) AS number; \
             ANALYZE bench_admissions"
        ))?;
        Ok(())
    }
}

impl Asked {
    /// Answers one request after the other, until nobody asks any more.
    fn answer(&self, requests: &Mutex<Receiver<oneshot::Sender<Verdict>>>, mut connection: PgConnection) {
        loop {
            let request = requests.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(tell) = request else { return };
            let verdict = connection.transaction(|connection| self.admit(connection));
            // Who has left is not told; the admission stays written down, as it would.
            let _left = tell.send(verdict.map_err(|error| error.to_string()));
        }
    }

    /// The replica's own clock tells the time: the database's would be that of the transaction's begin, before it
    /// waited for the lock, or one that no index is used for.
    fn admit(&self, connection: &mut PgConnection) -> QueryResult<bool> {
        let limit = bench_limits::table.find(&self.name).select(bench_limits::max);
        let max: i64 = limit.for_update().first(connection)?;
        let now = self.clock.now();
        let held: i64 = bench_admissions::table
            .filter(bench_admissions::limit_name.eq(&self.name))
            .filter(bench_admissions::admitted_us.gt((now - self.window).unix_micros()))
            .count()
            .get_result(connection)?;
        if held >= max {
            return Ok(false);
        }
        let row = (
            bench_admissions::limit_name.eq(&self.name),
            bench_admissions::admitted_us.eq(now.unix_micros()),
        );
        diesel::insert_into(bench_admissions::table).values(row).execute(connection).map(|_| true)
    }
}
