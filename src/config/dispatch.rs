//! `[dispatch]`: how requests become attempts, and how long anything may take.

use std::time::Duration;

use crate::domain::chat::Strategy;
use crate::domain::provider::Timeouts;

use super::duration::{duration, positive, text};
use super::reader::Section;
use super::scalar::{choice, count};
use super::size::size;

/// How requests are dispatched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DispatchSettings {
    /// By what candidates are ordered when the client does not say.
    pub strategy: Strategy,
    /// How long a request may wait for capacity; a client may lower it, not raise it.
    pub max_wait: Duration,
    /// Requests that wait at once; at least 1.
    pub max_waiting: usize,
    /// Upstream calls for one request; at least 1.
    pub max_attempts: u32,
    /// What holds for every attempt unless the provider states its own.
    pub timeouts: Timeouts,
    /// A client that takes no byte for so long is cut off.
    pub client_stall_timeout: Duration,
    /// A silent wait is bridged by a comment so often; above zero.
    pub heartbeat: Duration,
    /// The largest answer that is not streamed, in bytes.
    pub response_body_limit: usize,
}

const STRATEGIES: [(&str, Strategy); 3] =
    [("smart", Strategy::Smart), ("fast", Strategy::Fast), ("balanced", Strategy::Balanced)];

/// Reads the section; `timeouts` are its own, read before, because the providers' are checked against them even
/// when something else here is wrong.
pub(super) fn read(section: &mut Section<'_>, timeouts: Option<Timeouts>) -> Option<DispatchSettings> {
    let strategy = section.required("strategy", choice(&STRATEGIES));
    let max_wait = section.required("max_wait", duration);
    let max_waiting = section.required("max_waiting", count);
    let max_attempts = section.required("max_attempts", count);
    let client_stall_timeout = section.required("client_stall_timeout", positive);
    let heartbeat = section.required("heartbeat", positive);
    let response_body_limit = section.required("response_body_limit", size);
    check_heartbeat(section, heartbeat, timeouts);
    Some(DispatchSettings {
        strategy: strategy?,
        max_wait: max_wait?,
        max_waiting: max_waiting?,
        max_attempts: max_attempts?,
        timeouts: timeouts?,
        client_stall_timeout: client_stall_timeout?,
        heartbeat: heartbeat?,
        response_body_limit: response_body_limit?,
    })
}

/// A heartbeat that comes no earlier than the timeout would never be sent.
fn check_heartbeat(section: &mut Section<'_>, heartbeat: Option<Duration>, timeouts: Option<Timeouts>) {
    if let (Some(heartbeat), Some(timeouts)) = (heartbeat, timeouts)
        && heartbeat >= timeouts.first_token
    {
        let limit = text(timeouts.first_token);
        section.problem(
            "heartbeat",
            format!("{:?} must be shorter than first_token_timeout ({limit:?})", text(heartbeat)),
        );
    }
}
