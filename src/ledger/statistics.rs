//! What the statistics say of attempts that no ledger has seen; pure.

use std::collections::HashMap;
use std::time::Duration;

use super::coverage::Gap;
use crate::db::ServedSpan;
use crate::domain::clock::Moment;
use crate::domain::limit::{TokensCharged, Unit};
use crate::quota::BookLimit;

/// Spans per window that are added up. Chosen: units come back late by a 256th of a window, once.
const SPANS_PER_WINDOW: u32 = 256;

/// How long a span is for a limit of that window.
pub(super) fn span_of(window: Duration) -> Duration {
    (window / SPANS_PER_WINDOW).max(Duration::from_millis(1))
}

/// The requests of the past, as far as they are needed.
#[derive(Clone, Debug, Default)]
pub(super) struct Statistics {
    /// From this instant on they know every request that was answered.
    pub(super) reach_back_to: Moment,
    /// By what was asked.
    pub(super) spans: HashMap<Gap, Vec<ServedSpan>>,
}

/// What a limit may have been used for without a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Used {
    /// So much, ended by then.
    AtMost(Vec<(Moment, u64)>),
    Unknown,
}

impl Statistics {
    /// What requests that ended in the gap may have used of a limit of the provider. An event names the model that
    /// answered, not the account, and not whom its failed attempts went to: each may have been any.
    pub(super) fn used(
        &self,
        (provider, models): (&str, &[String]),
        limit: &BookLimit,
        charged: TokensCharged,
        gap: &Gap,
    ) -> Used {
        if self.reach_back_to > gap.from {
            return Used::Unknown;
        }
        let bound: Vec<&String> = limit.models.iter().filter_map(|model| models.get(model.0)).collect();
        let mut used = Vec::new();
        for span in self.spans.get(gap).into_iter().flatten() {
            let is_served_here = span
                .served_by
                .as_ref()
                .is_some_and(|(platform, model)| platform == provider && bound.contains(&model));
            let answered = if span.served_by.is_some() { span.requests } else { 0 };
            let unattributed = span.attempts.saturating_sub(answered);
            let amount = match (limit.unit, charged) {
                (Unit::Requests | Unit::Parallel, _) => {
                    unattributed.saturating_add(if is_served_here { answered } else { 0 })
                }
                // No event tells what the model cost at the time.
                (Unit::Credits, _) if unattributed > 0 || is_served_here => return Used::Unknown,
                // What a failed attempt was charged, and what cap went with a request, no event tells.
                (_, TokensCharged::Usage) if unattributed == 0 => {
                    if is_served_here {
                        tokens(limit.unit, span)
                    } else {
                        0
                    }
                }
                _ if unattributed == 0 && !is_served_here => 0,
                _ => return Used::Unknown,
            };
            if amount > 0 {
                used.push((span.end, amount));
            }
        }
        Used::AtMost(used)
    }
}

fn tokens(unit: Unit, span: &ServedSpan) -> u64 {
    match unit {
        Unit::InputTokens => span.usage.input_tokens,
        Unit::OutputTokens => span.usage.output_tokens,
        Unit::Tokens | Unit::Requests | Unit::Parallel | Unit::Credits => span.usage.total_tokens(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{limit, spec};
    use super::*;
    use crate::domain::limit::Limit;
    use crate::domain::usage::Usage;
    use crate::quota::Book;

    const START: Moment = Moment::from_unix_micros(1_000_000_000);
    const GAP: Gap =
        Gap { window: Duration::from_secs(60), from: START, known_from: START, unknown_until: START };

    fn span(served_by: Option<(&str, &str)>, requests: u64, attempts: u64) -> ServedSpan {
        ServedSpan {
            end: START,
            served_by: served_by.map(|(platform, model)| (platform.to_owned(), model.to_owned())),
            requests,
            attempts,
            usage: Usage { input_tokens: 30, output_tokens: 12 },
        }
    }

    fn used(unit: Unit, charged: TokensCharged, spans: Vec<ServedSpan>) -> Used {
        let spec = spec(&[Limit { unit, ..limit(100, 60) }]);
        let bound = &Book::new(&spec).limits()[0];
        let statistics = Statistics { reach_back_to: GAP.from, spans: HashMap::from([(GAP, spans)]) };
        statistics.used(("p", &["m".to_owned()]), bound, charged, &GAP)
    }

    fn at_most(amount: u64) -> Used {
        Used::AtMost(vec![(START, amount)])
    }

    #[test]
    fn requests_are_counted_here_and_failed_attempts_everywhere() {
        let requests = |spans| used(Unit::Requests, TokensCharged::Unknown, spans);
        assert_eq!(requests(vec![span(Some(("p", "m")), 3, 3)]), at_most(3));
        assert_eq!(requests(vec![span(Some(("q", "m")), 3, 3)]), Used::AtMost(vec![]));
        assert_eq!(requests(vec![span(Some(("q", "m")), 3, 5)]), at_most(2));
        assert_eq!(requests(vec![span(None, 3, 4)]), at_most(4));
    }

    #[test]
    fn tokens_are_known_only_where_use_is_charged_and_nothing_failed() {
        let here = || vec![span(Some(("p", "m")), 1, 1)];
        assert_eq!(used(Unit::Tokens, TokensCharged::Usage, here()), at_most(42));
        assert_eq!(used(Unit::OutputTokens, TokensCharged::Usage, here()), at_most(12));
        assert_eq!(used(Unit::Tokens, TokensCharged::Reserve, here()), Used::Unknown);
        assert_eq!(used(Unit::Tokens, TokensCharged::Usage, vec![span(None, 1, 2)]), Used::Unknown);
        let elsewhere = vec![span(Some(("q", "m")), 1, 1)];
        assert_eq!(used(Unit::Tokens, TokensCharged::Reserve, elsewhere), Used::AtMost(vec![]));
    }

    #[test]
    fn what_lies_before_the_statistics_is_unknown() {
        let spec = spec(&[limit(100, 60)]);
        let bound = &Book::new(&spec).limits()[0];
        let tick = Duration::from_micros(1);
        let statistics = |reach_back_to| Statistics { reach_back_to, spans: HashMap::new() };
        let used = |statistics: Statistics| statistics.used(("p", &[]), bound, TokensCharged::Usage, &GAP);
        assert_eq!(used(statistics(GAP.from + tick)), Used::Unknown);
        assert_eq!(used(statistics(GAP.from)), Used::AtMost(vec![]));
    }
}
