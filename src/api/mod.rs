//! HTTP in and out: authenticate, admit, parse, hand to the dispatcher, render.
//!
//! The edge; nobody calls it. The only room, beside `app`, that knows actix-web's server side.

mod admission;
mod answer_head;
mod auth;
mod body;
mod chat;
mod chat_fields;
mod chat_messages;
mod cors;
mod edge;
mod error;
mod health;
mod held_body;
mod listener;
mod metrics;
mod openai;
mod opening;
mod original;
mod rate_limit;
mod rebuffs;
mod routes;
mod served;
mod sse_body;
mod strict_json;
mod surface;

pub use admission::Permits;
pub use answer_head::tag_request;
pub use cors::allow_origins;
pub use edge::{Edge, EdgeSettings, Readiness};
pub use listener::listen;
pub use metrics::Scrape;
pub use routes::configure;
