//! Which places of the queue each tenant has.

use std::collections::{BTreeMap, BTreeSet};

use super::snapshot::TenantWaiting;
use crate::domain::ids::TenantId;

/// The numbers of those who wait, by tenant. How many each may have is decided by `quota::Shares`.
#[derive(Debug, Default)]
pub(super) struct Places(BTreeMap<TenantId, Holding>);

#[derive(Debug)]
struct Holding {
    weight: u32,
    numbers: BTreeSet<u64>,
}

impl Places {
    pub(super) fn add(&mut self, tenant: TenantId, weight: u32, number: u64) {
        let holding = self.0.entry(tenant).or_insert(Holding { weight, numbers: BTreeSet::new() });
        holding.weight = weight;
        holding.numbers.insert(number);
    }

    pub(super) fn remove(&mut self, tenant: TenantId, number: u64) {
        let Some(holding) = self.0.get_mut(&tenant) else { return };
        holding.numbers.remove(&number);
        if holding.numbers.is_empty() {
            self.0.remove(&tenant);
        }
    }

    /// The weight that the tenant was told of last.
    pub(super) fn weight(&self, tenant: TenantId) -> u32 {
        self.0.get(&tenant).map_or(1, |holding| holding.weight)
    }

    /// The places of that tenant, the newest first.
    pub(super) fn newest(&self, tenant: TenantId) -> impl Iterator<Item = u64> + '_ {
        self.0.get(&tenant).into_iter().flat_map(|holding| holding.numbers.iter().rev().copied())
    }

    /// About how many are served before that one, and itself: those of its own tenant before it, and of every other
    /// tenant as many as its weight lets pass meanwhile.
    pub(super) fn position(&self, tenant: TenantId, number: u64) -> usize {
        let Some(own) = self.0.get(&tenant) else { return 1 };
        let rank = own.numbers.range(..=number).count().max(1);
        let others = self.0.iter().filter(|(id, _)| **id != tenant).map(|(_, holding)| {
            let pass = rank as u128 * u128::from(holding.weight) / u128::from(own.weight.max(1));
            holding.numbers.len().min(usize::try_from(pass).unwrap_or(usize::MAX))
        });
        rank.saturating_add(others.sum())
    }

    pub(super) fn snapshot(&self) -> Vec<TenantWaiting> {
        let waiting = |(tenant, holding): (&TenantId, &Holding)| TenantWaiting {
            tenant: *tenant,
            waiting: holding.numbers.len(),
        };
        self.0.iter().map(waiting).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOG: TenantId = TenantId(1);
    const SMALL: TenantId = TenantId(2);

    #[test]
    fn a_position_counts_what_the_weights_let_pass() {
        let mut places = Places::default();
        (0..100).for_each(|number| places.add(HOG, 1, number));
        (200..202).for_each(|number| places.add(SMALL, 1, number));
        assert_eq!(places.position(SMALL, 200), 2);
        assert_eq!(places.position(SMALL, 201), 4);
        assert_eq!(places.position(HOG, 49), 52);
    }
}
