//! For how long a failure keeps whom from being asked; pure. Who that is, says `domain::consequence`.

use std::time::Duration;

use crate::domain::clock::Moment;
use crate::domain::failure::{RetryHint, UpstreamFailure};
use crate::domain::signals::Period;

/// An account whose key is refused, or whose credit is spent, is asked again this seldom: only the operator
/// can mend it. Chosen: often enough to notice the mending, seldom enough to be no nuisance.
pub(super) const ACCOUNT_OFF: Duration = Duration::from_secs(600);

/// A model that is gone upstream is asked again this seldom.
pub(super) const MODEL_OFF: Duration = Duration::from_secs(3_600);

/// A busy model is left alone this long when it does not say how long. Chosen: Cerebras' `queue_exceeded` passes in
/// about a second, Z.AI's 1305 takes a few tries (public reports up to 2026-08).
const BUSY_PAUSE: Duration = Duration::from_secs(5);

/// A busy model is left alone no longer than this, whatever it says. Chosen: busy is not used up.
const BUSY_MAX: Duration = Duration::from_secs(60);

/// A stated delay of a limit that is not known is not believed beyond this: absurd values exist in the field.
const STATED_MAX: Duration = Duration::from_secs(86_400);

/// The instant beyond which no word on that limit is believed.
pub(super) fn cap(period: Option<Period>, now: Moment) -> Moment {
    period.map_or(now + STATED_MAX, |period| period.over_by(now))
}

/// Until when a refused limit is used up, where that is known: by the upstream's word, else by the calendar. A word
/// that lies in the past, or is no delay at all, is none.
pub(super) fn limit_until(failure: &UpstreamFailure, now: Moment) -> Option<Moment> {
    let period = failure.period();
    let stated = stated(failure.retry, now).map(|instant| instant.min(cap(period, now)));
    stated.or_else(|| period.and_then(|period| period.reset_after(now)))
}

/// Until when a busy model is left alone.
pub(super) fn busy_until(retry: Option<RetryHint>, now: Moment) -> Moment {
    stated(retry, now).unwrap_or(now + BUSY_PAUSE).min(now + BUSY_MAX)
}

fn stated(retry: Option<RetryHint>, now: Moment) -> Option<Moment> {
    retry.map(|hint| hint.instant(now)).filter(|instant| *instant > now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::FailureKind;
    use crate::domain::signals::RefusedLimit;

    /// 2026-11-23T02:13:14Z.
    const NOW: Moment = Moment::from_unix_micros(1_795_399_994_000_000);
    const MINUTE: Period = Period::Length(Duration::from_secs(60));

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// The wait for a refusal of a limit over `period` that says `retry`, in seconds.
    fn wait(period: Option<Period>, retry: Option<RetryHint>) -> Option<u64> {
        let limit = Some(Box::new(RefusedLimit { period, ..RefusedLimit::default() }));
        let failure = UpstreamFailure { retry, limit, ..UpstreamFailure::new(FailureKind::RateLimited, "") };
        limit_until(&failure, NOW).map(|until| until.saturating_since(NOW).as_secs())
    }

    #[test]
    fn a_word_is_capped_by_the_limit_that_it_is_about() {
        let after = |delay: u64| Some(RetryHint::After(seconds(delay)));
        assert_eq!(wait(None, after(7)), Some(7));
        assert_eq!(wait(None, Some(RetryHint::After(Duration::MAX))), Some(86_400));
        assert_eq!(wait(Some(MINUTE), after(7_000)), Some(60));
        assert_eq!(wait(Some(Period::Length(seconds(86_400))), after(7_000)), Some(7_000));
        assert_eq!(wait(Some(Period::UtcDay), after(200_000)), Some(78_406), "until midnight");
        let month = Period::UtcMonth;
        assert_eq!(wait(Some(month), after(200_000)), Some(200_000));
        assert_eq!(wait(Some(month), after(40 * 86_400)), Some(7 * 86_400 + 78_406), "until December");
    }

    #[test]
    fn what_is_past_is_no_delay() {
        for retry in [None, Some(RetryHint::After(Duration::ZERO)), Some(RetryHint::At(NOW - seconds(9)))] {
            assert_eq!(wait(Some(MINUTE), retry), None, "{retry:?}");
        }
    }

    #[test]
    fn a_calendar_says_when_its_day_is_over() {
        assert_eq!(wait(Some(Period::UtcDay), None), Some(78_406));
    }

    #[test]
    fn busy_is_not_used_up() {
        assert_eq!(busy_until(None, NOW), NOW + BUSY_PAUSE);
        assert_eq!(busy_until(Some(RetryHint::After(seconds(2))), NOW), NOW + seconds(2));
        assert_eq!(busy_until(Some(RetryHint::After(seconds(9_000))), NOW), NOW + BUSY_MAX);
    }
}
