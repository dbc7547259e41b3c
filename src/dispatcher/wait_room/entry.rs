//! One waiting request.

use super::size::Size;
use crate::domain::clock::Moment;
use crate::domain::ids::TenantId;
use crate::quota::ModelIndex;
use crate::routing::Target;

/// A waiting request; `W` wakes it.
#[derive(Debug)]
pub(super) struct Entry<W> {
    pub(super) tenant: TenantId,
    pub(super) size: Size,
    pub(super) since: Moment,
    pub(super) deadline: Moment,
    pub(super) state: State<W>,
    /// Whether the last that it was told is that a ledger is away.
    pub(super) is_ledger_away: bool,
    /// The position of the candidate that was expected to have room in time when that was asked last.
    pub(super) hope: usize,
    candidates: Candidates,
    /// Its class at each provider, in the order of [`Candidates::providers`].
    classes: Box<[usize]>,
}

#[derive(Debug)]
pub(super) enum State<W> {
    Waiting(W),
    /// It asks that provider now.
    Offered {
        provider: usize,
    },
}

impl<W> Entry<W> {
    pub(super) fn new(
        (tenant, size): (TenantId, Size),
        (since, deadline): (Moment, Moment),
        candidates: Candidates,
        waker: W,
    ) -> Self {
        Self {
            tenant,
            size,
            since,
            deadline,
            state: State::Waiting(waker),
            is_ledger_away: false,
            hope: 0,
            candidates,
            classes: Box::default(),
        }
    }

    pub(super) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(_))
    }

    pub(super) fn keep_candidates(&mut self, keep: impl Fn(Target) -> bool) {
        self.candidates = Candidates::new(self.candidates.iter().filter(|target| keep(*target)));
        self.hope = 0;
    }

    pub(super) fn set_classes(&mut self, classes: Vec<usize>) {
        self.classes = classes.into();
    }

    /// Every provider where it stands in a line, with its class there.
    pub(super) fn places(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.candidates.providers().zip(self.classes.iter().copied())
    }

    pub(super) fn candidates(&self) -> &Candidates {
        &self.candidates
    }
}

/// Where a request may be served, provider by provider, best first within each.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates(Box<[Candidate]>);

/// A [`Target`] in four bytes: a request may wait for a hundred of them. Positions beyond 65,535 do not occur; what
/// stands at the last one would never be offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    provider: u16,
    model: u16,
}

impl Candidates {
    pub(super) fn new(targets: impl Iterator<Item = Target>) -> Self {
        let narrow = |position: usize| u16::try_from(position).unwrap_or(u16::MAX);
        let mut candidates: Vec<Candidate> = targets
            .map(|target| Candidate { provider: narrow(target.provider), model: narrow(target.model.0) })
            .collect();
        // Stable: the order within a provider stays.
        candidates.sort_by_key(|candidate| candidate.provider);
        candidates.dedup();
        Self(candidates.into())
    }

    /// Every provider once.
    pub(super) fn providers(&self) -> impl Iterator<Item = usize> + '_ {
        self.0
            .chunk_by(|one, next| one.provider == next.provider)
            .filter_map(|same| same.first())
            .map(|candidate| usize::from(candidate.provider))
    }

    /// The models of that provider.
    pub(super) fn at(&self, provider: usize) -> impl Iterator<Item = ModelIndex> + '_ {
        let start = self.0.partition_point(|candidate| usize::from(candidate.provider) < provider);
        let rest = self.0.get(start..).unwrap_or_default().iter();
        rest.take_while(move |candidate| usize::from(candidate.provider) == provider)
            .map(|candidate| ModelIndex(usize::from(candidate.model)))
    }

    pub(super) fn nth(&self, position: usize) -> Option<Target> {
        self.0.get(position).copied().map(Target::from)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Target> + '_ {
        self.0.iter().copied().map(Target::from)
    }
}

impl From<Candidate> for Target {
    fn from(candidate: Candidate) -> Self {
        Self { provider: usize::from(candidate.provider), model: ModelIndex(usize::from(candidate.model)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_found_by_their_provider_in_their_order() {
        let target = |provider, model| Target { provider, model: ModelIndex(model) };
        let targets = [target(2, 7), target(0, 1), target(2, 3), target(2, 3)];
        let candidates = Candidates::new(targets.into_iter());
        assert_eq!(candidates.providers().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(candidates.at(2).collect::<Vec<_>>(), [ModelIndex(7), ModelIndex(3)]);
        assert_eq!(candidates.at(1).count(), 0);
        assert_eq!(candidates.iter().count(), 3);
    }
}
