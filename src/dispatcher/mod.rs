//! One request, many candidates: the dispatcher asks them in order until one answers.
//!
//! Every worker has a [`Dispatcher`], the parent of that worker's provider actors. It never sees a byte of an
//! answer: what it hands on goes from the provider actor straight to the edge. Knows no HTTP and no SQL.

mod actor;
mod course;
mod handle;
mod messages;
mod reasons;
mod refusals;
mod roster;
mod router;
mod tenant_units;
mod wait_room;

pub use actor::{Dispatcher, DispatcherSettings};
pub use handle::DispatcherHandle;
pub use messages::{Dispatch, DispatcherSnapshot, ObserveDispatcher, RefusalSnapshot};
pub use roster::{Roster, StartProvider};
pub use router::{Conversations, Router};
pub use wait_room::{
    Arrival, Cause, Door, FairQueue, Gauges, Groups, NoSeat, Notice, Over, Shut, Size, TenantWaiting,
    WaitRoom, WaitRoomSnapshot, Wake,
};
