//! Which limits are fast enough for leases, how large a lease is and when the next one is asked for; pure.
//!
//! A lease saves calls where many requests a second meet one limit, and costs room: what one replica has leased and
//! does not spend, nobody can use. So it is as large as what this replica has asked for in the last quarter of a
//! second, is never more than a small share of a limit, lives for half a second, and is refused near the end of a
//! budget, which is left to exact calls.

use std::time::Duration;

use crate::domain::clock::Moment;
use crate::domain::limit::{Unit, Window};
use crate::quota::{ModelIndex, Terms};

/// The demand that one lease is for. Chosen: a call of the ledger takes some 5 ms, so that a lease outlasts dozens of
/// them, and what is leased in vain comes back before anybody notices.
pub(super) const SLICE: Duration = Duration::from_millis(250);

/// How long a lease is spent. Chosen: two slices, so that demand that falls by half wastes nothing, and so that what
/// others find out (a cooldown, a smaller maximum, an operator's block) binds everywhere after half a second.
pub(super) const LIFE: Duration = Duration::from_millis(500);

/// A lease that ends within this time is taken for spent: the next one is asked for. Chosen: half a slice; a ledger that
/// is busy answers within 100 ms.
const AHEAD: Duration = Duration::from_millis(125);

/// A set of limits is fast when it allows so many requests in a slice, and when its largest lease pays for as many.
/// Chosen: below it a lease would save less than nine of ten calls; with [`SLICE`] this is 40 requests a second (2,400 a
/// minute), where exact calls reach 150 a second one by one (ADR 0005).
const FEWEST: u64 = 10;

/// A lease is at most one part in so many of a limit. Chosen: with [`LIFE`], what a replica leases in vain is 0.8 % of
/// what a limit over a second allows over time, and 0.02 % where it is over a minute.
const PARTS: u64 = 64;

/// Limits over less than this are not fast, however much they allow: leases would last as long as they do.
const SHORTEST: Duration = Duration::from_secs(1);

/// A replica that has asked for fewer requests than this in a slice asks exactly. Chosen: 16 a second.
const LEAST_DEMAND: u64 = 4;

/// How much a lease leaves for exact calls: so many times itself. Chosen: room for the same lease of each of three
/// replicas, so that the last one refused still finds what it needs by exact calls.
const LEAVES: u64 = 2;

/// How long no lease is asked for after a refusal. Chosen: less than half of a slice, for room comes back all the time.
pub(super) const PAUSE: Duration = Duration::from_millis(100);

/// A refused lease is followed by one of half the size, this often.
const HALVINGS: u32 = 4;

/// What a lease asks for of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) amount: u64,
    pub(super) leave: u64,
}

/// The bounds of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bounds {
    /// What it allows in a slice.
    pace: u64,
    /// The largest lease of it.
    most: u64,
}

/// What bounds the leases for a model, in the order of a claim's lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caps(Vec<Bounds>);

impl Caps {
    /// `None` for a set that is not fast: one slow limit, a spacing or a limit on parallel calls among them is enough.
    pub(super) fn of(terms: &Terms, model: ModelIndex) -> Option<Self> {
        let mut caps: Vec<((&str, Unit), Bounds)> = Vec::new();
        for term in terms.binding(model) {
            let bounds = match term.window() {
                Window::Sliding(length) if length < SHORTEST => return None,
                Window::Sliding(_) | Window::Calendar(_) => Bounds::of(term.max(), term.longest()),
                Window::Spacing(_) | Window::InFlight => return None,
            };
            if bounds.least() < if term.unit() == Unit::Requests { FEWEST } else { 1 } {
                return None;
            }
            let budget = (term.scope(), term.unit());
            match caps.iter_mut().find(|(known, _)| *known == budget) {
                Some((_, known)) => *known = known.and(bounds),
                None => caps.push((budget, bounds)),
            }
        }
        (!caps.is_empty()).then(|| Self(caps.into_iter().map(|(_, bounds)| bounds).collect()))
    }

    /// The lease to ask for after that demand, halved so many times; `None` where exact calls do as well.
    fn wish(&self, recent: &Tally, halvings: u32) -> Option<Vec<Ask>> {
        // Requests like the recent ones that the least of these pays for.
        let paid = |of: fn(&Bounds) -> u64| {
            let by_limit = self.0.iter().zip(&recent.amounts);
            let paid = by_limit.filter_map(|(bounds, amount)| {
                of(bounds).saturating_mul(recent.requests).checked_div(*amount)
            });
            paid.min().unwrap_or(u64::MAX)
        };
        if recent.requests < LEAST_DEMAND || paid(|bounds| bounds.least()) < FEWEST {
            return None;
        }
        let requests = recent.requests.min(paid(|bounds| bounds.most));
        let requests = (requests >> halvings.min(HALVINGS)).max(LEAST_DEMAND);
        let ask = |amount: &u64| {
            let amount = amount.saturating_mul(requests).div_ceil(recent.requests);
            Ask { amount, leave: amount.saturating_mul(LEAVES) }
        };
        Some(recent.amounts.iter().map(ask).collect())
    }
}

