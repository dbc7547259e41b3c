//! The rules of the queue, one by one.

use std::time::Duration;

use super::fixture::{START, State, World, size, target};
use super::queue::Door;
use super::refusals::{Cause, Shut};
use crate::domain::ids::TenantId;
use crate::provider::Said;

const SECOND: Duration = Duration::from_secs(1);

/// A world without room, so that all who come wait.
fn full(providers: usize) -> World {
    World::new(&vec![0; providers], 10_000)
}

#[test]
fn room_is_offered_first_come_first_served() {
    let mut world = full(1);
    let ids: Vec<u64> = (0..5).map(|_| world.arrive(1, 1, 1, &[0])).collect();
    world.free(0, 3);
    assert_eq!(world.offered(), [ids[0]], "one at a time");
    world.answer_all();
    assert_eq!(world.granted, ids[..3]);
    world.free(0, 2);
    world.answer_all();
    assert_eq!(world.granted, ids);
}

#[test]
fn any_candidate_that_gets_room_offers_it() {
    let mut world = full(3);
    let id = world.arrive(1, 1, 1, &[0, 2]);
    world.free(1, 1);
    assert!(world.is_waiting(id));
    world.free(2, 1);
    assert_eq!(world.requests[&id].state, State::Offered(2, 1));
    world.answer(id);
    assert_eq!(world.granted, [id]);
}

#[test]
fn who_is_refused_keeps_the_place() {
    let mut world = full(1);
    let ids: Vec<u64> = (0..3).map(|_| world.arrive(1, 1, 5, &[0])).collect();
    world.free(0, 4);
    world.answer_all();
    assert!(world.granted.is_empty());
    world.free(0, 6);
    world.answer_all();
    assert_eq!(world.granted, ids[..2]);
}

#[test]
fn what_was_refused_is_offered_to_nobody_as_large() {
    let mut world = full(1);
    world.arrive(1, 1, 10, &[0]);
    (0..1_000).for_each(|_| {
        world.arrive(1, 1, 10, &[0]);
    });
    let small = world.arrive(1, 1, 3, &[0]);
    let before = world.queue.snapshot(world.now).offers_made;
    world.free(0, 3);
    world.answer_all();
    assert_eq!(world.granted, [small]);
    assert_eq!(world.queue.snapshot(world.now).offers_made - before, 2);
}

#[test]
fn the_instant_of_a_release_is_an_event() {
    let mut world = full(1);
    let id = world.arrive(1, 1, 1, &[0]);
    assert_eq!(world.queue.next_instant(), START + SECOND);
    world.tokens[0] = 1;
    world.pass(SECOND - Duration::from_micros(1));
    assert!(world.is_waiting(id));
    world.pass(Duration::from_micros(1));
    world.answer_all();
    assert_eq!(world.granted, [id]);
}

#[test]
fn an_event_between_the_refusal_and_the_wait_is_not_lost() {
    let mut world = full(1);
    let Door::Free { round } = world.at_door(0, 1) else { panic!("nobody waits") };
    // It is refused, something comes free, and then it begins to wait.
    world.free(0, 1);
    assert_eq!(world.gauges.round(0), round + 1);
    let said = Some(crate::provider::Said::Full { until: START + SECOND, round });
    let declined = vec![crate::provider::Declined { target: target(0), said }];
    let arrival = super::Arrival {
        number: None,
        tenant: crate::domain::ids::TenantId(1),
        weight: 1,
        size: size(1),
        deadline: START + SECOND * 20,
        declined,
    };
    let mut wakes = Vec::new();
    world.queue.park(START, arrival, 7, &mut wakes).unwrap();
    assert_eq!(wakes.len(), 1, "it is offered at once what came free meanwhile");
}

