//! Every model of every provider, ready to be chosen from.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::chat::{ModelSelector, Strategy};
use crate::domain::ids::ModelNumber;
use crate::domain::provider::{ModelSpec, ProviderSpec};
use crate::quota::ModelIndex;

/// One model of one provider, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Position in [`Catalog::providers`].
    pub provider: usize,
    pub model: ModelIndex,
}

/// The providers and their models; immutable once built.
#[derive(Debug)]
pub struct Catalog {
    providers: Vec<Arc<ProviderSpec>>,
    /// Enabled models of usable providers, best first, one list a strategy.
    smart: Vec<Target>,
    fast: Vec<Target>,
    balanced: Vec<Target>,
    by_number: HashMap<ModelNumber, Target>,
    by_name: HashMap<String, Vec<Target>>,
}

impl Catalog {
    pub fn new(providers: Vec<Arc<ProviderSpec>>) -> Self {
        let enabled: Vec<Target> = enabled_targets(&providers).collect();
        let ordered = |rank: fn(&ModelSpec) -> (u32, u32)| {
            let mut targets = enabled.clone();
            targets.sort_by_key(|target| spec_of(&providers, *target).map(|(_, model)| rank(model)));
            targets
        };
        Self {
            smart: ordered(|model| (model.intelligence_rank, model.speed_rank)),
            fast: ordered(|model| (model.speed_rank, model.intelligence_rank)),
            balanced: ordered(|model| (balance(model), model.intelligence_rank)),
            by_number: numbered(&providers, &enabled),
            by_name: named(&providers, &enabled),
            providers,
        }
    }

    pub fn providers(&self) -> &[Arc<ProviderSpec>] {
        &self.providers
    }

    /// The provider and the model at `target`.
    pub fn spec(&self, target: Target) -> Option<(&ProviderSpec, &ModelSpec)> {
        spec_of(&self.providers, target)
    }

    /// Every enabled target, in the order of `strategy`.
    pub fn ordered(&self, strategy: Strategy) -> &[Target] {
        match strategy {
            Strategy::Smart => &self.smart,
            Strategy::Fast => &self.fast,
            Strategy::Balanced => &self.balanced,
        }
    }

    /// The enabled targets that `selector` names, unordered; `None` = all.
    pub fn selected(&self, selector: &ModelSelector) -> Option<&[Target]> {
        match selector {
            ModelSelector::Auto(_) => None,
            ModelSelector::Number(number) => {
                Some(self.by_number.get(number).map(std::slice::from_ref).unwrap_or_default())
            }
            ModelSelector::Named(name) => Some(self.by_name.get(name).map(Vec::as_slice).unwrap_or_default()),
        }
    }

    /// Every name by which `/v1` knows a model, sorted: families, upstream ids and `provider/model`.
    pub fn names(&self) -> Vec<(&str, &[Target])> {
        let mut names: Vec<_> =
            self.by_name.iter().map(|(name, targets)| (name.as_str(), targets.as_slice())).collect();
        names.sort_unstable_by_key(|(name, _)| *name);
        names
    }
}

fn spec_of(providers: &[Arc<ProviderSpec>], target: Target) -> Option<(&ProviderSpec, &ModelSpec)> {
    let provider = providers.get(target.provider)?;
    Some((provider, provider.models.get(target.model.0)?))
}

fn enabled_targets(providers: &[Arc<ProviderSpec>]) -> impl Iterator<Item = Target> + '_ {
    providers.iter().enumerate().filter(|(_, provider)| provider.is_usable()).flat_map(
        |(position, provider)| {
            let models = provider.models.iter().enumerate().filter(|(_, model)| model.enabled);
            models.map(move |(model, _)| Target { provider: position, model: ModelIndex(model) })
        },
    )
}

/// Ability counts as much as speed. Ranks of ability run to about 100 and ranks of speed to 10 (the shipped
/// catalogue of 2026-11-22), so a rank of speed weighs ten times as much.
fn balance(model: &ModelSpec) -> u32 {
    model.intelligence_rank.saturating_add(model.speed_rank.saturating_mul(10))
}

fn numbered(providers: &[Arc<ProviderSpec>], enabled: &[Target]) -> HashMap<ModelNumber, Target> {
    let number = |target: &Target| spec_of(providers, *target).and_then(|(_, model)| model.number);
    enabled.iter().filter_map(|target| Some((number(target)?, *target))).collect()
}

fn named(providers: &[Arc<ProviderSpec>], enabled: &[Target]) -> HashMap<String, Vec<Target>> {
    let mut names: HashMap<String, Vec<Target>> = HashMap::new();
    for target in enabled {
        let Some((provider, model)) = spec_of(providers, *target) else { continue };
        let full = format!("{}/{}", provider.id, model.id);
        for name in [Some(full), Some(model.id.clone()), model.family.clone()].into_iter().flatten() {
            let targets = names.entry(name).or_default();
            if !targets.contains(target) {
                targets.push(*target);
            }
        }
    }
    names
}
