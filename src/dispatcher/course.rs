//! What happens to a request next; pure.

use std::time::Duration;

use super::wait_room::{NoSeat, Over};
use crate::domain::chat::ModelSelector;
use crate::domain::clock::Moment;
use crate::domain::failure::{FailureKind, UpstreamFailure};
use crate::error::{DEFAULT_RETRY_AFTER, GatewayError};
use crate::provider::{Declined, Route, Said};
use crate::quota::Refusal;
use crate::routing::{Next, NoPlan, Plan, Target, after_failure};

/// When to come back where others wait who were before and no candidate says when. Chosen: they may be served at once.
const BEHIND_RETRY_AFTER: Duration = Duration::from_secs(1);

/// A book that has attempts in flight says "ask again in a second" (`Book::reserve`), because their end may give room
/// at any time. So an instant within the next second is no reason not to wait for less.
pub(super) const LOOK: Duration = Duration::from_secs(1);

/// While a request waits for its tenant's own limit it asks again this often: what is in flight may end sooner than its
/// window.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Such a wait is at least this long, so that a refusal that is over at once cannot spin.
const WAIT_MIN: Duration = Duration::from_millis(5);

/// The next step of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Ask(Target),
    /// Room is expected in time.
    Wait,
    /// Nothing stands in the way but the tenant's own limits: come back at `until`; they are expected to have room at
    /// `room_at`.
    WaitApart {
        until: Moment,
        room_at: Moment,
    },
    Refuse(GatewayError),
}

/// The candidate that was asked has no room.
pub(super) fn note_refusal(route: &mut Route, refusal: &Refusal) {
    match refusal {
        Refusal::NotUntil(instant) => {
            note_room(route, *instant);
            note_said(route, Said::Full { until: *instant, round: route.round });
        }
        Refusal::TooLarge => {
            route.is_too_large = true;
            // Who has not waited yet need not wait for it.
            if route.seat.is_some() {
                note_said(route, Said::TooLarge);
            }
        }
    }
}

/// The candidate that was asked may have room, but that cannot be written down before then.
pub(super) fn note_ledger_away(route: &mut Route, until: Moment) {
    note_room(route, until);
    route.is_ledger_away = true;
    note_said(route, Said::LedgerAway { until });
}

/// Others wait for the candidate that was to be asked.
pub(super) fn note_behind(route: &mut Route) {
    route.is_behind = true;
    let behind = route.asked.map(|target| Declined { target, said: None });
    route.declined.extend(behind);
}

/// The candidate that was asked is off until then.
pub(super) fn note_off(route: &mut Route, until: Moment) {
    route.off_until = Some(route.off_until.map_or(until, |earliest| earliest.min(until)));
    note_said(route, Said::Off { until, round: route.round });
}

/// These candidates, and no others, are asked next.
pub(super) fn take_offer(route: &mut Route, targets: &[Target], round: u64) {
    forget(route);
    route.ledgers_until = None;
    route.round = round;
    route.is_offered = true;
    route.plan = Plan::default();
    targets.iter().rev().for_each(|target| route.plan.again(*target));
}

/// The wait room does not let the request wait on: the error to end with.
pub(super) fn end_of_wait(route: &mut Route, no_seat: NoSeat, now: Moment) -> GatewayError {
    match no_seat {
        NoSeat::Over(over) => waited_in_vain(over),
        NoSeat::InVain { room_at, off_until } => {
            (route.room_at, route.off_until) = (room_at, off_until);
            refusal(route, now)
        }
    }
}

pub(super) fn waited_in_vain(over: Over) -> GatewayError {
    if over.is_ledger_away {
        return ledger_away(over.retry_after);
    }
    GatewayError::WaitedInVain { retry_after: over.retry_after, queue_position: over.position }
}

/// Forgets what candidates have said: they are about to be asked again.
pub(super) fn forget(route: &mut Route) {
    (route.room_at, route.off_until) = (None, None);
    (route.is_behind, route.is_ledger_away) = (false, false);
    route.declined.clear();
}

