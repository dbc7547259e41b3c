//! Why a candidate did not answer.

use std::fmt;

use serde::Serialize;

use super::catalog::Target;
use crate::domain::clock::Moment;
use crate::domain::cooldown::CooldownReason;
use crate::domain::failure::FailureKind;

/// One reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// It is not among the tenant's models.
    NotAllowed,
    /// Its provider trains on what it is sent, and the tenant wants none that does.
    DataPolicy,
    /// It cannot do what the request needs.
    NoCapability,
    /// The request is longer than its context window, in tokens.
    WindowTooSmall { window: u64 },
    /// The request is larger than one of its limits.
    TooLarge,
    /// Its limits have no room until then.
    NotUntil(Moment),
    /// It is left alone until then because of what its provider has said: that a limit is used up, or that it is busy.
    Cooling { until: Moment, failure: CooldownReason },
    /// Others wait for it who came before.
    Behind,
    /// Until then nobody knows: the ledger of its limits is away.
    LedgerAway(Moment),
    /// Its provider does not accept any of the accounts; the first is tried again then.
    AccountOff(Moment),
    /// The accounts are out of credit; the first is tried again then.
    CreditOut(Moment),
    /// Its provider does not have it, or not for these accounts; it is looked for again then.
    ModelOff(Moment),
    /// Its whole provider is off until then, because of failures.
    Off(Moment),
    /// It was asked and failed.
    Failed(FailureKind),
}

impl WhyNot {
    /// A label that never changes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::DataPolicy => "data_policy",
            Self::NoCapability => "no_capability",
            Self::WindowTooSmall { .. } => "window_too_small",
            Self::TooLarge => "too_large",
            Self::NotUntil(_) => "no_room",
            Self::Cooling { .. } => "cooling",
            Self::Behind => "behind_others",
            Self::LedgerAway(_) => "ledger_away",
            Self::AccountOff(_) => "account_off",
            Self::CreditOut(_) => "credit_out",
            Self::ModelOff(_) => "model_off",
            Self::Off(_) => "off",
            Self::Failed(kind) => kind.as_str(),
        }
    }

    /// Until when, where that is known.
    pub fn until(self) -> Option<Moment> {
        match self {
            Self::NotUntil(until)
            | Self::Cooling { until, .. }
            | Self::LedgerAway(until)
            | Self::AccountOff(until)
            | Self::CreditOut(until)
            | Self::ModelOff(until)
            | Self::Off(until) => Some(until),
            Self::NotAllowed
            | Self::DataPolicy
            | Self::NoCapability
            | Self::WindowTooSmall { .. }
            | Self::TooLarge
            | Self::Behind
            | Self::Failed(_) => None,
        }
    }

    /// What its provider has said, where that is why it is left alone.
    pub fn failure(self) -> Option<CooldownReason> {
        match self {
            Self::Cooling { failure, .. } => Some(failure),
            Self::AccountOff(_) => Some(CooldownReason::Unauthorized),
            Self::CreditOut(_) => Some(CooldownReason::PaymentRequired),
            Self::ModelOff(_) => Some(CooldownReason::ModelGone),
            _ => None,
        }
    }

    /// Of one that is left alone until then because of `failure`.
    pub fn left_alone(failure: CooldownReason, until: Moment) -> Self {
        match failure {
            CooldownReason::Unauthorized => Self::AccountOff(until),
            CooldownReason::PaymentRequired => Self::CreditOut(until),
            CooldownReason::ModelGone => Self::ModelOff(until),
            _ => Self::Cooling { until, failure },
        }
    }

    /// The same, now that it is known which of its provider's accounts are left alone and why (`None`: not at all). A
    /// candidate without room is left alone when all accounts are; the first to come back says why. Where one is not,
    /// its limits are what is full, and where the whole provider is off that stands.
    pub fn given(self, accounts: &[Option<(CooldownReason, Moment)>]) -> Self {
        let (Self::NotUntil(asked_again_at) | Self::Off(asked_again_at)) = self else { return self };
        let Some(all) = accounts.iter().copied().collect::<Option<Vec<_>>>() else { return self };
        match all.into_iter().min_by_key(|(_, until)| *until) {
            // Something else keeps it away for longer.
            Some((_, until)) if asked_again_at > until => self,
            Some((failure, until)) => Self::left_alone(failure, until),
            None => self,
        }
    }

    /// Whether a tenant may be told: a model that it may not use is as unknown to it.
    pub fn is_for_tenants(self) -> bool {
        !matches!(self, Self::NotAllowed | Self::DataPolicy)
    }
}

/// In words that a tenant may read: they name no account, nor what is wrong with one.
impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed | Self::DataPolicy => f.write_str("not allowed"),
            Self::NoCapability => {
                f.write_str("cannot do what the request needs (tools, images or a JSON schema)")
            }
            Self::WindowTooSmall { window } => write!(f, "its context window is {window} tokens"),
            Self::TooLarge => f.write_str("the request is larger than its token limit"),
            Self::NotUntil(Moment::NEVER) => f.write_str("no capacity"),
            Self::NotUntil(instant) => write!(f, "no capacity until {instant:?}"),
            Self::Cooling { until: Moment::NEVER, failure } => f.write_str(failure.explanation()),
            Self::Cooling { until, failure } => {
                write!(f, "left alone until {until:?}: {}", failure.explanation())
            }
            Self::Behind => f.write_str("others wait for it who came before"),
            Self::LedgerAway(_) => f.write_str("what is used of its limits cannot be written down for now"),
            Self::AccountOff(until) | Self::CreditOut(until) | Self::ModelOff(until) | Self::Off(until) => {
                match *until {
                    Moment::NEVER => f.write_str("out of order"),
                    until => write!(f, "out of order until {until:?}"),
                }
            }
            Self::Failed(kind) => f.write_str(kind.explanation()),
        }
    }
}

