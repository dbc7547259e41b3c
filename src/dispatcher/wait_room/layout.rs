//! Which models of a provider draw on the same limits.

use super::sight::Groups;
use crate::domain::limit::{Limit, Scope, Unit};
use crate::domain::provider::ProviderSpec;

/// The groups of each model. Models that share a limit on what a large request needs much of (tokens, credits) are one
/// group: what one of them takes may be what the large one waits for at another. Those that share a limit on requests
/// are another: of that the large one needs no more than the others, but one in time. What shares nothing is a group of
/// its own.
pub(super) fn groups(spec: &ProviderSpec) -> Vec<Groups> {
    let of_amount =
        |unit| matches!(unit, Unit::Tokens | Unit::InputTokens | Unit::OutputTokens | Unit::Credits);
    let tokens = sharing(spec, of_amount);
    let requests = sharing(spec, |unit| unit == Unit::Requests);
    tokens.into_iter().zip(requests).map(|(tokens, requests)| Groups { tokens, requests }).collect()
}

/// For each model the first one with which it shares a limit of such a unit.
fn sharing(spec: &ProviderSpec, is_such: impl Fn(Unit) -> bool) -> Vec<usize> {
    let is_such = |limit: &&Limit| is_such(limit.unit);
    let shared: Vec<&Scope> = spec.limits.iter().filter(is_such).map(|limit| &limit.scope).collect();
    if shared.contains(&&Scope::Account) {
        return vec![0; spec.models.len()];
    }
    let pool_of = |index: usize| spec.models.get(index).and_then(|model| model.pool.as_ref());
    let is_shared = |pool: &String| shared.contains(&&Scope::Pool(pool.clone()));
    let group = |index: usize| match pool_of(index).filter(|pool| is_shared(pool)) {
        Some(pool) => (0..index).find(|&earlier| pool_of(earlier) == Some(pool)).unwrap_or(index),
        None => index,
    };
    (0..spec.models.len()).map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::shipped_providers;
    use crate::domain::limit::Window;

    fn spec(limits: Vec<Limit>) -> ProviderSpec {
        let mut spec = shipped_providers().unwrap().swap_remove(0);
        let model = spec.models[0].clone();
        let in_pool = |pool: Option<&str>| {
            let mut model = model.clone();
            model.pool = pool.map(str::to_owned);
            model
        };
        spec.models = vec![in_pool(None), in_pool(Some("a")), in_pool(Some("b")), in_pool(Some("a"))];
        spec.limits = limits;
        spec
    }

    fn limit(scope: Scope, unit: Unit) -> Limit {
        Limit { scope, unit, max: 1, window: Window::InFlight }
    }

    #[test]
    fn models_that_share_a_limit_are_one_group() {
        let of = |limits| {
            let groups = groups(&spec(limits));
            let tokens: Vec<usize> = groups.iter().map(|groups| groups.tokens).collect();
            (tokens, groups.iter().map(|groups| groups.requests).collect::<Vec<usize>>())
        };
        let own = || vec![0, 1, 2, 3];
        assert_eq!(of(vec![limit(Scope::Account, Unit::Requests)]), (own(), vec![0; 4]));
        assert_eq!(of(vec![limit(Scope::Account, Unit::InputTokens)]), (vec![0; 4], own()));
        assert_eq!(of(vec![limit(Scope::Account, Unit::Credits)]), (vec![0; 4], own()));
        let pool = Scope::Pool("a".to_owned());
        assert_eq!(of(vec![limit(pool.clone(), Unit::Tokens)]), (vec![0, 1, 2, 1], own()));
        assert_eq!(of(vec![limit(pool, Unit::Requests)]), (own(), vec![0, 1, 2, 1]));
        assert_eq!(of(vec![limit(Scope::Model, Unit::Tokens)]), (own(), own()));
    }
}
