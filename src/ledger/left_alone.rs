//! An account, or a part of it, that is left alone.

use crate::domain::clock::Moment;
use crate::domain::cooldown::CooldownReason;
use crate::quota::{AccountIndex, CooldownScope};

/// Who is left alone until when, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftAlone {
    pub account: AccountIndex,
    pub scope: CooldownScope,
    pub until: Moment,
    pub reason: CooldownReason,
    /// How many waits there were in a row for want of an instant; see [`Escalation`](crate::quota::Escalation).
    pub level: u32,
}
