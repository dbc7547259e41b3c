//! The rules of the queue, one by one.

use std::time::Duration;

use super::arrival::Notice;
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

/// A large request for model 0 and small ones for model 1, which share the account's requests and no tokens. All the
/// requests come free while the large one waits for tokens, and none after that.
#[test]
fn a_large_request_is_not_starved_of_the_accounts_requests_by_other_models() {
    let mut world = World::sharing(0, &[0, 1_000_000]);
    world.release_in = SECOND * 3;
    let large = world.arrive_for(1, 1, 50, &[0], SECOND * 20);
    let small: Vec<u64> = (0..20).map(|_| world.arrive_for(2, 1, 1, &[1], SECOND * 60)).collect();
    world.free_shared(1);
    world.answer_all();
    assert_eq!(world.granted, small[..1], "before it is passed over for long nothing is kept");
    world.pass(SECOND * 6);
    world.answer_all();
    world.free_shared(1);
    world.answer_all();
    assert_eq!(world.granted, small[..1], "the request is kept");
    assert!(world.is_waiting(large));
    assert_eq!(world.at_door(1, 1), Door::Behind, "from newcomers too");
    world.free(0, 50);
    world.answer_all();
    assert_eq!(world.granted, [small[0], large]);
    world.free_shared(2);
    world.answer_all();
    assert_eq!(world.granted[2..], small[1..3], "and then the others go on");
}

#[test]
fn requests_that_are_not_short_are_kept_from_nobody() {
    let mut world = World::sharing(1_000, &[0, 1_000_000]);
    let large = world.arrive_for(1, 1, 50, &[0], SECOND * 60);
    for _ in 0..40 {
        let small = world.arrive(2, 1, 1, &[1]);
        assert!(world.granted.contains(&small));
        world.pass(SECOND / 2);
        world.answer_all();
    }
    assert!(world.is_waiting(large));
}

#[test]
fn a_request_for_far_later_keeps_no_request_from_others() {
    let mut world = World::sharing(0, &[0, 1_000_000]);
    world.release_in = SECOND * 15;
    world.arrive_for(1, 1, 50, &[0], SECOND * 60);
    let small: Vec<u64> = (0..20).map(|_| world.arrive_for(2, 1, 1, &[1], SECOND * 60)).collect();
    for event in 1..=3 {
        world.free_shared(1);
        world.answer_all();
        assert_eq!(world.granted, small[..event]);
        world.pass(SECOND * 6);
        world.answer_all();
    }
}

/// What a request without any patience finds: what is free after all who wait have been asked, else nothing.
#[test]
fn who_does_not_wait_takes_what_nobody_before_it_can_use() {
    let mut world = full(1);
    let now = Duration::ZERO;
    let large = world.arrive(1, 1, 10, &[0]);
    world.free(0, 4);
    assert_eq!(world.at_door(0, 4), Door::Behind, "it may be the other one's");
    world.answer_all();
    let small = world.arrive_for(2, 1, 4, &[0], now);
    assert_eq!(world.granted, [small], "it was not");
    assert!(world.is_waiting(large));
    assert!(matches!(world.at_door(0, 4), Door::Free { .. }), "asking is how it learns that nothing is left");
    assert!(matches!(world.at_door(0, 10), Door::Shut { .. }));
}

#[test]
fn who_sits_apart_is_told_when_it_is_the_first_of_its_tenant() {
    let mut world = full(1);
    let (tenant, mut wakes) = (TenantId(1), Vec::new());
    let sit = |world: &mut World, number, waker| {
        world.queue.sit_apart(START, (tenant, 1, number), waker, &mut Vec::new()).unwrap()
    };
    let (first, is_first) = sit(&mut world, None, 1);
    let (second, is_second_first) = sit(&mut world, None, 2);
    let (third, _) = sit(&mut world, None, 3);
    assert!(is_first && !is_second_first && first < second && second < third);
    assert!(world.queue.is_behind_apart(tenant, None), "a newcomer does not overtake");
    // Of those behind one leaves: that wakes nobody.
    world.queue.stand_up(tenant, second, &mut wakes);
    assert!(wakes.is_empty());
    world.queue.stand_up(tenant, first, &mut wakes);
    let woken: Vec<(u64, Notice)> = wakes.drain(..).map(|wake| (wake.waker, wake.notice)).collect();
    assert_eq!(woken, [(3, Notice::First)]);
    world.queue.stand_up(tenant, third, &mut wakes);
    assert!(wakes.is_empty() && !world.queue.is_behind_apart(tenant, None));
    assert_eq!(world.queue.waiting(), 0);
}

#[test]
fn who_sits_apart_counts_among_those_who_wait() {
    let mut world = World::new(&[0], 4);
    let hog: Vec<u64> = (0..4).map(|_| world.arrive(1, 1, 1, &[0])).collect();
    let mut wakes = Vec::new();
    assert!(world.queue.sit_apart(world.now, (TenantId(1), 1, None), 90, &mut wakes).is_err());
    let (number, _) = world.queue.sit_apart(world.now, (TenantId(2), 1, None), 91, &mut wakes).unwrap();
    let woken: Vec<u64> = wakes.iter().map(|wake| wake.waker).collect();
    assert_eq!(woken, hog[3..], "the newest of who has the most makes way");
    assert_eq!(world.queue.snapshot(world.now).waiting, 4);
    world.queue.stand_up(TenantId(2), number, &mut wakes);
    assert_eq!(world.queue.snapshot(world.now).waiting, 3);
}
