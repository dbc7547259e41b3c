//! Who may hold how much of something that all tenants share; pure.
//!
//! Up to half of it anybody gets some at once. Above that no tenant holds more than its share by weight among those
//! that hold some or want some now; who is alone may have it all. Nothing is taken away from its holder: a share
//! that a newcomer has is kept free for it as the others' parts come back.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::domain::clock::Moment;
use crate::domain::ids::TenantId;

/// How long a tenant that was refused counts as one that wants some. Chosen: twice the second after which
/// it is told to ask again, so that what came free for it is still there.
const WANT_LASTS: Duration = Duration::from_secs(2);

/// The parts that are held of `max`, by tenant. Bounded by the number of tenants.
#[derive(Debug)]
pub struct Shares {
    max: u64,
    held: u64,
    tenants: HashMap<TenantId, Claim>,
    /// The weights of all in `tenants`.
    weight: u64,
    /// Who wants some, by the instant at which that ends; each tenant once.
    wanting: BTreeSet<(Moment, TenantId)>,
}

/// One tenant that holds some or wants some.
#[derive(Debug)]
struct Claim {
    held: u64,
    weight: u64,
    wants_until: Option<Moment>,
}

/// Why there is nothing now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// All of it is held.
    Full,
    /// The tenant has its share.
    OverShare,
}

impl Shares {
    pub fn new(max: usize) -> Self {
        Self { max: max as u64, held: 0, tenants: HashMap::new(), weight: 0, wanting: BTreeSet::new() }
    }

    /// How many parts are held.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Takes one part for a tenant of this weight; it is given back with [`Shares::give_back`].
    ///
    /// # Errors
    /// [`Denied`]; the tenant counts as one that wants some for a while then.
    pub fn take(&mut self, tenant: TenantId, weight: u32, now: Moment) -> Result<(), Denied> {
        self.forget_wants(now);
        let weight = u64::from(weight.max(1));
        let claim = self.tenants.entry(tenant).or_insert(Claim { held: 0, weight: 0, wants_until: None });
        // It may have changed since the last time.
        self.weight = self.weight - claim.weight + weight;
        claim.weight = weight;
        let denied = if self.held >= self.max {
            Denied::Full
        } else if self.held >= self.max / 2 && claim.held >= share(self.max, weight, self.weight) {
            Denied::OverShare
        } else {
            self.held += 1;
            claim.held += 1;
            return Ok(());
        };
        self.want(tenant, now + WANT_LASTS);
        Err(denied)
    }

    /// Who could give up a part for `tenant`, which was just denied one, when all are held: of those that hold more
    /// than their share the one furthest above it, if `tenant` holds less than its own. For those who can take a part
    /// away from its holder. A walk over all tenants.
    pub fn makes_way_for(&self, tenant: TenantId) -> Option<TenantId> {
        let excess = |claim: &Claim| claim.held.saturating_sub(share(self.max, claim.weight, self.weight));
        let claim = self.tenants.get(&tenant)?;
        if self.held < self.max || claim.held >= share(self.max, claim.weight, self.weight) {
            return None;
        }
        let others = self.tenants.iter().filter(|(id, claim)| **id != tenant && excess(claim) > 0);
        others.max_by_key(|(id, claim)| (excess(claim), **id)).map(|(id, _)| *id)
    }

    /// Gives one part back.
    pub fn give_back(&mut self, tenant: TenantId) {
        let Entry::Occupied(mut entry) = self.tenants.entry(tenant) else { return };
        let claim = entry.get_mut();
        claim.held = claim.held.saturating_sub(1);
        self.held = self.held.saturating_sub(1);
        if claim.is_idle() {
            self.weight = self.weight.saturating_sub(entry.remove().weight);
        }
    }

    fn want(&mut self, tenant: TenantId, until: Moment) {
        let Some(claim) = self.tenants.get_mut(&tenant) else { return };
        if let Some(ended) = claim.wants_until.replace(until) {
            self.wanting.remove(&(ended, tenant));
        }
        self.wanting.insert((until, tenant));
    }