impl Bounds {
    /// `window` is how long the limit's units are held at most: of a calendar's, two days or months, which makes for a
    /// slower pace.
    fn of(max: u64, window: Duration) -> Self {
        let pace = u128::from(max) * SLICE.as_micros() / window.as_micros().max(1);
        Self { pace: u64::try_from(pace).unwrap_or(u64::MAX), most: max / PARTS }
    }

    fn least(self) -> u64 {
        self.pace.min(self.most)
    }

    fn and(self, other: Self) -> Self {
        Self { pace: self.pace.min(other.pace), most: self.most.min(other.most) }
    }
}

/// What was asked for in some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    requests: u64,
    /// By limit, in the order of a claim's lines.
    amounts: Vec<u64>,
}

/// Decides on the leases of one model.
#[derive(Debug)]
pub(super) struct Policy {
    caps: Caps,
    /// The slice that goes on, when it began, and the one before.
    current: Tally,
    began: Moment,
    before: Tally,
    halvings: u32,
    is_asking: bool,
    not_before: Moment,
}

impl Policy {
    pub(super) fn new(caps: Caps) -> Self {
        let long_ago = Moment::from_unix_micros(i64::MIN);
        Self {
            caps,
            current: Tally::default(),
            began: long_ago,
            before: Tally::default(),
            halvings: 0,
            is_asking: false,
            not_before: long_ago,
        }
    }

    /// An attempt is asked for that takes these amounts.
    pub(super) fn note(&mut self, now: Moment, amounts: &[u64]) {
        let passed = now.saturating_since(self.began);
        if passed >= SLICE {
            let last = std::mem::take(&mut self.current);
            self.before = if passed < 2 * SLICE { last } else { Tally::default() };
            self.began = now;
        }
        self.current.requests += 1;
        self.current.amounts.resize(amounts.len(), 0);
        for (sum, amount) in self.current.amounts.iter_mut().zip(amounts) {
            *sum = sum.saturating_add(*amount);
        }
    }

    /// The lease to ask for now, `left` being what can still be spent [`AHEAD`] of now; whoever is told asks.
    pub(super) fn wish(&mut self, now: Moment, left: impl Fn(Moment) -> Vec<u64>) -> Option<Vec<Ask>> {
        if self.is_asking || now < self.not_before {
            return None;
        }
        let is_busier = self.before.requests >= self.current.requests;
        let wish = self.caps.wish(if is_busier { &self.before } else { &self.current }, self.halvings)?;
        let left = left(now + AHEAD);
        let is_short = wish
            .iter()
            .enumerate()
            .any(|(line, ask)| left.get(line).copied().unwrap_or(0) < ask.amount.div_ceil(2));
        self.is_asking = is_short;
        is_short.then_some(wish)
    }

    /// The ledger has granted what was asked.
    pub(super) fn granted(&mut self) {
        self.is_asking = false;
        self.halvings = self.halvings.saturating_sub(1);
    }

    /// It has not, for want of room or because it is away: exact calls for a while, and then a smaller lease.
    pub(super) fn refused(&mut self, now: Moment, pause: Duration) {
        self.is_asking = false;
        self.halvings = (self.halvings + 1).min(HALVINGS);
        self.not_before = now + pause;
    }

