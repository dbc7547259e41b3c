//! Our own books' "no".

use crate::domain::clock::Moment;

/// Why an attempt may not be made now. "Not yet" and "never" are two answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Asking again makes sense at this instant, not before.
    ///
    /// Where all that stands in the way is settled, or a cooldown, the instant is exact: asking a microsecond
    /// earlier is refused again, asking then is granted (unless others took the room). Units of open attempts
    /// may come back earlier than scheduled; see [`Book::reserve`](super::Book::reserve).
    /// [`Moment::NEVER`] when no account will come back by itself.
    NotUntil(Moment),
    /// More than the whole of some limit, on every account.
    TooLarge,
}
