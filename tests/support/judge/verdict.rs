//! What a log says of a limit; pure.

use std::time::Duration;

use freellmapi::domain::clock::Moment;

use super::call::Call;
use super::counter::{Counter, Windows};

/// How long after its last byte an upstream may still see a call as open.
/// Chosen: half of the 100 ms that `docs/QUOTAS.md` assumes, so that the assumption holds and is made use of.
const BOOKS_CLOSE: Duration = Duration::from_millis(50);

/// How far an upstream's clock may be off. Source: the guard of `docs/QUOTAS.md`.
const CLOCKS_APART: Duration = Duration::from_secs(5);

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Requests,
    /// On arrival, input and cap; nothing is given back.
    TokensOnArrival,
    /// At the end, what was used.
    TokensByUse,
    /// Calls open at once; the window says nothing.
    Parallel,
}

/// A limit as the upstream keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JudgedLimit {
    pub(crate) unit: Unit,
    pub(crate) max: u64,
    pub(crate) window: Duration,
    /// Windows that only ever begin there, or up to 5 s around it by upstream's clock.
    pub(crate) reset: Option<Moment>,
}

impl JudgedLimit {
    pub(crate) fn of(unit: Unit, max: u64, window: Duration) -> Self {
        Self { unit, max, window, reset: None }
    }

    pub(crate) fn requests(max: u64, window: Duration) -> Self {
        Self::of(Unit::Requests, max, window)
    }

    /// Requests of a day that ends at `midnight`.
    pub(crate) fn day(max: u64, midnight: Moment) -> Self {
        Self { reset: Some(midnight), ..Self::requests(max, Duration::from_secs(86_400)) }
    }

    /// One request per interval.
    pub(crate) fn spacing(interval: Duration) -> Self {
        Self::requests(1, interval)
    }

    pub(crate) fn parallel(max: u64) -> Self {
        Self::of(Unit::Parallel, max, Duration::ZERO)
    }

    /// Every way to lay the windows. A calendar's may begin anywhere: an eighth of the window apart will do, since
    /// none of them sees more than a sliding one, which is among them.
    pub(crate) fn ways(&self) -> Vec<Windows> {
        if let Some(reset) = self.reset {
            return [reset - CLOCKS_APART, reset, reset + CLOCKS_APART].map(Windows::Calendar).into();
        }
        let origins = (0..8).map(|eighth| Moment::default() + self.window * eighth / 8);
        let calendars = origins.map(Windows::Calendar);
        [Windows::Sliding, Windows::Anchored, Windows::Bucket].into_iter().chain(calendars).collect()
    }
}

/// The worst that one way of counting saw of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Worst {
    pub(crate) way: String,
    /// By how much the maximum was passed; zero is no breach.
    pub(crate) excess: u64,
}

/// The worst of each way of counting.
pub(crate) fn worst(calls: &[Call], limit: &JudgedLimit) -> Vec<Worst> {
    if limit.unit == Unit::Parallel {
        return vec![Worst { way: "open at once".to_owned(), excess: over(most_open(calls), limit.max) }];
    }
    let mut all: Vec<Worst> = Vec::new();
    for windows in limit.ways() {
        for (instant, counted) in countings(calls, limit.unit) {
            let way = format!("{windows:?}, counted {instant}");
            let excess = over(most_counted(&counted, windows, limit), limit.max);
            all.push(Worst { way, excess });
        }
    }
    if limit.unit == Unit::Requests && limit.reset.is_none() {
        let excess = over(most_anywhere(calls, limit.window), limit.max);
        all.push(Worst { way: "counted at the worst instant up to the first byte".to_owned(), excess });
    }
    all
}

/// The ways of counting that saw more than the maximum.
pub(crate) fn breaches(calls: &[Call], limit: &JudgedLimit) -> Vec<Worst> {
    worst(calls, limit).into_iter().filter(|worst| worst.excess > 0).collect()
}

/// How much was counted until `until`, as a share of what was possible: `max × (1 + ⌊time / (window + charging)⌋)`
/// with the time since the first call, and `charging` the mean time from arrival to the instant that counts.
pub(crate) fn utilisation(calls: &[Call], limit: &JudgedLimit, until: Moment) -> f64 {
    let counted: Vec<(Moment, u64)> = match countings(calls, limit.unit).pop() {
        Some((_, counted)) => counted.into_iter().filter(|(at, _)| *at <= until).collect(),
        None => return 0.0,
    };
    let Some(first) = calls.iter().map(|call| call.arrival).min() else { return 0.0 };
    let time = until.saturating_since(first);
    let rounds = 1 + time.as_micros() / (limit.window + charging(calls, limit.unit)).as_micros().max(1);
    let used: u64 = counted.iter().map(|(_, amount)| amount).sum();
    used as f64 / (u128::from(limit.max) * rounds) as f64
}

