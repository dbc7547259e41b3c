//! Which limits bind which model: the same on every account of a provider.

use crate::domain::limit::{Limit, Scope, Unit};
use crate::domain::provider::{ModelSpec, ProviderSpec};
use crate::domain::usage::Usage;

use super::demand::ModelIndex;
use super::hold_rule;

/// The limits that each account has a budget for, in one order, and the ones among them that bind each model.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) places: Vec<Place>,
    /// Positions in `places`, per model.
    bound: Vec<Vec<usize>>,
}

/// One limit and whose use it adds up.
#[derive(Debug)]
pub(super) struct Place {
    /// `account`, `pool:NAME` or `model:ID`.
    pub(super) scope: String,
    pub(super) limit: Limit,
}

impl Layout {
    pub(super) fn new(spec: &ProviderSpec) -> Self {
        let mut layout = Self { places: Vec::new(), bound: vec![Vec::new(); spec.models.len()] };
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
    pub(super) fn bound(&self, model: ModelIndex) -> Option<&[usize]> {
        self.bound.get(model.0).map(Vec::as_slice)
    }

    /// Whether those budgets, all of them empty, would have room for it.
    pub(super) fn can_ever_fit(&self, bound: &[usize], reserved: Usage) -> bool {
        self.limits(bound).all(|limit| hold_rule::units(limit.unit, reserved) <= limit.max)
    }

    /// Whether any limit on tokens binds that model.
    pub(super) fn has_token_limits(&self, model: ModelIndex) -> bool {
        self.limits(self.bound(model).unwrap_or_default()).any(|limit| match limit.unit {
            Unit::Tokens | Unit::InputTokens | Unit::OutputTokens => true,
            Unit::Requests | Unit::Parallel => false,
        })
    }

    fn limits(&self, bound: &[usize]) -> impl Iterator<Item = &Limit> {
        bound.iter().filter_map(|&index| self.places.get(index)).map(|place| &place.limit)
    }

    fn bind(
        &mut self,
        scope: String,
        limit: &Limit,
        spec: &ProviderSpec,
        binds: impl Fn(&ModelSpec) -> bool,
    ) {
        let place = self.places.len();
        self.places.push(Place { scope, limit: limit.clone() });
        for (bound, model) in self.bound.iter_mut().zip(&spec.models) {
            if binds(model) {
                bound.push(place);
            }
        }
    }

    fn bind_one(&mut self, model: usize, limit: &Limit, spec: &ProviderSpec) {
        let (Some(bound), Some(model)) = (self.bound.get_mut(model), spec.models.get(model)) else { return };
        bound.push(self.places.len());
        self.places.push(Place { scope: format!("model:{}", model.id), limit: limit.clone() });
    }
}
