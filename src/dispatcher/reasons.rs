//! Why a candidate did not answer, from what it said.

use super::wait_room::Cause;
use crate::domain::clock::Moment;
use crate::provider::Verdict;
use crate::quota::Refusal;
use crate::routing::WhyNot;

/// Of a candidate that was asked.
pub(super) fn reason_of(verdict: &Verdict) -> WhyNot {
    match verdict {
        Verdict::Refused(Refusal::NotUntil(instant)) => WhyNot::NotUntil(*instant),
        Verdict::Refused(Refusal::TooLarge) => WhyNot::TooLarge,
        Verdict::LedgerAway(until) => WhyNot::LedgerAway(*until),
        Verdict::Off(until) => WhyNot::Off(*until),
        Verdict::Failed(failure) => WhyNot::Failed(failure.kind),
    }
}

/// Of one that was not asked, because it would have refused.
pub(super) fn reason_of_shut(cause: Cause, until: Moment) -> WhyNot {
    match cause {
        Cause::Full => WhyNot::NotUntil(until),
        Cause::Off => WhyNot::Off(until),
        Cause::LedgerAway => WhyNot::LedgerAway(until),
    }
}
