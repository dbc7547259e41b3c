//! The budgets that all replicas share, on Postgres: typed calls of the SQL functions that decide.
//!
//! The functions (`migrations/postgres/*_create_shared_ledger` and what came after) keep the one invariant: what is held
//! of a limit, summed over all replicas, and what a claim asks for never exceed the limit's maximum together. Nothing
//! here decides. Instants exist on the database's clock only; what goes over the wire are durations. `docs/adr/0005`
//! says why.

mod claim;
mod connection;
mod introduction;
mod json;
mod reply;
mod settlement;
mod snapshot;

pub use claim::{AccountPart, AttemptId, Budget, Claim, ClaimAccount, ClaimLine, Definition, Fill, Span};
pub use connection::LedgerConnection;
pub use reply::{Cooled, Decision, Obstacle, Reserved, Settled, Why};
pub use settlement::{Part, PartLine, ProbeEnd, SettledLine, Settlement};
pub use snapshot::{SharedCooldown, SharedLimit, SharedSnapshot};
