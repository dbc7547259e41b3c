//! OpenAI's API: `/v1/…`.

pub(super) mod chat;
pub(super) mod models;
