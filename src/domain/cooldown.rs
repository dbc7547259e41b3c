//! Why an account, or a part of it, is left alone.

use super::failure::FailureKind;

/// The failures that leave somebody alone for a while; a closed set, which replicas and labels of metrics share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CooldownReason {
    /// A limit is used up.
    RateLimited,
    /// The model is busy.
    Overloaded,
    /// The key is refused.
    Unauthorized,
    /// The credit is spent.
    PaymentRequired,
    /// The model is not there.
    ModelGone,
}

impl CooldownReason {
    pub const ALL: [Self; 5] =
        [Self::RateLimited, Self::Overloaded, Self::Unauthorized, Self::PaymentRequired, Self::ModelGone];

    /// The reason that a failure is; `None` where nobody is left alone because of it.
    pub fn of(kind: FailureKind) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.kind() == kind)
    }

    /// The reason of that label. One that only another release knows counts as a used-up limit, which claims least.
    pub fn named(label: &str) -> Self {
        Self::ALL.into_iter().find(|reason| reason.as_str() == label).unwrap_or(Self::RateLimited)
    }

    /// A label that never changes: the failure's.
    pub fn as_str(self) -> &'static str {
        self.kind().as_str()
    }

    /// In words for those who ask.
    pub fn explanation(self) -> &'static str {
        self.kind().explanation()
    }

    /// Whether it does not work at all, rather than having no room: who is refused because of it is told 503, not 429.
    pub fn is_off(self) -> bool {
        match self {
            Self::RateLimited | Self::Overloaded => false,
            Self::Unauthorized | Self::PaymentRequired | Self::ModelGone => true,
        }
    }

    /// Whether another key of the account may do where this one does not.
    pub fn is_of_key(self) -> bool {
        match self {
            Self::Unauthorized | Self::PaymentRequired => true,
            Self::RateLimited | Self::Overloaded | Self::ModelGone => false,
        }
    }

    fn kind(self) -> FailureKind {
        match self {
            Self::RateLimited => FailureKind::RateLimited,
            Self::Overloaded => FailureKind::Overloaded,
            Self::Unauthorized => FailureKind::Unauthorized,
            Self::PaymentRequired => FailureKind::PaymentRequired,
            Self::ModelGone => FailureKind::ModelGone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::consequence::Costs;

    #[test]
    fn a_label_is_read_as_it_was_written() {
        for reason in CooldownReason::ALL {
            assert_eq!(CooldownReason::named(reason.as_str()), reason);
            assert_eq!(CooldownReason::of(reason.kind()), Some(reason));
        }
        assert_eq!(CooldownReason::named("of a later release"), CooldownReason::RateLimited);
        assert_eq!(CooldownReason::of(FailureKind::Upstream), None);
    }

    #[test]
    fn every_reason_costs_a_part_of_an_account() {
        for reason in CooldownReason::ALL {
            let costs = reason.kind().consequence().costs;
            assert!(!matches!(costs, Costs::Nobody | Costs::Provider), "{reason:?}");
            assert_eq!(reason.is_off(), matches!(costs, Costs::Model | Costs::Account), "{reason:?}");
        }
    }
}
