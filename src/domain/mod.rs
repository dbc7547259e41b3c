//! The vocabulary of the gateway: ids, time, limits, providers, chats and usage.
//!
//! No I/O, no actors, no HTTP types; depends on no other room, and every other room may depend on it.

pub mod bits;
pub mod calendar;
pub mod chat;
pub mod clock;
pub mod consequence;
pub mod cooldown;
pub mod error_chain;
pub mod failure;
pub mod ids;
pub mod input_tokens;
pub mod limit;
pub mod panics;
pub mod pause;
pub mod price;
pub mod provider;
pub mod secret;
pub mod signals;
pub mod tenant;
pub mod usage;
