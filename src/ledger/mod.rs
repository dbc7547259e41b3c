//! Limits that outlive the process: what is spent stays spent through restarts, `kill -9` included.
//!
//! A [`ProviderLedger`] is what a provider sees of it. On an embedded store it is the [`LocalLedger`]: the provider's
//! book in memory decides, and what it grants is written to the store before the first byte is sent. One thread owns
//! the writing for the whole process; what arrives while it writes goes with its next transaction. On Postgres it is the
//! [`shared`] one: the database decides for all replicas.
//!
//! Invariant: no attempt at a limited model is sent before it is written down, and what is written is held again by
//! the next process. Knows nothing of HTTP, requests or actors beyond the address that an answer goes to.

mod asker;
mod coverage;
mod identity;
mod kept;
mod left_alone;
mod local;
mod messages;
mod process;
mod provider_ledger;
mod queue;
mod restored;
mod rows;
pub mod shared;
mod statistics;
mod sweep;
mod writer;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use identity::Names;
pub use kept::Kept;
pub use left_alone::LeftAlone;
pub use local::{LocalLedger, Plan};
pub use messages::{LedgerAnswer, LedgerAnswered};
pub use process::ProcessLedger;
pub use provider_ledger::{ProviderLedger, Reserved};
pub use restored::Restored;
