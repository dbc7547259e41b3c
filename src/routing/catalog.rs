//! Every model of every provider, ready to be chosen from.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::chat::ModelSelector;
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
    /// Enabled models of usable providers.
    enabled: Vec<Target>,
    /// How many models stand before each provider's, enabled or not.
    offsets: Vec<usize>,
    by_number: HashMap<ModelNumber, Target>,
    by_name: HashMap<String, Vec<Target>>,
}

impl Catalog {
    pub fn new(providers: Vec<Arc<ProviderSpec>>) -> Self {
        let enabled: Vec<Target> = enabled_targets(&providers).collect();
        let offsets = providers.iter().scan(0, |sum, provider| {
            let offset = *sum;
            *sum += provider.models.len();
            Some(offset)
        });
        Self {
            by_number: numbered(&providers, &enabled),
            by_name: named(&providers, &enabled),
            offsets: offsets.collect(),
            enabled,
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

    /// Every enabled target, provider by provider.
    pub fn enabled(&self) -> &[Target] {
        &self.enabled
    }

    /// Where `target` stands among all models of all providers.
    pub(super) fn position(&self, target: Target) -> usize {
        self.offsets.get(target.provider).map_or(usize::MAX, |offset| offset.saturating_add(target.model.0))
    }

    /// How many models there are, enabled or not.
    pub(super) fn model_count(&self) -> usize {
        self.providers.iter().map(|provider| provider.models.len()).sum()
    }

    /// The enabled targets of that name.
    pub(super) fn by_name(&self, name: &str) -> &[Target] {
        self.by_name.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// The enabled targets that `selector` names, unordered; `None` = all.
    pub fn selected(&self, selector: &ModelSelector) -> Option<&[Target]> {
        match selector {
            ModelSelector::Auto(_) => None,
            ModelSelector::Number(number) => {
                Some(self.by_number.get(number).map(std::slice::from_ref).unwrap_or_default())
            }
            ModelSelector::Named(name) => Some(self.by_name(name)),
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

fn numbered(providers: &[Arc<ProviderSpec>], enabled: &[Target]) -> HashMap<ModelNumber, Target> {
    let number = |target: &Target| spec_of(providers, *target).and_then(|(_, model)| model.number);
    enabled.iter().filter_map(|target| Some((number(target)?, *target))).collect()
}

/// A name is a family or an upstream's own id; `provider/model` is looked at only where nothing is called so.
fn named(providers: &[Arc<ProviderSpec>], enabled: &[Target]) -> HashMap<String, Vec<Target>> {
    let mut names: HashMap<String, Vec<Target>> = HashMap::new();
    let mut full_names: HashMap<String, Vec<Target>> = HashMap::new();
    for target in enabled {
        let Some((provider, model)) = spec_of(providers, *target) else { continue };
        for name in [Some(&model.id), model.family.as_ref()].into_iter().flatten() {
            let targets = names.entry(name.clone()).or_default();
            if !targets.contains(target) {
                targets.push(*target);
            }
        }
        full_names.entry(format!("{}/{}", provider.id, model.id)).or_default().push(*target);
    }
    for (name, targets) in full_names {
        names.entry(name).or_insert(targets);
    }
    names
}