#[test]
fn an_event_while_an_offer_is_out_makes_the_refusal_worthless() {
    let mut world = full(1);
    let id = world.arrive(1, 1, 5, &[0]);
    world.free(0, 1);
    let State::Offered(0, round) = world.requests[&id].state else { panic!("an offer is due") };
    // It is refused, and before the refusal arrives more comes free.
    world.gauges.advance(0);
    world.answer(id);
    let State::Offered(0, later) = world.requests[&id].state else { panic!("another offer is due") };
    assert_eq!(later, round + 1);
    world.answer(id);
    assert!(world.is_waiting(id), "and no more than that");
}

#[test]
fn new_arrivals_do_not_overtake() {
    let mut world = full(1);
    let first = world.arrive(1, 1, 1, &[0]);
    world.free(0, 1);
    // The room is there, but it is being offered.
    let second = world.arrive(2, 1, 1, &[0]);
    assert!(world.is_waiting(second));
    world.answer_all();
    assert_eq!(world.granted, [first]);
    world.free(0, 1);
    world.answer_all();
    assert_eq!(world.granted, [first, second]);
}

#[test]
fn who_asks_for_what_nobody_waiting_can_use_may_pass() {
    let mut world = full(2);
    world.arrive(1, 1, 10, &[0]);
    world.free(0, 4);
    world.answer_all();
    assert!(matches!(world.at_door(0, 4), Door::Free { .. }), "too little for who waits");
    assert!(matches!(world.at_door(0, 10), Door::Shut { .. }), "would be refused");
    assert!(matches!(world.at_door(1, 10), Door::Free { .. }), "nobody waits there");
}

#[test]
fn a_refusal_that_is_over_lets_nobody_pass() {
    let mut world = full(1);
    world.arrive(1, 1, 1, &[0]);
    world.now = world.now + SECOND;
    assert_eq!(world.at_door(0, 1), Door::Behind);
}

#[test]
fn tenants_take_turns_whatever_they_queue() {
    let mut world = full(1);
    let hog: Vec<u64> = (0..1_000).map(|_| world.arrive(1, 1, 1, &[0])).collect();
    let small: Vec<u64> = (0..10).map(|_| world.arrive(2, 1, 1, &[0])).collect();
    world.free(0, 20);
    world.answer_all();
    let of = |ids: &[u64]| world.granted.iter().filter(|id| ids.contains(id)).count();
    assert_eq!((of(&hog), of(&small)), (10, 10));
}

#[test]
fn turns_are_weighed_by_tokens_too() {
    let mut world = full(1);
    (0..200).for_each(|_| {
        world.arrive(1, 1, 8_999, &[0]);
    });
    (0..1_000).for_each(|_| {
        world.arrive(2, 1, 999, &[0]);
    });
    world.free(0, 1_000_000);
    world.answer_all();
    let served: u64 = world.granted.iter().filter(|id| world.requests[id].tenant == 1).count() as u64;
    let small = world.granted.len() as u64 - served;
    // Costs of 9 and 1: nine small ones for each large one, until the small ones are used up.
    assert!(small.abs_diff(9 * served) <= 18, "{small} {served}");
}

#[test]
fn a_deadline_ends_a_wait_and_tells_the_place() {
    let mut world = full(1);
    world.release_in = Duration::from_secs(3);
    let ids: Vec<u64> = (0..3).map(|_| world.arrive_for(1, 1, 1, &[0], SECOND * 5)).collect();
    let short = world.arrive_for(1, 1, 1, &[0], Duration::from_millis(700));
    assert_eq!(world.queue.next_instant(), START + Duration::from_millis(700));
    world.pass(Duration::from_millis(700));
    assert_eq!(world.refused.len(), 1);
    let (id, over) = world.refused[0];
    assert_eq!((id, over.position), (short, 4));
    assert_eq!(over.retry_after, Duration::from_millis(2_300));
    assert!(ids.iter().all(|id| world.is_waiting(*id)));
}

