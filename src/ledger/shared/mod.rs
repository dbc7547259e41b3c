//! Budgets that all replicas share: asked in batches, by one owner per process on a thread of its own.
//!
//! [`SharedLedger`] is the handle: it never waits, so that an actor's turn may use it. `core.rs` decides, without a
//! database, a thread or a clock, what is asked when: one call in flight per provider, and what arrives meanwhile goes
//! with the next. `owner.rs` carries it out on 2 to 4 connections. What a call decides is the database's
//! (`db::shared_ledger`). Attempts at fast limits are paid from leases: `lease_policy.rs` says which and when, `leases.rs`
//! keeps them, `leasing.rs` takes them through the owner.
//!
//! Invariants: an attempt is granted only by an answer that was seen in time; one whose call has an unknown outcome is
//! released before anything else of its provider is asked, and its id never used again. News of attempts are kept,
//! within a bound, until they are written.

mod attempts;
mod backoff;
mod budgets;
mod core;
mod counters;
mod desk;
mod handle;
mod job;
mod lease;
mod lease_policy;
mod leases;
mod leasing;
mod memory;
mod news;
mod owner;
mod parts;
mod provider;
mod providers;
mod scopes;
mod shown;
mod verdict;

#[cfg(test)]
mod tests;

pub use attempts::Grant;
pub use budgets::Past;
pub use counters::SharedLedgerCounters;
pub use handle::{SharedLedger, SharedLedgerStatus};
pub use provider::SharedProviderLedger;
pub use providers::SharedProviders;
pub use shown::{ShownCooldown, ShownLimit, shown_cooldowns, shown_limits};
pub use verdict::{Answer, Verdict};
