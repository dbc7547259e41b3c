//! What follows a failed attempt, before anything went downstream.

use crate::domain::consequence::Follow;
use crate::domain::failure::FailureKind;

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask the same candidate once more.
    SameCandidate,
    /// Ask the next candidate.
    NextCandidate,
    /// The request itself is at fault: tell the client.
    Reject,
    /// The attempts are used up.
    GiveUp,
}

/// Decides what follows the failure `kind` after `attempts` attempts (this one included) of at most
/// `max_attempts`; `repeated` says whether the same candidate has been asked twice already.
pub fn after_failure(kind: FailureKind, attempts: u32, max_attempts: u32, repeated: bool) -> Next {
    let follow = kind.consequence().attempt;
    match follow {
        Follow::Reject => Next::Reject,
        _ if attempts >= max_attempts => Next::GiveUp,
        Follow::OnceMore if !repeated => Next::SameCandidate,
        // The account at fault is left alone by now: the candidate's next one is asked, or it says when.
        Follow::NextAccount => Next::SameCandidate,
        Follow::OnceMore | Follow::NextCandidate => Next::NextCandidate,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::failure::Phase;

    #[test]
    fn a_wrong_request_is_never_tried_elsewhere() {
        assert_eq!(after_failure(FailureKind::InvalidRequest, 1, 6, false), Next::Reject);
        assert_eq!(after_failure(FailureKind::InvalidRequest, 6, 6, true), Next::Reject);
    }

    #[test]
    fn a_stale_connection_is_tried_again_once() {
        assert_eq!(after_failure(FailureKind::Closed, 1, 6, false), Next::SameCandidate);
        assert_eq!(after_failure(FailureKind::Closed, 2, 6, true), Next::NextCandidate);
    }

    #[test]
    fn an_account_at_fault_leads_to_the_next_account() {
        for kind in [FailureKind::RateLimited, FailureKind::Unauthorized, FailureKind::PaymentRequired] {
            assert_eq!(after_failure(kind, 2, 6, true), Next::SameCandidate);
            assert_eq!(after_failure(kind, 6, 6, true), Next::GiveUp);
        }
    }

    #[test]
    fn attempts_are_bounded() {
        for kind in [FailureKind::Connect, FailureKind::Closed, FailureKind::Timeout(Phase::FirstToken)] {
            assert_eq!(after_failure(kind, 6, 6, false), Next::GiveUp);
        }
    }
}