/// The mean time from a call's arrival to the instant that counts for that unit.
pub(crate) fn charging(calls: &[Call], unit: Unit) -> Duration {
    let times: Vec<Duration> = match unit {
        Unit::TokensOnArrival => return Duration::ZERO,
        Unit::Requests => calls.iter().filter_map(Call::time_to_first_byte).collect(),
        Unit::TokensByUse | Unit::Parallel => {
            calls.iter().filter_map(|call| call.end.map(|end| end.saturating_since(call.arrival))).collect()
        }
    };
    let count = u32::try_from(times.len()).unwrap().max(1);
    times.iter().sum::<Duration>() / count
}

/// The instants that may count, with what counts then, in order.
fn countings(calls: &[Call], unit: Unit) -> Vec<(&'static str, Vec<(Moment, u64)>)> {
    let served = || calls.iter().filter(|call| !call.is_refused);
    let sorted = |mut counted: Vec<(Moment, u64)>| {
        counted.sort_unstable();
        counted
    };
    let arrivals = || served().map(|call| (call.arrival, 1)).collect();
    let firsts = || {
        let counted = served().map(|call| (call.last_count(), 1));
        counted.filter(|(at, _)| *at < Moment::NEVER).collect()
    };
    match unit {
        Unit::Requests => {
            vec![("at the first byte", sorted(firsts())), ("on arrival", sorted(arrivals()))]
        }
        Unit::TokensOnArrival => {
            let counted = served().map(|call| (call.arrival, call.reserved_tokens())).collect();
            vec![("on arrival", sorted(counted))]
        }
        Unit::TokensByUse => {
            let counted = served().filter_map(|call| Some((call.end?, call.used_tokens()))).collect();
            vec![("at the end", sorted(counted))]
        }
        Unit::Parallel => Vec::new(),
    }
}

fn most_counted(counted: &[(Moment, u64)], windows: Windows, limit: &JudgedLimit) -> u64 {
    let mut counter = Counter::new(windows, limit.max, limit.window);
    counted.iter().map(|(at, amount)| counter.count(*at, *amount)).max().unwrap_or(0)
}

/// The most calls that one window can have counted when each is counted anywhere from its arrival to its first byte.
fn most_anywhere(calls: &[Call], window: Duration) -> u64 {
    let served: Vec<&Call> = calls.iter().filter(|call| !call.is_refused).collect();
    // The worst window begins at some call's last instant: later it loses that call, earlier it gains none.
    let within = |begin: Moment| {
        let is_in = |call: &&&Call| call.last_count() >= begin && call.arrival < begin + window;
        served.iter().filter(is_in).count() as u64
    };
    served.iter().map(|call| within(call.last_count())).max().unwrap_or(0)
}

fn most_open(calls: &[Call]) -> u64 {
    let served = || calls.iter().filter(|call| !call.is_refused);
    let is_open =
        |call: &&Call, at: Moment| call.arrival <= at && call.end.is_none_or(|end| at < end + BOOKS_CLOSE);
    let open_at = |at: Moment| served().filter(|call| is_open(call, at)).count() as u64;
    served().map(|call| open_at(call.arrival)).max().unwrap_or(0)
}

