//! A hold as plain data.

use super::demand::{AccountIndex, ModelIndex};
use super::hold_rule::{Course, Finish};
use crate::domain::clock::Moment;
use crate::domain::usage::Usage;

/// What is known of one attempt: what a ledger writes down, and what a book is filled from again after a restart.
/// What it holds of each limit follows from it by the hold rule, also when limits have changed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldRecord {
    pub account: AccountIndex,
    pub model: ModelIndex,
    /// The tokens that the grant took.
    pub reserved: Usage,
    /// The latest instant of sending.
    pub send_by: Moment,
    /// When the first byte of the answer arrived.
    pub first_byte: Option<Moment>,
    /// `None` while the attempt goes on.
    pub finish: Option<Finish>,
}

impl HoldRecord {
    /// What the hold rule asks for, as far as it is recorded.
    pub(super) fn course(&self) -> Course {
        Course {
            reserved: self.reserved,
            send_by: self.send_by,
            first_byte: self.first_byte,
            finish: self.finish,
        }
    }

    /// The same of an attempt that nobody watches any more: it came to its end at `now`, without a word.
    pub(super) fn course_at(&self, now: Moment) -> Course {
        let finish = self.finish.unwrap_or(Finish::Aborted(now, super::Charge::AtLeast(Usage::default())));
        Course { finish: Some(finish), ..self.course() }
    }
}
