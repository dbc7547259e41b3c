//! What only holds between the parts of one provider.

use crate::domain::limit::{Limit, Scope};

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

fn pool_of(limit: &Limit) -> Option<&str> {
    match &limit.scope {
        Scope::Pool(pool) => Some(pool),
        Scope::Account | Scope::Model => None,
    }
}
