//! A strict upstream: counts every call in every way an upstream is known to count, refuses where any count is over,
//! and keeps a log from which verdicts are spoken afterwards.
//!
//! Knows nothing of how the gateway keeps its budgets: what it takes as a call's instant is when bytes came or went
//! on its own socket.

pub(crate) mod call;
pub(crate) mod counter;
pub(crate) mod upstream;
pub(crate) mod verdict;
