//! The one binary of all integration tests.
//!
//! `cfg(test)` is always true here; it tells clippy that the helpers are tests too, so that they may fail loudly.

#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(test)]
mod architecture;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod burst;
#[cfg(test)]
mod chat;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod drain;
#[cfg(test)]
mod durability;
#[cfg(test)]
mod failover;
#[cfg(test)]
mod fairness;
#[cfg(test)]
mod fake_upstream;
#[cfg(test)]
mod hostile_client;
#[cfg(test)]
mod hostile_upstream;
#[cfg(test)]
mod judge;
#[cfg(test)]
mod judged_replicas;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod quota;
#[cfg(test)]
mod replicas;
#[cfg(test)]
mod routing;
#[cfg(test)]
mod shared_ledger;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod soak;
#[cfg(test)]
mod store;
#[cfg(test)]
mod streaming;
#[cfg(test)]
mod supervision;
#[cfg(test)]
mod tenants;
#[cfg(test)]
mod upstream_word;
#[cfg(test)]
mod waiting;
#[cfg(test)]
mod why_not;
