//! By what names the ledger knows a provider's accounts and models.

use std::sync::Arc;

use crate::db::HoldTarget;
use crate::domain::provider::{AccountSpec, ProviderSpec};
use crate::quota::{AccountIndex, ModelIndex};

/// Bytes of a fingerprint that are kept. Chosen: 128 bits, so that no two keys share one.
const FINGERPRINT_BYTES: usize = 16;

/// The names of one provider's targets.
#[derive(Clone, Debug)]
pub struct Names {
    provider: String,
    accounts: Vec<AccountNames>,
    models: Vec<String>,
}

#[derive(Clone, Debug)]
struct AccountNames {
    whole: Arc<HoldTarget>,
    /// A fingerprint of the key that it is reached by.
    key: Option<String>,
    models: Vec<Arc<HoldTarget>>,
}

impl Names {
    /// `fingerprint` digests a text under a secret that stays the same for as long as the store exists.
    ///
    /// A stated `[[account]]` is known by its name, so that it survives the rotation of its keys; a key of `keys_env`
    /// by its fingerprint, because its place in the list is no identity.
    pub fn new(spec: &ProviderSpec, fingerprint: impl Fn(&str) -> [u8; 32]) -> Self {
        let provider = spec.id.as_str();
        let models: Vec<String> = spec.models.iter().map(|model| model.id.clone()).collect();
        let target = |account: &str, model: &str| {
            let (provider, account, model) = (provider.to_owned(), account.to_owned(), model.to_owned());
            Arc::new(HoldTarget { provider, account, model })
        };
        let names = |account: &AccountSpec| {
            let identity = identity(provider, account, &fingerprint);
            AccountNames {
                whole: target(&identity, ""),
                key: account
                    .keys
                    .first()
                    .map(|key| digits(&fingerprint(&format!("key of {provider}: {}", key.expose())))),
                models: models.iter().map(|model| target(&identity, model)).collect(),
            }
        };
        Self { accounts: spec.accounts.iter().map(names).collect(), provider: provider.to_owned(), models }
    }

    pub(super) fn provider(&self) -> &str {
        &self.provider
    }

    pub(super) fn model_names(&self) -> &[String] {
        &self.models
    }

    /// All of an account, or one model on it.
    pub(super) fn target(
        &self,
        account: AccountIndex,
        model: Option<ModelIndex>,
    ) -> Option<&Arc<HoldTarget>> {
        let names = self.accounts.get(account.0)?;
        model.map_or(Some(&names.whole), |model| names.models.get(model.0))
    }

    /// Tells the key that an account is reached by from every other one; `None` where there is none.
    pub(super) fn key(&self, account: AccountIndex) -> Option<&str> {
        self.accounts.get(account.0)?.key.as_deref()
    }

    /// Where a kept target lies in the configuration of today; `None` when it is not there any more.
    pub(super) fn find(&self, target: &HoldTarget) -> Option<(AccountIndex, Option<ModelIndex>)> {
        if target.provider != self.provider {
            return None;
        }
        let account = self.accounts.iter().position(|names| names.whole.account == target.account)?;
        if target.model.is_empty() {
            return Some((AccountIndex(account), None));
        }
        let model = self.models.iter().position(|model| *model == target.model)?;
        Some((AccountIndex(account), Some(ModelIndex(model))))
    }

    /// Every model on every account.
    pub(super) fn targets(&self) -> impl Iterator<Item = (AccountIndex, ModelIndex, &HoldTarget)> {
        self.accounts.iter().enumerate().flat_map(|(account, names)| {
            let models = names.models.iter().enumerate();
            models.map(move |(model, target)| (AccountIndex(account), ModelIndex(model), &**target))
        })
    }

    pub(super) fn account_count(&self) -> usize {
        self.accounts.len()
    }
}

fn identity(provider: &str, account: &AccountSpec, fingerprint: impl Fn(&str) -> [u8; 32]) -> String {
    let key = account.keys.first().filter(|_| is_numbered(&account.name));
    match key {
        None => format!("name:{}", account.name),
        Some(key) => {
            // The provider is digested along: the same key elsewhere is another account.
            let digest = fingerprint(&format!("account of {provider}: {}", key.expose()));
            format!("key:{}", digits(&digest))
        }
    }
}

fn digits(digest: &[u8; 32]) -> String {
    digest.iter().take(FINGERPRINT_BYTES).map(|byte| format!("{byte:02x}")).collect()
}

/// The names that the configuration gives to keys without an account of their own; no stated account may have one.
fn is_numbered(name: &str) -> bool {
    let number = name.strip_prefix("env-");
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::spec;
    use super::*;
    use crate::domain::secret::Secret;

    /// No secret, but different for different texts.
    fn fingerprint(text: &str) -> [u8; 32] {
        let mut bytes = [0; 32];
        text.bytes()
            .enumerate()
            .for_each(|(index, byte)| bytes[index % 16] ^= byte.rotate_left(index as u32 / 16));
        bytes
    }

    fn accounts(accounts: &[(&str, &str)]) -> Vec<String> {
        let mut spec = spec(&[]);
        spec.accounts = accounts
            .iter()
            .map(|(name, key)| AccountSpec {
                name: (*name).to_owned(),
                keys: vec![Secret::new((*key).to_owned())],
            })
            .collect();
        let names = Names::new(&spec, fingerprint);
        names.accounts.iter().map(|names| names.whole.account.clone()).collect()
    }

    #[test]
    fn a_key_is_known_wherever_it_stands_in_the_list() {
        let first = accounts(&[("env-1", "alpha"), ("env-2", "beta")]);
        let swapped = accounts(&[("env-1", "beta"), ("env-2", "alpha")]);
        assert_eq!((&first[0], &first[1]), (&swapped[1], &swapped[0]));
        assert_ne!(first[0], first[1]);
        assert!(first[0].starts_with("key:") && first[0].len() == 36 && !first[0].contains("alpha"));
    }

    #[test]
    fn a_stated_account_survives_the_rotation_of_its_key() {
        assert_eq!(accounts(&[("team-a", "old")]), accounts(&[("team-a", "new")]));
        assert_eq!(accounts(&[("team-a", "old")]), ["name:team-a"]);
        assert_ne!(accounts(&[("env-1", "old")]), accounts(&[("env-1", "new")]));
    }
}
