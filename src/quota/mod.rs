//! The arithmetic of upstream limits: never over one, nothing wasted below it.
//!
//! A [`Book`] has a budget for every limit of every account of one provider. [`Book::reserve`] takes an attempt's
//! units from all budgets that bind it, or from none; the [`Hold`] that it grants is told of the first byte of the
//! answer and closed by [`Book::settle`]. How much is held until when is the hold rule's, in `hold_rule.rs`: always
//! until a window after the last instant at which upstream can have counted it.
//!
//! ```text
//!            reserve                first_byte               settle(Ended | Aborted)
//!  (nothing) ───────> held, open ──────────────> held, open ─────────────────────────> held until an instant
//!                        │                          requests have their release            │ window over
//!                        └── settle(NotSent) ──> (nothing) <───────────────────────────────┘
//! ```
//!
//! Invariant: what is granted never brings a budget above its maximum; only use above the estimate does, and is
//! paid before anything else is granted. Pure: no I/O, no clock but the `now` of each call, no actors; knows
//! nothing of HTTP or stores.
//!
//! Beside the upstream limits live the tenants' own, which span providers: a [`TenantBook`] each, in
//! [`TenantBooks`]; and [`Shares`], by which tenants divide what the gateway itself has.

mod account_pool;
mod answer;
mod book;
mod budget;
mod cooldown;
mod cooldown_scope;
mod demand;
mod escalation;
pub mod estimate;
mod hold;
mod hold_rule;
mod layout;
mod output_cap;
mod record;
mod refusal;
mod release_log;
mod remaining;
mod snapshot;
mod span;
mod spent;
mod tenant;
mod terms;
mod time_of_day;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod utilisation;

pub use answer::{Answer, Ticket};
pub use book::Book;
pub use cooldown_scope::{CooldownScope, PoolIndex, Pools};
pub use demand::{AccountIndex, Demand, ModelIndex};
pub use escalation::{Escalation, PROBE_PATIENCE, ProbeSerial};
pub use hold::Hold;
pub use hold_rule::{Finish, LATE_COUNT};
pub use layout::{BookLimit, LimitIndex};
pub use output_cap::OutputCap;
pub use record::HoldRecord;
pub use refusal::Refusal;
pub use remaining::{Left, Remaining};
pub use snapshot::{BookSnapshot, BudgetSnapshot, CooldownSnapshot};
pub use spent::{Charge, Spent};
pub use tenant::{
    Denied, Gauge, Remaining as TenantRemaining, Shares, TenantBook, TenantBooks, TenantDemand, TenantGuard,
    TenantHold,
};
pub use terms::{Claim, Term, Terms};