/// Reasons are kept for so many candidates. Chosen: more than any catalogue that is known has, and 10 KiB.
const REASONS_MAX: usize = 256;

/// What was learned of the candidates of one request, in the order in which they were asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhyNots(Vec<(Target, WhyNot)>);

impl WhyNots {
    /// Notes why `target` did not answer; the last reason stands.
    pub fn note(&mut self, target: Target, why: WhyNot) {
        if let Some(known) = self.0.iter_mut().rev().find(|(known, _)| *known == target) {
            known.1 = why;
        } else if self.0.len() < REASONS_MAX {
            self.0.push((target, why));
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (Target, WhyNot)> + '_ {
        self.0.iter().copied()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One candidate's reason, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WhyNotSnapshot {
    pub provider: String,
    pub model: String,
    pub reason: &'static str,
    /// Unix microseconds.
    pub until: Option<Moment>,
    /// What the provider said, where that is why.
    pub failure: Option<&'static str>,
    /// The accounts that are left alone for it, each with its own reason, whatever the candidate's is.
    pub accounts: Vec<AccountWhyNot>,
}

/// One account that is left alone, for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountWhyNot {
    /// Its display name.
    pub account: String,
    pub reason: &'static str,
    pub failure: &'static str,
    /// Unix microseconds.
    pub until: Moment,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::ModelIndex;

    #[test]
    fn the_last_reason_of_a_candidate_stands_and_they_are_bounded() {
        let mut reasons = WhyNots::default();
        let target = |model| Target { provider: 0, model: ModelIndex(model) };
        reasons.note(target(1), WhyNot::NotUntil(Moment::NEVER));
        reasons.note(target(2), WhyNot::TooLarge);
        reasons.note(target(1), WhyNot::Failed(FailureKind::Upstream));
        let expected = [(target(1), WhyNot::Failed(FailureKind::Upstream)), (target(2), WhyNot::TooLarge)];
        assert_eq!(reasons.iter().collect::<Vec<_>>(), expected);
        (0..1_000).for_each(|model| reasons.note(target(model), WhyNot::TooLarge));
        assert_eq!(reasons.iter().count(), REASONS_MAX);
    }

    #[test]
    fn what_keeps_all_accounts_away_is_the_reason_and_the_first_to_come_back_says_which() {
        let [now, soon, late] = [0, 10, 20].map(Moment::from_unix_micros);
        let limited = Some((CooldownReason::RateLimited, late));
        let refused = Some((CooldownReason::Unauthorized, soon));
        let cooling = WhyNot::Cooling { until: late, failure: CooldownReason::RateLimited };
        let full = WhyNot::NotUntil(now);
        assert_eq!(full.given(&[limited]), cooling);
        assert_eq!(full.given(&[limited, refused]), WhyNot::AccountOff(soon));
        assert_eq!(full.given(&[limited, None]), full, "the other account is full");
        assert_eq!(full.given(&[]), full);
        assert_eq!(WhyNot::NotUntil(late).given(&[refused]), WhyNot::NotUntil(late), "full for longer");
        let kinds = [CooldownReason::PaymentRequired, CooldownReason::ModelGone, CooldownReason::Overloaded];
        let labels = kinds.map(|kind| WhyNot::Off(now).given(&[Some((kind, soon))]).as_str());
        assert_eq!(labels, ["credit_out", "model_off", "cooling"]);
        assert_eq!(WhyNot::Off(late).given(&[refused]), WhyNot::Off(late), "the whole provider, for longer");
        assert_eq!(WhyNot::TooLarge.given(&[limited]), WhyNot::TooLarge);
    }

    #[test]
    fn tenants_are_not_told_what_is_wrong_with_an_account() {
        let until = Moment::from_unix_micros(1_790_000_000_000_000);
        let told = [WhyNot::AccountOff(until), WhyNot::CreditOut(until), WhyNot::ModelOff(until)];
        for why in told {
            assert_eq!(why.to_string(), "out of order until 2026-09-21T14:13:20Z");
        }
        let cooling = WhyNot::Cooling { until, failure: CooldownReason::RateLimited };
        assert_eq!(
            cooling.to_string(),
            "left alone until 2026-09-21T14:13:20Z: the provider is at its limit"
        );
        assert!(!WhyNot::DataPolicy.is_for_tenants() && !WhyNot::NotAllowed.is_for_tenants());
    }

    #[test]
    fn an_instant_is_told_and_no_end_is_not() {
        let instant = Moment::from_unix_micros(1_790_000_000_000_000);
        assert_eq!(WhyNot::NotUntil(instant).to_string(), "no capacity until 2026-09-21T14:13:20Z");
        assert_eq!(WhyNot::NotUntil(Moment::NEVER).to_string(), "no capacity");
    }
}
