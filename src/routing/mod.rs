//! Which models may answer a request, in which order, and what follows a failed attempt.
//!
//! Pure: a function of the catalogue, the request and what happened so far. Knows no actor, no clock, no HTTP.

mod catalog;
mod failover;
mod plan;

#[cfg(test)]
mod tests;

pub use catalog::{Catalog, Target};
pub use failover::{Next, after_failure};
pub use plan::{NoPlan, Plan, plan};
