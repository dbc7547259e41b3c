//! The requests of one tenant that wait for one provider.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound::{Excluded, Unbounded};

use super::entry::Entry;
use super::floor::Floor;
use super::provider_queue::Sight;
use super::size::Size;
use crate::domain::clock::Moment;

/// What a tenant's deficit gains at each of its turns, for each of its weight: the cost of the smallest request.
/// Chosen: any larger quantum lets a tenant serve several requests in a row; what costs more waits for more turns.
const QUANTUM: u64 = 1;

/// A tenant's requests at one provider, first come first served, and its account in the deficit round robin.
#[derive(Debug)]
pub(super) struct Line {
    weight: u32,
    deficit: u64,
    /// By the number of the request, which is the order of arrival.
    spots: BTreeMap<u64, Spot>,
    floor: Floor,
    /// Up to here nobody can use what is left of this round: nothing but a new round or somebody's return changes it.
    scanned: Option<u64>,
    /// Of those up to there, the ones who have come back since.
    returned: BTreeSet<u64>,
}

/// One request's place in a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spot {
    pub(super) size: Size,
    pub(super) since: Moment,
    /// The round in which the provider has refused it last.
    pub(super) refused_in: Option<u64>,
    /// The group of its best model here, and how much had been granted there by then.
    pub(super) group: usize,
    pub(super) granted_before: u64,
    /// Grants to others there after it had been refused, over all rounds that ended while it was its tenant's oldest.
    pub(super) passed_over: u64,
}

impl Spot {
    fn new(size: Size, since: Moment) -> Self {
        Self { size, since, refused_in: None, group: 0, granted_before: 0, passed_over: 0 }
    }
}

impl Line {
    pub(super) fn new(weight: u32) -> Self {
        Self {
            weight: weight.max(1),
            deficit: 0,
            spots: BTreeMap::new(),
            floor: Floor::default(),
            scanned: None,
            returned: BTreeSet::new(),
        }
    }

    pub(super) fn set_weight(&mut self, weight: u32) {
        self.weight = weight.max(1);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spots.is_empty()
    }

    pub(super) fn insert(&mut self, number: u64, size: Size, since: Moment) {
        self.spots.insert(number, Spot::new(size, since));
        self.floor.add(&size);
        self.look_again_at(number);
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.spots.remove(&number);
        self.returned.remove(&number);
    }

    pub(super) fn spot_mut(&mut self, number: u64) -> Option<&mut Spot> {
        self.spots.get_mut(&number)
    }

    pub(super) fn spot(&self, number: u64) -> Option<&Spot> {
        self.spots.get(&number)
    }

    /// The round ends, with so much granted in each group: whoever was refused in it has been passed over by what was
    /// granted after that. Kept of the oldest alone.
    pub(super) fn end_round(&mut self, round: u64, granted: &[u64]) {
        if let Some(mut oldest) = self.spots.first_entry()
            && oldest.get().refused_in == Some(round)
        {
            let spot = oldest.get_mut();
            let passed = granted.get(spot.group).map_or(0, |now| now.saturating_sub(spot.granted_before));
            spot.passed_over = spot.passed_over.saturating_add(passed);
        }
    }

    /// Its oldest request.
    pub(super) fn oldest(&self) -> Option<(u64, &Spot)> {
        self.spots.first_key_value().map(|(number, spot)| (*number, spot))
    }

    /// The smallest sizes here.
    pub(super) fn floor(&self) -> &Floor {
        &self.floor
    }

    /// All of them may be eligible again.
    pub(super) fn look_again(&mut self) {
        self.scanned = None;
        self.returned.clear();
    }

    /// That one may be eligible again.
    pub(super) fn look_again_at(&mut self, number: u64) {
        if self.scanned.is_some_and(|scanned| scanned >= number) {
            self.returned.insert(number);
        }
    }

    /// The first request that can use what the provider may have, and what it costs. Over a whole round this looks at
    /// each request once, and at none of a line whose smallest sizes have been refused.
    pub(super) fn first<W>(
        &mut self,
        sight: &Sight<'_>,
        entries: &HashMap<u64, Entry<W>>,
    ) -> Option<(u64, u64)> {
        let cost = |number: u64, spot: &Spot| {
            // Most that cannot use it are too large, which their place says.
            if !sight.may_fit(number, &spot.size) {
                return None;
            }
            entries.get(&number).filter(|entry| sight.fits(number, spot, entry))?;
            Some((number, spot.size.cost()))
        };
        if !self.floor.sizes().any(|size| sight.may_fit_one(size)) {
            return None;
        }
        while let Some(number) = self.returned.first().copied() {
            let first = self.spots.get(&number).and_then(|spot| cost(number, spot));
            if first.is_some() {
                return first;
            }
            self.returned.remove(&number);
        }
        let looked_to = self.scanned;
        let from = looked_to.map_or(Unbounded, Excluded);
        for (number, spot) in self.spots.range((from, Unbounded)) {
            let first = cost(*number, spot);
            if first.is_some() {
                return first;
            }
            self.scanned = Some(*number);
        }
        // It has looked in vain: the sizes of those who have left are not to mislead it again.
        if self.scanned != looked_to {
            self.floor = Floor::of(self.spots.values().map(|spot| &spot.size));
        }
        None
    }

    pub(super) fn affords(&self, cost: u64) -> bool {
        self.deficit >= cost
    }

    /// Its turn has come: where the deficit is too small for `cost` it grows by one quantum. One that is large enough
    /// already, because what it was for was refused, does not grow, so that it stays bounded.
    pub(super) fn visit(&mut self, cost: u64) {
        if !self.affords(cost) {
            self.gain(1);
        }
    }

    /// So many turns at once.
    pub(super) fn gain(&mut self, turns: u64) {
        self.deficit = self.deficit.saturating_add(self.quantum().saturating_mul(turns));
    }

    /// How many turns are missing until `cost` can be afforded.
    pub(super) fn turns_short(&self, cost: u64) -> u64 {
        cost.saturating_sub(self.deficit).div_ceil(self.quantum())
    }

    pub(super) fn charge(&mut self, cost: u64) {
        self.deficit = self.deficit.saturating_sub(cost);
    }

    fn quantum(&self) -> u64 {
        QUANTUM.saturating_mul(u64::from(self.weight))
    }
}
