//! What goes back to the edge for one request.

use bytes::Bytes;
use send_wrapper::SendWrapper;

use super::served::Served;
use super::stream::EventStream;
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
