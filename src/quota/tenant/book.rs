//! A tenant's own limits; pure.
//!
//! Units are taken when a request is granted and carried over its attempts: one request and one parallel slot,
//! both dated by the grant, and tokens, which are reserved while the request is under way and dated by its end.
//! There is no upstream here whose counting could differ from ours, so that nothing is held beyond that. What a
//! request used above its reservation is debt: nothing is granted until it has left the windows.
//!
//! Everything is counted whether it is limited or not, so that a limit that is set later, or changed, binds from
//! its first instant.

use std::time::Duration;

use crate::domain::clock::Moment;
use crate::domain::tenant::{TenantLimits, TenantUse};
use crate::quota::refusal::Refusal;
use crate::quota::release_log::ReleaseLog;
use crate::quota::span::Span;

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// When to ask again for what requests under way have: any of them may end at any time. Chosen: promised is at
/// least every second while anybody waits; a fourth of it wastes little of a parallel slot that came free.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(250);

/// What a request takes of its tenant's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantDemand {
    /// The upper edge of the estimate of the input and the output cap that the client set.
    pub stated_tokens: u64,
    /// The output that is expected where the client set no cap. It is reserved, but never makes a request too
    /// large: nobody asked for so much.
    pub expected_tokens: u64,
}

/// The units of one request under way; closed by [`TenantBook::settle`] or [`TenantBook::give_back`].
#[must_use = "a hold is settled or given back"]
#[derive(Debug, PartialEq, Eq)]
pub struct TenantHold {
    tokens: u64,
    /// Under which the log of requests finds it.
    request_until: Moment,
    /// The day in which the request counts.
    day: Moment,
}

impl TenantHold {
    /// The tokens reserved.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }
}

/// What is left of one kind of unit, by the limit that has least left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    pub limit: u64,
    pub remaining: u64,
    /// Until nothing is taken of the limit any more, if nothing is added.
    pub reset: Duration,
}

/// What is left of a tenant's limits; `None` where a kind is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remaining {
    pub requests: Option<Gauge>,
    pub tokens: Option<Gauge>,
}

/// What one tenant has taken of its limits.
///
/// Bounded: two logs of at most about 1,030 entries each. They release in slots, at most 59 ms late in 60 s.
#[derive(Debug)]
pub struct TenantBook {
    requests: ReleaseLog,
    tokens: ReleaseLog,
    day: Calendar,
    month: Calendar,
    /// Requests under way, and the tokens reserved for them.
    open: u64,
    open_tokens: u64,
    latest: Moment,
}

/// The counters of one calendar window in UTC.
#[derive(Debug)]
struct Calendar {
    window: fn(Moment) -> (Moment, Moment),
    start: Moment,
    end: Moment,
    requests: u64,
    tokens: u64,
}

impl TenantBook {
    /// The book of a tenant that used this much until `now`.
    pub fn new(used: &TenantUse, now: Moment) -> Self {
        let (mut day, mut month) = (Calendar::new(utc_day, now), Calendar::new(utc_month, now));
        (day.requests, day.tokens) = (used.day.requests, used.day.tokens);
        (month.requests, month.tokens) = (used.month.requests, used.month.tokens);
        let mut book = Self {
            requests: ReleaseLog::new(u64::MAX, &Span::Sliding(MINUTE)),
            tokens: ReleaseLog::new(u64::MAX, &Span::Sliding(MINUTE)),
            day,
            month,
            open: 0,
            open_tokens: 0,
            latest: now,
        };
        book.advance(now);
        for piece in &used.minute {
            book.requests.add(piece.until + MINUTE, piece.used.requests);
            book.tokens.add(piece.until + MINUTE, piece.used.tokens);
        }
        book
    }

    /// Takes the units of one request, all or none.
    ///
    /// # Errors
    /// [`Refusal::TooLarge`] when the stated tokens exceed a limit as such. Else [`Refusal::NotUntil`]: exact where
    /// what has ended stands in the way; where requests under way do, soon, as any of them may end.
    pub fn reserve(
        &mut self,
        now: Moment,
        limits: &TenantLimits,
        demand: TenantDemand,
    ) -> Result<TenantHold, Refusal> {
        let now = self.advance(now);
        let largest =
            [limits.tpm, limits.tpd, limits.tpmonth].into_iter().flatten().min().unwrap_or(u64::MAX);
        if demand.stated_tokens > largest {
            return Err(Refusal::TooLarge);
        }
        let tokens = demand.stated_tokens.saturating_add(demand.expected_tokens).min(largest);
        if let Some(instant) = self.refused_until(now, limits, tokens) {
            return Err(Refusal::NotUntil(instant));
        }
        self.open += 1;
        self.open_tokens = self.open_tokens.saturating_add(tokens);
        self.day.requests += 1;
        self.month.requests += 1;
        Ok(TenantHold { tokens, request_until: self.requests.add(now + MINUTE, 1), day: self.day.start })
    }

