//! The judge of one account: says whether a request keeps the limits, by counting of its own.
//!
//! What slides is counted in logs, exactly; calendar days and months begin anew. A provider may count otherwise: in windows that begin with a
//! first request, or with the minute. Whoever satisfies the log satisfies those too, because every such window is a
//! span of the same length (a property test below counts again that way); so the log is the strictest judge.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::calendar::{Period, Resets};
use crate::domain::clock::Moment;
use crate::domain::limit::{Limit, TokensCharged, Unit, Window};
use crate::domain::usage::Usage;

const DAY: Duration = Duration::from_secs(86_400);

/// What a request brings when it arrives, in tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrival {
    pub(super) prompt_tokens: u64,
    pub(super) output_cap: u64,
}

/// The limit that a request broke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Breach {
    pub(super) unit: Unit,
    pub(super) max: u64,
    /// `None` for what is counted in flight.
    pub(super) window: Option<Duration>,
    /// When the same request would have been admitted; `None` when it is larger than the limit itself.
    pub(super) free_at: Option<Moment>,
}

/// Books of one account. Time running back frees nothing.
#[derive(Debug)]
pub(super) struct Judge {
    books: Vec<Book>,
    charged: TokensCharged,
}

impl Judge {
    pub(super) fn new(limits: &[Limit], charged: TokensCharged) -> Self {
        Self { books: limits.iter().map(Book::new).collect(), charged }
    }

    /// Counts a request that arrives.
    ///
    /// # Errors
    /// The breach with the latest way out when a limit says no; then nothing was counted.
    pub(super) fn arrive(&mut self, now: Moment, arrival: Arrival) -> Result<(), Breach> {
        let charged = self.charged;
        let breaches =
            self.books.iter_mut().filter_map(|book| book.breach(now, asked(book.unit, charged, arrival)));
        match breaches.max_by_key(|breach| breach.free_at.unwrap_or(Moment::NEVER)) {
            Some(breach) => Err(breach),
            None => {
                for book in &mut self.books {
                    book.charge(now, charged_on_arrival(book.unit, charged, arrival));
                }
                Ok(())
            }
        }
    }

    /// Counts what an admitted request used, when it has ended; returns by how many tokens a limit is overdrawn now.
    pub(super) fn end(&mut self, now: Moment, usage: Usage) -> u64 {
        let charged = self.charged;
        let overdrawn = self.books.iter_mut().map(|book| {
            book.close();
            book.charge(now, charged_at_end(book.unit, charged, usage));
            book.used(now).saturating_sub(book.max)
        });
        overdrawn.max().unwrap_or(0)
    }
}

/// What must fit for a request to be admitted: where tokens are only known at the end, at least its prompt.
fn asked(unit: Unit, charged: TokensCharged, arrival: Arrival) -> u64 {
    match unit {
        Unit::Tokens if charged != TokensCharged::Reserve => arrival.prompt_tokens,
        Unit::InputTokens => arrival.prompt_tokens,
        _ => charged_on_arrival(unit, charged, arrival),
    }
}

fn charged_on_arrival(unit: Unit, charged: TokensCharged, arrival: Arrival) -> u64 {
    let reserves = charged == TokensCharged::Reserve;
    match unit {
        Unit::Requests | Unit::Parallel => 1,
        Unit::Tokens if reserves => arrival.prompt_tokens.saturating_add(arrival.output_cap),
        Unit::InputTokens if reserves => arrival.prompt_tokens,
        Unit::OutputTokens if reserves => arrival.output_cap,
        Unit::Tokens | Unit::InputTokens | Unit::OutputTokens => 0,
        // No documented limit counts them; the configuration refuses one that does.
        Unit::Credits => 0,
    }
}

fn charged_at_end(unit: Unit, charged: TokensCharged, usage: Usage) -> u64 {
    match unit {
        _ if charged == TokensCharged::Reserve => 0,
        Unit::Requests | Unit::Credits | Unit::Parallel => 0,
        Unit::Tokens => usage.total_tokens(),
        Unit::InputTokens => usage.input_tokens,
        Unit::OutputTokens => usage.output_tokens,
    }
}

