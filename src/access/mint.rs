//! New keys.

use super::hex;
use super::random::{self, NoRandomness};
use crate::domain::secret::Secret;

/// What every minted key begins with, so that scanners for leaked secrets can know it.
const PREFIX: &str = "freellmapi-";

/// Random bytes in a key. Chosen: 192 bits, beyond any search.
const KEY_BYTES: usize = 24;

/// The Bearer secret of a tenant, in the one moment in which it is known in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey(Secret<String>);

impl ApiKey {
    /// A new key: `freellmapi-` and 48 lowercase hex digits.
    ///
    /// # Errors
    /// [`NoRandomness`].
    pub fn mint() -> Result<Self, NoRandomness> {
        let random = random::bytes::<KEY_BYTES>()?;
        Ok(Self(Secret::new(format!("{PREFIX}{}", hex::encode(&random)))))
    }

    /// The key itself, to be shown once.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_key_has_the_promised_form_and_prints_nothing() {
        let key = ApiKey::mint().unwrap();
        let digits = key.expose().strip_prefix("freellmapi-").unwrap();
        assert_eq!(digits.len(), 48);
        assert!(digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')));
        assert!(!format!("{key:?}").contains(digits));
        assert_ne!(key, ApiKey::mint().unwrap());
    }
}
