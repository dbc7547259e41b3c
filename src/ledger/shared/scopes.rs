//! By what names the replicas share what they leave alone of one provider's accounts; pure.
//!
//! What a key concerns is known by the key besides the account: with another key the account is open at once, and
//! replicas that still have the old one do not keep the new one's away.

use std::sync::Arc;

use super::memory::KnownCooling;
use crate::db::shared_ledger::AccountPart;
use crate::domain::cooldown::CooldownReason;
use crate::domain::provider::ProviderSpec;
use crate::ledger::identity::Names;
use crate::ledger::left_alone::LeftAlone;
use crate::quota::{AccountIndex, CooldownScope, ModelIndex, PoolIndex, Pools};

/// All of an account, whatever its key.
const ACCOUNT: &str = "";

/// The parts of one provider's accounts.
#[derive(Debug)]
pub(super) struct Scopes {
    accounts: Vec<Account>,
    /// By model.
    models: Vec<String>,
    /// By pool.
    pool_names: Vec<String>,
    pools: Pools,
}

#[derive(Debug)]
struct Account {
    identity: String,
    /// `None` for one that has no key.
    key: Option<String>,
}

impl Scopes {
    pub(super) fn new(spec: &ProviderSpec, names: &Names) -> Self {
        let account = |index| {
            let identity = names.target(AccountIndex(index), None)?.account.clone();
            let key = names.key(AccountIndex(index)).map(|fingerprint| format!("key:{fingerprint}"));
            Some(Account { identity, key })
        };
        let pools = Pools::new(spec);
        Self {
            accounts: (0..names.account_count()).filter_map(account).collect(),
            models: spec.models.iter().map(|model| format!("model:{}", model.id)).collect(),
            pool_names: pools.names().map(|name| format!("pool:{name}")).collect(),
            pools,
        }
    }

    /// The name of what is left alone for that reason.
    pub(super) fn part(
        &self,
        account: AccountIndex,
        scope: CooldownScope,
        reason: CooldownReason,
    ) -> Option<AccountPart> {
        let account = self.accounts.get(account.0)?;
        let scope = match scope {
            CooldownScope::Account => {
                account.key.as_deref().filter(|_| reason.is_of_key()).unwrap_or(ACCOUNT)
            }
            CooldownScope::Model(ModelIndex(model)) => self.models.get(model)?,
            CooldownScope::Pool(PoolIndex(pool)) => self.pool_names.get(pool)?,
        };
        Some(AccountPart { account: account.identity.clone(), scope: scope.to_owned() })
    }

    /// The scopes that have to let an attempt at the model pass on an account.
    pub(super) fn asked(&self, account: AccountIndex, model: ModelIndex) -> Vec<String> {
        let key = self.accounts.get(account.0).and_then(|account| account.key.clone());
        let named = self.pools.scopes(model).filter_map(|scope| match scope {
            CooldownScope::Account => Some(ACCOUNT.to_owned()),
            CooldownScope::Model(ModelIndex(model)) => self.models.get(model).cloned(),
            CooldownScope::Pool(PoolIndex(pool)) => self.pool_names.get(pool).cloned(),
        });
        named.chain(key).collect()
    }

    /// What a name means in the configuration of today; `None` where it means nothing, as another key does.
    pub(super) fn find(&self, part: &AccountPart) -> Option<(AccountIndex, CooldownScope)> {
        let account = self.accounts.iter().position(|account| account.identity == part.account)?;
        let position = |names: &[String]| names.iter().position(|name| *name == part.scope);
        let is_own_key =
            self.accounts.get(account).is_some_and(|account| account.key.as_ref() == Some(&part.scope));
        let scope = if part.scope == ACCOUNT || is_own_key {
            CooldownScope::Account
        } else if let Some(model) = position(&self.models) {
            CooldownScope::Model(ModelIndex(model))
        } else {
            CooldownScope::Pool(PoolIndex(position(&self.pool_names)?))
        };
        Some((AccountIndex(account), scope))
    }
}

/// What is left alone, as it was known last, and what that means here: it is asked for often and changes seldom.
#[derive(Debug, Default)]
pub(super) struct Heard {
    known: Arc<[KnownCooling]>,
    left_alone: Arc<[LeftAlone]>,
}

impl Heard {
    /// What is known, in the terms of today's configuration.
    pub(super) fn of(&mut self, known: Arc<[KnownCooling]>, scopes: &Scopes) -> Arc<[LeftAlone]> {
        if !Arc::ptr_eq(&self.known, &known) {
            let left_alone = known.iter().filter_map(|KnownCooling { part, until, why }| {
                let (account, scope) = scopes.find(part)?;
                Some(LeftAlone { account, scope, until: *until, reason: why.reason, level: why.level })
            });
            self.left_alone = left_alone.collect();
            self.known = known;
        }
        Arc::clone(&self.left_alone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::secret::Secret;
    use crate::ledger::fixture::spec;

    const WHOLE: CooldownScope = CooldownScope::Account;

    fn scopes(key: &str) -> Scopes {
        let mut spec = spec(&[]);
        for account in &mut spec.accounts {
            account.keys = vec![Secret::new(key.to_owned())];
        }
        spec.models[0].pool = Some("free".to_owned());
        // No secret, but different for different texts.
        let fingerprint = |text: &str| {
            let mut bytes = [0; 32];
            text.bytes()
                .enumerate()
                .for_each(|(index, byte)| bytes[index % 16] ^= byte.rotate_left(index as u32 / 16));
            bytes
        };
        let names = Names::new(&spec, fingerprint);
        Scopes::new(&spec, &names)
    }

    #[test]
    fn every_name_is_found_again_and_asked_for() {
        let scopes = scopes("alpha");
        let (model, pool) = (CooldownScope::Model(ModelIndex(0)), CooldownScope::Pool(PoolIndex(0)));
        let kinds = [
            (WHOLE, CooldownReason::RateLimited),
            (WHOLE, CooldownReason::Unauthorized),
            (model, CooldownReason::ModelGone),
            (pool, CooldownReason::RateLimited),
        ];
        for account in [AccountIndex(0), AccountIndex(1)] {
            for (scope, reason) in kinds {
                let part = scopes.part(account, scope, reason).unwrap();
                assert_eq!(scopes.find(&part), Some((account, scope)), "{part:?}");
                assert!(scopes.asked(account, ModelIndex(0)).contains(&part.scope), "{part:?}");
            }
        }
    }

    #[test]
    fn what_concerns_a_key_does_not_concern_the_next_one() {
        let part = |scopes: &Scopes, reason| scopes.part(AccountIndex(0), WHOLE, reason).unwrap();
        let (old, new) = (scopes("alpha"), scopes("beta"));
        for reason in [CooldownReason::Unauthorized, CooldownReason::PaymentRequired] {
            let refused = part(&old, reason);
            assert_eq!(refused.account, "name:a");
            assert_eq!(new.find(&refused), None);
            assert!(!new.asked(AccountIndex(0), ModelIndex(0)).contains(&refused.scope));
            assert!(!refused.scope.contains("alpha"));
        }
        let limited = part(&old, CooldownReason::RateLimited);
        assert_eq!(new.find(&limited), Some((AccountIndex(0), WHOLE)), "the budget is the account's");
    }
}
