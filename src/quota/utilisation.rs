//! How much of what each kind of limit allows is really used when somebody always wants more, on a clock of its own.

use std::time::Duration;

use crate::domain::calendar::{Calendar, Period, Zone};
use crate::domain::clock::Moment;
use crate::domain::limit::{Limit, RequestsCharged, Scope, TokensCharged, Unit, Window};
use crate::domain::price::Price;

use super::tests::{MINUTE, POOLED, SECOND, demand, exact, parallel, provider};
use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// How upstream answers: its first byte and its end, after the reservation, and what of the reservation was used.
#[derive(Clone, Copy)]
struct Answering {
    first_byte: Duration,
    end: Duration,
    used_percent: u64,
}

const BRISK: Answering =
    Answering { first_byte: Duration::from_millis(300), end: Duration::from_millis(1_500), used_percent: 60 };

/// An attempt that goes on.
struct Attempt {
    hold: Hold,
    first_byte: Option<Moment>,
    end: Moment,
}

/// Asks without end for `input` and `output` tokens until `length` is over; returns the requests granted and the
/// tokens used.
fn saturate(limit: Limit, start: Moment, length: Duration, answering: Answering) -> (u64, u64) {
    let (input, output) = (700, 300);
    let mut spec = provider(1, vec![limit]);
    spec.requests_charged = RequestsCharged::Unknown;
    spec.tokens_charged = TokensCharged::Usage;
    spec.models[0].price = Some(Price { per_request: 0, per_1k_input: 1_000, per_1k_output: 1_000 });
    let used = (input * answering.used_percent / 100, output * answering.used_percent / 100);
    let mut book = Book::new(&spec);
    let (mut now, mut open, mut granted, mut tokens) = (start, Vec::<Attempt>::new(), 0, 0);
    while now < start + length {
        let refused_until = loop {
            match book.reserve(now, &demand(POOLED, input, output)) {
                Answer::Granted(hold) => {
                    granted += 1;
                    tokens += used.0 + used.1;
                    let first_byte = Some(now + answering.first_byte);
                    open.push(Attempt { hold, first_byte, end: now + answering.end });
                }
                Answer::Refused(Refusal::NotUntil(instant)) => break instant,
                other => panic!("{other:?}"),
            }
        };
        let events = open.iter().map(|attempt| attempt.first_byte.unwrap_or(attempt.end));
        now = events.fold(refused_until, Moment::min);
        for attempt in &mut open {
            if attempt.first_byte.is_some_and(|first_byte| first_byte <= now) {
                attempt.first_byte = None;
                book.first_byte(now, &mut attempt.hold);
            }
        }
        for index in (0..open.len()).rev().filter(|&index| open[index].end <= now).collect::<Vec<_>>() {
            let ended = open.swap_remove(index);
            book.settle(now, ended.hold, Spent::Ended(exact(used.0, used.1)));
        }
    }
    open.into_iter().for_each(|attempt| book.settle(now, attempt.hold, Spent::NotSent));
    (granted, tokens)
}

fn at(text: &str) -> Moment {
    Moment::from_unix_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
}

/// What windows of that length allow in `length`, when each use counts `charged` after it began.
fn possible(max: u64, window: Duration, charged: Duration, length: Duration) -> u64 {
    max * (1 + u64::try_from(length.as_micros() / (window + charged).as_micros()).unwrap())
}

#[track_caller]
fn assert_share(used: u64, possible: u64, percent: u64) {
    assert!(used <= possible && used * 100 >= possible * percent, "{used} of {possible}");
}

#[test]
fn sliding_limits_on_requests_are_used() {
    let start = at("2026-11-01T05:00:00Z");
    for (max, window, length, percent) in [
        (2, MINUTE, 60 * MINUTE, 96),
        (30, MINUTE, 60 * MINUTE, 99),
        (50, DAY, 20 * DAY, 99),
        (14_400, DAY, 3 * DAY, 99),
    ] {
        let limit =
            Limit { scope: Scope::Account, unit: Unit::Requests, max, window: Window::Sliding(window) };
        let (granted, _) = saturate(limit, start, length, BRISK);
        assert_share(granted, possible(max, window, BRISK.first_byte, length), percent);
    }
}

#[test]
fn a_spacing_is_used() {
    let limit =
        Limit { scope: Scope::Account, unit: Unit::Requests, max: 1, window: Window::Spacing(SECOND) };
    let (granted, _) = saturate(limit, at("2026-11-01T05:00:00Z"), 30 * MINUTE, BRISK);
    assert_share(granted, possible(1, SECOND, BRISK.first_byte, 30 * MINUTE), 97);
}

#[test]
fn a_parallel_limit_is_used() {
    let (granted, _) = saturate(parallel(4), at("2026-11-01T05:00:00Z"), 10 * MINUTE, BRISK);
    // A slot comes back 100 ms after the end.
    assert_share(granted, possible(4, SECOND / 10, BRISK.end, 10 * MINUTE), 99);
}

#[test]
fn limits_on_tokens_and_credits_are_used() {
    for (unit, max) in [(Unit::Tokens, 60_000), (Unit::InputTokens, 60_000), (Unit::Credits, 60_000)] {
        let limit = Limit { scope: Scope::Account, unit, max, window: Window::Sliding(MINUTE) };
        let (granted, tokens) = saturate(limit, at("2026-11-01T05:00:00Z"), 40 * MINUTE, BRISK);
        // A reservation is two thirds more than is used: what comes back at the end is used one call later.
        let used = if unit == Unit::InputTokens { granted * 420 } else { tokens };
        assert_share(used, possible(max, MINUTE, BRISK.end, 40 * MINUTE), 96);
    }
    // Where estimates are right, nothing but the lengthened window and the slots is lost.
    let exact = Answering { used_percent: 100, ..BRISK };
    let limit =
        Limit { scope: Scope::Account, unit: Unit::Tokens, max: 60_000, window: Window::Sliding(MINUTE) };
    let (_, tokens) = saturate(limit, at("2026-11-01T05:00:00Z"), 40 * MINUTE, exact);
    assert_share(tokens, possible(60_000, MINUTE, BRISK.end, 40 * MINUTE), 99);
}

#[test]
fn calendar_windows_are_used_whole() {
    let zone = Zone::named("America/Los_Angeles").unwrap();
    for (period, max, length, windows) in [
        (Period::Day, 50, 10 * DAY, 11),
        (Period::Month, 1_000, 100 * DAY, 5),
        (Period::Day, 14_400, 3 * DAY, 4),
    ] {
        let window = Window::Calendar(Calendar { period, zone });
        let limit = Limit { scope: Scope::Account, unit: Unit::Requests, max, window };
        let (granted, _) = saturate(limit, at("2026-10-28T12:00:00Z"), length, BRISK);
        assert_eq!(granted, max * windows);
    }
}
