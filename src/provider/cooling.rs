//! What a failure does to the account, the model and the provider; pure.

use std::time::Duration;

use crate::domain::failure::FailureKind;

/// An account whose key is refused, or whose credit is spent, is asked again this seldom: only the operator
/// can mend it. Chosen: often enough to notice the mending, seldom enough to be no nuisance.
const ACCOUNT_OFF: Duration = Duration::from_secs(600);

/// A model that is gone upstream is asked again this seldom.
const MODEL_OFF: Duration = Duration::from_secs(3_600);

/// A stated delay beyond this is not believed: absurd values exist in the field.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

/// What is left alone, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cooling {
    /// Nothing: the failure says nothing about the future.
    None,
    /// There is no capacity on this account. `None`: for as long as the escalation says.
    Limit(Option<Duration>),
    /// The model on this account is off.
    Model(Duration),
    /// The account is off, with all its models.
    Account(Duration),
    /// Counts against the provider as a whole: the breaker decides.
    Provider,
}

/// The one table of what a failure costs whom.
pub(super) fn cooling(kind: FailureKind, retry_after: Option<Duration>) -> Cooling {
    match kind {
        FailureKind::RateLimited => Cooling::Limit(retry_after.map(|delay| delay.min(RETRY_AFTER_MAX))),
        FailureKind::Unauthorized | FailureKind::PaymentRequired => Cooling::Account(ACCOUNT_OFF),
        FailureKind::ModelGone => Cooling::Model(MODEL_OFF),
        FailureKind::Connect
        | FailureKind::Closed
        | FailureKind::Upstream
        | FailureKind::Protocol
        | FailureKind::Timeout(_) => Cooling::Provider,
        FailureKind::TooLarge | FailureKind::InvalidRequest => Cooling::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::Phase;

    #[test]
    fn an_absurd_delay_is_capped() {
        let absurd = Duration::from_secs(u64::MAX);
        assert_eq!(cooling(FailureKind::RateLimited, Some(absurd)), Cooling::Limit(Some(RETRY_AFTER_MAX)));
    }

    #[test]
    fn every_failure_costs_whom_it_should() {
        let rows = [
            (FailureKind::Connect, Cooling::Provider),
            (FailureKind::Closed, Cooling::Provider),
            (FailureKind::Timeout(Phase::FirstToken), Cooling::Provider),
            (FailureKind::Timeout(Phase::Stall), Cooling::Provider),
            (FailureKind::Timeout(Phase::Total), Cooling::Provider),
            (FailureKind::Upstream, Cooling::Provider),
            (FailureKind::Protocol, Cooling::Provider),
            (FailureKind::RateLimited, Cooling::Limit(Some(Duration::from_secs(7)))),
            (FailureKind::Unauthorized, Cooling::Account(ACCOUNT_OFF)),
            (FailureKind::PaymentRequired, Cooling::Account(ACCOUNT_OFF)),
            (FailureKind::ModelGone, Cooling::Model(MODEL_OFF)),
            (FailureKind::TooLarge, Cooling::None),
            (FailureKind::InvalidRequest, Cooling::None),
        ];
        for (kind, cost) in rows {
            assert_eq!(cooling(kind, Some(Duration::from_secs(7))), cost, "{kind:?}");
        }
        assert_eq!(cooling(FailureKind::RateLimited, None), Cooling::Limit(None));
    }
}
