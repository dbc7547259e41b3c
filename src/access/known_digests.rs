//! The digests of keys that were shown before, so that a known key costs no HMAC.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// How many are kept. Chosen: 64 bytes each; more keys than this in use at once cost what they did without.
const KEPT_MAX: usize = 4_096;

/// Digests by a fingerprint of their keys; the keys themselves are not kept. What a digest admits is not known here:
/// a revocation acts at once.
///
/// The fingerprint is 128 bits of SipHash under a key that is random in every process: whoever would be taken for
/// another would have to guess those, with one guess a request.
#[derive(Debug, Default)]
pub(super) struct KnownDigests {
    seeds: RandomState,
    by_fingerprint: HashMap<Fingerprint, [u8; 32]>,
}

/// Of one key; good for the [`KnownDigests`] that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Fingerprint(u64, u64);

impl KnownDigests {
    /// The two halves differ by a byte in front of what is hashed, which makes them as independent as two keys.
    pub(super) fn fingerprint(&self, key: &str) -> Fingerprint {
        let half = |mark: u8| {
            let mut hasher = self.seeds.build_hasher();
            hasher.write_u8(mark);
            hasher.write(key.as_bytes());
            hasher.finish()
        };
        Fingerprint(half(0), half(1))
    }

    pub(super) fn get(&self, fingerprint: Fingerprint) -> Option<&[u8; 32]> {
        self.by_fingerprint.get(&fingerprint)
    }

    /// Only keys that admit belong here: a stranger's guesses would displace them.
    pub(super) fn insert(&mut self, fingerprint: Fingerprint, digest: [u8; 32]) {
        if self.by_fingerprint.len() >= KEPT_MAX {
            self.by_fingerprint.clear();
        }
        self.by_fingerprint.insert(fingerprint, digest);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_fingerprint.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_fingerprint_of_its_own_in_every_process() {
        let (here, there) = (KnownDigests::default(), KnownDigests::default());
        let keys = ["", "a", "b", "\0", "\0\0", "\u{1}", "ab"];
        for (index, key) in keys.iter().enumerate() {
            assert_eq!(here.fingerprint(key), here.fingerprint(key));
            assert_ne!(here.fingerprint(key), there.fingerprint(key));
            for other in keys.iter().skip(index + 1) {
                assert_ne!(here.fingerprint(key), here.fingerprint(other), "{key:?} {other:?}");
            }
        }
    }

    #[test]
    fn it_never_grows_beyond_its_bound() {
        let mut known = KnownDigests::default();
        for number in 0..KEPT_MAX * 2 + 1 {
            let fingerprint = known.fingerprint(&number.to_string());
            known.insert(fingerprint, [1; 32]);
            assert!(known.get(fingerprint).is_some() && known.len() <= KEPT_MAX);
        }
    }
}
