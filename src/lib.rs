//! FreeLLMAPI: one endpoint and one Bearer key in front of the free tiers of many LLM providers.
//!
//! The rooms, from the edge inwards; `docs/ARCHITECTURE.md` walks one request through them.
//!
//! | room | duty |
//! |---|---|
//! | [`cli`] | the commands; no logic of their own |
//! | [`app`] | the composition root: builds, wires, runs and drains everything |
//! | [`api`] | HTTP in and out: authenticate, admit, parse, render |
//! | [`dispatcher`] | turns one request into attempts; parent of the provider actors |
//! | [`provider`] | owns one provider's keys, quotas and connections; runs attempts, streams back |
//! | [`routing`] | which candidates, in which order, and what follows a failure; pure |
//! | [`quota`] | the arithmetic of limits; pure |
//! | [`ledger`] | keeps what is held of limits through restarts, and shares it between replicas; one owner per process |
//! | [`stats`] | completion events, batched |
//! | [`access`] | who may enter: keys, pepper, master key |
//! | [`db`] | all SQL, on two backends |
//! | [`config`] | from files and environment to valid types |
//! | [`demo`] | simulated providers |
//! | [`metrics`] | what is counted for `/metrics`, and its text |
//! | [`domain`] | the vocabulary: ids, time, limits, providers, chats, usage |

pub mod access;
pub mod api;
pub mod app;
pub mod cli;
pub mod config;
pub mod db;
pub mod demo;
pub mod dispatcher;
pub mod domain;
pub mod error;
pub mod ledger;
pub mod metrics;
pub mod provider;
pub mod quota;
pub mod routing;
pub mod stats;
pub mod telemetry;
