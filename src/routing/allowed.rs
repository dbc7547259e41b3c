//! What a tenant may use.

use super::catalog::{Catalog, Target};

/// The tenant's filter, borrowed from its policy. The default allows everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed<'a> {
    /// Families, upstream ids and `provider/model`; `None` = all.
    pub models: Option<&'a [String]>,
    /// Only providers that do not train on what they are sent.
    pub no_training: bool,
}

/// The same over one catalogue, quick to ask: a bit for each model.
#[derive(Clone, Debug)]
pub(super) struct Filter {
    allowed: Option<Vec<u64>>,
    no_training: bool,
}

const BITS: usize = u64::BITS as usize;

impl Filter {
    pub(super) fn new(allowed: &Allowed<'_>, catalog: &Catalog) -> Self {
        let bits = |names: &[String]| {
            let mut bits = vec![0_u64; catalog.model_count().div_ceil(BITS)];
            for target in names.iter().flat_map(|name| catalog.by_name(name)) {
                let position = catalog.position(*target);
                if let Some(word) = bits.get_mut(position / BITS) {
                    *word |= 1 << (position % BITS);
                }
            }
            bits
        };
        Self { allowed: allowed.models.map(bits), no_training: allowed.no_training }
    }

    /// Whether the model at `position` in the catalogue, of a provider that trains or does not, may be used.
    pub(super) fn admits(&self, position: usize, trains_on_data: bool) -> bool {
        let is_listed = |bits: &Vec<u64>| {
            bits.get(position / BITS).is_some_and(|word| word & (1 << (position % BITS)) != 0)
        };
        !(self.no_training && trains_on_data) && self.allowed.as_ref().is_none_or(is_listed)
    }
}

impl Allowed<'_> {
    /// Whether `target` may be used. For lists of models; a plan asks a `Filter`.
    pub fn admits(&self, catalog: &Catalog, target: Target) -> bool {
        let trains_on_data = catalog.spec(target).is_none_or(|(provider, _)| provider.trains_on_data);
        Filter::new(self, catalog).admits(catalog.position(target), trains_on_data)
    }
}
