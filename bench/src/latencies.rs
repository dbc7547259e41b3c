//! Latencies, all of them: nothing is rounded into classes, and a run has few enough to keep.

use serde_json::{Value, json};

/// A bag of durations in nanoseconds.
#[derive(Debug, Default)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    /// Adds one.
    pub fn add(&mut self, latency_ns: u64) {
        self.0.push(latency_ns);
    }

    /// Adds those of another bag.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Their quantiles in microseconds, and how many there are; null where there are none.
    pub fn report(mut self) -> Value {
        self.0.sort_unstable();
        json!({
            "count": self.0.len(),
            "p50_us": self.quantile_us(50),
            "p90_us": self.quantile_us(90),
            "p99_us": self.quantile_us(99),
            "max_us": self.quantile_us(100),
        })
    }

    /// The smallest that at least `percent` of all do not exceed. They must be sorted.
    fn quantile_us(&self, percent: usize) -> Option<f64> {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        // Exact up to 2^53 ns, which is 104 days.
        self.0.get(rank - 1).map(|latency_ns| *latency_ns as f64 / 1_000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_members_of_the_bag() {
        let mut bag = Latencies::default();
        (1..=200_u64).rev().for_each(|micros| bag.add(micros * 1_000));
        let report = bag.report();
        let quantiles = ["p50_us", "p90_us", "p99_us", "max_us"].map(|name| report[name].as_f64().unwrap());
        assert_eq!(quantiles, [100.0, 180.0, 198.0, 200.0]);
        assert_eq!(report["count"], 200);
    }

    #[test]
    fn an_empty_bag_has_none() {
        assert!(Latencies::default().report()["p50_us"].is_null());
    }
}
