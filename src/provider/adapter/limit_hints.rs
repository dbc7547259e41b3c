//! What an answer says of the limits: headers on every answer, a body on a refusal.

use actix_web::http::header::{HeaderMap, HeaderName, RETRY_AFTER};

use super::delay;
use crate::domain::clock::Moment;
use crate::domain::failure::{RetryHint, UpstreamFailure};
use crate::domain::signals::{LimitHeader, RefusedLimit};

/// Where a refusal may say when the limit that refused is over: these names are free of any limit's unit or period.
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What an answer says. Empty, and without an allocation, when nothing is used up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::provider) struct LimitHints {
    /// When to come back; of a refusal alone.
    pub(in crate::provider) retry: Option<RetryHint>,
    /// Limits of which nothing is left.
    pub(in crate::provider) exhausted: Vec<Exhausted>,
}

impl LimitHints {
    /// A refusal with what its head and body say of the limit: until when, and which one it was. Where the headers show
    /// several limits at nothing, the longest one decides: it is the one that a short wait does not help.
    pub(in crate::provider) fn complete(self, failure: UpstreamFailure) -> UpstreamFailure {
        let refused = self.exhausted.iter().max_by_key(|exhausted| exhausted.reset_at);
        let stated = refused.filter(|exhausted| !exhausted.refills).map(|e| RetryHint::At(e.reset_at));
        let limit = refused.map(|exhausted| Box::new(exhausted.limit.clone()));
        UpstreamFailure { retry: self.retry.or(stated), limit, ..failure }
    }
}

/// A limit of which nothing is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::provider) struct Exhausted {
    pub(in crate::provider) limit: RefusedLimit,
    pub(in crate::provider) reset_at: Moment,
    /// It fills up all the time, and will be full then.
    pub(in crate::provider) refills: bool,
}

/// The headers of one provider that are looked at, ready to be looked up.
#[derive(Clone, Debug, Default)]
pub(in crate::provider) struct LimitHeaders(Vec<Watched>);

#[derive(Clone, Debug)]
struct Watched {
    remaining: HeaderName,
    reset: HeaderName,
    limit: RefusedLimit,
    refills: bool,
}

impl LimitHeaders {
    pub(in crate::provider) fn new(headers: &[LimitHeader]) -> Self {
        Self(headers.iter().filter_map(Watched::new).collect())
    }

    /// Whether the provider's answers tell nothing.
    pub(in crate::provider) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The limits of which nothing is left and which say until when. Most answers cost one look-up for each header.
    pub(in crate::provider) fn exhausted(&self, headers: &HeaderMap, now: Moment) -> Vec<Exhausted> {
        self.0.iter().filter_map(|watched| watched.exhausted(headers, now)).collect()
    }
}

impl Watched {
    fn new(header: &LimitHeader) -> Option<Self> {
        let limit = RefusedLimit {
            scope: header.scope.clone(),
            unit: Some(header.unit),
            period: Some(header.period),
        };
        let name = |name: &str| HeaderName::from_bytes(name.as_bytes()).ok();
        let (remaining, reset) = (name(&header.remaining)?, name(&header.reset)?);
        Some(Self { remaining, reset, limit, refills: header.refills })
    }

    fn exhausted(&self, headers: &HeaderMap, now: Moment) -> Option<Exhausted> {
        let remaining: f64 = headers.get(&self.remaining)?.to_str().ok()?.trim().parse().ok()?;
        // Less than nothing may be left.
        if remaining > 0.0 {
            return None;
        }
        let reset_at = text(headers, &self.reset).and_then(delay::stated)?.instant(now);
        let hint = Exhausted { limit: self.limit.clone(), reset_at, refills: self.refills };
        (reset_at > now).then_some(hint)
    }
}

/// When to come back, by the headers of a refusal.
pub(in crate::provider) fn retry_of(headers: &HeaderMap) -> Option<RetryHint> {
    [RETRY_AFTER, RESET].iter().find_map(|name| delay::stated(text(headers, name)?))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
