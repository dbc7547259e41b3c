//! Which models may answer a request, in which order, and what follows a failed attempt.
//!
//! ```text
//!  Facts, Pace of every target ──> Orders, about once a second ──> plan, for every request ──> candidates
//!                                  Allowed, Affinity, selector ──────┘                     └─> why not, when asked
//! ```
//!
//! Pure: a function of the catalogue, the request and what happened so far. Knows no actor, no clock, no HTTP.

mod affinity;
mod allowed;
mod catalog;
mod facts;
mod failover;
mod orders;
mod pace;
mod plan;
mod why_not;

#[cfg(test)]
mod tests;

pub use affinity::{Affinity, ConversationKey};
pub use allowed::Allowed;
pub use catalog::{Catalog, Target};
pub use facts::{Facts, FactsSnapshot, Went};
pub use failover::{Next, after_failure};
pub use orders::{Orders, Standing};
pub use pace::Pace;
pub use plan::{Leaning, NoPlan, Plan, plan, why_not};
pub use why_not::{AccountWhyNot, WhyNot, WhyNotSnapshot, WhyNots};
