//! What the integration tests stand on.

pub(crate) mod app;
pub(crate) mod database;
pub(crate) mod fake_upstream;
pub(crate) mod judge;
pub(crate) mod postgres;
pub(crate) mod proxy;
pub(crate) mod random;
pub(crate) mod raw_client;
pub(crate) mod recorded_request;
pub(crate) mod reply;
