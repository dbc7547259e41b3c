//! All keys in memory, and the decision whom they admit.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use thiserror::Error;

use crate::db::KeyRow;
use crate::domain::clock::Moment;
use crate::domain::ids::{KeyId, TenantId};
use crate::domain::tenant::TenantPolicy;

/// Bytes of a digest by which a key is looked up. Chosen: with 64 bits, keys that share them are no event.
const PREFIX_BYTES: usize = 8;

/// Who asks: a tenant, by one of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub tenant: TenantId,
    pub key: KeyId,
    /// What the tenant may do, as of the keyring that admitted it.
    pub policy: Arc<TenantPolicy>,
}

/// Why a key does not admit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    #[error("no such key")]
    Unknown,
    #[error("the key was revoked")]
    Revoked,
    #[error("the key has expired")]
    Expired,
    /// The store cannot be asked whether the key is good: 503, not 401.
    #[error("the store is away, so that the key cannot be checked")]
    StoreAway,
}

/// The keys of all tenants as they were at one load; pure.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    /// Ordered by the prefix of the digest.
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    digest: [u8; 32],
    caller: Caller,
    expires_at: Moment,
    /// Without its instant: who revoked it may have a clock that is ahead of ours.
    is_revoked: bool,
}

impl Keyring {
    /// The keyring of these keys, revoked and expired ones included. Keys of tenants without a policy are left
    /// out: such a tenant is gone.
    pub fn new(rows: Vec<KeyRow>, policies: &HashMap<TenantId, Arc<TenantPolicy>>) -> Self {
        let entry = |row: KeyRow| Some(Entry::new(&row, Arc::clone(policies.get(&row.tenant)?)));
        let mut entries: Vec<Entry> = rows.into_iter().filter_map(entry).collect();
        entries.sort_unstable_by_key(|entry| prefix(&entry.digest));
        Self { entries }
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Who shows the key of this digest.
    ///
    /// # Errors
    /// [`Refused`], never [`Refused::StoreAway`]: a keyring knows nothing of the store.
    pub fn admit(&self, digest: &[u8; 32], now: Moment) -> Result<Caller, Refused> {
        let entry = self.find(digest).ok_or(Refused::Unknown)?;
        if entry.is_revoked {
            Err(Refused::Revoked)
        } else if entry.expires_at <= now {
            Err(Refused::Expired)
        } else {
            Ok(entry.caller.clone())
        }
    }

    /// The search by prefix may tell by its time how a digest begins. That helps nobody, for without the pepper no
    /// one can choose what his guesses digest to; the rest is compared in constant time all the same.
    fn find(&self, digest: &[u8; 32]) -> Option<&Entry> {
        let wanted = prefix(digest);
        let start = self.entries.partition_point(|entry| prefix(&entry.digest) < wanted);
        self.entries
            .iter()
            .skip(start)
            .take_while(|entry| prefix(&entry.digest) == wanted)
            .find(|entry| is_same(&entry.digest, digest))
    }
}

impl Entry {
    fn new(row: &KeyRow, policy: Arc<TenantPolicy>) -> Self {
        Self {
            digest: row.digest,
            caller: Caller { tenant: row.tenant, key: row.id, policy },
            expires_at: row.expires_at.unwrap_or(Moment::NEVER),
            is_revoked: row.revoked_at.is_some(),
        }
    }
}

fn prefix(digest: &[u8; 32]) -> [u8; PREFIX_BYTES] {
    digest.first_chunk().copied().unwrap_or_default()
}

/// Takes the same time wherever the digests differ. Our own fold, because ring deprecates its comparison of two
/// values at hand, and its `hmac::verify` would digest the key a second time.
fn is_same(left: &[u8; 32], right: &[u8; 32]) -> bool {
    let difference = left.iter().zip(right).fold(0, |difference, (left, right)| difference | (left ^ right));
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(micros: i64) -> Moment {
        Moment::from_unix_micros(micros)
    }

    fn row(id: i64, digest: [u8; 32]) -> KeyRow {
        KeyRow {
            id: KeyId(id),
            tenant: TenantId(id * 10),
            tenant_name: "t".to_owned(),
            label: String::new(),
            digest,
            created_at: at(0),
            expires_at: None,
            revoked_at: None,
        }
    }

    /// A keyring whose tenants all have a policy.
    fn keyring(rows: Vec<KeyRow>) -> Keyring {
        let policies = rows.iter().map(|row| (row.tenant, TenantPolicy::unrestricted())).collect();
        Keyring::new(rows, &policies)
    }

    proptest! {
        /// Digests from two values a byte only: shared prefixes and near misses are the rule.
        #[test]
        fn a_digest_admits_exactly_when_it_is_in_the_keyring(
            known in prop::collection::hash_set(prop::array::uniform32(0u8..2), 0..40),
            asked in prop::array::uniform32(0u8..2),
            shared in any::<bool>(),
        ) {
            let known: Vec<[u8; 32]> = known
                .into_iter()
                .map(|mut digest| {
                    if shared {
                        digest[..PREFIX_BYTES].fill(0);
                    }
                    digest
                })
                .collect();
            let rows: Vec<KeyRow> = (0i64..).zip(&known).map(|(id, digest)| row(id, *digest)).collect();
            let keyring = keyring(rows);
            for digest in &known {
                let caller = keyring.admit(digest, at(1)).unwrap();
                let id = usize::try_from(caller.key.0).unwrap();
                prop_assert_eq!(&known[id], digest);
            }
            prop_assert_eq!(keyring.admit(&asked, at(1)).is_ok(), known.contains(&asked));
        }
    }

    #[test]
    fn the_end_of_a_key_is_the_first_instant_at_which_it_admits_nobody() {
        let expiring = KeyRow { expires_at: Some(at(100)), ..row(1, [1; 32]) };
        let keyring = keyring(vec![expiring]);
        assert_eq!(keyring.admit(&[1; 32], at(99)).map(|caller| caller.tenant), Ok(TenantId(10)));
        assert_eq!(keyring.admit(&[1; 32], at(100)), Err(Refused::Expired));
        assert_eq!(keyring.admit(&[3; 32], at(0)), Err(Refused::Unknown));
    }

    #[test]
    fn a_revoked_key_is_refused_even_when_the_clock_that_revoked_it_is_ahead() {
        let expired = KeyRow { expires_at: Some(at(10)), revoked_at: Some(at(50)), ..row(1, [1; 32]) };
        let keyring = keyring(vec![expired]);
        for now in [0, 10, 49, 50] {
            assert_eq!(keyring.admit(&[1; 32], at(now)), Err(Refused::Revoked));
        }
    }

    #[test]
    fn a_caller_has_the_policy_of_its_tenant_and_a_tenant_without_one_is_gone() {
        let policy = Arc::new(TenantPolicy { weight: 3, ..TenantPolicy::default() });
        let policies = HashMap::from([(TenantId(10), Arc::clone(&policy))]);
        let keyring = Keyring::new(vec![row(1, [1; 32]), row(2, [2; 32])], &policies);
        assert_eq!(keyring.admit(&[1; 32], at(0)).unwrap().policy, policy);
        assert_eq!(keyring.admit(&[2; 32], at(0)), Err(Refused::Unknown));
    }
}
