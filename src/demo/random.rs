//! Chance that can be repeated: the same seed draws the same faults and latencies.

/// The SplitMix64 generator. Chosen: seven lines, any seed is good, and nothing here needs to be unguessable.
/// Source of the constants: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", 2014.
#[derive(Debug)]
pub(super) struct SplitMix64(u64);

impl SplitMix64 {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A generator of its own for `text`, so that two names under one seed draw differently.
    pub(super) fn for_text(seed: u64, text: &str) -> Self {
        Self::new(seed ^ fnv1a(text))
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound` - 1; 0 for a bound of 0. The bias is below one in 2^32 for small bounds.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }

    /// True in `percent` of 100 draws; always for 100 and more.
    pub(super) fn is_within_percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

/// FNV-1a with 64 bits; std's hasher may change between releases, and then the demo's answers would too.
/// Source of the constants: the 64-bit offset basis and prime of Fowler, Noll and Vo.
pub(super) fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_draws_are_those_of_the_reference() {
        let mut random = SplitMix64::new(0);
        assert_eq!(random.next_u64(), 0xE220_A839_7B1D_CDAF);
        assert_eq!(random.next_u64(), 0x6E78_9E6A_A1B9_65F4);
    }

    #[test]
    fn the_hash_is_that_of_the_reference() {
        assert_eq!(fnv1a(""), 0xCBF2_9CE4_8422_2325);
        assert_eq!(fnv1a("a"), 0xAF63_DC4C_8601_EC8C);
    }

    #[test]
    fn percentages_hold_at_both_ends_and_roughly_between() {
        let mut random = SplitMix64::new(7);
        assert!((0..1000).all(|_| !random.is_within_percent(0)));
        assert!((0..1000).all(|_| random.is_within_percent(100)));
        let hits = (0..10_000).filter(|_| random.is_within_percent(4)).count();
        assert!((300..500).contains(&hits), "{hits}");
    }

    #[test]
    fn a_bound_of_zero_gives_zero() {
        assert_eq!(SplitMix64::new(1).below(0), 0);
    }
}
