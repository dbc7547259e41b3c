//! From the operator's sources (a file, the environment) to types that cannot hold nonsense.
//!
//! Everything that is wrong in all sources together is reported in one run, each problem with its source, its
//! full key and what would be right; past [`load()`] nothing checks again. Secrets come only from the environment
//! and never appear in a problem. This room reads files but opens no connection and knows no other room than
//! `domain`.
//!
//! The layers, later ones win key by key: the documented default and the shipped providers (both built into the
//! binary), the operator's file, the environment.

mod access;
mod account;
mod base_url;
mod dispatch;
mod document;
mod duration;
mod environment;
mod layers;
mod limit;
mod load;
mod model;
mod price;
mod problem;
mod provider;
mod provider_checks;
mod quirks;
mod reader;
mod scalar;
mod server;
mod settings;
mod shipped;
mod signals;
mod size;
mod stats;
mod store;
mod suggestion;
mod timeouts;
mod warnings;

#[cfg(test)]
mod tests;

pub use access::AccessSettings;
pub use dispatch::DispatchSettings;
pub use duration::parse as parse_duration;
pub use load::{Sources, built_in, load, shipped_providers};
pub use problem::{Problem, Problems};
pub use server::ServerSettings;
pub use settings::Settings;
pub use stats::StatsSettings;
pub use store::StoreSettings;