#[test]
fn who_is_refused_until_after_the_deadline_waits_no_longer() {
    let mut world = full(2);
    let id = world.arrive_for(1, 1, 5, &[0, 1], SECOND * 2);
    world.release_in = SECOND * 60;
    world.free(0, 1);
    world.answer_all();
    assert!(world.is_waiting(id), "the other candidate may still have room in time");
    world.free(1, 1);
    world.answer_all();
    assert_eq!(world.in_vain, [id]);
}

#[test]
fn who_leaves_makes_way() {
    let mut world = full(1);
    let ids: Vec<u64> = (0..3).map(|_| world.arrive(1, 1, 1, &[0])).collect();
    world.free(0, 1);
    world.leave(ids[0]);
    assert_eq!(world.offered(), [ids[1]], "its offer goes to the next");
    world.leave(ids[2]);
    world.answer_all();
    assert_eq!((world.granted.clone(), world.queue.len()), (vec![ids[1]], 0));
    assert_eq!(world.gauges.waiting(0), 0);
}

#[test]
fn an_offer_that_is_not_decided_is_joined_by_another() {
    let mut world = full(1);
    let ids: Vec<u64> = (0..3).map(|_| world.arrive(1, 1, 1, &[0])).collect();
    world.free(0, 2);
    assert_eq!(world.offered(), [ids[0]]);
    world.pass(SECOND);
    assert_eq!(world.offered(), ids[..2]);
    assert!(world.queue.next_instant() > world.now);
    world.answer_all();
    assert_eq!(world.granted.len(), 2);
    assert!(world.is_waiting(ids[2]));
}

#[test]
fn a_large_request_passed_over_too_long_gets_what_comes_free() {
    let mut world = full(1);
    let large = world.arrive_for(1, 1, 50, &[0], SECOND * 60);
    let mut events = 0;
    while world.is_waiting(large) {
        world.arrive(2, 1, 5, &[0]);
        world.arrive(2, 1, 5, &[0]);
        world.free(0, 10);
        world.answer_all();
        events += 1;
        assert!(events < 100, "the large one starves");
    }
    assert!(world.granted.contains(&large));
    // Passed over by 16, those included who passed at the door, then five times ten are kept for it.
    assert!((8..=16).contains(&events), "{events}");
    let served = world.granted.len();
    world.free(0, 10);
    world.answer_all();
    assert_eq!(world.granted.len(), served + 2, "and then the others go on");
}

#[test]
fn time_alone_makes_a_large_request_passed_over_too_long() {
    let mut world = full(1);
    let large = world.arrive_for(1, 1, 20, &[0], SECOND * 60);
    world.arrive(2, 1, 5, &[0]);
    world.free(0, 5);
    world.answer_all();
    assert!(!world.queue.provider(0).is_kept_for(0));
    world.pass(Duration::from_secs(5));
    assert!(world.queue.provider(0).is_kept_for(0));
    let newcomer = world.arrive(2, 1, 5, &[0]);
    world.free(0, 10);
    world.answer_all();
    assert!(world.is_waiting(newcomer), "what is there is kept");
    world.leave(large);
    world.answer_all();
    assert!(world.granted.contains(&newcomer), "until the large one leaves");
}

#[test]
fn the_place_of_a_request_that_failed_is_kept() {
    let mut world = full(1);
    let ids: Vec<u64> = (0..3).map(|_| world.arrive(1, 1, 1, &[0])).collect();
    world.free(0, 1);
    world.answer_all();
    // Its attempt fails, and it comes back with its number.
    let number = world.requests[&ids[0]].number;
    let arrival = super::Arrival {
        number,
        tenant: crate::domain::ids::TenantId(1),
        weight: 1,
        size: size(1),
        deadline: START + SECOND * 20,
        declined: vec![crate::provider::Declined { target: target(0), said: None }],
    };
    world.requests.get_mut(&ids[0]).unwrap().state = State::Waiting;
    world.queue.park(START, arrival, ids[0], &mut Vec::new()).unwrap();
    world.free(0, 1);
    assert_eq!(world.offered(), [ids[0]], "before those who came later");
}

