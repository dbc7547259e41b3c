//! Tests of the tenants' own limits.

use std::time::Duration;

use proptest::prelude::*;

use super::book::{ASK_AGAIN, DAY, MINUTE};
use super::*;
use crate::domain::clock::Moment;
use crate::domain::tenant::{TenantLimits, TenantUse, Used, UsedUntil};
use crate::quota::Refusal;

/// 2026-11-23T00:00:00Z.
const MIDNIGHT: Moment = Moment::from_unix_micros(1_795_392_000_000_000);
const NONE: TenantLimits =
    TenantLimits { rpm: None, rpd: None, tpm: None, tpd: None, tpmonth: None, parallel: None };

/// The longest that a slot is late.
const SLOT: Duration = Duration::from_millis(59);

fn book() -> TenantBook {
    TenantBook::new(&TenantUse::default(), MIDNIGHT)
}

fn demand(stated_tokens: u64) -> TenantDemand {
    TenantDemand { stated_tokens, expected_tokens: 0 }
}

fn until(answer: Result<TenantHold, Refusal>) -> Moment {
    match answer {
        Err(Refusal::NotUntil(instant)) => instant,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[test]
fn requests_of_a_minute_slide() {
    let limits = TenantLimits { rpm: Some(2), ..NONE };
    let mut book = book();
    for seconds in [0, 10] {
        let now = MIDNIGHT + Duration::from_secs(seconds);
        let hold = book.reserve(now, &limits, demand(0)).unwrap();
        book.settle(now, hold, 0);
    }
    let now = MIDNIGHT + Duration::from_secs(20);
    let instant = until(book.reserve(now, &limits, demand(0)));
    assert!(instant >= MIDNIGHT + MINUTE && instant <= MIDNIGHT + MINUTE + SLOT, "{instant:?}");
    assert!(book.reserve(instant - Duration::from_micros(1), &limits, demand(0)).is_err());
    assert!(book.reserve(instant, &limits, demand(0)).is_ok());
}

#[test]
fn a_day_and_a_month_end_at_midnight_utc() {
    let late = MIDNIGHT + Duration::from_secs(86_399);
    let day = TenantLimits { rpd: Some(1), tpd: Some(10), ..NONE };
    let mut book = book();
    let hold = book.reserve(late, &day, demand(10)).unwrap();
    book.settle(late, hold, 10);
    assert_eq!(until(book.reserve(late, &day, demand(1))), MIDNIGHT + DAY);
    assert!(book.reserve(MIDNIGHT + DAY, &day, demand(1)).is_ok());
    let month = TenantLimits { tpmonth: Some(10), ..NONE };
    let december = MIDNIGHT + DAY * 8;
    assert_eq!(until(book.reserve(MIDNIGHT + DAY, &month, demand(1))), december);
}

#[test]
fn the_day_of_its_grant_counts_a_request_and_the_day_of_its_end_its_tokens() {
    let limits = TenantLimits { rpd: Some(1), tpd: Some(10), ..NONE };
    let mut book = book();
    let hold = book.reserve(MIDNIGHT + DAY - MINUTE, &limits, demand(9)).unwrap();
    book.settle(MIDNIGHT + DAY + MINUTE, hold, 9);
    assert_eq!(until(book.reserve(MIDNIGHT + DAY + MINUTE, &limits, demand(2))), MIDNIGHT + DAY * 2);
    assert!(book.reserve(MIDNIGHT + DAY + MINUTE, &limits, demand(1)).is_ok());
}

#[test]
fn what_is_under_way_may_end_at_any_time() {
    let limits = TenantLimits { parallel: Some(1), tpm: Some(100), ..NONE };
    let mut book = book();
    let hold = book.reserve(MIDNIGHT, &limits, demand(60)).unwrap();
    assert_eq!(until(book.reserve(MIDNIGHT, &limits, demand(10))), MIDNIGHT + ASK_AGAIN);
    book.settle(MIDNIGHT, hold, 20);
    assert!(book.reserve(MIDNIGHT, &limits, demand(80)).is_ok());
}

#[test]
fn what_is_larger_than_a_limit_never_fits() {
    for limits in [
        TenantLimits { tpm: Some(100), ..NONE },
        TenantLimits { tpd: Some(100), ..NONE },
        TenantLimits { tpmonth: Some(100), ..NONE },
    ] {
        assert_eq!(book().reserve(MIDNIGHT, &limits, demand(101)), Err(Refusal::TooLarge));
        let unstated = TenantDemand { stated_tokens: 60, expected_tokens: 1_000 };
        assert_eq!(book().reserve(MIDNIGHT, &limits, unstated).unwrap().tokens(), 100);
    }
}

#[test]
fn debt_is_paid_before_anything_new() {
    let limits = TenantLimits { tpm: Some(100), ..NONE };
    let mut book = book();
    let hold = book.reserve(MIDNIGHT, &limits, demand(10)).unwrap();
    book.settle(MIDNIGHT, hold, 500);
    let instant = until(book.reserve(MIDNIGHT, &limits, demand(1)));
    assert!(instant >= MIDNIGHT + MINUTE, "{instant:?}");
    assert!(book.reserve(instant, &limits, demand(1)).is_ok());
}

#[test]
fn a_limit_that_is_set_later_binds_at_once() {
    let mut book = book();
    for _ in 0..5 {
        let hold = book.reserve(MIDNIGHT, &NONE, demand(10)).unwrap();
        book.settle(MIDNIGHT, hold, 10);
    }
    assert!(book.reserve(MIDNIGHT, &TenantLimits { rpm: Some(5), ..NONE }, demand(0)).is_err());
    assert!(book.reserve(MIDNIGHT, &TenantLimits { rpd: Some(5), ..NONE }, demand(0)).is_err());
    assert!(book.reserve(MIDNIGHT, &TenantLimits { tpd: Some(50), ..NONE }, demand(1)).is_err());
    assert!(book.reserve(MIDNIGHT, &TenantLimits { rpm: Some(6), ..NONE }, demand(0)).is_ok());
}

#[test]
fn what_was_used_before_a_restart_counts() {
    let piece = |seconds: u64, requests, tokens| UsedUntil {
        until: MIDNIGHT + Duration::from_secs(seconds),
        used: Used { requests, tokens },
    };
    let used = TenantUse {
        minute: vec![piece(3_570, 1, 10), piece(3_590, 1, 10)],
        day: Used { requests: 7, tokens: 70 },
        month: Used { requests: 9, tokens: 90 },
    };
    let now = MIDNIGHT + Duration::from_secs(3_600);
    let mut book = TenantBook::new(&used, now);
    let ends = until(book.reserve(now, &TenantLimits { rpm: Some(2), ..NONE }, demand(0)));
    assert!(ends >= now + Duration::from_secs(30) && ends <= now + Duration::from_secs(30) + SLOT);
    assert!(book.reserve(now, &TenantLimits { tpm: Some(20), ..NONE }, demand(1)).is_err());
    assert!(book.reserve(now, &TenantLimits { rpd: Some(7), ..NONE }, demand(0)).is_err());
    assert!(book.reserve(now, &TenantLimits { tpd: Some(70), ..NONE }, demand(1)).is_err());
    assert!(book.reserve(now, &TenantLimits { tpmonth: Some(90), ..NONE }, demand(1)).is_err());
}

#[test]
fn what_is_left_is_told_by_the_limit_that_has_least() {
    let limits = TenantLimits { rpm: Some(10), rpd: Some(5), tpm: Some(100), tpmonth: Some(1_000), ..NONE };
    let mut book = book();
    let fresh = book.remaining(MIDNIGHT, &limits);
    assert_eq!(fresh.requests, Some(Gauge { limit: 5, remaining: 5, reset: Duration::ZERO }));
    let hold = book.reserve(MIDNIGHT, &limits, demand(30)).unwrap();
    let taken = book.remaining(MIDNIGHT, &limits);
    assert_eq!(taken.requests, Some(Gauge { limit: 5, remaining: 4, reset: DAY }));
    assert_eq!(taken.tokens, Some(Gauge { limit: 100, remaining: 70, reset: MINUTE }));
    book.settle(MIDNIGHT, hold, 10);
    assert_eq!(book.remaining(MIDNIGHT, &limits).tokens.unwrap().remaining, 90);
    assert_eq!(book.remaining(MIDNIGHT, &NONE), Remaining::default());
}

/// What may happen to a book.
#[derive(Clone, Debug)]
enum Event {
    Reserve(u64),
    /// Uses so many hundredths of what was reserved.
    Settle(prop::sample::Index, u64),
    GiveBack(prop::sample::Index),
    Advance(u64),
    StepBack(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0u64..60).prop_map(Event::Reserve),
        3 => (any::<prop::sample::Index>(), 0u64..=100).prop_map(|(which, percent)| Event::Settle(which, percent)),
        1 => any::<prop::sample::Index>().prop_map(Event::GiveBack),
        3 => (0u64..40_000_000).prop_map(Event::Advance),
        1 => (0u64..40_000_000).prop_map(Event::StepBack),
    ]
}

fn limits() -> impl Strategy<Value = TenantLimits> {
    let maybe = |max: u64| prop::option::of(1..max);
    (maybe(5), maybe(12), maybe(120), maybe(300), maybe(400), maybe(4)).prop_map(
        |(rpm, rpd, tpm, tpd, tpmonth, parallel)| TenantLimits { rpm, rpd, tpm, tpd, tpmonth, parallel },
    )
}

/// What a window of this length that ends with each entry sums up to, at most.
fn fullest(entries: &[(Moment, u64)], length: Duration) -> u64 {
    let window =
        |end: Moment| entries.iter().filter(|(at, _)| *at <= end && *at + length > end).map(|(_, n)| n).sum();
    entries.iter().map(|(at, _)| window(*at)).max().unwrap_or(0)
}

fn fullest_calendar(entries: &[(Moment, u64)], start: impl Fn(Moment) -> Moment) -> u64 {
    let window = |begin: Moment| entries.iter().filter(|(at, _)| start(*at) == begin).map(|(_, n)| n).sum();
    entries.iter().map(|(at, _)| window(start(*at))).max().unwrap_or(0)
}

proptest! {
    #[test]
    fn no_window_ever_sees_more_than_a_limit(limits in limits(), events in prop::collection::vec(event(), 0..120)) {
        // Close to the end of a day, so that runs cross it.
        let mut now = MIDNIGHT + DAY - MINUTE * 3;
        let mut latest = now;
        let mut book = TenantBook::new(&TenantUse::default(), now);
        let (mut holds, mut granted, mut used) = (Vec::new(), Vec::new(), Vec::new());
        for event in events {
            // The book knows only the instants at which it is asked.
            if matches!(event, Event::Reserve(_)) || matches!(event, Event::Settle(..) if !holds.is_empty()) {
                latest = latest.max(now);
            }
            match event {
                Event::Reserve(tokens) => match book.reserve(now, &limits, demand(tokens)) {
                    Ok(hold) => {
                        granted.push((latest, 1));
                        holds.push((hold, granted.len() - 1));
                    }
                    Err(Refusal::NotUntil(instant)) => prop_assert!(instant > latest),
                    Err(Refusal::TooLarge) => {
                        let largest = [limits.tpm, limits.tpd, limits.tpmonth].into_iter().flatten().min();
                        prop_assert!(largest.is_some_and(|largest| tokens > largest));
                    }
                },
                Event::Settle(which, percent) if !holds.is_empty() => {
                    let (hold, _) = holds.swap_remove(which.index(holds.len()));
                    let tokens = hold.tokens() * percent / 100;
                    used.push((latest, tokens));
                    book.settle(now, hold, tokens);
                }
                Event::GiveBack(which) if !holds.is_empty() => {
                    let (hold, grant) = holds.swap_remove(which.index(holds.len()));
                    granted[grant].1 = 0;
                    book.give_back(hold);
                }
                Event::Advance(micros) => now = now + Duration::from_micros(micros),
                Event::StepBack(micros) => now = now - Duration::from_micros(micros),
                Event::Settle(..) | Event::GiveBack(_) => {}
            }
            prop_assert!(limits.parallel.is_none_or(|max| holds.len() as u64 <= max));
        }
        let day = Moment::start_of_utc_day;
        let month = |at: Moment| at.utc_month().unwrap().0;
        prop_assert!(limits.rpm.is_none_or(|max| fullest(&granted, MINUTE) <= max));
        prop_assert!(limits.rpd.is_none_or(|max| fullest_calendar(&granted, day) <= max));
        prop_assert!(limits.tpm.is_none_or(|max| fullest(&used, MINUTE) <= max));
        prop_assert!(limits.tpd.is_none_or(|max| fullest_calendar(&used, day) <= max));
        prop_assert!(limits.tpmonth.is_none_or(|max| fullest_calendar(&used, month) <= max));
    }

    /// With nothing under way, the instant of a refusal is the first at which the same request is granted.
    #[test]
    fn a_refusal_is_honest(
        limits in limits(),
        used in prop::collection::vec((0u64..30_000_000, 0u64..60), 0..40),
        tokens in 0u64..60,
    ) {
        let mut now = MIDNIGHT;
        let mut book = TenantBook::new(&TenantUse::default(), now);
        for (pause, tokens) in used {
            now = now + Duration::from_micros(pause);
            if let Ok(hold) = book.reserve(now, &limits, demand(tokens)) {
                book.settle(now, hold, tokens);
            }
        }
        if let Err(Refusal::NotUntil(instant)) = book.reserve(now, &limits, demand(tokens)) {
            let before = book.reserve(instant - Duration::from_micros(1), &limits, demand(tokens));
            prop_assert_eq!(before, Err(Refusal::NotUntil(instant)));
            prop_assert!(book.reserve(instant, &limits, demand(tokens)).is_ok());
        }
    }

    #[test]
    fn what_is_given_back_was_never_taken(limits in limits(), tokens in prop::collection::vec(0u64..60, 1..8)) {
        let mut book = book();
        let before = book.remaining(MIDNIGHT, &limits);
        let holds: Vec<_> = tokens.into_iter().filter_map(|n| book.reserve(MIDNIGHT, &limits, demand(n)).ok()).collect();
        holds.into_iter().for_each(|hold| book.give_back(hold));
        prop_assert_eq!(book.remaining(MIDNIGHT, &limits), before);
    }
}
