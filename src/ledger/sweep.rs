//! Which kept holds matter to nobody any more; pure.

use std::collections::HashMap;
use std::time::Duration;

use crate::db::{CoverageRow, HoldRow};
use crate::domain::clock::Moment;
use crate::quota::LATE_COUNT;

/// For how long the holds of each provider are of interest.
#[derive(Debug, Default)]
pub(super) struct Sweep {
    longest: HashMap<String, Duration>,
    /// Where the walk through the holds has come to.
    pub(super) cursor: i64,
}

impl Sweep {
    /// The longest that any target of a provider is kept binds all of them, those that were removed too.
    pub(super) fn new(coverage: &[CoverageRow]) -> Self {
        let mut longest: HashMap<String, Duration> = HashMap::new();
        for row in coverage {
            let kept = longest.entry(row.target.provider.clone()).or_default();
            *kept = row.kept.max(*kept);
        }
        Self { longest, cursor: 0 }
    }

    /// Those of `rows` whose last possible hold is over.
    pub(super) fn over(&self, now: Moment, rows: &[HoldRow]) -> Vec<i64> {
        let is_over = |row: &&HoldRow| {
            let kept = self.longest.get(&row.target.provider).copied().unwrap_or_default();
            row.finish.is_some_and(|finish| finish.at + LATE_COUNT + kept < now)
        };
        rows.iter().filter(is_over).map(|row| row.id).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::db::{FinishRow, HoldTarget};
    use crate::domain::usage::Usage;

    const NOW: Moment = Moment::from_unix_micros(1_000_000_000_000);
    const MINUTE: Duration = Duration::from_secs(60);

    fn target(provider: &str, model: &str) -> HoldTarget {
        HoldTarget { provider: provider.into(), account: "a".into(), model: model.into() }
    }

    fn ended(id: i64, provider: &str, ago: Option<Duration>) -> HoldRow {
        let used = Usage::default();
        let finish = |ago| FinishRow { at: NOW - ago, is_aborted: false, is_exact: true, used };
        HoldRow {
            id,
            target: Arc::new(target(provider, "m")),
            reserved: used,
            send_by: NOW - MINUTE * 1_000,
            first_byte: None,
            finish: ago.map(finish),
        }
    }

    #[test]
    fn a_hold_goes_when_the_longest_window_of_its_provider_is_over() {
        let row = |model, kept| CoverageRow { target: target("p", model), since: NOW, kept };
        let sweep = Sweep::new(&[row("m", MINUTE), row("long", MINUTE * 60)]);
        let tick = Duration::from_micros(1);
        let rows = [
            ended(1, "p", Some(MINUTE * 60 + LATE_COUNT + tick)),
            ended(2, "p", Some(MINUTE * 60 + LATE_COUNT)),
            ended(3, "p", None),
            ended(4, "gone", Some(LATE_COUNT + tick)),
        ];
        assert_eq!(sweep.over(NOW, &rows), [1, 4]);
    }
}
