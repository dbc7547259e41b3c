//! The secret that turns keys into digests.

use std::fmt;

use ring::hmac;
use thiserror::Error;

use super::master_key::MasterKey;
use super::random::{self, NoRandomness};
use super::seal::{self, Unsealable};
use crate::db::{Store, StoreError};

/// The name under which the store keeps the sealed pepper.
const SEAL_NAME: &str = "pepper";

const PEPPER_BYTES: usize = 32;

/// One store's own random key for digests; the same for all of its replicas, for as long as the store exists.
///
/// HMAC and not a slow password hash: what is digested has 192 random bits (or an operator's 24 characters), and
/// every request pays for it.
pub struct Pepper(hmac::Key);

/// Why there is no pepper.
#[derive(Debug, Error)]
pub enum PepperError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store was set up with another master key.
    #[error(
        "the master key does not open this store: set FREELLMAPI_MASTER_KEY to the one that the store was set up \
         with (SQLite without the variable: put that key back into `master.key` beside the store)"
    )]
    WrongMasterKey,
    /// A newer release sealed it.
    #[error("the store's pepper is sealed in a form that this release does not know: use the newer release")]
    UnknownForm,
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
}

impl From<Unsealable> for PepperError {
    fn from(reason: Unsealable) -> Self {
        match reason {
            Unsealable::WrongKey => Self::WrongMasterKey,
            Unsealable::UnknownForm => Self::UnknownForm,
        }
    }
}

impl Pepper {
    /// The pepper of this store, made when it has none yet; replicas that start together agree on one. Blocks.
    ///
    /// # Errors
    /// [`PepperError`]; all but [`PepperError::Store`] and [`PepperError::NoRandomness`] are the operator's to set
    /// right.
    pub fn obtain(store: &dyn Store, master: &MasterKey) -> Result<Self, PepperError> {
        if let Some(pepper) = Self::find(store, master)? {
            return Ok(pepper);
        }
        let fresh = random::bytes::<PEPPER_BYTES>()?;
        let sealed = store.put_seal_if_absent(SEAL_NAME, &seal::seal(master.bytes(), SEAL_NAME, &fresh)?)?;
        Self::open(master, &sealed)
    }

    /// The pepper of this store, if it has one already. Changes nothing. Blocks.
    ///
    /// # Errors
    /// [`PepperError`], as of [`Pepper::obtain`].
    pub fn find(store: &dyn Store, master: &MasterKey) -> Result<Option<Self>, PepperError> {
        store.seal(SEAL_NAME)?.map(|sealed| Self::open(master, &sealed)).transpose()
    }

    /// Whether this store has a pepper, which only the master key that sealed it can open. Blocks.
    ///
    /// # Errors
    /// When the store cannot be asked.
    pub fn is_sealed(store: &dyn Store) -> Result<bool, StoreError> {
        Ok(store.seal(SEAL_NAME)?.is_some())
    }

    fn open(master: &MasterKey, sealed: &[u8]) -> Result<Self, PepperError> {
        Ok(Self::of(&seal::open(master.bytes(), SEAL_NAME, sealed)?))
    }

    pub(super) fn of(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The digest by which `key` is stored and found.
    pub fn digest(&self, key: &str) -> [u8; 32] {
        let mut digest = [0; 32];
        let tag = hmac::sign(&self.0, key.as_bytes());
        digest.iter_mut().zip(tag.as_ref()).for_each(|(byte, tag)| *byte = *tag);
        digest
    }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper([secret])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::hex;

    #[test]
    fn a_digest_is_hmac_sha256() {
        // Test case 2 of RFC 4231.
        let digest = Pepper::of(b"Jefe").digest("what do ya want for nothing?");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex::encode(&digest), expected);
    }
}
