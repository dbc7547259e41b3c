//! What a failure does to the attempt, the account, the model and the provider: the one table.

use super::failure::FailureKind;

/// The two consequences of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consequence {
    pub attempt: Follow,
    pub costs: Costs,
}

/// What follows an attempt that failed before anything went downstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// The same candidate once more: it was no fault of the provider's. If it happens again, the next one.
    OnceMore,
    /// The same candidate, on whichever account may be asked; if none, it says when.
    NextAccount,
    /// The next candidate.
    NextCandidate,
    /// The request itself is at fault: the client is told.
    Reject,
}

/// Who is left alone because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Costs {
    /// Nobody: it says nothing about the next request.
    Nobody,
    /// The limit that was refused, on this account: until the upstream's instant, or as it escalates.
    Limit,
    /// The model, on every account, for a moment: it is busy for everybody, which is missing capacity.
    Moment,
    /// The model on this account: it is not there.
    Model,
    /// The account with all its models: only the operator can mend it.
    Account,
    /// The provider as a whole, if it goes on: the breaker counts.
    Provider,
}

impl FailureKind {
    /// The table; `docs/PROVIDERS.md` shows it.
    pub fn consequence(self) -> Consequence {
        let (attempt, costs) = match self {
            // A pooled connection may have gone stale in the instant of its use.
            Self::Closed => (Follow::OnceMore, Costs::Provider),
            Self::RateLimited => (Follow::NextAccount, Costs::Limit),
            Self::Overloaded => (Follow::NextAccount, Costs::Moment),
            Self::Unauthorized | Self::PaymentRequired => (Follow::NextAccount, Costs::Account),
            Self::ModelGone => (Follow::NextCandidate, Costs::Model),
            // One client's request, not the next one's.
            Self::TooLarge | Self::Unsupported | Self::ContentPolicy | Self::NoAnswer => {
                (Follow::NextCandidate, Costs::Nobody)
            }
            Self::InvalidRequest => (Follow::Reject, Costs::Nobody),
            Self::Connect | Self::Timeout(_) | Self::Misdirected | Self::Upstream | Self::Protocol => {
                (Follow::NextCandidate, Costs::Provider)
            }
        };
        Consequence { attempt, costs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::Phase;

    #[test]
    fn every_failure_has_its_row() {
        let rows = [
            (FailureKind::Connect, Follow::NextCandidate, Costs::Provider),
            (FailureKind::Closed, Follow::OnceMore, Costs::Provider),
            (FailureKind::Timeout(Phase::FirstToken), Follow::NextCandidate, Costs::Provider),
            (FailureKind::Timeout(Phase::Stall), Follow::NextCandidate, Costs::Provider),
            (FailureKind::Timeout(Phase::Total), Follow::NextCandidate, Costs::Provider),
            (FailureKind::RateLimited, Follow::NextAccount, Costs::Limit),
            (FailureKind::Overloaded, Follow::NextAccount, Costs::Moment),
            (FailureKind::Unauthorized, Follow::NextAccount, Costs::Account),
            (FailureKind::PaymentRequired, Follow::NextAccount, Costs::Account),
            (FailureKind::ModelGone, Follow::NextCandidate, Costs::Model),
            (FailureKind::TooLarge, Follow::NextCandidate, Costs::Nobody),
            (FailureKind::Unsupported, Follow::NextCandidate, Costs::Nobody),
            (FailureKind::ContentPolicy, Follow::NextCandidate, Costs::Nobody),
            (FailureKind::NoAnswer, Follow::NextCandidate, Costs::Nobody),
            (FailureKind::InvalidRequest, Follow::Reject, Costs::Nobody),
            (FailureKind::Misdirected, Follow::NextCandidate, Costs::Provider),
            (FailureKind::Upstream, Follow::NextCandidate, Costs::Provider),
            (FailureKind::Protocol, Follow::NextCandidate, Costs::Provider),
        ];
        for (kind, attempt, costs) in rows {
            assert_eq!(kind.consequence(), Consequence { attempt, costs }, "{kind:?}");
        }
    }
}
