//! Which models of a provider draw on the same tokens.

use crate::domain::limit::{Limit, Scope, Unit};
use crate::domain::provider::ProviderSpec;

/// The group of each model: models of one group share a limit on tokens, so that what one of them takes may be what
/// a large request at another waits for. Only a token limit can pass a large request over; where there is none, each
/// model is a group of its own.
pub(super) fn groups(spec: &ProviderSpec) -> Vec<usize> {
    let of_tokens =
        |limit: &&Limit| matches!(limit.unit, Unit::Tokens | Unit::InputTokens | Unit::OutputTokens);
    let shared: Vec<&Scope> = spec.limits.iter().filter(of_tokens).map(|limit| &limit.scope).collect();
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
    fn models_that_share_tokens_are_one_group() {
        assert_eq!(groups(&spec(vec![limit(Scope::Account, Unit::Requests)])), [0, 1, 2, 3]);
        assert_eq!(groups(&spec(vec![limit(Scope::Account, Unit::InputTokens)])), [0, 0, 0, 0]);
        assert_eq!(groups(&spec(vec![limit(Scope::Pool("a".to_owned()), Unit::Tokens)])), [0, 1, 2, 1]);
        assert_eq!(groups(&spec(vec![limit(Scope::Model, Unit::Tokens)])), [0, 1, 2, 3]);
    }
}
