//! What may be said to a [`Dispatcher`](super::Dispatcher).

use std::sync::Arc;
use std::time::Duration;

use actix::Message;
use serde::Serialize;
use tokio::sync::oneshot;

use super::wait_room::{Apart, Notice, WaitRoomSnapshot};
use crate::domain::chat::ChatRequest;
use crate::domain::ids::{ProviderId, RequestId};
use crate::provider::{Answer, Job};
use crate::routing::WhyNotSnapshot;
use crate::stats::Completion;

/// Asks for an answer to a chat. Sent by the edge of the same worker for a request that holds an admission
/// permit. Exactly one answer comes over `reply`; none means that the request was lost to a fault of ours.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Dispatch {
    pub request: Arc<ChatRequest>,
    /// Records the request when it ends, whatever becomes of it.
    pub completion: Completion,
    /// How long the client lets us wait for capacity; the configured bound holds all the same.
    pub max_wait: Option<Duration>,
    /// The client has left when its other end is closed.
    pub reply: oneshot::Sender<Answer>,
}

/// The dispatcher's word to itself: a request has waited, and this has ended its wait.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Resume {
    pub(super) job: Box<Job>,
    pub(super) woken: Woken,
}

/// What ends a wait.
#[derive(Debug)]
pub(super) enum Woken {
    /// The wait room has something to say.
    Told(Notice),
    /// It may ask its tenant's limits again, of which it has this place.
    InTime(Apart),
    /// The wait room has forgotten it, which is a fault of ours.
    Forgotten,
}

/// Asks for a [`DispatcherSnapshot`].
#[derive(Debug, Message)]
#[rtype(result = "DispatcherSnapshot")]
pub struct ObserveDispatcher;

/// The state of one worker's dispatcher.
#[derive(Clone, Debug, Serialize)]
pub struct DispatcherSnapshot {
    /// Requests that wait for capacity, in the whole process.
    pub waiting: usize,
    /// Of the whole process.
    pub wait_room: WaitRoomSnapshot,
    /// Panics survived so far, in the whole process.
    pub panics: u64,
    pub children: Vec<ChildSnapshot>,
    /// The last requests that nobody answered, the latest last.
    pub refusals: Vec<RefusalSnapshot>,
}

/// A request that nobody answered, and why each candidate did not.
#[derive(Clone, Debug, Serialize)]
pub struct RefusalSnapshot {
    pub request_id: RequestId,
    pub status: u16,
    pub why_not: Vec<WhyNotSnapshot>,
}

/// One provider actor, as its parent sees it.
#[derive(Clone, Debug, Serialize)]
pub struct ChildSnapshot {
    pub provider: ProviderId,
    pub is_alive: bool,
    pub restarts: u32,
}
