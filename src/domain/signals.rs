//! How a provider says what it does not like, as data: which error means what, and which header tells of which limit.

use std::time::Duration;

use super::clock::Moment;
use super::failure::FailureKind;
use super::limit::{Scope, Unit};

/// The day of a calendar that we do not compute.
const DAY: Duration = Duration::from_secs(86_400);

/// The longest month.
const MONTH: Duration = Duration::from_secs(31 * 86_400);

/// What a provider's file says of its errors and limit headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signals {
    /// The first that fits decides; where none fits, the dialect's own table does.
    pub errors: Vec<ErrorRule>,
    pub limit_headers: Vec<LimitHeader>,
}

/// One line of a provider's error table. Everything that it states must be there in the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorRule {
    pub status: Option<u16>,
    /// One of the error's codes: its `code`, `type`, `status` or class, whole and as it is spelled.
    pub code: Option<String>,
    /// Words that the message holds; never digits alone.
    pub words: Option<String>,
    pub means: FailureKind,
    pub limit: RefusedLimit,
    /// The delay that comes with it is known to be of no help, and is not believed.
    pub ignores_delay: bool,
}

/// Which limit a refusal was about, as far as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusedLimit {
    pub scope: Option<Scope>,
    pub unit: Option<Unit>,
    pub period: Option<Period>,
}

/// A pair of headers that tells what is left of one limit, and when more comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitHeader {
    /// The header with what is left.
    pub remaining: String,
    /// The header with when the limit resets.
    pub reset: String,
    pub scope: Option<Scope>,
    pub unit: Unit,
    pub period: Period,
    /// The limit fills up all the time, and `reset` is when it will be full: one unit is back much sooner.
    pub refills: bool,
}

/// Over what time a limit counts, as an upstream names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Period {
    /// A span of that length, wherever it begins.
    Length(Duration),
    UtcDay,
    UtcMonth,
}

impl Period {
    /// An hour or more: what does not come back by itself in a moment.
    pub fn is_long(self) -> bool {
        match self {
            Self::Length(length) => length >= Duration::from_secs(3_600),
            Self::UtcDay | Self::UtcMonth => true,
        }
    }

    /// The instant at which a calendar period is over; `None` for a span, which may have begun at any time.
    pub fn reset_after(self, now: Moment) -> Option<Moment> {
        match self {
            Self::Length(_) => None,
            Self::UtcDay => Some(now.start_of_utc_day() + DAY),
            Self::UtcMonth => Some(now.utc_month().map_or(now + MONTH, |(_, next)| next)),
        }
    }

    /// The latest instant at which the limit can still be used up: no word of an upstream counts beyond it.
    pub fn over_by(self, now: Moment) -> Moment {
        match self {
            Self::Length(length) => now + length,
            Self::UtcDay | Self::UtcMonth => self.reset_after(now).unwrap_or(now + MONTH),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-11-23T02:13:14Z.
    const NOW: Moment = Moment::from_unix_micros(1_795_399_994_000_000);

    #[test]
    fn calendar_periods_end_with_their_calendar() {
        assert_eq!(format!("{NOW:?}"), "2026-11-23T02:13:14Z");
        let reset = |period: Period| format!("{:?}", period.reset_after(NOW).unwrap());
        assert_eq!(reset(Period::UtcDay), "2026-11-24T00:00:00Z");
        assert_eq!(reset(Period::UtcMonth), "2026-12-01T00:00:00Z");
        let december = NOW + Duration::from_secs(20 * 86_400);
        assert_eq!(format!("{:?}", Period::UtcMonth.over_by(december)), "2027-01-01T00:00:00Z");
    }

    #[test]
    fn a_span_is_over_a_length_from_now() {
        let minute = Period::Length(Duration::from_secs(60));
        assert_eq!((minute.reset_after(NOW), minute.over_by(NOW)), (None, NOW + Duration::from_secs(60)));
        assert!(!minute.is_long() && Period::Length(DAY).is_long() && Period::UtcMonth.is_long());
    }
}
