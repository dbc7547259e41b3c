//! All SQL: one [`Store`] over SQLite or Postgres, chosen by the URL.
//!
//! Everything here blocks, both taking a connection and asking it, so it never runs on an arbiter's thread:
//! whoever lives on one goes through [`blocking()`]. Ids that must be idempotent and all times are minted by the
//! callers; SQL only keeps them. Only this room knows diesel.
//!
//! Each concern (tenants, keys, …) is written once and compiled for both backends by `per_backend!`; diesel's own
//! `MultiConnection` knows neither multi-row inserts nor `ON CONFLICT`.

#[macro_use]
mod per_backend;

mod blocking;
mod error;
mod events;
mod hold_rows;
mod holds;
mod implement;
mod keys;
mod migrations;
mod models;
mod pool;
mod postgres;
mod schema;
mod seals;
pub mod shared_ledger;
mod sqlite;
mod store;
mod store_lock;
mod store_url;
mod tenant_use;
mod tenants;

pub use blocking::blocking;
pub use error::StoreError;
pub use events::Totals;
pub use hold_rows::{
    BlockRow, CooldownRow, CoverageRow, FinishRow, HoldBatch, HoldChange, HoldRow, HoldTarget, ServedSpan,
};
pub use keys::{KeyRow, NewKey, Revocation};
pub use store::{Backend, Store, open, open_as_it_is, open_impatient};
pub use store_lock::{StoreLock, lock_exclusively};
pub use store_url::{PostgresUrl, StoreUrl};
pub use tenants::Tenant;