#[test]
fn the_snapshot_tells_who_waits_and_for_how_long() {
    let mut world = full(1);
    world.arrive(1, 1, 1, &[0]);
    world.arrive(2, 1, 1, &[0]);
    world.arrive(2, 1, 1, &[0]);
    world.pass(Duration::from_millis(500));
    world.free(0, 1);
    world.answer_all();
    let snapshot = world.queue.snapshot(world.now);
    assert_eq!((snapshot.waiting, snapshot.oldest_wait_ms, snapshot.offers_taken), (2, 500, 1));
    let tenants: Vec<(i64, usize)> =
        snapshot.tenants.iter().map(|tenant| (tenant.tenant.0, tenant.waiting)).collect();
    assert_eq!(tenants, [(2, 2)]);
}

#[test]
fn what_can_never_fit_is_taken_off_the_list() {
    let mut world = full(1);
    let first = world.arrive(1, 1, 1, &[0]);
    world.free(0, 1);
    let behind = world.arrive(1, 1, 1, &[0]);
    world.answer(first);
    let number = world.requests[&behind].number.unwrap();
    let said = Some(crate::provider::Said::TooLarge);
    let declined = [crate::provider::Declined { target: target(0), said }];
    let mut wakes = Vec::new();
    let end = world.queue.back(world.now, (number, &declined), behind, &mut wakes);
    assert_eq!(end, Err(super::NoSeat::InVain { room_at: None, off_until: None }));
    assert_eq!((world.queue.len(), world.gauges.waiting(0)), (0, 0));
}

#[test]
fn a_ledger_that_is_away_is_asked_again_when_it_says_and_not_as_fast_as_it_fails() {
    let mut world = full(1);
    let ids: Vec<u64> = (0..3).map(|_| world.arrive(1, 1, 1, &[0])).collect();
    world.free(0, 3);
    world.decline(ids[0], |until| Said::LedgerAway { until });
    assert!(world.offered().is_empty());
    // What could not be written is given back, and so is whatever ends meanwhile.
    world.free(0, 1);
    assert!(world.offered().is_empty());
    assert!(matches!(world.at_door(0, 1), Door::Shut { shut: Shut { cause: Cause::LedgerAway, .. }, .. }));
    world.pass(SECOND);
    assert_eq!(world.offered(), [ids[0]], "it keeps its place");
    world.answer_all();
    assert_eq!(world.granted, ids);
}

#[test]
fn who_waited_for_a_ledger_is_told_so() {
    let mut world = full(1);
    let id = world.arrive_for(1, 1, 1, &[0], SECOND);
    world.free(0, 1);
    world.decline(id, |until| Said::LedgerAway { until });
    world.pass(SECOND);
    assert_eq!(
        world.refused.iter().map(|(id, over)| (*id, over.is_ledger_away)).collect::<Vec<_>>(),
        [(id, true)]
    );
}

#[test]
fn who_sits_apart_counts_among_those_who_wait() {
    let mut world = World::new(&[0], 4);
    let hog: Vec<u64> = (0..4).map(|_| world.arrive(1, 1, 1, &[0])).collect();
    let mut wakes = Vec::new();
    assert!(world.queue.sit_apart(world.now, (TenantId(1), 1), &mut wakes).is_err());
    assert!(world.queue.sit_apart(world.now, (TenantId(2), 1), &mut wakes).is_ok());
    let woken: Vec<u64> = wakes.iter().map(|wake| wake.waker).collect();
    assert_eq!(woken, hog[3..], "the newest of who has the most makes way");
    assert_eq!(world.queue.snapshot(world.now).waiting, 4);
    world.queue.stand_up(TenantId(2));
    assert_eq!(world.queue.snapshot(world.now).waiting, 3);
}
