//! What happens to a request next; pure.

use std::time::Duration;

use crate::domain::clock::Moment;
use crate::domain::failure::{FailureKind, UpstreamFailure};
use crate::error::GatewayError;
use crate::provider::Route;
use crate::quota::Refusal;
use crate::routing::{Next, NoPlan, Target, after_failure};

/// When an upstream's 429 says nothing of its end, it is asked about again after this time.
const UNSTATED_PAUSE: Duration = Duration::from_secs(30);

/// While a request waits it asks again this often: what is in flight may end sooner than its window.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A wait is at least this long, so that a refusal that is over at once cannot spin.
const WAIT_MIN: Duration = Duration::from_millis(5);

/// The next step of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Ask(Target),
    WaitUntil(Moment),
    Refuse(GatewayError),
}

/// The candidate that was asked has no room.
pub(super) fn note_refusal(route: &mut Route, refusal: &Refusal) {
    match refusal {
        Refusal::NotUntil(instant) => note_room(route, *instant),
        Refusal::TooLarge => route.is_too_large = true,
    }
}

/// The candidate that was asked has failed: the error to end with, if it ends here.
pub(super) fn note_failure(
    route: &mut Route,
    failure: UpstreamFailure,
    attempts: u32,
    max_attempts: u32,
    now: Moment,
) -> Option<GatewayError> {
    let asked = route.asked.take();
    let is_repeated = asked.is_some() && route.failed_at == asked;
    let next = after_failure(failure.kind, attempts, max_attempts, is_repeated);
    route.failed_at = asked;
    match failure.kind {
        FailureKind::RateLimited => note_room(route, now + failure.retry_after.unwrap_or(UNSTATED_PAUSE)),
        FailureKind::TooLarge => route.is_too_large = true,
        _ => {}
    }
    let end = match next {
        Next::NextCandidate => None,
        Next::SameCandidate => {
            if let Some(target) = asked {
                route.plan.again(target);
            }
            None
        }
        Next::Reject => Some(rejected(&failure)),
        Next::GiveUp => Some(gave_up(route, &failure, attempts, now)),
    };
    route.last_failure = Some(failure);
    end
}

/// What to do now that the last candidate has said no, or none has been asked yet.
pub(super) fn next_step(route: &mut Route, now: Moment) -> Step {
    if let Some(target) = route.plan.pop() {
        route.asked = Some(target);
        return Step::Ask(target);
    }
    match (route.room_at, &route.last_failure) {
        (Some(instant), _) if instant <= route.wait_until => {
            Step::WaitUntil(instant.min(now + ASK_AGAIN).max(now + WAIT_MIN))
        }
        (Some(instant), _) => Step::Refuse(no_capacity(instant, now)),
        (None, Some(failure)) if failure.kind != FailureKind::TooLarge => Step::Refuse(all_failed(failure)),
        (None, _) if route.is_too_large => Step::Refuse(too_large()),
        (None, _) => Step::Refuse(GatewayError::Internal),
    }
}

/// The words for a request without a single candidate.
pub(super) fn refusal_of(no_plan: &NoPlan, name: &str, tokens: u64) -> GatewayError {
    match no_plan {
        NoPlan::UnknownModel => GatewayError::UnknownModel { name: name.to_owned() },
        NoPlan::NothingEnabled => GatewayError::unavailable(
            "no provider is enabled: give a provider's key in the environment, or add a provider to the configuration",
        ),
        NoPlan::NoCapability => GatewayError::unavailable(
            "no enabled model can do what this request needs (tools, images or a JSON schema)",
        ),
        NoPlan::TooLong { largest } => GatewayError::TooLong {
            message: format!(
                "this request needs about {tokens} tokens, input and output together; the largest context window is {largest}"
            ),
        },
    }
}

fn note_room(route: &mut Route, instant: Moment) {
    route.room_at = Some(route.room_at.map_or(instant, |earliest| earliest.min(instant)));
}

fn no_capacity(instant: Moment, now: Moment) -> GatewayError {
    GatewayError::NoCapacity { retry_after: instant.saturating_since(now) }
}

fn rejected(failure: &UpstreamFailure) -> GatewayError {
    let message = format!("the provider refused this request: {}", failure.detail);
    GatewayError::BadRequest { field: None, message }
}