/// The count of one limit.
#[derive(Debug)]
struct Book {
    unit: Unit,
    max: u64,
    count: Count,
}

#[derive(Debug)]
enum Count {
    /// What was charged in the last `window`, oldest first, and its sum.
    Sliding {
        window: Duration,
        log: VecDeque<(Moment, u64)>,
        sum: u64,
    },
    /// What was charged since the last reset, and when the next one is; begins with the first question.
    Calendar {
        period: Period,
        resets: Resets,
        next: Option<Moment>,
        sum: u64,
    },
    InFlight(u64),
}

impl Book {
    fn new(limit: &Limit) -> Self {
        let count = match limit.window {
            Window::Sliding(window) | Window::Spacing(window) => {
                Count::Sliding { window, log: VecDeque::new(), sum: 0 }
            }
            Window::Calendar(calendar) => {
                Count::Calendar { period: calendar.period, resets: Resets::new(calendar), next: None, sum: 0 }
            }
            Window::InFlight => Count::InFlight(0),
        };
        Self { unit: limit.unit, max: limit.max, count }
    }

    fn used(&mut self, now: Moment) -> u64 {
        match &mut self.count {
            Count::InFlight(calls) => *calls,
            Count::Calendar { resets, next, sum, .. } => {
                if next.is_none_or(|next| next <= now) {
                    (*next, *sum) = (Some(resets.after(now).last), 0);
                }
                *sum
            }
            Count::Sliding { window, log, sum } => {
                while let Some((at, amount)) = log.front().copied()
                    && at + *window <= now
                {
                    log.pop_front();
                    *sum = sum.saturating_sub(amount);
                }
                *sum
            }
        }
    }

    fn breach(&mut self, now: Moment, amount: u64) -> Option<Breach> {
        let excess =
            self.used(now).saturating_add(amount).checked_sub(self.max).filter(|excess| *excess > 0)?;
        let free_at = if amount > self.max { None } else { Some(self.free_at(now, excess)) };
        Some(Breach { unit: self.unit, max: self.max, window: self.window(), free_at })
    }

    fn window(&self) -> Option<Duration> {
        match &self.count {
            Count::Sliding { window, .. } => Some(*window),
            Count::Calendar { period: Period::Day, .. } => Some(DAY),
            Count::Calendar { period: Period::Month, .. } => Some(31 * DAY),
            Count::InFlight(_) => None,
        }
    }

    /// When `excess` units of what is counted now will have left the window; `now` for calls, whose end is unknown.
    fn free_at(&self, now: Moment, excess: u64) -> Moment {
        let (window, log) = match &self.count {
            Count::Sliding { window, log, .. } => (window, log),
            Count::Calendar { next, .. } => return next.unwrap_or(now),
            Count::InFlight(_) => return now,
        };
        let mut freed = 0_u64;
        let freeing = log.iter().find(|(_, amount)| {
            freed = freed.saturating_add(*amount);
            freed >= excess
        });
        freeing.map_or(now, |(at, _)| *at + *window)
    }

    fn charge(&mut self, now: Moment, amount: u64) {
        match &mut self.count {
            _ if amount == 0 => {}
            Count::InFlight(calls) => *calls = calls.saturating_add(amount),
            Count::Calendar { sum, .. } => *sum = sum.saturating_add(amount),
            Count::Sliding { log, sum, .. } => {
                log.push_back((now, amount));
                *sum = sum.saturating_add(amount);
            }
        }
    }

