//! Those who wait for their tenant's own limits.

use std::collections::BTreeMap;

use crate::domain::ids::TenantId;

/// A line for each tenant, in the order of arrival. Only its first asks the tenant's limits; the others are woken when
/// they have become the first, so that a thousand of them ask no more often than one.
#[derive(Debug)]
pub(super) struct ApartLines<W>(BTreeMap<TenantId, BTreeMap<u64, Option<W>>>);

impl<W> Default for ApartLines<W> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<W> ApartLines<W> {
    /// Whether somebody of that tenant waits here who came before that number, or before now.
    pub(super) fn is_behind(&self, tenant: TenantId, number: Option<u64>) -> bool {
        let first = self.0.get(&tenant).and_then(|line| line.keys().next());
        first.is_some_and(|first| number.is_none_or(|number| *first < number))
    }

    /// Takes one in; whether it is the first, whom nobody wakes.
    pub(super) fn join(&mut self, tenant: TenantId, number: u64, waker: W) -> bool {
        let is_behind = self.is_behind(tenant, Some(number));
        self.0.entry(tenant).or_default().insert(number, is_behind.then_some(waker));
        !is_behind
    }

    /// Takes one out; whom to wake because it is the first now.
    pub(super) fn leave(&mut self, tenant: TenantId, number: u64) -> Option<W> {
        let line = self.0.get_mut(&tenant)?;
        line.remove(&number);
        if line.is_empty() {
            self.0.remove(&tenant);
            return None;
        }
        // One that was the first before an older one came has been woken, or asks by its own timer.
        line.first_entry()?.get_mut().take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: TenantId = TenantId(1);
    const OTHER: TenantId = TenantId(2);

    #[test]
    fn only_the_first_of_a_tenant_asks_and_the_others_follow_in_their_order() {
        let mut lines = ApartLines::default();
        assert!(lines.join(ONE, 3, 'c'));
        assert!(!lines.join(ONE, 7, 'g'));
        assert!(!lines.join(ONE, 5, 'e'));
        assert!(lines.join(OTHER, 9, 'i'), "another tenant has its own");
        assert!(
            lines.is_behind(ONE, None) && lines.is_behind(ONE, Some(4)) && !lines.is_behind(ONE, Some(3))
        );
        assert_eq!(lines.leave(ONE, 3), Some('e'));
        assert_eq!(lines.leave(ONE, 7), None, "the first has been woken already");
        assert_eq!(lines.leave(ONE, 5), None);
        assert!(!lines.is_behind(ONE, None));
    }

    #[test]
    fn an_older_one_that_comes_back_is_the_first() {
        let mut lines = ApartLines::default();
        assert!(lines.join(ONE, 7, 'g'));
        assert!(lines.join(ONE, 3, 'c'));
        assert!(lines.is_behind(ONE, Some(7)));
        assert_eq!(lines.leave(ONE, 3), None, "who was the first before asks by its own timer");
    }
}
