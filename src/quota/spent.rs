//! How an attempt ended, as far as its budgets care.

use crate::domain::usage::Usage;

/// How an attempt ended. Where it ended in several ways, the one that happened first counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// No byte was sent: everything is given back at once.
    NotSent,
    /// The answer, or an error answer, came to its end now.
    Ended(Charge),
    /// We closed the call now, before its end: the client left, a timeout, a cut answer. Upstream may notice
    /// that late, and work and count until then.
    Aborted(Charge),
}

/// What is known of the tokens that an attempt used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// Upstream's word: replaces the estimate, downwards too.
    Exact(Usage),
    /// Our own count, or a report that was cut: may charge more than was reserved, refunds nothing.
    AtLeast(Usage),
}
