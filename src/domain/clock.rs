//! Time, asked of a [`Clock`]; nothing else in the gateway may read it.

use std::fmt;
use std::ops::{Add, Sub};
use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::Instant;

/// A point in time: microseconds since the Unix epoch.
///
/// Within one process it only moves forward, because [`SystemClock`] reads the wall clock once and counts
/// on from there monotonically; across processes it can be stored and compared, as holds and events need.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize)]
#[serde(transparent)]
pub struct Moment(i64);

impl Moment {
    /// Later than every moment that can be reached: what has no known end.
    pub const NEVER: Self = Self(i64::MAX);

    pub const fn from_unix_micros(micros: i64) -> Self {
        Self(micros)
    }

    pub const fn unix_micros(self) -> i64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero when `earlier` is in fact later.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }

    /// Midnight UTC of the day that `self` lies in.
    pub fn start_of_utc_day(self) -> Self {
        const DAY_MICROS: i64 = 86_400_000_000;
        Self(self.0 - self.0.rem_euclid(DAY_MICROS))
    }

    /// The first midnight UTC of the month that `self` lies in, and that of the next month; `None` outside the
    /// years -9999 to 9999.
    pub fn utc_month(self) -> Option<(Self, Self)> {
        let first = Timestamp::from_microsecond(self.0).ok()?.to_zoned(TimeZone::UTC).date().first_of_month();
        let next = first.checked_add(1.month()).ok()?;
        Some((Self::midnight(first)?, Self::midnight(next)?))
    }

    fn midnight(date: Date) -> Option<Self> {
        let zoned = date.to_zoned(TimeZone::UTC).ok()?;
        Some(Self(zoned.timestamp().as_microsecond()))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }
}

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros))
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Timestamp::from_microsecond(self.0) {
            Ok(timestamp) => write!(f, "{timestamp}"),
            Err(_) => f.write_str("never"),
        }
    }
}

/// Whoever knows what time it is.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Runs evenly and never back: for everything that is measured or waited for.
    fn now(&self) -> Moment;

    /// The time of day as the machine has it now, which may be set, and goes on while the machine sleeps: for what
    /// happens at a time of day. Without a word it is [`Clock::now`].
    fn wall(&self) -> Moment {
        self.now()
    }
}

/// A clock that every room can hold.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock: the wall clock at construction, counted on by the runtime's monotonic one.
///
/// The monotonic part is tokio's, so that a test's paused runtime and the core agree.
#[derive(Debug)]
pub struct SystemClock {
    anchor: Instant,
    anchor_wall: Moment,
}

impl SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that may read the machine's clocks")]
    pub fn start() -> Self {
        Self { anchor: Instant::now(), anchor_wall: Moment(Timestamp::now().as_microsecond()) }
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that may read the machine's clocks")]
    fn now(&self) -> Moment {
        self.anchor_wall + Instant::now().saturating_duration_since(self.anchor)
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that may read the machine's clocks")]
    fn wall(&self) -> Moment {
        Moment(Timestamp::now().as_microsecond())
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct FakeClock(Mutex<Moment>);

impl FakeClock {
    pub fn at(moment: Moment) -> Self {
        Self(Mutex::new(moment))
    }

    pub fn advance(&self, duration: Duration) {
        let mut now = self.0.lock();
        *now = *now + duration;
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Moment {
        *self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_starts_at_midnight_utc() {
        let noon = Moment::from_unix_micros(1_790_000_000_000_000);
        let start = noon.start_of_utc_day();
        assert!(start <= noon);
        assert_eq!(start.unix_micros() % 86_400_000_000, 0);
        assert_eq!(start.start_of_utc_day(), start);
    }

    #[test]
    fn a_month_begins_and_ends_at_midnight_utc() {
        let at = |text: &str| Moment(text.parse::<Timestamp>().unwrap().as_microsecond());
        for (inside, start, end) in [
            ("2028-02-29T23:59:59.999999Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
            ("2026-12-01T00:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ] {
            assert_eq!(at(inside).utc_month(), Some((at(start), at(end))));
        }
        assert_eq!(Moment::NEVER.utc_month(), None);
    }

    #[test]
    fn adding_to_never_stays_never() {
        assert_eq!(Moment::NEVER + Duration::from_secs(1), Moment::NEVER);
    }
}
