//! What an attempt is told.

use crate::domain::clock::Moment;

/// The answer to one claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Granted {
        /// A position in the claim's accounts.
        account: usize,
        /// The attempt is sent by this instant or not at all.
        send_by: Moment,
        /// Whether this attempt alone finds out whether a cooldown is over: its settlement must say how it came out.
        is_probe: bool,
    },
    /// No room before this instant.
    NotUntil(Moment),
    /// More than a limit's maximum on every account.
    TooLarge,
    /// The ledger is away, slow or overloaded: nothing is held; ask again then.
    Away(Moment),
}

/// Called once with the answer, on the owner's thread or, when the answer is known at once, on the asker's: it must
/// only pass the answer on.
pub type Answer = Box<dyn FnOnce(Verdict) + Send>;
