//! What only holds between the parts of one provider.

use crate::domain::limit::{Limit, Scope, Unit};
use crate::domain::provider::ModelSpec;

use super::model::Model;
use super::reader::Section;

/// Pools are named at both ends; a slip at either would leave a limit without effect.
pub(super) fn check_pools(section: &mut Section<'_>, limits: Option<&[Limit]>, models: Option<&[Model]>) {
    let (Some(limits), Some(models)) = (limits, models) else { return };
    let limited: Vec<&str> = limits.iter().filter_map(pool_of).collect();
    for pool in &limited {
        if !models.iter().any(|model| model.pool() == Some(*pool)) {
            section
                .problem("limit", format!("no model is in the pool {pool:?}: set pool = {pool:?} on some"));
        }
    }
    for model in models {
        // Without any limit on pools the names are harmless: an operator may have taken the limits away.
        if let Some(pool) = model.pool()
            && !limited.is_empty()
            && !limited.contains(&pool)
        {
            let key = format!("model[{}].pool", model.id());
            section.problem(&key, format!("no limit has scope \"pool:{pool}\""));
        }
    }
}

/// A limit on credits counts by prices: a model without one would cost nothing.
pub(super) fn check_prices(section: &mut Section<'_>, limits: &[Limit], models: &[ModelSpec]) {
    for model in models.iter().filter(|model| model.price.is_none()) {
        let shared = limits.iter().filter(|limit| match &limit.scope {
            Scope::Account | Scope::Model => true,
            Scope::Pool(pool) => model.pool.as_ref() == Some(pool),
        });
        if shared.chain(&model.limits).any(|limit| limit.unit == Unit::Credits) {
            section.problem(
                &format!("model[{}].price", model.id),
                "must be given under a limit on credits, for example { per_1k_input = 4.119, \
                 per_1k_output = 26.668 }",
            );
        }
    }
}

/// The limits of the original documentation count no credits, and who simulates them could not either.
pub(super) fn check_documented(section: &mut Section<'_>, limits: Option<&[Limit]>) {
    if limits.into_iter().flatten().any(|limit| limit.unit == Unit::Credits) {
        section.problem("documented_limit", "credits are not simulated: state them in [[limit]] only");
    }
}

fn pool_of(limit: &Limit) -> Option<&str> {
    match &limit.scope {
        Scope::Pool(pool) => Some(pool),
        Scope::Account | Scope::Model => None,
    }
}
