//! Whoever keeps the limit, as the load sees it.

use std::rc::Rc;

use clap::ValueEnum;
use freellmapi::domain::clock::SharedClock;
use freellmapi::quota::Hold;
use serde_json::{Value, json};

use crate::ledger::LedgerLimiter;
use crate::redis::RedisLimiter;
use crate::row_lock::RowLockLimiter;
use crate::{Limit, Outcome};

/// Who keeps the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Contender {
    /// This process's own book, which no other process knows: the floor
    Memory,
    /// The gateway's shared ledger on Postgres
    Ledger,
    /// A sorted set and a script in Redis
    Redis,
    /// A log on Postgres, and a row of it that each transaction locks
    RowLock,
}

pub(super) enum Limiter {
    /// Of the gateway's own kind, shared or in memory.
    Ledger(Box<LedgerLimiter>),
    Redis(RedisLimiter),
    RowLock(RowLockLimiter),
}

/// The right to make one call, until it is ended.
pub(super) enum Admission {
    /// To be settled.
    Held(Hold),
    /// Written down for good with the answer.
    Final,
}

impl Limiter {
    /// Connects.
    pub(super) async fn open(limit: &Limit, clock: &SharedClock) -> Outcome<Self> {
        Ok(match limit.contender {
            Contender::Memory | Contender::Ledger => {
                Self::Ledger(Box::new(LedgerLimiter::open(limit, clock)?))
            }
            Contender::Redis => Self::Redis(RedisLimiter::open(limit).await?),
            Contender::RowLock => Self::RowLock(RowLockLimiter::open(limit, clock)?),
        })
    }

    /// Asks once.
    ///
    /// # Errors
    /// With why it was not admitted. No limit here is ever used up, so a refusal is a failure like any other.
    pub(super) async fn admit(&self) -> Result<Admission, String> {
        match self {
            Self::Ledger(ledger) => ledger.admit().await.map(Admission::Held),
            Self::Redis(redis) => redis.admit().await.map(|()| Admission::Final),
            Self::RowLock(row_lock) => row_lock.admit().await.map(|()| Admission::Final),
        }
    }

    /// The call was made, and answered at once.
    pub(super) fn end(&self, admission: Admission) {
        if let (Self::Ledger(ledger), Admission::Held(hold)) = (self, admission) {
            ledger.end(hold, ledger.now());
        }
    }

    pub(super) async fn admit_and_end(&self) -> Result<(), String> {
        let admission = self.admit().await?;
        self.end(admission);
        Ok(())
    }

    /// What the ledger has counted since this replica began; null for everybody else.
    pub(super) fn counters(&self) -> Value {
        match self {
            Self::Ledger(ledger) => json!(ledger.counters()),
            Self::Redis(_) | Self::RowLock(_) => Value::Null,
        }
    }

    /// Writes what is still to be written, and ends. Blocks.
    pub(super) fn close(&self) {
        if let Self::Ledger(ledger) = self {
            ledger.close();
        }
    }
}

/// Uses `units` of the limit at even distances over its last window.
pub(super) async fn fill(limit: &Limit, clock: &SharedClock, units: u32) -> Outcome<()> {
    let limiter = Rc::new(Limiter::open(limit, clock).await?);
    match &*limiter {
        Limiter::Ledger(ledger) => ledger.fill(limit.window(), units).await?,
        Limiter::Redis(redis) => redis.fill(units).await?,
        Limiter::RowLock(row_lock) => row_lock.fill(units)?,
    }
    limiter.close();
    Ok(())
}
