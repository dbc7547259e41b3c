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

/// How many failures in a row switch a provider off for a while.
const FAILURES_MAX: u32 = 3;

/// The first pause of a provider that fails; it doubles with every further failure.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

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
    /// Counts against the provider as a whole.
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

/// Counts the failures of a provider in a row.
#[derive(Debug, Default)]
pub(super) struct Streak(u32);

impl Streak {
    /// One more failure: how long to leave the provider alone, if at all.
    pub(super) fn fail(&mut self) -> Option<Duration> {
        self.0 = self.0.saturating_add(1);
        let doublings = self.0.checked_sub(FAILURES_MAX)?;
        Some(FIRST_PAUSE.saturating_mul(1 << doublings.min(6)).min(PAUSE_MAX))
    }

    pub(super) fn succeed(&mut self) {
        self.0 = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_pauses_after_three_failures_and_longer_each_time() {
        let mut streak = Streak::default();
        let pauses: Vec<_> = (0..12).map(|_| streak.fail().map(|pause| pause.as_secs())).collect();
        assert_eq!(
            pauses,
            [
                None,
                None,
                Some(1),
                Some(2),
                Some(4),
                Some(8),
                Some(16),
                Some(32),
                Some(60),
                Some(60),
                Some(60),
                Some(60)
            ]
        );
        streak.succeed();
        assert_eq!(streak.fail(), None);
    }

    #[test]
    fn an_absurd_delay_is_capped() {
        let absurd = Duration::from_secs(u64::MAX);
        assert_eq!(cooling(FailureKind::RateLimited, Some(absurd)), Cooling::Limit(Some(RETRY_AFTER_MAX)));
    }

    #[test]
    fn a_wrong_request_costs_nobody_anything() {
        assert_eq!(cooling(FailureKind::InvalidRequest, None), Cooling::None);
    }
}
