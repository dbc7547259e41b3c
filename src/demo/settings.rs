//! The settings of `freellmapi demo`: the shipped providers, pointed at the simulation.

use super::simulation::Simulation;
use crate::domain::limit::{Limit, Scope};
use crate::domain::provider::{AccountSpec, Auth, ModelSpec, ProviderSpec};
use crate::domain::secret::Secret;

/// The settings for `freellmapi demo`: of the shipped providers, those that `simulation` serves (the six whose limits
/// the original documentation states), each with its documented limits per account, everything enabled, and one
/// account.
pub fn simulated_specs(shipped: Vec<ProviderSpec>, simulation: &Simulation) -> Vec<ProviderSpec> {
    shipped
        .into_iter()
        .filter_map(|spec| {
            let base_url = simulation.base_url(&spec.id)?.to_owned();
            Some(simulated(spec, base_url))
        })
        .collect()
}

fn simulated(spec: ProviderSpec, base_url: String) -> ProviderSpec {
    let limits = per_account(&spec.documented_limits);
    ProviderSpec {
        base_url,
        enabled: true,
        disabled_reason: None,
        limits: limits.clone(),
        documented_limits: limits,
        models: spec.models.into_iter().map(unlimited).collect(),
        accounts: vec![account(spec.auth)],
        ..spec
    }
}

/// The documented limits name no model and no pool that they lie in: they bind the whole account.
fn per_account(limits: &[Limit]) -> Vec<Limit> {
    limits.iter().map(|limit| Limit { scope: Scope::Account, ..limit.clone() }).collect()
}

fn unlimited(model: ModelSpec) -> ModelSpec {
    ModelSpec { limits: Vec::new(), enabled: true, disabled_reason: None, ..model }
}

/// The key opens nothing but the simulation, which takes any.
fn account(auth: Auth) -> AccountSpec {
    let keys = match auth {
        Auth::Bearer => vec![Secret::new("simulated".to_owned())],
        Auth::None => Vec::new(),
    };
    AccountSpec { name: "demo".to_owned(), keys }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::fixture::spec;
    use super::*;
    use crate::domain::limit::{Unit, Window};

    #[test]
    fn a_simulated_provider_is_on_with_one_account_under_its_documented_limits() {
        let documented = Limit {
            scope: Scope::Model,
            unit: Unit::Requests,
            max: 30,
            window: Window::Sliding(Duration::from_secs(60)),
        };
        let mut shipped = spec("groq", vec![documented.clone()]);
        shipped.limits = vec![Limit { max: 1, ..documented.clone() }];
        shipped.models[0].limits = vec![Limit { max: 2, ..documented.clone() }];
        let simulated = simulated(shipped, "http://127.0.0.1:1/v1".to_owned());
        assert!(simulated.is_usable() && simulated.disabled_reason.is_none());
        assert_eq!(simulated.limits, [Limit { scope: Scope::Account, ..documented }]);
        assert!(simulated.models.iter().all(|model| model.enabled && model.limits.is_empty()));
        assert_eq!(simulated.accounts.len(), 1);
    }

    #[test]
    fn a_keyless_provider_is_given_no_key() {
        assert!(account(Auth::None).keys.is_empty());
        assert_eq!(account(Auth::Bearer).keys.len(), 1);
    }
}
