//! The limits of one provider as plain data, for a ledger that adds them up elsewhere.

use std::time::Duration;

use crate::domain::clock::Moment;
use crate::domain::limit::{Unit, Window};
use crate::domain::provider::ProviderSpec;

use super::demand::ModelIndex;
use super::hold_rule;
use super::layout::{Layout, Place};
use super::record::HoldRecord;

/// Which limits bind which model, and what a recorded attempt holds of each. The same on every account, and the
/// same rule as a [`Book`](super::Book)'s: the two cannot disagree.
#[derive(Debug)]
pub struct Terms {
    layout: Layout,
}

/// One limit that binds, within one account.
#[derive(Clone, Copy, Debug)]
pub struct Term<'a> {
    place: &'a Place,
}

/// What an attempt holds of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// In the limit's unit, credits in millionths.
    pub amount: u64,
    /// The last instant at which upstream can have counted it; `None` while nobody knows.
    pub last_count: Option<Moment>,
    /// Free again at this instant; `None` while nobody knows.
    pub until: Option<Moment>,
    /// How much of `amount` may come back at once when the attempt ends.
    pub returnable: u64,
}

impl Terms {
    pub fn new(spec: &ProviderSpec) -> Self {
        Self { layout: Layout::new(spec) }
    }

    /// All limits of an account, in one order.
    pub fn all(&self) -> impl Iterator<Item = Term<'_>> {
        self.layout.places.iter().map(Term::of)
    }

    /// The limits that an attempt on `model` is taken from, in one order; none for a model that the provider has not.
    pub fn binding(&self, model: ModelIndex) -> impl Iterator<Item = Term<'_>> {
        self.layout.bound(model).into_iter().flat_map(|bound| self.layout.binding(bound)).map(Term::of)
    }

    /// What the attempt holds of each of them, as far as is recorded: an attempt without a finish is taken to go on.
    pub fn claims(&self, record: &HoldRecord) -> impl Iterator<Item = (Term<'_>, Claim)> {
        let course = record.course();
        self.layout.bound(record.model).into_iter().flat_map(move |bound| {
            self.layout.binding(bound).map(move |place| {
                let (unit, charging) = (place.limit.unit, bound.charging);
                let held = hold_rule::held(unit, &place.span, charging, &course);
                let last_count = hold_rule::last_count(unit, charging, &course);
                let claim =
                    Claim { amount: held.amount, last_count, until: held.until, returnable: held.returnable };
                (Term::of(place), claim)
            })
        })
    }

    /// No attempt holds anything longer than this after the last instant at which it can have been counted.
    pub fn longest_hold(&self) -> Duration {
        self.layout.longest_hold()
    }
}

impl<'a> Term<'a> {
    pub(super) fn of(place: &'a Place) -> Self {
        Self { place }
    }

    /// `account`, `pool:NAME` or `model:ID`.
    pub fn scope(self) -> &'a str {
        &self.place.scope
    }

    pub fn unit(self) -> Unit {
        self.place.limit.unit
    }

    /// In the limit's unit, credits in millionths.
    pub fn max(self) -> u64 {
        self.place.limit.max
    }

    /// As stated.
    pub fn window(self) -> Window {
        self.place.limit.window
    }

    /// No release comes later than this after the last count.
    pub fn longest(self) -> Duration {
        self.place.span.longest()
    }

    /// When units are free again that upstream counted at `last_count` at the latest.
    pub fn release(self, last_count: Moment) -> Moment {
        self.place.span.release(last_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limit::Scope;
    use crate::quota::tests::{
        ALONE, LONG_MINUTE, POOLED, SECOND, exact, parallel, per_minute, provider, start,
    };
    use crate::quota::{AccountIndex, Finish};

    fn terms() -> Terms {
        let mut spec = provider(
            1,
            vec![
                per_minute(Scope::Pool("shared".to_owned()), Unit::Requests, 4),
                per_minute(Scope::Account, Unit::Tokens, 1_000),
                parallel(2),
            ],
        );
        spec.models[1].limits = vec![per_minute(Scope::Model, Unit::OutputTokens, 70)];
        Terms::new(&spec)
    }

    fn record(finish: Option<Finish>) -> HoldRecord {
        HoldRecord {
            account: AccountIndex(0),
            model: POOLED,
            reserved: crate::domain::usage::Usage { input_tokens: 10, output_tokens: 20 },
            send_by: start() + SECOND,
            first_byte: Some(start() + SECOND),
            finish,
        }
    }

    #[test]
    fn a_model_is_bound_by_its_own_limits_its_pools_and_its_accounts() {
        let terms = terms();
        let scopes = |model| terms.binding(model).map(Term::scope).collect::<Vec<_>>();
        assert_eq!(scopes(POOLED), ["pool:shared", "account", "account"]);
        assert_eq!(scopes(ALONE), ["account", "account", "model:alone"]);
        assert_eq!(scopes(ModelIndex(7)), [""; 0]);
        assert_eq!(terms.all().map(Term::max).collect::<Vec<_>>(), [4, 1_000, 2, 70]);
        assert_eq!(terms.longest_hold(), LONG_MINUTE);
    }

    #[test]
    fn a_claim_tells_the_last_count_and_the_release_once_they_are_known() {
        let terms = terms();
        let claims = |finish| terms.claims(&record(finish)).map(|(_, claim)| claim).collect::<Vec<_>>();
        let counted = start() + SECOND;
        let request =
            Claim { amount: 1, last_count: Some(counted), until: Some(counted + LONG_MINUTE), returnable: 0 };
        let open = |amount, returnable| Claim { amount, last_count: None, until: None, returnable };
        assert_eq!(claims(None), [request, open(30, 30), open(1, 1)]);
        let end = start() + 9 * SECOND;
        let closed = end + Duration::from_millis(100);
        let ended = [
            request,
            Claim { amount: 7, last_count: Some(end), until: Some(end + LONG_MINUTE), returnable: 0 },
            Claim { amount: 1, last_count: Some(closed), until: Some(closed), returnable: 0 },
        ];
        assert_eq!(claims(Some(Finish::Ended(end, exact(5, 2)))), ended);
        for (term, claim) in terms.claims(&record(Some(Finish::Ended(end, exact(5, 2))))) {
            assert_eq!(Some(term.release(claim.last_count.unwrap())), claim.until);
        }
    }
}
