//! Bytes that nobody can guess.

use ring::rand::{SecureRandom, SystemRandom};
use thiserror::Error;

/// The operating system gave no random bytes: nothing secret can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the operating system gives no random bytes")]
pub struct NoRandomness;

/// `N` bytes of the operating system's cryptographic randomness.
pub(super) fn bytes<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}
