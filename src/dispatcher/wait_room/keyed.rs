//! Maps by numbers that we mint ourselves.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by a number or an id of ours. Nobody outside chooses these, so that nobody can make them collide, and the
/// usual hash, which is safe against that, would be half of what an offer costs.
pub(super) type Keyed<K, V> = HashMap<K, V, BuildHasherDefault<Spread>>;

/// Spreads consecutive numbers over the whole range, by Fibonacci hashing.
#[derive(Debug, Default)]
pub(super) struct Spread(u64);

/// 2^64 divided by the golden ratio: Knuth, The Art of Computer Programming, volume 3, 6.4.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Spread {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        // The map uses the highest bits and the lowest ones; the product is good in the high ones.
        let product = (self.0 ^ number).wrapping_mul(GOLDEN);
        self.0 = product ^ (product >> 32);
    }

    fn write_usize(&mut self, position: usize) {
        self.write_u64(position as u64);
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number.cast_unsigned());
    }
}
