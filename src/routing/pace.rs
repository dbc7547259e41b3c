//! Whether what a target may use in a day is being used up too soon.

use std::time::Duration;

use crate::domain::clock::Moment;
use crate::quota::Remaining;

/// How far use may run ahead of the day. Chosen: somebody's busy half hour is no reason to send them elsewhere.
const SLACK: f64 = 0.05;

/// Over what time the speed of use is judged. Chosen: longer than a meeting, shorter than half a working day, so that
/// the morning's silence does not license the afternoon, and a short burst does not condemn it.
const MEMORY: Duration = Duration::from_secs(2 * 3_600);

/// How the day's quota of one target goes down. Its clock is the latest `now` that it was told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    day: Option<Day>,
    /// The share of the quota that is used in a second, over [`MEMORY`].
    burn: f64,
    noted_at: Moment,
}

/// The tightest daily limit, as it was seen last.
#[derive(Clone, Copy, Debug)]
struct Day {
    /// 0 to 1, over all accounts.
    used: f64,
    length: Duration,
    resets_at: Option<Moment>,
}

impl Pace {
    /// Takes note of what is left; `None` where no daily limit binds the target.
    pub fn note(&mut self, now: Moment, remaining: Option<Remaining>) {
        let now = now.max(self.noted_at);
        let Some(Remaining { left, length, resets_at }) = remaining else {
            self.day = None;
            return;
        };
        let used = 1.0 - left.clamp(0.0, 1.0);
        self.burn = self.burn_at(now) + self.used_since(now, used) / MEMORY.as_secs_f64();
        self.day = Some(Day { used, length, resets_at });
        self.noted_at = now;
    }

    /// Whether the quota is used faster than its day goes by, and will not last to the reset if that goes on. A
    /// target that is hardly asked is never ahead: under light load the best model is there for everybody.
    pub fn is_ahead(&self, now: Moment) -> bool {
        let Some(day) = &self.day else { return false };
        let burn = self.burn_at(now);
        match day.resets_at {
            Some(resets_at) if resets_at <= now => false,
            Some(resets_at) => {
                let rest = resets_at.saturating_since(now).as_secs_f64();
                let gone = 1.0 - rest / day.length.as_secs_f64();
                day.used > gone + SLACK && burn * rest > 1.0 - day.used
            }
            // What slides comes back all the time: it lasts for ever at no more than the whole in its length. Half of
            // it is kept for whoever comes.
            None => day.used > 0.5 + SLACK && burn * day.length.as_secs_f64() > 1.0,
        }
    }

    /// The share used since the last look. The first look, after a start, says nothing of speed. Of what slides,
    /// something may have come back meanwhile: then this is too little, and the target is asked a little more.
    fn used_since(&self, now: Moment, used: f64) -> f64 {
        let Some(before) = self.day else { return 0.0 };
        let is_new_day = before.resets_at.is_some_and(|resets_at| resets_at <= now);
        if is_new_day { used } else { (used - before.used).max(0.0) }
    }

    fn burn_at(&self, now: Moment) -> f64 {
        self.burn * (-now.saturating_since(self.noted_at).as_secs_f64() / MEMORY.as_secs_f64()).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Moment = Moment::from_unix_micros(86_400_000_000 * 20_000);
    const DAY: Duration = Duration::from_secs(86_400);

    fn hours(hours: f64) -> Duration {
        Duration::from_secs_f64(hours * 3_600.0)
    }

    fn of_today(used: f64) -> Option<Remaining> {
        Some(Remaining { left: 1.0 - used, length: DAY, resets_at: Some(START + DAY) })
    }

    fn sliding(used: f64) -> Option<Remaining> {
        Some(Remaining { left: 1.0 - used, length: DAY, resets_at: None })
    }

    /// Uses `share` of the quota in an hour, evenly, for so many hours.
    fn steady(share: f64, for_hours: u32, remaining: impl Fn(f64) -> Option<Remaining>) -> (Pace, Moment) {
        let mut pace = Pace::default();
        pace.note(START, remaining(0.0));
        let mut now = START;
        for step in 1..=for_hours * 60 {
            now = START + hours(f64::from(step) / 60.0);
            pace.note(now, remaining((share * f64::from(step) / 60.0).min(1.0)));
        }
        (pace, now)
    }

    #[test]
    fn without_a_daily_limit_nothing_is_ahead() {
        let mut pace = Pace::default();
        pace.note(START, of_today(0.0));
        pace.note(START, of_today(0.9));
        assert!(pace.is_ahead(START));
        pace.note(START, None);
        assert!(!pace.is_ahead(START));
    }

    #[test]
    fn a_use_that_lasts_to_the_reset_is_not_ahead() {
        let (pace, now) = steady(0.9 / 24.0, 12, of_today);
        assert!(!pace.is_ahead(now));
    }

    #[test]
    fn a_use_that_does_not_last_is_ahead_until_it_slows_down() {
        let (mut pace, now) = steady(2.0 / 24.0, 6, of_today);
        assert!(pace.is_ahead(now), "half is gone after a quarter of the day");
        assert!(!pace.is_ahead(now + hours(3.0)), "idle");
        assert!(!pace.is_ahead(START + DAY), "a new day");
        pace.note(START + DAY, Some(Remaining { left: 1.0, length: DAY, resets_at: Some(START + DAY * 2) }));
        assert!(!pace.is_ahead(START + DAY));
    }

    #[test]
    fn one_request_in_the_first_minute_of_the_day_is_not_ahead() {
        let mut pace = Pace::default();
        pace.note(START, of_today(0.0));
        pace.note(START + Duration::from_secs(30), of_today(0.02));
        assert!(!pace.is_ahead(START + Duration::from_secs(31)));
    }

    /// Demand for so many times the quota, all day; whoever is ahead is passed over for an equal.
    fn used_at(times: f64, at: f64) -> f64 {
        let (mut pace, mut used) = (Pace::default(), 0.0);
        pace.note(START, of_today(used));
        for second in (0..).step_by(10).take_while(|second| f64::from(*second) < at * 3_600.0) {
            let now = START + Duration::from_secs(u64::from(second as u32));
            if used < 1.0 && !pace.is_ahead(now) {
                used = (used + times * 10.0 / 86_400.0_f64).min(1.0);
                pace.note(now, of_today(used));
            }
        }
        used
    }

    #[test]
    fn what_is_scarce_is_spread_over_the_day() {
        for times in [1.5, 3.0, 20.0] {
            let (noon, evening, midnight) =
                (used_at(times, 12.0), used_at(times, 20.0), used_at(times, 24.0));
            assert!((0.45..0.6).contains(&noon), "{times}: {noon} at noon");
            assert!((0.75..0.92).contains(&evening), "{times}: {evening} at eight");
            assert!(midnight > 0.97, "{times}: {midnight} at the end");
        }
        assert!((used_at(0.7, 24.0) - 0.7).abs() < 0.01, "what suffices is never passed over");
    }

    #[test]
    fn what_slides_is_kept_above_half() {
        let (pace, now) = steady(3.0 / 24.0, 6, sliding);
        assert!(pace.is_ahead(now));
        let (pace, now) = steady(0.9 / 24.0, 22, sliding);
        assert!(!pace.is_ahead(now), "so much comes back as is used");
    }
}