    /// Ends a request that used so many tokens.
    pub fn settle(&mut self, now: Moment, hold: TenantHold, tokens: u64) {
        let now = self.advance(now);
        self.close(&hold);
        self.tokens.add(now + MINUTE, tokens);
        for calendar in [&mut self.day, &mut self.month] {
            calendar.tokens = calendar.tokens.saturating_add(tokens);
        }
    }

    /// Undoes a grant that came to nothing: nobody was called.
    pub fn give_back(&mut self, hold: TenantHold) {
        self.close(&hold);
        self.requests.remove(hold.request_until, 1);
        if self.day.start == hold.day {
            self.day.requests = self.day.requests.saturating_sub(1);
        }
        if self.month.start <= hold.day {
            self.month.requests = self.month.requests.saturating_sub(1);
        }
    }

    /// What is left now.
    pub fn remaining(&mut self, now: Moment, limits: &TenantLimits) -> Remaining {
        let now = self.advance(now);
        let gauge = |limit: Option<u64>, taken: u64, full_at: Moment| {
            let limit = limit?;
            let reset = if taken == 0 { Duration::ZERO } else { full_at.saturating_since(now) };
            Some(Gauge { limit, remaining: limit.saturating_sub(taken), reset })
        };
        let tightest =
            |gauges: &[Option<Gauge>]| gauges.iter().flatten().min_by_key(|gauge| gauge.remaining).copied();
        let tokens_full_at = match self.open_tokens {
            0 => self.tokens.instant_freeing(self.tokens.sum()).unwrap_or(now),
            _ => now + MINUTE,
        };
        let requests_full_at = self.requests.instant_freeing(self.requests.sum()).unwrap_or(now);
        let with_open = |tokens: u64| tokens.saturating_add(self.open_tokens);
        Remaining {
            requests: tightest(&[
                gauge(limits.rpm, self.requests.sum(), requests_full_at),
                gauge(limits.rpd, self.day.requests, self.day.end),
            ]),
            tokens: tightest(&[
                gauge(limits.tpm, with_open(self.tokens.sum()), tokens_full_at),
                gauge(limits.tpd, with_open(self.day.tokens), self.day.end),
                gauge(limits.tpmonth, with_open(self.month.tokens), self.month.end),
            ]),
        }
    }

    /// The latest of the instants at which each limit that is in the way would let the request through.
    fn refused_until(&self, now: Moment, limits: &TenantLimits, tokens: u64) -> Option<Moment> {
        let soon = now + ASK_AGAIN;
        let is_over = |limit: Option<u64>, taken: u64, more: u64| {
            limit.is_some_and(|limit| taken.saturating_add(more) > limit)
        };
        let freeing = |log: &ReleaseLog, limit: Option<u64>, more: u64| {
            let excess = log.sum().saturating_add(more).saturating_sub(limit.unwrap_or(u64::MAX));
            log.instant_freeing(excess).unwrap_or(Moment::NEVER)
        };
        let of_requests = [
            is_over(limits.parallel, self.open, 1).then_some(soon),
            is_over(limits.rpm, self.requests.sum(), 1).then(|| freeing(&self.requests, limits.rpm, 1)),
            is_over(limits.rpd, self.day.requests, 1).then_some(self.day.end),
        ];
        let of_tokens = |limit: Option<u64>, ended: u64, until: &dyn Fn() -> Moment| {
            if is_over(limit, ended, tokens) {
                Some(until())
            } else {
                is_over(limit, ended.saturating_add(self.open_tokens), tokens).then_some(soon)
            }
        };
        let of_tokens = [
            of_tokens(limits.tpm, self.tokens.sum(), &|| freeing(&self.tokens, limits.tpm, tokens)),
            of_tokens(limits.tpd, self.day.tokens, &|| self.day.end),
            of_tokens(limits.tpmonth, self.month.tokens, &|| self.month.end),
        ];
        of_requests.into_iter().chain(of_tokens).flatten().max()
    }

    fn close(&mut self, hold: &TenantHold) {
        self.open = self.open.saturating_sub(1);
        self.open_tokens = self.open_tokens.saturating_sub(hold.tokens);
    }

    /// A clock that steps back changes nothing; answers the instant that holds.
    fn advance(&mut self, now: Moment) -> Moment {
        self.latest = self.latest.max(now);
        self.requests.advance(self.latest);
        self.tokens.advance(self.latest);
        self.day.advance(self.latest);
        self.month.advance(self.latest);
        self.latest
    }
}

impl Calendar {
    fn new(window: fn(Moment) -> (Moment, Moment), now: Moment) -> Self {
        let (start, end) = window(now);
        Self { window, start, end, requests: 0, tokens: 0 }
    }

    fn advance(&mut self, now: Moment) {
        if now >= self.end {
            *self = Self::new(self.window, now);
        }
    }
}

fn utc_day(now: Moment) -> (Moment, Moment) {
    let start = now.start_of_utc_day();
    (start, start + DAY)
}

/// Beyond the calendar there is one month that never ends.
fn utc_month(now: Moment) -> (Moment, Moment) {
    now.utc_month().unwrap_or((now, Moment::NEVER))
}