fn note_said(route: &mut Route, said: Said) {
    let declined = route.asked.map(|target| Declined { target, said: Some(said) });
    route.declined.extend(declined);
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
    route.failed_at = asked;
    route.is_too_large |= failure.kind == FailureKind::TooLarge;
    let end = match after_failure(failure.kind, attempts, max_attempts, is_repeated) {
        Next::NextCandidate => {
            route.failed.extend(asked);
            None
        }
        Next::SameCandidate => {
            asked.into_iter().for_each(|target| route.plan.again(target));
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
    let is_expected =
        route.is_behind || route.room_at.is_some_and(|room_at| room_at <= route.wait_until.max(now + LOOK));
    // Whether one that has a seat waits on is the wait room's to say.
    if route.seat.is_some() || (is_expected && now < route.wait_until) {
        return Step::Wait;
    }
    Step::Refuse(refusal(route, now))
}

/// The error for a request that does not wait, or not any longer.
pub(super) fn refusal(route: &Route, now: Moment) -> GatewayError {
    match route.room_at {
        Some(room_at) if route.is_ledger_away => ledger_away(room_at.saturating_since(now)),
        Some(room_at) => no_capacity(room_at, now),
        None if route.is_behind => GatewayError::NoCapacity { retry_after: BEHIND_RETRY_AFTER },
        None => nobody(route, now),
    }
}

/// What to do when the tenant's own limits have no room: they are waited for like missing capacity.
pub(super) fn own_limit(route: &Route, refusal: &Refusal, now: Moment) -> Step {
    match refusal {
        Refusal::NotUntil(room_at) if *room_at <= route.wait_until => {
            let until = (*room_at).min(now + ASK_AGAIN).max(now + WAIT_MIN);
            Step::WaitApart { until, room_at: *room_at }
        }
        Refusal::NotUntil(room_at) => {
            Step::Refuse(GatewayError::OwnLimit { retry_after: room_at.saturating_since(now) })
        }
        Refusal::TooLarge => Step::Refuse(GatewayError::TooLong {
            message: "this request is larger than a token limit of this key's tenant".to_owned(),
        }),
    }
}

fn ledger_away(retry_after: Duration) -> GatewayError {
    let message = "what is used of the providers' limits cannot be written down".to_owned();
    GatewayError::Unavailable { message, retry_after: retry_after.max(DEFAULT_RETRY_AFTER) }
}

/// Nobody will have room, for want of capacity at least.
fn nobody(route: &Route, now: Moment) -> GatewayError {
    let failed = route.last_failure.as_ref().filter(|failure| failure.kind != FailureKind::TooLarge);
    match (failed, route.off_until) {
        // Nobody else was there to ask: what is wrong is the request, and the client is told what.
        (Some(failure), _) if is_requests_fault(failure.kind) => rejected(failure),
        (Some(failure), off_until) => unavailable(
            format!("every provider that could answer failed; the last one: {}", failure.kind.explanation()),
            off_until,
            now,
        ),
        (None, Some(_)) => unavailable(
            "every provider that could answer is out of order for now".to_owned(),
            route.off_until,
            now,
        ),
        (None, None) if route.is_too_large => too_large(),
        (None, None) => GatewayError::Internal,
    }
}

fn is_requests_fault(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::ContentPolicy | FailureKind::Unsupported)
}

fn unavailable(message: String, off_until: Option<Moment>, now: Moment) -> GatewayError {
    let retry_after = off_until.map_or(DEFAULT_RETRY_AFTER, |instant| instant.saturating_since(now));
    GatewayError::Unavailable { message, retry_after: retry_after.max(DEFAULT_RETRY_AFTER) }
}

/// What a request calls the model that it wants.
pub(super) fn name_of(selector: &ModelSelector) -> String {
    match selector {
        ModelSelector::Auto(_) => "auto".to_owned(),
        ModelSelector::Number(number) => number.to_string(),
        ModelSelector::Named(name) => format!("`{name}`"),
    }
}

/// The words for a request without a single candidate.
pub(super) fn refusal_of(no_plan: &NoPlan, name: &str, tokens: u64) -> GatewayError {
    match no_plan {
        NoPlan::UnknownModel => GatewayError::UnknownModel { name: name.to_owned() },
        NoPlan::NothingEnabled => GatewayError::unavailable(
            "no provider is enabled: give a provider's key in the environment, or add a provider to the configuration",
        ),
        NoPlan::NothingAllowed => GatewayError::unavailable("no enabled model is open to this key's tenant"),
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

/// Here alone the upstream's own words are passed on: they say what is wrong with the client's own request.
fn rejected(failure: &UpstreamFailure) -> GatewayError {
    let reason = failure.message.as_deref().unwrap_or("it does not say why");
    let message = format!("the provider refused this request: {reason}");
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
        UpstreamFailure::new(kind, "our words").with_message("words of the upstream")
    }

    #[test]
    fn capacity_within_the_wait_is_waited_for() {
        let mut route = route();
        note_refusal(&mut route, &Refusal::NotUntil(NOW + Duration::from_secs(19)));
        note_refusal(&mut route, &Refusal::NotUntil(NOW + Duration::from_secs(3)));
        let room_at = NOW + Duration::from_secs(3);
        assert_eq!((next_step(&mut route, NOW), route.room_at), (Step::Wait, Some(room_at)));
    }

    #[test]
    fn who_comes_behind_others_waits_if_it_may() {
        let target = Target { provider: 0, model: crate::quota::ModelIndex(0) };
        let mut route = Route { asked: Some(target), ..route() };
        note_behind(&mut route);
        assert_eq!(route.declined, [Declined { target, said: None }]);
        assert_eq!(next_step(&mut route, NOW), Step::Wait);
        let refused = GatewayError::NoCapacity { retry_after: BEHIND_RETRY_AFTER };
        route.wait_until = NOW;
        assert_eq!(next_step(&mut route, NOW), Step::Refuse(refused));
    }

    #[test]
    fn what_candidates_said_is_remembered_with_its_round() {
        let target = Target { provider: 0, model: crate::quota::ModelIndex(0) };
        let mut route = Route { asked: Some(target), round: 7, ..route() };
        note_refusal(&mut route, &Refusal::NotUntil(NOW));
        note_off(&mut route, NOW);
        note_refusal(&mut route, &Refusal::TooLarge);
        let said = [Said::Full { until: NOW, round: 7 }, Said::Off { until: NOW, round: 7 }];
        assert_eq!(route.declined.iter().filter_map(|declined| declined.said).collect::<Vec<_>>(), said);
        forget(&mut route);
        assert_eq!((route.declined.len(), route.room_at, route.off_until), (0, None, None));
    }

    #[test]
    fn what_is_in_flight_may_end_within_a_short_wait() {
        let mut route = Route { wait_until: NOW + Duration::from_millis(200), ..Route::default() };
        note_refusal(&mut route, &Refusal::NotUntil(NOW + LOOK));
        assert_eq!(next_step(&mut route, NOW), Step::Wait);
        let over = next_step(&mut route, NOW + Duration::from_millis(200));
        assert!(matches!(over, Step::Refuse(GatewayError::NoCapacity { .. })), "{over:?}");
    }

    #[test]
    fn capacity_beyond_the_wait_is_refused_with_its_instant() {
        let mut route = route();
        note_refusal(&mut route, &Refusal::NotUntil(NOW + Duration::from_secs(60)));
        let refused = GatewayError::NoCapacity { retry_after: Duration::from_secs(60) };
        assert_eq!(next_step(&mut route, NOW), Step::Refuse(refused));
    }

    #[test]
    fn the_tenants_own_limit_is_waited_for_and_then_told_as_such() {
        let room_at = NOW + Duration::from_secs(3);
        let wait = Step::WaitApart { until: NOW + ASK_AGAIN, room_at };
        assert_eq!(own_limit(&route(), &Refusal::NotUntil(room_at), NOW), wait);
        let later = Duration::from_secs(21);
        let refused = Step::Refuse(GatewayError::OwnLimit { retry_after: later });
        assert_eq!(own_limit(&route(), &Refusal::NotUntil(NOW + later), NOW), refused);
        let never = own_limit(&route(), &Refusal::TooLarge, NOW);
        assert!(matches!(never, Step::Refuse(GatewayError::TooLong { .. })), "{never:?}");
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
        assert_eq!(next_step(&mut route, NOW), Step::Wait);
    }

    #[test]
    fn an_upstream_429_asks_the_candidates_next_account_and_then_waits_as_it_says() {
        let target = Target { provider: 0, model: crate::quota::ModelIndex(0) };
        let mut route = Route { asked: Some(target), ..route() };
        assert_eq!(note_failure(&mut route, failure(FailureKind::RateLimited), 1, 6, NOW), None);
        assert_eq!(next_step(&mut route, NOW), Step::Ask(target));
        let room_at = NOW + Duration::from_secs(30);
        note_refusal(&mut route, &Refusal::NotUntil(room_at));
        let refused = GatewayError::NoCapacity { retry_after: Duration::from_secs(30) };
        assert_eq!(next_step(&mut route, NOW), Step::Refuse(refused));
    }

    #[test]
    fn what_is_off_is_no_missing_capacity() {
        let mut route = route();
        note_off(&mut route, NOW + Duration::from_secs(600));
        note_off(&mut route, NOW + Duration::from_secs(7));
        let Step::Refuse(GatewayError::Unavailable { retry_after, .. }) = next_step(&mut route, NOW) else {
            panic!("expected a refusal")
        };
        assert_eq!(retry_after, Duration::from_secs(7));
    }

    #[test]
    fn who_has_failed_is_remembered() {
        let target = Target { provider: 0, model: crate::quota::ModelIndex(0) };
        let mut route = Route { asked: Some(target), ..route() };
        assert_eq!(note_failure(&mut route, failure(FailureKind::Upstream), 1, 6, NOW), None);
        assert_eq!(route.failed, [target]);
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
