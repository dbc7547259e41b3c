//! Where requests wait for capacity: one room for the whole process (`docs/adr/0006`).
//!
//! [`FairQueue`](queue::FairQueue) decides, purely: who is offered a provider's room, in which order, and who has
//! waited long enough. [`WaitRoom`] carries it out: a short lock around the decision, a oneshot to each worker's
//! waiting request, one timer for all of them.
//!
//! ```text
//!              park                    offer                       granted
//!  (no seat) ───────> Waiting ───────────────────> Offered ─────────────────────> (gone)
//!                      │   ^                         │  │                            ^
//!                      │   └── back, to its old place┘  └── its client left ─────────┤
//!                      └── deadline, its client left, or its tenant had too many ────┘
//! ```
//!
//! Invariants: whenever a provider may have room, an offer of it is outstanding or nobody who waits can use it;
//! nobody has two offers; who is refused keeps place and deficit; nobody waits beyond the deadline. The books stay
//! the authority: an offer is leave to ask them, not a grant. Knows nothing of HTTP or stores.

mod arrival;
mod entry;
mod floor;
mod gauges;
mod layout;
mod line;
mod pace;
mod places;
mod provider_queue;
mod queue;
mod refusals;
mod room;
mod size;
mod snapshot;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub(super) use arrival::{Arrival, Notice, Over};
pub(super) use queue::{Door, NoSeat};
pub(super) use refusals::{Cause, Shut};
pub use room::WaitRoom;
pub(super) use size::Size;
pub use snapshot::{TenantWaiting, WaitRoomSnapshot};
