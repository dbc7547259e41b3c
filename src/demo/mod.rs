//! Simulated providers: real OpenAI-compatible HTTP servers on loopback, for `freellmapi demo` and for tests.
//!
//! Each server judges its callers by the limits that the original documentation states for its provider, with
//! counting of its own: this room must not know `quota`, or a mistake there would excuse itself here.
//! Nothing but `cli` and tests may use it, and nothing in it opens a port beyond 127.0.0.1.
//!
//! One request: `server` reads it with `request`, `provider` counts it in the books of the `judge` and may draw a
//! `fault`, `speech` (or `tool_call`) makes up the answer, `completion` gives it OpenAI's shape, `stream` sends it at
//! the tempo of the provider's `persona`, and the `call` is closed when the last byte went out or the caller left.

mod behaviour;
mod call;
mod complaint;
mod completion;
mod fault;
#[cfg(test)]
mod fixture;
mod judge;
mod persona;
mod provider;
mod random;
mod refusal;
mod request;
mod server;
mod settings;
mod simulation;
mod speech;
mod stream;
mod tool_call;

pub use behaviour::{Behaviour, Pace};
pub use settings::simulated_specs;
pub use simulation::Simulation;
