//! What a tenant may use.

use super::catalog::{Catalog, Target};
use super::why_not::WhyNot;
use crate::domain::bits::Bits;

/// The tenant's filter, borrowed from its policy. The default allows everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed<'a> {
    /// Families, upstream ids and `provider/model`; `None` = all.
    pub models: Option<&'a [String]>,
    /// Only providers that do not train on what they are sent.
    pub no_training: bool,
}

/// The same over one catalogue, quick to ask.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    /// Positions in the catalogue; `None` = all.
    allowed: Option<Bits>,
    no_training: bool,
}

impl Filter {
    pub(super) fn new(allowed: &Allowed<'_>, catalog: &Catalog) -> Self {
        let listed = |names: &[String]| {
            let (mut positions, models) = (Bits::default(), catalog.model_count());
            let targets = names.iter().flat_map(|name| catalog.by_name(name));
            let known = targets.map(|target| catalog.position(*target)).filter(|position| *position < models);
            known.for_each(|position| positions.insert(position));
            positions
        };
        Self { allowed: allowed.models.map(listed), no_training: allowed.no_training }
    }

    /// Why the model at `position` in the catalogue, of a provider that trains or does not, may not be used.
    pub(super) fn against(&self, position: usize, trains_on_data: bool) -> Option<WhyNot> {
        if !self.allowed.as_ref().is_none_or(|listed| listed.contains(position)) {
            return Some(WhyNot::NotAllowed);
        }
        (self.no_training && trains_on_data).then_some(WhyNot::DataPolicy)
    }
}

impl Allowed<'_> {
    /// Whether `target` may be used. For lists of models; a plan asks a `Filter`.
    pub fn admits(&self, catalog: &Catalog, target: Target) -> bool {
        let trains_on_data = catalog.spec(target).is_none_or(|(provider, _)| provider.trains_on_data);
        Filter::new(self, catalog).against(catalog.position(target), trains_on_data).is_none()
    }
}
