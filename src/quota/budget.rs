//! One limit's running state on one account.

use crate::domain::clock::Moment;
use crate::domain::limit::{Limit, Unit};

use super::hold_rule::{self, Charging, Course, Held};
use super::release_log::ReleaseLog;
use super::span::Span;
use super::time_of_day::TimeOfDay;

/// How much of a limit is left, as a share of its maximum: 0 = nothing, `u64::MAX` = all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Room(u64);

impl Room {
    pub(super) const ALL: Self = Self(u64::MAX);

    fn of(left: u64, max: u64) -> Self {
        let share = u128::from(left) * u128::from(u64::MAX) / u128::from(max.max(1));
        Self(u64::try_from(share).unwrap_or(u64::MAX))
    }
}

/// What is held of one limit, now and until when.
#[derive(Debug)]
pub(super) struct Budget {
    unit: Unit,
    max: u64,
    span: Span,
    /// What is held without a known end.
    in_flight: u64,
    /// What is held until an instant.
    scheduled: ReleaseLog,
    /// How much of both may come back at once, when open attempts end.
    returnable: u64,
    open_lines: usize,
}

impl Budget {
    pub(super) fn new(limit: &Limit) -> Self {
        let span = Span::new(limit.window);
        Self {
            unit: limit.unit,
            max: limit.max,
            in_flight: 0,
            scheduled: ReleaseLog::new(limit.max, &span),
            span,
            returnable: 0,
            open_lines: 0,
        }
    }

    /// Releases what is due. Comes before every other question.
    pub(super) fn advance(&mut self, now: Moment) {
        self.scheduled.advance(self.span.own(now));
        self.span.advance(now);
    }

    /// Calendars go by that time of day from now on. Set forward, what is over by it comes back; set back, nothing comes
    /// back before the reset that follows by the new time of day, nor sooner than it would have.
    pub(super) fn set_time_of_day(&mut self, now: Moment, time_of_day: TimeOfDay) {
        if let Some(by) = self.span.set(time_of_day) {
            self.scheduled.set_back(self.span.own(now), by, self.span.release(now));
        }
    }

    /// The room that would be left after this course; `None` when it does not fit.
    pub(super) fn room_after(&self, charging: Charging, course: &Course) -> Option<Room> {
        let wanted = self.held().saturating_add(self.need(charging, course));
        self.max.checked_sub(wanted).map(|left| Room::of(left, self.max))
    }

    /// The instant at which asking again for a course that does not fit makes sense, as far as this limit goes.
    ///
    /// Exact when no attempt is open here. Otherwise the earliest of: the instant by which enough will have been
    /// released as scheduled; the same with all that open attempts may give back when they end, which is looked
    /// at once a second; and the release of what is counted now, before which nothing that has yet to be counted
    /// can come back.
    pub(super) fn not_until(&self, now: Moment, charging: Charging, course: &Course) -> Moment {
        let excess = self.held().saturating_add(self.need(charging, course)).saturating_sub(self.max);
        let scheduled = self.freed_by(excess);
        if self.open_lines == 0 {
            return scheduled;
        }
        let returned = self.freed_by(excess.saturating_sub(self.returnable));
        let bound_to_hold = self.span.moment(self.span.release(now));
        scheduled.min(returned.min(bound_to_hold).max(hold_rule::next_look(now)))
    }

    /// Writes down what that course holds; returns it as written down.
    pub(super) fn take(&mut self, charging: Charging, course: &Course) -> Held {
        let held = hold_rule::held(self.unit, &self.span, charging, course);
        self.returnable = self.returnable.saturating_add(held.returnable);
        self.open_lines += usize::from(held.is_open);
        match held.until {
            Some(until) => Held { until: Some(self.scheduled.add(until, held.amount)), ..held },
            None => {
                self.in_flight = self.in_flight.saturating_add(held.amount);
                held
            }
        }
    }

    /// Undoes [`Budget::take`]; what was released since stays released.
    pub(super) fn give_back(&mut self, held: Held) {
        self.returnable = self.returnable.saturating_sub(held.returnable);
        self.open_lines = self.open_lines.saturating_sub(usize::from(held.is_open));
        match held.until {
            Some(until) => self.scheduled.remove(until, held.amount),
            None => self.in_flight = self.in_flight.saturating_sub(held.amount),
        }
    }

    /// Holds all of the limit, as if upstream had counted that much until `last_count`.
    pub(super) fn block(&mut self, last_count: Moment) {
        self.scheduled.add(self.span.release(last_count), self.max);
    }

    /// What is held at `now`, for those who only look.
    pub(super) fn held_at(&self, now: Moment) -> u64 {
        self.in_flight.saturating_add(self.scheduled.sum_at(self.span.own(now)))
    }

    /// The share of the limit that is left at `now`, 0 to 1.
    pub(super) fn left_at(&self, now: Moment) -> f64 {
        let left = self.max.saturating_sub(self.held_at(now));
        // Exact up to 2^53; a share of something larger is near enough.
        left as f64 / self.max.max(1) as f64
    }

    /// The instant at which a unit will be free, for those who only look; `None` when one is free at `now`, and
    /// [`Moment::NEVER`] while only the end of open attempts can free one.
    pub(super) fn free_at(&self, now: Moment) -> Option<Moment> {
        let is_full = self.held_at(now) >= self.max;
        is_full.then(|| self.freed_by(self.held().saturating_add(1).saturating_sub(self.max)))
    }

    /// Holds `amount` that was counted at `last_count` at the latest.
    pub(super) fn fill(&mut self, amount: u64, last_count: Moment) {
        self.scheduled.add(self.span.release(last_count), amount);
    }

    fn held(&self) -> u64 {
        self.in_flight.saturating_add(self.scheduled.sum())
    }

    fn need(&self, charging: Charging, course: &Course) -> u64 {
        charging.units(self.unit, course.reserved)
    }

    fn freed_by(&self, amount: u64) -> Moment {
        self.scheduled.instant_freeing(amount).map_or(Moment::NEVER, |own| self.span.moment(own))
    }
}