fn over(most: u64, max: u64) -> u64 {
    most.saturating_sub(max)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(ms: i64) -> Moment {
        Moment::from_unix_micros(1_790_000_000_000_000 + ms * 1_000)
    }

    /// A call with the instants of its arrival, first byte and end; 100 tokens in, at most 50 out, 10 out.
    fn call((arrival, first_byte, end): (i64, i64, i64)) -> Call {
        Call {
            first_byte: Some(at(first_byte)),
            end: Some(at(end)),
            output_tokens: 10,
            ..Call::arrived(at(arrival), 100, 50)
        }
    }

    fn calls(instants: &[(i64, i64, i64)]) -> Vec<Call> {
        instants.iter().copied().map(call).collect()
    }

    fn excess_of(calls: &[Call], limit: &JudgedLimit, way: &str) -> u64 {
        let found = worst(calls, limit);
        found
            .iter()
            .find(|worst| worst.way.contains(way))
            .unwrap_or_else(|| panic!("{way}: {found:?}"))
            .excess
    }

    #[test]
    fn an_honest_log_has_no_breach() {
        let honest = calls(&[(0, 10, 20), (100, 110, 120), (1_011, 1_015, 1_020), (1_111, 1_120, 1_130)]);
        assert_eq!(breaches(&honest, &JudgedLimit::requests(2, SECOND)), []);
        assert_eq!(breaches(&honest, &JudgedLimit::parallel(1)), []);
        let tokens = |unit, max| JudgedLimit::of(unit, max, SECOND);
        assert_eq!(breaches(&honest, &tokens(Unit::TokensOnArrival, 300)), []);
        assert_eq!(breaches(&honest, &tokens(Unit::TokensByUse, 220)), []);
    }

    #[test]
    fn each_way_catches_its_breach() {
        let limit = JudgedLimit::requests(2, SECOND);
        let three = calls(&[(0, 1, 2), (10, 11, 12), (400, 401, 402)]);
        assert_eq!(excess_of(&three, &limit, "Sliding, counted on arrival"), 1);
        assert_eq!(excess_of(&three, &limit, "Anchored, counted on arrival"), 1);
        assert_eq!(excess_of(&three, &limit, "Bucket, counted at the first byte"), 1);
        // Three arrivals well apart whose first bytes come at once.
        let late = calls(&[(0, 2_000, 2_010), (1_000, 2_001, 2_010), (2_002, 2_003, 2_010)]);
        assert_eq!(excess_of(&late, &limit, "Sliding, counted on arrival"), 0);
        assert_eq!(excess_of(&late, &limit, "Sliding, counted at the first byte"), 1);
        // A breach only for an upstream that counts some of them early and some of them late.
        let mixed = calls(&[(0, 1_000, 1_010), (10, 1_010, 1_020), (1_500, 3_000, 3_001)]);
        assert_eq!(excess_of(&mixed, &limit, "Sliding, counted on arrival"), 0);
        assert_eq!(excess_of(&mixed, &limit, "Sliding, counted at the first byte"), 0);
        assert_eq!(excess_of(&mixed, &limit, "worst instant"), 1);
        // A calendar sees its own window only: at least one of those laid out does.
        let close = calls(&[(0, 1, 2), (1, 2, 3), (2, 3, 4)]);
        let caught = breaches(&close, &limit);
        assert!(caught.iter().filter(|worst| worst.way.starts_with("Calendar")).count() >= 8, "{caught:?}");
    }

    #[test]
    fn spacing_is_kept_to_the_microsecond() {
        let limit = JudgedLimit::spacing(SECOND);
        assert_eq!(breaches(&calls(&[(0, 0, 0), (1_000, 1_000, 1_000)]), &limit), []);
        assert!(!breaches(&calls(&[(0, 0, 0), (999, 999, 999)]), &limit).is_empty());
    }

    #[test]
    fn tokens_are_judged_in_both_charging_modes() {
        let on_arrival = JudgedLimit::of(Unit::TokensOnArrival, 299, SECOND);
        let by_use = JudgedLimit::of(Unit::TokensByUse, 219, SECOND);
        let two = calls(&[(0, 10, 20), (100, 110, 1_500)]);
        assert_eq!(excess_of(&two, &on_arrival, "Sliding"), 1);
        // The ends lie more than a window apart.
        assert_eq!(breaches(&two, &by_use), []);
        let two = calls(&[(0, 10, 20), (1_100, 1_110, 1_119), (1_110, 1_115, 1_120)]);
        assert_eq!(excess_of(&two, &by_use, "Sliding"), 1);
    }

    #[test]
    fn calls_are_open_until_their_books_are_closed() {
        let limit = JudgedLimit::parallel(1);
        assert_eq!(breaches(&calls(&[(0, 10, 20), (70, 80, 90)]), &limit), []);
        assert_eq!(breaches(&calls(&[(0, 10, 20), (69, 80, 90)]), &limit).len(), 1);
        let mut open = calls(&[(0, 10, 20), (5_000, 5_010, 5_020)]);
        open[0].end = None;
        assert_eq!(breaches(&open, &limit).len(), 1);
    }

    #[test]
    fn a_day_is_judged_by_clocks_that_are_ahead_and_behind() {
        let limit = JudgedLimit::day(1, at(0));
        assert_eq!(breaches(&calls(&[(-6_000, -5_900, 0), (5_000, 5_010, 0)]), &limit), []);
        // The second one is still of the old day where the clock is behind; the first of the new one where it is ahead.
        assert_eq!(breaches(&calls(&[(-6_000, -5_900, 0), (4_990, 4_995, 0)]), &limit).len(), 2);
        assert_eq!(breaches(&calls(&[(-4_990, -4_900, 0), (5_000, 5_010, 0)]), &limit).len(), 2);
    }

    #[test]
    fn what_was_refused_is_not_counted() {
        let mut three = calls(&[(0, 1, 2), (10, 11, 12), (900, 901, 902)]);
        three[2].is_refused = true;
        assert_eq!(breaches(&three, &JudgedLimit::requests(2, SECOND)), []);
    }

    #[test]
    fn utilisation_is_what_was_used_of_what_was_possible() {
        let limit = JudgedLimit::requests(2, SECOND);
        // 10 ms to the first byte: in 2.1 s three rounds are possible, four of six units were used.
        let four = calls(&[(0, 10, 20), (0, 10, 20), (1_010, 1_020, 1_030), (1_010, 1_020, 1_030)]);
        assert_eq!(utilisation(&four, &limit, at(2_100)), 4.0 / 6.0);
        assert_eq!(utilisation(&four, &limit, at(2_019)), 1.0);
        assert_eq!(utilisation(&[], &limit, at(0)), 0.0);
    }
}
