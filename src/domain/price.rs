//! What calls cost where a provider counts in credits of its own.

use super::usage::Usage;

/// Limits on credits and prices are kept in millionths, in whole numbers: sums are exact.
pub const MICROS_PER_CREDIT: u64 = 1_000_000;

/// What one model costs, in millionths of a credit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Price {
    pub per_request: u64,
    pub per_1k_input: u64,
    pub per_1k_output: u64,
}

impl Price {
    /// What a call with that usage costs, in millionths of a credit, rounded up.
    pub fn of(self, usage: Usage) -> u64 {
        let tokens = |count: u64, per_1k: u64| u128::from(count) * u128::from(per_1k);
        let thousandths =
            tokens(usage.input_tokens, self.per_1k_input) + tokens(usage.output_tokens, self.per_1k_output);
        let rounded_up = u64::try_from(thousandths.div_ceil(1_000)).unwrap_or(u64::MAX);
        self.per_request.saturating_add(rounded_up)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_price_adds_up_exactly_and_rounds_up() {
        let price = Price { per_request: 10, per_1k_input: 4_119, per_1k_output: 26_668 };
        let of = |input_tokens, output_tokens| price.of(Usage { input_tokens, output_tokens });
        assert_eq!(of(0, 0), 10);
        assert_eq!(of(1_000, 2_000), 10 + 4_119 + 53_336);
        assert_eq!(of(1, 0), 10 + 5);
        assert_eq!(of(1, 1), 10 + 31);
        assert_eq!(of(u64::MAX, u64::MAX), u64::MAX);
    }
}
