//! Where requests wait for capacity: one room for the whole process (`docs/adr/0006`).
//!
//! [`FairQueue`] decides, purely: who is offered a provider's room, in which order, and who has
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

mod apart;
mod arrival;
mod classes;
mod entry;
mod gauges;
mod keyed;
mod layout;
mod line;
mod pace;
mod passed_over;
mod places;
mod provider_queue;
mod queue;
mod refusals;
mod room;
mod sight;
mod size;
mod snapshot;
mod turns;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

pub use arrival::{Arrival, Notice, Over};
pub use gauges::Gauges;
pub use queue::{Door, FairQueue, NoSeat, Wake};
pub use refusals::{Cause, Shut};
pub(super) use room::Apart;
pub use room::WaitRoom;
pub use sight::Groups;
pub use size::Size;
pub use snapshot::{TenantWaiting, WaitRoomSnapshot};
