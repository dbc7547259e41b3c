//! How the time of day lies to the moments that everything else goes by.

use std::time::Duration;

use crate::domain::clock::Moment;

/// The time of day is followed in steps of more than this. Chosen: a fifth of the guard at a calendar's reset, and more
/// than two readings of a clock ever lie apart; what NTP corrects while it runs is far less.
const STEP: Duration = Duration::from_secs(1);

/// By how much the time of day is ahead of the even clock, which counts on from the time of day at the start of the
/// process: nothing until the machine sleeps or its clock is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TimeOfDay {
    ahead_us: i64,
}

impl TimeOfDay {
    /// What it is when the time of day at `now` is `wall`; `None` where that is what it was.
    pub(super) fn changed(self, now: Moment, wall: Moment) -> Option<Self> {
        let ahead_us = wall.unix_micros().saturating_sub(now.unix_micros());
        let off = Duration::from_micros(ahead_us.abs_diff(self.ahead_us));
        (off > STEP).then_some(Self { ahead_us })
    }

    /// By how much this one is ahead of another; `None` where it is not.
    pub(super) fn ahead_of(self, other: Self) -> Option<Duration> {
        let micros = u64::try_from(self.ahead_us.saturating_sub(other.ahead_us)).ok()?;
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    /// The time of day at a moment.
    pub(super) fn of(self, moment: Moment) -> Moment {
        shifted(moment, self.ahead_us)
    }

    /// The moment of a time of day.
    pub(super) fn moment(self, time_of_day: Moment) -> Moment {
        shifted(time_of_day, self.ahead_us.saturating_neg())
    }
}

fn shifted(moment: Moment, micros: i64) -> Moment {
    if moment == Moment::NEVER {
        return moment;
    }
    Moment::from_unix_micros(moment.unix_micros().saturating_add(micros))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::calendar::{Calendar, Period, Zone};
    use crate::domain::limit::{Limit, Scope, Unit, Window};
    use crate::quota::tests::{MINUTE, SECOND, demand, exact, per_minute, provider, start};
    use crate::quota::{Answer, Book, ModelIndex, Refusal, Spent};

    const HOUR: Duration = Duration::from_secs(3_600);
    const MODEL: ModelIndex = ModelIndex(1);

    fn a_day(max: u64) -> Limit {
        let calendar = Calendar { period: Period::Day, zone: Zone::named("UTC").unwrap() };
        Limit { scope: Scope::Account, unit: Unit::Requests, max, window: Window::Calendar(calendar) }
    }

    fn noon() -> Moment {
        start().start_of_utc_day() + 12 * HOUR
    }

    fn midnight() -> Moment {
        noon() + 12 * HOUR
    }

    /// One attempt that ends at once; otherwise until when it is refused.
    fn ask(book: &mut Book, now: Moment) -> Result<(), Moment> {
        match book.reserve(now, &demand(MODEL, 1, 1)) {
            Answer::Granted(hold) => {
                book.settle(now, hold, Spent::Ended(exact(1, 1)));
                Ok(())
            }
            Answer::Refused(Refusal::NotUntil(until)) => Err(until),
            other => panic!("{other:?}"),
        }
    }

    /// A book whose day was used up at noon.
    fn used_up() -> Book {
        let mut book = Book::new(&provider(1, vec![a_day(1)]));
        book.follow(noon(), noon());
        assert_eq!(ask(&mut book, noon()), Ok(()));
        assert_eq!(ask(&mut book, noon()), Err(midnight() + 5 * SECOND));
        book
    }

    #[test]
    fn a_machine_that_slept_through_midnight_has_a_new_day() {
        let mut book = used_up();
        // A minute of its own, and 14 hours by the clock on the wall.
        let awake = noon() + MINUTE;
        book.follow(awake, noon() + 14 * HOUR);
        assert_eq!(ask(&mut book, awake), Ok(()));
        // The next midnight is told by the even clock, on which it comes 22 hours from now.
        assert_eq!(ask(&mut book, awake), Err(awake + 22 * HOUR + 5 * SECOND));
    }

    #[test]
    fn a_clock_that_was_set_back_gives_back_at_the_later_midnight() {
        let mut book = used_up();
        let later = noon() + HOUR;
        book.follow(later, later - 3 * HOUR);
        assert_eq!(ask(&mut book, later), Err(midnight() + 3 * HOUR + 5 * SECOND));
        assert_eq!(ask(&mut book, midnight() + 3 * HOUR + 5 * SECOND), Ok(()));
    }

    #[test]
    fn a_clock_that_was_a_year_ahead_is_followed_back() {
        let mut book = Book::new(&provider(1, vec![a_day(1)]));
        let year_ahead = noon() + 365 * 24 * HOUR;
        book.follow(noon(), year_ahead);
        assert_eq!(ask(&mut book, noon()), Ok(()));
        book.follow(noon(), noon());
        assert_eq!(ask(&mut book, noon()), Err(midnight() + 5 * SECOND));
        assert_eq!(ask(&mut book, midnight() + 5 * SECOND), Ok(()));
    }

    #[test]
    fn sliding_windows_do_not_care() {
        let mut book = Book::new(&provider(1, vec![per_minute(Scope::Account, Unit::Requests, 1)]));
        assert_eq!(ask(&mut book, noon()), Ok(()));
        let told = ask(&mut book, noon()).unwrap_err();
        for wall in [noon() + 24 * HOUR, noon() - 24 * HOUR] {
            book.follow(noon() + SECOND, wall);
            assert_eq!(ask(&mut book, noon() + SECOND), Err(told));
        }
    }

    #[test]
    fn what_two_readings_differ_by_is_no_step() {
        let kept = TimeOfDay::default();
        assert_eq!(kept.changed(noon(), noon() + SECOND), None);
        assert_eq!(kept.changed(noon(), noon() - SECOND), None);
        assert!(kept.changed(noon(), noon() + 2 * SECOND).is_some());
        assert_eq!(TimeOfDay { ahead_us: 5 }.moment(Moment::NEVER), Moment::NEVER);
    }

    proptest! {
        /// However often the clock is set back, nothing comes back sooner than without it.
        #[test]
        fn steps_back_never_release_early(
            steps in proptest::collection::vec((1_u32..20_000, 2_u32..100_000), 1..8),
        ) {
            let mut book = used_up();
            let (mut now, mut behind) = (noon(), Duration::ZERO);
            for (pass, back) in steps {
                now = now + pass * SECOND;
                behind += back * SECOND;
                book.follow(now, now - behind);
                if now < midnight() + 5 * SECOND {
                    prop_assert!(ask(&mut book, now).is_err(), "free at {now:?}, {behind:?} behind");
                }
            }
        }
    }
}
