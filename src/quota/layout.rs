//! Which limits bind which model: the same on every account of a provider.

use std::time::Duration;

use crate::domain::calendar::Period;
use crate::domain::clock::Moment;
use crate::domain::limit::{Limit, Scope, Unit, Window};
use crate::domain::provider::{ModelSpec, ProviderSpec};
use crate::domain::usage::Usage;

use super::demand::ModelIndex;
use super::hold_rule::Charging;
use super::span::Span;

/// The limits that each account has a budget for, in one order, and the ones among them that bind each model.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) places: Vec<Place>,
    /// Per model.
    bound: Vec<Bound>,
}

/// What binds one model.
#[derive(Debug)]
pub(super) struct Bound {
    /// Positions in the layout's `places`.
    pub(super) places: Vec<usize>,
    pub(super) charging: Charging,
}

/// A position among the limits that every account of a provider has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LimitIndex(pub usize);

/// One limit, for those who fill a book from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BookLimit {
    pub index: LimitIndex,
    pub unit: Unit,
    pub max: u64,
    /// How long anything is held after its last count, at most; `None` for what only counts what is in flight.
    pub window: Option<Duration>,
    /// The models that it binds.
    pub models: Vec<ModelIndex>,
}

/// One limit and whose use it adds up.
#[derive(Debug)]
pub(super) struct Place {
    /// `account`, `pool:NAME` or `model:ID`.
    pub(super) scope: String,
    pub(super) limit: Limit,
    pub(super) span: Span,
}

/// Limits of at least this length are worth spreading. Chosen: half a day.
const DAY_MIN: Duration = Duration::from_secs(12 * 3_600);

impl Place {
    /// How long the window is and, by the calendar, when what `now` uses comes back; `None` for what is shorter than a
    /// day.
    pub(super) fn day(&self, now: Moment) -> Option<(Duration, Option<Moment>)> {
        const DAY: Duration = Duration::from_secs(86_400);
        match self.limit.window {
            Window::Sliding(length) if length >= DAY_MIN => Some((length, None)),
            Window::Calendar(calendar) => {
                let days = match calendar.period {
                    Period::Day => 1,
                    Period::Month => 31,
                };
                Some((DAY * days, Some(self.span.release(now))))
            }
            Window::Sliding(_) | Window::Spacing(_) | Window::InFlight => None,
        }
    }
}

impl Layout {
    pub(super) fn new(spec: &ProviderSpec) -> Self {
        let unbound = |model| Bound { places: Vec::new(), charging: Charging::of(spec, model) };
        let mut layout = Self { places: Vec::new(), bound: spec.models.iter().map(unbound).collect() };
        for limit in &spec.limits {
            match &limit.scope {
                Scope::Account => layout.bind("account".to_owned(), limit, spec, |_| true),
                Scope::Pool(name) => {
                    layout
                        .bind(format!("pool:{name}"), limit, spec, |model| model.pool.as_ref() == Some(name));
                }
                // Stated for the whole provider: each model has it for itself.
                Scope::Model => (0..spec.models.len()).for_each(|index| layout.bind_one(index, limit, spec)),
            }
        }
        for (index, model) in spec.models.iter().enumerate() {
            model.limits.iter().for_each(|limit| layout.bind_one(index, limit, spec));
        }
        layout
    }

    /// The budgets that an attempt on `model` is taken from; `None` for a model that the provider has not.
    pub(super) fn bound(&self, model: ModelIndex) -> Option<&Bound> {
        self.bound.get(model.0)
    }

    /// Whether those budgets, all of them empty, would have room for it.
    pub(super) fn can_ever_fit(&self, bound: &Bound, reserved: Usage) -> bool {
        self.limits(bound).all(|limit| bound.charging.units(limit.unit, reserved) <= limit.max)
    }

    /// Whether any limit binds that model that counts tokens, or what they cost.
    pub(super) fn has_token_limits(&self, model: ModelIndex) -> bool {
        self.bound(model).into_iter().flat_map(|bound| self.limits(bound)).any(|limit| match limit.unit {
            Unit::Tokens | Unit::InputTokens | Unit::OutputTokens | Unit::Credits => true,
            Unit::Requests | Unit::Parallel => false,
        })
    }

    pub(super) fn limits_with_models(&self) -> Vec<BookLimit> {
        let limit = |(index, Place { limit, span, .. }): (usize, &Place)| BookLimit {
            index: LimitIndex(index),
            unit: limit.unit,
            max: limit.max,
            window: (limit.window != Window::InFlight).then(|| span.longest()),
            models: self.models_under(index),
        };
        self.places.iter().enumerate().map(limit).collect()
    }

    fn models_under(&self, place: usize) -> Vec<ModelIndex> {
        let models = self.bound.iter().enumerate().filter(|(_, bound)| bound.places.contains(&place));
        models.map(|(model, _)| ModelIndex(model)).collect()
    }

    /// The least maximum among the limits on that model that output counts in.
    pub(super) fn tightest_on_output(&self, model: ModelIndex) -> Option<u64> {
        let limits = self.bound(model).into_iter().flat_map(|bound| self.limits(bound));
        limits
            .filter(|limit| matches!(limit.unit, Unit::Tokens | Unit::OutputTokens))
            .map(|limit| limit.max)
            .min()
    }

    /// How long anything is held after its last count, at most.
    pub(super) fn longest_hold(&self) -> Duration {
        self.places.iter().map(|place| place.span.longest()).max().unwrap_or_default()
    }

    /// The places that bind, in order.
    pub(super) fn binding(&self, bound: &Bound) -> impl Iterator<Item = &Place> {
        bound.places.iter().filter_map(|&index| self.places.get(index))
    }

    fn limits(&self, bound: &Bound) -> impl Iterator<Item = &Limit> {
        self.binding(bound).map(|place| &place.limit)
    }

    fn bind(
        &mut self,
        scope: String,
        limit: &Limit,
        spec: &ProviderSpec,
        binds: impl Fn(&ModelSpec) -> bool,
    ) {
        let place = self.places.len();
        self.places.push(Place { scope, limit: limit.clone(), span: Span::new(limit.window) });
        for (bound, model) in self.bound.iter_mut().zip(&spec.models) {
            if binds(model) {
                bound.places.push(place);
            }
        }
    }

    fn bind_one(&mut self, model: usize, limit: &Limit, spec: &ProviderSpec) {
        let (Some(bound), Some(model)) = (self.bound.get_mut(model), spec.models.get(model)) else { return };
        bound.places.push(self.places.len());
        let scope = format!("model:{}", model.id);
        self.places.push(Place { scope, limit: limit.clone(), span: Span::new(limit.window) });
    }
}
