//! What decides whether a request can use what a provider may have.

use std::time::Duration;

use super::entry::Entry;
use super::passed_over::PassedOver;
use super::refusals::Refusals;
use super::size::Size;
use crate::domain::clock::Moment;
use crate::quota::ModelIndex;

/// So long before the large request may have its tokens one request of the limit that it shares is kept for it too.
/// Chosen: as long as it may have been passed over; the others are kept waiting for that long at most.
const KEEP_REQUESTS_FOR: Duration = Duration::from_secs(5);

/// What a model draws on together with others: the number of the group, among those who share the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// A limit on tokens.
    pub tokens: usize,
    /// A limit on requests.
    pub requests: usize,
}

/// One model of the provider.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) refusals: Refusals,
    /// How many classes of those who wait want it.
    pub(super) classes: usize,
    pub(super) groups: Groups,
    /// Whether it has refused anything in the last round.
    pub(super) was_short: bool,
}

/// What comes free in a group is kept for that request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reserved {
    pub(super) number: u64,
    pub(super) groups: Groups,
    /// When it may be served, as far as is known.
    pub(super) until: Moment,
    /// Whether others have been refused what it shares with them, since room is kept for it.
    pub(super) is_tight: bool,
}

impl Reserved {
    /// Whether what models of that group might get is kept. What it waits for are tokens, of which every bit counts. A
    /// request is only kept where requests are short, and near the instant at which it would be missing.
    pub(super) fn keeps(&self, groups: Groups, now: Moment) -> bool {
        let are_requests_kept = self.is_tight && self.until <= now + KEEP_REQUESTS_FOR;
        self.groups.tokens == groups.tokens || (are_requests_kept && self.groups.requests == groups.requests)
    }
}

/// The state of a provider's models, for a look at those who wait.
pub(super) struct Sight<'a> {
    pub(super) provider: usize,
    pub(super) round: u64,
    pub(super) now: Moment,
    pub(super) models: &'a [Model],
    pub(super) passed_over: &'a PassedOver,
    pub(super) reserved: Option<Reserved>,
}

impl Sight<'_> {
    pub(super) fn fits<W>(&self, number: u64, entry: &Entry<W>) -> bool {
        entry.is_waiting() && self.open_models(number, entry).next().is_some() && !self.is_refused(number)
    }

    /// Whether it has been refused in this round.
    pub(super) fn is_refused(&self, number: u64) -> bool {
        self.passed_over.is_refused_in(number, self.round)
    }

    /// Whether the model may have room for so much that is kept for nobody.
    pub(super) fn is_open(&self, index: ModelIndex, size: &Size) -> bool {
        self.is_open_to(index, size, None)
    }

    fn is_open_to(&self, index: ModelIndex, size: &Size, number: Option<u64>) -> bool {
        let Some(model) = self.models.get(index.0) else { return false };
        let is_another = |kept: &Reserved| Some(kept.number) != number;
        let kept = self.reserved.filter(is_another);
        !model.refusals.cover(size) && !kept.is_some_and(|kept| kept.keeps(model.groups, self.now))
    }

    /// Those of its models here that may have room for it.
    pub(super) fn open_models<'a, W>(
        &'a self,
        number: u64,
        entry: &'a Entry<W>,
    ) -> impl Iterator<Item = ModelIndex> + 'a {
        let is_open = move |index: &ModelIndex| self.is_open_to(*index, &entry.size, Some(number));
        entry.candidates().at(self.provider).filter(is_open)
    }
}
