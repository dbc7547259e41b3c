//! Encrypting small secrets for the store.
//!
//! A sealed value is `version (1 byte) | nonce (12) | ciphertext and tag`. The version and the name under which the
//! value is stored are authenticated with it, so that a sealed value cannot be moved to another name.

use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use thiserror::Error;

use super::random::{self, NoRandomness};

/// The form that this release writes: ChaCha20-Poly1305 with a random nonce. Random ones may not repeat under one
/// key: with 96 bits that holds for 2^32 seals, and a store has a handful.
const VERSION: u8 = 1;

/// Why a sealed value could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum Unsealable {
    /// Another key sealed it, or it was altered: the two cannot be told apart.
    #[error("another key sealed the value, or it was altered")]
    WrongKey,
    /// It begins with no version that this release knows.
    #[error("the value is sealed in a form that this release does not know")]
    UnknownForm,
}

/// Encrypts `secret` for storage under `name`.
pub(super) fn seal(key: &[u8; 32], name: &str, secret: &[u8]) -> Result<Vec<u8>, NoRandomness> {
    let nonce = random::bytes::<NONCE_LEN>()?;
    let mut ciphertext = secret.to_vec();
    // Fails only for a secret of many gigabytes; a value that cannot be sealed is as lost as without randomness.
    cipher(key)
        .and_then(|cipher| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            cipher.seal_in_place_append_tag(nonce, bound_to(name), &mut ciphertext).ok()
        })
        .ok_or(NoRandomness)?;
    Ok([&[VERSION], nonce.as_slice(), &ciphertext].concat())
}

/// Decrypts what is stored under `name`.
pub(super) fn open(key: &[u8; 32], name: &str, sealed: &[u8]) -> Result<Vec<u8>, Unsealable> {
    let Some((&VERSION, rest)) = sealed.split_first() else {
        return Err(Unsealable::UnknownForm);
    };
    let (nonce, ciphertext) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Unsealable::UnknownForm)?;
    let mut buffer = ciphertext.to_vec();
    let nonce = Nonce::assume_unique_for_key(*nonce);
    cipher(key)
        .and_then(|cipher| {
            cipher.open_in_place(nonce, bound_to(name), &mut buffer).ok().map(|text| text.to_vec())
        })
        .ok_or(Unsealable::WrongKey)
}

/// `None` never comes: the length is right by type, which the library cannot see.
fn cipher(key: &[u8; 32]) -> Option<LessSafeKey> {
    UnboundKey::new(&CHACHA20_POLY1305, key).ok().map(LessSafeKey::new)
}

fn bound_to(name: &str) -> Aad<Vec<u8>> {
    Aad::from([&[VERSION], name.as_bytes()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: [u8; 32] = [7; 32];

    proptest! {
        #[test]
        fn what_is_sealed_opens_under_its_key_and_name_only(secret: Vec<u8>, flipped: prop::sample::Index) {
            let sealed = seal(&KEY, "pepper", &secret).unwrap();
            prop_assert_eq!(open(&KEY, "pepper", &sealed), Ok(secret));
            prop_assert_eq!(open(&[8; 32], "pepper", &sealed), Err(Unsealable::WrongKey));
            prop_assert_eq!(open(&KEY, "salt", &sealed), Err(Unsealable::WrongKey));
            let mut altered = sealed;
            let at = flipped.index(altered.len());
            altered[at] ^= 1;
            prop_assert!(open(&KEY, "pepper", &altered).is_err());
        }
    }

    #[test]
    fn an_unknown_form_is_told_apart() {
        for sealed in [&[][..], &[2; 60], &[VERSION, 0, 0]] {
            assert_eq!(open(&KEY, "pepper", sealed), Err(Unsealable::UnknownForm));
        }
    }

    #[test]
    fn the_same_secret_is_never_sealed_alike() {
        assert_ne!(seal(&KEY, "pepper", b"x").unwrap(), seal(&KEY, "pepper", b"x").unwrap());
    }
}