    /// One call less is in flight.
    fn close(&mut self) {
        if let Count::InFlight(calls) = &mut self.count {
            *calls = calls.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::calendar::{Calendar, Zone};
    use crate::domain::limit::Scope;

    const MINUTE: Duration = Duration::from_secs(60);

    fn limit(unit: Unit, max: u64, window: Window) -> Limit {
        Limit { scope: Scope::Account, unit, max, window }
    }

    fn second(seconds: u64) -> Moment {
        Moment::from_unix_micros(1_790_000_000_000_000) + Duration::from_secs(seconds)
    }

    fn arrival(prompt_tokens: u64, output_cap: u64) -> Arrival {
        Arrival { prompt_tokens, output_cap }
    }

    fn usage(input_tokens: u64, output_tokens: u64) -> Usage {
        Usage { input_tokens, output_tokens }
    }

    #[test]
    fn a_refusal_tells_the_instant_at_which_the_oldest_request_leaves() {
        let mut judge =
            Judge::new(&[limit(Unit::Requests, 2, Window::Sliding(MINUTE))], TokensCharged::Unknown);
        judge.arrive(second(0), Arrival::default()).unwrap();
        judge.arrive(second(50), Arrival::default()).unwrap();
        let breach = judge.arrive(second(59), Arrival::default()).unwrap_err();
        assert_eq!(
            breach,
            Breach { unit: Unit::Requests, max: 2, window: Some(MINUTE), free_at: Some(second(60)) }
        );
        judge.arrive(second(60), Arrival::default()).unwrap();
    }

    #[test]
    fn a_burst_over_the_turn_of_the_minute_is_no_way_out() {
        let mut judge =
            Judge::new(&[limit(Unit::Requests, 2, Window::Sliding(MINUTE))], TokensCharged::Unknown);
        let turn = Moment::from_unix_micros(1_790_000_040_000_000);
        for millis in [200, 100] {
            judge.arrive(turn - Duration::from_millis(millis), Arrival::default()).unwrap();
        }
        assert!(judge.arrive(turn, Arrival::default()).is_err());
    }

    #[test]
    fn where_tokens_are_reserved_the_cap_is_charged_on_arrival_and_kept() {
        let mut judge =
            Judge::new(&[limit(Unit::Tokens, 1000, Window::Sliding(MINUTE))], TokensCharged::Reserve);
        judge.arrive(second(0), arrival(100, 800)).unwrap();
        assert_eq!(judge.end(second(1), usage(100, 5)), 0);
        assert_eq!(judge.arrive(second(2), arrival(50, 51)).unwrap_err().free_at, Some(second(60)));
        judge.arrive(second(2), arrival(50, 50)).unwrap();
    }

    #[test]
    fn where_usage_is_charged_the_end_counts_and_may_overdraw() {
        let mut judge =
            Judge::new(&[limit(Unit::Tokens, 1000, Window::Sliding(MINUTE))], TokensCharged::Usage);
        judge.arrive(second(0), arrival(900, 5000)).unwrap();
        judge.arrive(second(0), arrival(900, 5000)).unwrap();
        assert_eq!(judge.end(second(10), usage(900, 50)), 0);
        assert_eq!(judge.end(second(20), usage(900, 50)), 900);
        let breach = judge.arrive(second(21), arrival(1, 1)).unwrap_err();
        assert_eq!(breach.free_at, Some(second(70)));
    }

    #[test]
    fn input_and_output_are_counted_apart() {
        let limits = [
            limit(Unit::InputTokens, 100, Window::Sliding(MINUTE)),
            limit(Unit::OutputTokens, 10, Window::Sliding(MINUTE)),
        ];
        let mut judge = Judge::new(&limits, TokensCharged::Reserve);
        assert_eq!(judge.arrive(second(0), arrival(100, 11)).unwrap_err().unit, Unit::OutputTokens);
        assert_eq!(judge.arrive(second(0), arrival(101, 10)).unwrap_err().unit, Unit::InputTokens);
        judge.arrive(second(0), arrival(100, 10)).unwrap();
    }

    #[test]
    fn larger_than_the_limit_never_fits() {
        let mut judge =
            Judge::new(&[limit(Unit::Tokens, 1000, Window::Sliding(MINUTE))], TokensCharged::Reserve);
        assert_eq!(judge.arrive(second(0), arrival(1, 1000)).unwrap_err().free_at, None);
    }

    #[test]
    fn a_calendar_day_begins_anew_at_midnight() {
        let day = Window::Calendar(Calendar { period: Period::Day, zone: Zone::UTC });
        let mut judge = Judge::new(&[limit(Unit::Requests, 1, day)], TokensCharged::Unknown);
        let midnight = second(0).start_of_utc_day() + DAY;
        judge.arrive(second(0), Arrival::default()).unwrap();
        let breach = judge.arrive(second(1), Arrival::default()).unwrap_err();
        assert_eq!((breach.free_at, breach.window), (Some(midnight), Some(DAY)));
        judge.arrive(midnight, Arrival::default()).unwrap();
    }

    #[test]
    fn calls_in_flight_are_freed_by_their_end() {
        let mut judge = Judge::new(&[limit(Unit::Parallel, 1, Window::InFlight)], TokensCharged::Unknown);
        judge.arrive(second(0), Arrival::default()).unwrap();
        assert_eq!(judge.arrive(second(1), Arrival::default()).unwrap_err().window, None);
        judge.end(second(2), Usage::default());
        judge.arrive(second(2), Arrival::default()).unwrap();
    }

    #[test]
    fn a_refused_request_is_counted_in_no_limit() {
        let limits = [
            limit(Unit::Requests, 10, Window::Sliding(MINUTE)),
            limit(Unit::Tokens, 1000, Window::Sliding(MINUTE)),
        ];
        let mut judge = Judge::new(&limits, TokensCharged::Reserve);
        for _ in 0..20 {
            judge.arrive(second(0), arrival(1, 1000)).unwrap_err();
        }
        judge.arrive(second(0), arrival(1, 999)).unwrap();
    }

    /// The most that windows of one length hold when each begins with the first request after the one before it.
    fn most_in_anchored_windows(admitted: &[(u64, u64)], window: u64) -> u64 {
        let (mut start, mut used, mut most) = (None, 0, 0);
        for (at, amount) in admitted {
            if start.is_none_or(|start| at - start >= window) {
                (start, used) = (Some(*at), 0);
            }
            used += amount;
            most = most.max(used);
        }
        most
    }

    /// The most that windows hold when they begin at the multiples of their length.
    fn most_in_calendar_windows(admitted: &[(u64, u64)], window: u64) -> u64 {
        let in_window = |index: u64| {
            admitted.iter().filter(|(at, _)| at / window == index).map(|(_, amount)| amount).sum::<u64>()
        };
        admitted.iter().map(|(at, _)| in_window(at / window)).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn what_is_admitted_keeps_the_limit_however_it_is_counted(
            steps in prop::collection::vec((0_u64..20_000, 1_u64..40), 1..200),
        ) {
            let (max, window) = (100, 60_000);
            let tokens = limit(Unit::Tokens, max, Window::Sliding(Duration::from_millis(window)));
            let mut judge = Judge::new(&[tokens], TokensCharged::Reserve);
            let (mut millis, mut admitted) = (0, Vec::new());
            for (pause, amount) in steps {
                millis += pause;
                let now = Moment::default() + Duration::from_millis(millis);
                match judge.arrive(now, arrival(amount, 0)) {
                    Ok(()) => admitted.push((millis, amount)),
                    Err(breach) => prop_assert!(breach.free_at.is_some_and(|at| at > now)),
                }
            }
            prop_assert!(most_in_anchored_windows(&admitted, window) <= max);
            prop_assert!(most_in_calendar_windows(&admitted, window) <= max);
        }

        #[test]
        fn the_instant_told_is_honest(
            steps in prop::collection::vec((0_u64..20_000, 1_u64..40), 1..60),
            amount in 1_u64..=100,
        ) {
            let tokens = limit(Unit::Tokens, 100, Window::Sliding(MINUTE));
            let mut judge = Judge::new(&[tokens], TokensCharged::Reserve);
            let mut now = Moment::default();
            for (pause, amount) in steps {
                now = now + Duration::from_millis(pause);
                let _ = judge.arrive(now, arrival(amount, 0));
            }
            if let Err(breach) = judge.arrive(now, arrival(amount, 0)) {
                let free_at = breach.free_at.unwrap();
                prop_assert!(judge.arrive(free_at - Duration::from_micros(1), arrival(amount, 0)).is_err());
                prop_assert!(judge.arrive(free_at, arrival(amount, 0)).is_ok());
            }
        }
    }
}