    /// Whether an answer is due.
    pub(super) fn is_asking(&self) -> bool {
        self.is_asking
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::calendar::{Calendar, Period, Zone};
    use crate::domain::limit::{Limit, Scope};
    use crate::ledger::fixture::{limit, spec};

    const MODEL: ModelIndex = ModelIndex(0);

    fn caps(limits: &[Limit]) -> Option<Vec<u64>> {
        let caps = Caps::of(&Terms::new(&spec(limits)), MODEL);
        caps.map(|Caps(caps)| caps.into_iter().map(|bounds| bounds.most).collect())
    }

    fn of(unit: Unit, max: u64, window: Window) -> Limit {
        Limit { scope: Scope::Account, unit, max, window }
    }

    fn minute() -> Window {
        Window::Sliding(Duration::from_secs(60))
    }

    fn day() -> Window {
        Window::Calendar(Calendar { period: Period::Day, zone: Zone::named("UTC").unwrap() })
    }

    #[test]
    fn hundreds_a_second_are_fast_and_what_people_know_as_limits_is_not() {
        assert_eq!(caps(&[limit(10_000, 60)]), Some(vec![156]));
        assert_eq!(caps(&[limit(1_000, 6)]), Some(vec![15]));
        assert_eq!(caps(&[limit(30, 60)]), None);
        assert_eq!(caps(&[limit(1_200, 60)]), None);
        assert_eq!(caps(&[limit(600, 1)]), None, "a 64th is too few");
        assert_eq!(caps(&[of(Unit::Requests, 14_400, day())]), None);
        assert_eq!(caps(&[]), None);
    }

    #[test]
    fn one_slow_limit_slows_the_set() {
        let fast = limit(10_000, 60);
        for slow in [
            of(Unit::Requests, 14_400, day()),
            of(Unit::Parallel, 1_000, Window::InFlight),
            of(Unit::Requests, 1, Window::Spacing(Duration::from_millis(1))),
            of(Unit::Tokens, 100, minute()),
            of(Unit::Requests, 10_000, Window::Sliding(Duration::from_millis(500))),
        ] {
            assert_eq!(caps(&[fast.clone(), slow.clone()]), None, "{slow:?}");
        }
        let tokens = of(Unit::Tokens, 6_000_000, minute());
        let daily = of(Unit::Requests, 10_000_000, day());
        // Of two windows of the same unit the one with the smaller lease binds.
        assert_eq!(caps(&[fast, tokens, daily]), Some(vec![156, 93_750]));
    }

    fn asks(wish: Option<Vec<Ask>>) -> Vec<u64> {
        wish.into_iter().flatten().map(|ask| ask.amount).collect()
    }

    /// What a policy wishes that has seen `requests` in a slice just before.
    fn wish_after(requests: u64, tokens: u64, left: &[u64]) -> Vec<u64> {
        let limits = [limit(10_000, 60), of(Unit::Tokens, 6_000_000, minute())];
        let mut policy = Policy::new(Caps::of(&Terms::new(&spec(&limits)), MODEL).unwrap());
        let now = Moment::from_unix_micros(0);
        (0..requests).for_each(|_| policy.note(now, &[1, tokens]));
        asks(policy.wish(now, |_| left.to_vec()))
    }

    #[test]
    fn a_lease_is_a_slice_of_demand_up_to_its_cap() {
        assert_eq!(wish_after(3, 100, &[]), [0; 0], "exact calls do");
        assert_eq!(wish_after(20, 100, &[]), [20, 2_000]);
        assert_eq!(wish_after(200, 100, &[]), [156, 15_600]);
        // Then tokens are what there is least of: 93,750 in a lease, and 24,997 in a slice.
        assert_eq!(wish_after(100, 1_000, &[]), [93, 93_000]);
        assert_eq!(wish_after(100, 2_500, &[]), [0; 0], "nine requests in a slice are slow");
    }

    #[test]
    fn the_next_one_is_asked_for_when_half_is_spent() {
        assert_eq!(wish_after(20, 100, &[10, 1_000]), [0; 0]);
        assert_eq!(wish_after(20, 100, &[9, 1_000]), [20, 2_000]);
        assert_eq!(wish_after(20, 100, &[20, 999]), [20, 2_000]);
    }

    #[test]
    fn one_is_asked_for_at_a_time_and_smaller_ones_after_refusals() {
        let mut policy = Policy::new(Caps::of(&Terms::new(&spec(&[limit(10_000, 60)])), MODEL).unwrap());
        let mut now = Moment::from_unix_micros(0);
        (0..40).for_each(|_| policy.note(now, &[1]));
        let wish = |policy: &mut Policy, now| asks(policy.wish(now, |_| Vec::new()));
        assert_eq!(wish(&mut policy, now), [40]);
        assert!(policy.is_asking());
        assert_eq!(wish(&mut policy, now), [0; 0], "an answer is due");
        let mut sizes = Vec::new();
        for _ in 0..6 {
            policy.refused(now, PAUSE);
            assert_eq!(wish(&mut policy, now), [0; 0], "exact calls for a while");
            now = now + PAUSE;
            // Demand goes on.
            (0..40).for_each(|_| policy.note(now, &[1]));
            sizes.extend(wish(&mut policy, now));
        }
        assert!(sizes[0] > *sizes.last().unwrap(), "{sizes:?}");
        assert_eq!(sizes.last(), Some(&7), "a 16th of what the slice has asked for");
        policy.granted();
        assert_eq!(wish(&mut policy, now), [15]);
    }

    #[test]
    fn old_demand_is_forgotten() {
        let mut policy = Policy::new(Caps::of(&Terms::new(&spec(&[limit(10_000, 60)])), MODEL).unwrap());
        let now = Moment::from_unix_micros(0);
        (0..40).for_each(|_| policy.note(now, &[1]));
        policy.note(now + SLICE, &[1]);
        assert_eq!(asks(policy.wish(now + SLICE, |_| Vec::new())), [40], "the slice before");
        policy.granted();
        policy.note(now + 3 * SLICE, &[1]);
        assert_eq!(asks(policy.wish(now + 3 * SLICE, |_| Vec::new())), [0; 0]);
    }
}
