//! When units come back that upstream counted at an instant, for every kind of window.

use std::time::Duration;

use crate::domain::calendar::{Calendar, Period, Reset, Resets};
use crate::domain::clock::Moment;
use crate::domain::limit::Window;

use super::time_of_day::TimeOfDay;

/// How far upstream's clock and ours may be apart at a calendar's reset. Source: the contract's guard of 5 s.
pub(super) const GUARD: Duration = Duration::from_secs(5);

const DAY: Duration = Duration::from_secs(86_400);

/// A limit's window, ready to be asked.
#[derive(Debug)]
pub(super) enum Span {
    /// Lengthened.
    Sliding(Duration),
    Calendar(CalendarSpan),
    /// What only counts what is in flight.
    InFlight,
}

impl Span {
    pub(super) fn new(window: Window) -> Self {
        match window {
            Window::Sliding(length) | Window::Spacing(length) => Self::Sliding(lengthened(length)),
            Window::Calendar(calendar) => Self::Calendar(CalendarSpan::new(calendar)),
            Window::InFlight => Self::InFlight,
        }
    }

    /// The instant from which nothing that upstream counted at `last_count` at the latest is in the same window as
    /// what it counts from then on, by the clock of [`Span::own`].
    pub(super) fn release(&self, last_count: Moment) -> Moment {
        match self {
            Self::Sliding(length) => last_count + *length,
            Self::Calendar(calendar) => calendar.release(last_count),
            Self::InFlight => last_count,
        }
    }

    /// Makes [`Span::release`] fast for instants around `now`.
    pub(super) fn advance(&mut self, now: Moment) {
        if let Self::Calendar(calendar) = self {
            calendar.advance(now);
        }
    }

    /// That moment by the clock that releases go by: a calendar's is the time of day, every other's is even.
    pub(super) fn own(&self, moment: Moment) -> Moment {
        match self {
            Self::Calendar(calendar) => calendar.time_of_day.of(moment),
            Self::Sliding(_) | Self::InFlight => moment,
        }
    }

    /// The moment that is `own` by that clock.
    pub(super) fn moment(&self, own: Moment) -> Moment {
        match self {
            Self::Calendar(calendar) => calendar.time_of_day.moment(own),
            Self::Sliding(_) | Self::InFlight => own,
        }
    }

    /// Goes by that time of day from now on; how far it was set back. Nothing for what has no calendar.
    pub(super) fn set(&mut self, time_of_day: TimeOfDay) -> Option<Duration> {
        let Self::Calendar(calendar) = self else { return None };
        let before = std::mem::replace(&mut calendar.time_of_day, time_of_day);
        before.ahead_of(time_of_day)
    }

    /// No release comes later than this after the last count.
    pub(super) fn longest(&self) -> Duration {
        match self {
            Self::Sliding(length) => *length,
            Self::Calendar(calendar) => calendar.longest,
            Self::InFlight => Duration::ZERO,
        }
    }
}

/// A window × 1.0001, rounded up to the microsecond: covers an upstream clock that runs slower than ours, by 100 ppm
/// at most.
fn lengthened(length: Duration) -> Duration {
    let micros = length.as_nanos().saturating_mul(10_001).div_ceil(10_000 * 1_000);
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

/// A calendar's windows.
///
/// Upstream may read a clock that is up to [`GUARD`] ahead of ours or behind it. So what it counted at `t` of our
/// clock can lie in the window that holds `t + GUARD`, and that window is over on both clocks [`GUARD`] after its end.
#[derive(Debug)]
pub(super) struct CalendarSpan {
    resets: Resets,
    longest: Duration,
    /// The reset that follows this instant, and every one from there to it: asking the calendar takes longer than
    /// all the rest of a decision.
    known: (Moment, Reset),
    time_of_day: TimeOfDay,
}

impl CalendarSpan {
    fn new(calendar: Calendar) -> Self {
        let resets = Resets::new(calendar);
        // Chosen: no zone ever shifted by more than a day.
        let longest = match calendar.period {
            Period::Day => DAY + DAY + GUARD + GUARD,
            Period::Month => 31 * DAY + DAY + GUARD + GUARD,
        };
        let epoch = Moment::default();
        Self { longest, known: (epoch, resets.after(epoch)), resets, time_of_day: TimeOfDay::default() }
    }

    fn advance(&mut self, now: Moment) {
        let guarded = self.time_of_day.of(now) + GUARD;
        if !self.knows(guarded) {
            self.known = (guarded, self.resets.after(guarded));
        }
    }

    fn release(&self, last_count: Moment) -> Moment {
        let guarded = self.time_of_day.of(last_count) + GUARD;
        let reset = if self.knows(guarded) { self.known.1 } else { self.resets.after(guarded) };
        reset.last + GUARD
    }

    fn knows(&self, moment: Moment) -> bool {
        let (from, reset) = &self.known;
        *from <= moment && moment < reset.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::calendar::Zone;

    fn at(text: &str) -> Moment {
        Moment::from_unix_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    #[test]
    fn windows_are_lengthened_by_a_ten_thousandth_and_rounded_up() {
        let released = |window| Span::new(window).release(Moment::default()).unix_micros();
        assert_eq!(released(Window::Sliding(Duration::from_secs(60))), 60_006_000);
        assert_eq!(released(Window::Spacing(Duration::from_micros(1))), 2);
        assert_eq!(released(Window::Sliding(Duration::from_nanos(1))), 1);
        assert_eq!(released(Window::InFlight), 0);
    }

    #[test]
    fn a_calendar_releases_after_the_reset_that_follows_the_guard() {
        let day = Calendar { period: Period::Day, zone: Zone::named("America/Los_Angeles").unwrap() };
        let mut span = Span::new(Window::Calendar(day));
        let cases = [
            ("2026-03-07T12:00:00Z", "2026-03-08T08:00:05Z"),
            ("2026-03-08T07:59:54.999999Z", "2026-03-08T08:00:05Z"),
            ("2026-03-08T07:59:55Z", "2026-03-09T07:00:05Z"),
            ("2026-03-08T08:00:00Z", "2026-03-09T07:00:05Z"),
            ("2026-10-31T12:00:00Z", "2026-11-01T07:00:05Z"),
            ("2026-11-01T12:00:00Z", "2026-11-02T08:00:05Z"),
        ];
        for known_at in ["2020-01-01T00:00:00Z", "2026-03-08T07:59:58Z", "2026-11-01T12:00:00Z"] {
            span.advance(at(known_at));
            for (last_count, release) in cases {
                assert_eq!(span.release(at(last_count)), at(release), "{last_count}");
            }
        }
    }

    #[test]
    fn a_midnight_that_comes_twice_ends_a_window_with_the_second() {
        let day = Calendar { period: Period::Day, zone: Zone::named("America/Havana").unwrap() };
        let span = Span::new(Window::Calendar(day));
        assert_eq!(span.release(at("2024-11-02T12:00:00Z")), at("2024-11-03T05:00:05Z"));
        // Counted between the two: by now it may be the new day, or still the old one.
        assert_eq!(span.release(at("2024-11-03T04:30:00Z")), at("2024-11-04T05:00:05Z"));
    }
}
