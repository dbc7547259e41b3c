//! Why a candidate did not answer.

use std::fmt;

use serde::Serialize;

use super::catalog::Target;
use crate::domain::clock::Moment;
use crate::domain::failure::FailureKind;

/// One reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// The tenant may not use it: its models or its data policy.
    NotAllowed,
    /// It cannot do what the request needs.
    NoCapability,
    /// The request is longer than its context window, in tokens.
    WindowTooSmall { window: u64 },
    /// The request is larger than one of its limits.
    TooLarge,
    /// Its limits have no room until then, or it cools down until then.
    NotUntil(Moment),
    /// Others wait for it who came before.
    Behind,
    /// Until then nobody knows: the ledger of its limits is away.
    LedgerAway(Moment),
    /// It, its account or its whole provider is off until then, because of failures.
    Off(Moment),
    /// It was asked and failed.
    Failed(FailureKind),
}

impl WhyNot {
    /// A label that never changes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::NoCapability => "no_capability",
            Self::WindowTooSmall { .. } => "window_too_small",
            Self::TooLarge => "too_large",
            Self::NotUntil(_) => "no_room",
            Self::Behind => "behind_others",
            Self::LedgerAway(_) => "ledger_away",
            Self::Off(_) => "off",
            Self::Failed(kind) => kind.as_str(),
        }
    }

    /// Until when, where that is known.
    pub fn until(self) -> Option<Moment> {
        match self {
            Self::NotUntil(instant) | Self::LedgerAway(instant) | Self::Off(instant) => Some(instant),
            Self::NotAllowed
            | Self::NoCapability
            | Self::WindowTooSmall { .. }
            | Self::TooLarge
            | Self::Behind
            | Self::Failed(_) => None,
        }
    }

    /// Whether a tenant may be told: a model that it may not use is as unknown to it.
    pub fn is_for_tenants(self) -> bool {
        self != Self::NotAllowed
    }
}

/// In words that a tenant may read: they name no account.
impl fmt::Display for WhyNot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAllowed => f.write_str("not allowed"),
            Self::NoCapability => {
                f.write_str("cannot do what the request needs (tools, images or a JSON schema)")
            }
            Self::WindowTooSmall { window } => write!(f, "its context window is {window} tokens"),
            Self::TooLarge => f.write_str("the request is larger than its token limit"),
            Self::NotUntil(Moment::NEVER) => f.write_str("no capacity"),
            Self::NotUntil(instant) => write!(f, "no capacity until {instant:?}"),
            Self::Behind => f.write_str("others wait for it who came before"),
            Self::LedgerAway(_) => f.write_str("what is used of its limits cannot be written down for now"),
            Self::Off(Moment::NEVER) => f.write_str("out of order"),
            Self::Off(instant) => write!(f, "out of order until {instant:?}"),
            Self::Failed(kind) => f.write_str(kind.explanation()),
        }
    }
}

/// Reasons are kept for so many candidates. Chosen: more than any catalogue that is known has, and 8 KiB.
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
    fn an_instant_is_told_and_no_end_is_not() {
        let instant = Moment::from_unix_micros(1_790_000_000_000_000);
        assert_eq!(WhyNot::NotUntil(instant).to_string(), "no capacity until 2026-09-21T14:13:20Z");
        assert_eq!(WhyNot::NotUntil(Moment::NEVER).to_string(), "no capacity");
    }
}