    fn forget_wants(&mut self, now: Moment) {
        while let Some((until, tenant)) = self.wanting.first().copied()
            && until <= now
        {
            self.wanting.remove(&(until, tenant));
            let Entry::Occupied(mut entry) = self.tenants.entry(tenant) else { continue };
            entry.get_mut().wants_until = None;
            if entry.get().is_idle() {
                self.weight = self.weight.saturating_sub(entry.remove().weight);
            }
        }
    }
}

impl Claim {
    fn is_idle(&self) -> bool {
        self.held == 0 && self.wants_until.is_none()
    }
}

/// What a tenant of this weight may hold of `max`; at least one, so that many tenants do not keep each other out.
fn share(max: u64, weight: u64, all_weights: u64) -> u64 {
    let share = u128::from(max) * u128::from(weight) / u128::from(all_weights.max(1));
    u64::try_from(share).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    const START: Moment = Moment::from_unix_micros(1_000_000_000);
    const A: TenantId = TenantId(1);
    const B: TenantId = TenantId(2);

    /// Takes until there is nothing more; how many it got.
    fn fill(shares: &mut Shares, tenant: TenantId, weight: u32, now: Moment) -> u64 {
        let mut taken = 0;
        while shares.take(tenant, weight, now).is_ok() {
            taken += 1;
        }
        taken
    }

    #[test]
    fn who_is_alone_has_it_all() {
        for max in [1, 2, 7, 100] {
            let mut shares = Shares::new(max);
            assert_eq!(fill(&mut shares, A, 1, START), max as u64);
            assert_eq!(shares.take(A, 1, START), Err(Denied::Full));
        }
    }

    #[test]
    fn a_newcomer_gets_its_share_as_parts_come_back() {
        let mut shares = Shares::new(100);
        fill(&mut shares, A, 1, START);
        assert_eq!(shares.take(B, 1, START), Err(Denied::Full));
        for _ in 0..50 {
            shares.give_back(A);
            assert_eq!(shares.take(A, 1, START), Err(Denied::OverShare));
            assert_eq!(shares.take(B, 1, START), Ok(()));
        }
        shares.give_back(A);
        assert_eq!(shares.take(B, 1, START), Err(Denied::OverShare));
        assert_eq!(shares.take(A, 1, START), Ok(()));
    }

    #[test]
    fn who_is_above_its_share_makes_way_for_who_is_below() {
        let mut shares = Shares::new(10);
        fill(&mut shares, A, 1, START);
        assert_eq!(shares.makes_way_for(A), None);
        for _ in 0..5 {
            assert_eq!(shares.take(B, 1, START), Err(Denied::Full));
            assert_eq!(shares.makes_way_for(B), Some(A));
            shares.give_back(A);
            assert_eq!(shares.take(B, 1, START), Ok(()));
        }
        assert_eq!(shares.take(B, 1, START), Err(Denied::Full));
        assert_eq!((shares.makes_way_for(B), shares.makes_way_for(A)), (None, None));
    }

    #[test]
    fn what_nobody_wants_any_more_is_anybodys() {
        let mut shares = Shares::new(10);
        fill(&mut shares, A, 1, START);
        assert_eq!(shares.take(B, 1, START), Err(Denied::Full));
        shares.give_back(A);
        assert_eq!(shares.take(A, 1, START), Err(Denied::OverShare));
        let later = START + WANT_LASTS;
        assert_eq!(shares.take(A, 1, later), Ok(()));
    }

    #[test]
    fn a_changed_weight_counts_from_the_next_request_on() {
        let mut shares = Shares::new(40);
        fill(&mut shares, A, 1, START);
        assert!(shares.take(B, 1, START).is_err());
        (0..30).for_each(|_| shares.give_back(A));
        assert_eq!(fill(&mut shares, B, 3, START), 30);
        assert_eq!(shares.take(A, 1, START), Err(Denied::Full));
    }

    /// Three of one tenant come and go for every one of the other that do, and all that is denied asks again.
    #[test]
    fn weights_of_three_to_one_share_three_to_one_when_both_want_all() {
        let mut shares = Shares::new(80);
        let mut held = BTreeMap::from([(A, 0u64), (B, 0u64)]);
        let mut now = START;
        for round in 0..4_000u64 {
            now = now + Duration::from_millis(1);
            for (tenant, weight) in [(A, 3), (B, 1)] {
                *held.get_mut(&tenant).unwrap() += fill(&mut shares, tenant, weight, now);
            }
            let leaver = if round % 2 == 0 { A } else { B };
            if held[&leaver] > 0 {
                shares.give_back(leaver);
                *held.get_mut(&leaver).unwrap() -= 1;
            }
        }
        for (tenant, weight) in [(A, 3), (B, 1)] {
            *held.get_mut(&tenant).unwrap() += fill(&mut shares, tenant, weight, now);
        }
        assert_eq!((held[&A], held[&B]), (60, 20));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Take(i64),
        GiveBack(prop::sample::Index),
        Advance(u64),
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            6 => (0i64..6).prop_map(Event::Take),
            3 => any::<prop::sample::Index>().prop_map(Event::GiveBack),
            1 => (0u64..3_000).prop_map(Event::Advance),
        ]
    }

    fn weight_of(tenant: i64) -> u32 {
        [1, 1, 2, 3, 5, 10][usize::try_from(tenant).unwrap()]
    }

    proptest! {
        /// Against the rule as it is promised, with every want remembered.
        #[test]
        fn the_rule_is_kept(max in 1usize..40, events in prop::collection::vec(event(), 0..300)) {
            let mut shares = Shares::new(max);
            let (mut held, mut wanted): (Vec<i64>, BTreeMap<i64, Moment>) = Default::default();
            let mut now = START;
            for event in events {
                match event {
                    Event::Advance(millis) => now = now + Duration::from_millis(millis),
                    Event::GiveBack(which) if !held.is_empty() => {
                        let tenant = held.swap_remove(which.index(held.len()));
                        shares.give_back(TenantId(tenant));
                    }
                    Event::GiveBack(_) => {}
                    Event::Take(tenant) => {
                        let own = held.iter().filter(|holder| **holder == tenant).count();
                        let wants = |other: i64| wanted.get(&other).is_some_and(|at| *at + WANT_LASTS > now);
                        let active = (0..6).filter(|other| *other == tenant || held.contains(other) || wants(*other));
                        let weights: u32 = active.map(weight_of).sum();
                        let share = (max * weight_of(tenant) as usize / weights as usize).max(1);
                        let expected = if held.len() >= max {
                            Err(Denied::Full)
                        } else if held.len() < max / 2 || own < share {
                            Ok(())
                        } else {
                            Err(Denied::OverShare)
                        };
                        let answer = shares.take(TenantId(tenant), weight_of(tenant), now);
                        prop_assert_eq!(answer, expected);
                        match answer {
                            Ok(()) => held.push(tenant),
                            Err(_) => {
                                wanted.insert(tenant, now);
                            }
                        }
                    }
                }
                prop_assert_eq!(shares.held(), held.len() as u64);
                prop_assert!(held.len() <= max);
                prop_assert!(shares.wanting.len() <= shares.tenants.len());
            }
            held.into_iter().for_each(|tenant| shares.give_back(TenantId(tenant)));
            shares.forget_wants(now + WANT_LASTS);
            prop_assert_eq!((shares.tenants.len(), shares.weight, shares.wanting.len()), (0, 0, 0));
        }

        /// Whoever keeps asking gets in, whatever the others do, as soon as enough has come back.
        #[test]
        fn nobody_starves(max in 1usize..40, others in 1i64..60) {
            let mut shares = Shares::new(max);
            let mut holders = VecDeque::new();
            for turn in 0.. {
                let tenant = TenantId(100 + turn % others);
                match shares.take(tenant, 10, START) {
                    Ok(()) => holders.push_back(tenant),
                    Err(_) if turn > 200 => break,
                    Err(_) => {}
                }
            }
            let mut turns = 0;
            while shares.take(A, 1, START).is_err() {
                let first = holders.pop_front().expect("everybody has left, and it is still refused");
                shares.give_back(first);
                turns += 1;
            }
            prop_assert!(turns <= max);
        }
    }
}