fn gave_up(route: &Route, failure: &UpstreamFailure, attempts: u32, now: Moment) -> GatewayError {
    match route.room_at {
        Some(instant) => no_capacity(instant, now),
        None => GatewayError::unavailable(format!(
            "{attempts} attempts failed; the last one: {}",
            failure.kind.explanation()
        )),
    }
}

fn all_failed(failure: &UpstreamFailure) -> GatewayError {
    GatewayError::unavailable(format!(
        "every provider that could answer failed; the last one: {}",
        failure.kind.explanation()
    ))
}

fn too_large() -> GatewayError {
    GatewayError::TooLong {
        message: "this request is larger than the token limit of every provider".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Moment = Moment::from_unix_micros(1_000_000_000);

    fn route() -> Route {
        Route { wait_until: NOW + Duration::from_secs(20), ..Route::default() }
    }

    fn failure(kind: FailureKind) -> UpstreamFailure {
        UpstreamFailure::new(kind, "words of the upstream")
    }

    #[test]
    fn capacity_within_the_wait_is_waited_for() {
        let mut route = route();
        note_refusal(&mut route, &Refusal::NotUntil(NOW + Duration::from_secs(19)));
        note_refusal(&mut route, &Refusal::NotUntil(NOW + Duration::from_secs(3)));
        assert_eq!(next_step(&mut route, NOW), Step::WaitUntil(NOW + ASK_AGAIN));
        note_refusal(&mut route, &Refusal::NotUntil(NOW + Duration::from_millis(300)));
        assert_eq!(next_step(&mut route, NOW), Step::WaitUntil(NOW + Duration::from_millis(300)));
    }

    #[test]
    fn capacity_beyond_the_wait_is_refused_with_its_instant() {
        let mut route = route();
        note_refusal(&mut route, &Refusal::NotUntil(NOW + Duration::from_secs(60)));
        let refused = GatewayError::NoCapacity { retry_after: Duration::from_secs(60) };
        assert_eq!(next_step(&mut route, NOW), Step::Refuse(refused));
    }

    #[test]
    fn what_can_never_fit_is_the_clients_fault() {
        let mut route = route();
        note_refusal(&mut route, &Refusal::TooLarge);
        assert!(matches!(next_step(&mut route, NOW), Step::Refuse(GatewayError::TooLong { .. })));
    }

    #[test]
    fn one_that_never_fits_does_not_hide_one_that_will() {
        let mut route = route();
        note_refusal(&mut route, &Refusal::TooLarge);
        note_refusal(&mut route, &Refusal::NotUntil(NOW + Duration::from_secs(1)));
        assert!(matches!(next_step(&mut route, NOW), Step::WaitUntil(_)));
    }

    #[test]
    fn an_upstream_429_is_missing_capacity() {
        let mut route = route();
        let limited = UpstreamFailure {
            retry_after: Some(Duration::from_secs(2)),
            ..failure(FailureKind::RateLimited)
        };
        assert_eq!(note_failure(&mut route, limited, 1, 6, NOW), None);
        assert_eq!(next_step(&mut route, NOW), Step::WaitUntil(NOW + ASK_AGAIN));
    }

    #[test]
    fn failures_alone_are_unavailability_without_the_upstreams_words() {
        let mut route = route();
        assert_eq!(note_failure(&mut route, failure(FailureKind::Upstream), 1, 6, NOW), None);
        let Step::Refuse(GatewayError::Unavailable { message, .. }) = next_step(&mut route, NOW) else {
            panic!("expected a refusal")
        };
        assert!(!message.contains("words of the upstream"), "{message}");
    }

    #[test]
    fn a_request_that_the_provider_finds_wrong_ends_at_once() {
        let end = note_failure(&mut route(), failure(FailureKind::InvalidRequest), 1, 6, NOW);
        assert!(matches!(end, Some(GatewayError::BadRequest { .. })), "{end:?}");
    }

    #[test]
    fn a_stale_connection_asks_the_same_candidate_once_more() {
        let target = Target { provider: 3, model: crate::quota::ModelIndex(1) };
        let mut route = Route { asked: Some(target), ..route() };
        assert_eq!(note_failure(&mut route, failure(FailureKind::Closed), 1, 6, NOW), None);
        assert_eq!(next_step(&mut route, NOW), Step::Ask(target));
        assert_eq!(note_failure(&mut route, failure(FailureKind::Closed), 2, 6, NOW), None);
        assert!(matches!(next_step(&mut route, NOW), Step::Refuse(GatewayError::Unavailable { .. })));
    }
}
