//! Who shares a cooldown within one account.

use crate::domain::provider::ProviderSpec;

use super::demand::ModelIndex;

/// A position among the provider's pools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolIndex(pub usize);

/// What of an account is left alone together: what shares the limit, or what does not work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CooldownScope {
    /// All of it.
    Account,
    Model(ModelIndex),
    /// The models of a pool.
    Pool(PoolIndex),
}

/// The pools of one provider, in the order in which its models name them.
#[derive(Clone, Debug, Default)]
pub struct Pools {
    pools: Vec<Pool>,
    /// By model.
    pool_of: Vec<Option<PoolIndex>>,
}

#[derive(Clone, Debug)]
struct Pool {
    name: String,
    models: Vec<ModelIndex>,
}

impl Pools {
    pub fn new(spec: &ProviderSpec) -> Self {
        let mut all = Self::default();
        for (index, model) in spec.models.iter().enumerate() {
            let pool = model.pool.as_deref().map(|name| all.join(name, ModelIndex(index)));
            all.pool_of.push(pool);
        }
        all
    }

    /// The pool of that name.
    pub fn named(&self, name: &str) -> Option<PoolIndex> {
        self.pools.iter().position(|pool| pool.name == name).map(PoolIndex)
    }

    /// Their names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pools.iter().map(|pool| pool.name.as_str())
    }

    /// What a book has to leave alone for a scope: the whole account (`None`), or these models.
    pub fn members(&self, scope: CooldownScope) -> impl Iterator<Item = Option<ModelIndex>> + '_ {
        let (single, pool) = match scope {
            CooldownScope::Account => (Some(None), None),
            CooldownScope::Model(model) => (Some(Some(model)), None),
            CooldownScope::Pool(PoolIndex(pool)) => (None, self.pools.get(pool)),
        };
        let pooled = pool.into_iter().flat_map(|pool| pool.models.iter().copied().map(Some));
        single.into_iter().chain(pooled)
    }

    /// Everything that has to let an attempt at the model pass.
    pub fn scopes(&self, model: ModelIndex) -> impl Iterator<Item = CooldownScope> + use<> {
        let pool = self.pool_of.get(model.0).copied().flatten().map(CooldownScope::Pool);
        [Some(CooldownScope::Account), Some(CooldownScope::Model(model)), pool].into_iter().flatten()
    }

    /// Adds a model to the pool of that name; says which one it is.
    fn join(&mut self, name: &str, model: ModelIndex) -> PoolIndex {
        let pool = self.named(name).unwrap_or(PoolIndex(self.pools.len()));
        match self.pools.get_mut(pool.0) {
            Some(pool) => pool.models.push(model),
            None => self.pools.push(Pool { name: name.to_owned(), models: vec![model] }),
        }
        pool
    }
}
