//! What goes back to the edge for one request.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use send_wrapper::SendWrapper;

use super::stream::EventStream;
use crate::domain::ids::ProviderId;
use crate::error::GatewayError;
use crate::stats::Completion;

/// The one answer to a job.
#[derive(Debug)]
pub enum Answer {
    /// A complete chat completion.
    Whole(Box<Whole>),
    /// The first event is there, the others follow. The wrapper holds because the edge of the same worker
    /// takes it: it may not be touched, nor dropped, on another thread.
    Stream(SendWrapper<Box<EventStream>>),
    /// Nobody answers.
    Refused(GatewayError),
}

/// A complete chat completion as the upstream sent it, checked.
#[derive(Debug)]
pub struct Whole {
    pub body: Bytes,
    pub served: Served,
    /// To be finished when the answer has gone out.
    pub completion: Completion,
}

/// Who served a request, as the client is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    pub provider: ProviderId,
    pub model: Arc<str>,
    pub display_name: Arc<str>,
    /// Attempts that failed before this one.
    pub fallback_attempts: u32,
    /// Time spent waiting for capacity.
    pub queue_wait: Duration,
}
