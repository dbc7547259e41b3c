//! Those whom a ledger has not answered yet, and until when each of them waits.

use std::collections::{BTreeSet, HashMap};

use crate::domain::clock::Moment;
use crate::quota::Ticket;

/// What waits under a ticket. As many as are asked for; that is the asker's bound.
#[derive(Debug)]
pub(super) struct Pending<T> {
    waiting: HashMap<Ticket, (Moment, T)>,
    deadlines: BTreeSet<(Moment, Ticket)>,
}

impl<T> Default for Pending<T> {
    fn default() -> Self {
        Self { waiting: HashMap::new(), deadlines: BTreeSet::new() }
    }
}

impl<T> Pending<T> {
    pub(super) fn insert(&mut self, ticket: Ticket, until: Moment, waits: T) {
        if let Some((earlier, _)) = self.waiting.insert(ticket, (until, waits)) {
            self.deadlines.remove(&(earlier, ticket));
        }
        self.deadlines.insert((until, ticket));
    }

    /// The one under that ticket, unless it has been given up.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<T> {
        let (until, waits) = self.waiting.remove(&ticket)?;
        self.deadlines.remove(&(until, ticket));
        Some(waits)
    }

    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.deadlines.first().map(|(until, _)| *until)
    }

    /// One that has waited long enough.
    pub(super) fn pop_overdue(&mut self, now: Moment) -> Option<T> {
        let (_, ticket) = self.deadlines.first().copied().filter(|(until, _)| *until <= now)?;
        self.take(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLY: Moment = Moment::from_unix_micros(1);
    const LATE: Moment = Moment::from_unix_micros(2);

    #[test]
    fn who_is_overdue_comes_out_once_in_order() {
        let mut pending = Pending::default();
        pending.insert(Ticket(1), LATE, "late");
        pending.insert(Ticket(2), EARLY, "early");
        pending.insert(Ticket(3), EARLY, "answered");
        assert_eq!(pending.take(Ticket(3)), Some("answered"));
        assert_eq!(pending.next_deadline(), Some(EARLY));
        assert_eq!(pending.pop_overdue(EARLY), Some("early"));
        assert_eq!((pending.pop_overdue(EARLY), pending.take(Ticket(2))), (None, None));
        assert_eq!(pending.pop_overdue(LATE), Some("late"));
        assert_eq!((pending.next_deadline(), pending.waiting.len()), (None, 0));
    }
}
